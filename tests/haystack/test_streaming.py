"""The streaming helpers: iterated by themselves, and run by the gateway."""

import asyncio
import gc
import json
import queue
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import aclosing, closing, suppress
from typing import Any, NoReturn

import pytest
import requests
from haystack import Pipeline, component
from haystack.components.agents import Agent
from haystack.components.builders import ChatPromptBuilder
from haystack.components.generators.chat import MockChatGenerator
from haystack.core.errors import PipelineRuntimeError
from haystack.dataclasses import ChatMessage, ReasoningContent, StreamingChunk, ToolCall, ToolCallResult
from haystack.dataclasses.streaming_chunk import ToolCallDelta
from haystack.tools import create_tool_from_function
from structlog.testing import capture_logs

from gateway.events import create_status_event
from gateway.haystack.streaming import async_streaming_generator, streaming_generator
from gateway.protocols.delta import Usage
from gateway.protocols.reader import Reader
from gateway.run import RunCancelled, current_run
from tests import probe as probes
from tests.conftest import Serve
from tests.gateways import Gateway
from tests.probe import Probe, eventually
from tests.wire import Connection, connect, read_events

WAIT_S = 10.0


@pytest.fixture
def probe() -> Iterator[Probe]:
    yield probes.renew()
    probes.renew()


@component
class Ticker:
    """Streams `count` chunks on the thread that runs it, then waits for the probe if it is told to."""

    def __init__(self, name: str, probe: Probe | None = None) -> None:
        self.name = name
        self.probe = probe

    @component.output_types(done=str)
    def run(self, count: int = 3, streaming_callback: Any = None) -> dict[str, Any]:
        return tick(self, count, streaming_callback)


@component
class AsyncTicker:
    """The same, on the event loop."""

    def __init__(self, name: str, probe: Probe | None = None) -> None:
        self.name = name
        self.probe = probe

    @component.output_types(done=str)
    def run(self, count: int = 3, streaming_callback: Any = None) -> dict[str, Any]:
        return tick(self, count, streaming_callback)

    @component.output_types(done=str)
    async def run_async(self, count: int = 3, streaming_callback: Any = None) -> dict[str, Any]:
        try:
            for number in range(count):
                if streaming_callback:
                    await streaming_callback(StreamingChunk(content=f"{self.name}{number} "))
                note(self.probe, "ticked")
        except BaseException as error:
            note_error(self.probe, error)
            raise
        return {"done": self.name}


def tick(ticker: Any, count: int, streaming_callback: Any) -> dict[str, Any]:
    try:
        for number in range(count):
            if streaming_callback:
                streaming_callback(StreamingChunk(content=f"{ticker.name}{number} "))
            note(ticker.probe, "ticked")
    except BaseException as error:
        note_error(ticker.probe, error)
        raise
    return {"done": ticker.name}


def note(probe: Probe | None, what: str) -> None:
    if probe is not None:
        probe.set(what)


def note_error(probe: Probe | None, error: BaseException) -> None:
    if probe is not None:
        probe.note(type(error).__name__)
        probe.set("left")


def chat(*, reply: str = "one two three") -> Pipeline:
    pipeline = Pipeline()
    template = [ChatMessage.from_user("{{ query }}")]
    pipeline.add_component("prompt", ChatPromptBuilder(template=template, required_variables="*"))
    pipeline.add_component("llm", MockChatGenerator(responses=[reply]))
    pipeline.connect("prompt", "llm")
    return pipeline


def beside(*tickers: Any) -> Pipeline:
    """Components that do not wait for each other."""
    pipeline = Pipeline()
    for ticker in tickers:
        pipeline.add_component(ticker.name, ticker)
    return pipeline


@component
class SyncOnly:
    """A generator that cannot run on the event loop, as some integrations have them."""

    def __init__(self, answer: Any) -> None:
        self.mock = MockChatGenerator(response_fn=answer)

    @component.output_types(replies=list[ChatMessage])
    def run(self, messages: list[ChatMessage], streaming_callback: Any = None, tools: Any = None) -> dict[str, Any]:
        return self.mock.run(messages, streaming_callback, tools=tools)


def agent(*, is_async: bool = True, answer: str = "the sum is") -> Agent:
    def add(a: int, b: int) -> str:
        """Add two numbers."""
        return str(a + b)

    def reply(messages: list[ChatMessage]) -> str | ChatMessage:
        last = messages[-1]
        if last.tool_call_result is not None:
            return f"{answer} {last.tool_call_result.result}"
        return ChatMessage.from_assistant(tool_calls=[ToolCall("add", {"a": 2, "b": 3})])

    generator = MockChatGenerator(response_fn=reply) if is_async else SyncOnly(reply)
    return Agent(chat_generator=generator, tools=[create_tool_from_function(add)], max_agent_steps=4)


SUM = {"messages": [ChatMessage.from_user("2 + 3")]}


@component
class Script:
    """Streams these chunks, then gives a reply."""

    def __init__(self, *chunks: StreamingChunk) -> None:
        self.chunks = chunks

    @component.output_types(replies=list[ChatMessage])
    def run(self, streaming_callback: Any = None) -> dict[str, Any]:
        for chunk in self.chunks if streaming_callback else ():
            streaming_callback(chunk)
        return {"replies": [ChatMessage.from_assistant("done")]}


def script(*chunks: StreamingChunk) -> Pipeline:
    pipeline = Pipeline()
    pipeline.add_component("script", Script(*chunks))
    return pipeline


def call(name: str | None, arguments: str | None, call_id: str | None = "c1") -> StreamingChunk:
    delta = ToolCallDelta(index=0, tool_name=name, arguments=arguments, id=call_id)
    return StreamingChunk("", index=0, tool_calls=[delta])


def result(given: Any, *, error: bool = False) -> StreamingChunk:
    origin = ToolCall("add", {"a": 2}, id="c1")
    return StreamingChunk("", index=0, tool_call_result=ToolCallResult(result=given, origin=origin, error=error))


def thought(text: str, **extra: Any) -> StreamingChunk:
    return StreamingChunk("", index=0, reasoning=ReasoningContent(text, extra))


