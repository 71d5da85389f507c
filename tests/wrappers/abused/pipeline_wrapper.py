"""Answers with the last text it is given, through every helper that reads a request; embeds its length."""

from collections.abc import Iterator
from typing import Any

from gateway import (
    BasePipelineWrapper,
    chat_messages_from_openai,
    chat_messages_from_openai_response,
    get_input_files,
    get_last_user_input_text,
    get_last_user_message,
)


class PipelineWrapper(BasePipelineWrapper):
    def run_chat_completion(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> Iterator[str]:
        text = get_last_user_message(messages) or ""
        get_input_files(messages)
        chat_messages_from_openai(messages)
        return cut(text)

    def run_response(self, model: str, input_items: list[dict[str, Any]], body: dict[str, Any]) -> Iterator[str]:
        text = get_last_user_input_text(input_items) or ""
        get_input_files(input_items)
        chat_messages_from_openai_response(input_items)
        return cut(text)

    def run_embedding(self, model: str, inputs: list[str], body: dict[str, Any]) -> list[list[float]]:
        return [[float(len(text))] for text in inputs]


def cut(text: str) -> Iterator[str]:
    """In three pieces, so that what breaks a line may stand at a piece's end."""
    size = len(text) // 3 + 1
    return (text[start : start + size] for start in range(0, len(text), size))
