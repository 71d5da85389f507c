"""Renews the workers when the gateway's own configuration changes, or the code that wrappers share."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES
from pathlib import Path
from time import monotonic

from gateway.errors import ConfigError
from gateway.settings import Origins, Settings, check_folders, load_settings
from gateway.source import IGNORED_FILES, IGNORED_FOLDERS
from gateway.telemetry.log import log

CONFIGURATION = ("gateway.toml", ".env")
CODE = (*SOURCE_SUFFIXES, *EXTENSION_SUFFIXES)
FIXED = ("host", "port", "workers", "wrappers_dir", "state_dir")  # of the process that holds the socket and the lock
LOOK_S = 0.25  # between two looks, of which
LOOKING = 0.05  # is the share of the time at the most: the folder of shared code may be a large one

Renew = Callable[[Settings, Mapping[str, str]], Awaitable[None]]
Look = Mapping[Path, tuple[int, int, int, int]]  # time, time of the inode, size and inode of each file


class Reloader:
    """Looks, instead of being told: a folder may vanish and come back, a file be a link whose target is replaced."""

    def __init__(self, settings: Settings, origins: Origins, renew: Renew) -> None:
        """`settings`: what the workers have been started with."""
        self._settings = settings
        self._origins = origins
        self._renew = renew
        self._seen = _code(self._look())  # the configuration may have changed since it was loaded
        self._environ = origins.read_environ()
        self._loaded = load_settings(origins.typed, self._environ, origins.folder)

    async def watch(self) -> None:
        """Until it is cancelled."""
        before = self._seen
        while True:
            begun_s = monotonic()
            now = await asyncio.to_thread(self._look)
            pause_s = max(LOOK_S, (monotonic() - begun_s) / LOOKING)
            if now == before and now != self._seen:  # it has come to rest
                await self._heed(now)
            before = now
            await asyncio.sleep(pause_s)

    async def _heed(self, now: Look) -> None:
        before, self._seen = self._seen, now
        try:
            await self._reload(is_code_changed=_code(before) != _code(now))
        except ConfigError as error:
            log.error("the changed configuration is not taken up", reason=error.message)
        except Exception:  # the next change is awaited all the same
            log.exception("the workers could not be renewed")

    async def _reload(self, *, is_code_changed: bool) -> None:
        origins = self._origins
        environ = origins.read_environ()
        loaded = load_settings(origins.typed, environ, origins.folder)
        kept = [name for name in FIXED if getattr(loaded, name) != getattr(self._loaded, name)]
        if kept:
            log.warning("these settings change with a restart only", settings=kept)
        fresh = loaded.model_copy(update={name: getattr(self._settings, name) for name in FIXED})
        check_folders(fresh)
        if is_code_changed or (fresh, environ) != (self._settings, self._environ):
            self._settings, self._environ = fresh, environ
            files = _code(await asyncio.to_thread(self._look))  # of another folder now, maybe
            self._seen = {**{path: key for path, key in self._seen.items() if path.name in CONFIGURATION}, **files}
            log.info("the configuration or shared code has changed: the workers are renewed")
            await self._renew(fresh, environ)

    def _look(self) -> Look:
        found = {}
        for path in (*(self._origins.folder / name for name in CONFIGURATION), *self._code_files()):
            try:
                stat = path.stat()
            except OSError:
                continue
            found[path] = (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino)
        return found

    def _code_files(self) -> Iterator[Path]:
        """Wrappers have their own watcher, wherever they stand."""
        root = self._settings.additional_python_path
        if root is None:
            return
        wrappers = self._settings.wrappers_dir.absolute()
        for place, folders, files in os.walk(root.absolute()):
            folder = Path(place)
            folders[:] = [
                name for name in folders if name[0] != "." and name not in IGNORED_FOLDERS and folder / name != wrappers
            ]
            yield from (folder / name for name in files if name.endswith(CODE) and not IGNORED_FILES.fullmatch(name))


def _code(look: Look) -> Look:
    return {path: key for path, key in look.items() if path.name not in CONFIGURATION}
