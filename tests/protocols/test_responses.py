import json
from typing import Any

import pytest
from haystack.dataclasses import ChatMessage, GeneratedAnswer, ToolCall
from hypothesis import given
from hypothesis import strategies as st

from gateway.events import create_status_event
from gateway.protocols.openai import Head
from gateway.protocols.problem import Problem
from gateway.protocols.reader import Reader
from gateway.protocols.responses import DEFAULTS, ResponseStream, ResponseWhole
from gateway.protocols.result import EXPECTED
from tests.protocols.fold import decode, fold_response
from tests.protocols.sample import (
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
from tests.protocols.split import split

HEAD = Head("key", 7, "m")
BODY: dict[str, Any] = {"model": "m", "input": "hi"}
ADD = ToolCall(tool_name="add", arguments={"a": 1}, id="call_1")
PIECES = [call(0, "call_1", "add", '{"a"'), call(0, None, None, ":1}", finish_reason="tool_calls")]


def told(given: int, made: int, cached: int = 0, written: int = 0, reasoned: int = 0) -> dict[str, Any]:
    return {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": reasoned},
        "total_tokens": given + made,
    }


def part(said: str) -> dict[str, Any]:
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": said}


def refused(said: str) -> dict[str, Any]:
    return {"type": "refusal", "refusal": said}


def spoke(*parts: dict[str, Any], at: int = 0, status: str = "completed") -> dict[str, Any]:
    return {"id": f"msg_key{at}", "status": status, "type": "message", "role": "assistant", "content": list(parts)}


def thought(said: str, at: int = 0, status: str = "completed") -> dict[str, Any]:
    summary = [{"type": "summary_text", "text": said}]
    return {"id": f"rs_key{at}", "status": status, "type": "reasoning", "summary": summary}


def called(
    at: int = 0,
    call_id: str = "call_1",
    name: str = "add",
    arguments: str = '{"a":1}',
    status: str = "completed",
) -> dict[str, Any]:
    fixed = {"id": f"fc_key{at}", "status": status, "type": "function_call"}
    return {**fixed, "arguments": arguments, "call_id": call_id, "name": name}


def body(output: list[dict[str, Any]], usage: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    return {
        "id": "resp_key",
        "object": "response",
        "created_at": 7,
        "status": "incomplete" if reason else "completed",
        "background": False,
        "error": None,
        "incomplete_details": {"reason": reason} if reason else None,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "metadata": {},
        "model": "m",
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": "default",
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": usage,
        "user": None,
    }


def make(passes: bool = False, request: dict[str, Any] = BODY) -> tuple[ResponseWhole, ResponseStream]:
    whole = ResponseWhole(HEAD, Reader(passes_tool_calls=passes), request)
    return whole, ResponseStream(HEAD, Reader(passes_tool_calls=passes), request)


def feed(encoder: ResponseWhole | ResponseStream, chunks: list[Any], result: Any = None) -> bytes:
    return b"".join([encoder.start(), *(encoder.feed(chunk) for chunk in chunks), encoder.finish(result)])


NOTHING = told(0, 0)
Case = tuple[list[Any], dict[str, Any]]  # chunks, the response object
CASES: dict[str, Case] = {
    "nothing": ([], body([spoke(part(""))], NOTHING)),
    "none": ([None], body([spoke(part(""))], NOTHING)),
    "empty text": ([""], body([spoke(part(""))], NOTHING)),
    "text": (["grün\n\n\x85\u2028data: a"], body([spoke(part("grün\n\n\x85\u2028data: a"))], NOTHING)),
    "texts": (["a", "", text("b"), {"content": "c"}, b"d"], body([spoke(part("abcd"))], NOTHING)),
    "reasoning": (
        [reasoning("why"), reasoning(" so"), "a"],
        body([thought("why so"), spoke(part("a"), at=1)], NOTHING),
    ),
    "only reasoning": ([reasoning("why")], body([thought("why")], NOTHING)),
    "only reasoning, cut off": (
        [reasoning("why"), text("", finish_reason="length")],
        body([thought("why", status="incomplete")], NOTHING, "max_output_tokens"),
    ),
    "reasoning in between": (
        ["a", reasoning("why"), "b"],
        body([spoke(part("a")), thought("why", 1), spoke(part("b"), at=2)], NOTHING),
    ),
    "refusal": ([{"refusal": "no"}, {"refusal": "!"}], body([spoke(refused("no!"))], NOTHING)),
    "text and refusal": (
        [message("a", refusal="no"), "b"],
        body([spoke(part("a"), refused("no"), part("b"))], NOTHING),
    ),
    "cut off": (
        [text("a"), text("", finish_reason="length")],
        body([spoke(part("a"), status="incomplete")], NOTHING, "max_output_tokens"),
    ),
    "filtered": (
        [text("a", finish_reason="content_filter")],
        body([spoke(part("a"), status="incomplete")], NOTHING, "content_filter"),
    ),
    "calls": (PIECES, body([called()], NOTHING)),
    "call that is cut off": (
        ["a", PIECES[0], text("", finish_reason="length")],
        body([spoke(part("a")), called(1, arguments='{"a"', status="incomplete")], NOTHING, "max_output_tokens"),
    ),
    "reasoning, text and calls": (
        [reasoning("why"), "a", *PIECES],
        body([thought("why"), spoke(part("a"), at=1), called(2)], NOTHING),
    ),
    "calls of two components": (
        [call(0, "call_1", "add", '{"a":1}', "one"), call(0, "call_2", "add", '{"a":1}', "two")],
        body([called(), called(1, "call_2")], NOTHING),
    ),
    "calls without an id": (
        [message(None, [ToolCall("add", {}), ToolCall("now", {})])],
        body([called(0, "call_key0", arguments="{}"), called(1, "call_key1", "now", "{}")], NOTHING),
    ),
    "calls whose name comes late": (
        [call(0, "call_1", None, None), call(0, None, "add", '{"a":1}')],
        body([called()], NOTHING),
    ),
    "calls without arguments": ([call(0, "call_1", "add", None)], body([called(arguments="")], NOTHING)),
    "calls answered here": (
        [*PIECES, call_result(), text("a", finish_reason="stop")],
        body([spoke(part("a"))], NOTHING),
    ),
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
                tool_calls=[ADD],
                reasoning="why",
            )
        ],
        body([thought("why"), spoke(part("a"), at=1), called(2)], told(3, 4, 2, 0, 1)),
    ),
    "message of several texts": ([[message("a")], message("b")], body([spoke(part("ab"))], NOTHING)),
    "replies that nobody has asked for": ([{"replies": ["a", "b"]}], body([spoke(part("a"))], NOTHING)),
    "agent's result": (
        [
            {
                "messages": [message("x", usage=usage(1, 2)), message("a", usage=usage(3, 4))],
                "last_message": message("a"),
            }
        ],
        body([spoke(part("a"))], told(4, 6)),
    ),
    "pipeline's result": (
        [{"draft": {"replies": [message("a", usage=usage(1, 2))]}, "llm": {"replies": [message("b")]}, "x": {"y": 1}}],
        body([spoke(part("b"))], told(1, 2)),
    ),
    "answers": (
        [{"answer_builder": {"answers": [GeneratedAnswer(data="a", query="q", documents=[])]}}],
        body([spoke(part("a"))], NOTHING),
    ),
    "usage": (["a", spent(3, 4), "b", spent(30, 40)], body([spoke(part("ab"))], told(33, 44))),
    "usage that is counted as it goes": (["a", spent(3, 1), "b", spent(3, 2)], body([spoke(part("ab"))], told(3, 2))),
    "events": ([create_status_event("d"), "a", {"event": {"x": 1}}, {"a": 1}, "b"], body([spoke(part("ab"))], NOTHING)),
    "only an event": ([create_status_event("d")], body([spoke(part(""))], NOTHING)),
    "chunks of the SDK": (
        [
            sdk_chunk(chunk({"role": "assistant", "content": ""})),
            sdk_chunk(chunk({"content": "a"})),
            sdk_chunk(chunk({}, "length")),
            sdk_chunk({**chunk({}), "choices": [], "usage": usage(3, 4)}),
        ],
        body([spoke(part("a"), status="incomplete")], told(3, 4), "max_output_tokens"),
    ),
    "stream that is handed on": (
        [
            event("response.created", response=response()),
            event("response.output_item.added", output_index=0, item={"type": "reasoning"}),
            event("response.reasoning_summary_text.delta", output_index=0, delta="why"),
            event("response.output_text.delta", output_index=1, delta="a"),
            event("response.output_text.done", output_index=1, text="a"),
            event(
                "response.output_item.added",
                output_index=2,
                item={"type": "function_call", "call_id": "call_1", "name": "add", "arguments": ""},
            ),
            event("response.function_call_arguments.delta", output_index=2, delta='{"a"'),
            event("response.function_call_arguments.delta", output_index=2, delta=":1}"),
            event("response.function_call_arguments.done", output_index=2, arguments='{"a":1}'),
            event("response.completed", response=response(usage=told(3, 4, 2, 1, 1))),
        ],
        body([thought("why"), spoke(part("a"), at=1), called(2)], told(3, 4, 2, 1, 1)),
    ),
    "completion": (
        [completion(choice("a"), usage=usage(3, 4))],
        body([spoke(part("a"))], told(3, 4)),
    ),
    "completion of the SDK": (
        [sdk_completion(completion(choice("a", "length"), usage=usage(3, 4)))],
        body([spoke(part("a"), status="incomplete")], told(3, 4), "max_output_tokens"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_whole(case: str) -> None:
    chunks, expected = CASES[case]
    encoder, _ = make()
    assert json.loads(feed(encoder, chunks)) == expected


@pytest.mark.parametrize("case", [case for case, (chunks, _) in CASES.items() if len(chunks) == 1 and case != "none"])
def test_whole_of_one_value(case: str) -> None:
    (value,), expected = CASES[case]
    whole, stream = make()
    assert json.loads(whole.whole(value)) == expected
    assert fold_response(stream.whole(value)) == expected


@pytest.mark.parametrize("case", CASES)
def test_stream_adds_up_to_the_whole(case: str) -> None:
    chunks, expected = CASES[case]
    _, encoder = make()
    assert fold_response(feed(encoder, chunks)) == expected


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("passes", [False, True], ids=["held", "passed"])
def test_whole_and_stream_are_the_same_when_the_chunks_are_split(case: str, passes: bool) -> None:
    chunks, expected = CASES[case]
    whole, stream = make(passes)
    if passes and case == "calls answered here":
        expected = body([called(), spoke(part("a"), at=1)], NOTHING)
    pieces = split(chunks)
    assert json.loads(feed(whole, pieces)) == fold_response(feed(stream, pieces)) == expected


RESULTS: dict[str, tuple[list[Any], Any, dict[str, Any]]] = {
    "silent": ([], {"llm": {"replies": [message("a", usage=usage(3, 4))]}}, body([spoke(part("a"))], told(3, 4))),
    "silent with a call": ([], {"last_message": message(None, [ADD])}, body([called()], NOTHING)),
    "said already": (["a"], {"replies": [message("a", usage=usage(3, 4))]}, body([spoke(part("a"))], told(3, 4))),
    "without a reply": (["a"], {"retriever": {"documents": []}}, body([spoke(part("a"))], NOTHING)),
}


@pytest.mark.parametrize("case", RESULTS)
def test_finish_hears_the_result(case: str) -> None:
    chunks, result, expected = RESULTS[case]
    whole, stream = make()
    assert json.loads(feed(whole, chunks, result)) == fold_response(feed(stream, chunks, result)) == expected


def test_calls_that_come_in_turns_stay_open_to_the_end() -> None:
    turns = [call(0, "call_1", "add", "{"), call(1, "call_2", "now", "["), call(0, None, None, "}")]
    turns += [text("a"), call(1, None, None, "]")]
    _, stream = make(passes=True)
    expected = body([called(arguments="{}"), called(1, "call_2", "now", "[]"), spoke(part("a"), at=2)], NOTHING)
    assert fold_response(feed(stream, turns)) == expected


ADDED: dict[str, Any] = {
    "id": "msg_key0",
    "status": "in_progress",
    "type": "message",
    "role": "assistant",
    "content": [],
}
PLACE = {"item_id": "msg_key0", "output_index": 0, "content_index": 0}
BEGUN = {**body([], NOTHING), "status": "in_progress", "usage": None}
EVENTS: list[tuple[str, dict[str, Any]]] = [
    ("response.created", {"response": BEGUN}),
    ("response.in_progress", {"response": BEGUN}),
    ("response.output_item.added", {"output_index": 0, "item": ADDED}),
    ("response.content_part.added", {**PLACE, "part": part("")}),
    ("response.output_text.delta", {**PLACE, "delta": "a", "logprobs": []}),
    ("response.output_text.delta", {**PLACE, "delta": "b", "logprobs": []}),
    ("response.output_text.done", {**PLACE, "text": "ab", "logprobs": []}),
    ("response.content_part.done", {**PLACE, "part": part("ab")}),
    ("response.output_item.done", {"output_index": 0, "item": spoke(part("ab"))}),
    ("response.completed", {"response": body([spoke(part("ab"))], NOTHING)}),
]


def test_stream_events() -> None:
    _, stream = make()
    recorded = [(kind, json.loads(data)) for kind, data in decode(feed(stream, ["a", None, "b"]))]
    assert recorded == [
        (kind, {"type": kind, **fields, "sequence_number": number}) for number, (kind, fields) in enumerate(EVENTS)
    ]


KINDS: dict[str, tuple[list[Any], list[str]]] = {
    "reasoning": (
        [reasoning("why")],
        [
            "output_item.added",
            "reasoning_summary_part.added",
            "reasoning_summary_text.delta",
            "reasoning_summary_text.done",
            "reasoning_summary_part.done",
            "output_item.done",
        ],
    ),
    "refusal": (
        [{"refusal": "no"}],
        [
            "output_item.added",
            "content_part.added",
            "refusal.delta",
            "refusal.done",
            "content_part.done",
            "output_item.done",
        ],
    ),
    "call": (
        PIECES,
        [
            "output_item.added",
            "function_call_arguments.delta",
            "function_call_arguments.delta",
            "function_call_arguments.done",
            "output_item.done",
        ],
    ),
    "nothing": (
        [],
        [
            "output_item.added",
            "content_part.added",
            "output_text.done",
            "content_part.done",
            "output_item.done",
        ],
    ),
}


@pytest.mark.parametrize("case", KINDS)
def test_order_of_the_events(case: str) -> None:
    chunks, expected = KINDS[case]
    _, stream = make()
    kinds = [kind.removeprefix("response.") for kind, _ in decode(feed(stream, chunks))]
    assert kinds == ["created", "in_progress", *expected, "completed"]


def test_stream_passes_a_call_at_once_when_told_to() -> None:
    (_, held), (_, passed) = make(), make(passes=True)
    assert held.feed(PIECES[0]) == b""
    assert [kind for kind, _ in decode(passed.feed(PIECES[0]))] == [
        "response.output_item.added",
        "response.function_call_arguments.delta",
    ]


def test_stream_says_at_once_that_it_has_begun() -> None:
    whole, stream = make()
    assert [kind for kind, _ in decode(stream.start())] == ["response.created", "response.in_progress"]
    assert (whole.start(), whole.feed("a"), whole.media_type) == (b"", b"", "application/json")
    assert stream.media_type == "text/event-stream"


ECHOED = {
    "instructions": "be brief",
    "max_output_tokens": 5,
    "max_tool_calls": 2,
    "metadata": {"k": "v"},
    "parallel_tool_calls": False,
    "prompt_cache_key": "p",
    "reasoning": {"effort": "low"},
    "safety_identifier": "s",
    "service_tier": "flex",
    "temperature": 0,
    "text": {"format": {"type": "json_object"}},
    "tool_choice": {"type": "function", "name": "add"},
    "tools": [{"type": "namespace", "name": "n"}],
    "top_logprobs": 3,
    "top_p": 0.5,
    "truncation": "auto",
    "user": "u",
}


def test_response_repeats_the_request() -> None:
    assert ECHOED.keys() == DEFAULTS.keys()
    whole, stream = make(request={**BODY, **ECHOED, "store": True, "unheard": "of", "stream": True})
    expected = {**body([spoke(part("a"))], NOTHING), **ECHOED}
    assert json.loads(feed(whole, ["a"])) == fold_response(feed(stream, ["a"])) == expected


def test_response_has_its_defaults_where_the_request_says_null() -> None:
    whole, _ = make(request={**BODY, **dict.fromkeys(DEFAULTS)})
    assert json.loads(feed(whole, ["a"])) == body([spoke(part("a"))], NOTHING)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("server_error", "server_error"),
        ("rate_limit_exceeded", "rate_limit_exceeded"),
        ("wrapper_error", "server_error"),
        ("deadline_exceeded", "server_error"),
    ],
)
def test_fail_ends_a_stream_with_both_words_for_it(code: str, said: str) -> None:
    problem = Problem("went\nwrong", "server_error", code, "input", error_id="err_1")
    _, stream = make()
    stream.start()
    (failed, first), (error, second) = decode(stream.fail(problem))
    assert (failed, error) == ("response.failed", "error")
    assert json.loads(first) == {
        "type": "response.failed",
        "response": {**BEGUN, "status": "failed", "error": {"code": said, "message": "went\nwrong"}},
        "sequence_number": 2,
    }
    fields = {"code": code, "message": "went\nwrong", "param": "input"}
    assert json.loads(second) == {
        "type": "error",
        **fields,
        "error": {**fields, "type": "server_error"},
        "sequence_number": 3,
    }


