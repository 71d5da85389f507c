"""Deploying through a real server: nothing is half done, nothing of the user's is lost, no run is failed."""

import gc
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

from gateway import generations
from gateway.deployer import READ_ONLY
from gateway.generations import Generations
from gateway.loader import ROOT
from gateway.publication import Publication
from gateway.record import Records
from tests import gateways, probe
from tests.gateways import spawn, write_wrapper
from tests.probe import descriptors, eventually
from tests.wire import connect

serve = partial(gateways.serve, watch=True)
WAIT_S = 30.0
ENTRY = "pipeline_wrapper.py"
CALM = {"HAYSTACK_TELEMETRY_ENABLED": "False"}
YAML = """
components:
  prompt:
    type: haystack.components.builders.prompt_builder.PromptBuilder
    init_parameters: {{template: "{} {{{{ query }}}}", required_variables: [query]}}
connections: []
inputs: {{query: prompt.query}}
outputs: {{text: prompt.prompt}}
"""


def wrapper(word: str, before: str = "", inside: str = "") -> str:
    """A wrapper that answers `word`."""
    return f"{before}\nclass PipelineWrapper:\n    def run_api(self) -> str:\n        return {word!r}\n{inside}"


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    """No module of a wrapper outlives its server."""
    probe.renew()
    yield
    try:
        eventually(lambda: not [name for name in sys.modules if name.startswith(ROOT + ".")], "no module left")
    finally:  # the next test has its own
        for name in [name for name in sys.modules if name.startswith(ROOT + ".")]:
            del sys.modules[name]


def post(url: str, path: str, body: Any = None) -> requests.Response:
    return requests.post(url + path, json=body or {}, timeout=WAIT_S)


def deploy(url: str, source: str, name: str = "w", **fields: Any) -> requests.Response:
    files = {ENTRY: source, **fields.pop("files", {})}
    return post(url, "/deploy_files", {"name": name, "files": files, "overwrite": True, **fields})


def deploy_yaml(url: str, word: str, **fields: Any) -> requests.Response:
    return post(url, "/deploy-yaml", {"name": "w", "source_code": YAML.format(word), "overwrite": True, **fields})


def deployed(reply: requests.Response) -> int:
    """The generation of a deploy that went well."""
    assert reply.status_code == 200, reply.text
    number: int = reply.json()["generation"]
    return number


def run(url: str, name: str = "w", **arguments: Any) -> Any:
    reply = post(url, f"/{name}/run", arguments)
    return reply.json()["result"] if reply.status_code == 200 else reply.status_code


def status(url: str, name: str = "w") -> dict[str, Any]:
    found: dict[str, Any] = requests.get(f"{url}/status/{name}", timeout=WAIT_S).json()
    return found


def history(url: str, name: str = "w") -> list[tuple[int, str]]:
    return [(kept["number"], kept["origin"]) for kept in status(url, name)["history"]]


