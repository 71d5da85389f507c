from types import SimpleNamespace
from typing import Any

import pytest
from haystack.dataclasses import ChatMessage, Document, GeneratedAnswer, StreamingChunk, TextContent, ToolCall
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from gateway.events import PipelineEvent, create_notification_event
from gateway.protocols.delta import Delta, Event, Finish, Item, Reasoning, Refusal, Spent, Text, ToolResult, Usage
from gateway.protocols.delta import ToolCall as Call
from gateway.protocols.result import EXPECTED, FINISH_REASONS, check_whole, read, read_result, read_usage
from tests.protocols.sample import (
    CALL,
    call,
    call_result,
    choice,
    chunk,
    completion,
    event,
    message,
    output_message,
    reasoning,
    response,
    sdk_chunk,
    sdk_completion,
    sdk_response,
    spent,
    text,
    usage,
)

ADD = ToolCall(tool_name="add", arguments={"a": 1, "b": "grün"}, id="call_1")
STATUS = {"type": "status", "data": {"description": "d", "done": False, "hidden": False}}
CUSTOM = {"type": "thing", "data": {"a": 1}}
REASONING_ITEM = {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "why"}]}
CALL_ITEM = {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "add", "arguments": '{"a":1}'}
CUSTOM_CALL = {"id": "ctc_1", "type": "custom_tool_call", "call_id": "call_2", "name": "sh", "input": "ls"}
RESPONSE_USAGE = {
    "input_tokens": 5,
    "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 1},
    "output_tokens": 7,
    "output_tokens_details": {"reasoning_tokens": 3},
    "total_tokens": 12,
}
ANSWER = GeneratedAnswer(data="answer", query="q", documents=[Document(content="d")])


class ForeignEvent:
    """An event of Hayhooks' own class."""

    def to_event_dict(self) -> dict[str, Any]:
        return STATUS