def chain() -> Pipeline:
    """Two generators, the second fed by the first, each with its own words."""
    pipeline = chat(reply="one two")
    pipeline.add_component("second", MockChatGenerator(responses=["three four five"]))
    pipeline.connect("llm.replies", "second.messages")
    return pipeline


HELPERS = {"sync": streaming_generator, "async": async_streaming_generator}
both = pytest.mark.parametrize("kind", ["sync", "async"])
tickers = pytest.mark.parametrize("ticker", [Ticker, AsyncTicker])


def read(kind: str, *arguments: Any, **keywords: Any) -> list[Any]:
    """The chunks of a helper, iterated outside of the gateway."""

    async def iterate() -> list[Any]:
        async with asyncio.timeout(WAIT_S):
            return [chunk async for chunk in async_streaming_generator(*arguments, **keywords)]

    return asyncio.run(iterate()) if kind == "async" else list(streaming_generator(*arguments, **keywords))


def run_apart(main: Coroutine[Any, Any, Any]) -> list[Any]:
    """The result, on a loop of its own: `asyncio.run` would wait for a thread that is not stopped."""
    results: list[Any] = []

    def run() -> None:
        with suppress(TimeoutError):
            results.append(asyncio.run(main))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(WAIT_S + 1)
    return results


def texts(chunks: list[Any]) -> list[str]:
    assert {type(chunk) for chunk in chunks} <= {StreamingChunk}
    return [chunk.content for chunk in chunks]


# Outside of the gateway.


@both
def test_pipeline_streams_its_last_component(kind: str) -> None:
    chunks = read(kind, chat(), pipeline_run_args={"prompt": {"query": "hi"}})
    assert texts(chunks) == ["one ", "two ", "three"]
    assert chunks[-1].finish_reason == "stop"


@both
def test_pipeline_takes_flat_arguments(kind: str) -> None:
    assert texts(read(kind, chat(), pipeline_run_args={"query": "hi"})) == ["one ", "two ", "three"]


@both
def test_pipeline_runs_again_with_the_same_components(kind: str) -> None:
    pipeline = chat()
    for _ in range(3):
        assert texts(read(kind, pipeline, pipeline_run_args={"prompt": {"query": "hi"}})) == ["one ", "two ", "three"]
    assert pipeline.get_component("llm").streaming_callback is None
    assert pipeline.run({"prompt": {"query": "hi"}})["llm"]["replies"][0].text == "one two three"


@both
def test_arguments_of_the_caller_stay_untouched(kind: str) -> None:
    arguments = {"prompt": {"query": "hi"}, "llm": {"generation_kwargs": {}}}
    read(kind, chat(), pipeline_run_args=arguments)
    assert arguments == {"prompt": {"query": "hi"}, "llm": {"generation_kwargs": {}}}


@both
def test_agent_streams_calls_results_and_text(kind: str) -> None:
    chunks = read(kind, agent(), pipeline_run_args={"messages": [ChatMessage.from_user("2 + 3")]})
    calls = [call for chunk in chunks for call in chunk.tool_calls or []]
    results = [chunk.tool_call_result.result for chunk in chunks if chunk.tool_call_result]
    assert [(call.tool_name, json.loads(call.arguments or "")) for call in calls] == [("add", {"a": 2, "b": 3})]
    assert results == ["5"]
    assert "".join(chunk.content for chunk in chunks) == "the sum is 5"


@both
@tickers
@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("all", ["a0 ", "a1 ", "a2 ", "b0 ", "b1 ", "b2 "]),
        (["a", "b"], ["a0 ", "a1 ", "a2 ", "b0 ", "b1 ", "b2 "]),
        (["a"], ["a0 ", "a1 ", "a2 "]),
        (("b",), ["b0 ", "b1 ", "b2 "]),
        (None, ["b0 ", "b1 ", "b2 "]),
        ([], []),
    ],
)
def test_components_that_stream_are_chosen(kind: str, ticker: Any, chosen: Any, expected: list[str]) -> None:
    arguments = {"a": {"count": 3}, "b": {"count": 3}}
    chunks = texts(
        read(kind, beside(ticker("a"), ticker("b")), pipeline_run_args=arguments, streaming_components=chosen)
    )
    assert sorted(chunks) == expected
    for name in "ab":  # those of one component are in order
        own = [text for text in chunks if text[0] == name]
        assert own == sorted(own)


@pytest.mark.parametrize("helper", HELPERS.values())
@pytest.mark.parametrize("names", [["nobody"], ["llm", "prompt"]])
def test_unknown_component_is_refused_before_anything_runs(helper: Any, names: list[str]) -> None:
    unfit = [name for name in names if name != "llm"]
    with pytest.raises(ValueError, match="cannot stream") as caught:
        helper(chat(), streaming_components=names)
    assert str(caught.value) == f"these components are not there or cannot stream: {unfit}; these can: ['llm']"


def test_sync_and_async_components_of_one_async_pipeline_stream_together() -> None:
    arguments = {"a": {"count": 50}, "b": {"count": 50}}
    pipeline = beside(Ticker("a"), AsyncTicker("b"))
    chunks = texts(read("async", pipeline, pipeline_run_args=arguments, streaming_components="all"))
    for name in "ab":
        assert [text for text in chunks if text[0] == name] == [f"{name}{number} " for number in range(50)]


@both
@tickers
def test_many_chunks_are_exact(kind: str, ticker: Any) -> None:
    chunks = texts(read(kind, beside(ticker("a")), pipeline_run_args={"a": {"count": 5000}}))
    assert chunks == [f"a{number} " for number in range(5000)]


