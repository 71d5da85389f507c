"""What a wrapper may give for a response, by the text that asks for it."""

from collections.abc import Callable, Iterator
from typing import Any

from haystack import Pipeline
from haystack.components.agents import Agent
from haystack.components.generators.chat import MockChatGenerator
from haystack.dataclasses import (
    ChatMessage,
    GeneratedAnswer,
    ReasoningContent,
    StreamingChunk,
    ToolCall,
    ToolCallDelta,
)
from haystack.tools import create_tool_from_function
from openai.types.responses import Response
from starlette.exceptions import HTTPException

from gateway import create_notification_event, create_status_event

USAGE = {
    "prompt_tokens": 7,
    "completion_tokens": 5,
    "total_tokens": 12,
    "prompt_tokens_details": {"cached_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
CALLS = [ToolCall("weather", {"city": "Köln"}, id="call_a"), ToolCall("clock", {}, id="call_b")]
RESPONSE = {
    "id": "resp_mine",
    "object": "response",
    "created_at": 1700000000.0,
    "status": "completed",
    "model": "mine",
    "metadata": {"my": "own"},
    "store": True,
    "parallel_tool_calls": False,
    "tool_choice": "none",
    "tools": [],
    "output": [
        {"type": "reasoning", "id": "rs_mine", "summary": [{"type": "summary_text", "text": "Let me see."}]},
        {
            "type": "message",
            "id": "msg_mine",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": "Sunny."}],
        },
        {
            "type": "function_call",
            "id": "fc_mine",
            "call_id": "call_a",
            "name": "weather",
            "arguments": '{"city":"Köln"}',
            "status": "completed",
        },
    ],
    "usage": {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 12,
    },
}
SHORT = {"output": [{"type": "message", "content": [{"type": "output_text", "text": "Sunny."}]}], "usage": USAGE}
SEARCH = {
    "type": "web_search_call",
    "id": "ws_mine",
    "status": "completed",
    "action": {"type": "search", "query": "weather", "queries": ["weather"]},
}
PATCH = {"type": "custom_tool_call", "id": "ctc_mine", "call_id": "call_c", "name": "apply_patch", "input": "*** End"}
COMPLETION = {
    "id": "chatcmpl-mine",
    "object": "chat.completion",
    "created": 1700000000,
    "model": "mine",
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "logprobs": None,
            "message": {
                "role": "assistant",
                "content": "Sunny.",
                "refusal": None,
                "reasoning_content": "Let me see.",
                "tool_calls": [
                    {
                        "id": "call_a",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"city":"Köln"}'},
                    }
                ],
            },
        }
    ],
    "usage": USAGE,
}


class Failed(Exception):
    """What the caller must not get to see."""


def weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


def text_generator() -> Iterator[Any]:
    yield from ("Sun", "", "ny", ".\n", "€")


def chunk_generator() -> Iterator[Any]:
    yield StreamingChunk("", reasoning=ReasoningContent("Let me "), index=0)
    yield StreamingChunk("", reasoning=ReasoningContent("see."), index=0)
    yield StreamingChunk("Sun", index=1)
    yield StreamingChunk("ny.", index=1)
    yield StreamingChunk("", meta={"usage": USAGE}, finish_reason="stop")


def call_generator() -> Iterator[Any]:
    """Two calls of which the pieces come in turns."""
    yield StreamingChunk("", tool_calls=[ToolCallDelta(0, tool_name="weather", id="call_a")], index=0)
    yield StreamingChunk("", tool_calls=[ToolCallDelta(1, tool_name="clock", id="call_b")], index=1)
    yield StreamingChunk("", tool_calls=[ToolCallDelta(0, arguments='{"city":')], index=0)
    yield StreamingChunk("", tool_calls=[ToolCallDelta(1, arguments="{}")], index=1)
    yield StreamingChunk("", tool_calls=[ToolCallDelta(0, arguments='"Köln"}')], index=0)
    yield StreamingChunk("", meta={"usage": USAGE}, finish_reason="tool_calls")


