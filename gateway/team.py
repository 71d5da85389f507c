"""How the workers of one gateway act as one: what is proposed all prepare, and what is decided all serve.

They share the state's database and nothing else: whoever decides writes what is to be, each worker does it and writes
how far it is. A worker looks for news every `LOOK_S`. One that is alone has nobody to ask, and nothing to look for.
"""

import asyncio
import fcntl
import os
import signal
import sqlite3
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import astuple, dataclass, fields
from functools import partial
from time import monotonic
from typing import Any

from gateway.errors import DeadlineExceeded, LoadError
from gateway.follower import Answer, Follower
from gateway.record import Records
from gateway.settings import Settings
from gateway.standing import Standing
from gateway.state import State
from gateway.telemetry.log import log
from gateway.thread import ThreadPool

LOOK_S = 0.05
BEAT_S = 1.0  # at the most, between signs of life of a worker that others wait for
ANSWER = tuple(each.name for each in fields(Answer))


@dataclass(frozen=True, slots=True)
class Worker:
    """Another worker, and how far it is with a name, None before its first answer.

    `seen_s`: its last sign of life, on the monotonic clock, which all processes of a machine share. `is_leaving`: it
    takes nobody new, and need not follow any more.
    """

    id: int
    pid: int
    seen_s: float
    is_leaving: bool
    answer: Answer | None


