"""Reads uploaded files: the one that is asked for, and those that the messages name."""

from collections.abc import Iterable
from typing import Any

from gateway import BasePipelineWrapper, get_file, get_input_files


def describe(file_id: Any) -> dict[str, Any]:
    file = get_file(file_id)
    return {
        "id": file.id,
        "filename": file.filename,
        "content_type": file.content_type,
        "size": file.size,
        "content": file.read().decode(),
    }


def read_all(items: Iterable[Any]) -> str:
    return "|".join(describe(named["file_id"])["content"] for named in get_input_files(list(items)))


class PipelineWrapper(BasePipelineWrapper):
    def run_api(self, file_id: Any = None) -> dict[str, Any]:
        return describe(file_id)

    def run_chat_completion(self, model: str, messages: list[Any], body: dict[str, Any]) -> str:
        return read_all(messages)

    def run_response(self, model: str, input_items: list[Any], body: dict[str, Any]) -> str:
        return read_all(input_items)
