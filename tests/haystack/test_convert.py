"""OpenAI messages and items as Haystack's: by a table, there and back, and with uploaded files in a run."""

from base64 import b64encode
from typing import Any

import pytest
import requests
from haystack.dataclasses import ChatMessage, FileContent, ImageContent, TextContent, ToolCall
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.haystack.convert import chat_messages_from_openai, chat_messages_from_openai_response
from tests.conftest import Serve

PIXEL = b64encode(b"not really a pixel").decode()
PDF = b64encode(b"%PDF-1.4").decode()
IMAGE_PART = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "low"}}
FILE_PART = {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PDF}", "filename": "a.pdf"}}
IMAGE = ImageContent(base64_image=PIXEL, mime_type="image/png", detail="low")
FILE = FileContent(base64_data=PDF, mime_type="application/pdf", filename="a.pdf")
ADD, SUBTRACT = ToolCall("add", {"a": 2}, id="c1"), ToolCall("subtract", {}, id="c2")


def plain(messages: list[ChatMessage]) -> list[dict[str, Any]]:
    """As mappings. `extra` of a call is left out: Haystack's generators keep there what their provider needs."""

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            is_call = "tool_name" in value
            return {key: strip(each) for key, each in value.items() if not (is_call and key == "extra")}
        return [strip(each) for each in value] if isinstance(value, list) else value

    stripped: list[dict[str, Any]] = strip([message.to_dict() for message in messages])
    return stripped


def function(name: str, arguments: Any, call_id: str | None = None) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def calling(*calls: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls), **more}


