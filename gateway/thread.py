"""Threads for code that blocks: daemonic, reused, as many as there are blocking calls in hand.

How many that may be is decided by the limiters of the wrappers, not here. `concurrent.futures` is not used because its
threads are joined at exit: a stuck wrapper would keep the process alive.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import TypeVar

IDLE_S = 10.0
T = TypeVar("T")


class ThreadPool:
    """Runs each function at once, on an idle thread or on a new one, in a copy of the caller's context."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._work: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._idle = 0
        self._count = 0

    def start(self, function: Callable[[], object]) -> None:
        """Run `function`, which must not raise. An idle thread ends after `IDLE_S` seconds."""
        context = copy_context()

        def work() -> object:
            return context.run(function)

        with self._lock:
            if self._idle:
                self._idle -= 1
                self._work.put(work)
                return
            self._count += 1
            name = f"{self._name}-{self._count}"
        threading.Thread(target=self._serve, args=([work],), name=name, daemon=True).start()

    async def call(self, function: Callable[[], T]) -> T:
        """The result of `function`, run on a thread. A caller who is cancelled leaves the thread to its work."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T] = loop.create_future()

        def settle(result: T | None, error: BaseException | None) -> None:
            if outcome.done():
                return
            if isinstance(error, StopIteration):  # which no future takes
                outcome.set_exception(RuntimeError(repr(error)).with_traceback(error.__traceback__))
            elif error is not None:
                outcome.set_exception(error)
            else:
                outcome.set_result(result)  # type: ignore[arg-type]

        def work() -> None:
            result, error = None, None
            try:
                result = function()
            except Exception as raised:
                error = raised
            except BaseException as raised:  # a SystemExit must not end the loop that awaits it
                error = RuntimeError(repr(raised)).with_traceback(raised.__traceback__)
            with suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits
                loop.call_soon_threadsafe(settle, result, error)

        self.start(work)
        return await outcome

    def _serve(self, first: list[Callable[[], object]]) -> None:
        work = first.pop()  # the thread object keeps its arguments: what they hold would live as long
        while True:
            work()
            del work  # what it holds must not live until the next one comes
            with self._lock:
                self._idle += 1
            try:
                work = self._work.get(timeout=IDLE_S)
            except Empty:
                with self._lock:
                    if self._idle:
                        self._idle -= 1
                        return
                work = self._work.get()  # claimed by `start` while the wait ran out
