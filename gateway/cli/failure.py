"""What went wrong, as a sentence: on the way to the server (an exception) or there (the body of an error reply)."""

import json
import socket
from collections.abc import Iterator, Mapping
from typing import Any

import requests
from urllib3.exceptions import ReadTimeoutError


def is_refused(error: BaseException) -> bool:
    """Nobody listens there: nothing was sent, so that asking again can do no harm."""
    return any(isinstance(cause, ConnectionRefusedError) for cause in _causes(error))


def explain_exception(error: requests.RequestException, address: str) -> str:
    """Why no reply came from `address`."""
    causes = list(_causes(error))
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return f"cannot connect to {address}: connection refused; is the gateway running?"
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return f"cannot connect to {address}: the name of the host is not known"
    if isinstance(error, requests.ConnectTimeout):
        return f"cannot connect to {address}: no answer in time"
    if is_timeout(error):
        return f"{address} did not answer in time; --timeout allows more"
    if isinstance(error, requests.exceptions.SSLError):
        return f"cannot connect to {address}: {_innermost(causes)}"
    return f"the connection to {address} failed: {_innermost(causes)}"


def is_timeout(error: BaseException) -> bool:
    return any(isinstance(cause, TimeoutError | ReadTimeoutError) for cause in _causes(error))


def explain_reply(text: str, otherwise: str) -> str:
    """The message of an error body, then a line for each detail and one for the error id.

    The gateway's body is `{"error": {"message", "details"?, "error_id"?}}`, and nothing is said twice. A `detail`
    (Hayhooks, FastAPI) is understood as well. Anything else is answered with `otherwise`.
    """
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return otherwise
    if not isinstance(body, dict):
        return otherwise
    error, detail = body.get("error"), body.get("detail")
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        message = error["message"]
        lines = [message, *(line for line in _details(error.get("details")) if line.strip() != message)]
        if str(error.get("error_id", "")) not in message:
            lines.append(f"  error id: {error['error_id']}")
        return "\n".join(lines)
    if isinstance(detail, str):
        return detail
    return "\n".join([otherwise, *_details(detail)])


def _details(details: Any) -> Iterator[str]:
    for detail in details if isinstance(details, list) else []:
        if isinstance(detail, Mapping):
            place = detail.get("loc", "")
            place = ".".join(map(str, place)) if isinstance(place, list) else place
            yield f"  {place}: {detail.get('message') or detail.get('msg')}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and all that it wraps: requests and urllib3 put the cause into `args` and `reason` as well."""
    waiting, seen = [error], set[int]()
    while waiting:
        cause = waiting.pop(0)
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        inner = (cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args)
        waiting.extend(item for item in inner if isinstance(item, BaseException))


def _innermost(causes: list[BaseException]) -> str:
    inner = causes[-1]
    return getattr(inner, "strerror", None) or str(inner) or type(inner).__name__
