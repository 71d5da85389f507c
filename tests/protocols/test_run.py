import json
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from haystack.dataclasses import ChatMessage, Document, StreamingChunk
from haystack.dataclasses.chat_message import ReasoningContent
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from gateway.protocols.problem import Problem
from gateway.protocols.run import (
    Encoder,
    EventEncoder,
    TextEncoder,
    chunk_text,
    encode_event,
    encode_json,
    encode_result,
)
from tests.protocols.fold import decode


class Colour(Enum):
    RED = "red"


class Answer(BaseModel):
    text: str
    when: date = Field(serialization_alias="on")


class Score(BaseModel):
    value: float


@dataclass
class Point:
    x: int
    inner: Any = None


class Odd:
    def to_dict(self) -> dict[str, Any]:
        return {"inner": Point(1, [Colour.RED])}


CASES: dict[str, tuple[Any, bytes]] = {
    "null": (None, b"null"),
    "text": ("grün 💚", '"grün 💚"'.encode()),
    "control characters": ("\x00\n\u2028", '"\\u0000\\n\u2028"'.encode()),
    "numbers": ([1, 1.5, -0.0, 10**30, True], b"[1,1.5,-0.0,1000000000000000000000000000000,true]"),
    "order": ({"b": 1, "a": 2}, b'{"b":1,"a":2}'),
    "keys": ({1: 1, None: 2, False: 3, 1.5: 4}, b'{"1":1,"null":2,"false":3,"1.5":4}'),
    "pydantic": ({"a": Answer(text="t", when=date(2026, 1, 2))}, b'{"a":{"text":"t","on":"2026-01-02"}}'),
    "dataclass": (Point(1, Point(2)), b'{"x":1,"inner":{"x":2,"inner":null}}'),
    "to_dict": ([Odd()], b'[{"inner":{"x":1,"inner":["red"]}}]'),
    "document": (
        Document(id="1", content="c"),
        b'{"id":"1","content":"c","blob":null,"score":null,"embedding":null,"sparse_embedding":null}',
    ),
    "message": (
        ChatMessage.from_user("hi"),
        b'{"role":"user","meta":{},"name":null,"content":[{"text":"hi"}]}',
    ),
    "numpy": ([np.array([[1, 2]]), np.float32(0.5), np.int64(3)], b"[[[1,2]],0.5,3]"),
    "sets and tuples": ([(1,), {2}, frozenset({3})], b"[[1],[2],[3]]"),
    "bytes": (b"text", b'"text"'),
    "time": ([datetime(2026, 1, 2, tzinfo=UTC), Path("/a")], b'["2026-01-02T00:00:00Z","/a"]'),
    "generator": ((number for number in (1, 2)), b"[1,2]"),
}


# What JSON does not have.
RARE_CASES: dict[str, tuple[Any, Any]] = {
    "not numbers": ([float("nan"), float("inf"), -float("inf")], [None, None, None]),
    "numpy that is not a number": (np.array([np.nan, 1.0]), [None, 1.0]),
    "a lone surrogate": ("a\ud800b", "a\ud800b"),
    "a lone surrogate in a key": ({"\ud800": 1}, {"\ud800": 1}),
    "a lone surrogate beside what is not a number": (["\ud800", float("nan")], ["\ud800", None]),
    "keys that are dates and the like": (
        {date(2026, 1, 2): 1, UUID(int=1): 2, Colour.RED: 3},
        {"2026-01-02": 1, "00000000-0000-0000-0000-000000000001": 2, "red": 3},
    ),
    "a generator of what is not a number": ({"a": (number for number in (1, float("nan")))}, {"a": [1, None]}),
    "pydantic with what is not a number": ({"a": Score(value=float("nan"))}, {"a": {"value": None}}),
}


@pytest.mark.parametrize("case", CASES)
def test_encode_json(case: str) -> None:
    value, expected = CASES[case]
    assert encode_json(value) == expected


@pytest.mark.parametrize("case", RARE_CASES)
def test_encode_json_of_what_json_does_not_have(case: str) -> None:
    value, expected = RARE_CASES[case]
    assert json.loads(encode_json(value)) == expected


@pytest.mark.parametrize("value", [object(), {"a": lambda: None}, b"\xff", Document])
def test_encode_json_raises_for_what_nobody_can_encode(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        encode_json(value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=())), inner),
    max_leaves=10,
)


