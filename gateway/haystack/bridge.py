"""Between a run of Haystack and what is not the gateway's own stream: plain iteration, and queues of the wrapper's."""

import asyncio
import contextvars
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

from gateway.errors import WrapperRaised
from gateway.run import Run, RunCancelled, Sink, StreamSource
from gateway.stream import Stream, StreamBounds

_BUFFER_CHUNKS = 256
_BUFFER_BYTES = 256 * 1024
_CLOSING_S = 0.1  # between two tries to end a full queue that somebody else is to empty


def iterate(feed: Callable[[Sink], Any]) -> Iterator[Any]:
    """The chunks of a sync run, which goes on a thread of its own."""
    return _ThreadSink().read(feed)


async def iterate_async(source: StreamSource) -> AsyncIterator[Any]:
    """For iteration outside of the gateway, or of a wrapper that changes the chunks: the run in a task."""
    loop, run = asyncio.get_running_loop(), Run("", "")
    stream = Stream(run, StreamBounds(_BUFFER_CHUNKS, _BUFFER_BYTES), loop, is_events=False)
    run.on_cancel(loop.create_task(stream.produce_async(source)).cancel)
    raised: BaseException | None = None
    try:
        async for batch in stream:
            for chunk in batch:
                yield chunk
    except WrapperRaised as error:
        raised = error.__cause__ or error
    finally:
        stream.close()
    if raised is not None:
        raise raised


@contextmanager
def pump(events: "queue.Queue[Any] | None", sink: Sink) -> Iterator[None]:
    """Inside of it, what is put into `events` goes to the sink; all of it has gone there when it is left."""
    if events is None:
        yield
        return
    end = _End()

    def forward() -> None:
        is_read = True
        while (event := events.get()) is not end:
            try:
                if is_read:
                    sink.push(event)
            except RunCancelled:  # the queue is emptied on, so that nobody in the run waits for room for ever
                is_read = False

    thread = threading.Thread(target=contextvars.copy_context().run, args=(forward,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        while thread.is_alive():
            with suppress(queue.Full):
                events.put(end, timeout=_CLOSING_S)
                break
        thread.join()


@asynccontextmanager
async def pump_async(events: "asyncio.Queue[Any] | None", sink: Sink) -> AsyncIterator[None]:
    if events is None:
        yield
        return

    async def forward() -> None:
        while True:
            await sink.push_async(await events.get())

    pumping = asyncio.ensure_future(forward())
    try:
        yield
        pumping.cancel()  # it is not in the middle of a push that is heeded: what it holds it has put into the buffer
        await asyncio.wait({pumping})
        while not events.empty():
            await sink.push_async(events.get_nowait())
    finally:
        pumping.cancel()
        await asyncio.wait({pumping})
        if not pumping.cancelled():
            pumping.exception()  # the reader has left


class _End:
    """Ends a queue: `error` is what the run raised."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class _ThreadSink:
    """For iteration outside of the gateway: the run on a thread, a bounded queue between."""

    def __init__(self) -> None:
        self._chunks: queue.Queue[Any] = queue.Queue(_BUFFER_CHUNKS)
        self._is_closed = False

    def push(self, chunk: Any) -> None:
        if self._is_closed:
            raise RunCancelled("disconnect")
        self._chunks.put(chunk)

    async def push_async(self, chunk: Any) -> None:
        raise NotImplementedError("a sync run has no async callback")

    def read(self, feed: Callable[[Sink], None]) -> Iterator[Any]:
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self._run, feed), daemon=True).start()
        try:
            while not isinstance(chunk := self._chunks.get(), _End):
                yield chunk
            if chunk.error is not None:
                raise chunk.error
        finally:
            self._is_closed = True
            while not self._chunks.empty():  # lets a thread go on that waits for room
                self._chunks.get_nowait()

    def _run(self, feed: Callable[[Sink], None]) -> None:
        end = _End()
        try:
            feed(self)
        except BaseException as error:
            end.error = error
        self._chunks.put(end)
