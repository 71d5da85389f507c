"""Loading through a real server: what serves while it loads, what a failure says, what is left behind."""

import os
import socket
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from gateway import tracker
from gateway.loader import ROOT
from gateway.preparer import resolve_limits
from gateway.settings import Settings
from gateway.wrapper import Limits
from tests.gateways import Gateway, serve, spawn, write_wrapper
from tests.probe import eventually

WAIT_S = 10.0
GOOD = """
    class PipelineWrapper:
        def run_api(self) -> str:
            return "served"
"""
HELD = """
    from tests.test_tracker import ENTERED, GATES

    class PipelineWrapper:
        def setup(self):
            ENTERED[{name!r}].set()
            assert GATES[{name!r}].wait(30)

        def run_api(self) -> str:
            return "served"
"""
CALM = {"HAYSTACK_TELEMETRY_ENABLED": "False"}
ENTERED: dict[str, threading.Event] = defaultdict(threading.Event)
GATES: dict[str, threading.Event] = defaultdict(threading.Event)


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    ENTERED.clear()
    GATES.clear()
    yield
    for gate in GATES.values():
        gate.set()
    left = [name for name in sys.modules if name.startswith(ROOT + ".")]
    for name in left:
        del sys.modules[name]
    assert left == []


def run(gateway: Gateway, name: str, body: Any = None) -> requests.Response:
    return requests.post(f"{gateway.url}/{name}/run", json=body or {}, timeout=WAIT_S)


def get(gateway: Gateway, path: str) -> requests.Response:
    return requests.get(gateway.url + path, timeout=WAIT_S)


def states(gateway: Gateway) -> dict[str, tuple[str, str | None]]:
    wrappers = get(gateway, "/status").json()["wrappers"]
    return {name: (wrapper["state"], wrapper["reason"]) for name, wrapper in wrappers.items()}


def test_server_answers_while_a_setup_takes_long(tmp_path: Path) -> None:
    write_wrapper(tmp_path, "a_slow", HELD.format(name="a_slow"))
    write_wrapper(tmp_path, "good", GOOD)
    with serve(tmp_path, wait=False) as gateway:
        assert ENTERED["a_slow"].wait(WAIT_S)
        eventually(lambda: states(gateway)["good"] == ("serving", None))
        assert states(gateway)["a_slow"] == ("loading", None)
        assert get(gateway, "/livez").status_code == 200
        ready = get(gateway, "/readyz")
        assert (ready.status_code, ready.json(), ready.headers["retry-after"]) == (503, {"status": "loading"}, "1")
        assert run(gateway, "good").json() == {"result": "served"}
        early = run(gateway, "a_slow")
        message = "wrapper a_slow is still loading; try again in a moment"
        error = {"type": "server_error", "message": message, "code": "wrapper_loading"}
        assert (early.status_code, early.headers["retry-after"]) == (503, "1")
        assert early.json() == {"error": error, "detail": message}
        GATES["a_slow"].set()
        gateway.wait_until_loaded()
        assert get(gateway, "/readyz").status_code == 200
        assert run(gateway, "a_slow").json() == {"result": "served"}


def test_run_answers_503_before_the_folder_has_been_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    scan = tracker.scan

    def held_scan(folder: Path) -> Any:
        assert gate.wait(30)
        return scan(folder)

    monkeypatch.setattr(tracker, "scan", held_scan)
    write_wrapper(tmp_path, "good", GOOD)
    threading.Timer(0.3, gate.set).start()  # a server that waits for it before it answers is right as well
    with serve(tmp_path, wait=False) as gateway:
        reply = run(gateway, "good")
        assert reply.status_code in (200, 503)
        gateway.wait_until_loaded()


