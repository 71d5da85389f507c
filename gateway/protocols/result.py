"""What a wrapper gave, as deltas: text, Haystack's objects and results, OpenAI's objects, events.

Haystack's classes are recognised by their shape, so that nothing here imports haystack.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from gateway.protocols.delta import (
    Delta,
    Event,
    Finish,
    Item,
    Reasoning,
    Refusal,
    Spent,
    Text,
    ToolCall,
    ToolResult,
    Usage,
)
from gateway.protocols.run import encode_json

EXPECTED = "text, a generator, a ChatMessage, a result of a Haystack pipeline or agent, or an OpenAI object"
FINISH_REASONS = {  # what providers say, in OpenAI's words
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "incomplete": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    "safety": "content_filter",
}


def read(value: Any) -> Iterator[Delta]:
    """The deltas of a chunk, or of a whole result. Raises TypeError for what is neither."""
    if value is None:
        return
    if isinstance(value, str):
        yield Text(value)
    elif isinstance(value, bytes):
        yield Text(value.decode("utf-8", errors="replace"))
    elif isinstance(value, Mapping):
        yield from (_find_reader(value) or _read_event)(value)
    elif isinstance(value, list | tuple):
        yield from _read_replies(value)
    else:
        for attributes, reader in _SHAPES:
            if all(hasattr(value, attribute) for attribute in attributes):
                yield from reader(value)
                return
        raise TypeError(f"a reply cannot be made of {type(value).__name__}: give {EXPECTED}")


def check_whole(value: Any) -> None:
    """Raises TypeError when a method has returned nothing, or a mapping of which nothing is known."""
    if value is None or (isinstance(value, Mapping) and _find_reader(value) is None):
        keys = f" with the keys {', '.join(map(str, value))}" if value else ""
        raise TypeError(f"a reply cannot be made of {type(value).__name__}{keys}: return {EXPECTED}")


def read_result(value: Any) -> Iterator[Delta]:
    """As `read`, for the result of a pipeline that may hold no reply at all."""
    if isinstance(value, Mapping) and _find_reader(value) is None:
        return iter(())
    return read(value)


def read_usage(usage: Any) -> Usage:
    """Token counts in the words of either of OpenAI's APIs; zeros for what is not said."""
    if not isinstance(usage, Mapping):
        return Usage()

    def count(*path: str) -> int:
        value: Any = usage
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return int(value) if isinstance(value, int | float) else 0

    def either(chat: str, responses: str, *path: str) -> int:
        return count(chat, *path) or count(responses, *path)

    return Usage(
        either("prompt_tokens", "input_tokens"),
        either("completion_tokens", "output_tokens"),
        either("prompt_tokens_details", "input_tokens_details", "cached_tokens"),
        either("prompt_tokens_details", "input_tokens_details", "cache_write_tokens"),
        either("completion_tokens_details", "output_tokens_details", "reasoning_tokens"),
    )


def _read_chunk(chunk: Any) -> Iterator[Delta]:
    """A Haystack `StreamingChunk`."""
    source = chunk.component_info.name if chunk.component_info is not None else None
    if chunk.content:
        yield Text(chunk.content)
    if chunk.reasoning is not None:
        yield Reasoning(chunk.reasoning.reasoning_text or "")
    for call in chunk.tool_calls or ():
        yield ToolCall(call.index, call.id, call.tool_name, call.arguments or "", 0, source)
    if chunk.tool_call_result is not None:
        yield ToolResult()
    yield from _spend(chunk.meta.get("usage"), source)
    yield from _finish(chunk.finish_reason, 0)


def _read_message(message: Any, choice: int = 0) -> Iterator[Delta]:
    """A Haystack `ChatMessage`; one with a tool's result, with which an agent may end, as its text."""
    for reasoning in message.reasonings:
        yield Reasoning(reasoning.reasoning_text, choice)
    for text in message.texts:
        yield Text(text, choice)
    for result in message.tool_call_results:
        yield Text(result.result if isinstance(result.result, str) else encode_json(result.result).decode(), choice)
    for index, call in enumerate(message.tool_calls):
        yield ToolCall(index, call.id, call.tool_name, encode_json(call.arguments).decode(), choice)
    refusal = message.meta.get("refusal")
    if isinstance(refusal, str) and refusal:
        yield Refusal(refusal, choice)
    if choice == 0:  # Haystack's generators put the tokens of the whole call into each reply
        yield from _spend(message.meta.get("usage"))
    yield from _finish(message.meta.get("finish_reason"), choice)


