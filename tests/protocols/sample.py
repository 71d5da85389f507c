"""What wrappers give: the real objects of Haystack and of the openai SDK."""

from typing import Any

from haystack.dataclasses import ChatMessage, ComponentInfo, StreamingChunk, ToolCall
from haystack.dataclasses.chat_message import ReasoningContent, ToolCallResult
from haystack.dataclasses.streaming_chunk import ToolCallDelta
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response

HEAD = {"id": "x", "created": 1, "model": "m"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}


def usage(given: int, made: int) -> dict[str, Any]:
    """As Haystack's generators have it from OpenAI's API."""
    return {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}


def text(content: str, source: str | None = None, **fields: Any) -> StreamingChunk:
    return StreamingChunk(content=content, component_info=_info(source), **fields)


def reasoning(content: str) -> StreamingChunk:
    return StreamingChunk(content="", index=0, reasoning=ReasoningContent(content))


def call(
    number: int,
    call_id: str | None,
    name: str | None,
    arguments: str | None,
    source: str | None = None,
    **fields: Any,
) -> StreamingChunk:
    delta = ToolCallDelta(index=number, id=call_id, tool_name=name, arguments=arguments)
    return StreamingChunk(content="", index=number, tool_calls=[delta], component_info=_info(source), **fields)


def call_result(result: str = "2") -> StreamingChunk:
    origin = ToolCall(tool_name="add", arguments={}, id="call_1")
    told = ToolCallResult(result=result, origin=origin, error=False)
    return StreamingChunk(content="", index=0, tool_call_result=told, finish_reason="tool_call_results")


def spent(given: int, made: int, source: str | None = None) -> StreamingChunk:
    return StreamingChunk(content="", component_info=_info(source), meta={"usage": usage(given, made)})


def _info(source: str | None) -> ComponentInfo | None:
    return None if source is None else ComponentInfo(type="Generator", name=source)


def message(content: str | None = None, calls: list[ToolCall] | None = None, **meta: Any) -> ChatMessage:
    return ChatMessage.from_assistant(content, meta=meta, tool_calls=calls)


def completion(*choices: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {**HEAD, "object": "chat.completion", "choices": list(choices), **fields}


def choice(content: str | None, reason: str = "stop", index: int = 0, **fields: Any) -> dict[str, Any]:
    return {
        "index": index,
        "message": {"role": "assistant", "content": content, **fields},
        "finish_reason": reason,
    }


def chunk(delta: dict[str, Any], reason: str | None = None, index: int = 0) -> dict[str, Any]:
    choices = [{"index": index, "delta": delta, "finish_reason": reason}]
    return {**HEAD, "object": "chat.completion.chunk", "choices": choices}


def sdk_completion(value: dict[str, Any]) -> ChatCompletion:
    return ChatCompletion.model_validate(value)


def sdk_chunk(value: dict[str, Any]) -> ChatCompletionChunk:
    return ChatCompletionChunk.model_validate(value)


def response(*output: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "id": "resp_x",
        "object": "response",
        "created_at": 1.0,
        "model": "m",
        "output": list(output),
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        **fields,
    }


def event(kind: str, **fields: Any) -> dict[str, Any]:
    """Of a stream of the Responses API."""
    return {"type": kind, "sequence_number": 3, **fields}


def sdk_response(value: dict[str, Any]) -> Response:
    return Response.model_validate(value)


def output_message(*texts: str) -> dict[str, Any]:
    parts = [{"type": "output_text", "text": piece, "annotations": []} for piece in texts]
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": parts}
