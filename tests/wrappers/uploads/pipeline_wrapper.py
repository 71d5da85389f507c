"""Optional uploads, one and many, beside other fields. Keeps what it got, so that a test can look at it later."""

from hashlib import sha256
from typing import Any

from gateway import BasePipelineWrapper, UploadFile


def describe(upload: UploadFile) -> list[Any]:
    content = upload.file.read()
    return [upload.filename, upload.content_type, len(content), sha256(content).hexdigest()[:8]]


class PipelineWrapper(BasePipelineWrapper):
    def setup(self) -> None:
        self.kept: list[UploadFile] = []

    def run_api(
        self,
        one: UploadFile | None = None,
        files: list[UploadFile] | None = None,
        note: str = "",
        numbers: list[int] | None = None,
        should_fail: bool = False,
    ) -> dict[str, Any]:
        uploads = [*(files or []), *([one] if one else [])]
        self.kept.extend(uploads)
        if should_fail:
            raise ValueError("as told")
        return {
            "one": one and describe(one),
            "files": files and [describe(upload) for upload in files],
            "note": note,
            "numbers": numbers,
        }
