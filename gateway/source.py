"""What stands in the wrappers folder: folders with a `pipeline_wrapper.py`, YAML pipelines, and their fingerprints."""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from time import time_ns

ENTRY_MODULE = "pipeline_wrapper"
YAML_SUFFIXES = (".yml", ".yaml")
CODE_SUFFIXES = (".py", *YAML_SUFFIXES)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
RESERVED_NAMES = frozenset(
    {"v1", "status", "draw", "undeploy", "rollback", "restore", "models", "docs", "metrics", "livez", "readyz"}
    | {"mcp", "a2a", "executions", "traces"}
)
IGNORED_FOLDERS = frozenset({".git", ".hg", ".svn", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache"})
# What editors and desktops leave behind: Vim, Emacs, JetBrains, Kate, macOS, and this gateway's own parts.
IGNORED_FILES = re.compile(
    r".*~|\.#.*|#.*#|.*\.sw[a-p]|4913|.*___jb_(tmp|old)___|.*\.kate-swp|\.DS_Store|.*\.py[co]|\..*\.[0-9a-f]{8}\.part"
)
READ_BYTES = 1024 * 1024
FRESH_NS = 100_000_000  # file times move in steps: what has just changed may change once more within the same one
LARGE_BYTES = 16 * 1024 * 1024  # what is larger is known by its size and time, and not copied before it is replaced


@dataclass(frozen=True, slots=True)
class Found:
    """A wrapper's folder or YAML file. `fault`: why it cannot be served under its name, None when it can."""

    name: str
    path: Path
    fault: str | None = None

    @property
    def is_yaml(self) -> bool:
        return self.path.suffix in YAML_SUFFIXES


def check_name(name: str) -> str | None:
    """Why `name` cannot be a wrapper's name, None when it can."""
    if not NAME.fullmatch(name):
        return f"the name {name!r} cannot be served: use letters, digits, '_' and '-', 64 at most"
    if name in RESERVED_NAMES:
        return f"the name {name!r} is reserved for the gateway's own paths: rename the folder"
    return None


def scan(wrappers_dir: Path) -> list[Found]:
    """What is to be served, by name; dot files and folders are not. A folder goes before a YAML file of its name."""
    found: dict[str, Found] = {}
    for path in sorted(wrappers_dir.iterdir(), key=lambda path: (path.suffix in YAML_SUFFIXES, path.name)):
        each = _read(path)
        if each is not None:
            found.setdefault(each.name, each)
    return sorted(found.values(), key=lambda each: each.name)


def locate(wrappers_dir: Path, name: str) -> Found | None:
    """What `scan` finds under this name."""
    if check_name(name) is not None:  # it may be the name of no file, or of one elsewhere
        return next((each for each in scan(wrappers_dir) if each.name == name), None)
    places = (wrappers_dir / f"{name}{suffix}" for suffix in ("", *sorted(YAML_SUFFIXES)))
    return next((each for each in map(_read, places) if each is not None), None)


def _read(path: Path) -> Found | None:
    if path.name[0] == "." or path.name in IGNORED_FOLDERS or IGNORED_FILES.fullmatch(path.name):
        return None
    is_yaml = path.suffix in YAML_SUFFIXES
    name = os.fsencode(path.stem if is_yaml else path.name).decode("utf-8", "backslashreplace")
    try:
        is_wrapper = path.is_file() if is_yaml else (path / f"{ENTRY_MODULE}.py").is_file()
        fault = check_name(name)
    except OSError as error:  # its own failure, and not that of the others
        is_wrapper, fault = True, f"the folder cannot be read: {error.strerror}"
    return Found(name, path, fault) if is_wrapper else None


def is_ignored(path: Path) -> bool:
    """Whether a change of this file, its path relative to the wrappers folder, says nothing about a wrapper."""
    *folders, name = path.parts
    first = path.parts[0]
    return first[0] == "." or not IGNORED_FOLDERS.isdisjoint(folders) or bool(IGNORED_FILES.fullmatch(name))


class Fingerprints:
    """The content of folders as digests. A file is read again only when its time, size or inode has changed."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, int, int, int], bytes]] = {}

    def of(self, path: Path) -> str:
        """See `digest`. A file that vanishes meanwhile is not there."""
        return digest(self.contents(path))

    def contents(self, path: Path) -> dict[str, bytes]:
        """Each file's SHA-256, by its place."""
        return {place: self.of_file(file) for file, place in walk(path)}

    def of_file(self, path: Path) -> bytes:
        try:
            stat = path.stat()
            if not S_ISREG(stat.st_mode):  # a pipe would keep its reader waiting
                return b"\0" * 32
            key = (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino)
            known = self._known.get(path)
            if known is not None and known[0] == key:
                return known[1]
            if stat.st_size > LARGE_BYTES:  # weights: minutes of reading at each start
                return hashlib.sha256(f"{stat.st_size} {stat.st_mtime_ns}".encode()).digest()
            content = hashlib.sha256()
            with path.open("rb") as file:
                while piece := file.read(READ_BYTES):
                    content.update(piece)
        except OSError:
            return b"\0" * 32
        if time_ns() - stat.st_mtime_ns > FRESH_NS:
            self._known[path] = (key, content.digest())
        return content.digest()


def digest(contents: Mapping[str, bytes]) -> str:
    """Two SHA-256, hexadecimal: of the code alone, and of all."""
    code, everything = hashlib.sha256(), hashlib.sha256()
    for place in sorted(contents):
        part = f"{place}\0".encode("utf-8", "surrogateescape") + contents[place]
        everything.update(part)
        if place.endswith(CODE_SUFFIXES):
            code.update(part)
    return f"{code.hexdigest()}.{everything.hexdigest()}"


def has_same_code(digest: str, other: str) -> bool:
    """Whether two fingerprints differ in nothing but data."""
    return digest.partition(".")[0] == other.partition(".")[0]


def walk(path: Path) -> Iterator[tuple[Path, str]]:
    if path.is_file():
        yield path, path.name
        return
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(set(folders) - IGNORED_FOLDERS)
        for name in sorted(files):
            if not IGNORED_FILES.fullmatch(name):
                file = Path(folder, name)
                yield file, file.relative_to(path).as_posix()
