"""One worker: Settings → Hypercorn, from the bound socket to the end of its last run."""

import asyncio
import ipaddress
import logging
import os
import signal
import socket
import sqlite3
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Literal

import hypercorn.asyncio.run
from hypercorn.asyncio import serve
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.config import Config
from hypercorn.utils import LifespanFailureError
from sse_starlette.sse import AppStatus
from starlette.applications import Starlette

from gateway.errors import ConfigError
from gateway.registry import Entry
from gateway.settings import Settings
from gateway.telemetry.log import log
from gateway.wait import first

BACKLOG = 1024
EXIT_S = 2.0  # for what runs at the interpreter's exit
COMPONENT_THREADS = 1024  # as many as a wrapper has async runs
LOADING_S = 24 * 3600.0  # the lifespan of a worker's successor begins when all is loaded; `setup_timeout_s` bounds that
CLOSE_S = 5.0  # for the last bytes of a reply, 64 KiB at the most
GRACE_S = 1.0  # for what Hypercorn still has to write when the last run has ended
RETIRE = signal.SIGHUP  # to a worker whose successor serves

Role = Literal["first", "replacement", "renewal"]


def bind(settings: Settings) -> socket.socket:
    """A listening socket: whoever connects before the server is up waits in its backlog. Raises `ConfigError`."""
    family = socket.AF_INET if settings.host == "localhost" else socket.AF_UNSPEC
    with ExitStack() as undo:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                settings.host, settings.port, family, socket.SOCK_STREAM, socket.IPPROTO_TCP, socket.AI_PASSIVE
            )[0]
            _check_loopback(settings.host, str(address[0]))
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


@dataclass(frozen=True, slots=True)
class Ties:
    """What is between a worker and its supervisor. `alive`: a file descriptor, reads as closed when the supervisor has
    ended. `ready`: one that takes a byte when all has been loaded. `role`: for one of the `first` nobody served before;
    a `replacement` comes for one that has died; a `renewal` for one that serves, and must be no worse.
    """

    alive: int
    ready: int
    role: Role


def _check_loopback(host: str, address: str) -> None:
    if not ipaddress.ip_address(address.partition("%")[0]).is_loopback:
        said = f"cannot listen on {host}: there are no keys yet, so that the gateway answers its own machine only"
        raise ConfigError(f"{said}; use localhost, and a proxy that asks who is there")


def say_listening(settings: Settings, listener: socket.socket, **fields: object) -> None:
    host, port = listener.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}{settings.root_path}"
    log.info("listening", url=url, **fields)


def run(app: Starlette, settings: Settings, listener: socket.socket, ties: Ties | None = None) -> int:
    """Serve until SIGTERM or SIGINT and drain; a second signal ends the process at once. Gives the exit code.

    `ties`: None for a process of its own. A worker also leaves when its supervisor has ended, and it is for that to
    end it at once: a signal to the whole group of processes reaches a worker twice. At `RETIRE` it takes nobody new,
    serves whom it has, and leaves.
    """
    # Its watcher was made for uvicorn and is process-wide; here streams end through their own runs.
    AppStatus.disable_automatic_graceful_drain()  # type: ignore[no-untyped-call]
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        serving = loop.create_task(_run(app, settings, listener, ties))
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


async def _run(app: Starlette, settings: Settings, listener: socket.socket, ties: Ties | None) -> int:
    stop, leave, retire = asyncio.Event(), asyncio.Event(), asyncio.Event()

    signals: list[int] = []
    loop = asyncio.get_running_loop()

    def on_signal(number: int, _frame: object) -> None:
        if signals and ties is None:
            os._exit(1)  # here, and not on the loop, which a wrapper may be blocking
        signals.append(number)
        loop.call_soon_threadsafe(leave.set)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    if ties is None:
        say_listening(settings, listener)
    else:
        loop.add_reader(ties.alive, _leave_with_supervisor, loop, ties.alive, leave)
        loop.add_signal_handler(RETIRE, retire.set)
    serving = asyncio.create_task(serve_app(app, settings, listener, stop, retire))
    retiring = asyncio.create_task(_retire(app, settings, retire))
    watching = asyncio.create_task(_watch_loading(app, settings, ties))
    leaving = asyncio.create_task(leave.wait())
    await asyncio.wait({serving, watching, leaving, retiring}, return_when=asyncio.FIRST_COMPLETED)
    code = 1 if watching.done() else 0
    await _say_leaving(app)
    if not serving.done():
        await app.state.invoker.drain(0 if retiring.done() else settings.shutdown_timeout_s)
        stop.set()
        # From Python 3.12 on a stalled reader's connection keeps Hypercorn waiting for good.
        await asyncio.wait({serving}, timeout=settings.shutdown_timeout_s + 4 * GRACE_S)
    for task in (watching, leaving, retiring):
        task.cancel()
    if serving.done():
        with suppress(LifespanFailureError):  # it was to leave before it had begun to serve
            serving.result()
    return code


