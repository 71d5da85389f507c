"""Uploaded files: their content below the state folder, what is known of them in its database."""

import os
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from time import time
from typing import BinaryIO, Literal

from gateway.errors import FileNotFound
from gateway.run import get_run
from gateway.state import State

PIECE_BYTES = 1024 * 1024
COLUMNS = "id, filename, purpose, content_type, size, created_at, expires_at"  # a newer version may have more
FILE_ID = re.compile(r"file-[0-9a-f]{24}")
SWEEP_S = 3600
ORPHAN_S = 24 * 3600  # content without a row is what a crash has left, once it is as old as this


@dataclass(frozen=True, slots=True)
class StoredFile:
    """`size`: in bytes. `created_at`, `expires_at`: Unix time in seconds; None = never. `path`: where it lies."""

    id: str
    filename: str
    purpose: str
    content_type: str
    size: int
    created_at: int
    expires_at: int | None
    path: Path

    def read(self) -> bytes:
        """Its content. Raises `FileNotFound` when it has been deleted meanwhile."""
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            raise _missing(self.id) from None

    def stat(self) -> os.stat_result:
        """Raises as `read`."""
        try:
            return self.path.stat()
        except FileNotFoundError:
            raise _missing(self.id) from None


class FileStore:
    """Adds, finds, lists and deletes. Blocks, like the state that it stands on. A file that has expired is gone."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._next_sweep_at = 0

    def add(
        self, content: BinaryIO, *, filename: str, purpose: str, content_type: str, expires_in_s: int | None = None
    ) -> StoredFile:
        """Copy `content` in, from its beginning. It is there whole or not at all."""
        self._purge()
        file_id = f"file-{token_hex(12)}"
        path = self._folder / file_id
        content.seek(0)
        try:
            with path.open("xb") as target:
                shutil.copyfileobj(content, target, PIECE_BYTES)
                size = target.tell()
                target.flush()
                os.fsync(target.fileno())
            created_at = int(time())
            expires_at = None if expires_in_s is None else created_at + expires_in_s
            file = StoredFile(file_id, filename, purpose, content_type, size, created_at, expires_at, path)
            with self._state.transaction() as rows:
                rows.execute(
                    "INSERT INTO files (id, filename, purpose, content_type, size, created_at, expires_at)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (file_id, filename, purpose, content_type, size, created_at, expires_at),
                )
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return file

    def get(self, file_id: str) -> StoredFile:
        """Raises `FileNotFound`, whatever the id is: a wrapper may hand on what its caller has sent."""
        if not (isinstance(file_id, str) and FILE_ID.fullmatch(file_id)):
            raise _missing(file_id)
        with self._state.snapshot() as rows:
            row = rows.execute(
                f"SELECT {COLUMNS} FROM files WHERE id = ? AND (expires_at IS NULL OR expires_at > ?)",  # noqa: S608
                (file_id, int(time())),
            ).fetchone()
        if row is None:
            raise _missing(file_id)
        return StoredFile(**row, path=self._folder / file_id)

    def page(
        self, *, purpose: str | None, limit: int, after: str | None, order: Literal["asc", "desc"]
    ) -> tuple[list[StoredFile], bool]:
        """At most `limit` files behind the file `after`, by age, and whether there are more.

        Raises `FileNotFound` when `after` is none of them.
        """
        self._purge()
        sign, direction = (">", "ASC") if order == "asc" else ("<", "DESC")
        with self._state.snapshot() as rows:
            start = None
            if after is not None:
                start = rows.execute("SELECT number FROM files WHERE id = ?", (after,)).fetchone()
                if start is None:
                    raise _missing(after, param="after")
            query = (
                f"SELECT {COLUMNS} FROM files WHERE (:purpose IS NULL OR purpose = :purpose)"  # noqa: S608 - of constants alone
                f" AND (:start IS NULL OR number {sign} :start) ORDER BY number {direction} LIMIT :limit"
            )
            start_number = start and start["number"]
            found = rows.execute(query, {"purpose": purpose, "start": start_number, "limit": limit + 1}).fetchall()
        folder = self._folder
        return [StoredFile(**row, path=folder / row["id"]) for row in found[:limit]], len(found) > limit

    def delete(self, file_id: str) -> None:
        """Raises `FileNotFound`. Who is reading it reads on to its end."""
        path = self.get(file_id).path
        with self._state.transaction() as rows:
            rows.execute("DELETE FROM files WHERE id = ?", (file_id,))
        path.unlink(missing_ok=True)

    @property
    def _folder(self) -> Path:
        return self._state.folder("files")

    def _purge(self) -> None:
        """Remove what has expired and, when the store is new and once an hour, what a crash has left."""
        now = int(time())
        with self._state.transaction() as rows:
            expired = rows.execute("SELECT id FROM files WHERE expires_at <= ?", (now,)).fetchall()
            rows.execute("DELETE FROM files WHERE expires_at <= ?", (now,))
        for row in expired:
            (self._folder / row["id"]).unlink(missing_ok=True)
        if now >= self._next_sweep_at:
            self._next_sweep_at = now + SWEEP_S
            self._sweep(now)

    def _sweep(self, now: int) -> None:
        with self._state.snapshot() as rows:
            known = {row["id"] for row in rows.execute("SELECT id FROM files")}
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):  # another thread or process was faster
                if path.name not in known and path.stat().st_mtime < now - ORPHAN_S:
                    path.unlink()


def get_file(file_id: str) -> StoredFile:
    """A file that was uploaded to `/v1/files`, for the run that this code works for.

    Raises `FileNotFound`, which its caller gets as 404, and `LookupError` outside of a run.
    """
    run = get_run()
    if run is None or run.files is None:
        raise LookupError("get_file() was called outside of a run: a file is there for the method that answers")
    store: FileStore = run.files
    return store.get(file_id)


def _missing(file_id: object, param: str = "file_id") -> FileNotFound:
    error = FileNotFound(f"there is no file {str(file_id)[:64]!r}")
    error.param = param
    return error