ADD_CALL, SUBTRACT_CALL = function("add", '{"a": 2}', "c1"), function("subtract", "{}", "c2")
CASES: dict[str, tuple[list[Any], list[ChatMessage]]] = {
    "none": ([], []),
    "a user's text": ([{"role": "user", "content": "hi"}], [ChatMessage.from_user("hi")]),
    "a user's name": ([{"role": "user", "content": "hi", "name": "ann"}], [ChatMessage.from_user("hi", name="ann")]),
    "a user's empty text": ([{"role": "user", "content": ""}], [ChatMessage.from_user("")]),
    "a user without content": ([{"role": "user"}, {"role": "user", "content": None}], [ChatMessage.from_user("")] * 2),
    "a user without parts": ([user()], [ChatMessage.from_user("")]),
    "a user's parts": (
        [{**user({"type": "text", "text": "look"}, IMAGE_PART, FILE_PART), "name": "ann"}],
        [ChatMessage.from_user(content_parts=["look", IMAGE, FILE], name="ann")],
    ),
    "parts in their order": (
        [user(IMAGE_PART, {"type": "text", "text": "a"}, {"type": "text", "text": "b"})],
        [ChatMessage.from_user(content_parts=[IMAGE, "a", "b"])],
    ),
    "a system's": ([{"role": "system", "content": "be brief"}], [ChatMessage.from_system("be brief")]),
    "a developer's": ([{"role": "developer", "content": "be brief"}], [ChatMessage.from_system("be brief")]),
    "a developer's parts and name": (
        [{"role": "developer", "content": [{"type": "text", "text": t} for t in "ab"], "name": "dev"}],
        [ChatMessage.from_system("a\nb", name="dev")],
    ),
    "a system without content": ([{"role": "system", "content": None}], [ChatMessage.from_system("")]),
    "an assistant's": (
        [{"role": "assistant", "content": "hi", "name": "bot"}],
        [ChatMessage.from_assistant("hi", name="bot")],
    ),
    "an assistant's parts": (
        [{"role": "assistant", "content": [{"type": "text", "text": t} for t in "ab"]}],
        [ChatMessage.from_assistant("a\nb")],
    ),
    "an assistant without content": ([{"role": "assistant", "content": None}], [ChatMessage.from_assistant(None)]),
    "an assistant's reasoning": (
        [{"role": "assistant", "content": "hi", "reasoning_content": "hm"}],
        [ChatMessage.from_assistant("hi", reasoning="hm")],
    ),
    "a refusal": (
        [{"role": "assistant", "content": None, "refusal": "no"}],
        [ChatMessage.from_assistant(None, meta={"refusal": "no"})],
    ),
    "a refusal as a part": (
        [{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}],
        [ChatMessage.from_assistant(None, meta={"refusal": "no"})],
    ),
    "text and a refusal": (
        [{"role": "assistant", "content": "well", "refusal": "no"}],
        [ChatMessage.from_assistant("well", meta={"refusal": "no"})],
    ),
    "calls": ([calling(ADD_CALL, SUBTRACT_CALL)], [ChatMessage.from_assistant(tool_calls=[ADD, SUBTRACT])]),
    "text, reasoning and a call": (
        [calling(ADD_CALL, content="wait", reasoning_content="hm")],
        [ChatMessage.from_assistant("wait", tool_calls=[ADD], reasoning="hm")],
    ),
    "no calls": (
        [calling(content="hi"), {**calling(content="hi"), "tool_calls": None}],
        [ChatMessage.from_assistant("hi")] * 2,
    ),
    "a call without an id": (
        [calling(function("add", "{}"))],
        [ChatMessage.from_assistant(tool_calls=[ToolCall("add", {})])],
    ),
    "arguments that are no object": (
        [calling(*(function("add", given, f"c{n}") for n, given in enumerate(["", None, "{", "[1]", '"a"', "1"])))],
        [ChatMessage.from_assistant(tool_calls=[ToolCall("add", {}, id=f"c{n}") for n in range(6)])],
    ),
    "arguments that are a mapping": (
        [calling(function("add", {"a": 2}, "c1"))],
        [ChatMessage.from_assistant(tool_calls=[ADD])],
    ),
    "a custom tool's call": (
        [calling({"id": "c1", "type": "custom", "custom": {"name": "shell", "input": "ls"}})],
        [ChatMessage.from_assistant(tool_calls=[ToolCall("shell", {"input": "ls"}, id="c1")])],
    ),
    "results of the calls before": (
        [
            calling(ADD_CALL, SUBTRACT_CALL),
            {"role": "tool", "tool_call_id": "c2", "content": "0"},
            {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": t} for t in "45"]},
        ],
        [
            ChatMessage.from_assistant(tool_calls=[ADD, SUBTRACT]),
            ChatMessage.from_tool("0", origin=SUBTRACT),
            ChatMessage.from_tool([TextContent("4"), TextContent("5")], origin=ADD),
        ],
    ),
    "a result of the last call of that id": (
        [
            calling(ADD_CALL),
            calling(function("other", "{}", "c1")),
            {"role": "tool", "tool_call_id": "c1", "content": ""},
        ],
        [
            ChatMessage.from_assistant(tool_calls=[ADD]),
            ChatMessage.from_assistant(tool_calls=[ToolCall("other", {}, id="c1")]),
            ChatMessage.from_tool("", origin=ToolCall("other", {}, id="c1")),
        ],
    ),
    "a result of a call that is not there": (
        [{"role": "tool", "tool_call_id": "c9", "content": "5"}],
        [ChatMessage.from_tool("5", origin=ToolCall("function", {}, id="c9"))],
    ),
    "a result without content": (
        [calling(ADD_CALL), {"role": "tool", "tool_call_id": "c1"}],
        [ChatMessage.from_assistant(tool_calls=[ADD]), ChatMessage.from_tool("", origin=ADD)],
    ),
    "a result with an image": (
        [
            calling(ADD_CALL),
            {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "4"}, IMAGE_PART]},
        ],
        [
            ChatMessage.from_assistant(tool_calls=[ADD]),
            ChatMessage.from_tool([TextContent("4"), IMAGE], origin=ADD),
        ],
    ),
    "a function's result, as it once was": (
        [{"role": "function", "name": "add", "content": "5"}],
        [ChatMessage.from_tool("5", origin=ToolCall("add", {}))],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_chat_messages_from_openai(case: str) -> None:
    messages, expected = CASES[case]
    assert plain(chat_messages_from_openai(messages)) == plain(expected)


def test_reasoning_is_read_again_as_it_was() -> None:
    (message,) = chat_messages_from_openai([{"role": "assistant", "content": "a", "reasoning_content": "hm"}])
    assert message.reasoning is not None
    assert (message.text, message.reasoning.reasoning_text) == ("a", "hm")


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an image that is an address": (
        user({"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}),
        "Unsupported URL: 'https://a.example/b.png'",
    ),
    "audio": (user({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}), "Unsupported content part"),
    "a part without a type": (user({"text": "a"}), "Unsupported content part"),
    "a text part without a text": (user({"type": "text"}), "Unsupported text content part"),
    "a file that is an address": (
        user({"type": "file", "file": {"file_url": "https://a.example"}}),
        "Unsupported file",
    ),
    "no role": ({"content": "a"}, "the role None is not known"),
    "another role": ({"role": "king", "content": "a"}, "the role 'king' is not known"),
    "a call without a function": (calling({"id": "c1", "type": "function"}), "'function'"),
    "a call without a name": (calling({"id": "c1", "type": "function", "function": {}}), "'name'"),
    "calls that are no list": ({"role": "assistant", "content": "a", "tool_calls": 1}, ""),
    "an id of a call that is no text": (calling(function("add", "{}", [])), ""),  # type: ignore[arg-type]
    "an id of a result that is no text": ({"role": "tool", "tool_call_id": [], "content": "5"}, ""),
    "an image of a tool that is an address": (
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "image_url", "image_url": {"url": "https://a"}}]},
        "Unsupported URL: 'https://a'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_haystack_has_no_content_for_is_refused(case: str) -> None:
    message, reason = REFUSED[case]
    with pytest.raises(InvalidRequest) as caught:
        chat_messages_from_openai([{"role": "user", "content": "before"}, message])
    error = caught.value
    assert (error.status, error.param) == (400, "messages[1]")
    assert error.message.startswith(f"messages[1] cannot be taken: {reason}")