def _spend(usage: Any, source: str | None = None) -> Iterator[Spent]:
    if usage:
        yield Spent(read_usage(usage), source)


def _read_answer(answer: Any, choice: int = 0) -> Iterator[Delta]:
    """A Haystack `GeneratedAnswer`, which keeps what its model has said of it."""
    yield Text(answer.data if isinstance(answer.data, str) else str(answer.data), choice)
    meta = getattr(answer, "meta", None) or {}
    if choice == 0:
        yield from _spend(meta.get("usage"))
    yield from _finish(meta.get("finish_reason"), choice)


def _finish(reason: Any, choice: int) -> Iterator[Finish]:
    known = FINISH_REASONS.get(str(reason).lower()) if reason else None
    if known is not None:
        yield Finish(known, choice)


def _read_replies(replies: Iterable[Any]) -> Iterator[Delta]:
    for choice, reply in enumerate(replies):
        if isinstance(reply, str):
            yield Text(reply, choice)
        elif hasattr(reply, "texts"):
            yield from _read_message(reply, choice)
        elif isinstance(getattr(reply, "data", None), str):
            yield from _read_answer(reply, choice)
        else:
            raise TypeError(f"a reply cannot be made of a list of {type(reply).__name__}: give {EXPECTED}")


def _read_event(value: Mapping[str, Any]) -> Iterator[Delta]:
    yield Event(value)


def _read_sdk_object(value: Any) -> Iterator[Delta]:
    return read(value.model_dump(mode="json", exclude_unset=True))


def _read_text(text: Any) -> Iterator[Delta]:
    yield Text(text if isinstance(text, str) else str(text))


def _find_reader(value: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], Iterable[Delta]] | None:
    if "sequence_number" in value and str(value.get("type", "")).partition(".")[0] in ("response", "error"):
        return _read_response_event
    for key, kind, reader in _READERS:
        if value.get(key) is not None and isinstance(value[key], kind):
            return reader
    if any(isinstance(part, Mapping) and _RESULTS & part.keys() for part in value.values()):
        return _read_pipeline_result
    return None


def _read_completion(value: Mapping[str, Any]) -> Iterator[Delta]:
    """A chat completion or a chunk of one, in OpenAI's form."""
    for position, choice in enumerate(value["choices"]):
        index = choice.get("index", position)
        yield from _read_openai_message(choice.get("delta") or choice.get("message") or {}, index)
        yield from _finish(choice.get("finish_reason"), index)
    yield from _spend(value.get("usage"))


def _read_openai_message(message: Mapping[str, Any], choice: int = 0) -> Iterator[Delta]:
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(reasoning, str):
        yield Reasoning(reasoning, choice)
    content = message.get("content")
    if isinstance(content, str):
        yield Text(content, choice)
    for part in content if isinstance(content, list) else ():
        if part.get("type") == "refusal":
            yield Refusal(part["refusal"], choice)
        elif isinstance(part.get("text"), str):
            yield Text(part["text"], choice)
    if message.get("refusal"):
        yield Refusal(message["refusal"], choice)
    for position, call in enumerate(message.get("tool_calls") or ()):
        function = call.get("function") or {}
        arguments = function.get("arguments") or ""
        text = arguments if isinstance(arguments, str) else encode_json(arguments).decode()
        yield ToolCall(call.get("index", position), call.get("id"), function.get("name"), text, choice)


def _read_response(value: Mapping[str, Any]) -> Iterator[Delta]:
    """A response object of the Responses API."""
    calls = 0
    for item in value["output"]:
        kind = item.get("type", "message")
        if kind == "message":
            yield from _read_openai_message(item)
        elif kind == "function_call":
            yield ToolCall(calls, item.get("call_id"), item.get("name"), item.get("arguments") or "")
            calls += 1
        elif kind == "reasoning":
            for part in item.get("summary") or item.get("content") or ():
                yield Reasoning(part.get("text") or "")
        else:
            yield Item(item)
    yield from _spend(value.get("usage"))
    yield from _finish((value.get("incomplete_details") or {}).get("reason"), 0)


