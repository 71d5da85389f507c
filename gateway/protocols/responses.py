"""The Responses API (OpenAI's OpenAPI document 2.3.0, read November 2026): the reply, as its named events and whole.

The whole reply is the response object that the stream ends with: both come out of one encoder.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.protocols.delta import Content, Event, Item, Reasoning, Refusal, Text, ToolCall, Usage
from gateway.protocols.openai import Head, OpenAIEncoder, error_body, text
from gateway.protocols.problem import Problem
from gateway.protocols.reader import Reader
from gateway.protocols.run import encode_json

INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
OWN = frozenset({"object", "output", "usage", "background", "store", "previous_response_id"})  # not the wrapper's
ERROR_CODES = frozenset({"server_error", "rate_limit_exceeded", "invalid_prompt"})
DEFAULTS: Mapping[str, Any] = {  # what the request may say, and what stands when it does not
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}


class _Item:
    """An output item as it grows. `part`: its open part. `pieces`: that part's text, or a call's arguments."""

    __slots__ = ("data", "part", "pieces", "position")

    def __init__(self, data: dict[str, Any], position: int) -> None:
        self.data = data
        self.position = position
        self.part: dict[str, Any] | None = None
        self.pieces: list[str] = []

    @property
    def place(self) -> dict[str, Any]:
        return {"item_id": self.data["id"], "output_index": self.position}


class ResponseStream(OpenAIEncoder):
    """Named events in their order; one that breaks ends with `response.failed` and `error`.

    Text, reasoning and refusals make items one after the other. A function call stays open to the end, because the
    pieces of several may come in turns. Events for user interfaces are left out: this format has no place for them.
    """

    media_type = "text/event-stream"

    def __init__(self, head: Head, reader: Reader, body: Mapping[str, Any]) -> None:
        """`body`: the request's, which the response object repeats."""
        self._head = head
        self._reader = reader
        self._sequence = 0
        self._item: _Item | None = None
        self._calls: dict[int, _Item] = {}
        self.response = _response(head, body)

    def start(self) -> bytes:
        return b"".join([self._lifecycle("response.created"), self._lifecycle("response.in_progress")])

    def feed(self, chunk: Any) -> bytes:
        return b"".join([event for delta in self._reader.read(chunk) for event in self._encode(delta)])

    def finish(self, result: Any = None) -> bytes:
        events = [event for delta in self._reader.end(result) for event in self._encode(delta)]
        reason = INCOMPLETE.get(self._reader.finish_reason())
        status = "incomplete" if reason else "completed"
        if not self.response["output"]:
            events += self._open_part("message", "output_text")
        events += self._close_all(status)
        self.response["status"] = status
        self.response["incomplete_details"] = {"reason": reason} if reason else None
        self.response["usage"] = usage_dict(self._reader.usage)
        events.append(self._lifecycle(f"response.{status}"))
        return b"".join(events)

    def fail(self, problem: Problem) -> bytes:
        """The SDKs raise at the `error` event, because it holds `error`; others go by `response.failed`."""
        code = problem.code if problem.code in ERROR_CODES else "server_error"
        number = self._sequence
        self._close_all("incomplete")  # in the object alone: a client acts on a call that is said to be done
        self._sequence = number
        self.response["status"] = "failed"
        self.response["error"] = {"code": code, "message": problem.message}
        fields = {"code": problem.code, "message": problem.message, "param": problem.param}
        return self._lifecycle("response.failed") + self._event("error", {**fields, **error_body(problem)})

    def _event(self, kind: str, fields: Mapping[str, Any]) -> bytes:
        data = text({"type": kind, **fields, "sequence_number": self._sequence})
        self._sequence += 1
        return f"event: {kind}\ndata: {data}\n\n".encode()

    def _lifecycle(self, kind: str) -> bytes:
        return self._event(kind, {"response": self.response})

    def _encode(self, delta: Content) -> Iterator[bytes]:
        if isinstance(delta, Text):
            yield from self._add("message", "output_text", "response.output_text.delta", delta.text)
        elif isinstance(delta, Refusal):
            yield from self._add("message", "refusal", "response.refusal.delta", delta.text)
        elif isinstance(delta, Reasoning):
            yield from self._add("reasoning", "summary_text", "response.reasoning_summary_text.delta", delta.text)
        elif isinstance(delta, ToolCall):
            yield from self._add_call(delta)
        elif isinstance(delta, Item):
            yield from self._add_item(delta)
        else:
            assert isinstance(delta, Event)

    def _add(self, kind: str, part: str, event: str, piece: str) -> Iterator[bytes]:
        yield from self._open_part(kind, part)
        assert self._item is not None
        self._item.pieces.append(piece)
        yield self._event(event, {**self._place(self._item), "delta": piece, **_logprobs(part)})

    def _add_call(self, delta: ToolCall) -> Iterator[bytes]:
        yield from self._close_item("completed")
        item = self._calls.get(delta.number)
        if item is None:
            call_id = delta.id or f"call_{self._head.key}{delta.number}"
            item = self._make_item("fc", type="function_call", arguments="", call_id=call_id, name=delta.name or "")
            self._calls[delta.number] = item
            yield self._event("response.output_item.added", {"output_index": item.position, "item": item.data})
        elif delta.name:
            item.data["name"] += delta.name
        if delta.arguments:
            item.pieces.append(delta.arguments)
            yield self._event("response.function_call_arguments.delta", {**item.place, "delta": delta.arguments})

    def _add_item(self, delta: Item) -> Iterator[bytes]:
        """What only the wrapper knows: it comes and goes as it is."""
        yield from self._close_item("completed")
        position = len(self.response["output"])
        data = {"id": f"item_{self._head.key}{position}", **delta.data}
        self.response["output"].append(data)
        for word in ("added", "done"):
            yield self._event(f"response.output_item.{word}", {"output_index": position, "item": data})

    def _make_item(self, prefix: str, **fields: Any) -> _Item:
        position = len(self.response["output"])
        item = _Item({"id": f"{prefix}_{self._head.key}{position}", "status": "in_progress", **fields}, position)
        self.response["output"].append(item.data)
        return item

    def _open_part(self, kind: str, part: str) -> Iterator[bytes]:
        """Make a part of this sort the open one, in an item of this kind."""
        if self._item is not None and self._item.data["type"] != kind:
            yield from self._close_item("completed")
        if self._item is None:
            fields = {"role": "assistant", "content": []} if kind == "message" else {"summary": []}
            self._item = self._make_item("msg" if kind == "message" else "rs", type=kind, **fields)
            item = self._item.data
            yield self._event("response.output_item.added", {"output_index": self._item.position, "item": item})
        if self._item.part is not None and self._item.part["type"] != part:
            yield from self._close_part()
        if self._item.part is None:
            self._item.part = _part(part, "")
            _parts(self._item).append(self._item.part)
            yield self._event(_part_event(part, "added"), {**self._place(self._item), "part": self._item.part})

    def _place(self, item: _Item) -> dict[str, Any]:
        """Of the open part, which is the item's last."""
        key = "content_index" if item.data["type"] == "message" else "summary_index"
        return {**item.place, key: len(_parts(item)) - 1}

    def _close_part(self) -> Iterator[bytes]:
        item = self._item
        if item is None or item.part is None:
            return
        kind, whole = item.part["type"], "".join(item.pieces)
        key = "refusal" if kind == "refusal" else "text"
        item.part[key] = whole
        place = self._place(item)
        names = {"output_text": "output_text", "refusal": "refusal", "summary_text": "reasoning_summary_text"}
        yield self._event(f"response.{names[kind]}.done", {**place, key: whole, **_logprobs(kind)})
        yield self._event(_part_event(kind, "done"), {**place, "part": item.part})
        item.part, item.pieces = None, []

    def _close_item(self, status: str) -> Iterator[bytes]:
        yield from self._close_part()
        if self._item is not None:
            item, self._item = self._item, None
            item.data["status"] = status
            yield self._event("response.output_item.done", {"output_index": item.position, "item": item.data})

    def _close_all(self, status: str) -> list[bytes]:
        """`status`: of what is open still, and so of the last that the model said."""
        events = list(self._close_item(status))
        for item in self._calls.values():
            arguments = "".join(item.pieces)
            item.data.update(arguments=arguments, status=status)
            fields = {**item.place, "name": item.data["name"], "arguments": arguments}
            events.append(self._event("response.function_call_arguments.done", fields))
            done = {"output_index": item.position, "item": item.data}
            events.append(self._event("response.output_item.done", done))
        return events


