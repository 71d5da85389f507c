"""Streams tokens made of its question, at a model's pace; goes on past the first when every caller has read his."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from gateway import BasePipelineWrapper, get_last_user_message
from tests import probe

current = probe.current
PACE_S = 0.02


class PipelineWrapper(BasePipelineWrapper):
    async def run_chat_completion_async(
        self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]
    ) -> AsyncIterator[str]:
        question = get_last_user_message(messages)
        for number in range(body["tokens"]):
            yield f"{question} {number};"
            await (current.until("all are reading") if number == 0 else asyncio.sleep(PACE_S))