def test_messages_of_the_caller_stay_untouched() -> None:
    messages = [user({"type": "text", "text": "look"}, dict(IMAGE_PART)), calling(dict(ADD_CALL))]
    chat_messages_from_openai(messages)
    assert messages == [user({"type": "text", "text": "look"}, IMAGE_PART), calling(ADD_CALL)]


# Items of the Responses API.


def message(role: str, *parts: Any) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": list(parts)}


def called(name: str, arguments: str, call_id: str) -> dict[str, Any]:
    return {"type": "function_call", "id": f"fc_{call_id}", "call_id": call_id, "name": name, "arguments": arguments}


def answered(call_id: str, output: Any) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": output}


REASONING = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": t} for t in "ab"]}
ITEMS: dict[str, tuple[list[Any], list[ChatMessage]]] = {
    "none": ([], []),
    "a message without a type": ([{"role": "user", "content": "hi"}], [ChatMessage.from_user("hi")]),
    "every role": (
        [message(role, {"type": "input_text", "text": role}) for role in ("user", "system", "developer")],
        [ChatMessage.from_user("user"), ChatMessage.from_system("system"), ChatMessage.from_system("developer")],
    ),
    "an assistant's": (
        [message("assistant", {"type": "output_text", "text": "hi", "annotations": []})],
        [ChatMessage.from_assistant("hi")],
    ),
    "a refusal": (
        [message("assistant", {"type": "refusal", "refusal": "no"})],
        [ChatMessage.from_assistant(None, meta={"refusal": "no"})],
    ),
    "an image and a file": (
        [
            message(
                "user",
                {"type": "input_text", "text": "look"},
                {"type": "input_image", "image_url": IMAGE_PART["image_url"]["url"], "detail": "low"},  # type: ignore[index]
                {"type": "input_file", **FILE_PART["file"]},  # type: ignore[dict-item]
            )
        ],
        [ChatMessage.from_user(content_parts=["look", IMAGE, FILE])],
    ),
    "a turn of text and calls": (
        [
            message("assistant", {"type": "output_text", "text": "wait"}),
            called("add", '{"a": 2}', "c1"),
            called("subtract", "{}", "c2"),
            answered("c1", "5"),
            answered("c2", [{"type": "input_text", "text": "0"}, {"type": "input_text", "text": "1"}]),
        ],
        [
            ChatMessage.from_assistant("wait", tool_calls=[ADD, SUBTRACT]),
            ChatMessage.from_tool("5", origin=ADD),
            ChatMessage.from_tool([TextContent("0"), TextContent("1")], origin=SUBTRACT),
        ],
    ),
    "a custom tool's": (
        [
            {"type": "custom_tool_call", "call_id": "c1", "name": "shell", "input": "ls"},
            {"type": "custom_tool_call_output", "call_id": "c1", "output": "a b"},
        ],
        [
            ChatMessage.from_assistant(tool_calls=[ToolCall("shell", {"input": "ls"}, id="c1")]),
            ChatMessage.from_tool("a b", origin=ToolCall("shell", {"input": "ls"}, id="c1")),
        ],
    ),
    "malformed arguments": (
        [called("add", "{", "c1")],
        [ChatMessage.from_assistant(tool_calls=[ToolCall("add", {}, id="c1")])],
    ),
    "a result that is an object": (
        [answered("c9", {"sum": 5})],
        [ChatMessage.from_tool('{"sum":5}', origin=ToolCall("function", {}, id="c9"))],
    ),
    "what chat has no word for": (
        [{"type": "web_search_call", "id": "ws_1", "status": "completed"}, {"role": "user", "content": "hi"}],
        [ChatMessage.from_user("hi")],
    ),
}


