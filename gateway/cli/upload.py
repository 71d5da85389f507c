"""Files on their way up: which ones, and a multipart body (RFC 7578) that is read from disk while it is sent."""

import mimetypes
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from gateway.cli.error import CommandError

PIECE_BYTES = 256 * 1024

# RFC 7578, 2 and the WHATWG form encoding: these three are escaped in a name, everything else is plain UTF-8
_ESCAPES = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to send. `name`: what the server is told, with `/` between folders."""

    name: str
    path: Path
    size_bytes: int


def find_uploads(files: Sequence[Path], folders: Sequence[Path]) -> list[Upload]:
    """The files by their own name, then each folder's by their path in it, sorted, without hidden ones.

    Raises `CommandError` for what is not there, cannot be read or is no regular file, and for a folder without files.
    """
    uploads = [_upload(path.name, path) for path in files]
    for folder in folders:
        if not folder.is_dir():
            raise CommandError(f"{folder} is not a folder" if folder.exists() else f"no such folder: {folder}")
        found = sorted((path.relative_to(folder).as_posix(), path) for path in _walk(folder))
        if not found:
            raise CommandError(f"{folder} holds no files to send")
        uploads += [_upload(name, path) for name, path in found]
    return uploads


class MultipartBody:
    """A form of known length: iterate it once for each try, and it reads the files anew, piece by piece.

    Shows a progress bar on stderr where that is a terminal. Iterating raises `CommandError` when a file cannot be
    read or has become shorter.
    """

    def __init__(self, fields: Sequence[tuple[str, str]], files: Sequence[tuple[str, Upload]]) -> None:
        self._boundary = secrets.token_hex(16)
        self._parts: list[bytes | Upload] = []
        for name, text in fields:
            self._parts.append(self._head(f'name="{_escape(name)}"') + text.encode() + b"\r\n")
        for name, upload in files:
            kind = mimetypes.guess_type(upload.name)[0] or "application/octet-stream"
            head = self._head(f'name="{_escape(name)}"; filename="{_escape(upload.name)}"', kind)
            self._parts += [head, upload, b"\r\n"]
        self._parts.append(f"--{self._boundary}--\r\n".encode())
        self._length = sum(len(part) if isinstance(part, bytes) else part.size_bytes for part in self._parts)

    @property
    def media_type(self) -> str:
        return f"multipart/form-data; boundary={self._boundary}"

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        # disable=None: no bar where stderr is not a terminal
        with tqdm(total=self._length, unit="B", unit_scale=True, desc="sending", leave=False, disable=None) as bar:
            for part in self._parts:
                for piece in [part] if isinstance(part, bytes) else _read(part):
                    yield piece
                    bar.update(len(piece))

    def _head(self, disposition: str, kind: str | None = None) -> bytes:
        typed = f"Content-Type: {kind}\r\n" if kind else ""
        head = f"--{self._boundary}\r\nContent-Disposition: form-data; {disposition}\r\n{typed}\r\n"
        return head.encode("utf-8", "replace")  # a file's name may be no valid Unicode


def choose_field(name: str, parameters: Sequence[str]) -> str:
    """The form field for files: `files`, else the only file parameter of wrapper `name`. Raises `CommandError`."""
    if "files" in parameters:
        return "files"
    if len(parameters) == 1:
        return parameters[0]
    if not parameters:
        raise CommandError(f"{name} takes no files")
    raise CommandError(f"{name} has several file parameters and none is called files: {', '.join(parameters)}")


def _upload(name: str, path: Path) -> Upload:
    if not path.exists():
        raise CommandError(f"no such file: {path}")
    if not path.is_file():
        raise CommandError(f"{path} is a folder: send it with --dir" if path.is_dir() else f"{path} is no regular file")
    try:
        with path.open("rb") as file:
            return Upload(name, path, os.fstat(file.fileno()).st_size)
    except OSError as error:
        _fail(path, error)


def _walk(folder: Path) -> Iterator[Path]:
    def fail(error: OSError) -> NoReturn:
        _fail(Path(error.filename), error)

    for place, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(place, name)
            if not name.startswith(".") and path.is_file():
                yield path


def _read(upload: Upload) -> Iterator[bytes]:
    """Exactly `size_bytes` bytes: what has been appended since the length was told is left out."""
    missing = upload.size_bytes
    try:
        with upload.path.open("rb") as file:
            while missing:
                piece = file.read(min(PIECE_BYTES, missing))
                if not piece:
                    raise CommandError(f"{upload.path} became shorter while it was sent")
                missing -= len(piece)
                yield piece
    except OSError as error:
        _fail(upload.path, error)


def _fail(path: Path, error: OSError) -> NoReturn:
    raise CommandError(f"cannot read {path}: {error.strerror}") from None


def _escape(name: str) -> str:
    return name.translate(_ESCAPES)