CASES: dict[str, tuple[Any, list[Delta]]] = {
    "none": (None, []),
    "text": ("grün\n", [Text("grün\n")]),
    "empty text": ("", [Text("")]),
    "bytes": ("grün".encode(), [Text("grün")]),
    "broken bytes": (b"a\xff", [Text("a\ufffd")]),
    "chunk": (text("a"), [Text("a")]),
    "empty chunk": (text(""), []),
    "chunk of reasoning": (reasoning("why"), [Reasoning("why")]),
    "chunk with the start of a call": (
        call(2, "call_1", "add", None, "llm"),
        [Call(2, "call_1", "add", "", 0, "llm")],
    ),
    "chunk with a piece of a call": (call(0, None, None, '{"a"'), [Call(0, None, None, '{"a"')]),
    "chunk with a tool's result": (call_result(), [ToolResult()]),
    "chunk with usage": (spent(3, 4, "llm"), [Spent(Usage(3, 4), "llm")]),
    "chunk that ends": (
        text("a", "llm", finish_reason="length", meta={"usage": usage(1, 2), "model": "x"}),
        [Text("a"), Spent(Usage(1, 2), "llm"), Finish("length")],
    ),
    "message": (message("a"), [Text("a")]),
    "message of nothing": (message(), []),
    "message of the user": (ChatMessage.from_user("hi"), [Text("hi")]),
    "message of several texts": (
        ChatMessage.from_user(content_parts=[TextContent("a"), TextContent("b")]),
        [Text("a"), Text("b")],
    ),
    "message with all": (
        ChatMessage.from_assistant(
            "a",
            meta={"usage": usage(3, 4), "finish_reason": "tool_calls", "refusal": None},
            tool_calls=[ADD, ToolCall(tool_name="now", arguments={})],
            reasoning="why",
        ),
        [
            Reasoning("why"),
            Text("a"),
            Call(0, "call_1", "add", '{"a":1,"b":"grün"}'),
            Call(1, None, "now", "{}"),
            Spent(Usage(3, 4)),
            Finish("tool_calls"),
        ],
    ),
    "message that refuses": (message(None, refusal="no"), [Refusal("no")]),
    "message of a tool": (ChatMessage.from_tool("sum", origin=ADD), [Text("sum")]),
    "message of a tool with parts": (
        ChatMessage.from_tool([TextContent("sum")], origin=ADD),
        [Text('[{"text":"sum"}]')],
    ),
    "replies": ({"replies": [message("a", usage=usage(1, 2))]}, [Text("a"), Spent(Usage(1, 2))]),
    "several replies": (
        {"replies": [message("a", usage=usage(1, 2)), message("b", usage=usage(1, 2), finish_reason="length")]},
        [Text("a"), Spent(Usage(1, 2)), Text("b", 1), Finish("length", 1)],
    ),
    "replies of text": ({"replies": ["a", "b"]}, [Text("a"), Text("b", 1)]),
    "no replies": ({"replies": []}, []),
    "list of messages": (
        [message("a"), message("b", [ADD])],
        [
            Text("a"),
            Text("b", 1),
            Call(0, "call_1", "add", '{"a":1,"b":"grün"}', 1),
        ],
    ),
    "tuple of texts": (("a",), [Text("a")]),
    "agent's result": (
        {
            "messages": [
                ChatMessage.from_user("q"),
                message(None, [ADD], usage=usage(1, 2)),
                ChatMessage.from_tool("2", origin=ADD),
                message("a", usage=usage(10, 20), finish_reason="stop"),
            ],
            "last_message": message("a", usage=usage(10, 20), finish_reason="stop"),
            "step_count": 2,
        },
        [Text("a"), Finish("stop"), Spent(Usage(11, 22))],
    ),
    "agent's result without its messages": (
        {"last_message": message("a", usage=usage(10, 20))},
        [Text("a"), Spent(Usage(10, 20))],
    ),
    "pipeline's result": (
        {"retriever": {"documents": [Document(content="d")]}, "llm": {"replies": [message("a", usage=usage(1, 2))]}},
        [Text("a"), Spent(Usage(1, 2))],
    ),
    "pipeline's result of two models": (
        {
            "draft": {"replies": [message("a", usage=usage(1, 2))]},
            "final": {"replies": [message("b", usage=usage(10, 20))]},
        },
        [Spent(Usage(1, 2)), Text("b"), Spent(Usage(10, 20))],
    ),
    "pipeline's result of an agent": (
        {"agent": {"messages": [message("a", usage=usage(1, 2))], "last_message": message("a")}, "other": {"x": 1}},
        [Text("a"), Spent(Usage(1, 2))],
    ),
    "answer": (ANSWER, [Text("answer")]),
    "answers": ({"answers": [ANSWER]}, [Text("answer")]),
    "pipeline's answers": ({"answer_builder": {"answers": [ANSWER]}}, [Text("answer")]),
    "answers with what their model has said": (
        {
            "answer_builder": {
                "answers": [
                    GeneratedAnswer(
                        data="a",
                        query="q",
                        documents=[],
                        meta={"usage": usage(1, 2), "finish_reason": "length", "all_messages": [message("a")]},
                    )
                ]
            }
        },
        [Text("a"), Spent(Usage(1, 2)), Finish("length")],
    ),
    "answers beside the replies they were made of": (
        {
            "llm": {"replies": [message("a", usage=usage(1, 2))]},
            "answer_builder": {
                "answers": [GeneratedAnswer(data="a", query="q", documents=[], meta={"usage": usage(1, 2)})]
            },
        },
        [Spent(Usage(1, 2)), Text("a")],
    ),
    "document": (Document(content="d"), [Text("d")]),
    "object with content that is no text": (SimpleNamespace(content=1), [Text("1")]),
    "event": (
        create_notification_event("n"),
        [Event({"type": "notification", "data": {"type": "info", "content": "n"}})],
    ),
    "event of any data": (PipelineEvent(type="thing", data={"a": 1}), [Event(CUSTOM)]),
    "event of another's class": (ForeignEvent(), [Event(STATUS)]),
    "event as a dict": (STATUS, [Event(STATUS)]),
    "event in its envelope": ({"event": CUSTOM}, [Event(CUSTOM)]),
    "unknown dict": ({"a": 1}, [Event({"a": 1})]),
    "completion": (
        completion(choice("a", "length"), usage={**usage(3, 4), "completion_tokens_details": {"reasoning_tokens": 2}}),
        [Text("a"), Finish("length"), Spent(Usage(3, 4, reasoning=2))],
    ),
    "completion of several choices": (
        completion(choice("a"), choice("b", index=1)),
        [Text("a"), Finish("stop"), Text("b", 1), Finish("stop", 1)],
    ),
    "completion with all": (
        completion(choice("a", "tool_calls", refusal="no", reasoning_content="why", tool_calls=[CALL])),
        [
            Reasoning("why"),
            Text("a"),
            Refusal("no"),
            Call(0, "call_1", "add", '{"a":1}'),
            Finish("tool_calls"),
        ],
    ),
    "completion of the SDK": (
        sdk_completion(completion(choice("a", tool_calls=[CALL]), usage=usage(3, 4))),
        [Text("a"), Call(0, "call_1", "add", '{"a":1}'), Finish("stop"), Spent(Usage(3, 4))],
    ),
    "first chunk of the SDK": (sdk_chunk(chunk({"role": "assistant", "content": ""})), [Text("")]),
    "chunk of the SDK": (sdk_chunk(chunk({"content": "a"}, index=1)), [Text("a", 1)]),
    "chunk of the SDK with a call": (
        sdk_chunk(chunk({"tool_calls": [{"index": 3, **CALL}]})),
        [Call(3, "call_1", "add", '{"a":1}')],
    ),
    "last chunk of the SDK": (sdk_chunk(chunk({}, "tool_calls")), [Finish("tool_calls")]),
    "usage chunk of the SDK": (
        sdk_chunk({**chunk({}), "choices": [], "usage": usage(3, 4)}),
        [Spent(Usage(3, 4))],
    ),
    "chunk as a dict": (
        chunk({"tool_calls": [{"index": 1, "function": {"arguments": "{"}}]}),
        [Call(1, None, None, "{")],
    ),
    "chunk without a delta": ({"choices": [{"index": 0, "delta": None}]}, []),
    "message as a dict": ({"role": "assistant", "content": "a"}, [Text("a")]),
    "message as a dict without a role": ({"content": "a"}, [Text("a")]),
    "message as a dict of parts": (
        {
            "content": [
                {"type": "text", "text": "a"},
                {"type": "refusal", "refusal": "no"},
                {"type": "output_text", "text": "b"},
                {"type": "image_url", "image_url": {"url": "u"}},
            ]
        },
        [Text("a"), Refusal("no"), Text("b")],
    ),
    "message as a dict of calls": (
        {"role": "assistant", "content": None, "tool_calls": [CALL, {**CALL, "id": "call_2"}]},
        [Call(0, "call_1", "add", '{"a":1}'), Call(1, "call_2", "add", '{"a":1}')],
    ),
    "message as a dict of a call whose arguments are no text": (
        {"tool_calls": [{"id": "c", "function": {"name": "add", "arguments": {"a": 1}}}]},
        [Call(0, "c", "add", '{"a":1}')],
    ),
    "message as a dict of reasoning": ({"reasoning_content": "why"}, [Reasoning("why")]),
    "message as a dict of reasoning in other words": (
        {"role": "assistant", "reasoning": "why", "content": "a"},
        [Reasoning("why"), Text("a")],
    ),
    "message as a dict that refuses": ({"refusal": "no"}, [Refusal("no")]),
    "message as a dict of nothing": ({"role": "assistant"}, []),
    "response": (
        response(
            REASONING_ITEM, output_message("a", "b"), CALL_ITEM, {"type": "web_search_call"}, usage=RESPONSE_USAGE
        ),
        [
            Reasoning("why"),
            Text("a"),
            Text("b"),
            Call(0, "call_1", "add", '{"a":1}'),
            Item({"type": "web_search_call"}),
            Spent(Usage(5, 7, 2, 1, 3)),
        ],
    ),
    "response of the SDK with an item of its own": (
        sdk_response(response(CUSTOM_CALL)),
        [Item(CUSTOM_CALL)],
    ),
    "response of several calls": (
        response(CALL_ITEM, {**CALL_ITEM, "call_id": "call_2"}),
        [Call(0, "call_1", "add", '{"a":1}'), Call(1, "call_2", "add", '{"a":1}')],
    ),
    "response that is incomplete": (
        response(output_message("a"), status="incomplete", incomplete_details={"reason": "max_output_tokens"}),
        [Text("a"), Finish("length")],
    ),
    "response that refuses": (
        response({**output_message(), "content": [{"type": "refusal", "refusal": "no"}]}),
        [Refusal("no")],
    ),
    "response of reasoning itself": (
        response({"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "why"}]}),
        [Reasoning("why")],
    ),
    "response of the SDK": (
        sdk_response(response(REASONING_ITEM, output_message("a"), CALL_ITEM, usage=RESPONSE_USAGE)),
        [
            Reasoning("why"),
            Text("a"),
            Call(0, "call_1", "add", '{"a":1}'),
            Spent(Usage(5, 7, 2, 1, 3)),
        ],
    ),
}

PLACE = {"item_id": "i", "output_index": 2, "content_index": 0}
EVENTS: dict[str, tuple[dict[str, Any], list[Delta]]] = {  # of a stream of the Responses API
    "text": (event("response.output_text.delta", **PLACE, delta="a", logprobs=[]), [Text("a")]),
    "refusal": (event("response.refusal.delta", **PLACE, delta="no"), [Refusal("no")]),
    "summary": (
        event("response.reasoning_summary_text.delta", item_id="i", output_index=0, summary_index=0, delta="why"),
        [Reasoning("why")],
    ),
    "reasoning": (event("response.reasoning_text.delta", **PLACE, delta="why"), [Reasoning("why")]),
    "call": (
        event("response.output_item.added", output_index=2, item={**CALL_ITEM, "arguments": ""}),
        [Call(2, "call_1", "add", "")],
    ),
    "piece of a call": (
        event("response.function_call_arguments.delta", item_id="i", output_index=2, delta="{"),
        [Call(2, None, None, "{")],
    ),
    "completed": (
        event("response.completed", response=response(output_message("a"), usage=RESPONSE_USAGE)),
        [Spent(Usage(5, 7, 2, 1, 3))],
    ),
    "incomplete": (
        event(
            "response.incomplete",
            response=response(output_message("a"), incomplete_details={"reason": "max_output_tokens"}),
        ),
        [Finish("length")],
    ),
    "created": (event("response.created", response=response()), []),
    "text is done": (event("response.output_text.done", **PLACE, text="a", logprobs=[]), []),
    "call is done": (event("response.output_item.done", output_index=2, item=CALL_ITEM), []),
    "message": (event("response.output_item.added", output_index=2, item=output_message()), []),
    "message is done": (event("response.output_item.done", output_index=2, item=output_message("a")), []),
    "another item": (event("response.output_item.added", output_index=2, item=CUSTOM_CALL), []),
    "another item is done": (event("response.output_item.done", output_index=2, item=CUSTOM_CALL), [Item(CUSTOM_CALL)]),
}


@pytest.mark.parametrize("case", EVENTS)
def test_read_of_an_event_of_a_response(case: str) -> None:
    given, expected = EVENTS[case]
    sdk: Any = TypeAdapter(ResponseStreamEvent).validate_python(given)
    for value in (given, sdk):
        deltas = list(read(value))
        assert deltas == expected
        assert [type(delta) for delta in deltas] == [type(delta) for delta in expected]
        check_whole(value)


@pytest.mark.parametrize(
    "given",
    [
        event("error", code="server_error", message="went wrong", param=None),
        event("response.failed", response=response(error={"code": "server_error", "message": "went wrong"})),
    ],
    ids=["error", "failed"],
)
def test_read_raises_at_an_event_that_says_so(given: dict[str, Any]) -> None:
    with pytest.raises(RuntimeError, match=r"^the stream that was to be handed on has failed: went wrong$"):
        list(read(given))


@pytest.mark.parametrize("case", CASES)
def test_read(case: str) -> None:
    value, expected = CASES[case]
    deltas = list(read(value))
    assert deltas == expected
    assert [type(delta) for delta in deltas] == [type(delta) for delta in expected]  # a tuple equals any other


NO_REPLY: dict[str, tuple[Any, str]] = {
    "number": (1, "int"),
    "bool": (True, "bool"),
    "object": (object(), "object"),
    "set": ({"a"}, "set"),
    "list of numbers": ([1], "a list of int"),
    "list of documents": ({"replies": [Document(content="d")]}, "a list of Document"),
}


@pytest.mark.parametrize("case", NO_REPLY)
def test_read_raises_when_no_reply_can_be_made_of_it(case: str) -> None:
    value, name = NO_REPLY[case]
    with pytest.raises(TypeError) as caught:
        list(read(value))
    assert str(caught.value) == f"a reply cannot be made of {name}: give {EXPECTED}"


@pytest.mark.parametrize(("said", "reason"), [*FINISH_REASONS.items(), ("STOP", "stop"), ("SAFETY", "content_filter")])
def test_read_gives_the_finish_reason_in_the_words_of_openai(said: str, reason: str) -> None:
    assert reason in ("stop", "length", "tool_calls", "content_filter")
    assert list(read(message(finish_reason=said))) == [Finish(reason)]
    assert list(read({"choices": [{"delta": {}, "finish_reason": said}]})) == [Finish(reason)]


@pytest.mark.parametrize("said", ["tool_call_results", "unheard of", "", None])
def test_read_gives_no_finish_reason_when_it_is_unknown(said: Any) -> None:
    assert list(read(StreamingChunk(content="a", finish_reason=said))) == [Text("a")]


@pytest.mark.parametrize("value", [value for value, _ in CASES.values() if value not in (None, {"a": 1}, STATUS)])
def test_check_whole_accepts_what_is_known(value: Any) -> None:
    check_whole(value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "NoneType"),
        ({}, "dict"),
        ({"a": 1, 2: None}, "dict with the keys a, 2"),
        ({"replies": None}, "dict with the keys replies"),
        ({"llm": {"meta": []}}, "dict with the keys llm"),
        ({"choices": "none"}, "dict with the keys choices"),
    ],
)
def test_check_whole_raises_when_there_is_nothing_in_it(value: Any, said: str) -> None:
    with pytest.raises(TypeError) as caught:
        check_whole(value)
    assert str(caught.value) == f"a reply cannot be made of {said}: return {EXPECTED}"


