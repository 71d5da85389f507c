"""The state folder: a SQLite database and the folders beside it; the only thing that workers share."""

import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

from gateway.telemetry.log import log

BUSY_S = 10.0  # how long a writer waits for another one
SCHEMA = (  # each is run once, in this order; `user_version` counts those that have been
    """
    CREATE TABLE files (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        filename TEXT NOT NULL,
        purpose TEXT NOT NULL,
        content_type TEXT NOT NULL,
        size INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        expires_at INTEGER
    )
    """,
)


class State:
    """`state_dir`, made when it is first needed. Where it cannot be written, a private temporary folder stands in.

    From any thread; its calls block, so never from the event loop.
    """

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir.absolute()  # a wrapper may change the working directory
        self._lock = threading.RLock()
        self._folder: Path | None = None
        self._connection: sqlite3.Connection | None = None
        self._is_temporary = False

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """For reading: it waits for no writer of another process."""
        with self._lock:
            yield self._connect()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One writer at a time, across processes too; undone when the block raises. Rows are `sqlite3.Row`."""
        with self._lock:
            connection = self._connect()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # SQLite itself undoes one for which the disk has no space
                    connection.execute("ROLLBACK")
                raise

    def folder(self, name: str) -> Path:
        """A folder beside the database."""
        with self._lock:
            self._connect()
            assert self._folder is not None
            path = self._folder / name
            path.mkdir(mode=0o700, exist_ok=True)
            return path

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            if self._is_temporary and self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder = None
                self._is_temporary = False

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            try:
                self._connection = _open(self._state_dir)
                self._folder = self._state_dir
            except (OSError, sqlite3.OperationalError) as error:
                if _is_busy(error):  # who can wait for its turn must not begin an empty one
                    raise
                folder = Path(tempfile.mkdtemp(prefix="gateway-"))
                try:
                    self._connection = _open(folder)
                except BaseException:
                    shutil.rmtree(folder, ignore_errors=True)
                    raise
                self._folder = folder
                self._is_temporary = True
                log.warning(
                    "the state folder cannot be written: uploaded files will not survive a restart",
                    state_dir=str(self._state_dir),
                    reason=str(error),
                    instead=str(self._folder),
                )
        return self._connection


def _open(folder: Path) -> sqlite3.Connection:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    connection = sqlite3.connect(folder / "gateway.db", timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        connection.row_factory = sqlite3.Row
        _use_wal(connection)
        connection.execute("BEGIN IMMEDIATE")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        for statement in SCHEMA[version:]:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {max(version, len(SCHEMA))}")
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def _use_wal(connection: sqlite3.Connection) -> None:
    """SQLite does not wait here for another process that is making the same database: it fails at once."""
    deadline_s = monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if not _is_busy(error) or monotonic() > deadline_s:
                raise
        sleep(0.01)


def _is_busy(error: BaseException) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY  # the rest is the extended code