@component
class Failing:
    """Streams one chunk, then raises."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    @component.output_types(done=str)
    def run(self, streaming_callback: Any) -> dict[str, Any]:
        streaming_callback(StreamingChunk(content="first"))
        raise self.error


def failing(error: BaseException) -> Pipeline:
    pipeline = Pipeline()
    pipeline.add_component("fails", Failing(error))
    return pipeline


@both
def test_error_of_a_component_comes_after_its_chunks(kind: str) -> None:
    chunks: list[Any] = []

    async def iterate() -> None:
        async with asyncio.timeout(WAIT_S):
            async for chunk in async_streaming_generator(failing(ValueError("no"))):
                chunks.append(chunk)

    def iterate_sync() -> None:
        for chunk in streaming_generator(failing(ValueError("no"))):
            chunks.append(chunk)

    with pytest.raises(PipelineRuntimeError) as caught:
        asyncio.run(iterate()) if kind == "async" else iterate_sync()
    assert repr(caught.value.__cause__) == "ValueError('no')"
    assert texts(chunks) == ["first"]


@both
def test_run_cancelled_of_a_component_is_not_lost(kind: str) -> None:
    # A `BaseException`: whoever iterates must see it, not wait for ever.
    with pytest.raises(RunCancelled):
        read(kind, failing(RunCancelled("timeout")))


@both
def test_next_by_hand(kind: str) -> None:
    async def by_hand() -> list[str]:
        source = async_streaming_generator(chat(), pipeline_run_args={"query": "hi"})
        return [(await anext(source)).content for _ in range(3)] + [await anext(source, "end")]

    if kind == "async":
        assert asyncio.run(by_hand()) == ["one ", "two ", "three", "end"]
    else:
        source = streaming_generator(chat(), pipeline_run_args={"query": "hi"})
        assert [next(source).content for _ in range(3)] + [next(source, "end")] == ["one ", "two ", "three", "end"]


def test_abandoned_iteration_stops_the_pipelines_thread(probe: Probe) -> None:
    source = streaming_generator(beside(Ticker("a", probe)), pipeline_run_args={"a": {"count": 10**9}})
    iterator = iter(source)
    assert next(iterator).content == "a0 "
    del iterator, source
    gc.collect()
    probe.wait("left")
    assert probe.notes == ["RunCancelled"]
    assert probe.count("ticked") < 2000


def test_abandoned_source_stops_the_pipelines_thread(probe: Probe) -> None:
    source = streaming_generator(beside(Ticker("a", probe)), pipeline_run_args={"a": {"count": 10**9}})
    assert next(source).content == "a0 "
    del source
    gc.collect()
    probe.wait("left")
    assert probe.notes == ["RunCancelled"]


def test_slow_iteration_holds_the_pipeline_back(probe: Probe) -> None:
    iterator = iter(streaming_generator(beside(Ticker("a", probe)), pipeline_run_args={"a": {"count": 3000}}))
    assert next(iterator).content == "a0 "
    probe.wait("ticked", 256)
    assert probe.count("ticked") <= 258
    assert len(list(iterator)) == 2999


@tickers
def test_abandoned_async_iteration_stops_the_pipeline(probe: Probe, ticker: Any) -> None:
    async def main() -> Any:
        source = async_streaming_generator(beside(ticker("a", probe)), pipeline_run_args={"a": {"count": 10**9}})
        iterator = aiter(source)
        first = await anext(iterator)
        await iterator.aclose()  # type: ignore[attr-defined]
        await probe.until("left")
        return first.content

    assert run_apart(main()) == ["a0 "]
    assert probe.notes == ["RunCancelled"]


def test_slow_async_iteration_holds_the_pipeline_back(probe: Probe) -> None:
    async def main() -> Any:
        source = async_streaming_generator(beside(AsyncTicker("a", probe)), pipeline_run_args={"a": {"count": 3000}})
        iterator = aiter(source)
        await anext(iterator)
        await probe.until("ticked", 256)
        for _ in range(10):
            await asyncio.sleep(0)
        return probe.count("ticked"), len([chunk async for chunk in iterator])

    ticked, rest = asyncio.run(main())
    assert (ticked <= 2 * 258, rest) == (True, 2999)  # a batch in hand, and the next behind it


# The callbacks.


def keep(into: list[Any], given: Any = None) -> Callable[..., Any]:
    """A callback that notes what it is called with, and gives this; or raises it."""

    def callback(*arguments: Any) -> Any:
        into.append(arguments)
        if isinstance(given, BaseException):
            raise given
        return given

    return callback


STATUS = create_status_event("working")
GIVEN: dict[str, tuple[Any, list[Any]]] = {
    "nothing": (None, []),
    "a text": ("note", ["note"]),
    "an event": (STATUS, [STATUS]),
    "several": ([STATUS, "note"], [STATUS, "note"]),
    "an empty list": ([], []),
    "an empty text": ("", []),
}
CHUNKS = {
    "on_tool_call_start": (call("add", '{"a": 2}'), ("add", {"a": 2}, "c1")),
    "on_tool_call_end": (result("5"), ("add", {"a": 2}, "5", False)),
    "on_reasoning": (thought("hm", id="r1"), ("hm", {"id": "r1"})),
}
callbacks = pytest.mark.parametrize("name", CHUNKS)


@both
@callbacks
@pytest.mark.parametrize("case", GIVEN)
def test_callback_adds_before_the_chunk_what_it_gives(kind: str, name: str, case: str) -> None:
    (chunk, arguments), (given, added) = CHUNKS[name], GIVEN[case]
    pipeline, seen = script(StreamingChunk("first"), chunk, StreamingChunk("last")), list[Any]()
    keywords: dict[str, Any] = {name: keep(seen, given)}
    assert read(kind, pipeline, **keywords) == [StreamingChunk("first"), *added, chunk, StreamingChunk("last")]
    assert seen == [arguments]


@both
@callbacks
def test_callback_that_raises_is_logged_and_the_stream_goes_on(kind: str, name: str) -> None:
    chunk, _ = CHUNKS[name]
    keywords: dict[str, Any] = {name: keep([], ValueError("no"))}
    with capture_logs() as lines:
        assert read(kind, script(chunk, StreamingChunk("last")), **keywords) == [chunk, StreamingChunk("last")]
    told = [line for line in lines if line["log_level"] == "error"]
    assert [(line["event"], line["callback"], line["exc_info"]) for line in told] == [
        ("a callback of a stream raised", name, True)
    ]


@both
@callbacks
def test_callback_may_end_the_run(kind: str, name: str) -> None:
    chunk, _ = CHUNKS[name]
    keywords: dict[str, Any] = {name: keep([], RunCancelled("timeout"))}
    with pytest.raises(RunCancelled):
        read(kind, script(chunk), **keywords)


@both
def test_no_callback_is_called_for_other_chunks(kind: str) -> None:
    seen: list[Any] = []
    chunks = [StreamingChunk("text"), StreamingChunk("", finish_reason="stop")]
    keywords: dict[str, Any] = {name: keep(seen, "note") for name in CHUNKS}
    assert read(kind, script(*chunks), **keywords) == chunks
    assert seen == []


TOLD: dict[str, tuple[str, list[StreamingChunk], list[Any]]] = {
    "a call in pieces is told once": (
        "on_tool_call_start",
        [call("add", '{"a"'), call(None, ": 2}", None)],
        [("add", {}, "c1")],
    ),
    "a call without arguments": ("on_tool_call_start", [call("add", None)], [("add", {}, "c1")]),
    "arguments that are no object": ("on_tool_call_start", [call("add", "[1]")], [("add", {}, "c1")]),
    "a call without an id": ("on_tool_call_start", [call("add", "{}", None)], [("add", {}, None)]),
    "two calls in a chunk": (
        "on_tool_call_start",
        [
            StreamingChunk(
                "",
                index=0,
                tool_calls=[ToolCallDelta(0, "add", '{"a": 1}', "c1"), ToolCallDelta(1, "sub", "{}", "c2")],
            )
        ],
        [("add", {"a": 1}, "c1"), ("sub", {}, "c2")],
    ),
    "a result that is an error": (
        "on_tool_call_end",
        [result("no", error=True)],
        [("add", {"a": 2}, "no", True)],
    ),
    "a result that is no text": ("on_tool_call_end", [result([1])], [("add", {"a": 2}, "[1]", False)]),
    "an empty thought": ("on_reasoning", [thought("")], [("", {})]),
    "thoughts in pieces": ("on_reasoning", [thought("a"), thought("b")], [("a", {}), ("b", {})]),
}


@pytest.mark.parametrize("case", TOLD)
def test_callback_is_told(case: str) -> None:
    name, chunks, expected = TOLD[case]
    seen: list[Any] = []
    keywords: dict[str, Any] = {name: keep(seen)}
    assert read("sync", script(*chunks), **keywords) == chunks
    assert seen == expected


@both
def test_callbacks_of_an_agent(kind: str) -> None:
    seen: list[Any] = []
    chunks = read(
        kind,
        agent(),
        pipeline_run_args=SUM,
        on_tool_call_start=keep(seen, "start "),
        on_tool_call_end=keep(seen, "end "),
        on_pipeline_end=lambda result: f" in {result['step_count']} steps",
    )
    assert seen == [("add", {"a": 2, "b": 3}, None), ("add", {"a": 2, "b": 3}, "5", False)]
    assert "".join(getattr(chunk, "content", chunk) for chunk in chunks) == "start end the sum is 5 in 2 steps"


OUTPUTS: dict[str, Any] = {
    "None": None,
    "a set": {"prompt"},
    "a list": ["prompt", "llm"],
    "what is given out anyway": {"second"},
    "nothing": set(),
}


@both
@pytest.mark.parametrize("outputs", OUTPUTS)
@pytest.mark.parametrize("make", [chat, chain])
def test_on_pipeline_end_sees_what_the_pipeline_gives_without_streaming(kind: str, make: Any, outputs: str) -> None:
    asked, data, seen = OUTPUTS[outputs], {"prompt": {"query": "hi"}}, list[Any]()
    asked = asked and [name for name in asked if name in dict(make().walk())]
    read(kind, make(), pipeline_run_args=data, include_outputs_from=asked, on_pipeline_end=keep(seen))
    expected = make().run(data, include_outputs_from=None if asked is None else set(asked))
    assert seen == [(expected,)]


@both
def test_on_pipeline_end_of_an_agent_sees_its_result(kind: str) -> None:
    seen: list[Any] = []
    read(kind, agent(), pipeline_run_args=SUM, on_pipeline_end=keep(seen))
    assert seen == [(agent().run(**SUM),)]


@both
def test_on_pipeline_end_adds_the_last_chunk(kind: str) -> None:
    # As Hayhooks does: a wrapper that iterates takes every text of the reply from `chunk.content`.
    chunks = read(kind, script(StreamingChunk("text")), on_pipeline_end=lambda _: "the end")
    assert chunks == [StreamingChunk("text"), StreamingChunk("the end")]


@both
@pytest.mark.parametrize("given", [None, "", ValueError("no")])
def test_on_pipeline_end_may_add_nothing(kind: str, given: Any) -> None:
    with capture_logs() as lines:
        chunks = read(kind, script(StreamingChunk("text")), on_pipeline_end=keep([], given))
    assert chunks == [StreamingChunk("text")]
    told = [line["callback"] for line in lines if line["log_level"] == "error"]
    assert told == (["on_pipeline_end"] if isinstance(given, ValueError) else [])


@both
def test_on_pipeline_end_is_not_called_when_the_pipeline_fails(kind: str) -> None:
    seen: list[Any] = []
    with pytest.raises(PipelineRuntimeError):
        read(kind, failing(ValueError("no")), on_pipeline_end=keep(seen))
    assert seen == []


# The result of a run.


class Gathering:
    """A sink that takes everything."""

    def __init__(self) -> None:
        self.chunks: list[Any] = []

    def push(self, chunk: Any) -> None:
        self.chunks.append(chunk)

    async def push_async(self, chunk: Any) -> None:
        self.chunks.append(chunk)


def feed(kind: str, *arguments: Any, **keywords: Any) -> Any:
    """The result of a run, as the gateway gets it."""
    if kind == "sync":
        return streaming_generator(*arguments, **keywords).feed(Gathering())
    return asyncio.run(async_streaming_generator(*arguments, **keywords).feed(Gathering()))


RESULTS: dict[str, tuple[Any, dict[str, Any], list[str], Usage]] = {
    "a pipeline": (chat, {"prompt": {"query": "hi"}}, ["one two three"], Usage(1, 3)),
    "two generators": (chain, {"prompt": {"query": "hi"}}, ["three four five"], Usage(1 + 2, 2 + 3)),
    "an agent": (agent, SUM, ["the sum is 5"], Usage(3 + 3, 0 + 4)),
}


@both
@pytest.mark.parametrize("case", RESULTS)
def test_result_of_a_run_holds_the_reply_and_the_tokens_of_every_generator(kind: str, case: str) -> None:
    make, arguments, texts, usage = RESULTS[case]
    reader = Reader()
    deltas = reader.end(feed(kind, make(), pipeline_run_args=arguments))
    assert ([delta.text for delta in deltas], reader.usage) == (texts, usage)  # type: ignore[union-attr]


# Tool calls that are the client's to answer.


def answered() -> Pipeline:
    """The replies of `llm` go to a component, which answers the calls in them."""
    pipeline = chat()
    pipeline.add_component("answers", ChatPromptBuilder(template=[ChatMessage.from_user("{{ replies }}")]))
    pipeline.connect("llm.replies", "answers.replies")
    return pipeline


def with_agent() -> Pipeline:
    pipeline = Pipeline()
    pipeline.add_component("agent", agent())
    return pipeline


def independent() -> Pipeline:
    """Replies of one generator leave, those of the other are taken."""
    pipeline = answered()
    pipeline.add_component("other", MockChatGenerator())
    return pipeline


PASSED: dict[str, tuple[Any, Any, bool]] = {
    "the last component": (chat, None, True),
    "the last of a chain": (chain, None, True),
    "one that feeds another": (chain, ["llm"], False),
    "all of a chain": (chain, "all", False),
    "one whose replies are taken": (answered, None, False),
    "the one whose replies leave": (independent, ["other"], True),
    "one of each": (independent, "all", False),
    "none": (chat, [], False),
    "an agent": (agent, None, False),
    "an agent in a pipeline": (with_agent, None, False),
}


@pytest.mark.parametrize("helper", HELPERS.values())
@pytest.mark.parametrize("case", PASSED)
def test_pass_tool_calls_is_by_the_pipelines_structure_or_as_said(helper: Any, case: str) -> None:
    make, components, expected = PASSED[case]
    for said, passes in ((None, expected), (True, True), (False, False)):
        assert helper(make(), streaming_components=components, pass_tool_calls=said).passes_tool_calls is passes


# Async agents whose generator is not.


def test_agent_with_a_generator_that_is_not_async_streams_through_run_async() -> None:
    # Haystack refuses an async callback there, and calls a plain one on its thread.
    chunks = read("async", agent(is_async=False), pipeline_run_args=SUM)
    assert "".join(chunk.content for chunk in chunks) == "the sum is 5"
    assert [chunk.tool_call_result.result for chunk in chunks if chunk.tool_call_result] == ["5"]


@pytest.mark.parametrize("is_async", [True, False])
@both
def test_agent_as_a_component_streams(kind: str, is_async: bool) -> None:
    pipeline = Pipeline()
    pipeline.add_component("agent", agent(is_async=is_async))
    chunks = read(kind, pipeline, pipeline_run_args={"agent": SUM})
    assert "".join(chunk.content for chunk in chunks) == "the sum is 5"


@tickers
@pytest.mark.parametrize("allowed", [True, False, "auto"])
def test_sync_components_stream_whatever_is_allowed(ticker: Any, allowed: Any) -> None:
    chunks = read(
        "async",
        beside(ticker("a")),
        pipeline_run_args={"a": {"count": 2}},
        allow_sync_streaming_callbacks=allowed,
    )
    assert texts(chunks) == ["a0 ", "a1 "]


# Queues of the wrapper's own.


@component
class Putter:
    """Puts an event before each chunk."""

    def __init__(self, events: Any, count: int) -> None:
        self.events = events
        self.count = count

    @component.output_types(done=str)
    def run(self, streaming_callback: Any) -> dict[str, Any]:
        for number in range(self.count):
            self.events.put({"event": number})
            streaming_callback(StreamingChunk(str(number)))
        return {"done": ""}


@component
class AsyncPutter:
    def __init__(self, events: Any, count: int) -> None:
        self.events = events
        self.count = count

    @component.output_types(done=str)
    def run(self, streaming_callback: Any) -> dict[str, Any]:
        raise NotImplementedError

    @component.output_types(done=str)
    async def run_async(self, streaming_callback: Any) -> dict[str, Any]:
        for number in range(self.count):
            await self.events.put({"event": number})
            await streaming_callback(StreamingChunk(str(number)))
        return {"done": ""}


def putting(putter: Any) -> Pipeline:
    pipeline = Pipeline()
    pipeline.add_component("puts", putter)
    return pipeline


def read_with_queue(kind: str, size: int, count: int) -> list[Any]:
    """A queue that holds `size` (0 = any number), in which one event lies before the run."""
    if kind == "sync":
        events: queue.Queue[Any] = queue.Queue(size)
        events.put({"event": "before"})
        return list(streaming_generator(putting(Putter(events, count)), external_event_queue=events))

    async def iterate() -> list[Any]:
        events: asyncio.Queue[Any] = asyncio.Queue(size)
        await events.put({"event": "before"})
        source = async_streaming_generator(putting(AsyncPutter(events, count)), external_event_queue=events)
        async with asyncio.timeout(WAIT_S):
            return [chunk async for chunk in source]

    return asyncio.run(iterate())


@both
@pytest.mark.parametrize("size", [0, 1])
def test_all_events_of_a_queue_come_in_their_order_before_the_end(kind: str, size: int) -> None:
    chunks = read_with_queue(kind, size, 300)
    events = [chunk for chunk in chunks if isinstance(chunk, dict)]
    assert events == [{"event": "before"}, *({"event": number} for number in range(300))]
    rest = [chunk for chunk in chunks if not isinstance(chunk, dict)]
    assert texts(rest) == [str(number) for number in range(300)]


@both
def test_events_of_a_queue_come_as_they_are(kind: str) -> None:
    given = ["text", STATUS, {"event": 1}, StreamingChunk("chunk"), None, 0]

    async def iterate() -> list[Any]:
        events: asyncio.Queue[Any] = asyncio.Queue()
        for event in given:
            events.put_nowait(event)
        async with asyncio.timeout(WAIT_S):
            return [chunk async for chunk in async_streaming_generator(script(), external_event_queue=events)]

    def iterate_sync() -> list[Any]:
        events: queue.Queue[Any] = queue.Queue()
        for event in given:
            events.put(event)
        return list(streaming_generator(script(), external_event_queue=events))

    assert (asyncio.run(iterate()) if kind == "async" else iterate_sync()) == given


@component
class FailingPutter:
    def __init__(self, events: Any) -> None:
        self.events = events

    @component.output_types(done=str)
    def run(self, streaming_callback: Any) -> dict[str, Any]:
        self.fail()

    @component.output_types(done=str)
    async def run_async(self, streaming_callback: Any) -> dict[str, Any]:
        self.fail()

    def fail(self) -> NoReturn:
        for number in range(3):
            self.events.put_nowait(number)
        raise ValueError("no")


@both
def test_events_of_a_run_that_fails_come_before_its_error(kind: str) -> None:
    chunks: list[Any] = []

    async def iterate() -> None:
        events: asyncio.Queue[Any] = asyncio.Queue()
        async for chunk in async_streaming_generator(putting(FailingPutter(events)), external_event_queue=events):
            chunks.append(chunk)

    def iterate_sync() -> None:
        events: queue.Queue[Any] = queue.Queue()
        for chunk in streaming_generator(putting(FailingPutter(events)), external_event_queue=events):
            chunks.append(chunk)

    with pytest.raises(PipelineRuntimeError):
        asyncio.run(iterate()) if kind == "async" else iterate_sync()
    assert chunks == [0, 1, 2]


@component
class LatePutter:
    """Puts more than the queue holds when its reader has left already."""

    def __init__(self, events: Any, probe: Probe) -> None:
        self.events = events
        self.probe = probe

    @component.output_types(done=str)
    def run(self, streaming_callback: Any) -> dict[str, Any]:
        try:
            streaming_callback(StreamingChunk("first"))
            self.probe.wait("reader left")
            for number in range(5):
                self.events.put(number)
            streaming_callback(StreamingChunk("too late"))
        except BaseException as error:
            note_error(self.probe, error)
            raise
        return {"done": ""}


def test_full_queue_does_not_hold_a_pipeline_whose_reader_has_left(probe: Probe) -> None:
    events: queue.Queue[Any] = queue.Queue(1)
    source = streaming_generator(putting(LatePutter(events, probe)), external_event_queue=events)
    assert next(source).content == "first"
    source.close()
    probe.set("reader left")
    probe.wait("left")
    assert probe.notes == ["RunCancelled"]


# Leaving.


def left(probe: Probe) -> list[Any]:
    probe.wait("left")
    return probe.notes


def test_close_stops_the_pipeline(probe: Probe) -> None:
    source = streaming_generator(beside(Ticker("a", probe)), pipeline_run_args={"a": {"count": 10**9}})
    assert next(source).content == "a0 "
    source.close()
    assert left(probe) == ["RunCancelled"]
    assert next(source, "end") == "end"


def test_close_stops_the_pipeline_of_a_loop_that_was_left(probe: Probe) -> None:
    source = streaming_generator(beside(Ticker("a", probe)), pipeline_run_args={"a": {"count": 10**9}})
    iterator = iter(source)  # what a `for` that raises keeps in its traceback
    with closing(source):
        assert next(iterator).content == "a0 "
    assert left(probe) == ["RunCancelled"]
    assert next(iterator, "end") == "end"


@pytest.mark.parametrize("by_hand", [True, False], ids=["anext", "for"])
@tickers
def test_aclose_stops_the_pipeline(probe: Probe, ticker: Any, by_hand: bool) -> None:
    async def main() -> Any:
        source = async_streaming_generator(beside(ticker("a", probe)), pipeline_run_args={"a": {"count": 10**9}})
        iterator = source if by_hand else aiter(source)
        async with aclosing(source):
            await anext(iterator)
        await probe.until("left")
        return await anext(iterator, "end")

    assert run_apart(main()) == ["end"]
    assert probe.notes in (["RunCancelled"], ["CancelledError"])


@tickers
def test_abandoned_async_source_stops_the_pipeline(probe: Probe, ticker: Any) -> None:
    async def main() -> Any:
        source = async_streaming_generator(beside(ticker("a", probe)), pipeline_run_args={"a": {"count": 10**9}})
        await anext(source)
        del source
        gc.collect()
        return await probe.until("left")

    assert run_apart(main()) == [None]
    assert probe.notes in (["RunCancelled"], ["CancelledError"])


@both
def test_close_of_what_was_never_iterated_does_nothing(kind: str, probe: Probe) -> None:
    pipeline, arguments = beside(Ticker("a", probe)), {"a": {"count": 1}}
    if kind == "sync":
        streaming_generator(pipeline, pipeline_run_args=arguments).close()
    else:
        asyncio.run(async_streaming_generator(pipeline, pipeline_run_args=arguments).aclose())
    assert probe.count("ticked") == 0


# In the gateway.

HEAD = """
    import asyncio
    from gateway import BasePipelineWrapper, SSEStream, async_streaming_generator, current_run, streaming_generator
    from tests import probe
    from tests.haystack.test_streaming import AsyncPutter, AsyncTicker, Putter, Reporter, Ticker
    from tests.haystack.test_streaming import agent, beside, chat, failing, putting
    from haystack.dataclasses import ChatMessage
    probe = probe.current
