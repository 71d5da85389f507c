"""Text to PDF, with reportlab."""

from collections.abc import Sequence
from html import escape
from io import BytesIO

from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.platypus import Flowable, Paragraph, SimpleDocTemplate, Spacer


def make_pdf(title: str, paragraphs: Sequence[str]) -> bytes:
    """A PDF of as many A4 pages as it takes; the same bytes for the same text. Its font holds Western letters only."""
    styles = getSampleStyleSheet()
    story: list[Flowable] = [Paragraph(escape(title), styles["Title"])]
    for paragraph in paragraphs:
        story += [Paragraph(escape(paragraph), styles["BodyText"]), Spacer(1, 6)]
    buffer = BytesIO()
    SimpleDocTemplate(buffer, pagesize=A4, title=title, invariant=1).build(story)
    return buffer.getvalue()
