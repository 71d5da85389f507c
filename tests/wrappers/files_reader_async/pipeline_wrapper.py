"""As `files_reader`, on the event loop; its answers are streams."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from gateway import BasePipelineWrapper, get_file, get_input_files


class PipelineWrapper(BasePipelineWrapper):
    async def run_api_async(self, file_id: Any = None) -> dict[str, Any]:
        file = await asyncio.to_thread(get_file, file_id)
        return {
            "id": file.id,
            "filename": file.filename,
            "content_type": file.content_type,
            "size": file.size,
            "content": file.read().decode(),
        }

    async def run_chat_completion_async(
        self, model: str, messages: list[Any], body: dict[str, Any]
    ) -> AsyncIterator[str]:
        for position, named in enumerate(get_input_files(messages)):
            yield ("|" if position else "") + get_file(named["file_id"]).read().decode()

    async def run_response_async(self, model: str, input_items: list[Any], body: dict[str, Any]) -> AsyncIterator[str]:
        for position, named in enumerate(get_input_files(input_items)):
            yield ("|" if position else "") + get_file(named["file_id"]).read().decode()
