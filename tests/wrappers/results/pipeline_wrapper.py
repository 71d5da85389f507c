"""A result of every kind, by its name."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from haystack.dataclasses import ChatMessage, Document, StreamingChunk
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from gateway import BasePipelineWrapper, SSEStream


class Colour(Enum):
    RED = "red"


class Answer(BaseModel):
    text: str
    score: float = Field(serialization_alias="points")


@dataclass
class Point:
    x: int
    y: int


def count() -> Iterator[Any]:
    yield "one\n"
    yield StreamingChunk(content="zwei ")
    yield b"\xe2\x82\xac"
    yield {"three": 3}


async def count_async() -> AsyncIterator[str]:
    yield "one"
    await asyncio.sleep(0)
    yield "two\nlines"


RESULTS: dict[str, Any] = {
    "none": None,
    "text": "grün",
    "number": 1.5,
    "list": [1, "two", None, True],
    "model": Answer(text="yes", score=0.5),
    "models": [Answer(text="yes", score=0.5)],
    "dataclass": Point(1, 2),
    "document": {"documents": [Document(id="1", content="text", meta={"page": 2})]},
    "message": ChatMessage.from_assistant("hello"),
    "nan": {"scores": [float("nan"), float("inf"), -float("inf"), 1.0]},
    "enum": Colour.RED,
    "date": [date(2026, 1, 2), UUID(int=1), Decimal("1.5"), {3}, b"bytes"],
    "surrogate": "\ud800",
    "nan and surrogate": [float("nan"), "\ud800"],
    "keys": {date(2026, 1, 2): 1, UUID(int=1): 2, Colour.RED: 3},
}


class PipelineWrapper(BasePipelineWrapper):
    def run_api(self, kind: str):
        streams = {"plain": count, "plain async": count_async}
        if kind == "response":
            return JSONResponse({"mine": True}, 202, {"X-Mine": "yes"})
        if kind == "bytes":
            return Response(b"\x00\xff", media_type="image/png")
        if kind == "object":
            return object()
        if kind == "events":
            return SSEStream(count())
        if kind == "events async":
            return SSEStream(count_async())
        if kind == "events of a list":
            return SSEStream(["not", "a", "generator"])
        return streams[kind]() if kind in streams else RESULTS[kind]
