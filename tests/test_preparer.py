"""Preparing one generation, without a server: what is left when it fails, when it ends late, and when it is closed."""

import asyncio
import gc
import sys
import weakref
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway import preparer as module
from gateway.errors import LoadError
from gateway.loader import ROOT
from gateway.preparer import Preparer
from gateway.registry import Deployment
from gateway.settings import Settings
from gateway.source import Found
from gateway.thread import ThreadPool
from gateway.wrapper import Limits
from tests import probe
from tests.gateways import write_wrapper

RUN = "\n    def run_api(self) -> str:\n        return 'served'\n"
YAML = """
components:
  prompt:
    type: haystack.components.builders.prompt_builder.PromptBuilder
    init_parameters: {template: "{{ query }}", required_variables: [query]}
connections: []
inputs: {query: prompt.query}
outputs: {text: prompt.prompt}
"""


def source(before: str = "", inside: str = "") -> str:
    return f"from tests import probe\n{before}\nclass PipelineWrapper:\n    {inside or 'pass'}{RUN}"


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    probe.renew()
    yield
    left = modules()
    for name in left:  # the next test has its own
        del sys.modules[name]
    assert left == []


def modules() -> list[str]:
    return [name for name in sys.modules if name.startswith(ROOT + ".")]


Work = Callable[[Preparer], Coroutine[Any, Any, None]]


def run(work: Work, **told: Any) -> None:
    async def main() -> None:
        async with asyncio.timeout(probe.WAIT_S):
            await work(Preparer(Settings(**told), ThreadPool("test")))

    asyncio.run(main())


