"""As `chat_kinds`, on the event loop."""

from typing import Any

from gateway import BasePipelineWrapper, get_last_user_message
from tests.openai import kinds


class PipelineWrapper(BasePipelineWrapper):
    async def run_chat_completion_async(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> Any:
        return await kinds.give_async(get_last_user_message(messages) or "")
