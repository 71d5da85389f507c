"""What the API is told: deploy, roll back, undeploy, restore; nothing is ever half done.

Each change takes the same way: in its name's turn, a number → every worker prepares it → one row decides → every worker
serves it. Whatever fails before the row leaves all as it was. `tracker.py` takes it for what stands in the folder.
"""

import asyncio
import os
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from time import time

from gateway.errors import Conflict, GatewayError, LoadError, NotFound
from gateway.generations import ENTRY, Files, Generations
from gateway.record import USERS, Kept, Origin
from gateway.registry import Registry
from gateway.source import YAML_SUFFIXES, check_name
from gateway.standing import Standing
from gateway.team import Team
from gateway.telemetry.log import log
from gateway.thread import ThreadPool

READ_ONLY = "the folder of wrappers cannot be written, so deploys are off, but for those that are not to be saved there"


class Deployer:
    """`is_open`: it is known what there is, so that there can be turns."""

    def __init__(
        self, wrappers_dir: Path, registry: Registry, pool: ThreadPool, generations: Generations, team: Team
    ) -> None:
        """`wrappers_dir`: absolute."""
        self.is_open = asyncio.Event()
        self._registry = registry
        self._pool = pool
        self._generations = generations
        self._records = generations.records
        self._team = team
        self._wrappers_dir = wrappers_dir

    async def deploy(
        self,
        name: str,
        files: Files,
        *,
        overwrite: bool = False,
        is_saved: bool = True,
        description: str = "",
    ) -> int:
        """Serve these files under this name: a folder's, or one YAML file. Gives the generation's number.

        Raises `Conflict` (409) when there is such a wrapper and `overwrite` is false, `LoadError` (422).
        """
        if (fault := check_name(name)) is not None:
            raise LoadError(fault)
        async with self.turn(name):
            await self._pool.call(partial(self._check_conflict, name, files, overwrite=overwrite, is_saved=is_saved))
            return await self._deploy(name, files, is_saved=is_saved, description=description, origin="deploy")

    async def _deploy(self, name: str, files: Files, *, is_saved: bool, description: str, origin: Origin) -> int:
        """In the name's turn."""
        if is_saved:
            files = await self._pool.call(partial(self._name_yaml, name, files))
        number = await self._pool.call(partial(self._records.next_number, name))
        try:
            found = await self._pool.call(partial(self._generations.stage, name, number, files))
            await self._team.propose(name, number, is_kept=True)
            kept = Kept(number, origin, description, found.is_yaml, is_saved, int(time()))
            await self._settle(name, kept)
        except Exception as error:
            await self._pool.call(partial(self._generations.discard, name, number))
            if isinstance(error, OSError):
                said = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
                raise GatewayError(f"wrapper {name} could not be written: {said}") from error
            raise
        await self._team.follow_decision(name)
        await self._pool.call(partial(self._generations.prune, name))
        return number

    async def _settle(self, name: str, kept: Kept) -> None:
        try:
            await self._pool.call(partial(self._generations.settle, name, kept))
        except Exception:
            await self._team.withdraw(name, kept.number)
            raise

    async def rollback(self, name: str, number: int | None = None) -> int:
        """Serve the files of a kept generation again, as a new one. None: the one before the one that serves.

        Raises `NotFound` when it is not kept.
        """
        await self.is_open.wait()
        if not await self.history(name):
            await self._known(name)
        async with self.turn(name):  # what is looked up may be gone when another has had its turn
            history = await self.history(name)
            standing = await self._pool.call(partial(self._records.standing, name))
            serving = sys.maxsize if standing.number is None or standing.is_undeployed else standing.number
            if number is None:
                served = (kept.number for kept in history if kept.number < serving and kept.origin != "edit")
                number = next(served, None)
            if number is None:
                raise NotFound(f"there is no generation of {name} to go back to")
            files = await self._pool.call(partial(self._generations.read, name, number))
            chosen = next(kept for kept in history if kept.number == number)
            if ENTRY not in files and not chosen.is_yaml:
                raise LoadError(f"generation {number} of {name} has no {ENTRY}")
            # What is not published stays so; and the user's own files stay the user's, see `_publish`.
            is_saved = not standing.is_kept or any(kept.number == standing.number and kept.is_saved for kept in history)
            await self._pool.call(partial(self._check_conflict, name, files, overwrite=True, is_saved=is_saved))
            origin: Origin = "folder" if chosen.origin in USERS else "rollback"
            description = f"generation {number} again"
            return await self._deploy(name, files, is_saved=is_saved, description=description, origin=origin)

    async def undeploy(self, name: str) -> None:
        """Take it down, for good; its folder stays as it is. Raises `NotFound`."""
        await self._known(name)  # a turn leaves a file of its name
        async with self.turn(name):
            standing = await self._known(name)
            if standing.is_undeployed:
                raise NotFound(f"wrapper {name} has been taken down already")
            _, digest = await self._pool.call(partial(self._generations.locate, name))
            down = Standing(standing.number, standing.is_kept, digest, is_undeployed=True)
            await self.decide(name, down)

    async def restore(self, name: str) -> int:
        """Serve again what was taken down. Gives its number. Raises `NotFound`, `Conflict`, `LoadError`."""
        await self._known(name)
        async with self.turn(name):
            standing = await self._known(name)
            if not standing.is_undeployed:
                raise Conflict(f"wrapper {name} has not been taken down")
            found, digest = await self._pool.call(partial(self._generations.locate, name))
            number = standing.number
            source = partial(self._generations.source, name, number or 0, is_kept=True)
            is_kept = standing.is_kept and await self._pool.call(source) is not None
            if not is_kept and found is None:
                raise NotFound(f"nothing of {name} is left to be served")
            if number is None or (not is_kept and (standing.is_kept or standing.digest != digest)):
                number = await self._pool.call(partial(self._records.next_number, name))
            await self._team.propose(name, number, is_kept=is_kept)
            await self.decide(name, Standing(number, is_kept, digest))
            return number

    async def history(self, name: str) -> list[Kept]:
        """The generations that are kept, newest first."""
        kept: list[Kept] = await self._pool.call(partial(self._records.history, name))
        return kept

    async def decide(self, name: str, standing: Standing) -> None:
        await self._pool.call(partial(self._records.decide, name, standing))
        await self._team.follow_decision(name)
        await self._pool.call(partial(self._generations.prune, name))

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[None]:
        """Alone with this name, among all workers. Whoever had it before may have died in the middle."""
        await self.is_open.wait()
        try:
            async with self._team.turn(name):
                standing = await self._pool.call(partial(self._records.standing, name))
                if standing.is_unfinished:
                    await self._pool.call(partial(self._end_unfinished, name))
                    await self._team.follow_decision(name)
                yield
        except sqlite3.Error as error:  # the disk is full, or somebody holds the database
            raise GatewayError(f"wrapper {name}: the state could not be written: {error}") from error

    async def _known(self, name: str) -> Standing:
        """Raises `NotFound` with the nearest name."""
        await self.is_open.wait()
        standing: Standing = await self._pool.call(partial(self._records.standing, name))
        if not standing.is_known:
            self._registry.find(name)
            raise NotFound(f"there is no wrapper {name[:64]!r}")
        return standing

    def sweep(self) -> None:
        """Once for all workers of a gateway."""
        self._generations.sweep()
        for name in self._records.unfinished():
            self._end_unfinished(name)

    async def recover(self) -> None:
        """End what a worker has died at, before it is loaded here too. What one is still at is its own."""
        for name in await self._pool.call(self._records.unfinished):
            async with self._team.turn(name, is_patient=False) as has_it:
                if has_it:
                    await self._pool.call(partial(self._end_unfinished, name))

    def _end_unfinished(self, name: str) -> None:
        """A fault of one wrapper is its own: what cannot be ended now is tried again at the next start."""
        try:
            number = self._generations.recover(name)
        except (OSError, GatewayError, sqlite3.Error) as error:
            log.error("a deploy that was cut off could not be ended", wrapper=name, reason=str(error))
            return
        if number is not None:
            log.warning("a deploy that was cut off has been brought to its end", wrapper=name, generation=number)
        else:
            log.warning("a deploy that was cut off has been taken back", wrapper=name)

    def _check_conflict(self, name: str, files: Iterable[str], *, overwrite: bool, is_saved: bool) -> None:
        standing = self._records.standing(name)
        if standing.is_known and not overwrite:
            raise Conflict(f"wrapper {name} is deployed already; overwrite replaces it")
        if is_saved and not os.access(self._wrappers_dir, os.W_OK):
            raise Conflict(READ_ONLY)
        places = [self._wrappers_dir / name, *(self._wrappers_dir / f"{name}{suffix}" for suffix in YAML_SUFFIXES)]
        taken = [path for path in places if path.exists() or path.is_symlink()]
        if taken and not overwrite:
            raise Conflict(f"wrapper {name} is on disk as {taken[0].name} already; overwrite replaces it")
        if is_saved and ENTRY not in files and (self._wrappers_dir / name / ENTRY).is_file():
            raise Conflict(f"wrapper {name} is a folder, which goes before a YAML file: take the folder away first")

    def _name_yaml(self, name: str, files: Files) -> Files:
        """A YAML pipeline under the ending that its file has."""
        if ENTRY in files:
            return files
        (content,) = files.values()
        return {f"{name}.yaml" if (self._wrappers_dir / f"{name}.yaml").is_file() else f"{name}.yml": content}