class ResponseWhole(ResponseStream):
    """The response object that the stream would end with; its events are not made."""

    media_type = "application/json"

    def __init__(self, head: Head, reader: Reader, body: Mapping[str, Any]) -> None:
        super().__init__(head, reader, body)
        self._given: Mapping[str, Any] | None = None
        self._chunks = 0

    def _event(self, kind: str, fields: Mapping[str, Any]) -> bytes:
        return b""

    def feed(self, chunk: Any) -> bytes:
        self._chunks += 1
        self._given = _as_response(chunk) if self._chunks == 1 else None
        return super().feed(chunk)

    def finish(self, result: Any = None) -> bytes:
        super().finish(result)
        made = self.response
        if self._given is not None:
            key, given = made["id"].removeprefix("resp_"), self._given["output"]
            said = {name: value for name, value in self._given.items() if name not in OWN and value is not None}
            said["output"] = [_complete(item, f"{key}{position}") for position, item in enumerate(given)]
            made = {**made, **said}
        return encode_json(made)

    def fail(self, problem: Problem) -> bytes:
        return OpenAIEncoder.fail(self, problem)


def usage_dict(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": usage.cache_write},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.total,
    }


def _response(head: Head, body: Mapping[str, Any]) -> dict[str, Any]:
    """The object before its first item. Nothing is stored, whatever the request says."""
    return {
        "id": f"resp_{head.key}",
        "object": "response",
        "created_at": head.created,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "model": head.model,
        "output": [],
        "previous_response_id": None,
        "store": False,
        "usage": None,
        **{key: default if body.get(key) is None else body[key] for key, default in DEFAULTS.items()},
    }