@pytest.mark.parametrize("case", ITEMS)
def test_chat_messages_from_openai_response(case: str) -> None:
    items, expected = ITEMS[case]
    assert plain(chat_messages_from_openai_response(items)) == plain(expected)


@pytest.mark.parametrize("item", [REASONING, {**REASONING, "summary": [], "content": REASONING["summary"]}])
def test_reasoning_joins_the_turn_that_follows_it(item: dict[str, Any]) -> None:
    turn = [item, message("assistant", {"type": "output_text", "text": "hi"}), called("add", '{"a": 2}', "c1")]
    (made,) = chat_messages_from_openai_response(turn)
    assert made.reasoning is not None
    assert (made.reasoning.reasoning_text, made.text) == ("a\n\nb", "hi")
    assert [(call.tool_name, call.arguments, call.id) for call in made.tool_calls] == [("add", {"a": 2}, "c1")]


# There and back.

NAMES = st.none() | st.text(min_size=1)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
BASE64 = st.binary(min_size=1, max_size=20).map(lambda data: b64encode(data).decode())
IMAGES = st.builds(
    ImageContent,
    base64_image=BASE64,
    mime_type=st.sampled_from(["image/png", "image/jpeg"]),
    detail=st.sampled_from([None, "auto", "low", "high"]),
)
FILES = st.builds(
    FileContent,
    base64_data=BASE64,
    mime_type=st.sampled_from(["application/pdf", "text/plain"]),
    filename=st.text(min_size=1),
)
PARTS = st.lists(st.builds(TextContent, st.text()) | IMAGES | FILES, min_size=1, max_size=4)


@st.composite
def conversations(draw: st.DrawFn) -> list[ChatMessage]:
    """Each call has an id of its own, and a result that says so comes behind it."""
    messages: list[ChatMessage] = []
    ids = iter(range(1000))
    for kind in draw(st.lists(st.sampled_from(["user", "parts", "system", "assistant", "calls"]), max_size=6)):
        name = draw(NAMES)
        if kind == "user":
            messages.append(ChatMessage.from_user(draw(st.text()), name=name))
        elif kind == "parts":
            messages.append(ChatMessage.from_user(content_parts=draw(PARTS), name=name))
        elif kind == "system":
            messages.append(ChatMessage.from_system(draw(st.text()), name=name))
        elif kind == "assistant":
            text, refusal = draw(st.none() | st.text(min_size=1)), draw(st.text(min_size=1))
            is_refused = text is None or draw(st.booleans())
            meta = {"refusal": refusal} if is_refused else {}
            messages.append(ChatMessage.from_assistant(text, meta=meta, name=name))
        else:
            arguments = draw(st.lists(st.dictionaries(st.text(), JSON, max_size=3), min_size=1, max_size=3))
            calls = [ToolCall(draw(st.text(min_size=1)), each, id=f"call_{next(ids)}") for each in arguments]
            messages.append(ChatMessage.from_assistant(draw(st.none() | st.text()), tool_calls=calls, name=name))
            for call in draw(st.permutations(calls)):
                result = draw(st.text() | st.lists(st.builds(TextContent, st.text()), min_size=1, max_size=2))
                messages.append(ChatMessage.from_tool(result, origin=call))
    return messages


@settings(deadline=None, max_examples=200)
@given(conversations())
def test_round_trip_loses_nothing(messages: list[ChatMessage]) -> None:
    sent = [each.to_openai_dict_format() for each in messages]
    assert plain(chat_messages_from_openai(sent)) == plain(messages)


# Uploaded files, which only a run can read.

