"""N workers on one listening socket: starts them, replaces one that dies, hands signals on, waits for the last."""

import asyncio
import os
import signal
import socket
import sqlite3
import sys
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from time import monotonic
from typing import Any

from gateway.asgi import STRICT, VARIABLE, Assignment
from gateway.server import RETIRE, Role, say_listening
from gateway.settings import Settings
from gateway.state import State
from gateway.team import forget_worker
from gateway.telemetry.log import log

BACKOFF_S = (0.0, 0.5, 1.0, 2.0, 5.0)  # before a worker is started again, by how many have not lived for `HEALTHY_S`
HEALTHY_S = 10.0
FORGET_AGAIN_S = 1.0
KILL_AFTER_S = 10.0  # beyond the time that runs in hand have


@dataclass(eq=False, slots=True)
class _Worker:
    """`loaded` ends with whether it has come to the end of its start. `leaving`: it has been asked to end.
    `has_heir`: another one is being started to take its place.
    """

    process: asyncio.subprocess.Process
    role: Role
    shutdown_timeout_s: float
    loaded: "asyncio.Future[bool]"
    begun_s: float
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    has_heir: bool = False

    @property
    def has_loaded(self) -> bool:
        return self.loaded.done() and self.loaded.result()

    @property
    def is_spare(self) -> bool:
        """Whether it has not taken the place of the one that it was started for."""
        return self.role == "renewal" and not self.has_loaded

    def leave(self, number: int) -> None:
        if not self.leaving.is_set():
            self.leaving.set()
            self.send(number)

    def send(self, number: int) -> None:
        with suppress(ProcessLookupError):  # it has just ended
            self.process.send_signal(number)