def tree(folder: Path) -> dict[str, bytes]:
    """Every file by its place, but for those of the gateway itself."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".gateway" not in path.parts
    }


def staged(folder: Path) -> list[str]:
    root = folder / ".gateway"
    places = (path.relative_to(root).as_posix() for path in root.rglob("*"))
    return sorted(place for place in places if place.startswith(("generations/", "trash/")))


# What a failed deploy leaves: nothing.
def fail(patch: pytest.MonkeyPatch, owner: Any, name: str, error: Exception, *, after: int = 0) -> None:
    """It raises from its call number `after` on."""
    function, calls = getattr(owner, name), []

    def step(*args: Any, **options: Any) -> Any:
        calls.append(args)
        if len(calls) > after:
            raise error
        return function(*args, **options)

    patch.setattr(owner, name, step)


FULL = OSError(28, "No space left on device")
CROSS = OSError(18, "Invalid cross-device link")
LOCKED = sqlite3.OperationalError("disk I/O error")
TWO = {ENTRY: wrapper("new"), "data/a.txt": "a", "data/b.txt": "b"}
Patch = Callable[[pytest.MonkeyPatch], object]


def no_patch(patch: pytest.MonkeyPatch) -> None:
    pass


STEPS: dict[str, tuple[Mapping[str, Any], Patch, int, str]] = {
    "a bad name": ({"name": "../w", "files": TWO}, no_patch, 422, "the name '../w' cannot be served"),
    "a reserved name": ({"name": "status", "files": TWO}, no_patch, 422, "reserved"),
    "traversal": ({"files": {**TWO, "../x.py": ""}}, no_patch, 422, "inside of the wrapper's folder"),
    "a conflict": ({"files": TWO, "name": "other", "overwrite": False}, no_patch, 409, "wrapper other is deployed"),
    "a syntax error": ({"files": {ENTRY: "def"}}, no_patch, 422, f"{ENTRY}, line 1: SyntaxError"),
    "an import error": ({"files": {ENTRY: "\nimport nothing_of_that_name"}}, no_patch, 422, f"{ENTRY}, line 2: "),
    "no class": ({"files": {ENTRY: ""}}, no_patch, 422, "defines no class PipelineWrapper"),
    "a setup error": (
        {"files": {ENTRY: wrapper("new", inside="    def setup(self):\n        1 / 0\n")}},
        no_patch,
        422,
        f"{ENTRY}, line 6: ZeroDivisionError",
    ),
    "an import that exits": ({"files": {ENTRY: "raise SystemExit"}}, no_patch, 422, f"{ENTRY}, line 1: SystemExit"),
    "a setup that takes too long": (
        {
            "files": {
                ENTRY: wrapper(
                    "new", "from tests import probe", "    def setup(self):\n        probe.current.wait('go')\n"
                )
            }
        },
        no_patch,
        422,
        "setup() did not end within 0.5 s",
    ),
    "an import that takes too long": (
        {"files": {ENTRY: wrapper("new", "from tests import probe\nprobe.current.wait('go')")}},
        no_patch,
        422,
        "the import did not end within 0.5 s",
    ),
    "no number": ({"files": TWO}, lambda patch: fail(patch, Records, "next_number", LOCKED), 500, ""),
    "a full disk": ({"files": TWO}, lambda patch: fail(patch, os, "fsync", FULL, after=1), 500, "No space"),
    "no proposal": ({"files": TWO}, lambda patch: fail(patch, Records, "propose", LOCKED), 500, ""),
    "what is replaced cannot be kept": (
        {"files": TWO},
        lambda patch: fail(patch, Generations, "_keep_what_is_replaced", FULL),
        500,
        "No space",
    ),
    "no journal": ({"files": TWO}, lambda patch: fail(patch, Records, "begin_to_publish", LOCKED), 500, ""),
    "a rename at once": ({"files": TWO}, lambda patch: fail(patch, Path, "replace", CROSS), 500, "cross-device"),
    "a later rename": ({"files": TWO}, lambda patch: fail(patch, Path, "replace", CROSS, after=2), 500, "cross-device"),
    "what is published cannot be read": (
        {"files": TWO},
        lambda patch: fail(patch, Generations, "locate", OSError(5, "Input/output error")),
        500,
        "Input/output",
    ),
    "no decision": ({"files": TWO}, lambda patch: fail(patch, Records, "decide", LOCKED), 500, ""),
}
UNNUMBERED = ("a bad name", "a reserved name", "traversal", "a conflict", "no number")


@pytest.mark.parametrize("name", ["w", "new"])
@pytest.mark.parametrize("step", STEPS)
def test_failed_deploy_leaves_nothing(tmp_path: Path, step: str, name: str) -> None:
    fields, patch, code, said = STEPS[step]
    folder = write_wrapper(tmp_path, "w", wrapper("old"))
    (folder / "data").mkdir()
    (folder / "data" / "a.txt").write_text("the user's")
    write_wrapper(tmp_path, "other", wrapper("other"))
    with serve(tmp_path, setup_timeout_s=0.5, watch=False) as gateway:  # which opens files of its own
        deployed(deploy(gateway.url, wrapper("warm"), "warm"))  # from here on there are a database and threads
        registry = gateway.app.state.registry

        def seen() -> list[Any]:
            modules = sorted(module for module in sys.modules if module.startswith(ROOT))
            return [dict(registry.snapshot), modules, tree(tmp_path), staged(tmp_path), list(sys.path)]

        before, files, threads = seen(), descriptors(), threading.active_count()
        with pytest.MonkeyPatch.context() as patching:
            patch(patching)
            reply = post(gateway.url, "/deploy_files", {"name": name, "overwrite": True, **fields})
        assert (reply.status_code, said in reply.json()["error"]["message"]) == (code, True), reply.text
        del reply  # it holds its connection
        probe.current.set("go")
        eventually(lambda: seen() == before, f"what was there before {step}")
        eventually(lambda: gc.collect() >= 0 and descriptors() <= files, "no more descriptors than before")
        eventually(lambda: threading.active_count() <= threads + 1, "no more threads than before")
        assert run(gateway.url) == "old"
        number = 1 + (name == "w") + (step not in UNNUMBERED)  # none is given twice
        assert deployed(deploy(gateway.url, wrapper("next"), name, files={"data/a.txt": "b"})) == number
        assert run(gateway.url, name) == "next"
        gateway.call(lambda: None)
    with serve(tmp_path) as gateway:
        assert run(gateway.url, name) == "next"


def test_failed_deploy_stays_failed_when_the_watcher_looks(tmp_path: Path) -> None:
    write_wrapper(tmp_path, "w", wrapper("old"))
    with serve(tmp_path) as gateway:
        with pytest.MonkeyPatch.context() as patching:
            fail(patching, Records, "decide", LOCKED)
            assert deploy(gateway.url, wrapper("new")).status_code == 500
        write_wrapper(tmp_path, "beacon", wrapper("beacon"))
        eventually(lambda: run(gateway.url, "beacon") == "beacon")
        assert (run(gateway.url), status(gateway.url)["generation"]) == ("old", 1)


# What is the user's.
def test_rollback_to_a_users_folder_leaves_its_files_the_users(tmp_path: Path) -> None:
    """The next deploy must not take away what only the user had brought."""
    folder = write_wrapper(tmp_path, "w", wrapper("one"))
    (folder / ".env").write_bytes(b"KEY=1")
    (folder / "data.bin").write_bytes(bytes(16))
    with serve(tmp_path) as gateway:
        deployed(deploy(gateway.url, wrapper("two"), overwrite=True))
        assert post(gateway.url, "/rollback/w").status_code == 200
        deployed(deploy(gateway.url, wrapper("three"), overwrite=True))
    assert sorted(path.name for path in folder.iterdir()) == [".env", "data.bin", ENTRY]
    assert ((folder / ".env").read_bytes(), (folder / "data.bin").read_bytes()) == (b"KEY=1", bytes(16))


OWN = {
    ".git/HEAD": b"ref: refs/heads/main\n",
    ".git/objects/ab/cdef": bytes(range(32)),
    ".env": b"KEY=secret\n",
    "blob.bin": bytes(range(240, 256)),
    "words/late.txt": b"read late\r\n",
    "notes.txt~": b"of an editor",
}
LATE = """
from pathlib import Path

