"""The store of uploaded files: whole or not at all, in order, until they expire."""

import io
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from gateway import files as module
from gateway.errors import FileNotFound
from gateway.files import ORPHAN_S, PIECE_BYTES, SWEEP_S, FileStore, StoredFile, get_file
from gateway.run import Run
from gateway.state import State

NOW = 1_800_000_000
MISSING = f"file-{'0' * 24}"


class Clock:
    def __init__(self) -> None:
        self.now = NOW + 0.9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    state = State(tmp_path / "state")
    yield state
    state.close()


@pytest.fixture
def store(state: State) -> FileStore:
    return FileStore(state)


def add(store: FileStore, content: bytes = b"content", **given: Any) -> StoredFile:
    known = {"filename": "a.txt", "purpose": "user_data", "content_type": "text/plain", **given}
    return store.add(io.BytesIO(content), **known)


def page(store: FileStore, **given: Any) -> tuple[list[str], bool]:
    """The ids, and whether there are more."""
    files, has_more = store.page(**{"purpose": None, "limit": 100, "after": None, "order": "asc", **given})
    return [file.id for file in files], has_more


def contents(state: State) -> list[str]:
    return sorted(path.name for path in state.folder("files").iterdir())


def rows(state: State) -> list[str]:
    with state.transaction() as found:
        return sorted(row["id"] for row in found.execute("SELECT id FROM files"))


@pytest.mark.usefixtures("clock")
def test_add_keeps_the_content_from_its_beginning(store: FileStore, tmp_path: Path) -> None:
    content = io.BytesIO(b"x" * (2 * PIECE_BYTES + 1))
    content.seek(5)
    file = store.add(content, filename="../a", purpose="p", content_type="t", expires_in_s=60)
    path = tmp_path / "state" / "files" / file.id
    assert file == StoredFile(file.id, "../a", "p", "t", 2 * PIECE_BYTES + 1, NOW, NOW + 60, path)
    assert store.get(file.id) == file
    assert file.read() == content.getvalue()
    assert not content.closed


def test_add_takes_an_empty_file(store: FileStore) -> None:
    file = add(store, b"")
    assert (file.size, file.read(), file.expires_at) == (0, b"", None)


def test_add_keeps_odd_texts_as_they_are(store: FileStore) -> None:
    for text in ("", " ", "\x00", "a\x00b", "\r\n", "'; DROP TABLE files; --", "%s", "grün 日本 😀", "x" * 10_000):
        file = add(store, filename=text, purpose=text, content_type=text)
        assert store.get(file.id) == file


Failing = Callable[[pytest.MonkeyPatch, State], None]


def no_space(*_: Any) -> None:
    raise OSError(28, "No space left on device")


def copy_half(source: Any, target: Any, *_: Any) -> None:
    target.write(source.read(3))
    no_space()


def fill_database(_: pytest.MonkeyPatch, state: State) -> None:
    with state.transaction() as found:
        pages = found.execute("PRAGMA page_count").fetchone()[0]
        found.execute(f"PRAGMA max_page_count = {pages}")