WRAPPER = """
    from gateway import BasePipelineWrapper, chat_messages_from_openai, chat_messages_from_openai_response

    class PipelineWrapper(BasePipelineWrapper):
        def run_chat_completion(self, model, messages, body):
            return self.show(chat_messages_from_openai(messages))

        def run_response(self, model, input_items, body):
            return self.show(chat_messages_from_openai_response(input_items))

        def show(self, messages):
            return repr([part for message in messages for part in (*message.texts, *message.files, *message.images)])
"""


def upload(url: str, name: str, content: bytes, content_type: str) -> str:
    given = {"file": (name, content, content_type)}
    reply = requests.post(f"{url}/v1/files", data={"purpose": "user_data"}, files=given, timeout=10)
    assert reply.status_code == 200, reply.text
    file_id: str = reply.json()["id"]
    return file_id


def ask(url: str, kind: str, *parts: dict[str, Any]) -> requests.Response:
    """As a chat message, or as an item with the same parts in its own words."""
    if kind == "chat":
        return requests.post(f"{url}/v1/chat/completions", json={"model": "w", "messages": [user(*parts)]}, timeout=10)
    items = []
    for part in parts:
        if part["type"] == "file":
            items.append({"type": "input_file", **part["file"]})
        elif part["type"] == "image_url":
            items.append({"type": "input_image", "image_url": part["image_url"]["url"]})
        else:
            items.append({"type": "input_text", "text": part["text"]})
    return requests.post(f"{url}/v1/responses", json={"model": "w", "input": [message("user", *items)]}, timeout=10)


def text_of(kind: str, reply: requests.Response) -> str:
    assert reply.status_code == 200, reply.text
    body = reply.json()
    text: str = body["choices"][0]["message"]["content"] if kind == "chat" else body["output"][0]["content"][0]["text"]
    return text


kinds = pytest.mark.parametrize("kind", ["chat", "responses"])
QUESTION = {"type": "text", "text": "what is it?"}


@kinds
def test_uploaded_file_is_put_in_whole(serve_wrapper: Serve, kind: str) -> None:
    gateway = serve_wrapper(WRAPPER)
    file_id = upload(gateway.url, "größe.txt", b"42 \xe2\x82\xac", "text/plain")
    reply = ask(gateway.url, kind, QUESTION, {"type": "file", "file": {"file_id": file_id}})
    data = b64encode(b"42 \xe2\x82\xac").decode()
    expected = FileContent(base64_data=data, mime_type="text/plain", filename="größe.txt")
    assert text_of(kind, reply) == repr(["what is it?", expected])


def test_uploaded_image_is_an_image(serve_wrapper: Serve) -> None:
    gateway = serve_wrapper(WRAPPER)
    file_id = upload(gateway.url, "a.png", b"not really a pixel", "image/png")
    items = [message("user", {"type": "input_image", "file_id": file_id, "detail": "auto"})]
    reply = requests.post(f"{gateway.url}/v1/responses", json={"model": "w", "input": items}, timeout=10)
    assert text_of("responses", reply).startswith(f"[ImageContent(base64_image='{PIXEL}', mime_type='image/png'")


@kinds
def test_content_that_is_there_is_not_looked_up(serve_wrapper: Serve, kind: str) -> None:
    gateway = serve_wrapper(WRAPPER)
    part = {"type": "file", "file": {**FILE_PART["file"], "file_id": "file-unknown"}}  # type: ignore[dict-item]
    assert text_of(kind, ask(gateway.url, kind, part)) == repr([FILE])


@kinds
def test_file_that_is_not_there_is_a_404(serve_wrapper: Serve, kind: str) -> None:
    gateway = serve_wrapper(WRAPPER)
    reply = ask(gateway.url, kind, QUESTION, {"type": "file", "file": {"file_id": "file-unknown"}})
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (404, "file_not_found", "file_id")
    assert error["message"] == "there is no file 'file-unknown'"


@kinds
def test_image_that_is_an_address_is_a_400(serve_wrapper: Serve, kind: str) -> None:
    gateway = serve_wrapper(WRAPPER)
    image = {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}
    reply = ask(gateway.url, kind, QUESTION, image)
    error = reply.json()["error"]
    assert (reply.status_code, error["type"], error["param"]) == (400, "invalid_request_error", "messages[0]")
    assert error["message"].startswith("messages[0] cannot be taken: Unsupported URL: 'https://a.example/b.png'")


def test_uploaded_file_needs_a_run() -> None:
    with pytest.raises(LookupError, match="outside of a run"):
        chat_messages_from_openai([user({"type": "file", "file": {"file_id": "file-1"}})])
