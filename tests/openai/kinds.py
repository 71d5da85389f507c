"""Everything that a chat method may give, by its name, and what the client is to see of it.

The wrappers `chat_kinds` and `chat_kinds_async` give it; `test_chat.py` compares.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from haystack import Pipeline, component
from haystack.components.agents import Agent
from haystack.components.generators.chat import MockChatGenerator
from haystack.dataclasses import ChatMessage, ComponentInfo, StreamingChunk, ToolCall, ToolCallDelta
from haystack.dataclasses.chat_message import ReasoningContent
from haystack.tools import create_tool_from_function
from openai.types.chat import ChatCompletion

from gateway import SSEStream, async_streaming_generator, streaming_generator
from gateway.events import PipelineEvent, create_notification_event, create_status_event

QUESTION = "What is 2 + 3, and 4 + 5?"
ASKED = {"messages": [ChatMessage.from_user(QUESTION)]}
CALLS = [ToolCall("add", {"a": 2, "b": 3}, id="call_1"), ToolCall("add", {"a": 4, "b": 5}, id="call_2")]


@dataclass(frozen=True)
class Kind:
    """One of `value`, `chunks` (a generator's) and `source` (made by a streaming helper) is given.

    `deltas`: those of the stream, without the role and without the last. `events`: what stands between them.
    `is_sse`: in an `SSEStream`. `is_retold`: `source` is iterated by a generator of the wrapper's own.
    """

    deltas: Sequence[Mapping[str, Any]]
    finish_reason: str = "stop"
    usage: tuple[int, int] = (0, 0)
    events: Sequence[Mapping[str, Any]] = ()
    value: Callable[[], Any] | None = None
    chunks: Sequence[Any] | None = None
    source: Callable[[Any], Any] | None = None
    is_sse: bool = False
    is_retold: bool = field(default=False)


def give(name: str) -> Any:
    """As a wrapper gives it that is not async."""
    kind = KINDS[name]
    if kind.value is not None:
        return kind.value()
    given = _generate(kind.chunks) if kind.source is None else kind.source(streaming_generator)
    if kind.is_retold:
        given = _generate(given)
    return SSEStream(given) if kind.is_sse else given


async def give_async(name: str) -> Any:
    kind = KINDS[name]
    if kind.value is not None:
        return kind.value()
    given = _generate_async(kind.chunks) if kind.source is None else kind.source(async_streaming_generator)
    if kind.is_retold:
        given = _retell(given)
    return SSEStream(given) if kind.is_sse else given


def _generate(chunks: Any) -> Iterator[Any]:
    yield from chunks


async def _generate_async(chunks: Any) -> AsyncIterator[Any]:
    for chunk in chunks:
        yield chunk


async def _retell(chunks: Any) -> AsyncIterator[Any]:
    async for chunk in chunks:
        yield chunk


@component
class Shout:
    """No model, and nothing that streams."""

    @component.output_types(replies=list[ChatMessage])
    def run(self, messages: list[ChatMessage]) -> dict[str, Any]:
        return {"replies": [ChatMessage.from_assistant(str(messages[-1].text).upper())]}


def tokens(prompt: int, completion: int) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def generator(*replies: str | ChatMessage, usage: tuple[int, int] = (10, 4)) -> MockChatGenerator:
    return MockChatGenerator(responses=list(replies), meta={"usage": tokens(*usage)})


def pipeline(first: Any, second: Any = None) -> Pipeline:
    """One component, or one that answers another."""
    pipeline = Pipeline()
    pipeline.add_component("first", first)
    if second is not None:
        pipeline.add_component("second", second)
        pipeline.connect("first.replies", "second.messages")
    return pipeline


def add(a: int, b: int) -> str:
    """Add two numbers."""
    return str(a + b)


def agent() -> Agent:
    calling = ChatMessage.from_assistant("Let me see. ", tool_calls=CALLS)
    return Agent(chat_generator=generator(calling, "5 and 9"), tools=[create_tool_from_function(add)])


def stream(make: Callable[[], Any], **options: Any) -> Callable[[Any], Any]:
    """A `source`: `make()` run by a streaming helper, for the question."""

    def source(helper: Any) -> Any:
        made = make()
        arguments = {"first": ASKED} if isinstance(made, Pipeline) else ASKED
        return helper(made, pipeline_run_args=arguments, **options)

    return source


def say(*texts: str) -> list[Mapping[str, Any]]:
    return [{"content": text} for text in texts]


def call(index: int, call: ToolCall, arguments: str) -> dict[str, Any]:
    function = {"name": call.tool_name, "arguments": arguments}
    return {"tool_calls": [{"index": index, "id": call.id, "type": "function", "function": function}]}


def go_on(index: int, arguments: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}


def completion(message: Mapping[str, Any], finish_reason: str | None = "stop", **more: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-own",
        "object": "chat.completion",
        "created": 1,
        "model": "own",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}],
        **more,
    }


def piece(delta: Mapping[str, Any], finish_reason: str | None = None, **more: Any) -> dict[str, Any]:
    """A `chat.completion.chunk` of a wrapper's own."""
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}], **more}


