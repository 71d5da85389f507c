"""Reads the uploaded files to their last byte and says what each of them is."""

from io import BytesIO

import hayhooks
from pypdf import PdfReader
from starlette.datastructures import UploadFile


class PipelineWrapper(hayhooks.BasePipelineWrapper):
    def setup(self) -> None:
        hayhooks.log.info("rag_pipeline is set up")

    def run_api(self, files: list[UploadFile], query: str, temperature: float = 1.0) -> str:
        described = ", ".join(describe(file) for file in sorted(files, key=lambda file: (file.filename, file.size)))
        return f"{query} [temperature {temperature!r}]: {described}"


def describe(file: UploadFile) -> str:
    content = file.file.read()
    if content.startswith(b"%PDF"):
        text = PdfReader(BytesIO(content)).pages[0].extract_text()
    else:
        text = content.decode()
    return f"{file.filename} {len(content)} bytes {text.splitlines()[0]!r}"
