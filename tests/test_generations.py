"""The generations on a real disk and a real database: what is the user's is never lost, what is on record is there."""

import asyncio
import itertools
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gateway import generations as module
from gateway import team
from gateway.deployer import Deployer
from gateway.errors import GatewayError, LoadError, NotFound
from gateway.follower import Follower
from gateway.generations import Generations
from gateway.limiter import Limiter
from gateway.record import Kept, Records
from gateway.registry import Deployment, Registry
from gateway.settings import Settings
from gateway.source import Found, scan
from gateway.standing import NOTHING, Standing
from gateway.state import State
from gateway.team import Team
from gateway.tracker import Tracker
from gateway.wrapper import Limits
from tests.test_publication import FULL, Crash, Steps, contents, raiser, snapshot, write

ENTRY = "pipeline_wrapper.py"
Content = dict[str, bytes]
WAIT_S = 10.0
LAST = 500  # no way takes so many steps


class Home:
    """A wrappers folder and a state, and what the gateway does with them, without its workers."""

    def __init__(self, root: Path) -> None:
        self.wrappers = root / "wrappers"
        self.wrappers.mkdir(parents=True)
        self.state = State(root / "state")
        self.generations = Generations(self.state, self.wrappers)
        self.is_copying = True  # what stands in the folder and is not too large

    @property
    def records(self) -> Records:
        return self.generations.records

    def write(self, files: Content, name: str = "w") -> None:
        """As the user does, a folder or (with a name like `w.yml`) a file."""
        write(self.wrappers if name.endswith(".yml") else self.wrappers / name, files)

    def follow(self, name: str = "w", failure: str | None = None) -> None:
        """What stands in the folder is seen, and serves, or fails with a reason."""
        found, digest = self.generations.locate(name)
        number = self.records.next_number(name)
        if failure is None:
            if self.is_copying and found is not None:
                self.generations.copy(name, number, found)
            self.records.decide(name, Standing(number, digest=digest))
        else:
            self.records.note_failure(name, digest, failure)

    def undeploy(self, name: str = "w") -> None:
        standing, digest = self.records.standing(name), self.generations.locate(name)[1]
        self.records.decide(name, Standing(standing.number, standing.is_kept, digest, is_undeployed=True))

    def stage(self, files: Content, *, saved: bool = True, origin: Any = "deploy", name: str = "w") -> Kept:
        number = self.records.next_number(name)
        found = self.generations.stage(name, number, files)
        self.records.propose(name, number, is_kept=True)
        return Kept(number, origin, "", found.is_yaml, saved, 1)

    def deploy(self, files: Content, *, saved: bool = True, origin: Any = "deploy", name: str = "w") -> int:
        kept = self.stage(files, saved=saved, origin=origin, name=name)
        self.generations.settle(name, kept)
        self.generations.prune(name)
        return kept.number

    def restart(self) -> None:
        """Another process, which takes stock."""
        self.state.close()
        self.generations = Generations(self.state, self.wrappers)
        self.generations.sweep()
        for name in self.records.unfinished():
            self.generations.recover(name)
        found = {each.name: each for each in scan(self.wrappers)}
        digests = {name: self.generations.fingerprint(each.path) for name, each in found.items()}
        self.generations.take_stock(found, digests)

    def kept(self, name: str = "w") -> dict[int, Content]:
        """All that can be gone back to."""
        numbers = [kept.number for kept in self.records.history(name)]
        return {number: read(self.generations.read(name, number)) for number in numbers}

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """All that is on record, but for the last number: none is given twice."""
        with self.state.snapshot() as rows:
            found = {table: [dict(row) for row in rows.execute(f"SELECT * FROM {table}")] for table in TABLES}
        for row in found["wrappers"]:
            del row["last_number"]
        return found

    def disk(self) -> Any:
        return snapshot(self.wrappers), snapshot(self.state.folder("generations")), snapshot(self.state.folder("trash"))


TABLES = ("wrappers", "generations", "uses")


def read(files: dict[str, Path]) -> Content:
    return {place: path.read_bytes() for place, path in files.items()}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path)
    yield home
    home.state.close()


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    steps = Steps(monkeypatch)
    steps.watch(monkeypatch, State, "transaction")
    return steps


# Numbers.
def test_number_is_given_once(home: Home) -> None:
    assert [home.records.next_number("w") for _ in range(3)] == [1, 2, 3]
    assert home.records.next_number("other") == 1
    home.records.decide("w", NOTHING)
    home.restart()
    assert home.records.next_number("w") == 4
    assert home.records.standings() == {"w": NOTHING, "other": NOTHING}


def test_number_of_what_is_kept_of_the_users_is_given_once(home: Home) -> None:
    home.write({ENTRY: b"user"})
    home.restart()
    assert home.deploy({ENTRY: b"new"}) == 2
    home.write({ENTRY: b"edit"})
    home.deploy({ENTRY: b"newer"})
    assert home.records.next_number("w") == 5