def _part(kind: str, whole: str) -> dict[str, Any]:
    if kind == "output_text":
        return {"type": kind, "annotations": [], "logprobs": [], "text": whole}
    return {"type": kind, "refusal" if kind == "refusal" else "text": whole}


def _parts(item: _Item) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = item.data["content" if item.data["type"] == "message" else "summary"]
    return parts


def _part_event(part: str, word: str) -> str:
    return f"response.{'reasoning_summary_part' if part == 'summary_text' else 'content_part'}.{word}"


def _logprobs(part: str) -> dict[str, Any]:
    """Empty, but required where there is text."""
    return {"logprobs": []} if part == "output_text" else {}


def _complete(item: Mapping[str, Any], key: str) -> dict[str, Any]:
    """An output item as the wrapper has made it, and what the format needs beside it. `key`: for its id."""
    kind = item.get("type", "message")
    said = {name: value for name, value in item.items() if value is not None}
    if kind == "message":
        parts = [{**_part(part.get("type", "output_text"), ""), **part} for part in item.get("content") or ()]
        fixed = {"id": f"msg_{key}", "type": kind, "role": "assistant", "status": "completed"}
        return {**fixed, **said, "content": parts}
    if kind == "function_call":
        return {"id": f"fc_{key}", "call_id": f"call_{key}", "arguments": "", "status": "completed", **said}
    return {"id": f"rs_{key}", "summary": [], **said} if kind == "reasoning" else {"id": f"item_{key}", **said}


def _as_response(value: Any) -> Mapping[str, Any] | None:
    """A response object that the wrapper has made itself, None when it is something else."""
    if hasattr(value, "model_dump") and hasattr(value, "output"):
        value = value.model_dump(mode="json", exclude_unset=True)
    return value if isinstance(value, Mapping) and isinstance(value.get("output"), list) else None
