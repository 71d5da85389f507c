"""A Haystack pipeline or agent as a stream of its chunks.

What the helpers return iterates anywhere; the gateway recognises it (`StreamSource`) and runs it directly, so that the
callback puts each chunk into the stream's own buffer. Cancelled, a pipeline is left at its next chunk.
"""

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

from gateway.errors import WrapperRaised
from gateway.run import Run, RunCancelled, Sink
from gateway.stream import Stream, StreamBounds

Components = Sequence[str] | Literal["all"] | None
_BUFFER_CHUNKS = 256
_BUFFER_BYTES = 256 * 1024
_CALLBACK = "streaming_callback"


def streaming_generator(
    pipeline: Any,
    *,
    pipeline_run_args: Mapping[str, Any] | None = None,
    streaming_components: Components = None,
) -> "SyncSource":
    """Run a pipeline or an agent; iterate over its `StreamingChunk`s.

    `pipeline_run_args`: the `data` of `Pipeline.run`, or the keyword arguments of `Agent.run`.
    `streaming_components`: the names of the components that stream, `"all"` that can, None: the last that can.
    Raises ValueError for a name that is not there or cannot stream.
    """
    return SyncSource(pipeline, dict(pipeline_run_args or {}), streaming_components)


def async_streaming_generator(
    pipeline: Any,
    *,
    pipeline_run_args: Mapping[str, Any] | None = None,
    streaming_components: Components = None,
) -> "AsyncSource":
    """As `streaming_generator`, through `run_async`; components that are not async run on threads."""
    return AsyncSource(pipeline, dict(pipeline_run_args or {}), streaming_components)


class SyncSource:
    """The chunks of `run`."""

    is_async = False

    def __init__(self, pipeline: Any, arguments: dict[str, Any], components: Components) -> None:
        self._pipeline = pipeline
        self._arguments = arguments
        self._names = _choose(pipeline, components)
        self._iterator: Iterator[Any] | None = None

    def feed(self, sink: Sink) -> None:
        self._pipeline.run(
            **_keywords(self._pipeline, self._arguments, self._names, lambda _: lambda chunk: sink.push(chunk))
        )

    def __iter__(self) -> Iterator[Any]:
        return _ThreadSink().read(self.feed)

    def __next__(self) -> Any:
        self._iterator = self._iterator or iter(self)
        return next(self._iterator)


class AsyncSource:
    """The chunks of `run_async`."""

    is_async = True

    def __init__(self, pipeline: Any, arguments: dict[str, Any], components: Components) -> None:
        self._pipeline = pipeline
        self._arguments = arguments
        self._names = _choose(pipeline, components)
        self._iterator: AsyncIterator[Any] | None = None

    async def feed(self, sink: Sink) -> None:
        def callback(component: Any) -> Callable[[Any], Any]:
            async def push_async(chunk: Any) -> None:
                await sink.push_async(chunk)

            return push_async if hasattr(component, "run_async") else lambda chunk: sink.push(chunk)

        await self._pipeline.run_async(**_keywords(self._pipeline, self._arguments, self._names, callback))

    def __aiter__(self) -> AsyncIterator[Any]:
        return _read_task(self)

    async def __anext__(self) -> Any:
        self._iterator = self._iterator or aiter(self)
        return await anext(self._iterator)


def _choose(pipeline: Any, components: Components) -> list[str] | None:
    """The names of the components that are to stream; None for an agent."""
    if not hasattr(pipeline, "walk"):
        return None
    inputs = pipeline.inputs(include_components_with_connected_inputs=True)
    capable = [name for name, _ in pipeline.walk() if _CALLBACK in inputs.get(name, {})]
    if components is None:
        return capable[-1:]
    if components == "all":
        return capable
    if unfit := [name for name in components if name not in capable]:
        raise ValueError(f"these components are not there or cannot stream: {unfit}; these can: {capable}")
    return list(components)


def _keywords(
    pipeline: Any, arguments: dict[str, Any], names: list[str] | None, callback: Callable[[Any], Callable[[Any], Any]]
) -> dict[str, Any]:
    """The keyword arguments of `run` with the callback in its places; the component objects stay untouched.

    Haystack copies its inputs deeply: a function is taken as it is, a bound method would drag its object along.
    """
    if names is None:
        return {**arguments, _CALLBACK: callback(pipeline)}
    data: dict[str, Any] = {}
    if all(isinstance(value, Mapping) for value in arguments.values()):
        data = {name: dict(value) for name, value in arguments.items()}
    else:  # the flat form: each input by its name alone
        for name, inputs in pipeline.inputs().items():
            data[name] = {key: arguments[key] for key in inputs if key in arguments}
    for name in names:
        data.setdefault(name, {})[_CALLBACK] = callback(pipeline.get_component(name))
    return {"data": data}


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
        threading.Thread(target=self._run, args=(feed,), daemon=True).start()
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


async def _read_task(source: AsyncSource) -> AsyncIterator[Any]:
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
