"""Writes two-pages.pdf beside this file: the same bytes each time. Needs reportlab."""

from pathlib import Path

from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas

PAGES = (
    (
        "How the gateway streams",
        "A wrapper that returns a generator is streamed to its caller.",
        "Every chunk is sent as soon as it is ready, and chunks that are ready",
        "together travel in one write.",
        "When the reader is slow, the producer waits until there is room in the buffer.",
        "This is page 1 of 2.",
    ),
    (
        "How a stream is closed",
        "A stream ends when the generator of its wrapper has returned and",
        "the last chunk has been sent.",
        "If the caller leaves early, the generator is closed at its next chunk.",
        "An error after the first byte is reported as an event, and then the",
        "connection is closed.",
        "This is page 2 of 2.",
    ),
)


def make(path: Path) -> None:
    canvas = Canvas(str(path), pagesize=A4, invariant=1)
    canvas.setTitle("How the gateway streams")
    for heading, *lines in PAGES:
        canvas.setFont("Helvetica-Bold", 16)
        canvas.drawString(72, 760, heading)
        text = canvas.beginText(72, 720)
        text.setFont("Helvetica", 12, leading=18)
        text.textLines(lines)
        canvas.drawText(text)
        canvas.showPage()
    canvas.save()


if __name__ == "__main__":
    make(Path(__file__).with_name("two-pages.pdf"))
