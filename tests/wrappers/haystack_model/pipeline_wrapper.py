"""What the other wrappers take for a model: it does what the last message says."""

import json
from collections.abc import Iterator
from typing import Any

from haystack.dataclasses import ChatMessage, ReasoningContent, StreamingChunk, ToolCall
from haystack.dataclasses.streaming_chunk import ToolCallDelta
from starlette.exceptions import HTTPException

from gateway import BasePipelineWrapper, chat_messages_from_openai, current_run
from tests import probe

USAGE = {
    "prompt_tokens": 7,
    "completion_tokens": 3,
    "total_tokens": 10,
    "prompt_tokens_details": {"cached_tokens": 2},
    "completion_tokens_details": {"reasoning_tokens": 1},
}


class PipelineWrapper(BasePipelineWrapper):
    def run_chat_completion(self, model: str, messages: list[dict], body: dict) -> Any:
        last = chat_messages_from_openai(messages)[-1]
        word, _, rest = (last.text or "").partition(" ")
        if word == "fail":
            raise HTTPException(int(rest), f"the model says {rest}")
        if word == "break":
            return break_off()
        if word == "endless":
            return go_on()
        reply = answer(last, word, rest, body)
        return stream(reply) if body.get("stream") else reply

    def run_embedding(self, model: str, inputs: list[str], body: dict) -> dict:
        if "fail" in inputs:
            raise HTTPException(429, "too many texts")
        vectors = [[float(len(text)), 0.5, -1.0][: body.get("dimensions")] for text in inputs]
        spent = sum(len(text.split()) for text in inputs)
        return {"embeddings": vectors, "usage": {"prompt_tokens": spent, "total_tokens": spent}}


def answer(last: ChatMessage, word: str, rest: str, body: dict) -> ChatMessage:
    meta = {"finish_reason": "stop", "usage": USAGE}
    if last.tool_call_results:
        result = last.tool_call_results[0]
        return ChatMessage.from_assistant(f"{result.origin.id} gave {result.result}", meta=meta)
    if word == "sum":  # two numbers, with the first tool that the caller has; twice, where there is a third
        name = body["tools"][0]["function"]["name"]
        first, *others = map(int, rest.split())
        calls = [ToolCall(name, {"a": first, "b": b}, id=f"call_{number}") for number, b in enumerate(others)]
        return ChatMessage.from_assistant(tool_calls=calls, meta={**meta, "finish_reason": "tool_calls"})
    if word == "think":
        return ChatMessage.from_assistant(rest, reasoning=f"is it {rest}?", meta=meta)
    if word == "cut":
        return ChatMessage.from_assistant(rest, meta={**meta, "finish_reason": "length"})
    if word == "show":
        return ChatMessage.from_assistant(json.dumps(body.get(rest)), meta=meta)
    return ChatMessage.from_assistant(f"{word} {rest}".upper(), meta=meta)


def stream(reply: ChatMessage) -> Iterator[StreamingChunk]:
    """Word by word; the arguments of calls in halves."""
    for reasoning in reply.reasonings:
        for piece in split(reasoning.reasoning_text):
            yield StreamingChunk("", reasoning=ReasoningContent(piece), index=0)
    for piece in split(reply.text or ""):
        yield StreamingChunk(piece, index=0)
    for index, call in enumerate(reply.tool_calls):
        arguments = json.dumps(call.arguments)
        half = len(arguments) // 2
        first = ToolCallDelta(index, call.tool_name, arguments[:half], call.id)
        for delta in (first, ToolCallDelta(index, arguments=arguments[half:])):
            yield StreamingChunk("", tool_calls=[delta], index=index)
    yield StreamingChunk("", finish_reason=reply.meta["finish_reason"], meta={"usage": USAGE})


def split(text: str) -> list[str]:
    return [word + " " for word in text.split(" ")[:-1]] + [text.split(" ")[-1]] if text else []


def break_off() -> Iterator[str]:
    yield "a beginning"
    raise RuntimeError("the secret")


def go_on() -> Iterator[str]:
    signals = probe.current
    try:
        while True:
            yield "on "
    finally:
        signals.note(current_run().cause)
        signals.set("model left")
