"""A Haystack pipeline or agent as a stream of its chunks.

What the helpers return iterates anywhere; the gateway recognises it (`StreamSource`) and runs it directly, so that the
callback puts each chunk into the stream's own buffer. Cancelled, a pipeline is left at its next chunk.
"""

import asyncio
import json
import queue
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Literal

from gateway.haystack.bridge import iterate, iterate_async, pump, pump_async
from gateway.run import Sink
from gateway.telemetry.log import log

Components = Sequence[str] | Literal["all"] | None
Chunks = Any  # what a callback gives: None, one chunk (a text, an event), or a list of them
_CALLBACK = "streaming_callback"


def streaming_generator(
    pipeline: Any,
    *,
    pipeline_run_args: Mapping[str, Any] | None = None,
    on_tool_call_start: Callable[[str, dict[str, Any], str | None], Chunks] | None = None,
    on_tool_call_end: Callable[[str, dict[str, Any], str, bool], Chunks] | None = None,
    on_reasoning: Callable[[str, dict[str, Any] | None], Chunks] | None = None,
    on_pipeline_end: Callable[[Any], str | None] | None = None,
    streaming_components: Components = None,
    include_outputs_from: Iterable[str] | None = None,
    external_event_queue: "queue.Queue[Any] | None" = None,
    pass_tool_calls: bool | None = None,
) -> "SyncSource":
    """Run a pipeline or an agent; iterate over its `StreamingChunk`s, and what the callbacks add before each.

    `pipeline_run_args`: the `data` of `Pipeline.run`, or the keyword arguments of `Agent.run`.
    `on_tool_call_start(name, arguments, id)`, `on_tool_call_end(name, arguments, result, is_error)`,
    `on_reasoning(text, extra)`: give None, a chunk or a list of chunks. `on_pipeline_end(result)`: gives a last text.
    One that raises is logged, and the stream goes on.
    `streaming_components`: the names of the components that stream, `"all"` that can, None: the last that can.
    `include_outputs_from`: as in `Pipeline.run`, for `on_pipeline_end`.
    `external_event_queue`: what is put there during the run is a chunk of the stream too.
    `pass_tool_calls`: whether calls are the client's to answer, so that it gets them as they come. None: they are when
    nothing in the pipeline takes the replies of what streams; else they are held back until it is clear.
    Raises ValueError for a name that is not there or cannot stream.
    """
    callbacks = _Callbacks(on_tool_call_start, on_tool_call_end, on_reasoning, on_pipeline_end)
    job = _Job(pipeline, pipeline_run_args, callbacks, streaming_components, include_outputs_from)
    return SyncSource(job, external_event_queue, pass_tool_calls)


def async_streaming_generator(
    pipeline: Any,
    *,
    pipeline_run_args: Mapping[str, Any] | None = None,
    on_tool_call_start: Callable[[str, dict[str, Any], str | None], Chunks] | None = None,
    on_tool_call_end: Callable[[str, dict[str, Any], str, bool], Chunks] | None = None,
    on_reasoning: Callable[[str, dict[str, Any] | None], Chunks] | None = None,
    on_pipeline_end: Callable[[Any], str | None] | None = None,
    streaming_components: Components = None,
    include_outputs_from: Iterable[str] | None = None,
    allow_sync_streaming_callbacks: bool = True,
    external_event_queue: "asyncio.Queue[Any] | None" = None,
    pass_tool_calls: bool | None = None,
) -> "AsyncSource":
    """As `streaming_generator`, through `run_async`; components that are not async run on threads.

    `allow_sync_streaming_callbacks` is Hayhooks': such components always stream here, whatever it says.
    """
    callbacks = _Callbacks(on_tool_call_start, on_tool_call_end, on_reasoning, on_pipeline_end)
    job = _Job(pipeline, pipeline_run_args, callbacks, streaming_components, include_outputs_from)
    return AsyncSource(job, external_event_queue, pass_tool_calls)


