"""One worker: Settings → Hypercorn, from the bound socket to the end of its last run."""

import asyncio
import os
import signal
import socket

from hypercorn.asyncio import serve
from hypercorn.config import Config
from sse_starlette.sse import AppStatus
from starlette.applications import Starlette

from gateway.errors import ConfigError
from gateway.settings import Settings
from gateway.telemetry.log import log

GRACE_S = 1.0  # for what Hypercorn still has to write when the last run has ended


def bind(settings: Settings) -> socket.socket:
    """A listening socket: whoever connects before the server is up waits in its backlog. Raises `ConfigError`."""
    where = f"{settings.host}:{settings.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
        )[-1 if settings.host == "localhost" else 0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except OSError as error:
        raise ConfigError(f"cannot listen on {where}: {error.strerror or error}") from None
    return listener


async def serve_app(app: Starlette, settings: Settings, listener: socket.socket, stop: asyncio.Event) -> None:
    """Serve until `stop` is set. Takes the socket over."""
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.backlog = 1024
    config.root_path = settings.root_path
    config.include_server_header = False
    config.keep_alive_timeout = settings.keep_alive_timeout_s
    config.keep_alive_max_requests = 1_000_000
    config.graceful_timeout = GRACE_S
    config.errorlog = None
    await serve(app, config, shutdown_trigger=stop.wait)  # type: ignore[arg-type]
