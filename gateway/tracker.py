"""What serves follows what stands in the wrappers folder: at the start, and from then on."""

import asyncio
import os
from collections import defaultdict, deque
from functools import partial
from time import monotonic

from gateway.deployer import READ_ONLY, Deployer
from gateway.errors import LoadError
from gateway.generations import Generations
from gateway.loader import share_code
from gateway.registry import Entry, Registry
from gateway.settings import Settings
from gateway.source import has_same_code, scan
from gateway.standing import NOTHING, Standing, changed
from gateway.team import Team
from gateway.telemetry.log import log
from gateway.thread import ThreadPool
from gateway.watcher import watch

WRITES_BESIDE_ITSELF = "the wrapper seems to write into its own folder: its data is followed when it has come to rest"
AT_ONCE = 32  # wrappers that are followed: each has a thread, and with several workers a descriptor
DATA_CHANGES, DATA_CHANGES_S = 6, 60.0  # more often than that nobody edits, and no wrapper need be loaded


class Tracker:
    """`is_loaded` is set when every wrapper of this worker serves or has failed; `is_broken` when none can be loaded,
    because the state cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        pool: ThreadPool,
        generations: Generations,
        team: Team,
        deployer: Deployer,
    ) -> None:
        self.is_loaded = asyncio.Event()
        self.is_broken = asyncio.Event()
        self._settings = settings
        self._registry = registry
        self._pool = pool
        self._generations = generations
        self._records = generations.records
        self._team = team
        self._deployer = deployer
        self._wrappers_dir = settings.wrappers_dir.absolute()
        self._data_changes: dict[str, deque[tuple[float, str]]] = defaultdict(partial(deque, maxlen=DATA_CHANGES))
        self._later: dict[str, asyncio.TimerHandle] = {}
        self._places = asyncio.Semaphore(AT_ONCE)
        self._waiting: dict[str, asyncio.Task[None]] = {}
        self._working: set[asyncio.Task[None]] = set()

    async def load_all(self) -> None:
        """At start: end what a crash has left open, see what there is, and load it."""
        try:
            await self._load_all()
        except Exception:  # of the state: a wrapper's own stands in the registry
            log.exception("the wrappers cannot be loaded")
            self.is_broken.set()

    async def _load_all(self) -> None:
        share_code(self._settings.additional_python_path)
        is_first = await self._team.join(self._deployer.sweep, self._take_stock)
        await self._deployer.recover()
        standings = {
            name: standing
            for name, standing in (await self._pool.call(self._records.standings)).items()
            if standing.is_known
        }
        self._registry.put(*(Entry(name) for name in standings))
        self._registry.is_scanned = True
        self._deployer.is_open.set()
        await self._team.load(standings)
        if is_first:  # what was edited while nothing served, beside what serves now
            for entry in self._registry.snapshot.values():
                if entry.state == "failed":
                    await self._discard_copy(entry.name)
            changed = await self._changed()
            for name in changed:
                await self._note_own_writing(name)
            await asyncio.gather(*(asyncio.shield(self._begin_to_follow(name)) for name in changed))
        await self._team.say_loaded()
        if not os.access(self._wrappers_dir, os.W_OK):
            log.warning(READ_ONLY, wrappers_dir=str(self._wrappers_dir))
        snapshot = self._registry.snapshot.values()
        failed = [entry.name for entry in snapshot if entry.failure]
        serving = sum(entry.state == "serving" for entry in snapshot)
        log.info("wrappers loaded", serving=serving, failed=failed, wrappers_dir=str(self._wrappers_dir))
        self.is_loaded.set()  # last: whoever waits for it may listen to the log

    async def watch(self, stop: asyncio.Event) -> None:
        """Follow the wrappers folder until `stop` is set, as long as no other worker does."""
        await self.is_loaded.wait()
        async with self._team.only("watch"):
            await watch(self._wrappers_dir, self._settings.state_path, self._pool, self.refresh, stop)

    async def refresh(self) -> None:
        """Begin to follow what has changed in the wrappers folder. A fault of one wrapper is its own."""
        for name in await self._changed():
            self._begin_to_follow(name)

    def _begin_to_follow(self, name: str) -> "asyncio.Task[None]":
        """Beside what else there is to do: one wrapper may take long to set up. Its failure is logged.

        One that has been begun, and waits for its turn, will see what stands there then.
        """

        async def run() -> None:
            try:
                async with self._places:
                    await self._follow(name)
            except Exception:  # one wrapper's, and not that of the others
                log.exception("the change of a wrapper could not be followed", wrapper=name)
            finally:
                if self._waiting.get(name) is asyncio.current_task():
                    del self._waiting[name]

        if name not in self._waiting:
            self._waiting[name] = task = asyncio.get_running_loop().create_task(run())
            self._working.add(task)
            task.add_done_callback(self._working.discard)
        return self._waiting[name]

    async def _changed(self) -> list[str]:
        """The names whose part of the wrappers folder is not what was last seen of it."""

        def look() -> list[str]:
            found = scan(self._wrappers_dir)
            digests = {each.name: self._generations.fingerprint(each.path) for each in found}
            return changed(self._records.standings(), digests)

        return await self._pool.call(look)

    async def _follow(self, name: str) -> None:
        """Bring one wrapper to what stands in the folder now."""
        async with self._deployer.turn(name):
            self._waiting.pop(name, None)
            standing = await self._pool.call(partial(self._records.standing, name))
            found, digest = await self._pool.call(partial(self._generations.locate, name))
            if standing.digest == digest or standing.publishing is not None:  # which could not be ended
                return  # it was this gateway that has written it, or another worker has followed it
            if found is None:
                await self._deployer.decide(name, NOTHING)
                return
            if standing.is_undeployed and has_same_code(standing.digest, digest):
                await self._pool.call(partial(self._records.note_seen, name, digest))
                return  # its `close()` has written that, or a last run
            if self._writes_beside_itself(name, standing, digest):
                return
            try:
                if found.fault is not None:
                    raise LoadError(found.fault)
                number = await self._pool.call(partial(self._records.next_number, name))
                await self._pool.call(partial(self._generations.copy, name, number, found))
                try:
                    await self._team.propose(name, number, is_kept=False)
                except LoadError:
                    await self._pool.call(partial(self._generations.discard, name, number))
                    raise
            except LoadError as error:
                digest = await self._digest_after_loading(name, digest)
                await self._pool.call(partial(self._records.note_failure, name, digest, error.message))
                await self._team.follow_decision(name)
                return
            await self._deployer.decide(name, Standing(number, digest=await self._digest_after_loading(name, digest)))

    async def _digest_after_loading(self, name: str, digest: str) -> str:
        """Data that has changed meanwhile was written by `setup()`: taken for an edit, it would be loaded for ever."""
        _, now = await self._pool.call(partial(self._generations.locate, name))
        return now if has_same_code(now, digest) else digest

    async def _note_own_writing(self, name: str) -> None:
        """As above, of what has just been loaded at the start."""
        async with self._deployer.turn(name):
            standing = await self._pool.call(partial(self._records.standing, name))
            _, digest = await self._pool.call(partial(self._generations.locate, name))
            if standing.number is not None and not standing.is_kept and has_same_code(standing.digest, digest):
                await self._pool.call(partial(self._records.note_seen, name, digest))

    async def _discard_copy(self, name: str) -> None:
        """What has never served is nothing to go back to."""
        async with self._deployer.turn(name):
            standing = await self._pool.call(partial(self._records.standing, name))
            if standing.number is not None and not standing.is_kept:
                await self._pool.call(partial(self._generations.discard, name, standing.number))

    def _writes_beside_itself(self, name: str, standing: Standing, digest: str) -> bool:
        """Whether nothing but its data has changed, so often that it must be the wrapper that writes it.

        It is looked at again: whoever has written it, what stands there in the end is to serve.
        """
        changes = self._data_changes[name]
        if not has_same_code(standing.digest, digest):
            changes.clear()
        elif not changes or changes[-1][1] != digest:
            changes.append((monotonic(), digest))
        is_too_often = len(changes) == DATA_CHANGES and monotonic() - changes[0][0] < DATA_CHANGES_S
        if is_too_often and name not in self._later:
            log.warning(WRITES_BESIDE_ITSELF, wrapper=name)
            self._later[name] = asyncio.get_running_loop().call_later(DATA_CHANGES_S, self._look_again, name)
        return is_too_often

    def _look_again(self, name: str) -> None:
        del self._later[name]
        self._begin_to_follow(name)

    def _take_stock(self, is_new: bool) -> None:
        """When nothing serves yet."""
        found = {each.name: each for each in scan(self._wrappers_dir)}
        digests = {name: self._generations.fingerprint(each.path) for name, each in found.items()}
        self._generations.take_stock(found, digests, is_new=is_new)
