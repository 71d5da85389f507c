"""A request of the Responses API (OpenAI's OpenAPI document 2.3.0, read November 2026), and the same as a chat's."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.errors import InvalidRequest
from gateway.haystack.message import TEXT_PARTS
from gateway.protocols.openai import read_field, read_model, read_object, read_objects, read_within, text

REFUSED = {  # what would have to be stored
    "previous_response_id": "no response is stored: send the whole conversation in input",
    "conversation": "no conversation is stored: send all of it in input",
    "background": "a response is made while its caller waits: leave background out, or send false",
}


@dataclass(frozen=True, slots=True)
class ResponseRequest:
    """`items` and `body` are the client's, untouched, but that an `input` of text has become one message."""

    model: str
    items: list[dict[str, Any]]
    body: dict[str, Any]
    is_stream: bool

    @property
    def arguments(self) -> dict[str, Any]:
        return {"model": self.model, "input_items": self.items, "body": self.body}

    @property
    def chat_arguments(self) -> dict[str, Any]:
        """For a wrapper that has only a chat method."""
        messages = to_messages(self.items, self.body.get("instructions"))
        return {"model": self.model, "messages": messages, "body": {**_to_chat_body(self.body), "messages": messages}}


def parse(data: Any) -> ResponseRequest:
    """Raises `InvalidRequest` (400) with the field at fault, and for what would have to be stored."""
    body = read_object(data)
    model = read_model(body, None)
    for name, reason in REFUSED.items():
        if body.get(name):
            raise InvalidRequest(f"{name} is not supported: {reason}", param=name, code="unsupported_parameter")
    given = read_field(body, "input", str, list, is_required=body.get("prompt") is None, default=[])
    if given == [] and body.get("prompt") is None:
        raise InvalidRequest("input must not be empty", param="input", code="empty_array")
    for name in ("metadata", "text", "reasoning"):
        read_field(body, name, dict)
    if isinstance(read_field(body, "instructions", str, list), list):
        read_objects(body, "instructions")
    read_field(body, "tools", list)
    is_text = isinstance(given, str)
    return ResponseRequest(
        model=model,
        items=[{"type": "message", "role": "user", "content": given}] if is_text else _read_items({"input": given}),
        body=body,
        is_stream=read_field(body, "stream", bool, default=False),
    )


