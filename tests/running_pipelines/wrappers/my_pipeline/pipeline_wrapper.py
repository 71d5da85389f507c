"""Repeats what it was asked: every argument that the guide's commands send to `my_pipeline`."""

from typing import Any

from gateway import BasePipelineWrapper, UploadFile, get_last_user_message


class PipelineWrapper(BasePipelineWrapper):
    def run_api(
        self,
        query: str = "",
        temperature: float | None = None,
        urls: list[str] | None = None,
        question: str = "",
        files: list[UploadFile] | None = None,
    ) -> str:
        """Say what arrived.

        Args:
            query: The question.
            temperature: How freely to answer it.
            urls: Pages to read for it.
            question: The question about these pages.
            files: Files to read for it.
        """
        answer = f"You asked: {query or question}"
        if temperature is not None:
            answer += f", at temperature {temperature!r}"
        if urls:
            answer += f", about {' and '.join(urls)}"
        if files:
            answer += f", with {' and '.join(describe(file) for file in files)}"
        return answer

    def run_chat_completion(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> str:
        return f"You asked: {get_last_user_message(messages)}"


def describe(file: UploadFile) -> str:
    return f"{file.filename} ({len(file.file.read())} bytes)"
