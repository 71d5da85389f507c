import copy
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.protocols.items import parse, to_messages

USER = {"type": "message", "role": "user", "content": "hi"}
CALL = {"type": "function_call", "call_id": "call_1", "name": "add", "arguments": '{"a":1}'}
CHAT_CALL = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}
CUSTOM = {"type": "custom_tool_call", "call_id": "call_2", "name": "sh", "input": "ls"}
CHAT_CUSTOM = {"id": "call_2", "type": "custom", "custom": {"name": "sh", "input": "ls"}}
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "2"}
REASONING = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "why"}]}


def said(*parts: dict[str, Any], role: str = "user") -> dict[str, Any]:
    return {"type": "message", "role": role, "content": list(parts)}


def assistant(content: Any = None, **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **fields}


MESSAGES: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
    "nothing": ([], []),
    "text": ([USER], [{"role": "user", "content": "hi"}]),
    "without a type": ([{"role": "developer", "content": "d"}], [{"role": "developer", "content": "d"}]),
    "one part of text": ([said({"type": "input_text", "text": "a"})], [{"role": "user", "content": "a"}]),
    "several parts": (
        [
            said(
                {"type": "input_text", "text": "a"},
                {"type": "input_image", "image_url": "u", "detail": "low"},
                {"type": "input_image", "image_url": "u", "detail": None},
                {"type": "input_image", "file_id": "file-1"},
                {"type": "input_file", "file_id": "file-2"},
                {"type": "input_file", "filename": "f", "file_data": "data:,", "file_id": None},
                {"type": "input_file", "file_url": "u"},
                {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
                {"type": "unheard of", "x": 1},
            )
        ],
        [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "a"},
                    {"type": "image_url", "image_url": {"url": "u", "detail": "low"}},
                    {"type": "image_url", "image_url": {"url": "u"}},
                    {"type": "file", "file": {"file_id": "file-1"}},
                    {"type": "file", "file": {"file_id": "file-2"}},
                    {"type": "file", "file": {"filename": "f", "file_data": "data:,"}},
                    {"type": "file", "file": {"file_url": "u"}},
                    {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
                    {"type": "unheard of", "x": 1},
                ],
            }
        ],
    ),
    "one part that is no text": (
        [said({"type": "input_image", "image_url": "u"})],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}],
    ),
    "what the assistant has said": (
        [
            {
                "id": "msg_1",
                "status": "completed",
                **said({"type": "output_text", "text": "a", "annotations": [], "logprobs": []}, role="assistant"),
            }
        ],
        [assistant("a")],
    ),
    "what the assistant has refused": (
        [said({"type": "refusal", "refusal": "no"}, role="assistant")],
        [assistant([{"type": "refusal", "refusal": "no"}])],
    ),
    "one turn": (
        [REASONING, said({"type": "output_text", "text": "a"}, role="assistant"), CALL, CUSTOM, OUTPUT],
        [
            assistant("a", reasoning_content="why", tool_calls=[CHAT_CALL, CHAT_CUSTOM]),
            {"role": "tool", "tool_call_id": "call_1", "content": "2"},
        ],
    ),
    "reasoning begins a turn": (
        [CALL, REASONING, CUSTOM],
        [assistant(tool_calls=[CHAT_CALL]), assistant(reasoning_content="why", tool_calls=[CHAT_CUSTOM])],
    ),
    "text after a call begins a turn": (
        [CALL, {"role": "assistant", "content": "a"}],
        [assistant(tool_calls=[CHAT_CALL]), assistant("a")],
    ),
    "text after text begins a turn": (
        [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}, CALL],
        [assistant("a"), assistant("b", tool_calls=[CHAT_CALL])],
    ),
    "a user's message between two calls": (
        [CALL, USER, CUSTOM],
        [assistant(tool_calls=[CHAT_CALL]), {"role": "user", "content": "hi"}, assistant(tool_calls=[CHAT_CUSTOM])],
    ),
    "a call without a call_id": (
        [{"type": "function_call", "id": "fc_1", "name": "now"}],
        [assistant(tool_calls=[{"id": "fc_1", "type": "function", "function": {"name": "now"}}])],
    ),
    "reasoning of several parts": (
        [{"type": "reasoning", "summary": [{"text": "a"}, {"text": "b"}]}],
        [assistant(reasoning_content="a\n\nb")],
    ),
    "reasoning itself": (
        [{"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "why"}]}],
        [assistant(reasoning_content="why")],
    ),
    "reasoning that is not told": (
        [{"type": "reasoning", "summary": [], "encrypted_content": "x"}, CALL],
        [assistant(reasoning_content="", tool_calls=[CHAT_CALL])],
    ),
    "outputs": (
        [
            {**OUTPUT, "type": "custom_tool_call_output"},
            {**OUTPUT, "output": [{"type": "input_text", "text": "2"}]},
            {**OUTPUT, "output": [{"type": "input_text", "text": "2"}, {"type": "input_image", "image_url": "u"}]},
            {**OUTPUT, "output": {"a": 1}},
            {**OUTPUT, "output": ["a", 1]},
        ],
        [
            {"role": "tool", "tool_call_id": "call_1", "content": "2"},
            {"role": "tool", "tool_call_id": "call_1", "content": "2"},
            {
                "role": "tool",
                "tool_call_id": "call_1",
                "content": [{"type": "text", "text": "2"}, {"type": "image_url", "image_url": {"url": "u"}}],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": '{"a":1}'},
            {"role": "tool", "tool_call_id": "call_1", "content": '["a",1]'},
        ],
    ),
    "what chat has no word for": (
        [USER, {"type": "web_search_call", "id": "ws_1"}, {"type": "item_reference", "id": "msg_1"}],
        [{"role": "user", "content": "hi"}],
    ),
    "a search between two calls": (
        [CALL, {"type": "web_search_call", "id": "ws_1"}, CUSTOM],
        [assistant(tool_calls=[CHAT_CALL, CHAT_CUSTOM])],
    ),
}


@pytest.mark.parametrize("case", MESSAGES)
def test_to_messages(case: str) -> None:
    items, expected = MESSAGES[case]
    before = copy.deepcopy(items)
    assert to_messages(items) == expected
    assert items == before


def test_to_messages_puts_instructions_first() -> None:
    user = {"role": "user", "content": "hi"}
    assert to_messages([USER], "be brief") == [{"role": "system", "content": "be brief"}, user]
    assert to_messages([USER], [said({"type": "input_text", "text": "d"}, role="developer")]) == [
        {"role": "developer", "content": "d"},
        user,
    ]
    assert to_messages([USER], None) == [user]


# Canonical: one form for what can be said in several, as chat keeps one of them.
TEXT = st.text(max_size=5)
NAME = st.text(min_size=1, max_size=5)
PART = st.one_of(
    st.fixed_dictionaries({"type": st.just("input_text"), "text": TEXT}),
    st.fixed_dictionaries({"type": st.just("input_image"), "image_url": NAME}, optional={"detail": NAME}),
    st.fixed_dictionaries(
        {"type": st.just("input_file")},
        optional={"file_id": NAME, "filename": NAME, "file_data": NAME, "file_url": NAME},
    ),
    st.fixed_dictionaries({"type": st.just("input_audio"), "input_audio": st.dictionaries(NAME, TEXT)}),
)
REFUSAL = st.fixed_dictionaries({"type": st.just("refusal"), "refusal": TEXT})
OUTPUT_TEXT = st.fixed_dictionaries({"type": st.just("output_text"), "text": TEXT})


def is_not_one_text(parts: list[dict[str, Any]]) -> bool:
    return [part["type"] in ("input_text", "output_text") for part in parts] != [True]


CONTENT = TEXT | st.lists(PART, max_size=3).filter(is_not_one_text)
ITEM = st.one_of(
    st.fixed_dictionaries(
        {"type": st.just("message"), "role": st.sampled_from(["user", "system", "developer"]), "content": CONTENT}
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("message"),
            "role": st.just("assistant"),
            "content": TEXT | st.lists(OUTPUT_TEXT | REFUSAL, max_size=3).filter(is_not_one_text),
        }
    ),
    st.fixed_dictionaries({"type": st.just("function_call"), "call_id": NAME, "name": TEXT, "arguments": TEXT}),
    st.fixed_dictionaries({"type": st.just("custom_tool_call"), "call_id": NAME, "name": TEXT, "input": TEXT}),
    st.fixed_dictionaries({"type": st.just("function_call_output"), "call_id": NAME, "output": CONTENT}),
    st.fixed_dictionaries(
        {
            "type": st.just("reasoning"),
            "summary": TEXT.map(lambda text: [{"type": "summary_text", "text": text}]),
        }
    ),
)


KEPT_REASONING = st.fixed_dictionaries(
    {
        "type": st.just("reasoning"),
        "summary": TEXT.map(lambda text: [{"type": "summary_text", "text": text}]),
    },
    optional={"id": NAME, "encrypted_content": NAME, "status": st.just("completed")},
)


def to_items(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The inverse of `to_messages`."""
    return [item for message in messages for item in _to_items(message)]


def _to_items(message: dict[str, Any]) -> list[dict[str, Any]]:
    rest = dict(message)
    role, content = rest.pop("role"), rest.pop("content")
    items: list[dict[str, Any]] = []
    if "reasoning_content" in rest:
        text = rest.pop("reasoning_content")
        kept = rest.pop("reasoning_item", {"type": "reasoning"})
        items.append({**kept, "summary": [{"type": "summary_text", "text": text}]})
    said = content if not isinstance(content, list) else [_from_part(part, role) for part in content]
    if role == "tool":
        items.append({"type": "function_call_output", "call_id": rest.pop("tool_call_id"), "output": said})
    elif said is not None:
        items.append({"type": "message", "role": role, "content": said})
    for call in rest.pop("tool_calls", ()):
        kind = "function_call" if call["type"] == "function" else "custom_tool_call"
        items.append({"type": kind, "call_id": call["id"], **call[call["type"]]})
    assert rest == {}
    return items


def _from_part(part: dict[str, Any], role: str) -> dict[str, Any]:
    if part["type"] == "text":
        return {"type": "output_text" if role == "assistant" else "input_text", "text": part["text"]}
    if part["type"] == "image_url":
        image = part["image_url"]
        return {"type": "input_image", "image_url": image["url"], **{key: image[key] for key in image.keys() - {"url"}}}
    return {"type": "input_file", **part["file"]} if part["type"] == "file" else part


@given(st.lists(ITEM, max_size=8))
def test_to_messages_loses_nothing(items: list[dict[str, Any]]) -> None:
    messages = to_messages(items)
    assert to_items(messages) == items
    assert to_messages(to_items(messages)) == messages


@given(st.lists(ITEM | KEPT_REASONING, max_size=8))
def test_to_messages_keeps_what_chat_has_no_field_for_when_told_to(items: list[dict[str, Any]]) -> None:
    messages = to_messages(items, keeps_items=True)
    assert to_items(messages) == items
    for message in messages:
        message.pop("reasoning_item", None)
    assert messages == to_messages(items)


# Requests.
MINIMAL = {"model": "m", "input": "hi"}


def test_parse_makes_a_message_of_text() -> None:
    request = parse({**MINIMAL, "stream": True})
    assert (request.model, request.is_stream) == ("m", True)
    assert request.arguments == {"model": "m", "input_items": [USER], "body": {**MINIMAL, "stream": True}}


KEPT: dict[str, dict[str, Any]] = {
    "items": {"model": "m", "input": [USER, CALL, OUTPUT, REASONING, CUSTOM, {"type": "web_search_call"}]},
    "item without a type": {"model": "m", "input": [{"role": "user", "content": [{"unheard": "of"}]}]},
    "what is not heeded": {
        "model": "m",
        "input": [USER],
        "tools": [{"type": "namespace", "x": 1}, {"type": "web_search"}, "what"],
        "include": ["reasoning.encrypted_content"],
        "store": True,
        "temperature": "hot",
        "metadata": {"k": "v"},
        "unheard": {"of": [None]},
    },
    "falsy": {
        "model": "m",
        "input": [USER],
        "previous_response_id": None,
        "conversation": None,
        "background": False,
        "stream": False,
    },
}


@pytest.mark.parametrize("case", KEPT)
def test_parse_keeps_what_the_client_has_sent(case: str) -> None:
    data = KEPT[case]
    request = parse(data)
    assert request.arguments == {"model": "m", "input_items": data["input"], "body": data}
    assert not request.is_stream


def test_parse_needs_no_input_when_there_is_a_prompt() -> None:
    data = {"model": "m", "prompt": {"id": "pmpt_1"}}
    assert parse(data).arguments == {"model": "m", "input_items": [], "body": data}


FORM = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
TOOL = {"type": "function", "name": "add", "description": "d", "parameters": {"type": "object"}, "strict": True}
CHAT_BODIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing": ({}, {}),
    "kept": (
        {"temperature": 0.5, "top_p": 1, "metadata": {"k": "v"}, "stream": False, "unheard": [1], "user": "u"},
        {"temperature": 0.5, "top_p": 1, "metadata": {"k": "v"}, "stream": False, "unheard": [1], "user": "u"},
    ),
    "max_output_tokens": ({"max_output_tokens": 5}, {"max_completion_tokens": 5}),
    "null": ({"max_output_tokens": None, "reasoning": None, "text": None}, {}),
    "effort": ({"reasoning": {"effort": "low", "summary": "auto"}}, {"reasoning_effort": "low"}),
    "verbosity": ({"text": {"verbosity": "low"}}, {"verbosity": "low"}),
    "plain text": ({"text": {"format": {"type": "text"}}}, {}),
    "json object": ({"text": {"format": {"type": "json_object"}}}, {"response_format": {"type": "json_object"}}),
    "json schema": (
        {"text": {"format": FORM}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
            }
        },
    ),
    "tools": (
        {"tools": [TOOL, {"type": "web_search"}, {"type": "namespace", "name": "n"}]},
        {
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "add",
                        "description": "d",
                        "parameters": {"type": "object"},
                        "strict": True,
                    },
                },
                {"type": "web_search"},
                {"type": "namespace", "name": "n"},
            ]
        },
    ),
    "tools in chat's form": (
        {"tools": [{"type": "function", "function": {"name": "add"}}]},
        {"tools": [{"type": "function", "function": {"name": "add"}}]},
    ),
    "tool_choice": (
        {"tool_choice": {"type": "function", "name": "add"}},
        {"tool_choice": {"type": "function", "function": {"name": "add"}}},
    ),
    "tool_choice in a word": ({"tool_choice": "required"}, {"tool_choice": "required"}),
    "tool_choice of another kind": ({"tool_choice": {"type": "web_search"}}, {"tool_choice": {"type": "web_search"}}),
    "tool_choice in chat's form": (
        {"tool_choice": {"type": "function", "function": {"name": "add"}}},
        {"tool_choice": {"type": "function", "function": {"name": "add"}}},
    ),
}


@pytest.mark.parametrize("case", CHAT_BODIES)
def test_chat_arguments(case: str) -> None:
    fields, expected = CHAT_BODIES[case]
    data = {"model": "m", "input": [USER, CALL], **fields}
    before = copy.deepcopy(data)
    messages = [{"role": "user", "content": "hi"}, assistant(tool_calls=[CHAT_CALL])]
    assert parse(data).chat_arguments == {
        "model": "m",
        "messages": messages,
        "body": {"model": "m", **expected, "messages": messages},
    }
    assert data == before


def test_chat_arguments_put_instructions_first() -> None:
    arguments = parse({**MINIMAL, "instructions": "be brief"}).chat_arguments
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    assert arguments["messages"] == arguments["body"]["messages"] == messages


MISSING, TYPE, STORED = "missing_required_parameter", "invalid_type", "unsupported_parameter"
REFUSED: dict[str, tuple[Any, str | None, str, str]] = {  # param, code, sentence
    "array": ([], None, TYPE, "the body must be a JSON object, not an array"),
    "no model": ({"input": "hi"}, "model", MISSING, "model is required"),
    "model is a number": ({**MINIMAL, "model": 1}, "model", TYPE, "model must be a string, not an integer"),
    "no input": ({"model": "m"}, "input", MISSING, "input is required"),
    "input is null": ({**MINIMAL, "input": None}, "input", MISSING, "input is required"),
    "input is an object": (
        {**MINIMAL, "input": {}},
        "input",
        TYPE,
        "input must be a string or an array, not an object",
    ),
    "input is empty": ({**MINIMAL, "input": []}, "input", "empty_array", "input must not be empty"),
    "metadata is a number": (
        {**MINIMAL, "metadata": 5},
        "metadata",
        TYPE,
        "metadata must be an object, not an integer",
    ),
    "type is a number": (
        {**MINIMAL, "input": [{"type": 5}]},
        "input[0].type",
        TYPE,
        "input[0].type must be a string, not an integer",
    ),
    "item is a reference": (
        {**MINIMAL, "input": [USER, {"type": "item_reference", "id": "msg_1"}]},
        "input[1]",
        "unsupported_parameter",
        "input[1]: an item_reference is not supported: nothing is stored, send the item itself",
    ),
    "call without a name": (
        {**MINIMAL, "input": [{"type": "function_call"}]},
        "input[0].name",
        MISSING,
        "input[0].name is required",
    ),
    "item is text": ({**MINIMAL, "input": [USER, "hi"]}, "input[1]", TYPE, "input[1] must be an object, not a string"),
    "item without a role": (
        {**MINIMAL, "input": [{"content": "hi"}]},
        "input[0].role",
        TYPE,
        "input[0].role must be a string",
    ),
    "message without a role": (
        {**MINIMAL, "input": [USER, {"type": "message", "content": "hi"}]},
        "input[1].role",
        TYPE,
        "input[1].role must be a string",
    ),
    "message without content": (
        {**MINIMAL, "input": [{"role": "user"}]},
        "input[0].content",
        TYPE,
        "input[0].content must be a string or an array of objects",
    ),
    "part is text": (
        {**MINIMAL, "input": [{"role": "user", "content": ["hi"]}]},
        "input[0].content",
        TYPE,
        "input[0].content must be a string or an array of objects",
    ),
    "previous_response_id": (
        {**MINIMAL, "previous_response_id": "resp_1"},
        "previous_response_id",
        STORED,
        "previous_response_id is not supported: no response is stored: send the whole conversation in input",
    ),
    "conversation": (
        {**MINIMAL, "conversation": {"id": "conv_1"}},
        "conversation",
        STORED,
        "conversation is not supported: no conversation is stored: send all of it in input",
    ),
    "background": (
        {**MINIMAL, "background": True},
        "background",
        STORED,
        "background is not supported: a response is made while its caller waits: leave background out, or send false",
    ),
    "instructions are a number": (
        {**MINIMAL, "instructions": 1},
        "instructions",
        TYPE,
        "instructions must be a string or an array, not an integer",
    ),
    "tools are an object": ({**MINIMAL, "tools": {}}, "tools", TYPE, "tools must be an array, not an object"),
    "stream is text": ({**MINIMAL, "stream": "yes"}, "stream", TYPE, "stream must be true or false, not a string"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_parse_refuses(case: str) -> None:
    data, param, code, sentence = REFUSED[case]
    with pytest.raises(InvalidRequest) as caught:
        parse(data)
    assert (caught.value.status, caught.value.type) == (400, "invalid_request_error")
    assert (caught.value.param, caught.value.code, caught.value.message) == (param, code, sentence)


ODD: dict[str, Any] = {
    "instruction is text": {**MINIMAL, "instructions": ["hi"]},
    "instruction is null": {**MINIMAL, "instructions": [None]},
    "type is an array": {"model": "m", "input": [{"type": [], "role": "user", "content": "hi"}]},
    "part's type is an array": {"model": "m", "input": [{"role": "user", "content": [{"type": []}]}]},
    "part's type is an object": {"model": "m", "input": [{**OUTPUT, "output": [{"type": {}}]}]},
    "summary is a number": {"model": "m", "input": [{"type": "reasoning", "summary": 5}]},
    "summary of text": {"model": "m", "input": [{"type": "reasoning", "summary": ["why"]}]},
    "effort is a number": {**MINIMAL, "reasoning": {"effort": 5}},
    "reasoning is text": {**MINIMAL, "reasoning": "high"},
    "format is text": {**MINIMAL, "text": {"format": "json"}},
    "format's type is an array": {**MINIMAL, "text": {"format": {"type": []}}},
    "verbosity is a number": {**MINIMAL, "text": {"verbosity": 5}},
    "call of nothing": {"model": "m", "input": [{"type": "function_call"}]},
    "output of nothing": {"model": "m", "input": [{"type": "function_call_output"}]},
    "tool_choice of nothing": {**MINIMAL, "tool_choice": {"type": "function"}},
}


@pytest.mark.parametrize("case", ODD)
def test_odd_request_is_taken_or_refused_but_never_breaks(case: str) -> None:
    with suppress(InvalidRequest):
        messages = parse(ODD[case]).chat_arguments["messages"]
        assert all(isinstance(message["role"], str) for message in messages)


def test_chat_arguments_refuse_what_chat_cannot_take() -> None:
    for field, sentence in {
        "reasoning.effort": "reasoning.effort must be a string, not an integer",
        "text.verbosity": "text.verbosity must be a string, not an integer",
        "text.format": "text.format must be an object, not an integer",
    }.items():
        outer, inner = field.split(".")
        request = parse({**MINIMAL, outer: {inner: 5}})
        with pytest.raises(InvalidRequest) as caught:
            _ = request.chat_arguments
        assert (caught.value.param, caught.value.code, caught.value.message) == (field, TYPE, sentence)
