"""What a client makes of a recorded stream: its events, and the whole reply that they add up to.

The order and the fields of the events are checked on the way (OpenAI's OpenAPI document 2.3.0, November 2026).
"""

import json
import re
from collections.abc import Iterator
from typing import Any

OF_PART = {"item_id", "output_index", "content_index"}
OF_SUMMARY = {"item_id", "output_index", "summary_index"}
OF_CALL = {"item_id", "output_index"}
FIELDS: dict[str, set[str]] = {  # beside `type` and `sequence_number`
    "response.output_item.added": {"output_index", "item"},
    "response.output_item.done": {"output_index", "item"},
    "response.content_part.added": OF_PART | {"part"},
    "response.content_part.done": OF_PART | {"part"},
    "response.output_text.delta": OF_PART | {"delta", "logprobs"},
    "response.output_text.done": OF_PART | {"text", "logprobs"},
    "response.refusal.delta": OF_PART | {"delta"},
    "response.refusal.done": OF_PART | {"refusal"},
    "response.reasoning_summary_part.added": OF_SUMMARY | {"part"},
    "response.reasoning_summary_part.done": OF_SUMMARY | {"part"},
    "response.reasoning_summary_text.delta": OF_SUMMARY | {"delta"},
    "response.reasoning_summary_text.done": OF_SUMMARY | {"text"},
    "response.function_call_arguments.delta": OF_CALL | {"delta"},
    "response.function_call_arguments.done": OF_CALL | {"name", "arguments"},
}
NEW_PARTS: dict[str, dict[str, Any]] = {
    "output_text": {"type": "output_text", "annotations": [], "logprobs": [], "text": ""},
    "refusal": {"type": "refusal", "refusal": ""},
    "summary_text": {"type": "summary_text", "text": ""},
}
NEW_ITEMS: dict[str, dict[str, Any]] = {
    "message": {"role": "assistant", "content": []},
    "reasoning": {"summary": []},
    "function_call": {"arguments": ""},
}


def decode(stream: bytes) -> Iterator[tuple[str, str]]:
    """`(event, data)` as section 9.2.6 of WHATWG HTML reads them."""
    kind, data = "", ""
    for line in re.split("\r\n|\r|\n", stream.decode()):
        if not line:
            if data:
                yield kind or "message", data.removesuffix("\n")
            kind, data = "", ""
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            kind = value
        elif name == "data":
            data += value + "\n"


def fold_chat(stream: bytes) -> dict[str, Any]:
    """The `chat.completion` of a stream that was asked for its usage. Events for user interfaces are left out."""
    *events, done = [data for _, data in decode(stream)]
    assert done == "[DONE]"
    *chunks, last = [chunk for chunk in map(json.loads, events) if "event" not in chunk]
    head = {key: last[key] for key in ("id", "created", "model")}
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        (piece,) = chunk["choices"]
        assert chunk == {**head, "object": "chat.completion.chunk", "choices": [piece], "usage": None}
        _add_choice(choices, **piece)
    assert last == {**head, "object": "chat.completion.chunk", "choices": [], "usage": last["usage"]}
    folded = [choice for _, choice in sorted(choices.items())]
    assert all(choice["finish_reason"] for choice in folded)
    return {**head, "object": "chat.completion", "choices": folded, "usage": last["usage"]}


def _add_choice(
    choices: dict[int, dict[str, Any]], index: int, delta: dict[str, Any], finish_reason: str | None
) -> None:
    if index not in choices:
        assert delta.pop("role") == "assistant"
        message = {"role": "assistant", "content": None, "refusal": None}
        choices[index] = {"index": index, "message": message, "logprobs": None, "finish_reason": None}
    choice = choices[index]
    assert choice["finish_reason"] is None
    choice["finish_reason"] = finish_reason
    assert len(delta) == (finish_reason is None)
    message = choice["message"]
    for key, value in delta.items():
        if key == "tool_calls":
            (piece,) = value
            _add_call(message.setdefault("tool_calls", []), **piece)
        else:
            assert key in ("content", "reasoning_content", "refusal")
            message[key] = (message.get(key) or "") + value