class Supervisor:
    """`settings`, `environ`: what the workers are told and given."""

    def __init__(
        self, settings: Settings, environ: Mapping[str, str], listener: socket.socket, state: State, lock: int
    ) -> None:
        """`lock`: the descriptor of the state folder's lock; a worker that outlives this process holds it on."""
        self._settings = settings
        self._environ = environ
        self._listener = listener
        self._state = state
        self._lock = lock
        self._run_id = token_hex(8)
        self._stop = asyncio.Event()
        self._code = 0
        self._failures = 0
        self._workers: set[_Worker] = set()
        self._watching: set[asyncio.Task[None]] = set()
        # The workers hold the one end; it reads as closed when this process ends, however it ends: then they leave.
        self._alive, self._held = os.pipe()

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT; a second signal ends all at once. Gives the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)
        say_listening(self._settings, self._listener, workers=self._settings.workers)
        for _ in range(self._settings.workers):
            self._watch(self._keep_one("first"))
        await self._stop.wait()
        while self._watching:
            await asyncio.wait(self._watching)
        return self._code

    async def renew(self, settings: Settings, environ: Mapping[str, str]) -> None:
        """Replace one worker after the other, each when its successor serves. One that does not start ends this.

        One renewal at a time.
        """
        before = self._settings, self._environ
        self._settings, self._environ = settings, environ
        workers = [each for each in self._workers if not (each.leaving.is_set() or each.is_spare)]
        for worker in workers:
            worker.has_heir = True
            if not await self._has_begun_another():
                worker.has_heir = False
                if worker not in self._workers:  # it has died meanwhile
                    self._watch(self._keep_one("replacement" if self._is_serving else "first"))
                if not self._stop.is_set():
                    self._settings, self._environ = before
                    log.error("a new worker did not start: the others go on as they are")
                return
            worker.leave(RETIRE)
        log.info("workers renewed", workers=len(workers))

    async def _has_begun_another(self) -> bool:
        """Whether one more worker serves."""
        try:
            successor = await self._start("renewal")
        except OSError as error:
            log.error("a worker could not be started", reason=str(error))
            return False
        self._watch(self._keep(successor))
        return await successor.loaded

    def _on_signal(self) -> None:
        if self._stop.is_set():
            for worker in self._workers:
                worker.send(signal.SIGKILL)
            os._exit(1)
        self._end()

    def _end(self) -> None:
        self._stop.set()
        for worker in self._workers:
            worker.leave(signal.SIGTERM)

    def _watch(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    async def _keep_one(self, role: Role) -> None:
        """Start a worker, and again each time that it dies."""
        while not self._stop.is_set():
            try:
                worker = await self._start(role)
            except OSError as error:
                self._failures = min(self._failures + 1, len(BACKOFF_S) - 1)
                log.error("a worker could not be started", reason=str(error), after_s=BACKOFF_S[self._failures])
                await _wait_for(self._stop, BACKOFF_S[self._failures])
            else:
                return await self._keep(worker)

    async def _start(self, role: Role) -> _Worker:
        """Raises `OSError`."""
        reader, writer = os.pipe()
        told = Assignment(self._settings, self._run_id, role, self._listener.fileno(), self._alive, writer, self._lock)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                # Without the working directory, where a `types.py` may stand, unless this process looks there too.
                *([] if str(Path.cwd()) in sys.path else ["-P"]),
                "-m",
                "gateway.asgi",
                env={**self._environ, VARIABLE: told.to_json()},
                pass_fds=(told.listener, told.alive, told.ready, told.lock),
                start_new_session=True,  # Ctrl-C is this process's to hand on, once
            )
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        worker = _Worker(process, role, self._settings.shutdown_timeout_s, _first_byte(reader), monotonic())
        self._workers.add(worker)
        if self._stop.is_set():
            worker.leave(signal.SIGTERM)
        return worker

    async def _keep(self, worker: _Worker) -> None:
        """Until it ends; one that has not been asked to is replaced."""
        code = await _end_of(worker)
        self._workers.discard(worker)
        if not worker.loaded.done():
            worker.loaded.set_result(False)
        self._watch(self._forget(worker.process.pid))
        if worker.leaving.is_set() or worker.has_heir or self._stop.is_set():
            return
        if worker.is_spare:
            return
        if code == STRICT and not self._is_serving:
            self._code = 1
            self._end()
            return
        is_healthy = monotonic() - worker.begun_s > HEALTHY_S
        self._failures = 0 if is_healthy else min(self._failures + 1, len(BACKOFF_S) - 1)
        delay_s = BACKOFF_S[self._failures]
        log.error("a worker has died and is replaced", pid=worker.process.pid, code=code, after_s=delay_s)
        await _wait_for(self._stop, delay_s)
        # One that dies before it has loaded may be the only one: what cannot load must still be told of.
        self._watch(self._keep_one("replacement" if self._is_serving else "first"))

    async def _forget(self, pid: int) -> None:
        """Until it is done: each deploy would wait for the dead, and end what has got its pid since."""
        while True:
            try:
                return await asyncio.to_thread(forget_worker, self._state, pid)
            except (OSError, sqlite3.Error) as error:
                log.error("a worker that has ended could not be forgotten", pid=pid, reason=str(error))
            if self._stop.is_set():  # the next start forgets all
                return
            await _wait_for(self._stop, FORGET_AGAIN_S)

    @property
    def _is_serving(self) -> bool:
        return any(each.has_loaded for each in self._workers)


async def _end_of(worker: _Worker) -> int:
    """Its exit code. One that was asked to end, and does not, is killed."""
    ended = asyncio.get_running_loop().create_task(worker.process.wait())
    leaving = asyncio.get_running_loop().create_task(worker.leaving.wait())
    await asyncio.wait({ended, leaving}, return_when=asyncio.FIRST_COMPLETED)
    leaving.cancel()
    if not ended.done():
        await asyncio.wait({ended}, timeout=worker.shutdown_timeout_s + KILL_AFTER_S)
    if not ended.done():
        log.error("a worker did not end and is killed", pid=worker.process.pid)
        worker.send(signal.SIGKILL)
    return await ended


def _first_byte(descriptor: int) -> "asyncio.Future[bool]":
    """Whether a byte comes before the end. Takes the descriptor over, until it is known."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[bool] = loop.create_future()

    def read() -> None:
        if not outcome.done():
            outcome.set_result(bool(os.read(descriptor, 1)))

    def close(_outcome: object) -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)

    loop.add_reader(descriptor, read)
    outcome.add_done_callback(close)
    return outcome


async def _wait_for(event: asyncio.Event, timeout_s: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), timeout_s)
