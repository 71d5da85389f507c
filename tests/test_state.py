"""The state folder: when it is made, who shares it, and what becomes of it when it cannot be used."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway import state as module
from gateway.errors import ConfigError
from gateway.state import SCHEMA, State

WAIT_S = 10.0


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    state = State(tmp_path / "state")
    yield state
    state.close()


@pytest.fixture
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made during the test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def put(state: State, name: str) -> None:
    with state.transaction() as rows:
        rows.execute(
            "INSERT INTO files (id, filename, purpose, content_type, size, created_at) VALUES (?, 'f', 'p', 'c', 0, 0)",
            (name,),
        )


def names(state: State) -> list[str]:
    with state.transaction() as rows:
        return [row["id"] for row in rows.execute("SELECT id FROM files ORDER BY number")]


def pragma(state: State, name: str) -> Any:
    with state.transaction() as rows:
        return rows.execute(f"PRAGMA {name}").fetchone()[0]


def raw(folder: Path) -> sqlite3.Connection:
    """The database without the gateway."""
    return sqlite3.connect(folder / "gateway.db", isolation_level=None, check_same_thread=False, timeout=0)


def test_folder_is_made_when_it_is_first_needed_and_for_its_owner_alone(tmp_path: Path, state: State) -> None:
    assert list(tmp_path.iterdir()) == []
    state.close()  # what was never opened can be closed
    assert list(tmp_path.iterdir()) == []
    folder = state.folder("files")
    assert folder == tmp_path / "state" / "files"
    assert [path.stat().st_mode & 0o777 for path in (folder, folder.parent)] == [0o700, 0o700]


def test_folder_stays_where_it_is_when_the_process_goes_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    state = State(Path("state"))
    try:
        put(state, "before")
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert state.folder("files").resolve() == tmp_path / "state" / "files"
        assert list((tmp_path / "elsewhere").iterdir()) == []
    finally:
        state.close()


def test_transaction_is_kept_when_the_block_ends_and_undone_when_it_raises(state: State) -> None:
    def fail() -> None:
        with state.transaction() as rows:
            rows.execute("DELETE FROM files")
            raise KeyError

    put(state, "kept")
    with pytest.raises(KeyError):
        fail()
    assert names(state) == ["kept"]


def test_transaction_raises_what_went_wrong_when_the_disk_is_full(state: State) -> None:
    put(state, "first")
    pages = pragma(state, "page_count")
    with state.transaction() as rows:
        rows.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        put(state, "x" * 100_000)  # SQLite has undone the transaction itself by then
    assert names(state) == ["first"]
    put(state, "second")
    assert names(state) == ["first", "second"]


def test_transaction_is_undone_when_it_cannot_be_committed(state: State) -> None:
    put(state, "first")
    with state.transaction() as rows:
        rows.execute("CREATE TABLE child (id TEXT REFERENCES files (id) DEFERRABLE INITIALLY DEFERRED)")
        rows.execute("COMMIT")
        rows.execute("PRAGMA foreign_keys = ON")  # says nothing inside of a transaction
        rows.execute("BEGIN")

    def adopt() -> None:
        with state.transaction() as rows:
            rows.execute("INSERT INTO child VALUES ('nobody')")

    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        adopt()
    put(state, "second")
    assert names(state) == ["first", "second"]


def test_transactions_of_20_threads_follow_one_another(state: State) -> None:
    put(state, "0")

    def count(_: int) -> None:
        with state.transaction() as rows:
            (before,) = rows.execute("SELECT size FROM files").fetchone()
            rows.execute("UPDATE files SET size = ?", (before + 1,))

    with ThreadPoolExecutor(20) as threads:
        list(threads.map(count, range(200)))
    with state.transaction() as rows:
        assert rows.execute("SELECT size FROM files").fetchone()["size"] == 200


def test_transaction_waits_for_a_writer_of_another_process(tmp_path: Path, state: State) -> None:
    put(state, "first")
    other = raw(tmp_path / "state")
    try:
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE files SET id = 'changed'")
        begun = threading.Event()

        def read() -> list[str]:
            begun.set()
            return names(state)

        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(read)
            assert begun.wait(WAIT_S)
            other.execute("COMMIT")
            assert waiting.result(WAIT_S) == ["changed"]
    finally:
        other.close()


def test_two_states_on_one_folder_see_each_other(tmp_path: Path, state: State) -> None:
    other = State(tmp_path / "state")
    try:
        put(state, "of one")
        put(other, "of the other")
        assert names(state) == names(other) == ["of one", "of the other"]
    finally:
        other.close()


def test_reopened_state_has_what_was_there(state: State) -> None:
    put(state, "kept")
    state.close()
    assert names(state) == ["kept"]


def test_snapshot_waits_for_no_writer_of_another_process(tmp_path: Path, state: State) -> None:
    put(state, "first")
    other = raw(tmp_path / "state")
    try:
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE files SET id = 'changed'")
        with state.snapshot() as rows:
            assert [row["id"] for row in rows.execute("SELECT id FROM files")] == ["first"]
    finally:
        other.close()


def test_version_changes_when_another_process_has_written(tmp_path: Path, state: State) -> None:
    put(state, "own")
    other = State(tmp_path / "state")
    try:
        put(other, "of the other")
        before = state.version()
        put(state, "own again")
        names(other)
        assert state.version() == before
        put(other, "of the other again")
        assert state.version() != before
    finally:
        other.close()


# One gateway a folder.
def test_lock_is_held_until_its_descriptor_is_closed_everywhere(tmp_path: Path, state: State) -> None:
    held = state.lock()
    inherited = os.dup(held)
    other = State(tmp_path / "state")
    said = f"another gateway, process {os.getpid()}, holds the state folder {tmp_path / 'state'}"
    try:
        for descriptor in (held, inherited):
            with pytest.raises(ConfigError) as caught:
                other.lock()
            assert str(caught.value) == f"{said}: stop it, or give this one a --state-dir of its own"
            os.close(descriptor)
        os.close(other.lock())
    finally:
        other.close()


def test_lock_says_in_one_sentence_that_the_database_is_none(tmp_path: Path, temporary_folder: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "gateway.db").write_bytes(b"not a database" * 100)
    with pytest.raises(ConfigError) as caught:
        State(tmp_path / "state").lock()
    said = f"the database {tmp_path / 'state' / 'gateway.db'} cannot be used: file is not a database"
    assert str(caught.value) == f"{said}; move it away, or give this gateway another --state-dir"
    assert list(temporary_folder.iterdir()) == []


# The schema and its versions.
def test_database_is_of_this_version_and_logs_ahead(state: State) -> None:
    assert (pragma(state, "user_version"), pragma(state, "journal_mode")) == (len(SCHEMA), "wal")


def test_older_database_gets_what_it_lacks_and_keeps_its_rows(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(state, "old")
    state.close()
    steps = (*SCHEMA, "ALTER TABLE files ADD COLUMN colour TEXT", "UPDATE files SET colour = 'green'")
    monkeypatch.setattr(module, "SCHEMA", steps)
    newer = State(tmp_path / "state")
    try:
        with newer.transaction() as rows:
            assert [tuple(row) for row in rows.execute("SELECT id, colour FROM files")] == [("old", "green")]
        assert pragma(newer, "user_version") == len(SCHEMA) + 2
        newer.close()
        assert pragma(newer, "user_version") == len(SCHEMA) + 2  # nothing is done twice
    finally:
        newer.close()


def test_newer_database_is_used_as_it_is(state: State, tmp_path: Path) -> None:
    put(state, "kept")
    state.close()
    database = raw(tmp_path / "state")
    database.execute("PRAGMA user_version = 99")
    database.close()
    assert (names(state), pragma(state, "user_version")) == (["kept"], 99)


def test_failed_step_leaves_the_database_as_it_was(
    state: State, tmp_path: Path, temporary_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(state, "kept")
    state.close()
    with monkeypatch.context() as patch, capture_logs():
        patch.setattr(module, "SCHEMA", (*SCHEMA, "ALTER TABLE files ADD COLUMN colour TEXT", "not SQL"))
        broken = State(tmp_path / "state")
        try:
            with pytest.raises(sqlite3.OperationalError, match="not"):
                names(broken)
        finally:
            broken.close()
    assert list(temporary_folder.iterdir()) == []
    with state.transaction() as rows:
        assert "colour" not in [row["name"] for row in rows.execute("PRAGMA table_info(files)")]
    assert (names(state), pragma(state, "user_version")) == (["kept"], len(SCHEMA))


# What is busy is not what cannot be written.
def test_new_database_is_waited_for_while_another_process_makes_it(
    tmp_path: Path, temporary_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state").mkdir()
    maker = raw(tmp_path / "state")
    maker.execute("BEGIN IMMEDIATE")
    maker.execute("CREATE TABLE made (id)")

    class Watched(sqlite3.Connection):
        """The other process is through by the second try of whatever could not be done."""

        def execute(self, *arguments: Any) -> sqlite3.Cursor:
            try:
                return super().execute(*arguments)
            except sqlite3.OperationalError:
                if maker.in_transaction:
                    maker.execute("COMMIT")
                raise

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **options: connect(*given, factory=Watched, **options))
    state = State(tmp_path / "state")
    try:
        with capture_logs() as lines:
            assert state.folder("files") == tmp_path / "state" / "files"
        assert (lines, list(temporary_folder.iterdir())) == ([], [])
    finally:
        state.close()
        maker.close()


def test_busy_database_is_no_reason_to_begin_an_empty_one(
    state: State, tmp_path: Path, temporary_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(state, "kept")
    state.close()
    monkeypatch.setattr(module, "BUSY_S", 0.05)
    other = raw(tmp_path / "state")
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            names(state)
        other.execute("COMMIT")
    finally:
        other.close()
    assert (names(state), list(temporary_folder.iterdir())) == (["kept"], [])


# What cannot be written.
def below_a_file(path: Path) -> Path:
    """Such a folder can be made by nobody, not even by root."""
    path.write_text("a file")
    return path / "state"


def test_temporary_folder_stands_in_and_one_warning_says_so(tmp_path: Path, temporary_folder: Path) -> None:
    folder = below_a_file(tmp_path / "file")
    state = State(folder)
    try:
        with capture_logs() as lines:
            put(state, "first")
            put(state, "second")
            made = state.folder("files").parent
        assert (made.parent, made.stat().st_mode & 0o777) == (temporary_folder, 0o700)
        assert names(state) == ["first", "second"]
        assert [line.pop("reason") for line in lines] == [f"[Errno 20] Not a directory: '{folder}'"]
        event = "the state folder cannot be written: what is uploaded or deployed will not survive a restart"
        assert lines == [{"event": event, "log_level": "warning", "state_dir": str(folder), "instead": str(made)}]
    finally:
        state.close()
    assert list(temporary_folder.iterdir()) == []
    state.close()
    assert (tmp_path / "file").read_text() == "a file"


def test_close_never_removes_the_users_folder(tmp_path: Path, temporary_folder: Path) -> None:
    folder = below_a_file(tmp_path / "file")
    state = State(folder)
    with capture_logs():
        put(state, "in the temporary folder")
    state.close()
    folder.parent.unlink()  # the obstacle is gone
    put(state, "in the folder")
    state.close()
    assert (names(state), list(temporary_folder.iterdir())) == (["in the folder"], [])
    state.close()


@pytest.mark.parametrize("content", [b"", b"not a database" * 100, bytes(4096)])
def test_file_that_is_no_database_is_not_overwritten(tmp_path: Path, temporary_folder: Path, content: bytes) -> None:
    (tmp_path / "state").mkdir()
    database = tmp_path / "state" / "gateway.db"
    database.write_bytes(content)
    state = State(tmp_path / "state")
    try:
        if content:
            with pytest.raises(sqlite3.DatabaseError, match="file is not a database"):
                put(state, "lost")
            assert database.read_bytes() == content
        else:
            put(state, "kept")
            assert names(state) == ["kept"]
    finally:
        state.close()
    assert list(temporary_folder.iterdir()) == []
