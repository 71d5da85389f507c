"""As `abused`, for chat alone: a response's input reaches it as messages. `codes`: the characters to say instead."""

from collections.abc import Iterator
from typing import Any

from gateway import BasePipelineWrapper, chat_messages_from_openai, get_input_files, get_last_user_message


class PipelineWrapper(BasePipelineWrapper):
    def run_chat_completion(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> Iterator[str]:
        text = get_last_user_message(messages) or ""
        get_input_files(messages)
        chat_messages_from_openai(messages)
        yield "".join(map(chr, body["codes"])) if "codes" in body else text