"""


def wrapper(stream: str, parameters: str = "") -> str:
    """A wrapper that streams what this expression gives."""
    method = "async def run_api_async" if "async_streaming" in stream else "def run_api"
    return f"""{HEAD}
    class PipelineWrapper(BasePipelineWrapper):
        {method}(self, events: bool = False{parameters}):
            source = {stream}
            return SSEStream(source) if events else source
"""


def helper(kind: str) -> str:
    return "async_streaming_generator" if kind == "async" else "streaming_generator"


def wait_until_free(gateway: Gateway) -> None:
    limiters = gateway.app.state.registry.get("w").limiters
    eventually(lambda: sum(limiter.in_flight for limiter in limiters) == 0, "in_flight == 0")


@both
def test_gateway_streams_a_pipeline(serve_wrapper: Serve, probe: Probe, kind: str) -> None:
    gateway = serve_wrapper(wrapper(f'{helper(kind)}(chat(), pipeline_run_args={{"prompt": {{"query": "hi"}}}})'))
    text = requests.post(f"{gateway.url}/w/run", json={}, timeout=10)
    events = requests.post(f"{gateway.url}/w/run", json={"events": True}, timeout=10)
    assert text.text == "one two three"
    assert read_events(events.content) == [("message", "one "), ("message", "two "), ("message", "three")]
    wait_until_free(gateway)


@both
def test_gateway_streams_an_agent(serve_wrapper: Serve, probe: Probe, kind: str) -> None:
    stream = f'{helper(kind)}(agent(), pipeline_run_args={{"messages": [ChatMessage.from_user("2 + 3")]}})'
    gateway = serve_wrapper(wrapper(stream))
    assert requests.post(f"{gateway.url}/w/run", json={}, timeout=10).text == "the sum is 5"
    wait_until_free(gateway)


@both
@pytest.mark.parametrize("names", ["Ticker", "AsyncTicker", "Ticker, AsyncTicker"])
def test_gateway_streams_several_components_through_a_small_buffer(
    serve_wrapper: Serve, probe: Probe, kind: str, names: str
) -> None:
    first, second = (names.split(", ") * 2)[:2]
    arguments = '{"a": {"count": 500}, "b": {"count": 500}}'
    pipeline = f'beside({first}("a"), {second}("b"))'
    stream = f'{helper(kind)}({pipeline}, pipeline_run_args={arguments}, streaming_components="all")'
    gateway = serve_wrapper(wrapper(stream), stream_buffer_chunks=2)
    with connect(gateway.port) as connection:
        chunks = connection.post().head().body().decode().split()
    for name in "ab":
        assert [chunk for chunk in chunks if chunk[0] == name] == [f"{name}{number}" for number in range(500)]
    wait_until_free(gateway)


@pytest.mark.parametrize(
    ("kind", "ticker", "left_with"),
    [("sync", "Ticker", "RunCancelled"), ("async", "Ticker", "RunCancelled"), ("async", "AsyncTicker", None)],
)
@pytest.mark.parametrize("events", [False, True], ids=["text", "sse"])
def test_pipeline_is_left_at_its_next_callback_when_the_caller_leaves(
    serve_wrapper: Serve, probe: Probe, kind: str, ticker: str, left_with: str | None, events: bool
) -> None:
    arguments = '{"a": {"count": 10**9}}'
    gateway = serve_wrapper(wrapper(f'{helper(kind)}(beside({ticker}("a", probe)), pipeline_run_args={arguments})'))
    connection = Connection(gateway.port).post(body={"events": events}).head()
    assert connection.piece()
    connection.leave()
    probe.wait("left")
    wait_until_free(gateway)
    # An async component is cancelled where it stands, or at its callback.
    assert probe.notes == [left_with] if left_with else probe.notes in (["RunCancelled"], ["CancelledError"])
    ticked = probe.count("ticked")
    assert requests.get(f"{gateway.url}/livez", timeout=10).status_code == 200
    assert probe.count("ticked") == ticked


@both
def test_error_of_a_pipeline_is_told(serve_wrapper: Serve, probe: Probe, kind: str) -> None:
    gateway = serve_wrapper(wrapper(f'{helper(kind)}(failing(ValueError("the secret")))'))
    events = read_events(requests.post(f"{gateway.url}/w/run", json={"events": True}, timeout=10).content)
    assert [kind for kind, _ in events] == ["message", "error"]
    assert (events[0][1], json.loads(events[1][1])["error"]["code"]) == ("first", "wrapper_error")
    assert "the secret" not in events[1][1]
    wait_until_free(gateway)


@both
def test_unknown_component_is_a_500_with_its_reason(serve_wrapper: Serve, probe: Probe, kind: str) -> None:
    gateway = serve_wrapper(wrapper(f'{helper(kind)}(chat(), streaming_components=["x"])'), show_tracebacks=True)
    reply = requests.post(f"{gateway.url}/w/run", json={}, timeout=10)
    assert reply.status_code == 500
    assert "these components are not there or cannot stream: ['x']; these can: ['llm']" in reply.json()["detail"]


@both
def test_wrapper_may_iterate_over_a_helper_itself(serve_wrapper: Serve, probe: Probe, kind: str) -> None:
    loop = "async for" if kind == "async" else "for"
    define = "async def" if kind == "async" else "def"
    gateway = serve_wrapper(
        HEAD
        + f"""
    class PipelineWrapper(BasePipelineWrapper):
        {"async def run_api_async" if kind == "async" else "def run_api"}(self, endless: bool = False):
            return self.stream(10**9 if endless else 3)

        {define} stream(self, count):
            source = {helper(kind)}(beside(Ticker("a", probe)), pipeline_run_args={{"a": {{"count": count}}}})
            {loop} chunk in source:
                yield chunk.content.upper()
