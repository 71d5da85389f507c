"""One generation of a wrapper, from where it stands to ready to serve, and to its end."""

import asyncio
import gc
import inspect
from collections.abc import Callable
from functools import partial
from time import time
from typing import Any

from gateway.errors import LoadError
from gateway.limiter import Limiter
from gateway.loader import Loaded, describe_failure, load, take_package, unload
from gateway.registry import Deployment
from gateway.settings import Settings
from gateway.source import Found
from gateway.telemetry.log import log
from gateway.thread import ThreadPool
from gateway.wrapper import Limits

SYNC_PLACES = 64  # threads of a wrapper
ASYNC_PLACES = 1024  # runs of a wrapper on the event loop
THAW_AFTER_S = 0.5


class Preparer:
    """Imports come one after the other, in the order in which they are asked for; each `setup()` runs beside them."""

    def __init__(self, settings: Settings, pool: ThreadPool) -> None:
        self._settings = settings
        self._pool = pool
        self._importing = asyncio.Lock()
        self._closings: set[asyncio.Task[None]] = set()
        self._stuck: set[str | None] = set()
        self._frozen_at = 0.0
        self._thawing: asyncio.TimerHandle | None = None

    async def prepare(self, found: Found, generation: int) -> Deployment:
        """Import and set up. Raises `LoadError`, and then nothing of it is left."""
        if found.fault is not None:
            raise LoadError(found.fault)
        package = None if found.is_yaml else take_package(found.name, generation, self._stuck)
        try:
            async with self._importing:
                loaded: Loaded = await self._in_time("the import", partial(load, found, package), package)
            setup = getattr(loaded.instance, "setup", None)
            if inspect.iscoroutinefunction(setup):
                raise LoadError("setup() must not be async: it runs on a thread of its own")
            if setup is not None:
                await self._in_time("setup()", setup, package)
            return self._deployment(found, loaded, generation)
        except BaseException as error:  # the wrapper's own code
            unload(package)
            if isinstance(error, LoadError) or not isinstance(error, Exception):
                raise
            raise LoadError(describe_failure(error, found.path)) from error

    def retire(self, deployment: Deployment, then: Callable[[], object]) -> None:
        """Close it when its last run has ended, and call `then`."""
        loaded_at = deployment.loaded_at

        async def close() -> None:
            await self.close(deployment)
            then()

        def end(closing: "asyncio.Task[None]") -> None:
            self._closings.discard(closing)
            if loaded_at < self._frozen_at and self._thawing is None:
                # Later: here those who have called its `close()` still hold it. One pause does for several.
                self._thawing = asyncio.get_running_loop().call_later(THAW_AFTER_S, self._thaw)

        def begin() -> None:
            closing = asyncio.get_running_loop().create_task(close())
            self._closings.add(closing)
            closing.add_done_callback(end)

        deployment.leases.retire(begin)

    async def close(self, deployment: Deployment) -> None:
        """Call its `close()` and forget its modules."""
        close = getattr(deployment.instance, "close", None)
        if close is not None:
            try:
                await self._pool.call(close)
            except Exception:  # the wrapper's own code: the others are still to be closed
                log.exception("wrapper raised in close()", wrapper=deployment.name)
        unload(deployment.package)

    async def wait_until_closed(self) -> None:
        """All that are being closed now."""
        if self._closings:
            await asyncio.wait(self._closings)

    def freeze(self) -> None:
        """Take all there is out of the garbage collector's way. For the process's owner, once all has been loaded.

        Else each full collection walks all that Haystack has imported: 28 µs of a run of 316 (November 2026).
        """
        gc.freeze()
        self._frozen_at = time()

    def _thaw(self) -> None:
        """Let go of a generation that was frozen, and of all that only it has held. A pause of a fifth of a second."""
        self._thawing = None
        gc.unfreeze()
        gc.collect()
        self.freeze()

    async def _in_time(self, what: str, function: Callable[[], Any], package: str | None) -> Any:
        """Its thread cannot be stopped: what that imports after its time is forgotten when it ends."""

        def end(task: "asyncio.Task[Any]") -> None:
            self._stuck.discard(package)
            unload(package)
            if not task.cancelled():
                task.exception()  # nobody else asks

        timeout_s = self._settings.setup_timeout_s
        task = asyncio.get_running_loop().create_task(self._pool.call(function))
        try:
            await asyncio.wait({task}, timeout=timeout_s)
        finally:
            if not task.done():
                self._stuck.add(package)
                task.add_done_callback(end)
        if not task.done():
            raise LoadError(f"{what} did not end within {timeout_s:g} s")
        return task.result()

    def _deployment(self, found: Found, loaded: Loaded, generation: int) -> Deployment:
        limits = resolve_limits(getattr(loaded.instance, "limits", None), self._settings)

        def limiter(places: int) -> Limiter:
            assert limits.max_queue is not None
            assert limits.queue_timeout_s is not None
            return Limiter(limits.max_concurrency or places, limits.max_queue, limits.queue_timeout_s)

        threads = limiter(SYNC_PLACES)
        return Deployment(
            name=found.name,
            generation=generation,
            package=loaded.package,
            path=found.path,
            instance=loaded.instance,
            methods=loaded.methods,
            limits=limits,
            loaded_at=time(),
            threads=threads,
            tasks=threads if limits.max_concurrency else limiter(ASYNC_PLACES),
        )


def resolve_limits(own: Any, settings: Settings) -> Limits:
    """The wrapper's own limits, and the server's where it has none. Raises `LoadError` when `own` is something else."""
    if not isinstance(own, Limits | None):
        raise LoadError(f"limits must be a gateway.Limits, not {type(own).__name__}")

    def pick(name: str) -> Any:
        value = getattr(own, name, None)
        return getattr(settings, name) if value is None else value

    return Limits(**{name: pick(name) for name in Limits.__dataclass_fields__})