# Files.
def test_stage_writes_bytes_and_files_with_their_modes(home: Home, tmp_path: Path) -> None:
    script = write(tmp_path, {"script": b"#!/bin/sh\r\n\0"}) / "script"
    script.chmod(0o750)
    found = home.generations.stage("w", 1, {ENTRY: b"", "deep/er/data": bytes(range(256)), "script": script})
    folder = home.state.folder("generations") / "w" / "1"
    assert found == Found("w", folder)
    assert contents(folder) == {ENTRY: b"", "deep/er/data": bytes(range(256)), "script": b"#!/bin/sh\r\n\0"}
    assert snapshot(folder)["script"][0] == 0o750
    assert home.generations.source("w", 1, is_kept=True) == found


def test_stage_of_yaml_gives_the_file(home: Home) -> None:
    found = home.generations.stage("w", 1, {"w.yml": b"components: {}"})
    assert found == Found("w", home.state.folder("generations") / "w" / "1" / "w.yml")


@pytest.mark.parametrize("is_first", [True, False])
def test_stage_that_fails_at_any_step_leaves_nothing(home: Home, steps: Steps, *, is_first: bool) -> None:
    if not is_first:
        home.generations.stage("w", 7, {ENTRY: b"another"})
    before = home.disk()
    for stop in range(LAST):
        with suppress(OSError), steps.at(stop, raiser(FULL)):
            home.generations.stage("w", 8, {ENTRY: b"x", "data/a": b"a"})
            break
        assert home.disk() == before, f"step {stop}"
    assert stop == steps.count > 3


def test_stage_over_a_number_that_is_there_harms_it_not(home: Home) -> None:
    number = home.deploy({ENTRY: b"v1"})
    with pytest.raises(FileExistsError):
        home.generations.stage("w", number, {ENTRY: b"v2"})
    assert home.kept() == {number: {ENTRY: b"v1"}}


def test_read_raises_for_what_is_not_kept(home: Home) -> None:
    home.deploy({ENTRY: b"v1"})
    home.generations.stage("w", 9, {ENTRY: b"staged"})  # and never settled
    for number in (9, 10):
        with pytest.raises(NotFound, match=f"generation {number} of w is not kept"):
            home.generations.read("w", number)
    shutil.rmtree(home.state.folder("generations") / "w" / "1")
    with pytest.raises(NotFound, match="generation 1 of w is not kept"):
        home.generations.read("w", 1)
    assert home.generations.source("w", 1, is_kept=True) is None


def test_locate_tells_what_stands_there_and_its_digest(home: Home) -> None:
    assert home.generations.locate("w") == (None, "")
    home.write({"w.yml": b"a"}, "w.yml")
    found, digest = home.generations.locate("w")
    assert found == Found("w", home.wrappers / "w.yml")
    home.write({ENTRY: b"a"})
    found, other = home.generations.locate("w")
    assert (found, other != digest, len(other) >= 64) == (Found("w", home.wrappers / "w"), True, True)
    home.write({"data": b""})
    assert home.generations.locate("w")[1] != other
    assert home.generations.source("w", 5, is_kept=False) == found


# The one that serves.
@pytest.mark.parametrize("saved", [True, False])
@pytest.mark.parametrize("place", [ENTRY, "w.yml"])
def test_settle_makes_it_the_one_that_serves(home: Home, place: str, *, saved: bool) -> None:
    number = home.deploy({place: b"new"}, saved=saved)
    disk = {} if not saved else {"w.yml": b"new"} if place == "w.yml" else {f"w/{ENTRY}": b"new"}
    assert contents(home.wrappers) == disk
    digest = home.generations.locate("w")[1]
    assert home.records.standing("w") == Standing(number, is_kept=True, digest=digest)
    assert home.records.history("w") == [Kept(number, "deploy", "", place == "w.yml", saved, 1)]
    assert [type(kept.is_saved) for kept in home.records.history("w")] == [bool]
    assert home.kept() == {number: {place: b"new"}}
    home.restart()
    assert home.records.standing("w") == Standing(number, is_kept=True, digest=digest)


