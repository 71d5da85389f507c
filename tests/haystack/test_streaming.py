"""The streaming helpers: iterated by themselves, and run by the gateway."""

import asyncio
import gc
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from haystack import Pipeline, component
from haystack.components.agents import Agent
from haystack.components.builders import ChatPromptBuilder
from haystack.components.generators.chat import MockChatGenerator
from haystack.core.errors import PipelineRuntimeError
from haystack.dataclasses import ChatMessage, StreamingChunk, ToolCall
from haystack.tools import create_tool_from_function

from gateway.haystack.streaming import async_streaming_generator, streaming_generator
from gateway.run import RunCancelled
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


def agent() -> Agent:
    def add(a: int, b: int) -> str:
        """Add two numbers."""
        return str(a + b)

    def answer(messages: list[ChatMessage]) -> str | ChatMessage:
        last = messages[-1]
        if last.tool_call_result is not None:
            return f"the sum is {last.tool_call_result.result}"
        return ChatMessage.from_assistant(tool_calls=[ToolCall("add", {"a": 2, "b": 3})])

    tool = create_tool_from_function(add)
    return Agent(chat_generator=MockChatGenerator(response_fn=answer), tools=[tool], max_agent_steps=4)


HELPERS = {"sync": streaming_generator, "async": async_streaming_generator}
both = pytest.mark.parametrize("kind", ["sync", "async"])
tickers = pytest.mark.parametrize("ticker", [Ticker, AsyncTicker])


def read(kind: str, *arguments: Any, **keywords: Any) -> list[Any]:
    """The chunks of a helper, iterated outside of the gateway."""

    async def iterate() -> list[Any]:
        async with asyncio.timeout(WAIT_S):
            return [chunk async for chunk in async_streaming_generator(*arguments, **keywords)]

    return asyncio.run(iterate()) if kind == "async" else list(streaming_generator(*arguments, **keywords))


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
    del iterator
    gc.collect()
    probe.wait("left")
    assert probe.notes == ["RunCancelled"]
    assert probe.count("ticked") < 2000


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

    # A thread that is not stopped would keep `asyncio.run` waiting: another loop, which nobody waits for.
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(asyncio.run(main())), daemon=True)
    thread.start()
    thread.join(WAIT_S)
    assert results == ["a0 "]
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


# In the gateway.

HEAD = """
    import asyncio
    from gateway import BasePipelineWrapper, SSEStream, async_streaming_generator, current_run, streaming_generator
    from tests import probe
    from tests.haystack.test_streaming import AsyncTicker, Ticker, agent, beside, chat, failing
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
