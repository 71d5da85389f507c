"""An upload that must be there."""

from gateway import BasePipelineWrapper, UploadFile


class PipelineWrapper(BasePipelineWrapper):
    async def run_api(self, document: UploadFile, note: str = "") -> dict[str, str | int | None]:
        size = 0
        while piece := await document.read(65536):
            size += len(piece)
        return {"name": document.filename, "size": size, "note": note}
