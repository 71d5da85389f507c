"""Takes uploads itself, on the event loop, with the headers of the request."""

from collections.abc import Mapping
from typing import Any

from gateway import BasePipelineWrapper


class PipelineWrapper(BasePipelineWrapper):
    async def run_file_upload_async(
        self, filename: str, content_type: str, content: bytes, purpose: str, headers: Mapping[str, str]
    ) -> dict[str, Any]:
        return {"id": f"file-{headers.get('x-test', 'async')}", "taken": [filename, content_type, content.decode()]}
