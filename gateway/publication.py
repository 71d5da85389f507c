"""Puts a generation's files into the user's folder, one rename a file; it can be taken back to the last byte."""

import errno
import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from stat import S_IMODE

PART = re.compile(r"\..*\.[0-9a-f]{8}\.part")  # a file that has not got its name yet


class Publication:
    """`undo()` brings back what was there; `finish()` forgets it. What is not the gateway's is never touched."""

    def __init__(self, trash: Path) -> None:
        """`trash`: a folder for what is replaced, on the same file system where that can be had."""
        self._trash = trash / token_hex(8)
        self._moved: list[tuple[Path, Path]] = []
        self._made: list[Path] = []
        self._made_folders: list[Path] = []
        self._removed_folders: list[tuple[Path, int]] = []

    def replace(self, files: Iterable[tuple[Path, str]], target: Path, obsolete: Iterable[str]) -> None:
        """Copy `files` (path, place below `target`) there, and take away the `obsolete` that are not among them.

        To be undone when it raises.
        """
        wanted = list(files)
        places = {place for _, place in wanted}
        self._make_folder(target)
        for place in obsolete:  # before the new ones: a file may become a folder
            path = target / place
            if place not in places and path.is_file() and _is_inside(path, target):
                self._put_away(path)
                self._remove_folders(path.parent, target)
        for source, place in wanted:
            self._put(source, target / place, target)

    def undo(self) -> None:
        for path in reversed(self._made):
            path.unlink(missing_ok=True)
        for folder in reversed(self._made_folders):  # before the old ones: a folder may have been a file
            with suppress(OSError):  # the user has put something into it
                folder.rmdir()
        for kept, path in reversed(self._moved):
            path.parent.mkdir(parents=True, exist_ok=True)
            if kept.is_symlink():  # which comes over nothing when it comes from another file system
                path.unlink(missing_ok=True)
            shutil.move(kept, path)
        for folder, mode in self._removed_folders:
            folder.chmod(mode)
        self.finish()

    @property
    def replaced(self) -> list[tuple[Path, Path]]:
        """What was there, and where."""
        return list(self._moved)

    def finish(self) -> None:
        shutil.rmtree(self._trash, ignore_errors=True)
        self._moved, self._made, self._made_folders, self._removed_folders = [], [], [], []

    def _put(self, source: Path, path: Path, target: Path) -> None:
        """The new file is whole before it has its name."""
        self._make_folder(path.parent)
        if not _is_inside(path, target):
            raise PermissionError(errno.EPERM, "a link leads out of the wrapper's folder", str(path))
        part = path.with_name(f".{path.name}.{token_hex(4)}.part")
        try:
            shutil.copyfile(source, part)
            shutil.copymode(path if path.exists() else source, part)
            if path.exists() or path.is_symlink():
                self._put_away(path, copy=True)
            else:
                self._made.append(path)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def _put_away(self, path: Path, *, copy: bool = False) -> None:
        self._trash.mkdir(parents=True, exist_ok=True)
        kept = self._trash / str(len(self._moved))
        if copy:  # the name is never without a file
            try:
                os.link(path, kept)
            except OSError:
                shutil.copy2(path, kept, follow_symlinks=False)
        else:
            shutil.move(path, kept)
        self._moved.append((kept, path))

    def _remove_folders(self, folder: Path, target: Path) -> None:
        """Those that hold nothing else any more: a folder may become a file."""
        while folder != target:
            mode = S_IMODE(folder.stat().st_mode)
            try:
                folder.rmdir()
            except OSError:
                return
            self._removed_folders.append((folder, mode))
            folder = folder.parent

    def _make_folder(self, folder: Path) -> None:
        missing = [each for each in (folder, *folder.parents) if not each.exists()]
        for each in reversed(missing):
            each.mkdir()
            self._made_folders.append(each)


def _is_inside(path: Path, target: Path) -> bool:
    return path.parent.resolve().is_relative_to(target.resolve())


def remove_parts(place: Path) -> None:
    """Of a publication that a crash has cut off. `place`: a wrapper's folder, or its file."""
    parts = place.rglob(".*.part") if place.is_dir() else place.parent.glob(f".{place.name}.*.part")
    for path in parts:
        if PART.fullmatch(path.name):
            path.unlink(missing_ok=True)