USER = {ENTRY: b"user", "data": b"user"}
# what happened before, what is deployed then, what stands there afterwards, what has been kept of the user's
KEEPING: dict[str, tuple[Callable[[Home], object], Content, Content, list[Content]]] = {
    "there was nothing": (lambda home: None, {ENTRY: b"new"}, {ENTRY: b"new"}, []),
    "a folder served": (
        lambda home: (home.write(USER), home.follow()),
        {ENTRY: b"new"},
        {ENTRY: b"new", "data": b"user"},
        [USER],
    ),
    "a folder has not been seen yet": (lambda home: home.write(USER), {ENTRY: b"new"}, {**USER, ENTRY: b"new"}, [USER]),
    "a folder did not load": (
        lambda home: (home.write(USER), home.follow(failure="x")),
        {ENTRY: b"new"},
        {**USER, ENTRY: b"new"},
        [USER],
    ),
    "a folder of data stood there": (
        lambda home: home.write({"data": b"user"}),
        {ENTRY: b"new", "data": b"new"},
        {ENTRY: b"new", "data": b"new"},
        [{"data": b"user"}],
    ),
    "a deploy follows a deploy": (lambda home: home.deploy({ENTRY: b"v1"}), {ENTRY: b"v2"}, {ENTRY: b"v2"}, []),
    "a deploy was edited": (
        lambda home: (home.deploy({ENTRY: b"v1"}), home.write({ENTRY: b"user"}), home.follow()),
        {ENTRY: b"v2"},
        {ENTRY: b"v2"},
        [{ENTRY: b"user"}],
    ),
    "a deploy was edited a moment ago": (
        lambda home: (home.deploy({ENTRY: b"v1"}), home.write({ENTRY: b"user"})),
        {ENTRY: b"v2"},
        {ENTRY: b"v2"},
        [{ENTRY: b"user"}],
    ),
    "a deploy was edited, and did not load": (
        lambda home: (home.deploy({ENTRY: b"v1"}), home.write({ENTRY: b"user"}), home.follow(failure="x")),
        {ENTRY: b"v2"},
        {ENTRY: b"v2"},
        [{ENTRY: b"user"}],
    ),
    "a deploy was edited, did not load, and was taken down": (
        lambda home: (
            home.deploy({ENTRY: b"v1"}),
            home.write({ENTRY: b"user"}),
            home.follow(failure="x"),
            home.undeploy(),
        ),
        {ENTRY: b"v2"},
        {ENTRY: b"v2"},
        [{ENTRY: b"user"}],
    ),
    "a deploy was taken down, then edited": (
        lambda home: (home.deploy({ENTRY: b"v1"}), home.undeploy(), home.write({ENTRY: b"user"}), home.restart()),
        {ENTRY: b"v2"},
        {ENTRY: b"v2"},
        [{ENTRY: b"user"}],
    ),
    "a deploy that is not saved covers a folder": (
        lambda home: (home.write(USER), home.follow(), home.deploy({ENTRY: b"v1"}, saved=False)),
        {ENTRY: b"v2"},
        {ENTRY: b"v2", "data": b"user"},
        [USER],
    ),
    "a deploy that is not saved had a file of the user's name": (
        lambda home: (home.write(USER), home.follow(), home.deploy({ENTRY: b"v1", "data": b"v1"}, saved=False)),
        {ENTRY: b"v2"},
        {ENTRY: b"v2", "data": b"user"},
        [USER],
    ),
    "the user's data stood beside a deploy for long": (
        lambda home: (home.write({"data": b"user"}), [home.deploy({ENTRY: b"v%d" % each}) for each in range(7)]),
        {ENTRY: b"v9", "data": b"new"},
        {ENTRY: b"v9", "data": b"new"},
        [{ENTRY: b"v6", "data": b"user"}],
    ),
    "the user has put data beside a deploy": (
        lambda home: (home.deploy({ENTRY: b"v1"}), home.write({"data": b"user"}), home.follow()),
        {ENTRY: b"v2"},
        {ENTRY: b"v2", "data": b"user"},
        [{ENTRY: b"v1", "data": b"user"}],
    ),
    "what a deploy brought is obsolete": (
        lambda home: home.deploy({ENTRY: b"v1", "a/b/c": b"v1", "d": b"v1"}),
        {ENTRY: b"v2"},
        {ENTRY: b"v2"},
        [],
    ),
    "what a deploy brought is obsolete, and was edited": (
        lambda home: (home.deploy({ENTRY: b"v1", "d": b"v1"}), home.write({"d": b"user"})),
        {ENTRY: b"v2"},
        {ENTRY: b"v2"},
        [{ENTRY: b"v1", "d": b"user"}],
    ),
    "what the user had was put back": (
        lambda home: home.deploy({ENTRY: b"user", "d": b"user"}, origin="folder"),
        {ENTRY: b"v2"},
        {ENTRY: b"v2", "d": b"user"},
        [],
    ),
    "a YAML pipeline stood beside its folder": (
        lambda home: (home.deploy({"w.yml": b"v1"}), home.write({"w.yml": b"user"})),
        {ENTRY: b"v2"},
        {ENTRY: b"v2", "w.yml": b"user"},
        [],
    ),
    "a YAML pipeline was edited": (
        lambda home: (home.deploy({"w.yml": b"v1"}), home.write({"w.yml": b"user"}, "w.yml")),
        {"w.yml": b"v2"},
        {},
        [{"w.yml": b"user"}],
    ),
    "a YAML pipeline covers the user's": (
        lambda home: (
            home.write({"w.yml": b"user"}, "w.yml"),
            home.follow(),
            home.deploy({"w.yml": b"1"}, saved=False),
        ),
        {"w.yml": b"v2"},
        {},
        [{"w.yml": b"user"}],
    ),
    "a YAML pipeline follows another": (lambda home: home.deploy({"w.yml": b"v1"}), {"w.yml": b"v2"}, {}, []),
}


