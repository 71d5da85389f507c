"""Where a reply goes: to stdout as it arrives, or whole into a file."""

import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.cli.error import CommandError

Write = Callable[[bytes], object]


@contextmanager
def open_output(path: Path | None) -> Iterator[Write]:
    """A function that takes the bytes. None and `-` are stdout, flushed after each piece.

    A file appears under its name when all is written, and keeps what it held when the block raises. A device or a
    named pipe is written to directly. Raises `CommandError` when `path` cannot be written.
    """
    if path is None or str(path) == "-":
        yield _write_stdout
        return
    try:
        with _open_file(path) as write:
            yield write
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror or error}") from None


@contextmanager
def _open_file(path: Path) -> Iterator[Write]:
    target = path.resolve()  # a symbolic link stays, what it points to is replaced
    if target.exists() and not target.is_file():
        with target.open("wb", buffering=0) as device:
            yield device.write
        return
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            yield file.write
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _write_stdout(piece: bytes) -> None:
    sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()
