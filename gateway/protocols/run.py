"""The run dialect: `{"result": …}`, plain text, and server-sent events (WHATWG HTML, read November 2026)."""

import dataclasses
import json
import re
from collections.abc import Mapping
from math import isfinite
from typing import Any, Protocol

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from gateway.protocols.problem import Problem, native_body

_LINE = re.compile(r"\r\n|\r|\n")


def to_jsonable(value: Any) -> Any:
    """What JSON cannot hold by itself, one level deep: Haystack's classes as their `to_dict()`, pydantic's as they say.

    Raises pydantic_core.PydanticSerializationError for what nobody can turn into JSON.
    """
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    for method in ("to_dict", "tolist"):  # Haystack, pandas; numpy
        convert = getattr(value, method, None)
        if convert is not None and not isinstance(value, type):
            return convert()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return to_jsonable_python(value, inf_nan_mode="null")  # may consume a generator: there is no second try


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=to_jsonable)


def encode_json(value: Any) -> bytes:
    """UTF-8 JSON. NaN and the infinities, which JSON does not have, become null; a lone surrogate is escaped."""
    try:
        return _ENCODER.encode(value).encode()
    except (TypeError, ValueError):  # NaN, a surrogate, a key that is no text: rare enough to walk all of it
        return json.dumps(_plain(value)).encode()


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else _plain_key(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return _plain(to_jsonable(value))


def _plain_key(key: Any) -> str:
    (text,) = to_jsonable_python({key: None})
    return str(text)


def encode_result(value: Any) -> bytes:
    """The body of a whole reply."""
    return encode_json({"result": value})


def chunk_text(chunk: Any) -> str | None:
    """A chunk as text: a Haystack `StreamingChunk` as its content or reasoning, a dict as JSON, None as no chunk."""
    if isinstance(chunk, str):
        return chunk
    if isinstance(chunk, bytes):
        return chunk.decode("utf-8", errors="replace")
    if chunk is None:
        return None
    content = getattr(chunk, "content", None)
    if isinstance(content, str):
        return content or getattr(getattr(chunk, "reasoning", None), "reasoning_text", None) or ""
    return encode_json(chunk).decode()


class Encoder(Protocol):
    """One reply's chunks to bytes. What it gives at each step follows what it has given before.

    `start` comes before the first chunk, `finish` after the last, with what the run itself gave (None: nothing), and
    `fail` in its place when the run broke; None: the format has no word for that.
    """

    media_type: str

    def start(self) -> bytes: ...

    def feed(self, chunk: Any) -> bytes: ...

    def finish(self, result: Any = None) -> bytes: ...

    def fail(self, problem: Problem) -> bytes | None: ...


class TextEncoder:
    """`text/plain`: the chunks' text and nothing else. `bytes` chunks pass untouched."""

    media_type = "text/plain"

    def start(self) -> bytes:
        return b""

    def feed(self, chunk: Any) -> bytes:
        return chunk if isinstance(chunk, bytes) else (chunk_text(chunk) or "").encode("utf-8", "replace")

    def finish(self, result: Any = None) -> bytes:
        return b""

    def fail(self, problem: Problem) -> bytes | None:
        return None


class EventEncoder:
    """`text/event-stream`: one event for each chunk; a broken stream ends with an event `error`."""

    media_type = "text/event-stream"

    def start(self) -> bytes:
        return b""

    def feed(self, chunk: Any) -> bytes:
        text = chunk_text(chunk)
        return b"" if text is None else _event_text(text).encode("utf-8", "replace")

    def finish(self, result: Any = None) -> bytes:
        return b""

    def fail(self, problem: Problem) -> bytes | None:
        return encode_event(encode_json(native_body(problem)).decode(), event="error")


def encode_event(data: str, *, event: str | None = None) -> bytes:
    """One event. A line break inside of `data`, `\\r` and `\\r\\n` too, arrives as `\\n`: the format has no other."""
    head = "" if event is None else f"event: {event}\n"
    return f"{head}{_event_text(data)}".encode("utf-8", "replace")


def _event_text(data: str) -> str:
    if "\n" in data or "\r" in data:
        data = "\ndata: ".join(_LINE.split(data))
    return f"data: {data}\n\n"
