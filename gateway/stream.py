"""One producer's chunks as an async iterator of batches: bounded, cancellable, without polling.

A producer is a sync iterator or a sync `StreamSource` on a thread, an async iterator or an async one in a task. It
appends to a buffer and waits while that is full; the reader takes all that is ready at once. Each counter is written
by one side, and each flag is set before the other side's state is looked at: under the GIL's order no lock is needed.
"""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException

from gateway.errors import CallerGone, DeadlineExceeded, Draining, GatewayError, WrapperRaised
from gateway.run import Cause, Run, RunCancelled, StreamSource
from gateway.telemetry.log import log
from gateway.wrapper import SSEStream

NOMINAL_BYTES = 64  # what a chunk that is neither text nor bytes counts for


@dataclass(frozen=True, slots=True)
class StreamBounds:
    """`chunks`, `bytes`: how much waits for the reader; the timeouts: longest silence in seconds, None = no limit."""

    chunks: int
    bytes: int
    first_chunk_timeout_s: float | None = None
    idle_chunk_timeout_s: float | None = None


def cancellation_error(run: Run) -> GatewayError:
    """What the caller is told about a run that was cancelled."""
    errors: dict[Cause | None, GatewayError] = {
        "timeout": DeadlineExceeded(f"wrapper {run.wrapper}: the run took too long and was stopped"),
        "shutdown": Draining("the server is shutting down"),
        "overflow": WrapperRaised(f"wrapper {run.wrapper}: a callback on the event loop outran the stream's reader"),
    }
    return errors.get(run.cause) or CallerGone("the caller has left")


def wrapper_error(run: Run, error: BaseException) -> GatewayError | HTTPException:
    """What the caller is told about an exception out of the user's code: what it says itself, if it is meant for him.

    Any other stays behind as `__cause__`; a `SystemExit` too, so that a wrapper cannot end the server.
    """
    if isinstance(error, GatewayError) or (isinstance(error, HTTPException) and 400 <= error.status_code <= 599):
        return error
    raised = WrapperRaised(f"wrapper {run.wrapper} failed")
    raised.__cause__ = error
    return raised


