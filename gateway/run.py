"""One execution of a wrapper method for one caller, and what the wrapper may ask about it."""

from collections import deque
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from time import monotonic
from typing import Any, Literal, Protocol

Cause = Literal["disconnect", "timeout", "shutdown", "overflow"]

_current: ContextVar["Run | None"] = ContextVar("gateway_run", default=None)


class RunCancelled(BaseException):
    """Raised inside the wrapper's own code when its run was cancelled.

    A `BaseException`, because Haystack's pipelines wrap an `Exception` and its tools swallow one.
    """

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause)
        self.cause = cause


class Run:
    """Id, caller and headers, deadline and cancel token of one run.

    `id`: the request id. `caller`: the peer's address, None when the server does not tell it.
    `deadline`: a `time.monotonic()` value, None = no limit. `cause`: why it was cancelled, None while it is not.
    `files`: what `get_file()` asks, None where there are none.
    `on_cancel` and `on_end` callbacks are called once each.
    """

    __slots__ = (
        "_cancel_callbacks",
        "_end_callbacks",
        "caller",
        "cause",
        "deadline",
        "files",
        "headers",
        "id",
        "wrapper",
    )

    def __init__(
        self,
        id: str,  # noqa: A002
        wrapper: str,
        *,
        headers: Mapping[str, str] | None = None,
        caller: str | None = None,
        files: Any = None,
    ) -> None:
        self.id = id
        self.wrapper = wrapper
        self.headers: Mapping[str, str] = headers if headers is not None else {}
        self.caller = caller
        self.files = files
        self.deadline: float | None = None
        self.cause: Cause | None = None
        self._cancel_callbacks: deque[Callable[[], object]] = deque()
        self._end_callbacks: list[Callable[[], object]] = []

    @property
    def is_cancelled(self) -> bool:
        return self.cause is not None

    @property
    def remaining_s(self) -> float | None:
        """Seconds until the deadline, never negative; None without one."""
        return None if self.deadline is None else max(0.0, self.deadline - monotonic())

    def raise_if_cancelled(self) -> None:
        """For the loops of a wrapper: end here when nobody waits any more. Raises `RunCancelled`."""
        if self.cause is not None:
            raise RunCancelled(self.cause)

    def activate(self) -> None:
        """Make this the run that `current_run()` gives in this context and in copies of it."""
        _current.set(self)

    def cancel(self, cause: Cause) -> None:
        """Mark the run and call what waits on it. On the event loop's thread only; the first cause stands."""
        if self.cause is None:
            self.cause = cause
            while self._cancel_callbacks:
                try:
                    callback = self._cancel_callbacks.popleft()
                except IndexError:  # `on_cancel` on a thread has taken its own back
                    break
                callback()

    def on_cancel(self, callback: Callable[[], object]) -> None:
        """Call back when the run is cancelled: at once when it already is. From any thread."""
        self._cancel_callbacks.append(callback)
        if self.cause is not None:
            try:
                self._cancel_callbacks.remove(callback)
            except (ValueError, IndexError):  # `cancel` on the loop has taken it
                return
            callback()

    def on_end(self, callback: Callable[[], object]) -> None:
        """Call back when the run has really ended: its thread or task is through with the wrapper's code."""
        self._end_callbacks.append(callback)

    def end(self) -> None:
        """Release what the run holds, last acquired first. On the event loop's thread; a second call does nothing."""
        while self._end_callbacks:
            self._end_callbacks.pop()()


def current_run() -> Run:
    """The run that this code works for. Raises `LookupError` outside of a run."""
    run = _current.get()
    if run is None:
        raise LookupError("current_run() was called outside of a run")
    return run


def get_run() -> Run | None:
    """The run that this code works for, None outside of one."""
    return _current.get()


class Sink(Protocol):
    """Where a `StreamSource` puts its chunks. Both raise `RunCancelled` when nobody reads any more."""

    def push(self, chunk: Any) -> None:
        """From a thread: waits while the reader is slow."""

    async def push_async(self, chunk: Any) -> None:
        """From a task on the event loop: waits while the reader is slow."""


class StreamSource(Protocol):
    """A stream that the gateway runs directly instead of iterating it: what has `feed` and `is_async`.

    `is_async` False: `feed` is called on the run's thread and returns when all has been pushed.
    `is_async` True: `feed` gives an awaitable, which is awaited on the event loop.
    What it gives in the end is the result of the run, None when there is none. `passes_tool_calls`: nothing on this
    side answers the calls in its chunks, so that they are for the client.
    """

    is_async: bool
    passes_tool_calls: bool

    def feed(self, sink: Sink) -> Any: ...
