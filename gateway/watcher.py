"""Notices that the wrappers folder changes."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import watchfiles

from gateway.source import is_ignored
from gateway.telemetry.log import log
from gateway.thread import ThreadPool

QUIET_MS = 100  # a change is taken up when nothing more has happened for so long,
LONGEST_MS = 800  # or after so long
FIRST_MS = 1000  # what has changed before the watch began is looked for after so long
END_S = 1.0  # for the thread that waits for changes


async def watch(
    wrappers_dir: Path,
    state_dir: Path,
    pool: ThreadPool,
    refresh: Callable[[], Awaitable[None]],
    stop: asyncio.Event,
) -> None:
    """Call `refresh` once, and after each change until `stop` is set. What it raises is logged.

    `wrappers_dir`, `state_dir`: absolute.
    """

    def matters(_change: watchfiles.Change, path: str) -> bool:
        place = Path(path)
        relative = place.relative_to(wrappers_dir) if place.is_relative_to(wrappers_dir) else Path()
        return bool(relative.parts) and not is_ignored(relative) and not place.is_relative_to(state_dir)

    # Not `awatch`: it would begin on the event loop, and that walks all there is, behind links too.
    noticed = watchfiles.watch(
        wrappers_dir,
        watch_filter=matters,
        debounce=LONGEST_MS,
        step=QUIET_MS,
        stop_event=stop,
        rust_timeout=FIRST_MS,
        yield_on_timeout=True,
        ignore_permission_denied=True,
    )
    is_first = True
    while (changes := await _next(partial(next, noticed, None), pool, stop)) is not None:
        if not changes and not is_first:
            continue
        is_first = False
        try:
            await refresh()
        except Exception:  # the watcher must outlive whatever it meets
            log.exception("the change of the wrappers folder could not be followed")


async def _next(
    wait: Callable[[], set[watchfiles.main.FileChange] | None], pool: ThreadPool, stop: asyncio.Event
) -> set[watchfiles.main.FileChange] | None:
    """On a thread, which is to end before the process does."""
    waiting = asyncio.create_task(pool.call(wait))
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait({waiting}, timeout=END_S)
        raise
