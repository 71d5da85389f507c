"""The generations that are kept: their files, which never change, and their copies in the wrappers folder. Blocks."""

import errno
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import time

from gateway.errors import NotFound
from gateway.publication import Publication, remove_parts
from gateway.record import USERS, Kept, Origin, Records
from gateway.source import (
    ENTRY_MODULE,
    LARGE_BYTES,
    YAML_SUFFIXES,
    Fingerprints,
    Found,
    digest,
    has_same_code,
    locate,
    walk,
)
from gateway.standing import Standing, at_start
from gateway.state import State
from gateway.telemetry.log import log

KEPT = 5  # of each wrapper
DIED = "a process that was loading it has died"
ENTRY = f"{ENTRY_MODULE}.py"

Files = Mapping[str, bytes | Path]  # places, `/` between folders, each inside of the folder → content, or its file


class Generations:
    """`records`: what is on record of them."""

    def __init__(self, state: State, wrappers_dir: Path) -> None:
        """`wrappers_dir`: absolute."""
        self.records = Records(state)
        self._state = state
        self._wrappers_dir = wrappers_dir
        self._fingerprints = Fingerprints()

    def take_stock(self, found: Mapping[str, Found], digests: Mapping[str, str], *, is_new: bool = True) -> None:
        """Before anything serves: number what is new or has changed in the folder.

        `is_new`: at the start of a gateway, where what had failed is tried once more; else its workers have all died.
        """

        def rule(name: str, before: Standing, number: int) -> Standing:
            if before.is_unfinished or (not is_new and before.digest == digests.get(name, "")):
                return before  # somebody is at it, or has been
            has_copy = before.number is not None and self._folder(name, before.number).is_dir()
            if before.is_kept and not has_copy:
                before = replace(before, number=None, is_kept=False)  # somebody has taken its files away
            fault = found[name].fault if name in found else None
            return at_start(before, digests.get(name, ""), fault, number, has_copy=has_copy)

        for name, number in self.records.take_stock(found, rule).items():
            self.copy(name, number, found[name])

    # What stands in the wrappers folder.
    def fingerprint(self, path: Path) -> str:
        return self._fingerprints.of(path)

    def locate(self, name: str) -> tuple[Found | None, str]:
        """What stands under this name in the wrappers folder, and its digest."""
        found = locate(self._wrappers_dir, name)
        return found, "" if found is None else self.fingerprint(found.path)

    # The files that are kept.
    def stage(self, name: str, number: int, files: Files, *, is_durable: bool = True) -> Found:
        """Write the files of a generation; nothing of it is left when that fails. `is_durable`: to the disk itself."""
        folder = self._folder(name, number)
        if folder.exists():  # it is another's: nothing of it is to be taken away
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder))
        try:
            folder.mkdir(parents=True)
            for place, content in files.items():
                path = folder / place
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("xb") as file:
                    if isinstance(content, bytes):
                        file.write(content)
                    else:
                        with content.open("rb") as source:
                            shutil.copyfileobj(source, file)
                        shutil.copymode(content, path)
                    if is_durable:
                        file.flush()
                        os.fsync(file.fileno())
        except BaseException:
            self.discard(name, number)
            raise
        return self._found(name, number)

    def read(self, name: str, number: int) -> dict[str, Path]:
        """The files of a kept generation, by their places. Raises `NotFound`."""
        folder = self._folder(name, number)
        if number not in {kept.number for kept in self.records.history(name)} or not folder.is_dir():
            raise NotFound(f"generation {number} of {name} is not kept; `pipeline list --history` shows which are")
        return {place: path for path, place in walk(folder)}

    def source(self, name: str, number: int, *, is_kept: bool, digest: str = "") -> Found | None:
        """What a generation is loaded from: the wrappers folder while its code is the same there. None: it is gone.

        `digest`: of the generation, where that is known without reading its copy.
        """
        copy = self._found(name, number) if self._folder(name, number).is_dir() else None
        if is_kept:
            return copy
        found = locate(self._wrappers_dir, name)
        if found is None or copy is None:
            return found or copy
        return found if has_same_code(self.fingerprint(found.path), digest or self.fingerprint(copy.path)) else copy

    def hold(self, worker: int, name: str, number: int, *, is_kept: bool, digest: str) -> Found | None:
        """The same, for a worker that loads it, and may read more of its files."""
        found = self.source(name, number, is_kept=is_kept, digest=digest)
        if found is not None:
            self.records.hold(worker, name, number)
        return found

    def copy(self, name: str, number: int, found: Found) -> None:
        """Keep what stands in the wrappers folder, for a worker that begins when it stands there no more, and so that
        one can go back to it. What is large is not copied.
        """
        try:
            files = _files(found.path)
            if sum(path.stat().st_size for path in files.values()) <= LARGE_BYTES:
                self._keep(name, number, files, "folder", is_durable=False)
        except OSError as error:  # it can be served all the same
            log.warning("what stands in the wrappers folder could not be kept", wrapper=name, reason=str(error))

    def settle(self, name: str, kept: Kept) -> None:
        """Make a staged generation, which all workers have prepared, the one that serves: all of it, or nothing.

        In one call, so that nobody can be cancelled between its steps; `recover` ends what a crash has cut off.
        """
        number, before = kept.number, self.records.standing(name)
        publication, spare, late = Publication(self._state.folder("trash")), None, None
        try:
            stood = self._contents(name, number)
            if kept.is_saved:
                spare = self._keep_what_is_replaced(name, number, before)
            self.records.begin_to_publish(name, kept)
            seen = self.locate(name)[1]
            if kept.is_saved:
                self._publish(name, number, before, publication)
                late = self._keep_late_edit(name, number, publication, stood)
                seen = self._published(name, number, before, stood)
            self.records.decide(name, Standing(number, is_kept=True, digest=seen))
        except BaseException:
            publication.undo()  # first: where that fails, the user's files are to stay kept
            self.records.abandon(name)
            for each in (number, spare, late):
                if each is not None:
                    self.discard(name, each)
            raise
        publication.finish()

    def discard(self, name: str, number: int) -> None:
        """Leave nothing of a generation."""
        self.records.forget(name, number)  # first: files without a row are swept, a row without files misleads
        folder = self._folder(name, number)
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # it keeps others
            folder.parent.rmdir()

    def release(self, worker: int, name: str, number: int) -> None:
        """A worker has closed it."""
        self.records.release(worker, name, number)
        self.prune(name)

    def prune(self, name: str) -> None:
        """Keep the last `KEPT`, what serves, and what is in use."""
        spared = {self.records.standing(name).number, *self.records.used(name)}
        for kept in self.records.history(name)[KEPT:]:
            if kept.number not in spared:
                self.discard(name, kept.number)

    # After a crash.
    def recover(self, name: str) -> int | None:
        """End what was cut off: what had begun to be published is brought to its end, anything else is taken back.

        Gives the number of what serves now, None when nothing has changed.
        """
        standing = self.records.standing(name)
        number = standing.publishing
        kept = next((each for each in self.records.history(name) if each.number == number), None)
        if number is None or kept is None or not self._folder(name, number).is_dir():
            self.records.abandon(name)
            if standing.proposed is not None and standing.proposed != standing.number:
                self.discard(name, standing.proposed)
            if standing.proposed is not None and not standing.is_proposed_kept:
                # Once it may have been chance; what kills whoever loads it must not be tried for ever.
                seen = self.locate(name)[1] if standing.failure == DIED else standing.digest
                self.records.note_failure(name, seen, DIED)
            return None
        found = self._found(name, number)
        seen = self.locate(name)[1]
        if kept.is_saved:
            place = self._place(found)
            remove_parts(place)
            stood = self._contents(name, number)
            known = {self.fingerprint(self._folder(name, each.number)) for each in self.records.history(name)}
            # Half of it may be the deploy's; what the user has changed since is kept as well.
            if place.exists() and self.fingerprint(place) not in known:
                self._keep(name, self.records.next_number(name), _files(place), "edit")
            publication = Publication(self._state.folder("trash"))
            try:
                self._publish(name, number, standing, publication)
            finally:
                publication.finish()
            seen = self._published(name, number, standing, stood)
        self.records.decide(name, Standing(number, is_kept=True, digest=seen))
        return number

    def sweep(self) -> None:
        """At the start of a gateway: forget its workers before, and what no deploy has come to the end of."""
        kept = {(name, str(number)) for name, number in self.records.sweep()}
        for folder in self._state.folder("generations").glob("*/*"):
            if (folder.parent.name, folder.name) not in kept:
                shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(self._state.folder("trash"), ignore_errors=True)

    def _keep_what_is_replaced(self, name: str, number: int, before: Standing) -> int | None:
        """The user's own work, unless it is kept already. Gives the number that it is kept under."""
        place = self._place(self._found(name, number))
        if not place.exists() or self._is_kept(name, number, before):
            return None
        is_serving = before.number is not None and not before.is_kept and before.digest == self.fingerprint(place)
        spare = before.number if is_serving and before.failure is None else None
        origin: Origin = "folder"
        if spare is not None and self.fingerprint(self._folder(name, spare)) == self.fingerprint(place):
            _sync(self._folder(name, spare))  # from here on it is the only one
            return None
        if spare is None or self._folder(name, spare).exists():  # also what a worker that died has left of it
            spare, origin = self.records.next_number(name), "edit"
        self._keep(name, spare, _files(place), origin)
        return spare

    def _contents(self, name: str, number: int) -> dict[str, bytes]:
        """Of what stands where this generation's copy is to stand."""
        return self._fingerprints.contents(self._place(self._found(name, number)))

    def _keep_late_edit(
        self, name: str, number: int, publication: Publication, stood: Mapping[str, bytes]
    ) -> int | None:
        """What the user has saved between `stood` and the moment it was replaced. Gives the number it is kept under."""
        place = self._place(self._found(name, number))
        replaced = {
            place.name if path == place else path.relative_to(place).as_posix(): kept
            for kept, path in publication.replaced
            if not kept.is_symlink()
        }
        if all(Fingerprints().of_file(kept) == stood.get(each) for each, kept in replaced.items()):
            return None
        late = self.records.next_number(name)
        self._keep(name, late, {**_files(place), **replaced}, "edit")
        return late

    def _published(self, name: str, number: int, before: Standing, stood: Mapping[str, bytes]) -> str:
        """The digest of the copy beside what `stood` there: what else is found there is its user's, and followed."""
        found = self._found(name, number)
        obsolete = () if found.is_yaml else self._obsolete(name, before)
        beside = {place: content for place, content in stood.items() if place not in obsolete}
        return digest({**beside, **Fingerprints().contents(found.path)})

    def _is_kept(self, name: str, number: int, before: Standing) -> bool:
        """Whether all that is to be replaced stands as the generation before has brought it.

        What the record's digest covers may be the user's: beside it, in its place, or seen when it was taken down.
        """
        if not before.is_kept or before.number is None:
            return False
        kept, found = self._folder(name, before.number), self._found(name, number)
        target = self._wrappers_dir if found.is_yaml else self._wrappers_dir / name
        places = {place for _, place in walk(found.path)}.union(() if found.is_yaml else self._obsolete(name, before))
        return all(Fingerprints().of(target / place) == Fingerprints().of(kept / place) for place in places)

    def _keep(self, name: str, number: int, files: Files, origin: Origin, *, is_durable: bool = True) -> None:
        """Copy what stands in the wrappers folder, so that one can go back to it."""
        found = self.stage(name, number, files, is_durable=is_durable)
        try:
            kept = Kept(number, origin, "", found.is_yaml, is_saved=True, created_at=int(time()))
            self.records.keep(name, kept, is_durable=is_durable)
        except BaseException:
            self.discard(name, number)
            raise

    def _publish(self, name: str, number: int, before: Standing, publication: Publication) -> None:
        """Copy a generation into the wrappers folder, in the place of the one that was published before."""
        found = self._found(name, number)
        if found.is_yaml:
            publication.replace([(found.path, found.path.name)], self._wrappers_dir, ())
        else:
            publication.replace(walk(found.path), self._wrappers_dir / name, self._obsolete(name, before))

    def _obsolete(self, name: str, before: Standing) -> list[str]:
        """What the generation before has brought into the wrapper's folder."""
        if not before.is_kept or before.number is None:
            return []
        # What the user has brought, and a rollback has only put back, is not the gateway's to take away.
        is_ours = any(
            kept.number == before.number and kept.origin not in USERS and kept.is_saved and not kept.is_yaml
            for kept in self.records.history(name)
        )
        return [place for _, place in walk(self._folder(name, before.number))] if is_ours else []

    def _place(self, found: Found) -> Path:
        """Where a generation's copy stands for its user."""
        return self._wrappers_dir / (found.path.name if found.is_yaml else found.name)

    def _folder(self, name: str, number: int) -> Path:
        return self._state.folder("generations") / name / str(number)

    def _found(self, name: str, number: int) -> Found:
        folder = self._folder(name, number)
        yaml = next((path for path in folder.iterdir() if path.stem == name and path.suffix in YAML_SUFFIXES), None)
        return Found(name, yaml if yaml is not None and not (folder / ENTRY).is_file() else folder)


def _sync(path: Path) -> None:
    for file, _ in walk(path):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())


def _files(path: Path) -> dict[str, Path]:
    return {place: file for file, place in walk(path) if file.is_file()}  # no pipes, no dead links