class PipelineWrapper:
    def run_api(self) -> str:
        return Path(__file__).with_name("words").joinpath("late.txt").read_text()
"""


def test_files_of_the_user_keep_their_bytes(tmp_path: Path) -> None:
    folder = write_wrapper(tmp_path, "w", LATE)
    for place, content in OWN.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(content)

    def own() -> dict[str, bytes]:
        return {place: content for place, content in tree(folder).items() if place in OWN}

    helper = {"helper.py": "WORD = 'helped'"}
    steps: dict[str, Callable[[str], requests.Response]] = {
        "deploy": lambda url: deploy(url, wrapper("one"), files=helper),
        "redeploy": lambda url: deploy(url, wrapper("two")),
        "undeploy": lambda url: post(url, "/undeploy/w"),
        "restore": lambda url: post(url, "/restore/w"),
        "rollback": lambda url: post(url, "/rollback/w?generation=1"),
        "deploy after a rollback": lambda url: deploy(url, wrapper("three")),
        "deploy once more": lambda url: deploy(url, wrapper("four"), files=helper),
        "rollback again": lambda url: post(url, "/rollback/w?generation=4"),  # the first is not kept any more
    }
    with serve(tmp_path) as gateway:
        assert run(gateway.url) == "read late\n"
        for step, act in steps.items():
            reply = act(gateway.url)
            assert reply.status_code == 200, reply.text
            assert own() == OWN, step
        assert run(gateway.url) == "read late\n"
    assert own() == OWN
    with serve(tmp_path) as gateway:
        assert run(gateway.url) == "read late\n"
        assert own() == OWN
    assert (folder / ENTRY).read_text() == LATE
    assert not (folder / "helper.py").exists()


def test_file_that_a_deploy_leaves_out_goes_from_the_folder(tmp_path: Path) -> None:
    with serve(tmp_path) as gateway:
        deployed(deploy(gateway.url, wrapper("one"), files={"a.py": "", "deep/er/b.txt": "b"}))
        deployed(deploy(gateway.url, wrapper("two"), files={"c.py": ""}))
    assert tree(tmp_path) == {f"w/{ENTRY}": wrapper("two").encode(), "w/c.py": b""}


@pytest.mark.parametrize(
    ("first", "then"), [({"data": "x"}, {"data/x": "y"}), ({"data/x": "y"}, {"data": "x"})], ids=["file", "folder"]
)
def test_file_becomes_a_folder_and_back(tmp_path: Path, first: dict[str, str], then: dict[str, str]) -> None:
    with serve(tmp_path) as gateway:
        deployed(deploy(gateway.url, wrapper("one"), files=first))
        deployed(deploy(gateway.url, wrapper("two"), files=then))
        assert run(gateway.url) == "two"
    assert tree(tmp_path / "w") == {ENTRY: wrapper("two").encode(), **{key: then[key].encode() for key in then}}


ODD: dict[str, Callable[[Path], object]] = {
    "a pipe": lambda folder: os.mkfifo(folder / "pipe"),
    "a dangling link": lambda folder: (folder / "link").symlink_to("nowhere"),
    "a link to a folder": lambda folder: (folder / "link").symlink_to("/etc"),
    "a link to itself": lambda folder: (folder / "link").symlink_to(folder),
}


@pytest.mark.parametrize("odd", ODD)
def test_deploy_over_a_folder_with_odd_things_in_it(tmp_path: Path, odd: str) -> None:
    folder = write_wrapper(tmp_path, "w", wrapper("old"))
    ODD[odd](folder)
    with serve(tmp_path) as gateway:
        before = gateway.app.state.registry.snapshot
        try:
            reply = requests.post(
                f"{gateway.url}/deploy_files",
                json={"name": "w", "files": {ENTRY: wrapper("new")}, "overwrite": True},
                timeout=5,
            )
        except requests.Timeout:
            os.close(os.open(folder / "pipe", os.O_WRONLY))  # lets the reader go
            raise
        assert reply.status_code == 200, reply.text
        assert run(gateway.url) == "new"
        assert gateway.app.state.registry.snapshot is not before
    assert len(list(folder.iterdir())) == 2


def test_links_lead_no_deploy_out_of_the_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x.txt").write_text("mine")
    folder = write_wrapper(tmp_path / "wrappers", "w", wrapper("old"))
    (folder / "data").symlink_to(outside)
    with serve(tmp_path / "wrappers") as gateway:
        deploy(gateway.url, wrapper("new"), files={"data/x.txt": "theirs", "data/y.txt": "theirs"})
    assert tree(outside) == {"x.txt": b"mine"}


# Undeploy, restore, rollback.
def test_undeploy_keeps_the_files_and_survives_a_restart(tmp_path: Path) -> None:
    write_wrapper(tmp_path, "w", wrapper("mine"))
    before = tree(tmp_path)
    with serve(tmp_path) as gateway:
        assert post(gateway.url, "/undeploy/w").json() == {"success": True, "name": "w"}
        assert (run(gateway.url), status(gateway.url)["state"]) == (404, "undeployed")
        again = post(gateway.url, "/undeploy/w")
        assert (again.status_code, again.json()["detail"]) == (404, "wrapper w has been taken down already")
    for _ in range(2):
        with serve(tmp_path) as gateway:
            assert (run(gateway.url), status(gateway.url)["state"]) == (404, "undeployed")
    assert tree(tmp_path) == before


COMEBACKS: dict[str, Callable[[str, Path], object]] = {
    "restore": lambda url, folder: deployed(post(url, "/restore/w")),
    "rollback": lambda url, folder: deployed(post(url, "/rollback/w")),
    "an edit": lambda url, folder: (folder / "w" / ENTRY).write_text(wrapper("back") + "\n"),
    "a deploy": lambda url, folder: deployed(deploy(url, wrapper("back"))),
}


@pytest.mark.parametrize("is_restarted", [False, True])
@pytest.mark.parametrize("comeback", COMEBACKS)
def test_undeployed_wrapper_comes_back(tmp_path: Path, comeback: str, is_restarted: bool) -> None:
    with serve(tmp_path) as gateway:
        deployed(deploy(gateway.url, wrapper("back")))
        assert post(gateway.url, "/undeploy/w").status_code == 200
        if not is_restarted:
            COMEBACKS[comeback](gateway.url, tmp_path)
            eventually(lambda: run(gateway.url) == "back")
    if is_restarted:
        with serve(tmp_path) as gateway:
            COMEBACKS[comeback](gateway.url, tmp_path)
            eventually(lambda: run(gateway.url) == "back")
    with serve(tmp_path) as gateway:
        assert run(gateway.url) == "back"


def test_edit_while_the_server_is_down_brings_back_what_was_undeployed(tmp_path: Path) -> None:
    folder = write_wrapper(tmp_path, "w", wrapper("one"))
    with serve(tmp_path) as gateway:
        post(gateway.url, "/undeploy/w")
    (folder / ENTRY).write_text(wrapper("two"))
    with serve(tmp_path) as gateway:
        assert run(gateway.url) == "two"


def test_restore_of_what_serves_and_of_what_is_not_there(tmp_path: Path) -> None:
    write_wrapper(tmp_path, "w", wrapper("one"))
    with serve(tmp_path) as gateway:
        found = [post(gateway.url, path) for path in ("/restore/w", "/restore/x", "/undeploy/x", "/rollback/x")]
    assert [reply.status_code for reply in found] == [409, 404, 404, 404]


def test_rollback_goes_to_the_one_before_and_to_any_that_is_kept(tmp_path: Path) -> None:
    folder = write_wrapper(tmp_path, "w", wrapper("mine"))
    with serve(tmp_path) as gateway:
        assert post(gateway.url, "/rollback/w").status_code == 404  # nothing is kept
        assert deployed(deploy(gateway.url, wrapper("two"), description="the second")) == 2
        assert deployed(deploy(gateway.url, wrapper("three"))) == 3
        assert deployed(post(gateway.url, "/rollback/w")) == 4
        assert run(gateway.url) == "two"
        assert deployed(post(gateway.url, "/rollback/w?generation=1")) == 5
        assert (run(gateway.url), (folder / ENTRY).read_text()) == ("mine", wrapper("mine"))
        numbers = [(5, "folder"), (4, "rollback"), (3, "deploy"), (2, "deploy"), (1, "folder")]
        assert history(gateway.url) == numbers
        kept = status(gateway.url)["history"]
        assert [each["description"] for each in kept] == [
            "generation 1 again",
            "generation 2 again",
            "",
            "the second",
            "",
        ]
        for query, code in {
            "generation=9": 404,
            "generation=0": 404,
            "generation=-1": 400,
            "generation=x": 400,
        }.items():
            assert post(gateway.url, f"/rollback/w?{query}").status_code == code, query
        assert deployed(deploy(gateway.url, wrapper("six"))) == 6
        assert [number for number, _ in history(gateway.url)] == [6, 5, 4, 3, 2]
        assert post(gateway.url, "/rollback/w?generation=1").status_code == 404
    assert sorted(path.name for path in (tmp_path / ".gateway" / "generations" / "w").iterdir()) == list("23456")


def test_rollback_of_an_edit(tmp_path: Path) -> None:
    folder = write_wrapper(tmp_path, "w", wrapper("one"))
    with serve(tmp_path) as gateway:
        (folder / ENTRY).write_text(wrapper("two"))
        eventually(lambda: run(gateway.url) == "two")
        assert history(gateway.url) == [(2, "folder"), (1, "folder")]
        assert deployed(post(gateway.url, "/rollback/w")) == 3
        assert (run(gateway.url), (folder / ENTRY).read_text()) == ("one", wrapper("one"))
        assert history(gateway.url) == [(3, "folder"), (2, "folder"), (1, "folder")]
    with serve(tmp_path) as gateway:
        assert (run(gateway.url), status(gateway.url)["generation"]) == ("one", 3)


def test_broken_edit_leaves_what_served_before_a_restart_serving(tmp_path: Path) -> None:
    folder = write_wrapper(tmp_path, "w", wrapper("one"))
    with serve(tmp_path) as gateway:
        (folder / ENTRY).write_text("nonsense(")
        eventually(lambda: status(gateway.url)["reason"] is not None)
        assert run(gateway.url) == "one"
        assert history(gateway.url) == [(1, "folder")]
    for _ in range(2):
        with serve(tmp_path) as gateway:
            assert (run(gateway.url), status(gateway.url)["generation"]) == ("one", 1)
            assert "SyntaxError" in status(gateway.url)["reason"]
    (folder / ENTRY).write_text(wrapper("two"))
    with serve(tmp_path) as gateway:
        assert (run(gateway.url), status(gateway.url)["reason"]) == ("two", None)


def test_folder_that_is_too_large_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generations, "LARGE_BYTES", 1000)
    (write_wrapper(tmp_path, "w", wrapper("one")) / "model.bin").write_bytes(bytes(1001))
    with serve(tmp_path) as gateway:
        assert (run(gateway.url), history(gateway.url)) == ("one", [])
        deployed(deploy(gateway.url, wrapper("two")))  # which replaces it
        assert history(gateway.url) == [(2, "deploy"), (1, "folder")]


# Out of the folder.
def test_wrapper_that_is_not_saved_stays_out_of_the_folder(tmp_path: Path) -> None:
    late = (
        "class PipelineWrapper:\n    def run_api(self) -> str:\n        from .late import WORD\n        return WORD\n"
    )
    with serve(tmp_path) as gateway:
        deployed(deploy(gateway.url, late, files={"late.py": "WORD = 'one'"}, save_files=False))
        assert (run(gateway.url), tree(tmp_path)) == ("one", {})
        deployed(deploy(gateway.url, late, files={"late.py": "WORD = 'two'"}, save_files=False))
        assert (run(gateway.url), tree(tmp_path)) == ("two", {})
    with serve(tmp_path) as gateway:
        assert run(gateway.url) == "two"
        assert post(gateway.url, "/undeploy/w").status_code == 200
    with serve(tmp_path) as gateway:
        assert run(gateway.url) == 404
        deployed(post(gateway.url, "/restore/w"))
        assert (run(gateway.url), tree(tmp_path)) == ("two", {})
        deployed(post(gateway.url, "/rollback/w"))
        assert (run(gateway.url), tree(tmp_path)) == ("one", {})


def test_wrapper_that_is_not_saved_covers_the_folder_until_its_next_edit(tmp_path: Path) -> None:
    folder = write_wrapper(tmp_path, "w", wrapper("mine"))
    before = tree(tmp_path)
    with serve(tmp_path) as gateway:
        deployed(deploy(gateway.url, wrapper("theirs"), save_files=False))
        assert (run(gateway.url), tree(tmp_path)) == ("theirs", before)
    with serve(tmp_path) as gateway:
        assert (run(gateway.url), tree(tmp_path)) == ("theirs", before)
        (folder / ENTRY).write_text(wrapper("mine again"))
        eventually(lambda: run(gateway.url) == "mine again")
    with serve(tmp_path) as gateway:
        assert run(gateway.url) == "mine again"


# YAML.
@pytest.mark.parametrize("suffix", [".yml", ".yaml"])
def test_yaml_over_yaml_serves_the_new_one_for_good(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"w{suffix}").write_text(YAML.format("old"))
    with serve(tmp_path) as gateway:
        assert run(gateway.url, query="q") == {"text": "old q"}
        assert deploy_yaml(gateway.url, "new", overwrite=False).status_code == 409
        deployed(deploy_yaml(gateway.url, "new"))
        write_wrapper(tmp_path, "beacon", wrapper("beacon"))
        eventually(lambda: run(gateway.url, "beacon") == "beacon")
        assert run(gateway.url, query="q") == {"text": "new q"}
    with serve(tmp_path) as gateway:
        assert run(gateway.url, query="q") == {"text": "new q"}
        deployed(post(gateway.url, "/rollback/w"))
        assert run(gateway.url, query="q") == {"text": "old q"}


def test_yaml_over_a_folder_serves_for_good_or_is_refused(tmp_path: Path) -> None:
    write_wrapper(tmp_path, "w", wrapper("mine"))
    before = tree(tmp_path)
    with serve(tmp_path) as gateway:
        is_deployed = deploy_yaml(gateway.url, "new").status_code == 200
        expected = {"text": "new q"} if is_deployed else "mine"
        write_wrapper(tmp_path, "beacon", wrapper("beacon"))
        eventually(lambda: run(gateway.url, "beacon") == "beacon")
        assert run(gateway.url, **({"query": "q"} if is_deployed else {})) == expected
    assert before.items() <= tree(tmp_path).items()
    with serve(tmp_path) as gateway:
        assert run(gateway.url, **({"query": "q"} if is_deployed else {})) == expected


def test_folder_over_yaml_serves_for_good(tmp_path: Path) -> None:
    (tmp_path / "w.yml").write_text(YAML.format("old"))
    with serve(tmp_path) as gateway:
        deployed(deploy(gateway.url, wrapper("new")))
        assert run(gateway.url) == "new"
    with serve(tmp_path) as gateway:
        assert run(gateway.url) == "new"
    assert (tmp_path / "w.yml").read_text() == YAML.format("old")


# In flight.
STREAMS = """
from pathlib import Path
from tests import gateways, probe