INFO = ComponentInfo(type="generator", name="llm")
STATUS = create_status_event("looking it up")
NOTICE = create_notification_event("found", "success")
THOUGHT = ReasoningContent("Five, I think.")
BOTH_CALLS = [call(0, CALLS[0], '{"a":2,"b":3}'), call(1, CALLS[1], '{"a":4,"b":5}')]
SPACED_CALLS = [call(0, CALLS[0], '{"a": 2, "b": 3}'), call(1, CALLS[1], '{"a": 4, "b": 5}')]
DETAILED = {"prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0}}
OWN_CALL = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a":2,"b":3}'}}

KINDS: dict[str, Kind] = {
    # Text.
    "a text": Kind(say("five"), value=lambda: "five"),
    "an empty text": Kind(say(""), value=lambda: ""),
    "texts": Kind(say("fi", "ve\n\n", " \u20ac"), chunks=["fi", "", "ve\n\n", " \u20ac"]),
    "texts as events": Kind(say("fi", "ve"), chunks=["fi", "ve"], is_sse=True),
    "no chunk": Kind(say(""), chunks=[]),
    "a list of texts": Kind(say("five"), value=lambda: ["five"]),
    # Haystack's chunks.
    "chunks": Kind(
        say("fi", "ve"),
        "length",
        (7, 2),
        chunks=[
            StreamingChunk("fi", component_info=INFO),
            StreamingChunk("ve", component_info=INFO),
            StreamingChunk("", component_info=INFO, finish_reason="length", meta={"usage": tokens(7, 2)}),
        ],
    ),
    "chunks with reasoning": Kind(
        [{"reasoning_content": "Five, I think."}, *say("five")],
        chunks=[
            StreamingChunk("", component_info=INFO, index=0, reasoning=THOUGHT),
            StreamingChunk("five", component_info=INFO, index=1, finish_reason="stop"),
        ],
    ),
    "chunks with calls": Kind(
        [
            *say("let me see"),
            call(0, CALLS[0], ""),
            go_on(0, '{"a":'),
            go_on(0, '2,"b":3}'),
            call(1, CALLS[1], '{"a":4,"b":5}'),
        ],
        "tool_calls",
        chunks=[
            StreamingChunk("let me see", component_info=INFO),
            *(
                StreamingChunk("", component_info=INFO, index=1, tool_calls=[delta])
                for delta in (
                    ToolCallDelta(0, "add", None, "call_1"),
                    ToolCallDelta(0, arguments='{"a":'),
                    ToolCallDelta(0, arguments='2,"b":3}'),
                    ToolCallDelta(1, "add", '{"a":4,"b":5}', "call_2"),
                )
            ),
            StreamingChunk("", component_info=INFO, finish_reason="tool_calls"),
        ],
    ),
    # Events.
    "events": Kind(
        say("fi", "ve"),
        events=[
            {"type": "status", "data": {"description": "looking it up", "done": False, "hidden": False}},
            {"type": "notification", "data": {"type": "success", "content": "found"}},
            {"type": "source", "data": {"name": "a book"}},
            {"type": "status", "data": {"description": "done"}},
            {"type": "custom", "data": {"n": 1}},
        ],
        chunks=[
            STATUS,
            "fi",
            NOTICE,
            {"type": "source", "data": {"name": "a book"}},
            {"event": {"type": "status", "data": {"description": "done"}}},
            PipelineEvent(type="custom", data={"n": 1}),
            "ve",
        ],
    ),
    # Mappings, in OpenAI's form.
    "pieces": Kind(
        [{"reasoning_content": "hm"}, *say("fi", "ve")],
        "content_filter",
        (7, 2),
        chunks=[
            piece({"role": "assistant", "content": ""}),
            piece({"reasoning_content": "hm"}),
            piece({"content": "fi"}),
            piece({"content": "ve"}),
            piece({}, "content_filter"),
            {"choices": [], "usage": tokens(7, 2)},
        ],
    ),
    "pieces with a refusal": Kind(
        [{"refusal": "I will"}, {"refusal": " not."}],
        chunks=[piece({"refusal": "I will"}), piece({"refusal": " not."}), piece({}, "stop")],
    ),
    "pieces with calls": Kind(
        [call(0, CALLS[0], '{"a":'), go_on(0, '2,"b":3}')],
        "tool_calls",
        chunks=[
            piece({"tool_calls": [{"index": 0, **OWN_CALL, "function": {"name": "add", "arguments": '{"a":'}}]}),
            piece({"tool_calls": [{"index": 0, "function": {"arguments": '2,"b":3}'}}]}),
            piece({}, "tool_calls"),
        ],
    ),
    "messages": Kind(say("fi", "ve"), chunks=[{"role": "assistant", "content": "fi"}, {"content": "ve"}]),
    "a completion": Kind(
        [*say("five")],
        "length",
        (7, 2),
        value=lambda: completion(
            {"role": "assistant", "content": "five", "refusal": None}, "length", usage={**tokens(7, 2), **DETAILED}
        ),
    ),
    "a completion with calls": Kind(
        BOTH_CALLS[:1],
        "tool_calls",
        value=lambda: completion({"role": "assistant", "content": None, "tool_calls": [OWN_CALL]}, "tool_calls"),
    ),
    "a meagre completion": Kind(say("five"), value=lambda: {"choices": [{"message": {"content": "five"}}]}),
    "a completion of another house": Kind(
        [{"reasoning_content": "hm"}, *say("five")],
        "length",
        value=lambda: completion({"role": "assistant", "content": "five", "reasoning": "hm"}, "max_tokens"),
    ),
    "a completion of the SDK": Kind(
        say("five"),
        value=lambda: ChatCompletion.model_validate(completion({"role": "assistant", "content": "five"})),
    ),
    "a completion with a choice too many": Kind(
        say("five"),
        value=lambda: {
            "choices": [{"index": index, "message": {"content": text}} for index, text in enumerate(("five", "5"))]
        },
    ),
    "a generator of a completion": Kind(
        say("five"), chunks=[completion({"role": "assistant", "content": "five", "refusal": None})]
    ),
    # Haystack's messages and results.
    "a message": Kind(
        [{"reasoning_content": "Five, I think."}, *say("five")],
        "length",
        (7, 2),
        value=lambda: ChatMessage.from_assistant(
            "five", reasoning=THOUGHT, meta={"finish_reason": "length", "usage": tokens(7, 2)}
        ),
    ),
    "a message with calls": Kind(
        BOTH_CALLS, "tool_calls", value=lambda: ChatMessage.from_assistant(tool_calls=CALLS, meta={})
    ),
    "a refusal": Kind(
        [{"refusal": "I will not."}],
        value=lambda: ChatMessage.from_assistant("", meta={"refusal": "I will not."}),
    ),
    "replies": Kind(say("five"), "stop", (10, 4), value=lambda: generator("five").run(QUESTION)),
    "a list of messages": Kind(say("five"), value=lambda: [ChatMessage.from_assistant("five")]),
    "a pipeline's result": Kind(
        say("FIVE"),
        value=lambda: pipeline(Shout()).run({"first": {"messages": [ChatMessage.from_user("five")]}}),
    ),
    "a pipeline's result with all outputs": Kind(
        say("five"),
        "stop",
        (21, 9),
        value=lambda: pipeline(generator("five?"), generator("five", usage=(11, 5))).run(
            {"first": ASKED}, include_outputs_from={"first"}
        ),
    ),
    "an agent's result": Kind(say("5 and 9"), "stop", (20, 8), value=lambda: agent().run(**ASKED)),
    # The streaming helpers.
    "a run": Kind(
        say("five, ", "I ", "think"),
        "stop",
        (10, 4),
        source=stream(lambda: pipeline(generator("five, I think"))),
    ),
    "a run as events": Kind(
        say("five, ", "I ", "think"),
        "stop",
        (10, 4),
        source=stream(lambda: pipeline(generator("five, I think"))),
        is_sse=True,
    ),
    "a run with calls": Kind(
        [*say("Let ", "me ", "see."), *SPACED_CALLS],
        "tool_calls",
        (10, 4),
        source=stream(lambda: pipeline(generator(ChatMessage.from_assistant("Let me see.", tool_calls=CALLS)))),
    ),
    "a run of two generators": Kind(
        say("five, ", "I ", "think"),
        "stop",
        (21, 9),
        source=stream(lambda: pipeline(generator("five?"), generator("five, I think", usage=(11, 5)))),
    ),
    "a run of which all streams": Kind(
        say("five?", "five, ", "I ", "think"),
        "stop",
        (21, 9),
        source=stream(
            lambda: pipeline(generator("five?"), generator("five, I think", usage=(11, 5))), streaming_components="all"
        ),
    ),
    "a run of which nothing streams": Kind(say(QUESTION.upper()), source=stream(lambda: pipeline(Shout()))),
    "a run retold": Kind(
        say("five, ", "I ", "think"), source=stream(lambda: pipeline(generator("five, I think"))), is_retold=True
    ),
    "an agent": Kind(say("Let ", "me ", "see. ", "5 ", "and ", "9"), "stop", (20, 8), source=stream(agent)),
    "an agent as events": Kind(
        say("Let ", "me ", "see. ", "5 ", "and ", "9"), "stop", (20, 8), source=stream(agent), is_sse=True
    ),
    "an agent retold": Kind(say("Let ", "me ", "see. ", "5 ", "and ", "9"), source=stream(agent), is_retold=True),
    "an agent in a pipeline": Kind(
        say("Let ", "me ", "see. ", "5 ", "and ", "9"), "stop", (20, 8), source=stream(lambda: pipeline(agent()))
    ),
    "an agent that passes its calls": Kind(
        [*say("Let ", "me ", "see. "), *SPACED_CALLS, *say("5 ", "and ", "9")],
        "tool_calls",
        (20, 8),
        source=stream(agent, pass_tool_calls=True),
    ),
    "an agent with its events": Kind(
        say("Let ", "me ", "see. ", "5", "9", "5 ", "and ", "9"),
        "stop",
        (20, 8),
        events=[{"type": "status", "data": {"description": "add", "done": False, "hidden": False}}] * 2,
        source=stream(
            agent,
            on_tool_call_start=lambda name, arguments, call_id: create_status_event(name),
            on_tool_call_end=lambda name, arguments, result, is_error: result,
        ),
    ),
}
