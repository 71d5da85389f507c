"""Makes this process serve what is on record."""

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from functools import partial

from gateway.errors import LoadError
from gateway.generations import Generations
from gateway.preparer import Preparer
from gateway.registry import Deployment, Entry, Registry
from gateway.standing import Standing
from gateway.telemetry.log import log
from gateway.thread import ThreadPool


@dataclass(frozen=True, slots=True)
class Answer:
    """How far a worker is with a name. `prepared`: the number it has tried to prepare, with the `failure` if it could
    not. `serving`: the number that it serves, None for none. `decided`: the one that it is to, as far as it has heeded.
    """

    prepared: int | None = None
    failure: str | None = None
    serving: int | None = None
    decided: int | None = None

    def fault(self, number: int | None) -> str | None:
        """Why this number could not be prepared."""
        return self.failure if self.prepared == number else None


@dataclass(frozen=True, slots=True)
class _Prepared:
    """`deployment`: None for a failure."""

    number: int | None
    deployment: Deployment | None = None
    failure: str | None = None


class Follower:
    """Prepares what is proposed, swaps in what is decided, lets the rest go. One name is worked at once at a time."""

    def __init__(self, registry: Registry, pool: ThreadPool, preparer: Preparer, generations: Generations) -> None:
        self.worker = 0  # its number in the team
        self._registry = registry
        self._pool = pool
        self._preparer = preparer
        self._generations = generations
        self._records = generations.records
        self._turns: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._prepared: dict[str, dict[int, _Prepared]] = defaultdict(dict)
        self._decided: dict[str, int | None] = {}
        self._holding = asyncio.Lock()

    async def heed(self, name: str, standing: Standing | None = None) -> None:
        """Do what is on record of this name now. That a wrapper cannot be loaded stands in the registry.

        `standing`: what is on record, where that has just been read.
        """
        async with self._turns[name]:
            if standing is None:
                standing = await self._pool.call(partial(self._records.standing, name))
            self._let_go(name, standing)
            number = None if standing.is_undeployed else standing.number
            if number is None:
                self._show(name, standing, None, standing.failure)
            else:
                await self._serve(name, standing, number)
            self._decided[name] = number
            if standing.proposed is not None:
                await self._prepare(name, standing.proposed, is_kept=standing.is_proposed_kept)

    def answer(self, name: str) -> Answer:
        serving = self._serving(name)
        numbers = self._prepared[name]
        prepared = numbers[max(numbers)] if numbers else _Prepared(None)
        number = None if serving is None else serving.generation
        return Answer(prepared.number, prepared.failure, number, self._decided.get(name))

    async def close_all(self) -> None:
        """Close every wrapper, each on a thread, side by side."""
        prepared = (each.deployment for numbers in self._prepared.values() for each in numbers.values())
        async with asyncio.TaskGroup() as closings:
            for deployment in (*prepared, *(entry.deployment for entry in self._registry.snapshot.values())):
                if deployment is not None:
                    closings.create_task(self._preparer.close(deployment))
            closings.create_task(self._preparer.wait_until_closed())

    def _serving(self, name: str) -> Deployment | None:
        entry = self._registry.snapshot.get(name)
        return None if entry is None else entry.deployment

    async def _serve(self, name: str, standing: Standing, number: int) -> None:
        serving = self._serving(name)
        if serving is not None and serving.generation == number:
            self._show(name, standing, serving, standing.failure)
            return
        digest = standing.digest if standing.failure is None else ""  # else it is that of what has failed
        prepared = await self._prepare(name, number, is_kept=standing.is_kept, digest=digest)
        if prepared.deployment is None:  # what has served before goes on
            self._show(name, standing, serving, standing.failure or prepared.failure)
            return
        self._prepared[name].pop(number)
        self._show(name, standing, prepared.deployment, standing.failure)
        log.info("wrapper serves", wrapper=name, generation=number)

    def _let_go(self, name: str, standing: Standing) -> None:
        """Of what was prepared, and is neither proposed any more nor decided."""
        decided = None if standing.is_undeployed else standing.number
        for number in self._prepared[name].keys() - {standing.proposed, decided}:
            prepared = self._prepared[name].pop(number)
            if prepared.deployment is not None:
                self._retire(prepared.deployment)

    def _show(self, name: str, standing: Standing, deployment: Deployment | None, failure: str | None) -> None:
        """Swap the registry's entry, if it says anything else."""
        before = self._registry.snapshot.get(name)
        entry = Entry(name, deployment, failure, standing.is_undeployed)
        if not standing.is_known:
            self._registry.drop(name)
        elif entry != before:
            self._registry.put(entry)
        old = None if before is None else before.deployment
        if old is not None and old is not deployment:
            self._retire(old)
            if deployment is None:
                log.info("wrapper taken down", wrapper=name)

    async def _prepare(self, name: str, number: int, *, is_kept: bool, digest: str = "") -> _Prepared:
        """Once for each number."""
        if number in self._prepared[name]:
            return self._prepared[name][number]
        try:
            deployment = await self._load(name, number, is_kept=is_kept, digest=digest)
            prepared = _Prepared(number, deployment)
        except LoadError as error:
            log.error("wrapper failed to load", wrapper=name, reason=error.message, exc_info=error.__cause__)
            prepared = _Prepared(number, failure=error.message)
        self._prepared[name][number] = prepared
        return prepared

    async def _load(self, name: str, number: int, *, is_kept: bool, digest: str) -> Deployment:
        hold = partial(self._generations.hold, self.worker, name, number, is_kept=is_kept, digest=digest)
        async with self._holding:  # one thread: at a start it would be a thousand that wait for each other
            found = await self._pool.call(hold)
        if found is None:
            raise LoadError("its files are gone")
        try:
            return await self._preparer.prepare(found, number)
        except BaseException:
            self._pool.start(partial(self._generations.release, self.worker, name, number))
            raise

    def _retire(self, deployment: Deployment) -> None:
        """It is closed when its last run has ended, and its files may go then."""
        release = partial(self._generations.release, self.worker, deployment.name, deployment.generation)
        self._preparer.retire(deployment, lambda: self._pool.start(release))
