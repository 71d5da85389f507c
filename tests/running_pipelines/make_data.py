"""Writes document.pdf and doc1.pdf into data/: the same bytes each time. Needs reportlab."""

from pathlib import Path

from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas

TEXTS = {
    "document.pdf": ("Haystack is a framework for pipelines and agents.", "A pipeline is a graph of components."),
    "doc1.pdf": ("The first document is a PDF.",),
}

for name, lines in TEXTS.items():
    canvas = Canvas(str(Path(__file__).parent / "data" / name), pagesize=A4, invariant=1)
    for place, line in enumerate(lines):
        canvas.drawString(72, 760 - 20 * place, line)
    canvas.showPage()
    canvas.save()