class SyncSource:
    """The chunks of `run`."""

    is_async = False

    def __init__(self, job: "_Job", events: "queue.Queue[Any] | None", passes_tool_calls: bool | None) -> None:
        self._job = job
        self._events = events
        self._iterator: Iterator[Any] | None = None
        self.passes_tool_calls = job.replies_leave if passes_tool_calls is None else passes_tool_calls

    def feed(self, sink: Sink) -> Any:
        job, expand = self._job, self._job.callbacks.expand

        def callback(_component: Any) -> Callable[[Any], Any]:
            def push(chunk: Any) -> None:
                for one in expand(chunk):
                    sink.push(one)

            return push

        with pump(self._events, sink):
            result = job.pipeline.run(**job.keywords(callback))
        for chunk in job.end(result):
            sink.push(chunk)
        return job.arrange(result)

    def __iter__(self) -> Iterator[Any]:
        if self._iterator is None:  # over a copy: the run must not keep alive what ends it when nobody holds it
            self._iterator = iterate(copy(self).feed)
        return self._iterator

    def __next__(self) -> Any:
        return next(iter(self))

    def close(self) -> None:
        """Ends the run at its next chunk."""
        iter(self).close()  # type: ignore[attr-defined]


class AsyncSource:
    """The chunks of `run_async`."""

    is_async = True

    def __init__(self, job: "_Job", events: "asyncio.Queue[Any] | None", passes_tool_calls: bool | None) -> None:
        self._job = job
        self._events = events
        self._iterator: AsyncIterator[Any] | None = None
        self.passes_tool_calls = job.replies_leave if passes_tool_calls is None else passes_tool_calls

    async def feed(self, sink: Sink) -> Any:
        job, expand = self._job, self._job.callbacks.expand

        def callback(component: Any) -> Callable[[Any], Any]:
            async def push_async(chunk: Any) -> None:
                for one in expand(chunk):
                    await sink.push_async(one)

            def push(chunk: Any) -> Any:
                if asyncio._get_running_loop() is not None:  # an agent's tool result: Haystack awaits what this gives
                    return push_async(chunk)
                for one in expand(chunk):
                    sink.push(one)
                return None

            return push_async if _is_async(component) else push

        async with pump_async(self._events, sink):
            result = await job.pipeline.run_async(**job.keywords(callback))
        for chunk in job.end(result):
            await sink.push_async(chunk)
        return job.arrange(result)

    def __aiter__(self) -> AsyncIterator[Any]:
        if self._iterator is None:
            self._iterator = iterate_async(copy(self))
        return self._iterator

    async def __anext__(self) -> Any:
        return await anext(aiter(self))

    async def aclose(self) -> None:
        """Ends the run."""
        await aiter(self).aclose()  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class _Callbacks:
    """The wrapper's own; each may add chunks, and none may break the stream."""

    on_tool_call_start: Callable[..., Chunks] | None
    on_tool_call_end: Callable[..., Chunks] | None
    on_reasoning: Callable[..., Chunks] | None
    on_pipeline_end: Callable[..., Chunks] | None

    def expand(self, chunk: Any) -> Iterable[Any]:
        """The chunk, and before it what the callbacks make of it."""
        chunks: list[Any] = []
        if self.on_tool_call_start is not None:
            for call in getattr(chunk, "tool_calls", None) or ():
                if call.tool_name:
                    arguments = _parse_arguments(call.arguments)
                    chunks += self._call("on_tool_call_start", call.tool_name, arguments, call.id)
        answer = getattr(chunk, "tool_call_result", None)
        if self.on_tool_call_end is not None and answer is not None:
            text = answer.result if isinstance(answer.result, str) else str(answer.result)
            origin = answer.origin
            chunks += self._call("on_tool_call_end", origin.tool_name, origin.arguments, text, bool(answer.error))
        reasoning = getattr(chunk, "reasoning", None)
        if self.on_reasoning is not None and reasoning is not None:
            chunks += self._call("on_reasoning", reasoning.reasoning_text, reasoning.extra)
        chunks.append(chunk)
        return chunks

    def end(self, result: Any) -> list[Any]:
        from haystack.dataclasses import StreamingChunk  # there since the pipeline; this module must not bring it

        given = [] if self.on_pipeline_end is None else self._call("on_pipeline_end", result)
        return [StreamingChunk(one) if isinstance(one, str) else one for one in given]

    def _call(self, name: str, *arguments: Any) -> list[Any]:
        try:
            given = getattr(self, name)(*arguments)
        except Exception:  # the wrapper's own code
            log.exception("a callback of a stream raised", callback=name)
            return []
        if not given:
            return []
        return given if isinstance(given, list) else [given]