def test_failed_response_holds_what_has_been_said() -> None:
    _, stream = make(passes=True)
    said = b"".join(stream.feed(chunk) for chunk in (reasoning("why"), PIECES[0], "a", "b"))
    (_, data), _ = decode(stream.fail(Problem("m", "server_error", "wrapper_error")))
    failed = json.loads(data)
    assert failed["response"]["output"] == [
        thought("why"),
        called(1, arguments='{"a"', status="incomplete"),
        spoke(part("ab"), at=2, status="incomplete"),
    ]
    assert failed["sequence_number"] == len(list(decode(said)))


def test_fail_of_a_whole_is_the_envelope_alone() -> None:
    whole, _ = make()
    assert json.loads(whole.fail(Problem("m", "server_error", "wrapper_error"))) == {
        "error": {"message": "m", "type": "server_error", "param": None, "code": "wrapper_error"}
    }


# A response that the wrapper has made itself goes out as it is.
SEARCH = {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "q"}}
CALL_ITEM = {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "add", "arguments": '{"a":1}'}


def spoken(*said: str) -> dict[str, Any]:
    """`output_message` with what the format needs beside it."""
    return {**output_message(), "content": [part(each) for each in said]}


FULL = {**response(SEARCH, output_message("a", "b"), usage=told(3, 4)), "status": "completed", "extra": {"kept": True}}
OWN = {"store": True, "background": True, "previous_response_id": "resp_0", "object": "other"}
GIVEN: dict[str, tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]] = {  # given, whole, streamed output
    "full": (
        FULL,
        {**body([], told(3, 4)), **FULL, "output": [SEARCH, spoken("a", "b")]},
        [SEARCH, spoke(part("ab"), at=1)],
    ),
    "bare": (
        {"output": [{"content": [{"text": "a"}]}, {"type": "function_call", "name": "now"}, {"type": "reasoning"}]},
        body(
            [
                spoke(part("a")),
                called(1, "call_key1", "now", ""),
                {"id": "rs_key2", "type": "reasoning", "summary": []},
            ],
            NOTHING,
        ),
        [spoke(part("a")), called(1, "call_key0", "now", "")],
    ),
    "nulls": (
        {**response({**output_message("a"), "phase": None}), "id": None, "model": None, "usage": None},
        {**body([spoken("a")], NOTHING), "created_at": 1.0},
        [spoke(part("a"))],
    ),
    "what is the gateway's own": (
        response(output_message("a"), **OWN),
        {**body([spoken("a")], NOTHING), "id": "resp_x", "created_at": 1.0},
        [spoke(part("a"))],
    ),
    "calls": (
        response(CALL_ITEM),
        {**body([{**CALL_ITEM, "status": "completed"}], NOTHING), "id": "resp_x", "created_at": 1.0},
        [called()],
    ),
    "item without an id": (
        {"output": [{"type": "custom_tool_call", "call_id": "c", "name": "sh", "input": "ls"}]},
        body([{"id": "item_key0", "type": "custom_tool_call", "call_id": "c", "name": "sh", "input": "ls"}], NOTHING),
        [{"id": "item_key0", "type": "custom_tool_call", "call_id": "c", "name": "sh", "input": "ls"}],
    ),
    "refusal": (
        {"output": [{"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}]},
        body([spoke(refused("no"))], NOTHING),
        [spoke(refused("no"))],
    ),
    "nothing": (response(), {**body([], NOTHING), "id": "resp_x", "created_at": 1.0}, [spoke(part(""))]),
}


@pytest.mark.parametrize("case", GIVEN)
def test_whole_of_a_response(case: str) -> None:
    given, expected, output = GIVEN[case]
    whole, stream = make()
    assert json.loads(whole.whole(given)) == expected
    assert fold_response(stream.whole(given)) == body(output, expected["usage"])


def test_whole_of_a_response_of_the_sdk() -> None:
    whole, stream = make()
    value = sdk_response({**response(output_message("a")), "usage": told(3, 4), "temperature": 0.5})
    given = {"id": "resp_x", "created_at": 1.0, "temperature": 0.5}
    assert json.loads(whole.whole(value)) == {**body([spoken("a")], told(3, 4)), **given}
    assert fold_response(stream.whole(value)) == body([spoke(part("a"))], told(3, 4))


def test_whole_of_a_response_and_more_is_made_of_both() -> None:
    whole, stream = make()
    chunks = ["a", response(SEARCH, output_message("b")), "c"]
    expected = body([spoke(part("a")), SEARCH, spoke(part("bc"), at=2)], NOTHING)
    assert json.loads(feed(whole, chunks)) == fold_response(feed(stream, chunks)) == expected


@pytest.mark.parametrize("value", [None, {}, {"a": 1}, 1, object(), [1]])
def test_whole_raises_when_no_reply_can_be_made_of_it(value: Any) -> None:
    for encoder in make():
        with pytest.raises(TypeError, match=r"^a reply cannot be made of ") as caught:
            encoder.whole(value)
        assert str(caught.value).endswith(EXPECTED)


@given(st.lists(st.text()))
def test_any_text_comes_out_as_it_went_in_however_it_is_split(texts: list[str]) -> None:
    whole, stream = make()
    expected = body([spoke(part("".join(texts)))], NOTHING)
    assert json.loads(feed(whole, list(texts))) == fold_response(feed(stream, list(texts))) == expected


@given(st.text(st.sampled_from('\r\n\x00\x0b\x0c\x1c\x85\u2028\u2029"\\event: data{}é💚'), max_size=30))
def test_text_that_looks_like_the_format_comes_out_as_it_went_in(whole_text: str) -> None:
    _, stream = make()
    assert fold_response(feed(stream, list(whole_text))) == body([spoke(part(whole_text))], NOTHING)


CHUNKS = st.one_of(
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


@given(st.lists(CHUNKS), st.booleans())
def test_any_stream_adds_up_to_the_whole(chunks: list[Any], passes: bool) -> None:
    whole, stream = make(passes)
    assert fold_response(feed(stream, chunks)) == json.loads(feed(whole, chunks))
