"""One worker: Settings → Hypercorn, from the bound socket to the end of its last run."""

import asyncio
import gc
import logging
import os
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import hypercorn.asyncio.run
from hypercorn.asyncio import serve
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.config import Config
from sse_starlette.sse import AppStatus
from starlette.applications import Starlette

from gateway.errors import ConfigError
from gateway.settings import Settings
from gateway.telemetry.log import log

BACKLOG = 1024
EXIT_S = 2.0  # for what runs at the interpreter's exit
COMPONENT_THREADS = 1024  # as many as a wrapper has async runs
CLOSE_S = 5.0  # for the last bytes of a reply, 64 KiB at the most
GRACE_S = 1.0  # for what Hypercorn still has to write when the last run has ended


def bind(settings: Settings) -> socket.socket:
    """A listening socket: whoever connects before the server is up waits in its backlog. Raises `ConfigError`."""
    family = socket.AF_INET if settings.host == "localhost" else socket.AF_UNSPEC
    with ExitStack() as undo:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                settings.host, settings.port, family, socket.SOCK_STREAM, socket.IPPROTO_TCP, socket.AI_PASSIVE
            )[0]
            listener = undo.enter_context(socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError as error:
            where = f"{settings.host}:{settings.port}"
            raise ConfigError(f"cannot listen on {where}: {error.strerror or error}") from None
        undo.pop_all()
    return listener


def run(app: Starlette, settings: Settings, listener: socket.socket) -> int:
    """Serve until SIGTERM or SIGINT and drain; a second signal ends the process at once. Gives the exit code."""
    # Its watcher was made for uvicorn and is process-wide; here streams end through their own runs.
    AppStatus.disable_automatic_graceful_drain()  # type: ignore[no-untyped-call]
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        serving = loop.create_task(_run(app, settings, listener))
        while not serving.done():
            try:
                loop.run_until_complete(serving)
            except (SystemExit, KeyboardInterrupt) as error:  # out of a task that a wrapper or a pipeline has made
                log.error("a wrapper's task tried to end the process", exc_info=error)
        code = serving.result()
        # Python joins the threads of executors at exit; one that a wrapper left stuck must not keep the process.
        last_resort = threading.Timer(EXIT_S, os._exit, (code,))
        last_resort.daemon = True
        last_resort.start()
    return code


async def _run(app: Starlette, settings: Settings, listener: socket.socket) -> int:
    stop, leave = asyncio.Event(), asyncio.Event()

    signals: list[int] = []
    loop = asyncio.get_running_loop()

    def on_signal(number: int, _frame: object) -> None:
        if signals:
            os._exit(1)  # here, and not on the loop, which a wrapper may be blocking
        signals.append(number)
        loop.call_soon_threadsafe(leave.set)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    host, port = listener.getsockname()[:2]
    log.info("listening", url=f"http://{f'[{host}]' if ':' in host else host}:{port}{settings.root_path}")
    serving = asyncio.create_task(serve_app(app, settings, listener, stop))
    watching = asyncio.create_task(_watch_loading(app, settings))
    leaving = asyncio.create_task(leave.wait())
    await asyncio.wait({serving, watching, leaving}, return_when=asyncio.FIRST_COMPLETED)
    code = 1 if watching.done() else 0
    if not serving.done():
        await app.state.invoker.drain(settings.shutdown_timeout_s)
        stop.set()
        # From Python 3.12 on a stalled reader's connection keeps Hypercorn waiting for good.
        await asyncio.wait({serving}, timeout=settings.shutdown_timeout_s + 4 * GRACE_S)
    watching.cancel()
    leaving.cancel()
    if serving.done():
        serving.result()
    return code


async def _watch_loading(app: Starlette, settings: Settings) -> None:
    """Return only when all has been loaded, something failed, and `strict` is set."""
    await app.state.deployer.is_loaded.wait()
    gc.freeze()  # else each full collection walks all that Haystack has imported: 28 µs of a run of 316 (November 2026)
    failed = [f"{entry.name} ({entry.failure})" for entry in app.state.registry.snapshot.values() if entry.failure]
    if not (failed and settings.strict):
        await asyncio.Event().wait()
    log.error("strict: stopping, because a wrapper failed to load", failed=failed)


async def serve_app(app: Starlette, settings: Settings, listener: socket.socket, stop: asyncio.Event) -> None:
    """Serve until `stop` is set. Takes the socket over."""
    hypercorn.asyncio.run.TCPServer = _Connection  # type: ignore[attr-defined]
    # Here Haystack's `run_async` runs what is not async. asyncio's own handful of threads for the whole process would
    # be taken by as many pipelines whose readers are slow.
    executor = ThreadPoolExecutor(COMPONENT_THREADS, thread_name_prefix="component")
    asyncio.get_running_loop().set_default_executor(executor)
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.backlog = BACKLOG
    config.root_path = settings.root_path
    config.include_server_header = False
    config.keep_alive_timeout = settings.keep_alive_timeout_s
    config.keep_alive_max_requests = 1_000_000
    config.graceful_timeout = GRACE_S
    config.errorlog = logging.getLogger("hypercorn.error")
    config.errorlog.setLevel(logging.WARNING)  # its "Running on" says what `_run` has said
    await serve(app, config, shutdown_trigger=stop.wait)  # type: ignore[arg-type]


class _Connection(TCPServer):
    """Ends with its client.

    Hypercorn (0.18) waits for its keep-alive timer after the client has closed: 50 requests of `curl` held 50 sockets
    until then. It has no setting for the class of its connections, hence the assignment above.
    """

    async def _read_data(self) -> None:
        await super()._read_data()
        await self.idle_task.stop()

    async def run(self) -> None:
        with suppress(asyncio.CancelledError):  # at the end of the grace; Python 3.11 would log it as an error
            await super().run()

    async def _close(self) -> None:
        """Hypercorn would wait for good for a client who reads nothing: its socket, and at the end the lifespan."""
        async with asyncio.timeout(GRACE_S if self.context.terminated.is_set() else CLOSE_S) as limit:
            await super()._close()  # it swallows the cancellation: hence `expired` below
        if limit.expired():
            self.writer.transport.abort()