def _add_call(calls: list[dict[str, Any]], index: int, function: dict[str, str], **first: str) -> None:
    if first:
        assert (index, set(first), first["type"]) == (len(calls), {"id", "type"}, "function")
        calls.append({**first, "function": {"name": "", "arguments": ""}})
    for key, piece in function.items():
        calls[index]["function"][key] += piece


def fold_response(stream: bytes) -> dict[str, Any]:
    """The response object that a stream ends with, which is compared with what its events add up to."""
    events = []
    for number, (kind, data) in enumerate(decode(stream)):
        event = json.loads(data)
        assert (event.pop("type"), event.pop("sequence_number")) == (kind, number)
        events.append((kind, event))
    (first, created), (second, in_progress), *middle, (last, ended) = events
    assert (first, second, created) == ("response.created", "response.in_progress", in_progress)
    begun, final = created["response"], ended["response"]
    assert (begun["status"], begun["output"], begun["usage"]) == ("in_progress", [], None)
    output = _Output()
    for kind, event in middle:
        assert set(event) == FIELDS[kind]
        output.add(kind, event)
    assert output.open == set()
    assert last == f"response.{final['status']}"
    free = {key: final[key] for key in ("status", "incomplete_details", "usage")}
    assert final == {**begun, **free, "output": output.items}
    return dict(final)


class _Output:
    """`open`: what has been added and is not done, as `(item,)`, `(item, part)` and `(item, "arguments")`."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        self.open: set[tuple[Any, ...]] = set()

    def add(self, kind: str, event: dict[str, Any]) -> None:
        position = event["output_index"]
        if kind == "response.output_item.added":
            self._add_item(position, event["item"])
            return
        item = self.items[position]
        if kind == "response.output_item.done":
            done = event["item"]
            if item["type"] in NEW_ITEMS:
                assert done["status"] in ("completed", "incomplete")
                item["status"] = done["status"]
            assert done == item
            self.open.remove((position,))
            assert not [place for place in self.open if place[0] == position]
            return
        assert event["item_id"] == item["id"]
        if kind.startswith("response.function_call_arguments."):
            self._add_arguments(position, item, kind, event)
        else:
            self._add_part(position, item, kind, event)

    def _add_item(self, position: int, item: dict[str, Any]) -> None:
        assert position == len(self.items)
        self.items.append(item)
        self.open.add((position,))
        if item["type"] not in NEW_ITEMS:  # a wrapper's own, which comes whole
            return
        new = NEW_ITEMS[item["type"]]
        named = ("id", "type", "call_id", "name") if item["type"] == "function_call" else ("id", "type")
        assert item == {**{key: item[key] for key in named}, "status": "in_progress", **new}
        if item["type"] == "function_call":
            self.open.add((position, "arguments"))

    def _add_arguments(self, position: int, item: dict[str, Any], kind: str, event: dict[str, Any]) -> None:
        assert (position, "arguments") in self.open
        if kind.endswith(".delta"):
            item["arguments"] += event["delta"]
            return
        assert event["arguments"] == item["arguments"]
        item["name"] = item["name"] or event["name"]
        assert event["name"] == item["name"]
        self.open.remove((position, "arguments"))

    def _add_part(self, position: int, item: dict[str, Any], kind: str, event: dict[str, Any]) -> None:
        is_summary = "reasoning_summary" in kind
        parts = item["summary" if is_summary else "content"]
        number = event["summary_index" if is_summary else "content_index"]
        if kind.endswith("part.added"):
            assert number == len(parts)
            assert event["part"] == NEW_PARTS[event["part"]["type"]]
            assert is_summary == (event["part"]["type"] == "summary_text")
            assert not [place for place in self.open if len(place) > 1 and place[0] == position]
            parts.append(event["part"])
            self.open.add((position, number))
            return
        part = parts[number]
        key = "refusal" if part["type"] == "refusal" else "text"
        assert event.get("logprobs", []) == []
        if kind.endswith("part.done"):
            assert event["part"] == part
            self.open.remove((position, number))
        elif kind.endswith(".delta"):
            assert (position, number) in self.open
            part[key] += event["delta"]
        else:
            assert event[key] == part[key]
