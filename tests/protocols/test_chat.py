import json
from typing import Any

import pytest
from haystack.dataclasses import ChatMessage, GeneratedAnswer, ToolCall
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.events import create_status_event
from gateway.protocols.chat import ChatStream, ChatWhole, parse
from gateway.protocols.openai import Head
from gateway.protocols.problem import Problem
from gateway.protocols.reader import Reader
from gateway.protocols.result import EXPECTED
from tests.protocols.fold import decode, fold_chat
from tests.protocols.sample import (
    CALL,
    call,
    call_result,
    choice,
    chunk,
    completion,
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
from tests.protocols.split import split

HEAD = Head("key", 7, "m")
ADD = ToolCall(tool_name="add", arguments={"a": 1}, id="call_1")
STATUS = {"event": {"type": "status", "data": {"description": "d", "done": False, "hidden": False}}}
USAGE = {
    "prompt_tokens": 0,
    "completion_tokens": 0,
    "total_tokens": 0,
    "prompt_tokens_details": {"cached_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0},
}
PIECES = [call(0, "call_1", "add", '{"a"'), call(0, None, None, ":1}", finish_reason="tool_calls")]


def said(content: str | None, reason: str = "stop", **fields: Any) -> dict[str, Any]:
    """A choice as the whole reply has it."""
    message = {"role": "assistant", "content": content, "refusal": None, **fields}
    return {"message": message, "logprobs": None, "finish_reason": reason}


def told(given: int, made: int, **details: dict[str, int]) -> dict[str, Any]:
    return {**USAGE, **usage(given, made), **details}


def make(choices: int, passes: bool = False) -> tuple[ChatWhole, ChatStream]:
    readers = [Reader(choices=choices, passes_tool_calls=passes) for _ in range(2)]
    return ChatWhole(HEAD, readers[0]), ChatStream(HEAD, readers[1], includes_usage=True)


def feed(encoder: ChatWhole | ChatStream, chunks: list[Any], result: Any = None) -> bytes:
    return b"".join([encoder.start(), *(encoder.feed(chunk) for chunk in chunks), encoder.finish(result)])


Case = tuple[list[Any], list[dict[str, Any]], dict[str, Any]]  # chunks, choices, usage
CASES: dict[str, Case] = {
    "nothing": ([], [said("")], USAGE),
    "none": ([None], [said("")], USAGE),
    "empty text": ([""], [said("")], USAGE),
    "text": (["grün\n\n\x85\u2028data: a"], [said("grün\n\n\x85\u2028data: a")], USAGE),
    "texts": (["a", "", text("b"), {"content": "c"}, b"d"], [said("abcd")], USAGE),
    "reasoning": ([reasoning("why"), reasoning(" so"), "a"], [said("a", reasoning_content="why so")], USAGE),
    "only reasoning": ([reasoning("why")], [said("", reasoning_content="why")], USAGE),
    "only reasoning, cut off": (
        [reasoning("why"), text("", finish_reason="length")],
        [said("", "length", reasoning_content="why")],
        USAGE,
    ),
    "refusal": ([{"refusal": "no"}, {"refusal": "!"}], [said(None, refusal="no!")], USAGE),
    "text and refusal": ([message("a", refusal="no")], [said("a", refusal="no")], USAGE),
    "cut off": ([text("a"), text("", finish_reason="length")], [said("a", "length")], USAGE),
    "filtered": ([text("a", finish_reason="content_filter")], [said("a", "content_filter")], USAGE),
    "calls": (PIECES, [said(None, "tool_calls", tool_calls=[CALL])], USAGE),
    "text and calls": (["a", *PIECES], [said("a", "tool_calls", tool_calls=[CALL])], USAGE),
    "calls of two components": (
        [call(0, "call_1", "add", '{"a":1}', "one"), call(0, "call_2", "add", '{"a":1}', "two")],
        [said(None, "tool_calls", tool_calls=[CALL, {**CALL, "id": "call_2"}])],
        USAGE,
    ),
    "calls without an id": (
        [message(None, [ToolCall("add", {}), ToolCall("now", {})])],
        [
            said(
                None,
                "tool_calls",
                tool_calls=[
                    {"id": "call_key00", "type": "function", "function": {"name": "add", "arguments": "{}"}},
                    {"id": "call_key01", "type": "function", "function": {"name": "now", "arguments": "{}"}},
                ],
            )
        ],
        USAGE,
    ),
    "calls whose name comes late": (
        [call(0, "call_1", None, None), call(0, None, "add", '{"a":1}')],
        [said(None, "tool_calls", tool_calls=[CALL])],
        USAGE,
    ),
    "calls without a name or arguments": (
        [call(0, "call_1", None, None)],
        [
            said(
                None,
                "tool_calls",
                tool_calls=[{"id": "call_1", "type": "function", "function": {"name": "", "arguments": ""}}],
            )
        ],
        USAGE,
    ),
    "calls answered here": ([*PIECES, call_result(), text("a", finish_reason="stop")], [said("a")], USAGE),
    "calls in chunks of OpenAI's form": (
        [
            chunk({"role": "assistant", "content": None, "tool_calls": [{"index": 0, **CALL}]}),
            chunk({}, "tool_calls"),
        ],
        [said(None, "tool_calls", tool_calls=[CALL])],
        USAGE,
    ),
    "message": ([message("a", finish_reason="length", usage=usage(3, 4))], [said("a", "length")], told(3, 4)),
    "message with all": (
        [
            ChatMessage.from_assistant(
                "a",
                meta={
                    "finish_reason": "tool_calls",
                    "usage": {
                        **usage(3, 4),
                        "prompt_tokens_details": {"cached_tokens": 2},
                        "completion_tokens_details": {"reasoning_tokens": 1},
                    },
                },
                tool_calls=[ToolCall("add", {"a": 1}, "call_1")],
                reasoning="why",
            )
        ],
        [said("a", "tool_calls", reasoning_content="why", tool_calls=[CALL])],
        told(3, 4, prompt_tokens_details={"cached_tokens": 2}, completion_tokens_details={"reasoning_tokens": 1}),
    ),
    "replies": ([{"replies": [message("a", usage=usage(3, 4))]}], [said("a")], told(3, 4)),
    "replies that nobody has asked for": ([{"replies": ["a", "b"]}], [said("a")], USAGE),
    "agent's result": (
        [
            {
                "messages": [ChatMessage.from_user("q"), message(None, [ADD], usage=usage(1, 2))],
                "last_message": message(None, [ADD]),
            }
        ],
        [said(None, "tool_calls", tool_calls=[CALL])],
        told(1, 2),
    ),
    "pipeline's result": (
        [{"draft": {"replies": [message("a", usage=usage(1, 2))]}, "llm": {"replies": [message("b")]}, "x": {"y": 1}}],
        [said("b")],
        told(1, 2),
    ),
    "answers": (
        [{"answer_builder": {"answers": [GeneratedAnswer(data="a", query="q", documents=[])]}}],
        [said("a")],
        USAGE,
    ),
    "answers with what their model has said": (
        [{"answers": [GeneratedAnswer(data="a", query="q", documents=[], meta={"usage": usage(3, 4)})]}],
        [said("a")],
        told(3, 4),
    ),
    "usage": (["a", spent(3, 4), "b", spent(30, 40)], [said("ab")], told(33, 44)),
    "usage that is counted as it goes": (["a", spent(3, 1), "b", spent(3, 2)], [said("ab")], told(3, 2)),
    "events": (
        [create_status_event("d"), "a", {"event": {"type": "x"}}, {"unknown": 1}, "b"],
        [said("ab")],
        USAGE,
    ),
    "only an event": ([create_status_event("d")], [said("")], USAGE),
    "chunks of the SDK": (
        [
            sdk_chunk(chunk({"role": "assistant", "content": ""})),
            sdk_chunk(chunk({"content": "a"})),
            sdk_chunk(chunk({}, "length")),
            sdk_chunk({**chunk({}), "choices": [], "usage": usage(3, 4)}),
        ],
        [said("a", "length")],
        told(3, 4),
    ),
    "response": (
        [response(output_message("a", "b"), usage={"input_tokens": 3, "output_tokens": 4})],
        [said("ab")],
        told(3, 4),
    ),
    "response with an item that chat has no word for": (
        [response({"id": "ws_1", "type": "web_search_call"}, output_message("a"))],
        [said("a")],
        USAGE,
    ),
    "response of that item alone": ([response({"id": "ws_1", "type": "web_search_call"})], [said("")], USAGE),
    "response of the SDK": (
        [sdk_response(response({"type": "function_call", "call_id": "call_1", "name": "add", "arguments": '{"a":1}'}))],
        [said(None, "tool_calls", tool_calls=[CALL])],
        USAGE,
    ),
}


def body(choices: list[dict[str, Any]], usage: dict[str, Any]) -> dict[str, Any]:
    numbered = [{"index": index, **choice} for index, choice in enumerate(choices)]
    head = {"id": "chatcmpl-key", "object": "chat.completion", "created": 7, "model": "m"}
    return {**head, "choices": numbered, "usage": usage}


@pytest.mark.parametrize("case", CASES)
def test_whole(case: str) -> None:
    chunks, choices, usage = CASES[case]
    encoder, _ = make(1)
    assert json.loads(feed(encoder, chunks)) == body(choices, usage)


@pytest.mark.parametrize(
    "case", [case for case, (chunks, _, _) in CASES.items() if len(chunks) == 1 and case != "none"]
)
def test_whole_of_one_value(case: str) -> None:
    (value,), choices, usage = CASES[case]
    whole, stream = make(1)
    assert json.loads(whole.whole(value)) == body(choices, usage)
    assert fold_chat(stream.whole(value)) == body(choices, usage)


@pytest.mark.parametrize("case", CASES)
def test_stream_adds_up_to_the_whole(case: str) -> None:
    chunks, choices, usage = CASES[case]
    _, encoder = make(1)
    assert fold_chat(feed(encoder, chunks)) == body(choices, usage)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("passes", [False, True], ids=["held", "passed"])
def test_whole_and_stream_are_the_same_when_the_chunks_are_split(case: str, passes: bool) -> None:
    chunks, choices, usage = CASES[case]
    whole, stream = make(1, passes)
    if passes and case == "calls answered here":
        choices = [said("a", "tool_calls", tool_calls=[CALL])]
    pieces = split(chunks)
    assert json.loads(feed(whole, pieces)) == fold_chat(feed(stream, pieces)) == body(choices, usage)


@pytest.mark.parametrize("case", CASES)
def test_stream_leaves_usage_out_when_it_is_not_asked_for(case: str) -> None:
    chunks, _, _ = CASES[case]
    _, asked = make(1)
    *events, _, done = [data for _, data in decode(feed(asked, chunks))]
    expected = [json.loads(data) for data in events]
    for event in expected:
        event.pop("usage", None)
    *events, end = [data for _, data in decode(feed(ChatStream(HEAD, Reader()), chunks))]
    assert ([json.loads(data) for data in events], end) == (expected, done)


RESULTS: dict[str, tuple[list[Any], Any, list[dict[str, Any]], dict[str, Any]]] = {
    "silent": ([], {"llm": {"replies": [message("a", usage=usage(3, 4))]}}, [said("a")], told(3, 4)),
    "silent with a call": (
        [],
        {"last_message": message(None, [ADD])},
        [said(None, "tool_calls", tool_calls=[CALL])],
        USAGE,
    ),
    "after an event": ([create_status_event("d")], {"replies": ["a"]}, [said("a")], USAGE),
    "said already": (["a"], {"replies": [message("a", usage=usage(3, 4))]}, [said("a")], told(3, 4)),
    "without a reply": (["a"], {"retriever": {"documents": []}}, [said("a")], USAGE),
}


@pytest.mark.parametrize("case", RESULTS)
def test_finish_hears_the_result(case: str) -> None:
    chunks, result, choices, usage = RESULTS[case]
    whole, stream = make(1)
    assert json.loads(feed(whole, chunks, result)) == body(choices, usage)
    assert fold_chat(feed(stream, chunks, result)) == body(choices, usage)


CHOICES: dict[str, tuple[list[Any], list[dict[str, Any]], dict[str, Any]]] = {
    "replies": (
        [{"replies": [message("a", usage=usage(3, 4)), message("b", finish_reason="length", usage=usage(3, 4))]}],
        [said("a"), said("b", "length")],
        told(3, 4),
    ),
    "in turns": (
        [
            chunk({"content": "a"}),
            chunk({"content": "c"}, index=1),
            chunk({"content": "b"}),
            chunk({}, "stop"),
            chunk({"content": "d"}, "length", 1),
        ],
        [said("ab"), said("cd", "length")],
        USAGE,
    ),
    "calls": (
        [[message(None, [ADD]), message("b", [ADD])]],
        [said(None, "tool_calls", tool_calls=[CALL]), said("b", "tool_calls", tool_calls=[CALL])],
        USAGE,
    ),
    "calls without an id": (
        [[message("a"), message(None, [ToolCall("add", {})])]],
        [
            said("a"),
            said(
                None,
                "tool_calls",
                tool_calls=[{"id": "call_key10", "type": "function", "function": {"name": "add", "arguments": "{}"}}],
            ),
        ],
        USAGE,
    ),
    "only reasoning in one": (
        [chunk({"reasoning_content": "why"}), chunk({"content": "b"}, index=1)],
        [said("", reasoning_content="why"), said("b")],
        USAGE,
    ),
    "fewer than asked for": (["a"], [said("a")], USAGE),
    "more than asked for": ([["a", "b", "c"]], [said("a"), said("b")], USAGE),
}


@pytest.mark.parametrize("case", CHOICES)
def test_choices(case: str) -> None:
    chunks, choices, usage = CHOICES[case]
    whole, stream = make(2)
    assert json.loads(feed(whole, chunks)) == fold_chat(feed(stream, chunks)) == body(choices, usage)


def test_stream_bytes() -> None:
    stream = ChatStream(HEAD, Reader())
    assert [stream.start(), stream.feed("a"), stream.feed(None), stream.feed(create_status_event("d"))] == [
        b"",
        b'data: {"id":"chatcmpl-key","object":"chat.completion.chunk","created":7,"model":"m","choices":'
        b'[{"index":0,"delta":{"role":"assistant","content":"a"},"finish_reason":null}]}\n\n',
        b"",
        f"data: {json.dumps(STATUS, separators=(',', ':'))}\n\n".encode(),
    ]
    assert stream.finish() == (
        b'data: {"id":"chatcmpl-key","object":"chat.completion.chunk","created":7,"model":"m","choices":'
        b'[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
        b"data: [DONE]\n\n"
    )


def test_stream_passes_a_call_at_once_when_told_to() -> None:
    held, passed = (ChatStream(HEAD, Reader(passes_tool_calls=passes)) for passes in (False, True))
    assert held.feed(PIECES[0]) == b""
    ((_, data),) = decode(passed.feed(PIECES[0]))
    assert json.loads(data)["choices"][0]["delta"] == {
        "role": "assistant",
        "tool_calls": [
            {"index": 0, "id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a"'}}
        ],
    }
    ((_, data),) = decode(passed.feed(PIECES[1]))
    assert json.loads(data)["choices"][0]["delta"] == {"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]}


def test_stream_keeps_events_in_their_place() -> None:
    chunks, _, _ = CASES["events"]
    events = [json.loads(data) for _, data in decode(feed(make(1)[1], chunks)) if data != "[DONE]"]
    places = [event.get("event") or [choice["delta"].get("content") for choice in event["choices"]] for event in events]
    assert places == [STATUS["event"], ["a"], {"type": "x"}, {"unknown": 1}, ["b"], [None], []]


PROBLEM = Problem("went\nwrong", "server_error", "wrapper_error", "messages", error_id="err_1")
ENVELOPE = {
    "error": {"message": "went\nwrong", "type": "server_error", "param": "messages", "code": "wrapper_error"},
}


def test_fail_ends_a_stream_with_the_error_alone() -> None:
    stream = ChatStream(HEAD, Reader(), includes_usage=True)
    stream.feed("a")
    ((kind, data),) = decode(stream.fail(PROBLEM))
    assert (kind, json.loads(data)) == ("message", ENVELOPE)
    assert json.loads(ChatWhole(HEAD, Reader()).fail(PROBLEM)) == ENVELOPE


# A completion that the wrapper has made itself goes out as it is.
WHOLE = completion(
    {**choice("a", "length", refusal=None, annotations=[]), "logprobs": {"content": [], "refusal": []}},
    usage=usage(3, 4),
    system_fingerprint="fp",
    extra={"kept": True},
)
GIVEN: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "whole": (WHOLE, WHOLE),
    "bare": (
        {"choices": [{"message": {"content": "a"}}]},
        body([said("a")], USAGE),
    ),
    "bare with a call": (
        {"choices": [{"message": {"tool_calls": [CALL]}}]},
        body([said(None, "tool_calls", tool_calls=[CALL])], USAGE),
    ),
    "nulls": (
        {**completion(choice("a")), "id": None, "usage": None, "model": None, "object": "other"},
        {**body([said("a")], USAGE), "created": 1},
    ),
    "nulls inside": (
        sdk_completion(completion(choice("a"), usage=usage(3, 4))).model_dump(mode="json"),
        {**body([said("a")], usage(3, 4)), "id": "x", "created": 1},
    ),
    "reasoning in other words": (
        {"choices": [{"message": {"content": "a", "reasoning": "why"}}]},
        body([said("a", reasoning_content="why")], USAGE),
    ),
    "reason that does not fit": (
        {
            "choices": [
                {"message": {"content": "a"}, "finish_reason": "tool_calls"},
                choice(None, index=1, tool_calls=[CALL]),
            ]
        },
        body([said("a"), said(None, "tool_calls", tool_calls=[CALL])], USAGE),
    ),
    "more choices than asked for": (
        completion(choice("a"), choice("b", index=1), choice("c", index=2)),
        {**body([said("a"), said("b")], USAGE), "id": "x", "created": 1},
    ),
    "several choices": (
        {"choices": [{"message": {"content": "a"}}, {"message": {"content": "b"}, "finish_reason": "length"}]},
        body([said("a"), said("b", "length")], USAGE),
    ),
}


@pytest.mark.parametrize("case", GIVEN)
def test_whole_of_a_completion(case: str) -> None:
    given, expected = GIVEN[case]
    assert json.loads(ChatWhole(HEAD, Reader(choices=2)).whole(given)) == expected


@pytest.mark.parametrize("case", GIVEN)
def test_stream_of_a_completion_adds_up_to_its_choices(case: str) -> None:
    given, expected = GIVEN[case]
    folded = fold_chat(ChatStream(HEAD, Reader(choices=2), includes_usage=True).whole(given))
    choices = [{**each, "logprobs": None} for each in expected["choices"]]
    for each in choices:  # a stream has no place for annotations
        each["message"] = {key: value for key, value in each["message"].items() if key != "annotations"}
    assert folded == {**body([], {**USAGE, **expected["usage"]}), "choices": choices}


def test_whole_of_a_completion_of_the_sdk() -> None:
    given = completion(choice("a", refusal=None), usage=usage(3, 4), service_tier="flex")
    expected = {**given, "choices": [{**given["choices"][0], "logprobs": None}]}
    assert json.loads(ChatWhole(HEAD, Reader()).whole(sdk_completion(given))) == expected


def test_whole_of_a_completion_and_more_is_made_of_both() -> None:
    whole, _ = make(1)
    assert json.loads(feed(whole, [completion(choice("a"), usage=usage(3, 4)), "b"])) == body([said("ab")], told(3, 4))


@pytest.mark.parametrize("value", [None, {}, {"a": 1}, 1, object(), [1]])
def test_whole_raises_when_no_reply_can_be_made_of_it(value: Any) -> None:
    for encoder in make(1):
        with pytest.raises(TypeError, match=r"^a reply cannot be made of ") as caught:
            encoder.whole(value)
        assert str(caught.value).endswith(EXPECTED)


@given(st.lists(st.text()))
def test_any_text_comes_out_as_it_went_in_however_it_is_split(texts: list[str]) -> None:
    whole, stream = make(1)
    expected = body([said("".join(texts))], USAGE)
    assert json.loads(feed(whole, list(texts))) == fold_chat(feed(stream, list(texts))) == expected


@given(st.text(st.sampled_from('\r\n\x00\x0b\x0c\x1c\x85\u2028\u2029"\\data: [DONE]{}é💚'), max_size=40))
def test_text_that_looks_like_the_format_comes_out_as_it_went_in(whole_text: str) -> None:
    _, stream = make(1)
    assert fold_chat(feed(stream, list(whole_text))) == body([said(whole_text)], USAGE)


KINDS = st.one_of(
    st.text(max_size=3),
    st.text(max_size=3).map(lambda piece: {"reasoning_content": piece}),
    st.text(min_size=1, max_size=3).map(lambda piece: {"refusal": piece}),
    st.builds(
        lambda number, piece, name: call(number, f"call_{number}", name, piece, "llm"),
        st.integers(0, 2),
        st.text(max_size=3),
        st.none() | st.sampled_from(["add", "now"]),
    ),
    st.builds(spent, st.integers(0, 3), st.integers(0, 3)),
    st.sampled_from([None, create_status_event("d"), text("", finish_reason="length"), call_result()]),
)


@given(st.lists(KINDS), st.booleans())
def test_any_stream_adds_up_to_the_whole(chunks: list[Any], passes: bool) -> None:
    whole, stream = make(1, passes)
    assert fold_chat(feed(stream, chunks)) == json.loads(feed(whole, chunks))


# Requests.
USER = {"role": "user", "content": "hi"}
MINIMAL = {"model": "m", "messages": [USER]}
REQUESTS: dict[str, tuple[dict[str, Any], tuple[bool, bool, int]]] = {  # is_stream, includes_usage, choices
    "minimal": (MINIMAL, (False, False, 1)),
    "stream": ({**MINIMAL, "stream": True}, (True, False, 1)),
    "usage": ({**MINIMAL, "stream": True, "stream_options": {"include_usage": True}}, (True, True, 1)),
    "no usage": ({**MINIMAL, "stream_options": {"include_obfuscation": True}}, (False, False, 1)),
    "nulls": ({**MINIMAL, "stream": None, "stream_options": None, "n": None, "tools": None}, (False, False, 1)),
    "choices": ({**MINIMAL, "n": 128}, (False, False, 128)),
    "every role": (
        {
            "model": "m",
            "messages": [
                {"role": "developer", "content": "d"},
                {"role": "system", "content": "s", "name": "n"},
                USER,
                {"role": "assistant", "content": None, "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "call_1", "content": "2"},
                {"role": "assistant", "refusal": "no"},
                {"role": "unheard of", "content": ""},
            ],
        },
        (False, False, 1),
    ),
    "every part": (
        {
            "model": "m",
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "t"},
                        {"type": "image_url", "image_url": {"url": "u", "detail": "low"}},
                        {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
                        {"type": "file", "file": {"file_id": "file-1"}},
                        {"unheard": "of"},
                    ],
                }
            ],
        },
        (False, False, 1),
    ),
    "what is not heeded": (
        {
            **MINIMAL,
            "tools": [{"type": "namespace", "x": 1}, "what"],
            "tool_choice": {"type": "web_search"},
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
            "metadata": {"k": "v"},
            "stop": ["x"],
            "temperature": "hot",
            "unheard": {"of": [None]},
        },
        (False, False, 1),
    ),
}


@pytest.mark.parametrize("case", REQUESTS)
def test_parse(case: str) -> None:
    data, heeded = REQUESTS[case]
    request = parse(data)
    assert (request.is_stream, request.includes_usage, request.choices) == heeded
    assert request.arguments == {"model": "m", "messages": data["messages"], "body": data}


def test_parse_takes_the_model_of_the_path() -> None:
    data = {**MINIMAL, "model": "other"}
    assert parse(data, model="w").arguments == {"model": "w", "messages": [USER], "body": {**MINIMAL, "model": "w"}}
    assert parse({"messages": [USER]}, model="w").body == {"model": "w", "messages": [USER]}
    assert data == {**MINIMAL, "model": "other"}


MISSING, TYPE, VALUE = "missing_required_parameter", "invalid_type", "invalid_value"
REFUSED: dict[str, tuple[Any, str | None, str, str]] = {  # param, code, sentence
    "array": ([], None, TYPE, "the body must be a JSON object, not an array"),
    "null": (None, None, TYPE, "the body must be a JSON object, not null"),
    "text": ("{}", None, TYPE, "the body must be a JSON object, not a string"),
    "number": (1.5, None, TYPE, "the body must be a JSON object, not a number"),
    "call is text": (
        {"model": "m", "messages": [{"role": "assistant", "tool_calls": ["x"]}]},
        "messages[0].tool_calls[0]",
        TYPE,
        "messages[0].tool_calls[0] must be an object",
    ),
    "call without a function": (
        {"model": "m", "messages": [USER, {"role": "assistant", "tool_calls": [{"id": "1"}]}]},
        "messages[1].tool_calls[0].function",
        MISSING,
        "messages[1].tool_calls[0].function is required",
    ),
    "id of a call is an object": (
        {"model": "m", "messages": [{"role": "tool", "tool_call_id": {}, "content": "x"}]},
        "messages[0].tool_call_id",
        TYPE,
        "messages[0].tool_call_id must be a string, not an object",
    ),
    "no model": ({"messages": [USER]}, "model", MISSING, "model is required"),
    "model is null": ({**MINIMAL, "model": None}, "model", MISSING, "model is required"),
    "model is a number": ({**MINIMAL, "model": 1}, "model", TYPE, "model must be a string, not an integer"),
    "no messages": ({"model": "m"}, "messages", MISSING, "messages is required"),
    "messages are text": ({**MINIMAL, "messages": "hi"}, "messages", TYPE, "messages must be an array, not a string"),
    "messages are empty": ({**MINIMAL, "messages": []}, "messages", "empty_array", "messages must not be empty"),
    "message is text": (
        {**MINIMAL, "messages": [USER, "hi"]},
        "messages[1]",
        TYPE,
        "messages[1] must be an object, not a string",
    ),
    "message is null": (
        {**MINIMAL, "messages": [None]},
        "messages[0]",
        TYPE,
        "messages[0] must be an object, not null",
    ),
    "no role": (
        {**MINIMAL, "messages": [{"content": "hi"}]},
        "messages[0].role",
        MISSING,
        "messages[0].role is required",
    ),
    "role is a number": (
        {**MINIMAL, "messages": [{"role": 1, "content": "hi"}]},
        "messages[0].role",
        TYPE,
        "messages[0].role must be a string, not an integer",
    ),
    "content is an object": (
        {**MINIMAL, "messages": [USER, {"role": "user", "content": {}}]},
        "messages[1].content",
        TYPE,
        "messages[1].content must be a string or an array, not an object",
    ),
    "part is text": (
        {**MINIMAL, "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, "hi"]}]},
        "messages[0].content[1]",
        TYPE,
        "messages[0].content[1] must be an object",
    ),
    "n is zero": ({**MINIMAL, "n": 0}, "n", VALUE, "n must be from 1 to 128, not 0"),
    "n is large": ({**MINIMAL, "n": 129}, "n", VALUE, "n must be from 1 to 128, not 129"),
    "n is true": ({**MINIMAL, "n": True}, "n", TYPE, "n must be an integer, not true or false"),
    "n is half": ({**MINIMAL, "n": 1.5}, "n", TYPE, "n must be an integer, not a number"),
    "stream is text": ({**MINIMAL, "stream": "yes"}, "stream", TYPE, "stream must be true or false, not a string"),
    "stream is a number": ({**MINIMAL, "stream": 1}, "stream", TYPE, "stream must be true or false, not an integer"),
    "stream_options is an array": (
        {**MINIMAL, "stream_options": []},
        "stream_options",
        TYPE,
        "stream_options must be an object, not an array",
    ),
    "include_usage is text": (
        {**MINIMAL, "stream_options": {"include_usage": "yes"}},
        "stream_options.include_usage",
        TYPE,
        "stream_options.include_usage must be true or false, not a string",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_parse_refuses(case: str) -> None:
    data, param, code, sentence = REFUSED[case]
    with pytest.raises(InvalidRequest) as caught:
        parse(data)
    assert (caught.value.status, caught.value.type) == (400, "invalid_request_error")
    assert (caught.value.param, caught.value.code, caught.value.message) == (param, code, sentence)
