"""As `chat_echo`, on the event loop and streamed."""

import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.datastructures import Headers

from gateway import BasePipelineWrapper

SIZE = 40


class PipelineWrapper(BasePipelineWrapper):
    max_choices = 2

    async def run_chat_completion_async(
        self, model: str, messages: list[dict[str, Any]], body: dict[str, Any], headers: Headers
    ) -> AsyncIterator[dict[str, Any]]:
        asked = {"model": model, "messages": messages, "body": body, "caller": headers.get("x-caller")}
        return stream(json.dumps(asked), body.get("n", 1))


async def stream(text: str, choices: int) -> AsyncIterator[dict[str, Any]]:
    for start in range(0, len(text), SIZE):
        for index in range(choices):
            yield {"choices": [{"index": index, "delta": {"content": text[start : start + SIZE]}}]}