SIGNALS = probe.current

class PipelineWrapper:
    def run_api(self, is_stream: bool = False):
        SIGNALS.set("{word} entered")
        if not is_stream:
            SIGNALS.wait("go")
            return "{word}"
        return self.stream()

    def stream(self):
        yield "begin"
        SIGNALS.wait("go")
        from .late import WORD
        yield WORD + Path(__file__).with_name("late.txt").read_text()

    def close(self):
        SIGNALS.set("{word} closed")
"""


def test_runs_in_flight_end_on_the_generation_they_began_with(tmp_path: Path) -> None:
    late = {"late.py": "WORD = 'late '", "late.txt": "words"}
    with serve(tmp_path) as gateway, ThreadPoolExecutor(1) as pool, connect(gateway.port) as stream:
        deployed(deploy(gateway.url, STREAMS.format(word="one"), files=late))
        whole = pool.submit(run, gateway.url)
        probe.current.wait("one entered")
        stream.post(body={"is_stream": True}).head()
        assert stream.piece() == b"begin"
        for number in range(7):  # more than are kept
            deployed(deploy(gateway.url, wrapper(f"new {number}")))
            assert run(gateway.url) == f"new {number}"
        assert probe.current.count("one closed") == 0
        probe.current.set("go")
        assert whole.result(WAIT_S) == "one"
        assert b"".join(stream.pieces()) == b"late words"
        probe.current.wait("one closed")
        assert probe.current.count("one closed") == 1
        eventually(lambda: len(list((tmp_path / ".gateway" / "generations" / "w").iterdir())) == 5)


def test_edit_ends_the_old_generation_when_its_stream_ends(tmp_path: Path) -> None:
    folder = write_wrapper(tmp_path, "w", STREAMS.format(word="one"))
    (folder / "late.py").write_text("WORD = 'late '")
    (folder / "late.txt").write_text("words")
    with serve(tmp_path) as gateway, connect(gateway.port) as stream:
        stream.post(body={"is_stream": True}).head()
        assert stream.piece() == b"begin"
        (folder / ENTRY).write_text(wrapper("two"))
        eventually(lambda: status(gateway.url)["generation"] == 2)
        assert (run(gateway.url), probe.current.count("one closed")) == ("two", 0)
        probe.current.set("go")
        assert b"".join(stream.pieces()) == b"late words"
        probe.current.wait("one closed")


def test_undeploy_ends_no_run(tmp_path: Path) -> None:
    with serve(tmp_path) as gateway, ThreadPoolExecutor(1) as pool:
        deployed(deploy(gateway.url, STREAMS.format(word="one")))
        whole = pool.submit(run, gateway.url)
        probe.current.wait("one entered")
        assert post(gateway.url, "/undeploy/w").status_code == 200
        assert (run(gateway.url), probe.current.count("one closed")) == (404, 0)
        probe.current.set("go")
        assert whole.result(WAIT_S) == "one"
        probe.current.wait("one closed")


# At once.
HELD = "    def setup(self):\n        probe.current.set('{0} entered')\n        probe.current.wait('{0} go')\n"
PROBE = "from tests import probe"


@pytest.mark.parametrize(("overwrite", "codes"), [(True, [200, 200]), (False, [200, 409])])
def test_two_deploys_of_one_name_take_turns(tmp_path: Path, overwrite: bool, codes: list[int]) -> None:
    with serve(tmp_path) as gateway, ThreadPoolExecutor(2) as pool:
        first = pool.submit(
            deploy, gateway.url, wrapper("one", PROBE, HELD.format("one")), overwrite=overwrite, description="first"
        )
        probe.current.wait("one entered")
        second = pool.submit(
            deploy,
            gateway.url,
            wrapper("two", PROBE, "    setup = lambda self: probe.current.set('two entered')\n"),
            overwrite=overwrite,
        )
        deployed(deploy(gateway.url, wrapper("warm"), "warm"))  # another name does not wait
        assert probe.current.count("two entered") == 0
        probe.current.set("one go")
        assert [first.result(WAIT_S).status_code, second.result(WAIT_S).status_code] == codes
        assert run(gateway.url) == ("two" if overwrite else "one")
    assert tree(tmp_path / "w").keys() == {ENTRY}


ACTS: dict[str, tuple[Callable[[str], requests.Response], Any]] = {
    "deploy": (lambda url: deploy(url, wrapper("new")), "new"),
    "undeploy": (lambda url: post(url, "/undeploy/w"), 404),
}


@pytest.mark.parametrize("act", ACTS)
def test_what_is_told_while_a_wrapper_loads_holds_when_it_has_loaded(tmp_path: Path, act: str) -> None:
    write_wrapper(tmp_path, "w", wrapper("old", PROBE, HELD.format("old")))
    do, expected = ACTS[act]
    with serve(tmp_path, wait=False) as gateway, ThreadPoolExecutor(1) as pool:
        probe.current.wait("old entered")
        reply = pool.submit(do, gateway.url)
        write_wrapper(tmp_path, "beacon", wrapper("beacon"))
        probe.eventually(lambda: reply.done() or post(gateway.url, "/readyz").status_code)
        probe.current.set("old go")
        assert reply.result(WAIT_S).status_code == 200
        gateway.wait_until_loaded()
        eventually(lambda: run(gateway.url, "beacon") == "beacon")
        assert run(gateway.url) == expected


# Restarts.
def test_numbers_are_never_given_twice(tmp_path: Path) -> None:
    with serve(tmp_path) as gateway:
        assert deployed(deploy(gateway.url, wrapper("one"))) == 1
        post(gateway.url, "/undeploy/w")
    with serve(tmp_path) as gateway:
        assert deployed(deploy(gateway.url, wrapper("two"))) == 2
    (tmp_path / "w" / ENTRY).write_text(wrapper("three"))
    with serve(tmp_path) as gateway:
        assert (run(gateway.url), status(gateway.url)["generation"]) == ("three", 3)
        assert deployed(deploy(gateway.url, wrapper("four"))) == 4
        assert history(gateway.url) == [(4, "deploy"), (3, "folder"), (2, "deploy"), (1, "deploy")]


def test_edit_while_the_server_is_down_after_the_first_deploy(tmp_path: Path) -> None:
    with serve(tmp_path) as gateway:
        deployed(deploy(gateway.url, wrapper("one")))
    (tmp_path / "w" / ENTRY).write_text(wrapper("mine"))
    with serve(tmp_path) as gateway:
        assert run(gateway.url) == "mine"
        deployed(deploy(gateway.url, wrapper("two")))
        deployed(post(gateway.url, "/rollback/w"))
        assert run(gateway.url) == "mine"


def crash(patch: pytest.MonkeyPatch, owner: Any, name: str, *, after: int = 0) -> None:
    """As if the process ended at this call: it fails, and nothing is done any more of what a failed deploy does."""
    function, calls = getattr(owner, name), []

    def step(*args: Any, **options: Any) -> Any:
        calls.append(args)
        if len(calls) <= after:
            return function(*args, **options)
        undoing: list[tuple[Any, str]]
        undoing = [(Publication, "undo"), (Generations, "discard"), (Records, "_record"), (Path, "unlink")]
        for kind, undo in undoing:
            patch.setattr(kind, undo, lambda *_, **__: None)
        raise OSError(5, "the end")

    patch.setattr(owner, name, step)


CRASHES: dict[str, tuple[Any, str, int, str]] = {  # → what serves at the next start
    "while it is staged": (os, "fsync", 1, "two"),
    "when it is proposed": (Records, "propose", 0, "two"),
    "while what is replaced is kept": (Generations, "_keep", 0, "two"),
    "when it is to be published": (Generations, "_publish", 0, "three"),
    "when a file is to be put away": (shutil, "move", 0, "three"),
    "when a file is to be renamed": (Path, "replace", 1, "three"),
    "when the last file is to be renamed": (Path, "replace", 2, "three"),
    "when it is to be decided": (Records, "decide", 0, "three"),
    "when it has been decided": (Publication, "finish", 0, "three"),
}


@pytest.mark.parametrize("moment", CRASHES)
def test_deploy_that_a_crash_has_cut_off_is_brought_to_its_end_or_taken_back(tmp_path: Path, moment: str) -> None:
    *where, after, word = CRASHES[moment]
    folder = write_wrapper(tmp_path, "w", wrapper("old"))
    (folder / ".env").write_bytes(b"KEY=1")
    write_wrapper(tmp_path, "other", wrapper("other"))
    with serve(tmp_path, watch=False) as gateway:
        deployed(deploy(gateway.url, wrapper("two"), files={"data/a.txt": "two", "gone.txt": "two"}))
        (folder / "data" / "a.txt").write_text("the user's")
        before = tree(tmp_path)
        with pytest.MonkeyPatch.context() as patching:
            crash(patching, *where, after=after)
            assert deploy(gateway.url, wrapper("three"), files={"data/a.txt": "3", "new.txt": "3"}).status_code == 500
    with serve(tmp_path, watch=False) as gateway:
        expected = {**before, f"w/{ENTRY}": wrapper("three").encode(), "w/data/a.txt": b"3", "w/new.txt": b"3"}
        del expected["w/gone.txt"]
        assert tree(tmp_path) == (expected if word == "three" else before)
        # What was edited while nothing served is followed: it is the user's edit of what has been deployed before.
        assert (run(gateway.url), run(gateway.url, "other")) == (word, "other")
        kept = [path.read_text() for path in (tmp_path / ".gateway" / "generations" / "w").rglob("a.txt")]
        assert "the user's" in (kept if word == "three" else [(folder / "data" / "a.txt").read_text()])
        numbers = {number for number, _ in history(gateway.url)}
        assert {int(path.name) for path in (tmp_path / ".gateway" / "generations" / "w").iterdir()} == numbers
        assert deployed(deploy(gateway.url, wrapper("four"))) > max(numbers)
        assert run(gateway.url) == "four"


def test_deploy_that_is_not_saved_and_that_a_crash_has_cut_off_is_brought_to_its_end(tmp_path: Path) -> None:
    write_wrapper(tmp_path, "w", wrapper("old"))
    before = tree(tmp_path)
    with serve(tmp_path) as gateway, pytest.MonkeyPatch.context() as patching:
        crash(patching, Records, "decide")
        assert deploy(gateway.url, wrapper("new"), save_files=False).status_code == 500
    with serve(tmp_path) as gateway:
        assert (run(gateway.url), tree(tmp_path)) == ("new", before)
        assert history(gateway.url) == [(2, "deploy"), (1, "folder")]


def test_server_starts_though_a_cut_off_deploy_cannot_be_ended(tmp_path: Path) -> None:
    write_wrapper(tmp_path, "other", wrapper("other"))
    with serve(tmp_path) as gateway:
        deployed(deploy(gateway.url, wrapper("one")))
        with pytest.MonkeyPatch.context() as patching:
            crash(patching, Records, "decide")
            assert deploy(gateway.url, wrapper("two")).status_code == 500
    with pytest.MonkeyPatch.context() as patching:
        fail(patching, Publication, "replace", OSError(30, "Read-only file system"))
        with serve(tmp_path, wait=False) as gateway:
            eventually(lambda: run(gateway.url, "other") == "other")
            eventually(lambda: run(gateway.url) in ("one", "two"))
    with serve(tmp_path) as gateway:
        assert (run(gateway.url), (tmp_path / "w" / ENTRY).read_text()) == ("two", wrapper("two"))


def test_edit_after_a_crash_is_not_lost(tmp_path: Path) -> None:
    with serve(tmp_path) as gateway:
        deployed(deploy(gateway.url, wrapper("one")))
        with pytest.MonkeyPatch.context() as patching:
            crash(patching, Records, "decide")
            assert deploy(gateway.url, wrapper("two")).status_code == 500
    (tmp_path / "w" / ENTRY).write_text(wrapper("the user's night's work"))
    with serve(tmp_path):
        pass
    kept = [path.read_text() for path in (tmp_path).rglob(ENTRY)]
    assert wrapper("the user's night's work") in kept


def test_folder_without_a_unicode_name_harms_nobody_when_there_is_a_state(tmp_path: Path) -> None:
    with serve(tmp_path) as gateway:
        deployed(deploy(gateway.url, wrapper("one")))
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff"))
    folder.mkdir()
    (folder / ENTRY).touch()
    with serve(tmp_path, wait=False) as gateway:
        eventually(lambda: run(gateway.url) == "one")
        eventually(lambda: requests.get(f"{gateway.url}/readyz", timeout=WAIT_S).status_code == 200)


# Where nothing can be written.
def test_deploy_where_the_folders_place_is_taken(tmp_path: Path) -> None:
    (tmp_path / "w").write_text("a file")
    with serve(tmp_path) as gateway:
        assert deploy(gateway.url, wrapper("new"), overwrite=False).status_code == 409
        reply = deploy(gateway.url, wrapper("new"))
        assert (reply.status_code, "could not be written" in reply.json()["detail"]) == (500, True)
        assert run(gateway.url) == 404
    assert tree(tmp_path) == {"w": b"a file"}


@pytest.fixture
def obey_modes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that are begun here may not write what its mode forbids, and be it root who runs the tests."""
    popen = subprocess.Popen
    prefix = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
    monkeypatch.setattr(subprocess, "Popen", lambda command, **options: popen([*prefix, *command], **options))