class Stream:
    """Batches of chunks in the order in which they were produced; then the producer's error, if it had one.

    Made on any thread for the event loop `loop`. `is_events`: the wrapper asked for server-sent events.
    `passes_tool_calls`: as the `StreamSource` says. `result`: what its run gave, once the stream has ended.
    """

    def __init__(
        self,
        run: Run,
        bounds: StreamBounds,
        loop: asyncio.AbstractEventLoop,
        *,
        is_events: bool = False,
        passes_tool_calls: bool = False,
    ) -> None:
        self.run = run
        self.is_events = is_events
        self.passes_tool_calls = passes_tool_calls
        self.result: Any = None
        self._bounds = bounds
        self._loop = loop
        self._chunks: deque[Any] = deque()
        self._bytes_in = 0  # written by the producer only
        self._bytes_out = 0  # written by the reader only
        self._is_ended = False
        self._error: GatewayError | HTTPException | None = None
        self._has_begun = False
        self._silence: asyncio.TimerHandle | None = None
        self._reader: asyncio.Future[None] | None = None
        self._is_waking = False
        self._blocked: deque[Callable[[], object]] = deque()
        run.on_cancel(self._wake_all)

    # The reader's side: the event loop.

    def __aiter__(self) -> AsyncIterator[list[Any]]:
        return self

    async def __anext__(self) -> list[Any]:
        await self._wait()
        if self.run.is_cancelled:
            raise cancellation_error(self.run)
        if not self._chunks:
            if self._error is not None:
                raise self._error
            raise StopAsyncIteration
        batch = [self._chunks.popleft() for _ in range(len(self._chunks))]
        self._bytes_out += sum(map(_weigh, batch))
        self._make_room()
        return batch

    async def wait_for_first(self, timeout_s: float) -> None:
        """Return when a chunk or the end is there, or after `timeout_s`. Raises an error that came before any chunk."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._wait()
        except TimeoutError:
            return
        if not self._chunks and self._error is not None:
            raise self._error
        if self.run.is_cancelled:
            raise cancellation_error(self.run)

    def close(self) -> None:
        """The reader leaves: what still produces is stopped at its next chunk."""
        self._heed_silence(None)
        if not self._is_ended:
            self.run.cancel("disconnect")

    async def _wait(self) -> None:
        if not (self._chunks or self._is_ended) and self._silence is None:
            bounds = self._bounds
            self._heed_silence(bounds.idle_chunk_timeout_s if self._has_begun else bounds.first_chunk_timeout_s)
        while not (self._chunks or self._is_ended or self.run.is_cancelled):
            self._reader = self._loop.create_future()
            if self._chunks or self._is_ended:  # it came before the producer could see the reader wait
                break
            await self._reader
        self._has_begun = True
        self._heed_silence(None)

    def _heed_silence(self, timeout_s: float | None) -> None:
        if self._silence is not None:
            self._silence.cancel()
        self._silence = None if timeout_s is None else self._loop.call_later(timeout_s, self.run.cancel, "timeout")

    def _wake_all(self) -> None:
        self._wake_reader()
        self._make_room()

    def _make_room(self) -> None:
        for _ in range(len(self._blocked)):  # not those who come back meanwhile: they have seen what there is
            self._blocked.popleft()()

    def _wake_reader(self) -> None:
        self._is_waking = False
        reader, self._reader = self._reader, None
        if reader is not None and not reader.done():
            reader.set_result(None)

    # The producer's side. A pipeline may push from several of its threads at once.

    @property
    def _is_full(self) -> bool:
        return len(self._chunks) >= self._bounds.chunks or self._bytes_in - self._bytes_out >= self._bounds.bytes

    @property
    def _is_over(self) -> bool:
        return self._is_ended or self.run.is_cancelled

    def push(self, chunk: Any) -> None:
        """From a thread: append, waiting while the buffer is full. Raises `RunCancelled`.

        On the event loop itself it must not wait: past the bound it cancels the run instead.
        """
        self._append(chunk)
        if asyncio._get_running_loop() is self._loop:
            self._wake_reader()
            if self._is_full:
                self.run.cancel("overflow")
        else:
            if self._reader is not None and not self._is_waking:
                self._is_waking = True
                self._call_loop(self._wake_reader)
            while self._is_full and not self._is_over:
                room = threading.Event()
                self._blocked.append(room.set)
                if self._is_full and not self._is_over:  # else it was made before this could be seen to wait
                    room.wait()
        self._raise_if_over()

    async def push_async(self, chunk: Any) -> None:
        """From a task on the loop: append, waiting while the buffer is full. Raises `RunCancelled`."""
        self._append(chunk)
        self._wake_reader()
        while self._is_full and not self._is_over:
            room: asyncio.Future[None] = self._loop.create_future()
            self._blocked.append(lambda room=room: room.done() or room.set_result(None))  # type: ignore[misc]
            await room
        self._raise_if_over()

    def _append(self, chunk: Any) -> None:
        self._raise_if_over()
        weight = _weigh(chunk)  # not in the sum below: threads change at a call, between its reading and its writing
        self._chunks.append(chunk)
        self._bytes_in += weight

    def _raise_if_over(self) -> None:
        self.run.raise_if_cancelled()
        if self._is_ended:  # a thread that outlives its source
            raise RunCancelled("disconnect")

    def _call_loop(self, callback: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:  # the loop has been closed under a thread that was stuck
            raise RunCancelled("shutdown") from None

    def produce(self, source: Iterable[Any] | StreamSource) -> None:
        """On a thread: push all that `source` gives, close it, keep how it ended. Does not raise."""
        try:
            if hasattr(source, "feed"):
                self.result = source.feed(self)
            else:
                self._drain(iter(source))
        except BaseException as error:
            self._keep(error)
        self._is_ended = True
        with suppress(RunCancelled):
            self._call_loop(self._wake_all)

    async def produce_async(self, source: AsyncIterable[Any] | StreamSource) -> None:
        """In a task: push all that `source` gives, close it, keep how it ended. Does not raise."""
        try:
            if hasattr(source, "feed"):
                self.result = await source.feed(self)
            else:
                await self._drain_async(aiter(source))
        except BaseException as error:
            self._keep(error)
        self._is_ended = True
        self._wake_all()

    def _drain(self, iterator: Iterator[Any]) -> None:
        try:
            self.run.raise_if_cancelled()
            for chunk in iterator:
                self.push(chunk)
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    async def _drain_async(self, iterator: AsyncIterator[Any]) -> None:
        try:
            self.run.raise_if_cancelled()
            async for chunk in iterator:
                await self.push_async(chunk)
        finally:
            close = getattr(iterator, "aclose", None)
            if close is not None:
                await close()

    def _keep(self, error: BaseException) -> None:
        if not self.run.is_cancelled:
            self._error = wrapper_error(self.run, error)
        elif not isinstance(error, RunCancelled | asyncio.CancelledError):
            log.warning("the wrapper raised while its stream was being closed", exc_info=error)


def find_stream(result: Any) -> tuple[Any, bool, bool] | None:
    """What in a wrapper's result streams: `(source, is_async, is_events)`, None when nothing does."""
    is_events = isinstance(result, SSEStream)
    source = result.stream if isinstance(result, SSEStream) else result
    if hasattr(source, "feed") and hasattr(source, "is_async"):  # a `StreamSource`
        return source, source.is_async, is_events
    if hasattr(source, "__anext__"):
        return source, True, is_events
    if hasattr(source, "__next__"):
        return source, False, is_events
    if is_events:
        raise TypeError(f"SSEStream takes a generator, sync or async, not {type(source).__name__}")
    return None


def _weigh(chunk: Any) -> int:
    return len(chunk) if isinstance(chunk, (str, bytes)) else NOMINAL_BYTES  # a union would be built at each call
