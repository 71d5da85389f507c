"""The watcher of a real server: what follows a change of the folder, and what does not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests import probe
from tests.gateways import Gateway, serve, write_wrapper
from tests.probe import eventually

SOURCE = "class PipelineWrapper:\n    def run_api(self) -> str:\n        return {!r}\n"
HELD = "from tests import probe\n{}    def setup(self):\n        probe.current.set('in')\n"
HELD += "        probe.current.wait('go')\n"
ENTRY = "pipeline_wrapper.py"


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    probe.renew()
    write_wrapper(tmp_path, "w", SOURCE.format("one"))
    with serve(tmp_path, watch=True) as gateway:
        yield gateway


def run(gateway: Gateway, name: str = "w") -> Any:
    reply = requests.post(f"{gateway.url}/{name}/run", json={}, timeout=10)
    return reply.json()["result"] if reply.status_code == 200 else reply.status_code


def status(gateway: Gateway, name: str = "w") -> Any:
    return requests.get(f"{gateway.url}/status/{name}", timeout=10).json()


def test_folder_that_comes_changes_and_goes(gateway: Gateway, tmp_path: Path) -> None:
    folder = write_wrapper(tmp_path, "new", SOURCE.format("one"))
    eventually(lambda: run(gateway, "new") == "one")
    (folder / ENTRY).write_text(SOURCE.format("two"))
    eventually(lambda: run(gateway, "new") == "two")
    (folder / ENTRY).unlink()
    eventually(lambda: run(gateway, "new") == 404)


def test_broken_edit_keeps_the_old_generation_until_a_good_one(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "w" / ENTRY).write_text("def")
    eventually(lambda: status(gateway)["reason"])
    found = status(gateway)
    assert (run(gateway), found["state"], found["generation"]) == ("one", "serving", 1)
    assert found["reason"].startswith(f"{ENTRY}, line 1: SyntaxError")
    (tmp_path / "w" / ENTRY).write_text(SOURCE.format("two"))
    eventually(lambda: run(gateway) == "two")
    assert status(gateway)["reason"] is None


def test_what_is_no_wrappers_triggers_nothing(gateway: Gateway, tmp_path: Path) -> None:
    places = (".w.swp", "4913", "x~", "#x#", ".#x", ".git/index", "__pycache__/x.pyc", "x.py___jb_tmp___", ".DS_Store")
    for place in places:
        (tmp_path / "w" / place).parent.mkdir(exist_ok=True)
        (tmp_path / "w" / place).write_text("x")
    (tmp_path / ".gateway" / "x").write_text("x")
    write_wrapper(tmp_path, "beacon", SOURCE.format("beacon"))
    eventually(lambda: run(gateway, "beacon") == "beacon")
    assert status(gateway)["generation"] == 1


WRITES = """
from pathlib import Path
from time import time_ns

def write():
    Path(__file__).with_name("data").write_text(str(time_ns()))

class PipelineWrapper:
    def setup(self):
        {in_setup}

    def run_api(self) -> str:
        {in_run}
        return {word!r}
"""
IN_SETUP = {"in_setup": "write()", "in_run": ""}
IN_RUN = {"in_setup": "pass", "in_run": "write()"}


def test_what_setup_writes_is_no_edit(tmp_path: Path) -> None:
    folder = write_wrapper(tmp_path, "w", WRITES.format(word="one", **IN_SETUP))
    for start in range(2):
        with serve(tmp_path, watch=True) as gateway:
            write_wrapper(tmp_path, f"beacon{start}", SOURCE.format("beacon"))
            eventually(lambda: run(gateway, f"beacon{start}") == "beacon")  # noqa: B023 - called at once
            assert status(gateway)["generation"] == 1
    with serve(tmp_path, watch=True) as gateway:
        (folder / ENTRY).write_text(WRITES.format(word="two", **IN_SETUP))
        eventually(lambda: run(gateway) == "two")
        write_wrapper(tmp_path, "beacon", SOURCE.format("beacon"))
        eventually(lambda: run(gateway, "beacon") == "beacon")
        assert (run(gateway), status(gateway)["generation"]) == ("two", 2)


def test_wrapper_that_writes_beside_itself_in_its_runs_is_not_loaded_for_ever(gateway: Gateway, tmp_path: Path) -> None:
    folder = write_wrapper(tmp_path, "loud", WRITES.format(word="one", **IN_RUN))
    eventually(lambda: run(gateway, "loud") == "one")
    eventually(lambda: run(gateway, "loud") == "one" and status(gateway, "loud")["generation"] == 6)
    for count in range(2):
        run(gateway, "loud")
        write_wrapper(tmp_path, f"beacon{count}", SOURCE.format("beacon"))
        eventually(lambda: run(gateway, f"beacon{count}") == "beacon")  # noqa: B023 - called at once
    assert status(gateway, "loud")["generation"] == 6
    (folder / ENTRY).write_text(WRITES.format(word="two", **IN_RUN))  # its code is followed all the same
    eventually(lambda: run(gateway, "loud") == "two")


def test_unreadable_folder_ends_no_watch(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir(mode=0)
    (tmp_path / "w" / "nowhere").symlink_to("nowhere")
    (tmp_path / "w" / "loop").symlink_to(tmp_path)
    write_wrapper(tmp_path, "new", SOURCE.format("one"))
    eventually(lambda: run(gateway, "new") == "one")


def test_slow_setup_holds_up_no_other_wrapper(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "w" / ENTRY).write_text(HELD.format(SOURCE.format("two")))
    probe.current.wait("in")
    write_wrapper(tmp_path, "other", SOURCE.format("other"))
    try:
        eventually(lambda: run(gateway, "other") == "other")
    finally:
        probe.current.set("go")
    eventually(lambda: run(gateway) == "two")


def test_nothing_is_followed_without_the_watcher(tmp_path: Path) -> None:
    write_wrapper(tmp_path, "w", SOURCE.format("one"))
    with serve(tmp_path, watch=False) as gateway:
        (tmp_path / "w" / ENTRY).write_text(SOURCE.format("two"))
        gateway.call(lambda: None)
        assert run(gateway) == "one"