@given(JSON)
def test_encode_json_gives_back_any_value_but_for_what_is_no_number(value: Any) -> None:
    def finite(value: Any) -> Any:
        if isinstance(value, float):
            return value if abs(value) < float("inf") else None
        if isinstance(value, dict):
            return {key: finite(inner) for key, inner in value.items()}
        return [finite(inner) for inner in value] if isinstance(value, list) else value

    assert json.loads(encode_json(value)) == finite(value)


def test_encode_result_wraps_the_value() -> None:
    assert encode_result([1]) == b'{"result":[1]}'


CHUNKS: dict[str, tuple[Any, str | None]] = {
    "text": ("a\n", "a\n"),
    "empty": ("", ""),
    "bytes": ("grün".encode(), "grün"),
    "broken bytes": (b"\xff", "\ufffd"),
    "none": (None, None),
    "chunk": (StreamingChunk(content="c"), "c"),
    "empty chunk": (StreamingChunk(content=""), ""),
    "reasoning": (StreamingChunk(content="", index=0, reasoning=ReasoningContent("why")), "why"),
    "dict": ({"a": None}, '{"a":null}'),
    "number": (1, "1"),
    "pydantic": (Answer(text="t", when=date(2026, 1, 2)), '{"text":"t","on":"2026-01-02"}'),
    "document": (Document(id="1", content="the text"), "the text"),
}


@pytest.mark.parametrize("case", CHUNKS)
def test_chunk_text(case: str) -> None:
    chunk, expected = CHUNKS[case]
    assert chunk_text(chunk) == expected


def feed(encoder: Encoder, chunks: list[Any]) -> bytes:
    return b"".join([encoder.start(), *(encoder.feed(chunk) for chunk in chunks), encoder.finish("unheard")])


STREAMS: dict[str, tuple[list[Any], bytes, bytes]] = {
    "nothing": ([], b"", b""),
    "no chunk": ([None], b"", b""),
    "texts": (["a", "b"], b"ab", b"data: a\n\ndata: b\n\n"),
    "line breaks": (["a\nb\r\nc\rd"], b"a\nb\r\nc\rd", b"data: a\ndata: b\ndata: c\ndata: d\n\n"),
    "only a line break": (["\n"], b"\n", b"data: \ndata: \n\n"),
    "an empty text": ([""], b"", b"data: \n\n"),
    "spaces": ([" a "], b" a ", b"data:  a \n\n"),
    "a field of the format": (["event: x\n\nid: 1"], b"event: x\n\nid: 1", b"data: event: x\ndata: \ndata: id: 1\n\n"),
    "half a character": ([b"\xe2\x82", b"\xac"], "€".encode(), "data: \ufffd\n\ndata: \ufffd\n\n".encode()),
    "a lone surrogate": (["a\ud800"], b"a?", b"data: a?\n\n"),
    "objects": ([{"a": 1}, StreamingChunk(content="c")], b'{"a":1}c', b'data: {"a":1}\n\ndata: c\n\n'),
}


@pytest.mark.parametrize("case", STREAMS)
def test_encoders(case: str) -> None:
    chunks, text, events = STREAMS[case]
    assert (feed(TextEncoder(), chunks), feed(EventEncoder(), chunks)) == (text, events)


def test_encoders_fail() -> None:
    problem = Problem("a\nb", "server_error", "wrapper_error", "unsaid")
    assert TextEncoder().fail(problem) is None
    assert EventEncoder().fail(problem) == (
        b'event: error\ndata: {"error":{"type":"server_error","message":"a\\nb","code":"wrapper_error"},'
        b'"detail":"a\\nb"}\n\n'
    )


TEXTS = st.text(st.sampled_from("a \r\n:\u2028\x85\ufeffü"), max_size=12) | st.text()


@given(st.lists(TEXTS))
def test_event_encoder_gives_back_each_text_with_its_line_breaks_normalised(texts: list[str]) -> None:
    expected = [("message", text.replace("\r\n", "\n").replace("\r", "\n")) for text in texts]
    assert list(decode(feed(EventEncoder(), list(texts)))) == expected


@given(TEXTS)
def test_text_encoder_gives_the_same_however_the_text_is_split(text: str) -> None:
    assert feed(TextEncoder(), list(text)) == feed(TextEncoder(), [text]) == text.encode()


def test_encode_event_names_its_kind() -> None:
    assert encode_event("a\nb", event="error") == b"event: error\ndata: a\ndata: b\n\n"