"""
    )
    assert requests.post(f"{gateway.url}/w/run", json={}, timeout=10).text == "A0 A1 A2 "
    connection = Connection(gateway.port).post(body={"endless": True}).head()
    assert connection.piece()
    connection.leave()
    probe.wait("left")
    wait_until_free(gateway)
    assert probe.notes == ["RunCancelled"]


def test_stalled_readers_of_sync_components_leave_threads_for_others(serve_wrapper: Serve, probe: Probe) -> None:
    # Such a component runs on asyncio's own threads, of which there are a few for the whole process.
    gateway = serve_wrapper(
        HEAD
        + """
    class PipelineWrapper(BasePipelineWrapper):
        async def run_api_async(self, count: int):
            pipeline = beside(Ticker("a", probe))
            return async_streaming_generator(pipeline, pipeline_run_args={"a": {"count": count}})
""",
        stream_buffer_chunks=1,
    )
    stalled = []
    try:
        for _ in range(40):
            connection = Connection(gateway.port, receive_buffer=4096).post(body={"count": 10**9})
            stalled.append(connection)
        reply = requests.post(f"{gateway.url}/w/run", json={"count": 2}, timeout=8)
        assert reply.text == "a0 a1 "
    finally:
        for connection in stalled:
            connection.leave()
        probe.wait("left")
        wait_until_free(gateway)


@component
class Reporter:
    """Notes for which wrapper it runs."""

    def __init__(self, probe: Probe) -> None:
        self.probe = probe

    @component.output_types(replies=list[ChatMessage])
    def run(self, streaming_callback: Any) -> dict[str, Any]:
        for chunk in (call("add", "{}"), result("5"), thought("hm")):
            self.probe.note(("component", current_run().wrapper))
            streaming_callback(chunk)
        return {"replies": [ChatMessage.from_assistant("done")]}


@both
@pytest.mark.parametrize("iterated", [False, True], ids=["direct", "iterated"])
def test_current_run_is_seen_by_components_and_callbacks(
    serve_wrapper: Serve, probe: Probe, kind: str, iterated: bool
) -> None:
    define, loop = ("async def", "async for") if kind == "async" else ("def", "for")
    gateway = serve_wrapper(
        HEAD
        + f"""
    def note(name):
        return lambda *arguments: probe.note((name, current_run().wrapper))

    class PipelineWrapper(BasePipelineWrapper):
        {"async def run_api_async" if kind == "async" else "def run_api"}(self):
            return self.iterate() if {iterated} else self.source()

        def source(self):
            names = ["on_tool_call_start", "on_tool_call_end", "on_reasoning", "on_pipeline_end"]
            return {helper(kind)}(putting(Reporter(probe)), **{{name: note(name) for name in names}})

        {define} iterate(self):
            {loop} chunk in self.source():
                yield chunk
