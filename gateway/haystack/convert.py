"""OpenAI messages and items → Haystack's `ChatMessage`."""

import json
from base64 import b64encode
from collections.abc import Iterable, Mapping
from typing import Any

from haystack.dataclasses import ChatMessage, TextContent, ToolCall

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
        except (ValueError, TypeError, KeyError) as error:
            where = f"messages[{position}]"
            raise InvalidRequest(f"{where} cannot be taken: {error}", param=where) from error
        calls.update({call.id: call for call in chat_message.tool_calls})
        converted.append(chat_message)
    return converted


def chat_messages_from_openai_response(input_items: Iterable[Mapping[str, Any]]) -> list[ChatMessage]:
    """Input items of the Responses API, as Haystack takes them. Raises as `chat_messages_from_openai`."""
    return chat_messages_from_openai(to_messages(input_items))


def _convert(message: Mapping[str, Any], calls: Mapping[str | None, ToolCall]) -> ChatMessage:
    role, content, name = message.get("role"), message.get("content"), message.get("name")
    if role == "user":
        if not content or isinstance(content, str):
            return ChatMessage.from_user(content or "", name=name)
        parts = [_inline(part) for part in content]
        return ChatMessage.from_openai_dict_format({"role": "user", "content": parts, "name": name})
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
            reasoning=message.get("reasoning_content"),
        )
    if role in ("tool", "function"):
        call_id = message.get("tool_call_id")
        origin = calls.get(call_id) or ToolCall(tool_name=name or "function", arguments={}, id=call_id)
        return ChatMessage.from_tool(_to_tool_result(content), origin=origin)
    raise ValueError(f"the role {role!r} is not known")


def _join(content: Any, kind: str) -> str:
    """The text of all parts of a kind, each on its own line; a text as it is."""
    if content is None or isinstance(content, str):
        return (content or "") if kind == "text" else ""
    return "\n".join(str(part[kind]) for part in content if part.get("type") == kind)


def _inline(part: Any) -> Any:
    """A part that names an uploaded file, with its content in the place of the id."""
    file = part.get("file") if isinstance(part, Mapping) and part.get("type") == "file" else None
    if not isinstance(file, Mapping) or file.get("file_data") or not file.get("file_id"):
        return part
    stored = get_file(str(file["file_id"]))
    data = f"data:{stored.content_type};base64,{b64encode(stored.read()).decode()}"
    return {"type": "file", "file": {"file_data": data, "filename": stored.filename}}


def _to_tool_call(call: Mapping[str, Any]) -> ToolCall:
    if "custom" in call:
        return ToolCall(
            tool_name=call["custom"]["name"], arguments={"input": call["custom"]["input"]}, id=call.get("id")
        )
    function = call["function"]
    return ToolCall(tool_name=function["name"], arguments=_to_arguments(function.get("arguments")), id=call.get("id"))


def _to_arguments(given: Any) -> dict[str, Any]:
    """What a model has written may be no JSON object, and must not end the conversation."""
    if isinstance(given, str):
        try:
            given = json.loads(given or "{}")
        except ValueError:
            return {}
    return given if isinstance(given, dict) else {}


def _to_tool_result(content: Any) -> Any:
    if content is None or isinstance(content, str):
        return content or ""
    return [TextContent(text=str(part.get("text", ""))) for part in content]