FAILURES: dict[str, tuple[Failing, type[Exception], str]] = {
    "in the middle": (lambda patch, _: patch.setattr(shutil, "copyfileobj", copy_half), OSError, "No space left"),
    "at the end": (lambda patch, _: patch.setattr(os, "fsync", no_space), OSError, "No space left"),
    "in the database": (fill_database, sqlite3.OperationalError, "full"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_add_leaves_nothing_behind_when_the_disk_is_full(
    store: FileStore, state: State, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    kept = add(store)
    fail, error, said = FAILURES[case]
    with monkeypatch.context() as patch:
        fail(patch, state)
        with pytest.raises(error, match=said):
            add(store, filename="x" * 100_000)
    assert (rows(state), contents(state)) == ([kept.id], [kept.id])
    assert page(store) == ([kept.id], False)


def test_add_leaves_nothing_behind_when_its_content_is_closed_under_it(store: FileStore, state: State) -> None:
    class Closed(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise ValueError("I/O operation on closed file")

    with pytest.raises(ValueError, match="closed"):
        store.add(Closed(b"x"), filename="f", purpose="p", content_type="t")
    assert (rows(state), contents(state)) == ([], [])


def test_add_of_20_threads_loses_none(store: FileStore, state: State) -> None:
    with ThreadPoolExecutor(20) as threads:
        added = list(threads.map(lambda number: add(store, b"%d" % number), range(60)))
    assert [file.read() for file in added] == [b"%d" % number for number in range(60)]
    assert rows(state) == contents(state) == sorted(file.id for file in added)


def test_add_and_delete_at_once_disturb_nobody(store: FileStore, state: State) -> None:
    start = Barrier(8)

    def come_and_go(_: int) -> None:
        start.wait()
        for _ in range(25):
            store.delete(add(store).id)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(come_and_go, range(8)))
    assert (rows(state), contents(state)) == ([], [])


@pytest.mark.parametrize("id", [MISSING, "", "../gateway.db", "\x00", "\ud800", "x" * 10_000, 5, None, {}, [], b"x"])
def test_get_raises_for_whatever_is_no_file(store: FileStore, id: Any) -> None:  # noqa: A002
    add(store)
    with pytest.raises(FileNotFound) as raised:
        store.get(id)
    assert (raised.value.status, raised.value.param, len(raised.value.message) < 120) == (404, "file_id", True)


def test_get_works_on_a_database_with_more_columns(store: FileStore, state: State) -> None:
    file = add(store)
    with state.transaction() as found:  # as a newer version may have made it
        found.execute("ALTER TABLE files ADD COLUMN colour TEXT")
    assert store.get(file.id) == file
    assert page(store) == ([file.id], False)
    assert add(store).read() == b"content"


@pytest.mark.parametrize(
    ("query", "expected", "has_more"),
    [
        ({}, "abcde", False),
        ({"order": "desc"}, "edcba", False),
        ({"limit": 2}, "ab", True),
        ({"limit": 5}, "abcde", False),
        ({"limit": 4}, "abcd", True),
        ({"limit": 2, "order": "desc"}, "ed", True),
        ({"after": "b"}, "cde", False),
        ({"after": "b", "limit": 2}, "cd", True),
        ({"after": "b", "order": "desc"}, "a", False),
        ({"after": "e"}, "", False),
        ({"purpose": "odd"}, "bd", False),
        ({"purpose": "odd", "limit": 1}, "b", True),
        ({"purpose": "odd", "limit": 1, "after": "b"}, "d", False),
        ({"purpose": "odd", "after": "a", "order": "desc"}, "", False),
        ({"purpose": "none"}, "", False),
        ({"purpose": ""}, "", False),
    ],
)
def test_page_gives_what_was_asked_for(store: FileStore, query: Any, expected: str, has_more: bool) -> None:
    files = {name: add(store, purpose="odd" if name in "bd" else "even") for name in "abcde"}
    after = {"after": files[query["after"]].id} if "after" in query else {}
    assert page(store, **{**query, **after}) == ([files[name].id for name in expected], has_more)


def test_page_raises_when_it_is_to_begin_behind_no_file(store: FileStore) -> None:
    with pytest.raises(FileNotFound, match=MISSING):
        page(store, after=MISSING)


def test_page_gives_none_when_there_are_none(store: FileStore) -> None:
    assert page(store) == ([], False)


def test_page_keeps_the_order_of_files_that_are_deleted_and_added_again(store: FileStore) -> None:
    first, second, third = add(store), add(store), add(store)
    store.delete(third.id)
    fourth = add(store)
    assert page(store)[0] == [first.id, second.id, fourth.id]
    assert page(store, after=second.id)[0] == [fourth.id]


def test_delete_removes_row_and_content(store: FileStore, state: State) -> None:
    kept, gone = add(store), add(store)
    store.delete(gone.id)
    assert (rows(state), contents(state)) == ([kept.id], [kept.id])
    for forget in (store.delete, store.get):
        with pytest.raises(FileNotFound, match=gone.id):
            forget(gone.id)
    with pytest.raises(FileNotFound, match=gone.id):
        gone.read()


def test_delete_lets_its_reader_read_on(store: FileStore) -> None:
    file = add(store, b"first second")
    with file.path.open("rb") as reading:
        assert reading.read(6) == b"first "
        store.delete(file.id)
        assert reading.read() == b"second"


def test_delete_of_a_file_whose_content_is_gone_removes_its_row(store: FileStore, state: State) -> None:
    file = add(store)
    file.path.unlink()
    with pytest.raises(FileNotFound):
        file.read()
    store.delete(file.id)
    assert rows(state) == []


def test_file_is_there_until_the_second_in_which_it_expires(store: FileStore, state: State, clock: Clock) -> None:
    file, kept = add(store, expires_in_s=3600), add(store)
    clock.now = NOW + 3599.9
    assert (store.get(file.id), page(store)[0]) == (file, [file.id, kept.id])
    clock.now = NOW + 3600
    with pytest.raises(FileNotFound, match=file.id):
        store.get(file.id)
    with pytest.raises(FileNotFound, match=file.id):
        store.delete(file.id)
    assert page(store) == ([kept.id], False)
    assert (rows(state), contents(state)) == ([kept.id], [kept.id])


def test_add_removes_what_has_expired(store: FileStore, state: State, clock: Clock) -> None:
    add(store, expires_in_s=3600)
    clock.now += 3600
    fresh = add(store)
    assert (rows(state), contents(state)) == ([fresh.id], [fresh.id])


def test_file_that_expires_is_gone_for_every_store(store: FileStore, state: State, tmp_path: Path) -> None:
    file = add(store, expires_in_s=3600)
    with state.transaction() as found:
        found.execute("UPDATE files SET expires_at = 1")
    other = State(tmp_path / "state")
    try:
        assert page(FileStore(other)) == ([], False)
    finally:
        other.close()
    assert not file.path.exists()
    with pytest.raises(FileNotFound):
        store.get(file.id)


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(("age_s", "stays"), [(0, True), (ORPHAN_S - 1, True), (ORPHAN_S + 1, False)])
def test_content_that_a_crash_has_left_is_removed_after_a_day(state: State, age_s: int, stays: bool) -> None:
    kept = add(FileStore(state))
    orphan = state.folder("files") / MISSING  # a crash between content and row
    orphan.write_bytes(b"x")
    for path in (orphan, kept.path):  # what has a row stays, however old
        os.utime(path, (NOW - age_s, NOW - age_s))
    store = FileStore(state)  # as after the crash
    with pytest.raises(FileNotFound):
        store.get(MISSING)
    assert page(store)[0] == [kept.id]
    assert contents(state) == sorted([kept.id, MISSING] if stays else [kept.id])
    add(store)
    assert orphan.exists() is stays


def test_content_that_a_crash_has_left_is_looked_for_once_an_hour(store: FileStore, state: State, clock: Clock) -> None:
    add(store)
    orphan = state.folder("files") / MISSING  # of another process, which has crashed
    orphan.write_bytes(b"x")
    os.utime(orphan, (NOW - ORPHAN_S - 1, NOW - ORPHAN_S - 1))
    clock.now = NOW + SWEEP_S - 1
    add(store)
    assert orphan.exists()
    clock.now = NOW + SWEEP_S
    add(store)
    assert not orphan.exists()


def test_file_is_found_while_another_process_writes(store: FileStore, tmp_path: Path) -> None:
    file = add(store)
    other = sqlite3.connect(tmp_path / "state" / "gateway.db", isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE files SET filename = 'changed'")
        assert store.get(file.id) == file
    finally:
        other.close()


def test_content_that_goes_while_it_is_looked_at_disturbs_nobody(
    store: FileStore, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    iterdir = Path.iterdir

    def iterate_too_late(folder: Path) -> Iterator[Path]:
        found = list(iterdir(folder))
        with suppress(FileNotFoundError):
            (folder / MISSING).unlink()  # another thread or process deletes it, or gives up adding it
        yield from found

    (state.folder("files") / MISSING).write_bytes(b"x")
    monkeypatch.setattr(Path, "iterdir", iterate_too_late)
    assert page(store) == ([], False)
    (state.folder("files") / MISSING).write_bytes(b"x")
    file = add(store)
    assert page(store) == ([file.id], False)


def test_get_file_gives_a_file_to_a_run_alone(store: FileStore) -> None:
    file = add(store)

    def get(run: Run | None) -> Any:
        if run is not None:
            run.activate()
        return get_file(file.id)

    assert copy_context().run(get, Run("id", "w", files=store)) == file
    for run in (None, Run("id", "w")):
        with pytest.raises(LookupError, match=r"outside of a run|needs a run"):
            copy_context().run(get, run)