"""
    )
    assert requests.post(f"{gateway.url}/w/run", json={}, timeout=10).status_code == 200
    wait_until_free(gateway)
    expected = ["component", "on_tool_call_start", "component", "on_tool_call_end", "component", "on_reasoning"]
    assert probe.notes == [(name, "w") for name in [*expected, "on_pipeline_end"]]


def test_gateway_streams_an_async_agent_of_a_sync_generator_through_a_small_buffer(
    serve_wrapper: Serve, probe: Probe
) -> None:
    # Haystack calls its callback for words on a thread, and for results of tools on the event loop.
    words = "so the sum is " * 100
    run_args = 'pipeline_run_args={"messages": [ChatMessage.from_user("2 + 3")]}'
    gateway = serve_wrapper(
        wrapper(f"async_streaming_generator(agent(is_async=False, answer={words.strip()!r}), {run_args})"),
        stream_buffer_chunks=1,
    )
    reply = requests.post(f"{gateway.url}/w/run", json={}, timeout=10)
    assert reply.text == f"{words}5"
    wait_until_free(gateway)


@pytest.mark.parametrize("is_running", [True, False], ids=["putting", "silent"])
@both
def test_queue_holds_nothing_up_when_the_caller_leaves(
    serve_wrapper: Serve, probe: Probe, kind: str, is_running: bool
) -> None:
    # Silent: nobody ever puts anything in, and what waits at the queue must end all the same.
    if kind == "sync":
        made = "queue.Queue(1)"
        pipeline = "putting(Putter(events, 10**9))" if is_running else 'beside(Ticker("a", probe))'
    else:
        made = "asyncio.Queue(1)"
        pipeline = "putting(AsyncPutter(events, 10**9))" if is_running else 'beside(AsyncTicker("a", probe))'
    arguments = {} if is_running else {"a": {"count": 10**9}}
    gateway = serve_wrapper(
        HEAD
        + f"""
    import queue

    class PipelineWrapper(BasePipelineWrapper):
        {"async def run_api_async" if kind == "async" else "def run_api"}(self):
            events = {made}
            return {helper(kind)}({pipeline}, pipeline_run_args={arguments}, external_event_queue=events)