@pytest.mark.parametrize("is_copied", [True, False])
@pytest.mark.parametrize("case", KEEPING)
def test_settle_keeps_what_it_replaces_of_the_users(home: Home, case: str, *, is_copied: bool) -> None:
    happen, files, expected, users = KEEPING[case]
    home.is_copying = is_copied
    happen(home)
    before = home.kept()
    number = home.deploy(files)
    assert contents(home.wrappers / "w") == expected
    kept = home.kept()
    assert kept.pop(number) == files
    new = [kept[each] for each in sorted(kept.keys() - before.keys())]
    assert new in (users, [each for each in users if each not in before.values()])
    assert all(each in kept.values() for each in users)
    digest = home.generations.locate("w")[1]
    assert home.records.standing("w") == Standing(number, is_kept=True, digest=digest)
    assert list(home.state.folder("trash").iterdir()) == []


def test_settle_gives_what_served_from_the_folder_its_own_number(home: Home) -> None:
    home.write(USER)
    home.follow()
    number = home.deploy({ENTRY: b"new"})
    assert [kept.number for kept in home.records.history("w")] == [number, number - 1]
    assert home.kept()[number - 1] == USER


def test_settle_keeps_modes_of_the_users(home: Home) -> None:
    home.write(USER)
    (home.wrappers / "w" / "data").chmod(0o640)
    home.follow()
    number = home.deploy({ENTRY: b"new", "data": b"new"})
    assert home.generations.read("w", number - 1)["data"].stat().st_mode & 0o777 == 0o640
    assert (home.wrappers / "w" / "data").stat().st_mode & 0o777 == 0o640


