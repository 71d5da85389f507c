"""One worker follows the record: real wrappers, real files, and no server."""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.follower import Answer, Follower
from gateway.generations import Generations
from gateway.loader import ROOT
from gateway.preparer import Preparer
from gateway.record import Kept
from gateway.registry import Deployment, Entry, Registry
from gateway.settings import Settings
from gateway.standing import NOTHING, Standing
from gateway.state import State
from gateway.thread import ThreadPool
from tests import probe

ENTRY = "pipeline_wrapper.py"
WORKER = 3
SETUP_FAILS = "def setup(self): raise OSError('no index')"
SETUP_FAILS_ONCE = """
    def setup(self):
        probe.current.set("setup")
        if probe.current.count("setup") == 1:
            raise OSError("no index")
"""
NO_INDEX = "OSError: no index"


def source(word: str, inside: str = "") -> str:
    """A wrapper that answers `word`, and notes when it is set up and closed."""
    return f"""
from tests import probe

class PipelineWrapper:
    def __init__(self):
        probe.current.note("{word} loaded")

    def close(self):
        probe.current.note("{word} closed")

    def run_api(self) -> str:
        return "{word}"

    {inside}
"""


class Worker:
    """A process with one follower, and what stands on record and on the disk."""

    def __init__(self, root: Path) -> None:
        self.wrappers = root / "wrappers"
        self.wrappers.mkdir(exist_ok=True)
        self.state = State(root / "state")
        self.generations = Generations(self.state, self.wrappers)
        self.records = self.generations.records
        self.registry = Registry()
        self.preparer = Preparer(Settings(), ThreadPool("test"))
        self.follower = Follower(self.registry, ThreadPool("test"), self.preparer, self.generations)
        self.follower.worker = WORKER

    def stage(self, number: int, word: str, inside: str = "") -> None:
        self.generations.stage("w", number, {ENTRY: source(word, inside).encode()})

    async def propose(self, number: int, *, is_kept: bool = True) -> Answer:
        self.records.propose("w", number, is_kept=is_kept)
        return await self.heed()

    async def decide(self, number: int | None, **values: Any) -> Answer:
        values = {"is_kept": True, **values}
        self.records.decide("w", Standing(number, **values))
        return await self.heed()

    async def withdraw(self) -> Answer:
        self.records.withdraw("w")
        return await self.heed()

    async def heed(self) -> Answer:
        await self.follower.heed("w")
        return self.follower.answer("w")

    def serving(self) -> Deployment:
        return self.registry.get("w")

    def word(self) -> str:
        word: str = self.serving().instance.run_api()
        return word

    def entry(self) -> tuple[str, str | None] | None:
        found = self.registry.snapshot.get("w")
        return None if found is None else (found.state, found.failure)

    def used(self) -> set[int]:
        return self.records.used("w")


def modules() -> list[str]:
    return sorted(name.removeprefix(f"{ROOT}.") for name in sys.modules if name.startswith(f"{ROOT}."))


def packages(*numbers: int) -> list[str]:
    return sorted(f"w_{number}{module}" for number in numbers for module in ("", ".pipeline_wrapper"))


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    probe.renew()
    yield
    left = modules()
    for name in left:  # the next test has its own
        del sys.modules[f"{ROOT}.{name}"]
    assert left == []


def run(root: Path, work: Callable[[Worker], Coroutine[Any, Any, None]]) -> None:
    """Do the work, and close what is left; then nothing is."""

    async def main() -> None:
        async with asyncio.timeout(probe.WAIT_S):
            worker = Worker(root)
            await work(worker)
            await worker.follower.close_all()
            worker.state.close()

    asyncio.run(main())


