"""What a wrapper under test and its test tell each other: both run in one process.

A wrapper imports it as `from tests import probe` and takes `probe.current` in its module: each test has its own.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WAIT_S = 10.0


class Probe:
    """Named signals, counted, and a list of notes. From any thread or task."""

    def __init__(self) -> None:
        self.notes: list[Any] = []
        self._counts: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._waiting: list[tuple[str, int, asyncio.Future[None]]] = []

    def count(self, name: str) -> int:
        with self._changed:
            return self._counts[name]

    def set(self, name: str) -> None:
        with self._changed:
            self._counts[name] += 1
            self._changed.notify_all()
            due = [entry for entry in self._waiting if self._counts[entry[0]] >= entry[1]]
            self._waiting = [entry for entry in self._waiting if entry not in due]
        for _, _, future in due:
            future.get_loop().call_soon_threadsafe(_settle, future)

    def wait(self, name: str, count: int = 1) -> None:
        """Until `name` has been set `count` times. Blocks the thread."""
        with self._changed:
            is_set = self._changed.wait_for(lambda: self._counts[name] >= count, WAIT_S)
            assert is_set, f"{name!r} was set {self._counts[name]} times of {count}; notes: {self.notes[-20:]}"

    async def until(self, name: str, count: int = 1) -> None:
        """As `wait`, for a task."""
        with self._changed:
            if self._counts[name] >= count:
                return
            future = asyncio.get_running_loop().create_future()
            self._waiting.append((name, count, future))
        async with asyncio.timeout(WAIT_S):
            await future

    def note(self, value: Any) -> None:
        self.notes.append(value)


current = Probe()


def renew() -> Probe:
    """A new probe for the wrappers that are loaded from here on."""
    global current
    current = Probe()
    return current


def eventually(condition: Callable[[], Any], what: str = "the condition") -> None:
    """For what nobody signals: descriptors, threads, counters of the server."""
    deadline_s = time.monotonic() + WAIT_S
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline_s, f"{what} did not come true"
        pause.wait(0.005)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@contextmanager
def same_descriptors() -> Iterator[None]:
    """As many are open afterwards as were before."""
    before = descriptors()
    yield
    eventually(lambda: descriptors() <= before, f"no more than {before} descriptors, as before,")


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