"""
    )
    before = threading.active_count()
    with connect(gateway.port) as connection:
        assert connection.post().head().piece()
    wait_until_free(gateway)
    eventually(lambda: threading.active_count() <= before + 1, "the end of the threads")  # one may wait for work


@both
@pytest.mark.parametrize("said", [None, False, True])
def test_agents_calls_are_the_clients_only_when_the_wrapper_says_so(
    serve_wrapper: Serve, probe: Probe, kind: str, said: bool | None
) -> None:
    method = "async def run_chat_completion_async" if kind == "async" else "def run_chat_completion"
    gateway = serve_wrapper(
        HEAD
        + f"""
    class PipelineWrapper(BasePipelineWrapper):
        {method}(self, model, messages, body):
            arguments = {{"messages": [ChatMessage.from_user("2 + 3")]}}
            return {helper(kind)}(agent(), pipeline_run_args=arguments, pass_tool_calls={said})
"""
    )
    body = {"messages": [{"role": "user", "content": "2 + 3"}], "stream": True}
    events = read_events(requests.post(f"{gateway.url}/w/chat", json=body, timeout=10).content)
    *chunks, (_, done) = events
    deltas = [json.loads(data)["choices"][0]["delta"] for _, data in chunks]
    calls = [call["function"] for delta in deltas for call in delta.get("tool_calls", ())]
    assert calls == ([{"name": "add", "arguments": '{"a": 2, "b": 3}'}] if said else [])
    assert "".join(delta.get("content", "") for delta in deltas) == "the sum is 5"
    assert done == "[DONE]"
