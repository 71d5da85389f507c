"""A wrapper that answers with a file: a PDF, made in memory."""

import re

from starlette.responses import Response

from gateway import BasePipelineWrapper

from .pdf import make_pdf


class PipelineWrapper(BasePipelineWrapper):
    def run_api(self, title: str = "Report", lines: list[str] | None = None) -> Response:
        """Make a PDF with a title and paragraphs.

        Args:
            title: Stands on top, and names the file.
            lines: The paragraphs.

        Returns:
            The PDF file.
        """
        name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:60] or "report"
        return Response(
            make_pdf(title, lines or []),
            media_type="application/pdf",
            headers={"Content-Disposition": f'attachment; filename="{name}.pdf"'},
        )