def _read_response_event(value: Mapping[str, Any]) -> Iterator[Delta]:
    """An event out of a stream of the Responses API, such as a wrapper hands on."""
    kind, piece, number = value["type"].removeprefix("response."), value.get("delta"), value.get("output_index", 0)
    item = value.get("item") or {}
    if kind in _EVENT_TEXTS and isinstance(piece, str):
        yield _EVENT_TEXTS[kind](piece)
    elif kind == "output_item.added" and item.get("type") == "function_call":
        yield ToolCall(number, item.get("call_id"), item.get("name"), item.get("arguments") or "")
    elif kind == "function_call_arguments.delta" and isinstance(piece, str):
        yield ToolCall(number, None, None, piece)
    elif kind == "output_item.done" and item.get("type") not in ("message", "function_call", "reasoning"):
        yield Item(item)
    elif kind in ("completed", "incomplete"):
        yield from _spend(value["response"].get("usage"))
        yield from _finish((value["response"].get("incomplete_details") or {}).get("reason"), 0)
    elif kind in ("failed", "error"):
        error = value.get("response", value).get("error") or value
        raise RuntimeError(f"the stream that was to be handed on has failed: {error.get('message')}")


def _read_agent_result(value: Mapping[str, Any]) -> Iterator[Delta]:
    """An agent's: its last message is the reply, and every message of the model has cost tokens."""
    messages = value.get("messages") or ()
    last = value["last_message"]
    yield from (delta for delta in read(last) if not isinstance(delta, Spent))
    yield Spent(sum((read_usage(getattr(message, "meta", {}).get("usage")) for message in messages or [last]), Usage()))


def _read_pipeline_result(value: Mapping[str, Any]) -> Iterator[Delta]:
    """A pipeline's: the last component with a reply is heard, and the tokens of all are counted.

    Answers repeat what the replies have cost that they were made of.
    """
    parts = [part for part in value.values() if isinstance(part, Mapping) and _RESULTS & part.keys()]
    has_replies = any("answers" not in part for part in parts)
    for part in parts:
        is_counted = "answers" not in part or not has_replies
        for delta in read(part):
            if is_counted if isinstance(delta, Spent) else part is parts[-1]:
                yield delta


_EVENT_TEXTS: Mapping[str, Callable[[str], Delta]] = {
    "output_text.delta": Text,
    "refusal.delta": Refusal,
    "reasoning_summary_text.delta": Reasoning,
    "reasoning_text.delta": Reasoning,
}
_RESULTS = frozenset({"replies", "last_message", "answers"})
_READERS: Sequence[tuple[str, Any, Callable[[Mapping[str, Any]], Iterable[Delta]]]] = (  # the first that fits decides
    ("choices", list, _read_completion),
    ("output", list, _read_response),
    ("last_message", object, _read_agent_result),
    ("replies", list, lambda value: _read_replies(value["replies"])),
    ("answers", list, lambda value: _read_replies(value["answers"])),
    ("event", Mapping, lambda value: [Event(value["event"])]),
    ("content", str | list, _read_openai_message),
    ("tool_calls", list, _read_openai_message),
    ("reasoning_content", str, _read_openai_message),
    ("refusal", str, _read_openai_message),
    ("role", str, _read_openai_message),
)
_SHAPES: Sequence[tuple[tuple[str, ...], Callable[[Any], Iterable[Delta]]]] = (
    (("to_event_dict",), lambda value: _read_event(value.to_event_dict())),  # PipelineEvent, ours or Hayhooks'
    (("tool_call_result", "component_info"), _read_chunk),  # StreamingChunk
    (("texts", "tool_calls"), _read_message),  # ChatMessage
    (("data", "query"), _read_answer),  # GeneratedAnswer
    (("model_dump", "choices"), _read_sdk_object),  # ChatCompletion of the SDK
    (("model_dump", "output"), _read_sdk_object),  # Response of the SDK
    (("model_dump", "sequence_number"), _read_sdk_object),  # its stream's events
    (("content",), lambda value: _read_text(value.content)),
)
