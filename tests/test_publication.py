"""A publication is whole, or it has never been: each of its steps fails once, and not a byte has changed."""

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from gateway.publication import Publication, remove_parts

CHANGES = ("link", "rename", "replace", "unlink", "mkdir", "rmdir", "chmod", "fsync")
FULL = OSError(28, "No space left on device")


class Crash(BaseException):
    """The process is killed: nothing it would still do is done."""


class Steps:
    """Does something before the change number `stop` of the disk, counted from 0."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._stop: int | str = -1
        self._act: Callable[[], object] = int
        self._is_lasting = False
        self._spared = ""
        patch.setattr(os, "fsync", lambda descriptor: None)  # no test pulls the plug
        for name in CHANGES:
            self.watch(patch, os, name)
        self.watch(patch, shutil, "copyfile")

    def watch(self, patch: pytest.MonkeyPatch, where: Any, name: str) -> None:
        real = getattr(where, name)

        def step(*arguments: Any, **options: Any) -> Any:
            if name != "mkdir" or not Path(arguments[0]).is_dir():  # that one changes nothing
                self.take(name)
            return real(*arguments, **options)

        patch.setattr(where, name, step)

    def take(self, name: str) -> None:
        number, self.count = self.count, self.count + 1
        if name == self._stop:  # from here on it is a number
            self._stop = number
        if isinstance(self._stop, str) or self._stop < 0 or name == self._spared:
            return
        if number == self._stop or (self._is_lasting and number > self._stop):
            stop, self._stop = self._stop, -1  # what it does itself is no step
            try:
                self._act()
            finally:
                self._stop = stop

    @contextmanager
    def at(
        self, stop: int | str, act: Callable[[], object], *, is_lasting: bool = False, spared: str = ""
    ) -> Iterator[None]:
        """`stop`: the number of a change, or what is called first. `is_lasting`: also at all later ones, but for those
        called `spared`.
        """
        self.count, self._stop, self._act, self._is_lasting, self._spared = 0, stop, act, is_lasting, spared
        try:
            yield
        finally:
            self._stop = -1

    def crash_at(self, stop: int | str) -> AbstractContextManager[None]:
        return self.at(stop, raiser(Crash()), is_lasting=True)


def raiser(error: BaseException) -> Callable[[], object]:
    def act() -> None:
        raise error

    return act


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(monkeypatch)


def snapshot(folder: Path) -> dict[str, tuple[int, bytes | str | None]]:
    """All that stands there: mode, and content, link or None for a folder."""
    found: dict[str, tuple[int, bytes | str | None]] = {}
    for path in sorted(folder.rglob("*")):
        content = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[path.relative_to(folder).as_posix()] = (stat.S_IMODE(path.lstat().st_mode), content)
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {place: content for place, (_, content) in snapshot(folder).items() if isinstance(content, bytes)}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for place, content in files.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(content)
    return folder


def sources(tmp_path: Path, files: dict[str, bytes]) -> list[tuple[Path, str]]:
    folder = write(tmp_path / "source", files)
    return [(folder / place, place) for place in files]


BEFORE = {"w.py": b"old", "data/a": b"a", "data/b": b"b", "own.txt": b"the user's", "deep/er/gone": b"gone"}
# what the publication brings, what it takes away, what stands there afterwards
CASES: dict[str, tuple[dict[str, bytes], list[str], dict[str, bytes]]] = {
    "nothing new": ({"w.py": b"old"}, [], BEFORE),
    "one file": ({"w.py": b"new"}, [], {**BEFORE, "w.py": b"new"}),
    "a new folder": ({"new/er/x": b"x"}, [], {**BEFORE, "new/er/x": b"x"}),
    "what is obsolete": ({"w.py": b"new"}, ["w.py", "data/a"], {**BEFORE, "w.py": b"new"} | {"data/a": b""}),
    "what is gone already": ({}, ["data/c", "no/where"], BEFORE),
    "a file becomes a folder": ({"own.txt/x": b"x"}, ["own.txt"], {**BEFORE, "own.txt/x": b"x"} | {"own.txt": b""}),
    "a folder becomes a file": (
        {"data": b"file"},
        ["data/a", "data/b"],
        {**BEFORE, "data": b"file"} | {"data/a": b"", "data/b": b""},
    ),
    "two folders become a file": (
        {"deep": b"file"},
        ["deep/er/gone"],
        {**BEFORE, "deep": b"file"} | {"deep/er/gone": b""},
    ),
}


def gone(files: dict[str, bytes]) -> dict[str, bytes]:
    return {place: content for place, content in files.items() if content}


@pytest.mark.parametrize("case", CASES)
def test_replace_brings_and_takes_away(tmp_path: Path, case: str) -> None:
    files, obsolete, expected = CASES[case]
    target = write(tmp_path / "w", BEFORE)
    publication = Publication(tmp_path / "trash")
    publication.replace(sources(tmp_path, files), target, obsolete)
    publication.finish()
    assert contents(target) == gone(expected)
    assert list((tmp_path / "trash").glob("*")) == []


@pytest.mark.parametrize("case", CASES)
def test_undo_brings_back_every_byte_and_mode(tmp_path: Path, case: str) -> None:
    files, obsolete, _ = CASES[case]
    target = write(tmp_path / "w", BEFORE)
    (target / "data").chmod(0o700)
    (target / "data" / "a").chmod(0o640)
    (target / "w.py").chmod(0o755)
    before = snapshot(target)
    publication = Publication(tmp_path / "trash")
    publication.replace(sources(tmp_path, files), target, obsolete)
    publication.undo()
    assert snapshot(target) == before
    assert list((tmp_path / "trash").glob("*")) == []


@pytest.mark.parametrize("case", CASES)
def test_failure_of_any_step_leaves_every_byte_and_mode(tmp_path: Path, steps: Steps, case: str) -> None:
    files, obsolete, expected = CASES[case]
    target = write(tmp_path / "w", BEFORE)
    (target / "data").chmod(0o700)
    before = snapshot(target)
    wanted = sources(tmp_path, files)
    for stop in range(100):
        publication = Publication(tmp_path / "trash")
        with suppress(OSError), steps.at(stop, raiser(FULL)):
            publication.replace(wanted, target, obsolete)
            if stop == steps.count:
                break
        publication.undo()  # also of what can do without the step
        assert snapshot(target) == before, f"step {stop}"
        assert list((tmp_path / "trash").glob("*")) == []
    assert contents(target) == gone(expected)


def test_failed_publication_of_what_is_new_leaves_no_folder(tmp_path: Path, steps: Steps) -> None:
    wanted = sources(tmp_path, {"w.py": b"new", "data/a": b"a"})
    for stop in range(100):
        publication = Publication(tmp_path / "trash")
        with suppress(OSError), steps.at(stop, raiser(FULL)):
            publication.replace(wanted, tmp_path / "w", [])
            if stop == steps.count:
                break
        publication.undo()
        assert not (tmp_path / "w").exists(), f"step {stop}"
    assert contents(tmp_path / "w") == {"w.py": b"new", "data/a": b"a"}


def test_undo_leaves_what_the_user_has_put_there_meanwhile(tmp_path: Path) -> None:
    publication = Publication(tmp_path / "trash")
    publication.replace(sources(tmp_path, {"new/x": b"x"}), tmp_path / "w", [])
    (tmp_path / "w" / "new" / "mine").write_bytes(b"mine")
    publication.undo()
    assert contents(tmp_path / "w") == {"new/mine": b"mine"}


def test_trash_on_another_file_system_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Any, target: Any, **options: Any) -> None:
        raise OSError(18, "Invalid cross-device link", str(source))

    rename = os.rename
    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "rename", lambda a, b: refuse(a, b) if "trash" in f"{a}{b}" else rename(a, b))
    target = write(tmp_path / "w", BEFORE)
    (target / "data" / "a").chmod(0o640)
    (target / "link").symlink_to("own.txt")
    before = snapshot(target)
    publication = Publication(tmp_path / "trash")
    publication.replace(sources(tmp_path, {"w.py": b"new", "link": b"new", "data": b"x"}), target, ["data/a", "data/b"])
    publication.undo()
    assert snapshot(target) == before


@pytest.mark.parametrize("link", ["own.txt", "nowhere", "/", "../outside"])
def test_link_in_the_place_of_a_file_comes_back(tmp_path: Path, link: str) -> None:
    target = write(tmp_path / "w", {"own.txt": b"the user's"})
    outside = write(tmp_path, {"outside": b"outside"}) / "outside"
    (target / "link").symlink_to(link)
    before = snapshot(target)
    publication = Publication(tmp_path / "trash")
    publication.replace(sources(tmp_path, {"link": b"new"}), target, [])
    assert contents(target) == {"own.txt": b"the user's", "link": b"new"}
    publication.undo()
    assert (snapshot(target), outside.read_bytes()) == (before, b"outside")


def test_link_to_a_folder_is_followed_nowhere_outside(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", {"x": b"mine", "y": b"mine"})
    target = write(tmp_path / "w", {"w.py": b"old"})
    (target / "sub").symlink_to(outside)
    before = snapshot(target)
    publication = Publication(tmp_path / "trash")
    with pytest.raises(PermissionError, match="a link leads out of the wrapper's folder"):
        publication.replace(sources(tmp_path, {"w.py": b"new", "sub/n/x": b"new"}), target, [])
    publication.undo()
    assert (snapshot(target), contents(outside)) == (before, {"x": b"mine", "y": b"mine"})
    publication = Publication(tmp_path / "trash")
    publication.replace(sources(tmp_path, {"w.py": b"new"}), target, ["sub/x"])
    publication.finish()
    assert contents(outside) == {"x": b"mine", "y": b"mine"}


def test_target_may_be_a_link(tmp_path: Path) -> None:
    elsewhere = write(tmp_path / "elsewhere", {"w.py": b"old", "data/a": b"a"})
    (tmp_path / "w").symlink_to(elsewhere)
    publication = Publication(tmp_path / "trash")
    publication.replace(sources(tmp_path, {"w.py": b"new", "data/b": b"b"}), tmp_path / "w", ["data/a"])
    assert contents(elsewhere) == {"w.py": b"new", "data/b": b"b"}
    publication.undo()
    assert contents(elsewhere) == {"w.py": b"old", "data/a": b"a"}


def test_mode_is_the_files_own_or_that_of_what_it_replaces(tmp_path: Path) -> None:
    target = write(tmp_path / "w", {"script": b"old", "secret": b"old"})
    (target / "script").chmod(0o755)
    (target / "secret").chmod(0o600)
    wanted = sources(tmp_path, {"script": b"new", "secret": b"new", "fresh": b"new"})
    (tmp_path / "source" / "fresh").chmod(0o750)
    Publication(tmp_path / "trash").replace(wanted, target, [])
    assert {place: mode for place, (mode, _) in snapshot(target).items()} == {
        "script": 0o755,
        "secret": 0o600,
        "fresh": 0o750,
    }


def test_folder_in_the_place_of_a_file_is_left_alone(tmp_path: Path) -> None:
    target = write(tmp_path / "w", {"w.py": b"old", "data/mine": b"mine"})
    before = snapshot(target)
    publication = Publication(tmp_path / "trash")
    with pytest.raises(OSError, match="data"):
        publication.replace(sources(tmp_path, {"w.py": b"new", "data": b"new"}), target, [])
    publication.undo()
    assert snapshot(target) == before


def test_name_is_never_without_a_file(tmp_path: Path, steps: Steps) -> None:
    """Whoever reads while it is published finds the old file or the new one."""
    target = write(tmp_path / "w", {"w.py": b"old"})
    wanted = sources(tmp_path, {"w.py": b"new"})
    seen: list[bytes] = []
    for stop in range(100):
        with steps.at(stop, lambda: seen.append((target / "w.py").read_bytes())):
            publication = Publication(tmp_path / "trash")
            publication.replace(wanted, target, [])
        publication.undo()
        if stop > steps.count:
            break
    assert set(seen) == {b"old", b"new"}


PARTS = {".w.py.0123abcd.part": b"half", "sub/.x.89abcdef.part": b"half"}
OWN = {".part": b"own", "w.py.0123abcd.part": b"own", ".w.py.xyz.part": b"own", ".other.part": b"own"}


def test_remove_parts_of_a_folder_leaves_the_users_own(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", PARTS)
    folder = write(tmp_path / "w", {**PARTS, **OWN})
    (folder / "link").symlink_to(outside)
    remove_parts(folder)
    assert (contents(folder), contents(outside)) == (OWN, PARTS)


def test_remove_parts_of_a_file_looks_at_no_others(tmp_path: Path) -> None:
    others = {".other.yml.0123abcd.part": b"another's", "w.yml": b"own", "w/.x.0123abcd.part": b"another's"}
    write(tmp_path, {**others, ".w.yml.0123abcd.part": b"half"})
    remove_parts(tmp_path / "w.yml")
    assert contents(tmp_path) == others


def test_crash_at_any_step_leaves_each_file_whole(tmp_path: Path, steps: Steps) -> None:
    files = {"w.py": b"new", "data/a": b"new", "data/c": b"new"}
    wanted = sources(tmp_path, files)
    for stop in range(100):
        target = write(tmp_path / f"w{stop}", BEFORE)
        try:
            with steps.crash_at(stop):
                Publication(tmp_path / "trash").replace(wanted, target, ["data/b"])
            break
        except Crash:
            remove_parts(target)
            found = contents(target)
            old_or_new = {place: {BEFORE.get(place), files.get(place)} for place in found}
            assert all(found[place] in old_or_new[place] for place in found), f"step {stop}: {found}"
            assert found["own.txt"] == b"the user's"
    assert stop == steps.count
