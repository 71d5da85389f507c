"""Where the server is: from `--url`, else from the environment."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from gateway.cli.error import CommandError

ANY_HOST = frozenset({"0.0.0.0", "::"})  # noqa: S104 - what a server binds; a client reaches it as localhost
DEFAULT_PORT = 1416


def read_address(url: str | None, environ: Mapping[str, str]) -> str:
    """`http://host:port/prefix` without a slash at its end. Raises `CommandError` for what cannot be one.

    `url`, else `GATEWAY_URL`, else `HOST`, `PORT` and `ROOT_PATH`, each as `GATEWAY_*` or `HAYHOOKS_*`, and
    `HAYHOOKS_USE_HTTPS`. An empty variable counts as unset.
    """
    given = url or environ.get("GATEWAY_URL")
    return _check(given if given else _from_parts(environ))


def is_verified(environ: Mapping[str, str]) -> bool:
    """Whether the server's certificate is checked: unless `HAYHOOKS_DISABLE_SSL` is true."""
    return not _is_true(environ.get("HAYHOOKS_DISABLE_SSL", ""))


def is_loopback(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    return host in {"localhost", "::1"} or host.startswith("127.")


def _from_parts(environ: Mapping[str, str]) -> str:
    scheme = "https" if _is_true(environ.get("HAYHOOKS_USE_HTTPS", "")) else "http"
    host = _variable("HOST", environ).strip("[]")
    if not host or host in ANY_HOST:
        host = "localhost"
    if ":" in host:
        host = f"[{host}]"
    port = _variable("PORT", environ) or DEFAULT_PORT
    return f"{scheme}://{host}:{port}/{_variable('ROOT_PATH', environ).strip('/')}"


def _check(text: str) -> str:
    address = (text if "://" in text else f"http://{text}").rstrip("/")
    wrong = f"{text!r} is not an address such as http://localhost:{DEFAULT_PORT}"
    try:
        parts = urlsplit(address)
        is_whole = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_whole = False
    if not is_whole or parts.query or parts.fragment:
        raise CommandError(wrong)
    if "@" in parts.netloc:
        raise CommandError("credentials belong into --api-key or --header, not into the address")
    return address


def _variable(name: str, environ: Mapping[str, str]) -> str:
    return environ.get(f"GATEWAY_{name}") or environ.get(f"HAYHOOKS_{name}") or ""


def _is_true(text: str) -> bool:
    return text.strip().lower() in {"1", "true", "t", "yes", "y", "on"}