class _Job:
    """A pipeline or agent, what it is run with, and how its result is read."""

    def __init__(
        self,
        pipeline: Any,
        arguments: Mapping[str, Any] | None,
        callbacks: _Callbacks,
        components: Components,
        outputs: Iterable[str] | None,
    ) -> None:
        self.pipeline = pipeline
        self.callbacks = callbacks
        self._arguments = dict(arguments or {})
        self._names = _choose(pipeline, components)
        self._asked = set(outputs or ())
        self._leaving: dict[str, dict[str, Any]] = {} if self._names is None else pipeline.outputs()

    @property
    def replies_leave(self) -> bool:
        """Whether all that streams gives its replies to nobody but the caller."""
        return bool(self._names) and all("replies" in self._leaving.get(name, ()) for name in self._names or ())

    def keywords(self, callback: Callable[[Any], Callable[[Any], Any]]) -> dict[str, Any]:
        """The keyword arguments of `run` with the callback in its places; the component objects stay untouched.

        The outputs of every generator are asked for: they hold the token counts.
        """
        if self._names is None:
            return {**self._arguments, _CALLBACK: callback(self.pipeline)}
        outputs = self.pipeline.outputs(include_components_with_connected_outputs=True)
        counting = {name for name, sockets in outputs.items() if "replies" in sockets or "last_message" in sockets}
        return {"data": self._data(callback), "include_outputs_from": self._asked | counting}

    def end(self, result: Any) -> list[Any]:
        return self.callbacks.end(self._visible(result))

    def arrange(self, result: Any) -> Any:
        """The whole result; last in it, where a reply is looked for, what the pipeline itself gives out."""
        if self._names is None:
            return result
        visible = self._visible(result)
        return dict(sorted(result.items(), key=lambda item: item[0] in visible))

    def _visible(self, result: Any) -> Any:
        """The result without what only `keywords` has asked for."""
        if self._names is None:
            return result
        visible = {}
        for name, outputs in result.items():
            keys = outputs if name in self._asked else self._leaving.get(name, ())
            if shown := {key: outputs[key] for key in outputs if key in keys}:
                visible[name] = shown
        return visible

    def _data(self, callback: Callable[[Any], Callable[[Any], Any]]) -> dict[str, Any]:
        """Haystack copies its inputs deeply: a function is taken as it is, a bound method would drag its object."""
        arguments, data = self._arguments, dict[str, Any]()
        if all(isinstance(value, Mapping) for value in arguments.values()):
            data = {name: dict(value) for name, value in arguments.items()}
        else:  # the flat form: each input by its name alone
            for name, inputs in self.pipeline.inputs().items():
                data[name] = {key: arguments[key] for key in inputs if key in arguments}
        for name in self._names or ():
            data.setdefault(name, {})[_CALLBACK] = callback(self.pipeline.get_component(name))
        return data


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
    components = [components] if isinstance(components, str) else components
    if unfit := [name for name in components if name not in capable]:
        raise ValueError(f"these components are not there or cannot stream: {unfit}; these can: {capable}")
    return list(components)


def _is_async(component: Any) -> bool:
    """An agent is as async as its generator."""
    return hasattr(component, "run_async") and hasattr(getattr(component, "chat_generator", component), "run_async")


def _parse_arguments(text: str | None) -> dict[str, Any]:
    """A whole JSON object; `{}` for the first piece of one."""
    try:
        arguments = json.loads(text or "")
    except ValueError:
        return {}
    return arguments if isinstance(arguments, dict) else {}
