"""Chunks in their smallest pieces: what a reply says does not depend on how it was cut."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from haystack.dataclasses import StreamingChunk


def split(chunks: Iterable[Any]) -> list[Any]:
    """The same, character by character where there is text or a tool call's arguments."""
    return [piece for chunk in chunks for piece in _split(chunk)]


def _split(chunk: Any) -> list[Any]:
    if isinstance(chunk, str):
        return list(chunk)
    if isinstance(chunk, StreamingChunk) and chunk.content:
        *some, last = chunk.content
        pieces = [StreamingChunk(content=piece, component_info=chunk.component_info) for piece in some]
        return [*pieces, replace(chunk, content=last)]
    if isinstance(chunk, StreamingChunk) and len(chunk.tool_calls or ()) == 1 and not chunk.meta:
        return _split_call(chunk)
    if isinstance(chunk, dict) and isinstance(chunk.get("content"), str) and len(chunk) == 1:
        return [{"content": piece} for piece in chunk["content"]]
    return [chunk]


def _split_call(chunk: StreamingChunk) -> list[StreamingChunk]:
    """The id and the name come with a first piece that has no arguments."""
    (call,) = chunk.tool_calls or ()
    ended = {"finish_reason": chunk.finish_reason}
    first = replace(chunk, tool_calls=[replace(call, arguments=None)], finish_reason=None)
    pieces = [replace(call, arguments=piece, id=None, tool_name=None) for piece in call.arguments or ""]
    chunks = [first, *(replace(chunk, tool_calls=[piece], finish_reason=None) for piece in pieces)]
    return [*chunks[:-1], replace(chunks[-1], **ended)]