class Team:
    def __init__(
        self,
        settings: Settings,
        state: State,
        pool: ThreadPool,
        records: Records,
        follower: Follower,
        run_id: str,
    ) -> None:
        """`run_id`: the same for all workers of a gateway, and another one at its next start. Empty for one alone."""
        self.is_alone = not run_id
        self._run_id = run_id
        self._timeout_s = settings.deploy_timeout_s
        self._beat_s = min(BEAT_S, self._timeout_s / 4)
        self._state = state
        self._pool = pool
        self._records = records
        self._follower = follower
        self._turns: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._telling = asyncio.Lock()
        self._untold: set[str] = set()  # the names of which an answer is to be written
        self._held = 0  # turns of this worker
        self._heeding: set[asyncio.Task[None]] = set()
        self._seen: Mapping[str, Standing] = {}
        self._is_begun = asyncio.Event()

    async def join(self, sweep: Callable[[], object], take_stock: Callable[[bool], object]) -> bool:
        """Be asked from now on. The first worker of a gateway sweeps, and any one takes stock as long as none has
        loaded: they may all have died of what stood there. Gives whether this one has.
        """

        def begin() -> bool:
            with self._state.snapshot() as rows:
                found = [row["id"] for row in rows.execute("SELECT id FROM runs")]
                has_loaded = rows.execute("SELECT 1 FROM workers WHERE is_loaded").fetchone() is not None
            is_new = self.is_alone or found != [self._run_id]
            if is_new:
                sweep()
            is_first = is_new or not has_loaded
            if is_first:
                take_stock(is_new)
            with self._state.transaction(is_durable=False) as rows:
                rows.execute("DELETE FROM runs")
                rows.execute("INSERT INTO runs (id) VALUES (?)", (self._run_id,))
                query = "INSERT INTO workers (pid, seen_s) VALUES (?, ?)"
                self._follower.worker = rows.execute(query, (os.getpid(), monotonic())).lastrowid or 0
            return is_first

        async with self.only("stock"):
            return await self._pool.call(begin)

    @asynccontextmanager
    async def turn(self, name: str, *, is_patient: bool = True) -> AsyncIterator[bool]:
        """Alone with this name, among all workers. Gives False when somebody else is, and one is not patient.

        It stands in the lock's file who has it: one that gives no sign of life meanwhile is killed by whoever waits.
        """
        async with self._turns[name], self._only(f"wrapper.{name:.64}", is_patient=is_patient) as lock:
            if lock is None:
                yield self.is_alone
                return
            self._held += 1
            try:
                await self._beat()
                os.ftruncate(lock, 0)  # one that has died may have had a longer number
                os.pwrite(lock, str(os.getpid()).encode(), 0)
                yield True
            finally:
                self._held -= 1
                os.ftruncate(lock, 0)

    @asynccontextmanager
    async def only(self, what: str) -> AsyncIterator[None]:
        """One worker at a time, for as long as it likes."""
        async with self._only(what):
            yield

    @asynccontextmanager
    async def _only(self, what: str, *, is_patient: bool = True) -> AsyncIterator[int | None]:
        """Gives the lock's descriptor, None when one is alone or has not got it. It ends with the process."""
        if self.is_alone:
            yield None
            return
        folder = await self._pool.call(partial(self._state.folder, "locks"))
        descriptor = os.open(folder / what, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            begun_s = monotonic()
            while not (has_it := _try_lock(descriptor)) and is_patient:
                if holder := os.pread(descriptor, 20, 0):
                    await self._end_if_silent(int(holder), begun_s)
                await asyncio.sleep(LOOK_S)
            yield descriptor if has_it else None
        finally:
            os.close(descriptor)

    async def _end_if_silent(self, pid: int, begun_s: float) -> None:
        rows = await self._read("SELECT seen_s FROM workers WHERE pid = ?", (pid,))
        if rows and monotonic() - max(begun_s, rows[0]["seen_s"]) > self._timeout_s:
            _kill(pid)

    async def propose(self, name: str, number: int, *, is_kept: bool) -> None:
        """Have every worker prepare it. Raises `LoadError` with the reason, and the worker's pid when there are
        several; all have let go of it then.
        """
        asked = await self._others(name)  # before they are: one that dies at once has died of it too
        await self._pool.call(partial(self._records.propose, name, number, is_kept=is_kept))
        try:
            await self._heed(name)
            _, dead = await self._all(name, lambda answer: answer.prepared == number, asked)
            own = self._follower.answer(name).fault(number)
            others = [(each.pid, each.answer and each.answer.fault(number)) for each in await self._others(name)]
            faults = [(pid, fault) for pid, fault in ((os.getpid(), own), *others) if fault]
            faults += [(pid, "it has died of it") for pid in dead]
            if faults:
                said = [fault if self.is_alone else f"worker {pid}: {fault}" for pid, fault in faults]
                raise LoadError(said[0] if own else "; ".join(said))
        except Exception:
            await self.withdraw(name, number)
            raise

    async def withdraw(self, name: str, number: int) -> None:
        """Have every worker let go of what it has prepared."""
        await self._pool.call(partial(self._records.withdraw, name))
        await self._heed(name)
        await self._all(name, lambda answer: answer.prepared != number)

    async def follow_decision(self, name: str) -> None:
        """Return when every worker serves what has been decided, is down with it, or has said that it cannot.

        Raises `DeadlineExceeded` (504) with the pids of those that did not: they are ended, and their successors will.
        """
        await self._heed(name)
        number = self._follower.answer(name).decided
        silent, _ = await self._all(name, lambda answer: answer.decided == number)
        if silent:
            pids = ", ".join(map(str, silent))
            raise DeadlineExceeded(f"{name}: decided, but not served in time by the workers {pids}, which are replaced")

    async def load(self, standings: Mapping[str, Standing]) -> None:
        """Serve what is on record, at the start of this worker."""
        self._seen = standings
        self._is_begun.set()
        await asyncio.gather(*(self._begin_to_heed(name, standing) for name, standing in standings.items()))

    async def say_loaded(self) -> None:
        await self._write("UPDATE workers SET is_loaded = 1 WHERE id = ?", (self._follower.worker,))

    async def leave(self) -> None:
        """Be asked no more."""
        if not self.is_alone:
            await self._write("UPDATE workers SET is_leaving = 1 WHERE id = ?", (self._follower.worker,))

    async def are_all_loaded(self, count: int) -> bool:
        """Whether so many workers have come to the end of their start."""
        if self.is_alone:
            return True
        query = "SELECT count(*) FROM workers WHERE is_loaded"
        return bool((await self._read(query))[0][0] >= count)

    async def serving(self) -> dict[int, dict[str, int]]:
        """What each of the other workers serves: pid → name → generation."""
        if self.is_alone:
            return {}
        query = (
            "SELECT pid, name, serving FROM workers LEFT JOIN answers ON id = worker WHERE id != ? ORDER BY pid, name"
        )
        found: dict[int, dict[str, int]] = {}
        for row in await self._read(query, (self._follower.worker,)):
            serving = found.setdefault(row["pid"], {})
            if row["serving"] is not None:
                serving[row["name"]] = row["serving"]
        return found

    async def follow(self) -> None:
        """Do what the others decide, until this is cancelled."""
        await self._is_begun.wait()
        version, beat_s = -1, 0.0
        while not self.is_alone:
            try:
                now = await self._pool.call(self._state.version)
                if now != version:
                    await self._look()
                    version = now
                if (self._heeding or self._held) and monotonic() - beat_s > self._beat_s:
                    beat_s = monotonic()
                    await self._beat()
            except (OSError, sqlite3.Error) as error:  # a full disk, a backup that locks: it passes
                log.error("what is on record could not be looked at; trying again", reason=str(error))
                await asyncio.sleep(BEAT_S)
            await asyncio.sleep(LOOK_S)

    async def _beat(self) -> None:
        await self._write("UPDATE workers SET seen_s = ? WHERE id = ?", (monotonic(), self._follower.worker))

    async def _look(self) -> None:
        standings = await self._pool.call(self._records.standings)
        for name, standing in standings.items():
            if self._seen.get(name) != standing:
                self._begin_to_heed(name)
        self._seen = standings

    def _begin_to_heed(self, name: str, standing: Standing | None = None) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(self._heed_at_last(name, standing))
        self._heeding.add(task)
        task.add_done_callback(self._end)
        return task

    def _end(self, task: "asyncio.Task[None]") -> None:
        self._heeding.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("what was decided could not be followed", exc_info=error)

    async def _heed_at_last(self, name: str, standing: Standing | None) -> None:
        while True:
            try:
                return await self._heed(name, standing)
            except (OSError, sqlite3.Error) as error:
                log.error("what is on record could not be followed; trying again", wrapper=name, reason=str(error))
            await asyncio.sleep(BEAT_S)

    async def _heed(self, name: str, standing: Standing | None = None) -> None:
        await self._follower.heed(name, standing)
        if not self.is_alone:
            self._untold.add(name)
            async with self._telling:  # else an older answer might be written over a newer one
                if name in self._untold:  # while some are written others gather
                    names, self._untold = self._untold, set()
                    try:
                        await self._tell(names)
                    except BaseException:
                        self._untold |= names
                        raise

    async def _tell(self, names: Iterable[str]) -> None:
        values = [(self._follower.worker, name, *astuple(self._follower.answer(name))) for name in names]
        places = ", ".join("?" for _ in values[0])
        query = f"INSERT OR REPLACE INTO answers (worker, name, {', '.join(ANSWER)}) VALUES ({places})"  # noqa: S608

        def write() -> None:
            with self._state.transaction(is_durable=False) as rows:
                rows.executemany(query, values)

        await self._pool.call(write)

    async def _all(
        self, name: str, is_done: Callable[[Answer], bool], workers: list[Worker] | None = None
    ) -> tuple[list[int], list[int]]:
        """Wait for these, or for those who are workers now. Gives the pids of those who were silent for too long, and
        are killed, and of those who have died before they were done.
        """
        silent: list[int] = []
        dead: list[int] = []
        begun_s = monotonic()
        asked = {each.id: each.pid for each in (await self._others(name) if workers is None else workers)}
        while asked:
            found = {each.id: each for each in await self._others(name)}
            for number, pid in list(asked.items()):
                worker = found.get(number)
                if worker is None:
                    dead.append(pid)
                elif not worker.is_leaving and (worker.answer is None or not is_done(worker.answer)):
                    if monotonic() - max(begun_s, worker.seen_s) <= self._timeout_s:
                        continue
                    silent.append(pid)
                    _kill(pid)
                del asked[number]
            if asked:
                await asyncio.sleep(LOOK_S)
        return silent, dead

    async def _others(self, name: str) -> list[Worker]:
        if self.is_alone:
            return []
        query = (
            f"SELECT id, pid, seen_s, is_leaving, worker, {', '.join(ANSWER)} FROM workers "  # noqa: S608 - constants
            "LEFT JOIN answers ON id = worker AND name = ? WHERE id != ?"
        )
        return [
            Worker(
                row["id"],
                row["pid"],
                row["seen_s"],
                bool(row["is_leaving"]),
                None if row["worker"] is None else Answer(*(row[each] for each in ANSWER)),
            )
            for row in await self._read(query, (name, self._follower.worker))
        ]

    async def _read(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        def read() -> list[Any]:
            with self._state.snapshot() as rows:
                return rows.execute(query, values).fetchall()

        return await self._pool.call(read)

    async def _write(self, query: str, values: tuple[Any, ...]) -> None:
        def write() -> None:
            with self._state.transaction(is_durable=False) as rows:
                rows.execute(query, values)

        await self._pool.call(write)


def forget_worker(state: State, pid: int) -> None:
    """A worker has ended: nobody waits for it any more."""
    with state.transaction(is_durable=False) as rows:
        for table in ("answers", "uses"):
            rows.execute(f"DELETE FROM {table} WHERE worker IN (SELECT id FROM workers WHERE pid = ?)", (pid,))  # noqa: S608 - constants
        rows.execute("DELETE FROM workers WHERE pid = ?", (pid,))


def _kill(pid: int) -> None:
    log.error("a worker is silent, and is killed", pid=pid)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _try_lock(descriptor: int) -> bool:
    """Of this process alone, and not of what a wrapper forks, as it would be with `flock`."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True