@pytest.fixture
def read_only() -> Iterator[Callable[[Path], None]]:
    """Folders that cannot be written until the test has ended."""
    folders = []

    def shut(folder: Path) -> None:
        folders.append(folder)
        folder.chmod(0o555)

    yield shut
    for folder in folders:
        folder.chmod(0o755)


@pytest.mark.usefixtures("obey_modes")
def test_read_only_wrappers_folder_serves_and_says_why_deploys_are_off(
    tmp_path: Path, read_only: Callable[[Path], None]
) -> None:
    wrappers, state = tmp_path / "wrappers", tmp_path / "state"
    read_only(write_wrapper(wrappers, "w", wrapper("old")))
    read_only(wrappers)
    with spawn("--wrappers-dir", str(wrappers), "--state-dir", str(state), environment=CALM) as process:
        process.wait_until_ready()
        said = [line for line in map(json.loads, process.lines) if line["level"] == "warning"]
        assert [(line["event"], line["wrappers_dir"]) for line in said] == [(READ_ONLY, str(wrappers))]
        for name in ("w", "new"):
            reply = deploy(process.url, wrapper("new"), name)
            assert (reply.status_code, reply.json()["detail"]) == (409, READ_ONLY)
        assert (run(process.url), run(process.url, "new")) == ("old", 404)
        assert [deployed(deploy(process.url, wrapper(word), save_files=False)) for word in ("one", "two")] == [2, 3]
        assert (run(process.url), deployed(post(process.url, "/rollback/w")), run(process.url)) == ("two", 4, "one")
        assert post(process.url, "/undeploy/w").status_code == 200
        assert process.stop() == 0
    assert tree(wrappers) == {f"w/{ENTRY}": wrapper("old").encode()}
    assert [path.name for path in tmp_path.rglob("*") if path.is_dir() and path.parent == wrappers] == ["w"]