# What fails, and what is cut off. What happened before, and what is deployed then:
WAYS: dict[str, tuple[Callable[[Home], object], Content, bool]] = {
    "the first deploy": (lambda home: None, {ENTRY: b"new", "data/a": b"new"}, True),
    "over a folder": (
        lambda home: (home.write({ENTRY: b"user", "data/a": b"user", "own": b"user"}), home.follow()),
        {ENTRY: b"new", "data/a": b"new", "data/b": b"new"},
        True,
    ),
    "over a deploy that was edited": (
        lambda home: (
            home.deploy({ENTRY: b"v1", "gone/er": b"v1", "data": b"v1"}),
            home.write({ENTRY: b"user", "own": b"user"}),
            home.follow(failure="x"),
        ),
        {ENTRY: b"new", "data/a": b"new"},
        True,
    ),
    "not saved, over a folder": (lambda home: (home.write(USER), home.follow()), {ENTRY: b"new"}, False),
    "over what is not saved": (
        lambda home: (home.write(USER), home.follow(), home.deploy({ENTRY: b"v1", "data": b"v1"}, saved=False)),
        {ENTRY: b"new"},
        True,
    ),
    "YAML over YAML": (
        lambda home: (home.write({"w.yml": b"user"}, "w.yml"), home.follow()),
        {"w.yml": b"new"},
        True,
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_settle_that_fails_at_any_step_leaves_disk_and_record_as_they_were(
    tmp_path: Path, steps: Steps, way: str
) -> None:
    happen, files, saved = WAYS[way]
    homes = (Home(tmp_path / str(number)) for number in itertools.count())
    home = None
    for stop in range(LAST):
        if home is None:
            home = next(homes)
            happen(home)
            before, disk = home.records.standing("w"), home.disk()
        kept = home.stage(files, saved=saved)
        rows = home.rows()
        for row in rows["wrappers"]:
            row["proposed"] = None
        try:
            with steps.at(stop, raiser(FULL)):
                home.generations.settle("w", kept)
        except OSError:
            assert (home.disk(), home.rows()) == (disk, rows), f"step {stop}"
            assert home.records.standing("w") == replace(before, is_proposed_kept=True)
        else:  # it can do without the step, or it was decided already
            assert home.records.standing("w").number == kept.number
            assert home.kept()[kept.number] == files
            home.state.close()
            home = None
            if stop == steps.count:
                break
    assert stop == steps.count


def users_files(content: Content) -> Content:
    return {place: bytes_ for place, bytes_ in content.items() if bytes_.startswith(b"user")}


def missing(home: Home, before: Content) -> list[tuple[str, bytes]]:
    """What was the user's, and is neither in the folder nor kept."""
    now, kept = contents(home.wrappers), home.kept().values()
    places = [(place, content) for place, content in users_files(before).items() if now.get(place) != content]
    return [
        (place, content)
        for place, content in places
        if content not in [each.get(place.removeprefix("w/")) for each in kept]
    ]


@pytest.mark.parametrize("way", WAYS)
def test_crash_at_any_step_is_ended_at_the_next_start(tmp_path: Path, steps: Steps, way: str) -> None:
    happen, files, saved = WAYS[way]
    ends: list[bool] = []
    for stop in range(LAST):
        home = Home(tmp_path / str(stop))
        happen(home)
        before, was, kept_before = contents(home.wrappers), home.records.standing("w"), home.kept()
        kept = home.stage(files, saved=saved)
        try:
            with steps.crash_at(stop):
                home.generations.settle("w", kept)
            is_through = True
        except Crash:
            is_through = False
        home.restart()
        standing = home.records.standing("w")
        assert missing(home, before) == [], f"step {stop}"
        assert [path.name for path in home.wrappers.rglob("*.part")] == []
        assert not standing.is_unfinished
        assert [number for number in kept_before if home.kept().get(number) != kept_before[number]] == []
        ends.append(standing.number == kept.number)
        if ends[-1]:
            assert home.kept()[kept.number] == files
            place = home.wrappers if "w.yml" in files else home.wrappers / "w"
            assert not saved or files.items() <= contents(place).items()
        else:
            assert contents(home.wrappers) == before, f"step {stop}"
            assert (standing.number, standing.is_kept) == (was.number, was.is_kept)
        folders = {int(path.name) for path in home.state.folder("generations").glob("w/*")}
        assert folders == set(home.kept()), "what is on record is on the disk, and nothing else"
        number = home.records.next_number("w")
        assert number > max([kept.number, *home.kept()])
        home.state.close()
        if is_through:
            break
    assert ends == sorted(ends), "the old one first, from one step on the new one"
    assert {True, False} == set(ends)


@pytest.mark.parametrize("way", ["over a deploy that was edited", "YAML over YAML"])
def test_edit_after_a_crash_at_any_step_is_not_lost(tmp_path: Path, steps: Steps, way: str) -> None:
    happen, files, saved = WAYS[way]
    late = {"w.yml" if "w.yml" in files else f"w/{ENTRY}": b"user, late"}
    for stop in range(LAST):
        home = Home(tmp_path / str(stop))
        happen(home)
        kept = home.stage(files, saved=saved)
        with suppress(Crash), steps.crash_at(stop):
            home.generations.settle("w", kept)
        write(home.wrappers, late)
        home.restart()
        assert missing(home, late) == [], f"step {stop}"
        home.state.close()
        if stop >= steps.count:
            break


def test_crash_of_the_start_after_a_crash_loses_nothing(tmp_path: Path, steps: Steps) -> None:
    happen, files, saved = WAYS["over a deploy that was edited"]
    for stop in range(11, LAST, 7):
        for again in range(0, LAST, 3):
            home = Home(tmp_path / f"{stop}.{again}")
            happen(home)
            before = contents(home.wrappers)
            kept = home.stage(files, saved=saved)
            is_through = True
            with suppress(Crash), steps.crash_at(stop):
                home.generations.settle("w", kept)
                stop = -1
            with suppress(Crash), steps.crash_at(again):
                home.restart()
                again = -1
            home.restart()
            assert missing(home, before) == [], f"steps {stop}, {again}"
            assert not home.records.standing("w").is_unfinished
            is_through = again == -1
            home.state.close()
            if is_through:
                break
        if stop == -1:
            break
    assert stop == -1


@pytest.mark.parametrize("way", WAYS)
def test_disk_that_takes_nothing_any_more_costs_no_file_of_the_users(tmp_path: Path, steps: Steps, way: str) -> None:
    """A mount turns read-only in the middle: it can be neither ended nor undone; the database is elsewhere."""
    happen, files, saved = WAYS[way]
    for stop in range(LAST):
        home = Home(tmp_path / str(stop))
        happen(home)
        before = contents(home.wrappers)
        kept = home.stage(files, saved=saved)
        with suppress(OSError), steps.at(stop, raiser(FULL), is_lasting=True, spared="transaction"):
            home.generations.settle("w", kept)
            stop = -1
        home.restart()
        assert missing(home, before) == [], f"step {stop}"
        home.state.close()
        if stop == -1:
            break
    assert stop == -1


@pytest.mark.parametrize("way", ["over a folder", "over a deploy that was edited", "YAML over YAML"])
def test_edit_at_any_step_of_a_deploy_is_not_lost(tmp_path: Path, steps: Steps, way: str) -> None:
    happen, files, saved = WAYS[way]
    place = "w.yml" if "w.yml" in files else f"w/{ENTRY}"
    for stop in range(LAST):
        home = Home(tmp_path / str(stop))
        happen(home)
        kept = home.stage(files, saved=saved)
        with (
            suppress(OSError, GatewayError),
            steps.at(stop, partial((home.wrappers / place).write_bytes, b"user, late")),
        ):
            home.generations.settle("w", kept)
        assert missing(home, {place: b"user, late"}) == [] or stop >= steps.count, f"step {stop}"
        home.state.close()
        if stop >= steps.count:
            break


def test_deploy_after_a_worker_has_died_in_one(home: Home, steps: Steps) -> None:
    """The others live on, so that nothing is swept."""
    happen, files, _ = WAYS["over a folder"]
    happen(home)
    before = contents(home.wrappers)
    for stop in range(LAST):
        kept = home.stage(files)
        with suppress(Crash), steps.crash_at(stop):
            home.generations.settle("w", kept)
        home.generations.recover("w")
        assert missing(home, before) == [], f"step {stop}"
        number = home.deploy({ENTRY: b"next"})
        assert home.records.standing("w").number == number
        assert missing(home, before) == [], f"step {stop}"
        if stop >= steps.count:
            break
        shutil.rmtree(home.wrappers / "w")
        home.records.decide("w", NOTHING)
        happen(home)


def test_recover_tells_what_it_has_ended(home: Home, steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    steps.watch(monkeypatch, Records, "decide")
    home.deploy({ENTRY: b"v1"})
    assert home.records.unfinished() == []
    home.stage({ENTRY: b"v2"})
    assert home.records.unfinished() == ["w"]
    assert home.generations.recover("w") is None
    assert home.records.unfinished() == []
    kept = home.stage({ENTRY: b"v3"})
    with pytest.raises(Crash), steps.crash_at("decide"):
        home.generations.settle("w", kept)
    assert home.records.unfinished() == ["w"]
    assert home.generations.recover("w") == kept.number
    assert home.generations.recover("w") is None


def test_recover_that_cannot_end_it_keeps_the_same_only_once(
    home: Home, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps.watch(monkeypatch, Records, "decide")
    home.write(USER)
    home.follow()
    kept = home.stage({ENTRY: b"new", "data": b"new"})
    with pytest.raises(Crash), steps.crash_at("copyfile"):
        home.generations.settle("w", kept)
    assert home.records.standing("w").publishing == kept.number
    for _ in range(8):
        with pytest.raises(OSError, match="No space"), steps.at("copyfile", raiser(FULL)):
            home.generations.recover("w")
    assert home.generations.recover("w") == kept.number
    assert list(home.kept().values()) == [{ENTRY: b"new", "data": b"new"}, USER]


# The start.
def test_take_stock_of_what_is_new_changed_gone_and_refused(home: Home) -> None:
    for name in ("same", "edited", "gone", "down", "status"):
        home.write({ENTRY: b"1"}, name)
    home.restart()
    first = home.records.standings()
    assert {name: standing.number for name, standing in first.items()} == {
        "same": 1,
        "edited": 1,
        "gone": 1,
        "down": 1,
        "status": None,
    }
    home.undeploy("down")
    home.write({ENTRY: b"2"}, "edited")
    home.write({ENTRY: b"1"}, "new")
    shutil.rmtree(home.wrappers / "gone")
    home.restart()
    second = home.records.standings()
    assert second == {
        **first,
        "edited": Standing(2, digest=home.generations.locate("edited")[1]),
        "gone": NOTHING,
        "new": Standing(1, digest=home.generations.locate("new")[1]),
        "down": replace(first["down"], is_undeployed=True),
    }
    assert "reserved" in (second["status"].failure or "")
    home.write({ENTRY: b"1"}, "gone")
    home.restart()
    assert home.records.standing("gone").number == 2


@pytest.mark.parametrize("saved", [True, False])
@pytest.mark.parametrize("down", [True, False])
def test_take_stock_after_the_kept_files_were_taken_away(home: Home, *, saved: bool, down: bool) -> None:
    home.deploy({ENTRY: b"v1"}, saved=saved)
    if down:
        home.undeploy()
    shutil.rmtree(home.state.folder("generations"))
    home.restart()
    standing = home.records.standing("w")
    if down:
        assert (standing.is_undeployed, standing.is_kept) == (True, False)
    else:
        digest = home.generations.locate("w")[1]
        assert standing == (Standing(2, digest=digest) if saved else NOTHING)


def test_sweep_forgets_workers_and_what_is_on_no_record(home: Home) -> None:
    number = home.deploy({ENTRY: b"v1"})
    home.records.hold(7, "w", number)
    home.generations.stage("w", 5, {ENTRY: b"cut off"})
    home.generations.stage("other", 1, {ENTRY: b"cut off"})
    write(home.state.folder("trash"), {"0123/0": b"cut off"})
    home.generations.sweep()
    assert home.kept() == {number: {ENTRY: b"v1"}}
    assert home.rows()["uses"] == []
    assert contents(home.state.folder("generations")) == {f"w/{number}/{ENTRY}": b"v1"}
    assert contents(home.state.folder("trash")) == {}


# What is kept, and for how long.
def numbers(home: Home) -> list[int]:
    assert sorted(home.kept()) == sorted(int(path.name) for path in home.state.folder("generations").glob("w/*"))
    return [kept.number for kept in home.records.history("w")]


def test_prune_keeps_the_last_five(home: Home) -> None:
    for number in range(1, 9):
        home.deploy({ENTRY: b"%d" % number})
    assert numbers(home) == [8, 7, 6, 5, 4]


def test_prune_keeps_what_serves_and_what_is_in_use_by_any_worker(home: Home) -> None:
    home.deploy({ENTRY: b"1"})
    for worker in (1, 2):
        home.records.hold(worker, "w", 1)
        home.records.hold(worker, "w", 1)  # told twice
    for number in range(2, 8):
        home.deploy({ENTRY: b"%d" % number})
    assert numbers(home) == [7, 6, 5, 4, 3, 1]
    home.generations.release(1, "w", 1)
    home.generations.release(1, "other", 1)
    home.generations.release(2, "w", 2)
    assert numbers(home) == [7, 6, 5, 4, 3, 1]
    home.generations.release(2, "w", 1)
    assert numbers(home) == [7, 6, 5, 4, 3]
    home.records.decide("w", Standing(3, is_kept=True))
    for number in range(8, 14):
        kept = home.stage({ENTRY: b"%d" % number})
        with home.state.transaction() as rows:
            rows.execute("INSERT INTO generations VALUES ('w', ?, 'deploy', '', 0, 1, 1)", (kept.number,))
    home.generations.prune("w")
    assert numbers(home) == [13, 12, 11, 10, 9, 3]


def test_prune_of_one_name_leaves_the_others(home: Home) -> None:
    home.deploy({ENTRY: b"other"}, name="other")
    for number in range(7):
        home.deploy({ENTRY: b"%d" % number})
    assert home.kept("other") == {1: {ENTRY: b"other"}}


def test_undeploy_keeps_what_is_kept(home: Home) -> None:
    home.deploy({ENTRY: b"1"}, saved=False)
    home.undeploy()
    home.generations.prune("w")
    home.restart()
    assert numbers(home) == [1]
    assert home.records.standing("w") == Standing(1, is_kept=True, is_undeployed=True)


def test_record_that_cannot_be_written_is_said(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.deploy({ENTRY: b"v1"})
    kept = home.stage({ENTRY: b"v2"})
    disk = snapshot(home.wrappers)
    monkeypatch.setattr(Records, "decide", lambda *arguments: raiser(sqlite3.OperationalError("disk I/O error"))())
    with pytest.raises(sqlite3.OperationalError):
        home.generations.settle("w", kept)
    assert snapshot(home.wrappers) == disk
    assert numbers(home) == [1]


# Whatever the user and the gateway do, in whatever order, with a crash or a full disk at any step.
class Inline:
    """In the place of the pool: nothing happens beside anything else."""

    async def call(self, function: Callable[[], Any]) -> Any:
        return function()

    def start(self, function: Callable[[], Any]) -> None:
        function()


class Reader:
    """In the place of the preparer: a wrapper loads unless it says that it is broken."""

    async def prepare(self, found: Found, generation: int) -> Deployment:
        if found.fault is not None or b"broken" in (found.path / ENTRY).read_bytes():
            raise LoadError("broken")
        places = Limiter(1, 0, 1)
        return Deployment(found.name, generation, None, found.path, None, {}, Limits(), 0.0, places, places)

    def retire(self, deployment: Deployment, then: Callable[[], object]) -> None:
        then()


PLACES = st.sampled_from([ENTRY, ENTRY, "a.txt", "sub/b.txt", "own.txt"])
BROUGHT = st.sets(st.sampled_from(["a.txt", "sub/b.txt"]))
ACTS = st.sampled_from(["deploy", "deploy", "unsaved", "undeploy", "restore", "rollback", "look", "restart"])
STEPS = st.integers(0, 60)


class Machine(RuleBasedStateMachine):
    """`mine`: what the user has last written to each place, and believes to be there. `owed`: what was replaced by
    somebody else before that. `brought`: the places to which a deploy has brought anything.
    """

    def __init__(self) -> None:
        super().__init__()
        memory = Path("/dev/shm")  # hundreds of databases
        self.root = Path(tempfile.mkdtemp(prefix="gateway-test-", dir=memory if memory.is_dir() else None))
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(module, "KEPT", 3)
        self.patch.setattr(team, "BEAT_S", 0.001)
        self.steps = Steps(self.patch)
        self.steps.watch(self.patch, State, "transaction")
        self.runner = asyncio.Runner()
        self.home = Home(self.root)
        self.folder = self.home.wrappers / "w"
        self.counter = itertools.count(1)
        self.mine: Content = {}
        self.owed: list[tuple[str, bytes]] = []
        self.brought: set[str] = set()
        self.seen: dict[int, Content] = {}
        self.is_down = False

    def teardown(self) -> None:
        self.runner.close()
        self.home.state.close()
        self.patch.undo()
        shutil.rmtree(self.root)

    @initialize()
    def begin(self) -> None:
        self.run(self.start())

    # The user.
    @rule(place=PLACES, broken=st.booleans())
    def edit(self, place: str, *, broken: bool) -> None:
        self.give_up(place)
        content = b"user %d%s" % (next(self.counter), b" broken" * broken)
        write(self.folder, {place: content})
        self.mine[place] = content

    @rule(place=PLACES)
    def delete(self, place: str) -> None:
        self.give_up(place)
        (self.folder / place).unlink(missing_ok=True)

    @rule()
    def delete_all(self) -> None:
        for place in list(self.mine):
            self.give_up(place)
        shutil.rmtree(self.folder, ignore_errors=True)

    def give_up(self, place: str) -> None:
        """The user replaces what stands there: only what somebody else has replaced before is owed."""
        content = self.mine.pop(place, None)
        if content is not None and contents(self.folder).get(place) != content:
            self.owed.append((place, content))

    # The gateway.
    @rule(act=ACTS, places=BROUGHT, broken=st.booleans(), pick=st.integers(0, 5))
    @precondition(lambda self: not self.is_down)
    def act(self, act: str, places: set[str], pick: int, *, broken: bool) -> None:
        self.run(self.work(act, places, pick, broken=broken))

    @rule(act=ACTS, places=BROUGHT, pick=st.integers(0, 5), step=STEPS)
    @precondition(lambda self: not self.is_down)
    def fail(self, act: str, places: set[str], pick: int, step: int) -> None:
        before, serving = contents(self.folder), self.home.records.standing("w").number
        with self.steps.at(step, raiser(FULL)):
            is_done = self.run(self.work(act, places, pick, broken=False))
        if not is_done and self.home.records.standing("w").number == serving:
            assert contents(self.folder) == before
        self.is_down = act == "restart"  # whoever cannot start is started again

    @rule(act=ACTS, places=BROUGHT, pick=st.integers(0, 5), step=STEPS)
    @precondition(lambda self: not self.is_down)
    def crash(self, act: str, places: set[str], pick: int, step: int) -> None:
        self.die_at(step, self.work(act, places, pick, broken=False))

    @rule(step=STEPS)
    @precondition(lambda self: self.is_down)
    def crash_again(self, step: int) -> None:
        self.die_at(step, self.start())

    @rule()
    @precondition(lambda self: self.is_down)
    def start_again(self) -> None:
        self.is_down = False
        self.run(self.start())
        assert self.home.records.unfinished() == []

    def die_at(self, step: int, work: Coroutine[Any, Any, None]) -> None:
        with suppress(Crash, BaseExceptionGroup), self.steps.crash_at(step):
            self.run(work)
        self.is_down = self.steps.count > step

    def run(self, work: Coroutine[Any, Any, None]) -> bool:
        """Whether the gateway has not refused it."""
        try:
            self.runner.run(self.in_time(work))
        except TimeoutError:
            raise
        except (GatewayError, OSError):
            return False
        return True

    async def in_time(self, work: Coroutine[Any, Any, None]) -> None:
        async with asyncio.timeout(WAIT_S):
            await work

    async def start(self) -> None:
        self.home.state.close()
        self.home.generations = generations = Generations(self.home.state, self.home.wrappers)
        told = Settings(wrappers_dir=self.home.wrappers, state_dir=self.root / "state")
        pool: Any = Inline()
        preparer: Any = Reader()
        registry = Registry()
        follower = Follower(registry, pool, preparer, generations)
        alone = Team(told, self.home.state, pool, generations.records, follower, "")
        self.deployer = Deployer(self.home.wrappers, registry, pool, generations, alone)
        self.tracker = Tracker(told, registry, pool, generations, alone, self.deployer)
        await self.tracker.load_all()

    async def work(self, act: str, places: set[str], pick: int, *, broken: bool) -> None:
        content = b"deploy %d%s" % (next(self.counter), b" broken" * broken)
        files = dict.fromkeys((ENTRY, *sorted(places)), content)
        history = [kept.number for kept in self.home.records.history("w")]
        match act:
            case "deploy":
                await self.deployer.deploy("w", files, overwrite=True)
            case "unsaved":
                await self.deployer.deploy("w", {**files, "own.txt": content}, overwrite=True, is_saved=False)
            case "undeploy":
                await self.deployer.undeploy("w")
            case "restore":
                await self.deployer.restore("w")
            case "rollback":
                await self.deployer.rollback("w", history[pick] if pick < len(history) else None)
            case "look":
                await self.tracker.refresh()
                if others := asyncio.all_tasks() - {asyncio.current_task()}:
                    await asyncio.gather(*others)
            case "restart":
                await self.start()

    # What holds.
    @invariant()
    def nothing_of_the_users_is_lost(self) -> None:
        now = contents(self.folder)
        if not self.is_down:
            kept = self.home.kept().values()
            replaced = [(place, content) for place, content in self.mine.items() if now.get(place) != content]
            for place, content in (*self.owed, *replaced):
                assert content in [each.get(place) for each in kept], f"{content!r} of {place} is lost"
            self.owed.clear()
            standing = self.home.records.standing("w")
            saved = {each.number for each in self.home.records.history("w") if each.is_saved}
            if standing.is_kept and standing.number in saved:
                self.brought |= self.home.kept()[standing.number].keys()
            self.mine = {place: content for place, content in now.items() if content.startswith(b"user")}
        else:
            for place, content in self.mine.items():
                assert place in self.may_be_brought() or now.get(place) == content

    def may_be_brought(self) -> set[str]:
        return {
            ENTRY,
            "a.txt",
            "sub/b.txt",
            *self.brought,
            *(place for each in self.home.kept().values() for place in each),
        }

    @invariant()
    def what_no_deploy_has_brought_is_untouched(self) -> None:
        if self.is_down:
            return
        now = contents(self.folder)
        for place in set(self.mine) - self.brought:
            assert now.get(place) == self.mine[place], place

    @invariant()
    def what_is_on_record_is_on_the_disk(self) -> None:
        if self.is_down:
            return
        kept = self.home.kept()
        standing = self.home.records.standing("w")
        assert standing.number is None or not standing.is_kept or standing.number in kept
        for number, content in kept.items():
            assert self.seen.setdefault(number, content) == content, "what is kept never changes"
        assert [path.name for path in self.folder.rglob("*.part")] == []


def test_nothing_is_lost_whatever_happens(request: pytest.FixtureRequest) -> None:
    examples = int(os.environ.get("GATEWAY_TEST_EXAMPLES", "25"))
    told = settings(
        max_examples=examples,
        stateful_step_count=20,
        deadline=None,
        derandomize=examples == 25,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Machine, settings=told)
