"""Brings the wrappers of a folder into the registry, and takes them out again."""

import asyncio
import inspect
import sys
from collections.abc import Callable
from time import time
from typing import Any

from gateway.errors import LoadError
from gateway.limiter import Limiter
from gateway.loader import Found, Loaded, describe_failure, load, scan, unload
from gateway.registry import Deployment, Entry, Registry
from gateway.settings import Settings
from gateway.telemetry.log import log
from gateway.thread import ThreadPool
from gateway.wrapper import Limits

SYNC_PLACES = 64  # threads of a wrapper
ASYNC_PLACES = 1024  # runs of a wrapper on the event loop


class Deployer:
    """Loads at start, closes at the end. `is_loaded` is set when every wrapper serves or has failed."""

    def __init__(self, settings: Settings, registry: Registry, pool: ThreadPool) -> None:
        self.is_loaded = asyncio.Event()
        self._settings = settings
        self._registry = registry
        self._pool = pool

    async def load_all(self) -> None:
        """Import one after the other, by name, and run the `setup()` of each side by side with the next import."""
        path = self._settings.additional_python_path
        if path is not None and str(path.absolute()) not in sys.path:
            sys.path.append(str(path.absolute()))  # last: it must not shadow a module
        wrappers_dir = self._settings.wrappers_dir.absolute()
        found = await self._pool.call(lambda: scan(wrappers_dir))
        self._registry.put(*(Entry(wrapper.name) for wrapper in found))
        self._registry.is_scanned = True
        for wrapper in found:
            if wrapper.fault is not None:
                self._fail(wrapper, wrapper.fault)
        async with asyncio.TaskGroup() as setups:
            for wrapper in found:
                loaded = await self._import(wrapper) if wrapper.fault is None else None
                if loaded is not None:
                    setups.create_task(self._set_up(wrapper, loaded))
        self.is_loaded.set()
        failed = [entry.name for entry in self._registry.snapshot.values() if entry.state == "failed"]
        log.info("wrappers loaded", serving=len(found) - len(failed), failed=failed, wrappers_dir=str(wrappers_dir))

    async def close_all(self) -> None:
        """Call `close()` of every wrapper, each on a thread, side by side."""
        async with asyncio.TaskGroup() as closings:
            for entry in self._registry.snapshot.values():
                if entry.deployment is not None:
                    closings.create_task(self._close(entry.deployment))

    async def _import(self, found: Found) -> Loaded | None:
        try:
            loaded: Loaded = await self._in_time("the import", lambda: load(found.name, found.folder, 1))
            return loaded
        except LoadError as error:
            self._fail(found, error.message, error.__cause__)
            return None

    async def _set_up(self, found: Found, loaded: Loaded) -> None:
        try:
            setup = getattr(loaded.instance, "setup", None)
            if inspect.iscoroutinefunction(setup):
                raise LoadError("setup() must not be async: it runs on a thread of its own")
            if setup is not None:
                await self._in_time("setup()", setup)
            deployment = self._deployment(found, loaded)
        except Exception as error:  # the wrapper's own code: its reason stands in /status
            said = error.message if isinstance(error, LoadError) else describe_failure(error, found.folder)
            self._fail(found, said, error)
            unload(loaded.package)
        else:
            self._registry.put(Entry(found.name, deployment))
            log.info("wrapper serves", wrapper=found.name, generation=1)

    async def _in_time(self, what: str, function: Callable[[], Any]) -> Any:
        timeout_s = self._settings.setup_timeout_s
        done, _ = await asyncio.wait({asyncio.ensure_future(self._pool.call(function))}, timeout=timeout_s)
        if not done:  # its thread cannot be stopped
            raise LoadError(f"{what} did not end within {timeout_s:g} s")
        return done.pop().result()

    def _fail(self, found: Found, reason: str, error: BaseException | None = None) -> None:
        log.error("wrapper failed to load", wrapper=found.name, reason=reason, exc_info=error)
        self._registry.put(Entry(found.name, failure=reason))

    def _deployment(self, found: Found, loaded: Loaded) -> Deployment:
        limits = resolve_limits(getattr(loaded.instance, "limits", None), self._settings)

        def limiter(places: int) -> Limiter:
            assert limits.max_queue is not None
            assert limits.queue_timeout_s is not None
            return Limiter(limits.max_concurrency or places, limits.max_queue, limits.queue_timeout_s)

        threads = limiter(SYNC_PLACES)
        return Deployment(
            name=found.name,
            generation=1,
            package=loaded.package,
            folder=found.folder,
            instance=loaded.instance,
            methods=loaded.methods,
            limits=limits,
            loaded_at=time(),
            threads=threads,
            tasks=threads if limits.max_concurrency else limiter(ASYNC_PLACES),
        )

    async def _close(self, deployment: Deployment) -> None:
        close = getattr(deployment.instance, "close", None)
        if close is not None:
            try:
                await self._pool.call(close)
            except Exception:  # the wrapper's own code: the others are still to be closed
                log.exception("wrapper raised in close()", wrapper=deployment.name)
        unload(deployment.package)


def resolve_limits(own: Any, settings: Settings) -> Limits:
    """The wrapper's own limits, and the server's where it has none. Raises `LoadError` when `own` is something else."""
    if not isinstance(own, Limits | None):
        raise LoadError(f"limits must be a gateway.Limits, not {type(own).__name__}")

    def pick(name: str) -> Any:
        value = getattr(own, name, None)
        return getattr(settings, name) if value is None else value

    return Limits(**{name: pick(name) for name in Limits.__dataclass_fields__})
