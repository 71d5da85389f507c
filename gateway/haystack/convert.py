"""OpenAI messages and items → Haystack's `ChatMessage`."""

import json
from base64 import b64encode
from collections.abc import Iterable, Mapping
from typing import Any

from haystack.dataclasses import ChatMessage, ReasoningContent, ToolCall

from gateway.errors import InvalidRequest
from gateway.files import get_file
from gateway.protocols.items import to_messages


def chat_messages_from_openai(messages: Iterable[Mapping[str, Any]]) -> list[ChatMessage]:
    """Chat messages in OpenAI's form, as Haystack takes them.

    An uploaded file is put in whole. Raises `InvalidRequest` (400), naming the message, for what Haystack has no
    content for: audio, an image that is only an address; `FileNotFound` (404).
    """
    converted: list[ChatMessage] = []
    calls: dict[str | None, ToolCall] = {}
    for position, message in enumerate(messages):
        try:
            chat_message = _convert(message, calls)
            calls.update({call.id: call for call in chat_message.tool_calls})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            where = f"messages[{position}]"
            raise InvalidRequest(f"{where} cannot be taken: {error}", param=where) from error
        converted.append(chat_message)
    return converted


def chat_messages_from_openai_response(input_items: Iterable[Mapping[str, Any]]) -> list[ChatMessage]:
    """Input items of the Responses API, as Haystack takes them. Raises as `chat_messages_from_openai`."""
    return chat_messages_from_openai(to_messages(input_items, keeps_items=True))


def _convert(message: Mapping[str, Any], calls: Mapping[str | None, ToolCall]) -> ChatMessage:
    role, content, name = message.get("role"), message.get("content"), message.get("name")
    if role == "user":
        if not content or isinstance(content, str):
            return ChatMessage.from_user(content or "", name=name)
        return ChatMessage.from_user(content_parts=_to_parts(content), name=name)
    if role in ("system", "developer"):
        return ChatMessage.from_system(_join(content, "text"), name=name)
    if role == "assistant":
        refusal = message.get("refusal") or _join(content, "refusal")
        text = content if isinstance(content, str) else _join(content, "text") or None
        return ChatMessage.from_assistant(
            text,
            meta={"refusal": refusal} if refusal else None,
            name=name,
            tool_calls=[_to_tool_call(call) for call in message.get("tool_calls") or ()],
            reasoning=_to_reasoning(message),
        )
    if role in ("tool", "function"):
        call_id = message.get("tool_call_id")
        origin = calls.get(call_id) or _make_call(name or "function", {}, call_id)
        return ChatMessage.from_tool(_to_tool_result(content), origin=origin)
    raise ValueError(f"the role {role!r} is not known")


def _to_parts(content: Any) -> list[Any]:
    parts = [_inline(part) for part in content]
    return list(ChatMessage.from_openai_dict_format({"role": "user", "content": parts})._content)


def _join(content: Any, kind: str) -> str:
    """The text of all parts of a kind, each on its own line; a text as it is."""
    if content is None or isinstance(content, str):
        return (content or "") if kind == "text" else ""
    return "\n".join(str(part.get(kind) or "") for part in content if part.get("type") == kind)


def _inline(part: Any) -> Any:
    """A part that names an uploaded file, with its content in the place of the id."""
    file = part.get("file") if isinstance(part, Mapping) and part.get("type") == "file" else None
    if not isinstance(file, Mapping) or file.get("file_data") or not file.get("file_id"):
        return part
    stored = get_file(str(file["file_id"]))
    data = f"data:{stored.content_type};base64,{b64encode(stored.read()).decode()}"
    if stored.content_type.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": data}}
    return {"type": "file", "file": {"file_data": data, "filename": stored.filename}}


def _to_tool_call(call: Mapping[str, Any]) -> ToolCall:
    if "custom" in call:
        return _make_call(call["custom"]["name"], {"input": call["custom"]["input"]}, call.get("id"))
    function = call["function"]
    return _make_call(function["name"], _to_arguments(function.get("arguments")), call.get("id"))


def _make_call(name: str, arguments: dict[str, Any], call_id: str | None) -> ToolCall:
    """`extra`: by it Haystack's generator for the Responses API links a result to its call."""
    return ToolCall(name, arguments, id=call_id, extra={"call_id": call_id} if call_id else None)


def _to_reasoning(message: Mapping[str, Any]) -> ReasoningContent | None:
    """`extra`: without the fields of its item Haystack cannot send it back to the Responses API."""
    if message.get("reasoning_content") is None:
        return None
    return ReasoningContent(message["reasoning_content"], extra=dict(message.get("reasoning_item") or {}))


def _to_arguments(given: Any) -> dict[str, Any]:
    """What a model has written may be no JSON object, and must not end the conversation."""
    if isinstance(given, str):
        try:
            given = json.loads(given or "{}")
        except ValueError:
            return {}
    return given if isinstance(given, dict) else {}


def _to_tool_result(content: Any) -> Any:
    if not content or isinstance(content, str):
        return content or ""
    return _to_parts(content)