def _read_items(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    items = read_objects(body, "input")
    for position, item in enumerate(items):
        where = f"input[{position}]"
        kind = read_within(where, item, "type", str, default="message")
        if kind == "item_reference":
            message = f"{where}: an item_reference is not supported: nothing is stored, send the item itself"
            raise InvalidRequest(message, param=where, code="unsupported_parameter")
        if kind == "function_call":
            read_within(where, item, "name", str, is_required=True)
            read_within(where, item, "call_id", str)
        if kind == "message":
            if not isinstance(item.get("role"), str):
                raise InvalidRequest(f"{where}.role must be a string", param=f"{where}.role", code="invalid_type")
            content = item.get("content")
            if not isinstance(content, str) and not _is_parts(content):
                message = f"{where}.content must be a string or an array of objects"
                raise InvalidRequest(message, param=f"{where}.content", code="invalid_type")
    return items


def _is_parts(content: Any) -> bool:
    return isinstance(content, list) and all(isinstance(part, dict) for part in content)


def to_messages(
    items: Iterable[Mapping[str, Any]], instructions: Any = None, *, keeps_items: bool = False
) -> list[dict[str, Any]]:
    """Input items as chat messages. What chat has no word for, such as a search's own item, is left out.

    Reasoning, text and calls that follow one another are one message of the assistant, as chat wants it.
    `keeps_items`: what chat has no field for stands in `reasoning_item`, for those who make an item of it again.
    """
    messages: list[dict[str, Any]] = []
    if isinstance(instructions, str):
        messages.append({"role": "system", "content": instructions})
    for item in [*(instructions if isinstance(instructions, list) else ()), *items]:
        message = _to_message(item)
        if message is None:
            continue
        if keeps_items and "reasoning_content" in message:
            message["reasoning_item"] = _pick(item, "type", "id", "encrypted_content", "status")
        if not (messages and message["role"] == "assistant" and _join(messages[-1], message)):
            messages.append(message)
    return messages


def _to_message(item: Mapping[str, Any]) -> dict[str, Any] | None:
    kind = item.get("type", "message")
    if kind == "message":
        return {"role": item.get("role", "user"), "content": _to_content(item.get("content"))}
    if kind in ("function_call", "custom_tool_call"):
        call_id = item.get("call_id") or item.get("id")
        if kind == "function_call":
            call: dict[str, Any] = {"type": "function", "function": _pick(item, "name", "arguments")}
        else:
            call = {"type": "custom", "custom": _pick(item, "name", "input")}
        return {"role": "assistant", "content": None, "tool_calls": [{"id": call_id, **call}]}
    if kind in ("function_call_output", "custom_tool_call_output"):
        output = item.get("output")
        content = _to_content(output) if _is_parts(output) or isinstance(output, str) else text(output)
        return {"role": "tool", "tool_call_id": item.get("call_id"), "content": content}
    if kind == "reasoning":
        parts = item.get("summary") or item.get("content")
        told = [part for part in parts if isinstance(part, Mapping)] if isinstance(parts, list) else []
        reasoning = "\n\n".join(str(part.get("text", "")) for part in told)
        return {"role": "assistant", "content": None, "reasoning_content": reasoning}
    return None


def _join(last: dict[str, Any], message: Mapping[str, Any]) -> bool:
    """Add `message` to `last` when both are of one turn of the assistant: reasoning, then text, then calls."""
    if last["role"] != "assistant" or "reasoning_content" in message:
        return False
    if message["content"] is not None:
        if last["content"] is not None or "tool_calls" in last:
            return False
        last["content"] = message["content"]
    if "tool_calls" in message:
        last.setdefault("tool_calls", []).extend(message["tool_calls"])
    return True


def _to_content(content: Any) -> Any:
    """One text part is its text; several, and other kinds, are parts of chat's form."""
    if not isinstance(content, list):
        return content
    parts = [_to_part(part) for part in content]
    return parts[0]["text"] if len(parts) == 1 and parts[0].get("type") == "text" else parts


def _to_part(part: Mapping[str, Any]) -> dict[str, Any]:
    kind = part.get("type", "")
    if kind in TEXT_PARTS:
        return {"type": "text", "text": part.get("text", "")}
    if kind == "input_image" and part.get("image_url"):
        return {"type": "image_url", "image_url": {"url": part["image_url"], **_pick(part, "detail")}}
    if kind in ("input_file", "input_image"):
        return {"type": "file", "file": _pick(part, "file_id", "filename", "file_data", "file_url")}
    return dict(part)


def _to_chat_body(body: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters in chat's words; what has none there is passed on as it is."""
    chat = {key: value for key, value in body.items() if key not in ("input", "text", "reasoning", "max_output_tokens")}
    if isinstance(body.get("tools"), list):
        chat["tools"] = [_to_chat_tool(tool) for tool in body["tools"]]
    choice = body.get("tool_choice")
    if isinstance(choice, Mapping) and choice.get("type") == "function" and "function" not in choice:
        chat["tool_choice"] = {"type": "function", "function": _pick(choice, "name")}
    if body.get("max_output_tokens") is not None:
        chat["max_completion_tokens"] = body["max_output_tokens"]
    effort = read_field(body, "reasoning.effort", str)
    if effort is not None:
        chat["reasoning_effort"] = effort
    form = read_field(body, "text.format", dict, default={})
    if form.get("type") == "json_schema":
        schema = {key: value for key, value in form.items() if key != "type"}
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif form.get("type", "text") != "text":
        chat["response_format"] = form
    if (verbosity := read_field(body, "text.verbosity", str)) is not None:
        chat["verbosity"] = verbosity
    return chat


def _to_chat_tool(tool: Any) -> Any:
    if not isinstance(tool, Mapping) or tool.get("type") != "function" or "function" in tool:
        return tool
    return {"type": "function", "function": {key: value for key, value in tool.items() if key != "type"}}


def _pick(item: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: item[key] for key in keys if item.get(key) is not None}
