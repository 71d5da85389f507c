"""Uploaded files as Haystack's byte streams."""

from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Sequence
from pathlib import PurePosixPath

from haystack.dataclasses import ByteStream

from gateway import UploadFile

PDF, MARKDOWN, TEXT = "application/pdf", "text/markdown", "text/plain"
MIME_TYPES = {".pdf": PDF, ".md": MARKDOWN, ".markdown": MARKDOWN, ".txt": TEXT, ".text": TEXT, ".rst": TEXT}


class Upload(ByteStream):
    """A byte stream that does not show its bytes: a converter that cannot read it writes its `repr` into the log."""

    def __repr__(self) -> str:
        return f"Upload({self.mime_type}, {len(self.data)} bytes)"


def read_uploads(files: Sequence[UploadFile]) -> list[Upload]:
    """One stream a file, text as UTF-8. `meta`: the file's `name`, and its `number`, because names may be equal."""
    uploads = []
    for number, file in enumerate(files):
        name = file.filename or f"file {number + 1}"
        data = file.file.read()
        mime_type = _mime_type(name, file.content_type or "", data)
        if mime_type in (MARKDOWN, TEXT):
            data = _decode(data).encode()
        uploads.append(Upload(data=data, mime_type=mime_type or None, meta={"name": name, "number": number}))
    return uploads


def _mime_type(name: str, declared: str, data: bytes) -> str:
    """By the name's ending, because most clients declare Markdown as unknown; a name like LICENSE by what is in it."""
    suffix = PurePosixPath(name).suffix.lower()
    if not suffix and _is_text(data):
        return TEXT
    return MIME_TYPES.get(suffix) or declared.partition(";")[0].strip().lower()


def _is_text(data: bytes) -> bool:
    try:
        return "\0" not in data.decode("utf-8")
    except UnicodeDecodeError:
        return False


def _decode(data: bytes) -> str:
    """Text in UTF-8, in UTF-16 when it begins with that byte order mark, else in Latin-1, which cannot fail."""
    try:
        return data.decode("utf-16" if data.startswith((BOM_UTF16_BE, BOM_UTF16_LE)) else "utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")