async def until(condition: Callable[[], Any]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def notes() -> list[str]:
    return list(probe.current.notes)


def test_proposed_is_prepared_and_serves_nobody(tmp_path: Path) -> None:
    async def work(worker: Worker) -> None:
        worker.stage(1, "first")
        assert await worker.propose(1) == Answer(prepared=1)
        assert (worker.entry(), worker.used()) == (None, {1})
        assert await worker.heed() == Answer(prepared=1)
        assert (notes(), modules()) == (["first loaded"], packages(1))

    run(tmp_path, work)
    assert notes() == ["first loaded", "first closed"]


def test_withdrawn_is_closed_and_its_files_are_let_go(tmp_path: Path) -> None:
    async def work(worker: Worker) -> None:
        worker.stage(1, "first")
        await worker.propose(1)
        assert await worker.withdraw() == Answer()
        await until(lambda: (notes(), modules(), worker.used()) == (["first loaded", "first closed"], [], set()))

    run(tmp_path, work)


def test_decided_is_swapped_in_and_the_old_one_closed_when_its_last_lease_ends(tmp_path: Path) -> None:
    async def work(worker: Worker) -> None:
        worker.stage(1, "first")
        worker.stage(2, "second")
        await worker.propose(1)
        assert await worker.decide(1) == Answer(serving=1, decided=1)
        old = worker.serving()
        old.leases.take()
        assert await worker.propose(2) == Answer(prepared=2, serving=1, decided=1)
        assert worker.word() == "first"
        assert await worker.decide(2) == Answer(serving=2, decided=2)
        assert (worker.word(), old.instance.run_api(), worker.used()) == ("second", "first", {1, 2})
        assert notes() == ["first loaded", "second loaded"]
        old.leases.release()
        await until(lambda: (modules(), worker.used()) == (packages(2), {2}))
        assert notes() == ["first loaded", "second loaded", "first closed"]

    run(tmp_path, work)
    assert notes()[-1] == "second closed"


def test_file_that_is_read_late_is_there_until_the_last_lease_ends(tmp_path: Path) -> None:
    late = "def read(self): return __import__('pathlib').Path(__file__).with_name('late.txt').read_text()"

    async def work(worker: Worker) -> None:
        files = {ENTRY: source("first", late).encode(), "late.txt": b"late"}
        worker.generations.stage("w", 1, files)
        worker.records.keep("w", Kept(1, "deploy", "", False, False, 1))
        await worker.decide(1)
        old = worker.serving()
        old.leases.take()
        for number in range(2, 9):
            worker.stage(number, f"number {number}")
            worker.records.keep("w", Kept(number, "deploy", "", False, False, 1))
        await worker.decide(8)
        worker.generations.prune("w")
        assert old.instance.read() == "late"
        old.leases.release()
        await until(lambda: [kept.number for kept in worker.records.history("w")] == [8, 7, 6, 5, 4])

    run(tmp_path, work)


def test_decided_that_was_never_proposed_is_loaded(tmp_path: Path) -> None:
    """As in a worker that begins after the decision."""

    async def work(worker: Worker) -> None:
        worker.stage(4, "fourth")
        assert await worker.decide(4) == Answer(serving=4, decided=4)
        assert (worker.word(), worker.entry(), worker.used()) == ("fourth", ("serving", None), {4})

    run(tmp_path, work)


def test_folder_is_loaded_from_where_it_stands(tmp_path: Path) -> None:
    async def work(worker: Worker) -> None:
        folder = worker.wrappers / "w"
        folder.mkdir()
        (folder / ENTRY).write_text(source("mine"))
        assert await worker.propose(1, is_kept=False) == Answer(prepared=1)
        assert await worker.decide(1, is_kept=False) == Answer(serving=1, decided=1)
        assert (worker.word(), worker.serving().path) == ("mine", folder)

    run(tmp_path, work)


def test_proposed_that_fails_says_why_once_and_what_serves_goes_on(tmp_path: Path) -> None:
    async def work(worker: Worker) -> None:
        worker.stage(1, "first")
        worker.stage(2, "second", SETUP_FAILS)
        await worker.decide(1)
        answer = await worker.propose(2)
        assert (answer.prepared, answer.serving, answer.decided) == (2, 1, 1)
        assert NO_INDEX in (answer.fault(2) or "")
        assert answer.fault(1) is None
        assert await worker.heed() == answer
        assert (worker.entry(), worker.word()) == (("serving", None), "first")
        assert notes() == ["first loaded", "second loaded"]
        assert await worker.withdraw() == Answer(serving=1, decided=1)
        await until(lambda: (worker.used(), modules()) == ({1}, packages(1)))

    run(tmp_path, work)


def test_decided_that_fails_leaves_what_has_served_and_is_not_tried_again(tmp_path: Path) -> None:
    async def work(worker: Worker) -> None:
        worker.stage(1, "first")
        worker.stage(2, "second", SETUP_FAILS)
        worker.stage(3, "third")
        await worker.decide(1)
        answer = await worker.decide(2)
        assert (answer.serving, answer.decided) == (1, 2)
        assert NO_INDEX in (answer.fault(2) or "")
        state, failure = worker.entry() or ("", "")
        assert (state, NO_INDEX in (failure or ""), worker.word()) == ("serving", True, "first")
        await worker.heed()
        assert notes() == ["first loaded", "second loaded"]
        assert await worker.decide(3) == Answer(serving=3, decided=3)
        assert (worker.entry(), worker.word()) == (("serving", None), "third")

    run(tmp_path, work)


def test_first_that_fails_stands_as_failed(tmp_path: Path) -> None:
    async def work(worker: Worker) -> None:
        worker.registry.put(Entry("w"))
        assert worker.entry() == ("loading", None)
        worker.stage(1, "first", SETUP_FAILS)
        answer = await worker.decide(1)
        assert (answer.serving, answer.decided, NO_INDEX in (answer.fault(1) or "")) == (None, 1, True)
        state, failure = worker.entry() or ("", "")
        assert (state, NO_INDEX in (failure or "")) == ("failed", True)
        await until(lambda: worker.used() == set())

    run(tmp_path, work)


def test_decided_whose_files_are_gone_says_so(tmp_path: Path) -> None:
    async def work(worker: Worker) -> None:
        answer = await worker.decide(1)
        assert (answer.serving, answer.fault(1), worker.entry()) == (
            None,
            "its files are gone",
            ("failed", "its files are gone"),
        )
        assert worker.used() == set()

    run(tmp_path, work)


def test_failure_of_an_edit_stands_beside_what_serves(tmp_path: Path) -> None:
    async def work(worker: Worker) -> None:
        worker.stage(1, "first")
        await worker.decide(1)
        before = worker.serving()
        worker.records.note_failure("w", "another digest", "line 1: SyntaxError")
        assert await worker.heed() == Answer(serving=1, decided=1)
        assert worker.entry() == ("serving", "line 1: SyntaxError")
        assert worker.serving() is before
        await worker.decide(1)
        assert (worker.entry(), worker.serving() is before) == (("serving", None), True)

    run(tmp_path, work)


def test_undeployed_is_taken_down_when_its_runs_have_ended(tmp_path: Path) -> None:
    async def work(worker: Worker) -> None:
        worker.stage(1, "first")
        await worker.decide(1)
        old = worker.serving()
        old.leases.take()
        assert await worker.decide(1, is_undeployed=True) == Answer()
        assert (worker.entry(), notes(), worker.used()) == (("undeployed", None), ["first loaded"], {1})
        old.leases.release()
        await until(lambda: (modules(), worker.used()) == ([], set()))
        assert await worker.decide(1) == Answer(serving=1, decided=1)
        assert worker.word() == "first"

    run(tmp_path, work)


def test_restore_that_failed_is_tried_again(tmp_path: Path) -> None:
    async def work(worker: Worker) -> None:
        worker.stage(1, "first", SETUP_FAILS_ONCE)
        await worker.decide(1, is_undeployed=True)
        answer = await worker.propose(1)
        assert NO_INDEX in (answer.fault(1) or "")
        assert await worker.withdraw() == Answer()
        assert await worker.propose(1) == Answer(prepared=1)
        assert await worker.withdraw() == Answer()
        await until(lambda: modules() == [])
        assert await worker.propose(1) == Answer(prepared=1)
        assert await worker.decide(1) == Answer(serving=1, decided=1)

    run(tmp_path, work)


def test_forgotten_is_dropped(tmp_path: Path) -> None:
    async def work(worker: Worker) -> None:
        worker.stage(1, "first")
        worker.stage(2, "second")
        await worker.decide(1)
        await worker.propose(2)
        worker.records.decide("w", NOTHING)
        assert await worker.heed() == Answer()
        assert (worker.entry(), dict(worker.registry.snapshot)) == (None, {})
        await until(lambda: (modules(), worker.used()) == ([], set()))
        assert sorted(notes()) == ["first closed", "first loaded", "second closed", "second loaded"]
        assert await worker.heed() == Answer()

    run(tmp_path, work)


def test_proposed_beside_a_decided_one_that_is_not_loaded_yet(tmp_path: Path) -> None:
    """As in a worker that begins in the middle of a deploy."""

    async def work(worker: Worker) -> None:
        worker.stage(1, "first")
        worker.stage(2, "second")
        worker.records.decide("w", Standing(1, is_kept=True))
        assert await worker.propose(2) == Answer(prepared=2, serving=1, decided=1)
        assert (worker.word(), modules()) == ("first", packages(1, 2))
        assert await worker.decide(2) == Answer(serving=2, decided=2)
        await until(lambda: modules() == packages(2))

    run(tmp_path, work)


def test_proposed_beside_a_decided_one_that_cannot_be_loaded(tmp_path: Path) -> None:
    async def work(worker: Worker) -> None:
        worker.stage(1, "first", SETUP_FAILS)
        worker.stage(2, "second")
        worker.records.decide("w", Standing(1, is_kept=True))
        answer = await worker.propose(2)
        assert (answer.prepared, answer.fault(2), answer.serving, answer.decided) == (2, None, None, 1)
        assert (worker.entry() or ("", ""))[0] == "failed"
        assert await worker.decide(2) == Answer(serving=2, decided=2)
        assert worker.entry() == ("serving", None)

    run(tmp_path, work)


def test_one_proposal_follows_another(tmp_path: Path) -> None:
    async def work(worker: Worker) -> None:
        worker.stage(1, "first")
        worker.stage(2, "second")
        await worker.propose(1)
        assert await worker.propose(2) == Answer(prepared=2)
        await until(lambda: (modules(), worker.used()) == (packages(2), {2}))

    run(tmp_path, work)


def test_heeding_twice_at_once_loads_once(tmp_path: Path) -> None:
    async def work(worker: Worker) -> None:
        worker.stage(1, "first")
        worker.records.decide("w", Standing(1, is_kept=True))
        await asyncio.gather(*(worker.follower.heed("w") for _ in range(5)))
        assert (worker.word(), notes()) == ("first", ["first loaded"])

    run(tmp_path, work)


def test_names_do_not_wait_for_each_other(tmp_path: Path) -> None:
    async def work(worker: Worker) -> None:
        worker.stage(1, "slow", "def setup(self): probe.current.wait('go')")
        worker.generations.stage("other", 1, {ENTRY: source("other").encode()})
        worker.records.decide("w", Standing(1, is_kept=True))
        worker.records.decide("other", Standing(1, is_kept=True))
        slow = asyncio.create_task(worker.follower.heed("w"))
        await until(lambda: notes() == ["slow loaded"])
        await worker.follower.heed("other")
        assert worker.follower.answer("other") == Answer(serving=1, decided=1)
        assert worker.follower.answer("w") == Answer()
        probe.current.set("go")
        await slow
        assert worker.follower.answer("w") == Answer(serving=1, decided=1)

    run(tmp_path, work)


def test_close_all_closes_what_serves_and_what_is_prepared(tmp_path: Path) -> None:
    async def work(worker: Worker) -> None:
        worker.stage(1, "first")
        worker.stage(2, "second", SETUP_FAILS)
        worker.stage(3, "third")
        await worker.decide(1)
        await worker.propose(2)
        await worker.propose(3)

    run(tmp_path, work)
    assert sorted(notes()) == ["first closed", "first loaded", "second loaded", "third closed", "third loaded"]


def test_cancelled_preparation_lets_the_files_go(tmp_path: Path) -> None:
    async def work(worker: Worker) -> None:
        worker.stage(1, "slow", "def setup(self): probe.current.wait('go')")
        task = asyncio.create_task(worker.propose(1))
        await until(lambda: notes() == ["slow loaded"])
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: (worker.used(), modules()) == (set(), []))
        probe.current.set("go")
        assert await worker.withdraw() == Answer()

    run(tmp_path, work)
