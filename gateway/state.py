"""The state folder: a SQLite database and the folders beside it; the only thing that workers share."""

import fcntl
import os
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep

from gateway.errors import ConfigError
from gateway.telemetry.log import log

DATABASE = "gateway.db"
LOCK = "gateway.lock"
LOG_LOCK = "log.lock"
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
    """
    CREATE TABLE wrappers (  -- see `Standing`
        name TEXT PRIMARY KEY,
        last_number INTEGER NOT NULL DEFAULT 0,  -- the highest that was ever given
        number INTEGER,
        is_kept INTEGER NOT NULL DEFAULT 0,
        digest TEXT NOT NULL DEFAULT '',
        failure TEXT,
        is_undeployed INTEGER NOT NULL DEFAULT 0,
        proposed INTEGER,
        is_proposed_kept INTEGER NOT NULL DEFAULT 0,
        publishing INTEGER
    )
    """,
    """
    CREATE TABLE generations (  -- see `Kept`
        name TEXT NOT NULL,
        number INTEGER NOT NULL,
        origin TEXT NOT NULL,
        description TEXT NOT NULL,
        is_yaml INTEGER NOT NULL,
        is_saved INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        PRIMARY KEY (name, number)
    )
    """,
    "CREATE TABLE runs (id TEXT NOT NULL)",  # of the gateway that has taken stock
    """
    CREATE TABLE workers (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        pid INTEGER NOT NULL,
        seen_s REAL NOT NULL,  -- when it last gave a sign of life, on the machine's monotonic clock
        is_loaded INTEGER NOT NULL DEFAULT 0,
        is_leaving INTEGER NOT NULL DEFAULT 0
    )
    """,
    """
    CREATE TABLE answers (  -- see `Answer`
        worker INTEGER NOT NULL,
        name TEXT NOT NULL,
        prepared INTEGER,
        failure TEXT,
        serving INTEGER,
        decided INTEGER,
        PRIMARY KEY (worker, name)
    )
    """,
    """
    CREATE TABLE uses (  -- kept generations whose files a worker may read
        worker INTEGER NOT NULL,
        name TEXT NOT NULL,
        number INTEGER NOT NULL,
        PRIMARY KEY (worker, name, number)
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

    @property
    def is_temporary(self) -> bool:
        with self._lock:
            self._connect()
            return self._is_temporary

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """For reading: it waits for no writer of another process."""
        with self._lock:
            yield self._connect()

    @contextmanager
    def transaction(self, *, is_durable: bool = True) -> Iterator[sqlite3.Connection]:
        """One writer at a time, across processes too; undone when the block raises. Rows are `sqlite3.Row`.

        `is_durable`: it is on the disk when the block ends. What dies with the processes need not be.
        """
        with self._lock:
            connection = self._connect()
            connection.execute(f"PRAGMA synchronous = {'FULL' if is_durable else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # SQLite itself undoes one for which the disk has no space
                    connection.execute("ROLLBACK")
                raise

    def version(self) -> int:
        """Another number than before when another process has written."""
        with self._lock:
            number: int = self._connect().execute("PRAGMA data_version").fetchone()[0]
            return number

    def folder(self, name: str = ".") -> Path:
        """A folder beside the database."""
        with self._lock:
            self._connect()
            assert self._folder is not None
            path = self._folder / name
            path.mkdir(mode=0o700, exist_ok=True)
            return path

    def lock(self) -> int:
        """Hold the state folder for one gateway, for as long as the descriptor is open, here or in a child.

        Raises `ConfigError` with the pid of the other gateway that holds it, and when its database cannot be used.
        """
        try:
            folder = self.folder()
        except sqlite3.Error as error:
            said = f"the database {self._state_dir / DATABASE} cannot be used: {error}"
            raise ConfigError(f"{said}; move it away, or give this gateway another --state-dir") from None
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(descriptor, 20, 0).decode()
            os.close(descriptor)
            said = f"another gateway, process {pid}, holds the state folder {self._folder}"
            raise ConfigError(f"{said}: stop it, or give this one a --state-dir of its own") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        return descriptor

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
                    "the state folder cannot be written: what is uploaded or deployed will not survive a restart",
                    state_dir=str(self._state_dir),
                    reason=str(error),
                    instead=str(self._folder),
                )
        return self._connection


def _open(folder: Path) -> sqlite3.Connection:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):  # a new one alone: to close a file ends what locks SQLite has on it in this process
        os.close(os.open(folder / DATABASE, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))  # it would be for all to read
    connection = sqlite3.connect(folder / DATABASE, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
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