async def _retire(app: Starlette, settings: Settings, retire: asyncio.Event) -> None:
    """Return when those that have been accepted are served, or have had their time."""
    await retire.wait()
    await _say_leaving(app)
    await asyncio.sleep(GRACE_S)  # for the requests that are on their way
    await app.state.invoker.finish(settings.shutdown_timeout_s)


async def _say_leaving(app: Starlette) -> None:
    with suppress(OSError, sqlite3.Error):  # a deploy would take it for one that has died of it
        await app.state.team.leave()


def _leave_with_supervisor(loop: asyncio.AbstractEventLoop, alive: int, leave: asyncio.Event) -> None:
    loop.remove_reader(alive)
    leave.set()


async def _watch_loading(app: Starlette, settings: Settings, ties: Ties | None) -> None:
    """Return only when all has been loaded, and something failed with which it must not serve."""
    await first(app.state.tracker.is_loaded, app.state.tracker.is_broken)
    if app.state.tracker.is_broken.is_set():
        return
    app.state.preparer.freeze()
    failed = [entry for entry in app.state.registry.snapshot.values() if entry.failure]
    if ties is not None and ties.role != "first":  # a newer edit that has failed is known of
        failed = [entry for entry in failed if entry.deployment is None]
    if failed and settings.strict:
        log.error("strict: stopping, because a wrapper failed to load", failed=_describe(failed))
        return
    if failed and ties is not None and ties.role == "renewal":
        served = {name for names in (await app.state.team.serving()).values() for name in names}
        lost = [entry for entry in failed if entry.name in served]
        if lost:
            log.error("what the other workers serve does not load in a new one", failed=_describe(lost))
            return
    app.state.opening.set()
    if ties is not None:
        os.write(ties.ready, b"1")
    await asyncio.Event().wait()


def _describe(failed: Iterable[Entry]) -> list[str]:
    return [f"{entry.name} ({entry.failure})" for entry in failed]


async def serve_app(
    app: Starlette,
    settings: Settings,
    listener: socket.socket,
    stop: asyncio.Event,
    retire: asyncio.Event | None = None,
) -> None:
    """Serve until `stop` is set; from `retire` on only whom has been accepted. Takes the socket over."""
    hypercorn.asyncio.run.TCPServer = _Connection  # type: ignore[attr-defined]
    # Here Haystack's `run_async` runs what is not async. asyncio's own handful of threads for the whole process would
    # be taken by as many pipelines whose readers are slow.
    executor = ThreadPoolExecutor(COMPONENT_THREADS, thread_name_prefix="component")
    asyncio.get_running_loop().set_default_executor(executor)
    config = Config()
    descriptor = listener.detach()
    config.bind = [f"fd://{descriptor}"]
    config.backlog = BACKLOG
    config.root_path = settings.root_path
    config.include_server_header = False
    config.keep_alive_timeout = settings.keep_alive_timeout_s
    config.keep_alive_max_requests = 1_000_000
    config.graceful_timeout = GRACE_S
    config.startup_timeout = LOADING_S
    config.errorlog = logging.getLogger("hypercorn.error")
    config.errorlog.setLevel(logging.WARNING)  # its "Running on" says what `_run` has said

    async def until_stopped() -> None:
        os.set_inheritable(descriptor, False)  # as Hypercorn has made it: a program that a wrapper starts would hold it
        if retire is not None:
            await first(stop, retire)
            asyncio.get_running_loop().remove_reader(descriptor)
            config.keep_alive_max_requests = 0  # each reply from now on says that it is the connection's last
        await stop.wait()

    await serve(app, config, shutdown_trigger=until_stopped)  # type: ignore[arg-type]


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