@pytest.mark.usefixtures("obey_modes")
def test_read_only_wrappers_folder_without_a_state_dir_serves_out_of_a_temporary_one(
    tmp_path: Path, read_only: Callable[[Path], None]
) -> None:
    write_wrapper(tmp_path / "wrappers", "w", wrapper("old"))
    read_only(tmp_path / "wrappers")
    (tmp_path / "temporary").mkdir()
    environment = {**CALM, "TMPDIR": str(tmp_path / "temporary")}
    with spawn("--wrappers-dir", str(tmp_path / "wrappers"), environment=environment) as process:
        process.wait_until_ready()
        said = [line["event"] for line in map(json.loads, process.lines) if line["level"] == "warning"]
        event = "the state folder cannot be written: what is uploaded or deployed will not survive a restart"
        assert said == [event, READ_ONLY]
        assert deployed(deploy(process.url, wrapper("new"), save_files=False)) == 2
        assert run(process.url) == "new"
        assert process.stop() == 0
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.usefixtures("obey_modes")
def test_deploy_over_a_read_only_folder_changes_nothing(tmp_path: Path, read_only: Callable[[Path], None]) -> None:
    read_only(write_wrapper(tmp_path, "w", wrapper("old")))
    with spawn("--wrappers-dir", str(tmp_path), environment=CALM) as process:
        process.wait_until_ready()
        reply = deploy(process.url, wrapper("new"))
        said = "wrapper w could not be written: Permission denied"
        assert (reply.status_code, said in reply.json()["detail"]) == (500, True), reply.text
        assert (run(process.url), status(process.url)["generation"], history(process.url)) == (
            "old",
            1,
            [(1, "folder")],
        )
        assert deployed(deploy(process.url, wrapper("new"), "new")) == 1
        assert process.stop() == 0
    assert tree(tmp_path) == {f"w/{ENTRY}": wrapper("old").encode(), f"new/{ENTRY}": wrapper("new").encode()}