def test_setups_run_side_by_side(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_wrapper(tmp_path, name, HELD.format(name=name))
    with serve(tmp_path, wait=False) as gateway:
        for name in ("a", "b", "c"):
            assert ENTERED[name].wait(WAIT_S)
        for name in ("a", "b", "c"):
            GATES[name].set()
        gateway.wait_until_loaded()
        assert set(states(gateway).values()) == {("serving", None)}


SETUPS = {
    "raises": ("raise RuntimeError('no index')", "RuntimeError: no index"),
    "is cancelled": ("import asyncio; raise asyncio.CancelledError('so')", "CancelledError"),
    "times out by itself": ("raise TimeoutError('the index')", "TimeoutError: the index"),
    "stops": ("raise StopIteration", "StopIteration"),
    "exits": ("raise SystemExit(3)", "SystemExit"),
    "is interrupted": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
}
SETUP = """
    class PipelineWrapper:
        def setup(self):
            {}
        def run_api(self) -> str: ...
"""


@pytest.mark.parametrize("case", ["raises", "is cancelled", "times out by itself", "stops"])
def test_status_says_why_a_setup_failed(tmp_path: Path, case: str) -> None:
    code, said = SETUPS[case]
    write_wrapper(tmp_path, "bad", SETUP.format(code))
    write_wrapper(tmp_path, "good", GOOD)
    with serve(tmp_path) as gateway:
        found = states(gateway)
        assert (found["good"], found["bad"][0]) == (("serving", None), "failed")
        assert (found["bad"][1] or "").startswith("pipeline_wrapper.py, line 4: ")
        assert said in (found["bad"][1] or "")
        assert [name for name in sys.modules if name.startswith(f"{ROOT}.bad")] == []
        assert run(gateway, "bad").json()["error"]["code"] == "wrapper_failed"


@pytest.mark.parametrize("case", ["exits", "is interrupted"])
def test_server_survives_a_setup_that_ends_the_process(tmp_path: Path, case: str) -> None:
    code, said = SETUPS[case]
    write_wrapper(tmp_path, "bad", SETUP.format(code))
    write_wrapper(tmp_path, "good", GOOD)
    with spawn("--wrappers-dir", str(tmp_path), environment=CALM) as process:
        process.wait_until_ready()
        wrapper = requests.get(f"{process.url}/status/bad", timeout=WAIT_S).json()
        assert wrapper["state"] == "failed"
        assert wrapper["reason"].startswith("pipeline_wrapper.py, line 4: ")
        assert said in wrapper["reason"]
        assert process.stop() == 0


def test_status_says_that_a_setup_took_too_long(tmp_path: Path) -> None:
    write_wrapper(tmp_path, "slow", HELD.format(name="slow"))
    with serve(tmp_path, setup_timeout_s=0.05) as gateway:
        assert states(gateway) == {"slow": ("failed", "setup() did not end within 0.05 s")}
        GATES["slow"].set()
        eventually(lambda: not [name for name in sys.modules if name.startswith(f"{ROOT}.slow")])


def test_status_says_that_setup_must_not_be_async(tmp_path: Path) -> None:
    write_wrapper(tmp_path, "w", GOOD + "\n        async def setup(self): ...\n")
    with serve(tmp_path) as gateway:
        assert states(gateway) == {"w": ("failed", "setup() must not be async: it runs on a thread of its own")}


BAD_LIMITS = [
    "Limits(max_concurrency=0)",
    "Limits(max_concurrency=-1)",
    "Limits(max_concurrency='8')",
    "Limits(timeout_s=-1)",
    "Limits(queue_timeout_s='1')",
    "{'max_concurrency': 1}",
]


@pytest.mark.parametrize("limits", BAD_LIMITS)
def test_status_says_that_limits_make_no_sense(tmp_path: Path, limits: str) -> None:
    source = f"""
    from gateway import BasePipelineWrapper, Limits

    class PipelineWrapper(BasePipelineWrapper):
        limits = {limits}

        def run_api(self) -> str:
            return "served"
    """
    write_wrapper(tmp_path, "w", source)
    write_wrapper(tmp_path, "good", GOOD)
    with serve(tmp_path) as gateway:
        found = states(gateway)
    assert (found["good"], found["w"][0]) == (("serving", None), "failed")
    assert (found["w"][1] or "").startswith("pipeline_wrapper.py, line 5: ") or "limits" in (found["w"][1] or "")


def test_names_that_cannot_be_served_fail_with_a_reason(tmp_path: Path) -> None:
    for name in ("status", "grün", "with space", "good", ".hidden", "__pycache__"):
        write_wrapper(tmp_path, name, GOOD)
    (tmp_path / "empty").mkdir()
    refused = "the name {!r} cannot be served: use letters, digits, '_' and '-', 64 at most"
    with serve(tmp_path) as gateway:
        assert states(gateway) == {
            "good": ("serving", None),
            "grün": ("failed", refused.format("grün")),
            "status": ("failed", "the name 'status' is reserved for the gateway's own paths: rename the folder"),
            "with space": ("failed", refused.format("with space")),
        }
        assert get(gateway, "/status").json()["pipelines"] == ["good"]


def test_wrappers_called_like_modules_harm_nobody(tmp_path: Path) -> None:
    for name in ("json", "openai", "hayhooks", "gateway"):
        write_wrapper(tmp_path, name, GOOD)
    write_wrapper(
        tmp_path,
        "user",
        """
        import json
        from pathlib import Path

        class PipelineWrapper:
            def run_api(self) -> list[str]:
                import openai
                return [json.dumps(1), Path(openai.__file__).parent.name]
        """,
    )
    with serve(tmp_path) as gateway:
        assert run(gateway, "user").json() == {"result": ["1", "openai"]}
        assert [run(gateway, name).json() for name in ("json", "openai", "hayhooks")] == [{"result": "served"}] * 3


def test_imports_work_while_a_run_goes_on(tmp_path: Path) -> None:
    folder = write_wrapper(
        tmp_path,
        "w",
        """
        class PipelineWrapper:
            def run_api(self) -> list[str]:
                import importlib
                from .late import WORD
                return [WORD, importlib.import_module(".later", __package__).WORD]
        """,
    )
    with serve(tmp_path) as gateway:
        (folder / "late.py").write_text("WORD = 'late'")
        (folder / "later.py").write_text("WORD = 'later'")
        assert run(gateway, "w").json() == {"result": ["late", "later"]}
    assert sorted(path.name for path in folder.iterdir()) == ["late.py", "later.py", "pipeline_wrapper.py"]


def test_all_of_25_wrappers_serve_at_each_of_10_starts(tmp_path: Path) -> None:
    names = [f"w{number:02}" for number in range(25)]
    for name in names:
        folder = write_wrapper(tmp_path, name, "\n    from .part import NAME\n" + GOOD.replace('"served"', "NAME"))
        (folder / "part.py").write_text(f"NAME = {name!r}\n")
    for _ in range(10):
        with serve(tmp_path) as gateway, requests.Session() as session:
            results = [
                session.post(f"{gateway.url}/{name}/run", json={}, timeout=WAIT_S).json()["result"] for name in names
            ]
        assert results == names


def test_wrapper_folder_keeps_its_bytes(tmp_path: Path) -> None:
    """With bytecode on, as a user has it: a restart after an edit in the same second serves the edit."""
    folder = write_wrapper(tmp_path / "wrappers", "w", "from .part import PipelineWrapper")
    part = "class PipelineWrapper:\n    def run_api(self) -> int: return {}\n"
    environment = {"PYTHONDONTWRITEBYTECODE": "", "HAYSTACK_TELEMETRY_ENABLED": "False"}
    for number in (1, 2):
        (folder / "part.py").write_text(part.format(number))
        os.utime(folder / "part.py", (1_700_000_000, 1_700_000_000))
        with spawn("--wrappers-dir", str(tmp_path / "wrappers"), environment=environment) as process:
            process.wait_until_ready()
            reply = requests.post(f"{process.url}/w/run", json={}, timeout=WAIT_S)
            assert reply.json() == {"result": number}
            assert process.stop() == 0
        assert sorted(path.name for path in folder.rglob("*")) == ["part.py", "pipeline_wrapper.py"]
        assert sorted(path.name for path in tmp_path.glob("*/*")) == [".gateway", "w"]


def test_two_apps_serve_wrappers_of_the_same_name(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        word = "__import__('importlib').import_module('.late', __package__).WORD"
        write_wrapper(tmp_path / folder, "w", GOOD.replace('"served"', word))
        (tmp_path / folder / "w" / "late.py").write_text(f"WORD = {folder!r}")
    with serve(tmp_path / "one") as first:
        with serve(tmp_path / "two") as second:
            assert [run(gateway, "w").json()["result"] for gateway in (first, second)] == ["one", "two"]
        assert run(first, "w").json() == {"result": "one"}


def test_additional_python_path_is_for_shared_code(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "shared_by_wrappers.py").write_text("WORD = 'shared'")
    (tmp_path / "shared" / "json.py").write_text("raise RuntimeError('a module is shadowed')")
    imports = "\n    import json\n    from shared_by_wrappers import WORD\n"
    write_wrapper(tmp_path / "wrappers", "w", imports + GOOD.replace('"served"', "WORD"))
    with serve(tmp_path / "wrappers", additional_python_path=tmp_path / "shared") as gateway:
        assert run(gateway, "w").json() == {"result": "shared"}
    del sys.modules["shared_by_wrappers"]


def test_wrapper_of_hayhooks_serves_unchanged(tmp_path: Path) -> None:
    write_wrapper(
        tmp_path,
        "w",
        """
        from pathlib import Path
        from haystack import Pipeline
        from haystack.components.builders import PromptBuilder
        from hayhooks import BasePipelineWrapper, SSEStream, get_last_user_input_text, get_last_user_message, log

        class PipelineWrapper(BasePipelineWrapper):
            def setup(self) -> None:
                log.debug("setting up {}", "w")
                self.pipeline = Pipeline()
                self.pipeline.add_component("prompt", PromptBuilder("Hello {{ name }}", required_variables=["name"]))

            def run_api(self, name: str) -> str:
                return self.pipeline.run({"prompt": {"name": name}})["prompt"]["prompt"]
        """,
    )
    with serve(tmp_path) as gateway:
        assert run(gateway, "w", {"name": "you"}).json() == {"result": "Hello you"}


@pytest.mark.parametrize("code", ["pass", "raise ValueError"])
def test_close_is_called_when_the_server_stops(tmp_path: Path, code: str) -> None:
    source = """
    from tests.test_tracker import ENTERED

    class PipelineWrapper:
        def run_api(self) -> str: ...

        def close(self):
            ENTERED[{name!r}].set()
            {code}
    """
    for name in ("a", "b"):
        write_wrapper(tmp_path, name, source.format(name=name, code=code))
    with serve(tmp_path):
        assert [ENTERED[name].is_set() for name in ("a", "b")] == [False] * 2
    assert [ENTERED[name].is_set() for name in ("a", "b")] == [True] * 2


# As a process.
def test_server_stops_well_though_a_close_exits(tmp_path: Path) -> None:
    for name in ("a", "b"):
        source = f"""
    import os

    class PipelineWrapper:
        def run_api(self) -> str: ...

        def close(self):
            os.write(2, b"closing {name}\\n")
            raise SystemExit(3)
        """
        write_wrapper(tmp_path, name, source)
    with spawn("--wrappers-dir", str(tmp_path), environment=CALM) as process:
        process.wait_until_ready()
        assert process.stop() == 0
        process._reader.join(WAIT_S)
    assert {"closing a\n", "closing b\n"} <= set(process.lines)


def test_strict_exits_1_when_a_wrapper_fails(tmp_path: Path) -> None:
    write_wrapper(tmp_path, "bad", "raise RuntimeError('no index')")
    write_wrapper(tmp_path, "good", GOOD)
    with spawn("--wrappers-dir", str(tmp_path), "--strict", environment=CALM) as process:
        line = process.wait_for("strict: stopping")
        assert process.process.wait(WAIT_S) == 1
    assert "bad (pipeline_wrapper.py, line 1: RuntimeError: no index)" in line


def test_server_goes_on_without_strict_when_a_wrapper_fails(tmp_path: Path) -> None:
    write_wrapper(tmp_path, "bad", "raise RuntimeError('no index')")
    with spawn("--wrappers-dir", str(tmp_path), environment=CALM) as process:
        process.wait_until_ready()
        line = process.wait_for("wrapper failed to load")
        assert "RuntimeError: no index" in line
        assert process.stop() == 0


def test_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    with spawn("--wrappers-dir", str(tmp_path / "nowhere"), environment=CALM) as process:
        assert process.process.wait(WAIT_S) == 1
        process._reader.join(WAIT_S)
    assert process.lines == [
        f"gateway: there is no folder {tmp_path / 'nowhere'}: name the folder of wrappers with --wrappers-dir\n"
    ]


def test_busy_port_is_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with spawn("--wrappers-dir", str(tmp_path), "--port", str(port), environment=CALM) as process:
            assert process.process.wait(WAIT_S) == 1
            process._reader.join(WAIT_S)
    assert process.lines == [f"gateway: cannot listen on localhost:{port}: Address already in use\n"]


# Limits.
@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (None, Limits(None, 256, 30, None, None, None)),
        (Limits(), Limits(None, 256, 30, None, None, None)),
        (Limits(max_concurrency=2, max_queue=0, timeout_s=1.5), Limits(2, 0, 30, 1.5, None, None)),
    ],
)
def test_resolve_limits_puts_the_wrappers_own_first(own: Limits | None, expected: Limits) -> None:
    assert resolve_limits(own, Settings()) == expected
