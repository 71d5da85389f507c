"""Whatever a chat method may give: the last message names it."""

from typing import Any

from gateway import BasePipelineWrapper, get_last_user_message
from tests.openai import kinds


class PipelineWrapper(BasePipelineWrapper):
    def run_chat_completion(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> Any:
        return kinds.give(get_last_user_message(messages) or "")