async def until(condition: Callable[[], Any]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


async def end(preparer: Preparer, deployment: Deployment) -> None:
    """Close it as it is closed after a swap."""
    closed = asyncio.Event()
    preparer.retire(deployment, closed.set)
    await closed.wait()


def test_prepare_gives_what_is_to_serve(tmp_path: Path) -> None:
    found = Found("w", write_wrapper(tmp_path, "w", source(inside="def setup(self): self.word = 'set up'")))

    async def work(preparer: Preparer) -> None:
        deployment = await preparer.prepare(found, 7)
        assert (deployment.name, deployment.generation, deployment.path) == ("w", 7, found.path)
        assert (deployment.package, list(deployment.methods)) == ("gateway_wrappers.w_7", ["run_api"])
        assert deployment.instance.word == "set up"
        await end(preparer, deployment)

    run(work)


def test_prepare_of_yaml_has_no_package(tmp_path: Path) -> None:
    path = tmp_path / "w.yml"
    path.write_text(YAML)

    async def work(preparer: Preparer) -> None:
        deployment = await preparer.prepare(Found("w", path), 1)
        assert (deployment.package, modules()) == (None, [])
        await end(preparer, deployment)

    run(work)


FAILING: dict[str, tuple[str, str]] = {
    "an import that raises": ("from . import sibling\n1 / 0", "pipeline_wrapper.py, line 2: ZeroDivisionError"),
    "a sibling that raises": ("from . import broken", "broken.py, line 1: ZeroDivisionError"),
    "a constructor that raises": (source(inside="def __init__(self): 1 / 0"), "line 4: ZeroDivisionError"),
    "a setup that raises": (source("from . import sibling", "def setup(self): 1 / 0"), "line 4: ZeroDivisionError"),
    "a setup that exits": (source(inside="def setup(self): raise SystemExit(3)"), "SystemExit(3)"),
    "a setup that stops": (source(inside="def setup(self): raise StopIteration"), "StopIteration"),
    "a setup that imports and raises": (
        source(inside="def setup(self):\n        from . import sibling\n        raise KeyError('x')"),
        "line 6: KeyError: 'x'",
    ),
    "an async setup": (source(inside="async def setup(self): ..."), "setup() must not be async: it runs on a thread"),
    "limits that are none": (source(inside="limits = {'timeout_s': 1}"), "limits must be a gateway.Limits, not dict"),
    "a refused signature": ("class PipelineWrapper:\n    def run_api(self, x): ...", "parameter 'x' has no annotation"),
}


@pytest.mark.parametrize("case", FAILING)
def test_prepare_that_fails_says_why_and_leaves_nothing(tmp_path: Path, case: str) -> None:
    code, said = FAILING[case]
    folder = write_wrapper(tmp_path, "w", code)
    (folder / "sibling.py").write_text("")
    (folder / "broken.py").write_text("1 / 0")

    async def work(preparer: Preparer) -> None:
        with pytest.raises(LoadError) as raised:
            await preparer.prepare(Found("w", folder), 1)
        assert said in raised.value.message
        assert modules() == []

    run(work)


def test_prepare_of_a_fault_loads_nothing(tmp_path: Path) -> None:
    folder = write_wrapper(tmp_path, "status", source("probe.current.set('imported')"))

    async def work(preparer: Preparer) -> None:
        with pytest.raises(LoadError, match="reserved"):
            await preparer.prepare(Found("status", folder, "the name is reserved"), 1)

    run(work)
    assert probe.current.count("imported") == 0


PART = """
        @component
        class Part:
            @component.output_types(out=str)
            def run(self, text: str):
                return {"out": text}
"""
WAITING = f"""
    def setup(self):
        probe.current.set("in")
        probe.current.wait("go")
        {PART}
        probe.current.set("late")
"""
LATE = {
    "import": (
        f"from tests import probe\nfrom haystack import component\nif True:\n{WAITING.partition('self):')[2]}",
        "the import did not end within 0.1 s",
    ),
    "setup": (source("from haystack import component", WAITING), "setup() did not end within 0.1 s"),
}


def components() -> list[str]:
    from haystack.core.component import component

    return [name for name in component.registry if name.startswith(ROOT)]


@pytest.mark.parametrize("how", ["times out", "is cancelled"])
@pytest.mark.parametrize("case", LATE)
def test_prepare_that_ends_late_leaves_nothing_then_either(tmp_path: Path, case: str, how: str) -> None:
    code, said = LATE[case]
    folder = write_wrapper(tmp_path, "w", code)

    async def work(preparer: Preparer) -> None:
        if how == "times out":
            with pytest.raises(LoadError) as raised:
                await preparer.prepare(Found("w", folder), 1)
            assert raised.value.message == said
        else:
            task = asyncio.create_task(preparer.prepare(Found("w", folder), 1))
            await probe.current.until("in")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert modules() == []
        probe.current.set("go")
        await probe.current.until("late")
        await until(lambda: (modules(), components()) == ([], []))

    run(work, setup_timeout_s=0.1 if how == "times out" else 5)


def test_number_whose_last_try_still_runs_can_be_tried_again(tmp_path: Path) -> None:
    """The end of the first must not take the modules of the second away."""
    code = "if probe.current.count('once') == 0:\n    probe.current.set('once')\n    probe.current.wait('go')\n"
    folder = write_wrapper(tmp_path, "w", source(f"{code}    probe.current.set('late')"))

    async def work(preparer: Preparer) -> None:
        with pytest.raises(LoadError):
            await preparer.prepare(Found("w", folder), 1)
        deployment = await preparer.prepare(Found("w", folder), 1)
        before = modules()
        assert len(before) == 2
        probe.current.set("go")
        await probe.current.until("late")
        for _ in range(5):  # the end of the first is told to the loop
            await asyncio.sleep(0.01)
        assert modules() == before
        await end(preparer, deployment)

    run(work, setup_timeout_s=0.2)


def test_imports_come_one_after_the_other_and_setups_side_by_side(tmp_path: Path) -> None:
    names = ("a", "b", "c")
    for name in names:
        write_wrapper(
            tmp_path,
            name,
            source(
                f"probe.current.note('in {name}')\nprobe.current.note('out {name}')",
                "def setup(self):\n        probe.current.set('setup')\n        probe.current.wait('setup', 3)",
            ),
        )

    async def work(preparer: Preparer) -> None:
        loading = [preparer.prepare(Found(name, tmp_path / name), 1) for name in names]
        for deployment in await asyncio.gather(*loading):
            await end(preparer, deployment)

    run(work)
    assert probe.current.notes == [f"{way} {name}" for name in names for way in ("in", "out")]


def test_import_that_hangs_holds_up_the_others_no_longer_than_its_time(tmp_path: Path) -> None:
    slow = Found("slow", write_wrapper(tmp_path, "slow", source("probe.current.wait('go')")))
    good = Found("good", write_wrapper(tmp_path, "good", source()))

    async def work(preparer: Preparer) -> None:
        first, second = await asyncio.gather(
            preparer.prepare(slow, 1), preparer.prepare(good, 1), return_exceptions=True
        )
        assert isinstance(first, LoadError)
        assert isinstance(second, Deployment)
        await end(preparer, second)
        probe.current.set("go")

    run(work, setup_timeout_s=0.1)


@pytest.mark.parametrize(
    ("inside", "threads", "tasks", "limits"),
    [
        ("", 64, 1024, Limits(max_queue=256, queue_timeout_s=30)),
        ("limits = Limits(max_concurrency=2)", 2, 2, Limits(max_concurrency=2, max_queue=256, queue_timeout_s=30)),
        ("limits = Limits(max_queue=0, timeout_s=1)", 64, 1024, Limits(max_queue=0, timeout_s=1, queue_timeout_s=30)),
    ],
)
def test_limits_become_places(tmp_path: Path, inside: str, threads: int, tasks: int, limits: Limits) -> None:
    folder = write_wrapper(tmp_path, "w", source("from gateway import Limits", inside))

    async def work(preparer: Preparer) -> None:
        deployment = await preparer.prepare(Found("w", folder), 1)
        places = (deployment.threads.places, deployment.tasks.places)
        assert (places, deployment.limits) == ((threads, tasks), limits)
        assert (deployment.threads is deployment.tasks) is (threads == tasks)
        await end(preparer, deployment)

    run(work)


CLOSING = source(inside="def close(self):\n        probe.current.note('closed')\n        from . import sibling")


def test_retire_closes_when_the_last_lease_ends_and_tells_then(tmp_path: Path) -> None:
    folder = write_wrapper(tmp_path, "w", CLOSING)
    (folder / "sibling.py").write_text("from tests import probe\nprobe.current.note('imported in close')")

    async def work(preparer: Preparer) -> None:
        deployment = await preparer.prepare(Found("w", folder), 1)
        done = asyncio.Event()
        for _ in range(2):
            deployment.leases.take()
        preparer.retire(deployment, lambda: (probe.current.note(modules()), done.set()))
        deployment.leases.release()
        await asyncio.sleep(0)
        assert (probe.current.notes, len(modules())) == ([], 2)
        deployment.leases.release()
        await done.wait()

    run(work)
    assert probe.current.notes == ["closed", "imported in close", []]


def test_close_that_raises_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    folder = write_wrapper(tmp_path, "w", source(inside="def close(self): 1 / 0"))

    async def work(preparer: Preparer) -> None:
        await end(preparer, await preparer.prepare(Found("w", folder), 1))
        assert modules() == []

    run(work)


@pytest.mark.parametrize("inside", ["", "def close(self): self.is_closed = True"])
def test_frozen_generation_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str) -> None:
    monkeypatch.setattr(module, "THAW_AFTER_S", 0.05)
    folder = write_wrapper(tmp_path, "w", source("KEPT = []", inside))

    async def work(preparer: Preparer) -> None:
        deployment = await preparer.prepare(Found("w", folder), 1)
        wrapper, package = deployment.instance, sys.modules[f"{deployment.package}.pipeline_wrapper"]
        package.KEPT.append(wrapper)  # a cycle, as there are in each
        gone = [weakref.ref(each) for each in (wrapper, type(wrapper), package)]
        del wrapper, package
        preparer.freeze()
        frozen = gc.get_freeze_count()
        done = asyncio.Event()
        preparer.retire(deployment, done.set)
        del deployment
        await done.wait()
        await until(lambda: [reference() for reference in gone] == [None, None, None])
        assert gc.get_freeze_count() > frozen / 2, "the rest stays frozen"

    try:
        run(work)
    finally:
        gc.unfreeze()


def test_generation_that_came_after_the_freeze_thaws_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Preparer, "_thaw", lambda self: probe.current.note("thawed"))
    monkeypatch.setattr(module, "THAW_AFTER_S", 0)
    folder = write_wrapper(tmp_path, "w", source())

    async def work(preparer: Preparer) -> None:
        before = await preparer.prepare(Found("w", folder), 1)
        preparer.freeze()
        after = await preparer.prepare(Found("w", folder), 2)
        await end(preparer, after)
        await asyncio.sleep(0.01)
        assert probe.current.notes == []
        await end(preparer, before)
        await until(lambda: probe.current.notes == ["thawed"])

    try:
        run(work)
    finally:
        gc.unfreeze()
