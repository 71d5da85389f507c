"""Talk to a server: address, key, headers, time limits, retries. Every failure is a `CommandError` with a sentence."""

import argparse
import json
import math
import random
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

import requests
import urllib3

from gateway.cli.address import is_loopback, is_verified, read_address
from gateway.cli.error import CommandError
from gateway.cli.failure import explain_exception, explain_reply, is_refused, is_timeout
from gateway.cli.retry import RETRIED_STATUS, backoff, read_retry_after

CONNECT_TIMEOUT_S = 10.0
MAX_ERROR_BYTES = 1024 * 1024
PIECE_BYTES = 64 * 1024

_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*)")  # RFC 9110, 5.1 and 5.5


def add_client_arguments(parser: argparse.ArgumentParser, default_timeout_s: float | None) -> None:
    """`--url`, `--api-key`, `--timeout`, `--header`. A `default_timeout_s` of None waits without limit."""
    shown = "no limit" if default_timeout_s is None else f"{default_timeout_s:g} s"
    parser.add_argument("--url", help="the server (default: GATEWAY_URL, else HOST, PORT and ROOT_PATH as for `run`)")
    parser.add_argument("--api-key", metavar="KEY", help="sent as a bearer token (default: GATEWAY_API_KEY)")
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=default_timeout_s,
        metavar="S",
        help=f"longest silence in seconds (default: {CONNECT_TIMEOUT_S:g} s to connect, then {shown})",
    )
    parser.add_argument(
        "--header", type=_header, action="append", default=[], metavar="'NAME: VALUE'", help="sent too; repeatable"
    )


def make_client(args: argparse.Namespace, environ: Mapping[str, str]) -> "Client":
    """A client as `add_client_arguments` and the environment say; `--retries` is looked for too."""
    key = (args.api_key or environ.get("GATEWAY_API_KEY", "")).strip()
    if not key.isprintable():
        raise CommandError("the API key holds a line break or another control character")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return Client(
        address=read_address(args.url, environ),
        headers=_join_headers(headers, args.header),
        timeout_s=args.timeout,
        retries=getattr(args, "retries", 0),
        is_verified=is_verified(environ),
    )


@dataclass(frozen=True, slots=True)
class Client:
    """`timeout_s`: longest wait for the connection and between bytes; None = 10 s to connect, then no limit.
    `retries`: how often a request is repeated that was refused by the host or answered 429, 502, 503 or 504.
    """

    address: str
    headers: Mapping[str, str]
    timeout_s: float | None = None
    retries: int = 0
    is_verified: bool = True
    sleep: Callable[[float], None] = time.sleep

    def get(self, path: str) -> bytes:
        with self.send("GET", path) as response:
            return b"".join(read_pieces(response))

    @contextmanager
    def send(
        self, method: str, path: str, body: bytes | Iterable[bytes] | None = None, media_type: str | None = None
    ) -> Iterator[requests.Response]:
        """The reply, its body still unread; the connection is closed on the way out.

        `body`: bytes, or an iterable with a length that can be read once for each try. Raises `CommandError` when no
        reply comes or its status is not 2xx.
        """
        with requests.Session() as session:
            # closed with its reply: a session's pool closes its connections only when the garbage collector finds it
            session.headers["Connection"] = "close"
            session.headers["Accept-Encoding"] = "identity"  # bytes as they were sent, when they were sent
            session.headers.update(
                {name: value.encode("utf-8", "surrogateescape") for name, value in self.headers.items()}
            )
            if media_type:
                session.headers["Content-Type"] = media_type
            with self._send(session, method, path, body) as response:
                _check_status(response, self.address)
                yield response

    def _send(self, session: requests.Session, method: str, path: str, body: Any) -> requests.Response:
        for attempt in range(self.retries + 1):
            is_last = attempt == self.retries
            asked_s = 0.0
            try:
                response = self._request(session, method, path, body)
            except requests.RequestException as error:
                if is_last or not is_refused(error):
                    raise CommandError(explain_exception(error, self.address)) from None
                reason = f"cannot connect to {self.address}: connection refused"
            else:
                if is_last or response.status_code not in RETRIED_STATUS:
                    return response
                reason = f"{self.address} answered {response.status_code} {response.reason}".rstrip()
                asked_s = read_retry_after(response.headers.get("Retry-After"), datetime.now(UTC))
                response.close()
            pause_s = max(asked_s, backoff(attempt, random.random()))  # noqa: S311 - spreads callers, hides nothing
            print(f"{reason}; trying again in {pause_s:.1f} s ({attempt + 1} of {self.retries})", file=sys.stderr)
            self.sleep(pause_s)
        raise AssertionError("the last attempt returns or raises")

    def _request(self, session: requests.Session, method: str, path: str, body: Any) -> requests.Response:
        if not self.is_verified:
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)  # the user has asked for it
        host = urlsplit(self.address).hostname or ""
        return session.request(
            method,
            self.address + path,
            data=body,
            auth=lambda request: request,  # else requests puts ~/.netrc in place of our Authorization header
            timeout=(self.timeout_s or CONNECT_TIMEOUT_S, self.timeout_s),
            # a proxy for the web is no way to one's own machine
            proxies={"no_proxy": host} if is_loopback(self.address) else None,
            # given here and not on the session, because there REQUESTS_CA_BUNDLE would win
            verify=None if self.is_verified else False,
            # a redirected POST would become a GET, and the key would go to another host
            allow_redirects=False,
            stream=True,
        )


def quote_name(name: str) -> str:
    """A wrapper's name as one part of a path. Raises `CommandError` for one that would mean a folder."""
    if not name.strip("."):
        raise CommandError(f"{name!r} is no name of a wrapper")
    return quote(name, safe="")


def read_pieces(response: requests.Response) -> Iterator[bytes]:
    """The body as it arrives. Raises `CommandError` when it ends before its end."""
    try:
        yield from response.iter_content(PIECE_BYTES)
    except requests.RequestException as error:
        why = "the server was silent for too long (--timeout)" if is_timeout(error) else "the connection broke"
        raise CommandError(f"the reply is incomplete: {why}") from None


def parse_json(body: bytes, address: str) -> Any:
    """Raises `CommandError` when `body` is not JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise CommandError(f"the reply of {address} is not valid JSON; is that a gateway?") from None


def _check_status(response: requests.Response, address: str) -> None:
    status = response.status_code
    if 200 <= status < 300:
        return
    if 300 <= status < 400 and "Location" in response.headers:
        raise CommandError(f"{address} redirects to {response.headers['Location']}; give that address with --url")
    body = bytearray()
    try:
        for piece in response.iter_content(PIECE_BYTES):
            body += piece
            if len(body) > MAX_ERROR_BYTES:
                break
    except requests.RequestException:
        pass  # the status says enough
    sentence = f"{address} answered {status} {response.reason}".rstrip()
    raise CommandError(explain_reply(body.decode("utf-8", "replace"), sentence))


def _join_headers(headers: Mapping[str, str], given: Sequence[tuple[str, str]]) -> dict[str, str]:
    """`given` over `headers`; a name given twice becomes one list (RFC 9110, 5.3)."""
    typed: dict[str, str] = {}
    for name, value in given:
        key = name.title()
        typed[key] = f"{typed[key]}, {value}" if key in typed else value
    return {**headers, **typed}


def _header(text: str) -> tuple[str, str]:
    match = _HEADER.fullmatch(text.strip())
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form 'Name: value'")
    return match[1], match[2]


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value