@pytest.mark.parametrize("value", [None, {}, {"a": 1}, {"retriever": {"documents": []}}])
def test_read_result_hears_nothing_when_there_is_no_reply(value: Any) -> None:
    assert list(read_result(value)) == []


@pytest.mark.parametrize("case", ["replies", "agent's result", "pipeline's result of two models", "text"])
def test_read_result_hears_what_read_does(case: str) -> None:
    value, expected = CASES[case]
    assert list(read_result(value)) == expected


USAGES: dict[str, tuple[Any, Usage]] = {
    "none": (None, Usage()),
    "empty": ({}, Usage()),
    "no mapping": ([1], Usage()),
    "chat": (
        {
            "prompt_tokens": 1,
            "completion_tokens": 2,
            "total_tokens": 3,
            "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 9},
            "completion_tokens_details": {"reasoning_tokens": 5},
        },
        Usage(1, 2, 4, 0, 5),
    ),
    "responses": (RESPONSE_USAGE, Usage(5, 7, 2, 1, 3)),
    "nulls": ({"prompt_tokens": None, "completion_tokens": 2, "prompt_tokens_details": None}, Usage(0, 2)),
    "texts": ({"prompt_tokens": "1", "completion_tokens": "2"}, Usage()),
    "floats": ({"input_tokens": 1.0, "output_tokens": 2.0}, Usage(1, 2)),
    "both": ({"prompt_tokens": 1, "input_tokens": 9, "completion_tokens": 0, "output_tokens": 2}, Usage(1, 2)),
}


@pytest.mark.parametrize("case", USAGES)
def test_read_usage(case: str) -> None:
    given, expected = USAGES[case]
    assert read_usage(given) == expected
    assert expected.total == expected.input + expected.output


def test_usage_adds_each_count() -> None:
    assert Usage(1, 2, 3, 4, 5) + Usage(10, 20, 30, 40, 50) == Usage(11, 22, 33, 44, 55)