def dict_generator() -> Iterator[Any]:
    """Chunks of a chat completion, as another service gives them."""
    for delta in ({"role": "assistant", "content": "Sun"}, {"content": "ny."}):
        yield {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    yield {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}
    yield {"choices": [], "usage": USAGE}


def event_generator() -> Iterator[Any]:
    yield create_status_event("searching")
    yield "Sunny."
    yield create_notification_event("found")
    yield {"event": {"type": "status", "data": {"description": "done", "done": True}}}


def mixed_generator() -> Iterator[Any]:
    """Every kind of item, and text after reasoning more than once."""
    yield StreamingChunk("", reasoning=ReasoningContent("One."), index=0)
    yield "First. "
    yield StreamingChunk("", reasoning=ReasoningContent("Two."), index=0)
    yield {"content": "Second."}
    yield {"refusal": "Not the third."}
    yield ChatMessage.from_assistant(tool_calls=CALLS, meta={"usage": USAGE, "finish_reason": "tool_calls"})


def raising_generator() -> Iterator[Any]:
    yield "Sun"
    raise Failed("the password is 1234")


def odd_generator() -> Iterator[Any]:
    yield "Sun"
    yield object()


def silent_generator() -> Iterator[Any]:
    yield from ()


def early_generator() -> Iterator[Any]:
    raise Failed("the password is 1234")
    yield ""


def make_pipeline(*replies: ChatMessage) -> Pipeline:
    pipeline = Pipeline()
    pipeline.add_component("llm", MockChatGenerator(responses=list(replies)))
    return pipeline


def make_agent() -> Agent:
    replies = [
        ChatMessage.from_assistant(tool_calls=CALLS[:1], meta={"usage": USAGE}),
        ChatMessage.from_assistant("Sunny in Köln.", meta={"usage": USAGE}),
    ]
    return Agent(chat_generator=MockChatGenerator(responses=replies), tools=[create_tool_from_function(weather)])


def reply(text: str | None = "Sunny.", **arguments: Any) -> ChatMessage:
    meta = {"usage": USAGE, "finish_reason": "stop", **arguments.pop("meta", {})}
    return ChatMessage.from_assistant(text, meta=meta, **arguments)


KINDS: dict[str, Callable[[], Any]] = {
    "text": lambda: "Sunny.",
    "empty text": lambda: "",
    "object": lambda: '{"city": "Köln", "degrees": 21}',
    "text generator": text_generator,
    "chunk generator": chunk_generator,
    "call generator": call_generator,
    "dict generator": dict_generator,
    "event generator": event_generator,
    "mixed generator": mixed_generator,
    "silent generator": silent_generator,
    "message": lambda: reply(reasoning="Let me see."),
    "calls": lambda: reply("Let me look.", tool_calls=CALLS, meta={"finish_reason": "tool_calls"}),
    "calls only": lambda: reply(None, tool_calls=CALLS[:1], meta={"finish_reason": "tool_calls"}),
    "refusal": lambda: reply(None, tool_calls=[], meta={"refusal": "I will not."}),
    "length": lambda: reply("Sun", meta={"finish_reason": "length"}),
    "filtered": lambda: reply("Sun", meta={"finish_reason": "content_filter"}),
    "replies": lambda: {"replies": [reply()]},
    "pipeline result": lambda: {"retriever": {"documents": []}, "llm": {"replies": [reply()]}},
    "agent result": lambda: make_agent().run(messages=[ChatMessage.from_user("weather?")]),
    "answers": lambda: {"answers": [GeneratedAnswer("Sunny.", "weather?", [])]},
    "completion": lambda: COMPLETION,
    "response": lambda: RESPONSE,
    "short response": lambda: SHORT,
    "response of other items": lambda: {**RESPONSE, "output": [SEARCH, RESPONSE["output"][1], PATCH]},
    "SDK response": lambda: Response.model_validate(RESPONSE),
    "raises": lambda: next(early_generator()),
    "raises at once": early_generator,
    "raises later": raising_generator,
    "odd chunk": odd_generator,
    "nothing": lambda: None,
    "odd": object,
    "too many": lambda: refuse(429, "come back later"),
    "conflict": lambda: refuse(409, "it is there already"),
}
STREAMS: dict[str, Callable[[], tuple[Any, dict[str, Any]]]] = {  # for `streaming_generator`, or its async twin
    "pipeline": lambda: (make_pipeline(reply("Sunny in Köln.")), {"llm": {"messages": [ChatMessage.from_user("?")]}}),
    "pipeline with calls": lambda: (
        make_pipeline(reply("Let me look.", tool_calls=CALLS, meta={"finish_reason": "tool_calls"})),
        {"llm": {"messages": [ChatMessage.from_user("?")]}},
    ),
    "agent": lambda: (make_agent(), {"messages": [ChatMessage.from_user("weather?")]}),
}


def refuse(status: int, detail: str) -> None:
    raise HTTPException(status, detail)


def make(kind: str, streaming_generator: Callable[..., Any]) -> Any:
    """A fresh one of what is called `kind`. `streaming_generator`: of the two the one for the wrapper's method."""
    if kind in STREAMS:
        pipeline, arguments = STREAMS[kind]()
        return streaming_generator(pipeline, pipeline_run_args=arguments)
    return KINDS[kind]()
