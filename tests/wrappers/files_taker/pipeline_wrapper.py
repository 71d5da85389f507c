"""Takes uploads itself. The purpose says what it gives back."""

from collections.abc import Iterator
from typing import Any

from openai.types import FileObject
from starlette.responses import PlainTextResponse

from gateway import BasePipelineWrapper, GatewayError


class TooDull(GatewayError):
    status = 422
    code = "too_dull"
    type = "invalid_request_error"


class PipelineWrapper(BasePipelineWrapper):
    def run_file_upload(self, filename: str, content_type: str, content: bytes, purpose: str) -> Any:
        if purpose == "refused":
            raise TooDull(f"{filename} is too dull")
        if purpose == "failing":
            raise ValueError("a secret")
        return {
            "partial": {"id": "file-own", "taken": [filename, content_type, content.decode()]},
            "nothing": {},
            "whole": {
                "id": "file-w",
                "object": "file",
                "bytes": 7,
                "created_at": 8,
                "filename": "w",
                "purpose": "vision",
            },
            "model": FileObject(
                id="file-m",
                object="file",
                bytes=len(content),
                created_at=5,
                filename=filename,
                purpose="vision",
                status="uploaded",
            ),
            "response": PlainTextResponse("as it is", 202),
            "text": "file-x",
            "list": [1],
            "unfit": {"id": object()},
            "stream": self.stream(),
        }.get(purpose)

    def stream(self) -> Iterator[str]:
        yield "no file"
