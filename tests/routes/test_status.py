"""`/livez`, `/readyz`, `/status` of a server that has loaded; while it loads: `tests/test_deployer.py`."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from time import time
from typing import Any

import pytest
import requests

from gateway import __version__
from tests.gateways import Gateway, serve, write_wrapper

WAIT_S = 10.0
SOURCE = """
    from gateway import BasePipelineWrapper, Limits

    class PipelineWrapper(BasePipelineWrapper):
        limits = Limits(max_concurrency=2)

        def run_api(self) -> str:
            return "served"

        async def run_chat_completion_async(self, model, messages, body):
            return "served"
"""
BROKEN = """
    raise RuntimeError("no index")
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    wrappers_dir = tmp_path_factory.mktemp("wrappers")
    write_wrapper(wrappers_dir, "good", SOURCE)
    write_wrapper(wrappers_dir, "broken", BROKEN)
    with serve(wrappers_dir, timeout_s=5) as gateway:
        yield gateway


def get(gateway: Gateway, path: str) -> Any:
    return requests.get(gateway.url + path, timeout=WAIT_S).json()


FAILED = {"state": "failed", "reason": "pipeline_wrapper.py, line 2: RuntimeError: no index"}


def test_status_tells_of_every_wrapper(gateway: Gateway) -> None:
    status = get(gateway, "/status")
    loaded_at = status["wrappers"]["good"].pop("loaded_at")
    assert 0 <= time() - loaded_at < 60
    assert status == {
        "status": "Up!",
        "pipelines": ["good"],
        "version": __version__,
        "ready": True,
        "wrappers": {
            "broken": FAILED,
            "good": {
                "state": "serving",
                "reason": None,
                "generation": 1,
                "methods": ["run_api", "run_chat_completion_async"],
                "limits": {
                    "max_concurrency": 2,
                    "max_queue": 256,
                    "queue_timeout_s": 30.0,
                    "timeout_s": 5.0,
                    "first_chunk_timeout_s": None,
                    "idle_chunk_timeout_s": None,
                },
                "in_flight": 0,
                "queued": 0,
            },
        },
        "workers": [{"pid": os.getpid(), "generations": {"good": 1}}],
    }


def test_status_tells_of_one_wrapper(gateway: Gateway) -> None:
    assert get(gateway, "/status/broken") == {"status": "Up!", "pipeline": "broken", **FAILED, "history": []}
    described = get(gateway, "/status")["wrappers"]["good"]
    found = get(gateway, "/status/good")
    (kept,) = found["history"]
    assert (kept["number"], kept["origin"]) == (1, "folder")
    assert found == {"status": "Up!", "pipeline": "good", **described, "history": [kept]}


def test_status_tells_the_history_of_a_wrapper(tmp_path: Path) -> None:
    body = {"name": "w", "files": {"pipeline_wrapper.py": dedent(SOURCE)}, "description": "the first"}
    with serve(tmp_path) as gateway:
        assert requests.post(f"{gateway.url}/deploy_files", json=body, timeout=WAIT_S).status_code == 200
        (kept,) = get(gateway, "/status/w")["history"]
    assert 0 <= time() - kept.pop("created_at") < 60
    assert json.dumps(kept) == json.dumps(
        {"number": 1, "origin": "deploy", "description": "the first", "is_yaml": False, "is_saved": True}
    )


def test_draw_gives_the_graph_as_mermaid_text(tmp_path: Path) -> None:
    write_wrapper(
        tmp_path,
        "drawn",
        """
        from haystack import Pipeline
        from haystack.components.builders import PromptBuilder
        from haystack.components.joiners import StringJoiner

        class PipelineWrapper:
            def setup(self):
                self.pipeline = Pipeline()
                self.pipeline.add_component('the "prompt"', PromptBuilder("{{ query }}"))
                self.pipeline.add_component("joiner", StringJoiner())
                self.pipeline.connect('the "prompt".prompt', "joiner.strings")

            def run_api(self) -> str: ...
        """,
    )
    write_wrapper(tmp_path, "good", SOURCE)
    with serve(tmp_path) as gateway:
        drawn = requests.get(f"{gateway.url}/draw/drawn", timeout=WAIT_S)
        codes = {name: requests.get(f"{gateway.url}/draw/{name}", timeout=WAIT_S) for name in ("good", "xyz")}
    assert (drawn.status_code, drawn.headers["content-type"]) == (200, "text/vnd.mermaid; charset=utf-8")
    assert drawn.text == (
        "flowchart TD\n"
        '    c0["the #34;prompt#34;<br><small>PromptBuilder</small>"]\n'
        '    c1["joiner<br><small>StringJoiner</small>"]\n'
        '    c0 -- "prompt → strings" --> c1\n'
    )
    assert {name: (reply.status_code, reply.json()["detail"]) for name, reply in codes.items()} == {
        "good": (404, "wrapper good has no pipeline that could be drawn"),
        "xyz": (404, "there is no wrapper 'xyz'"),
    }


def test_probes_answer_when_all_is_loaded(gateway: Gateway) -> None:
    assert (get(gateway, "/livez"), get(gateway, "/readyz")) == ({"status": "alive"}, {"status": "ready"})
    for path in ("/livez", "/readyz", "/status"):
        assert requests.head(gateway.url + path, timeout=WAIT_S).status_code == 200


def test_probes_answer_of_a_folder_without_wrappers(tmp_path: Path) -> None:
    with serve(tmp_path) as gateway:
        assert (get(gateway, "/readyz"), get(gateway, "/status")["wrappers"]) == ({"status": "ready"}, {})


def test_run_of_a_failed_wrapper_answers_503_without_the_reason(gateway: Gateway) -> None:
    reply = requests.post(f"{gateway.url}/broken/run", json={}, timeout=WAIT_S)
    message = "wrapper broken failed to load; its reason stands in /status"
    error = {"type": "server_error", "message": message, "code": "wrapper_failed"}
    assert (reply.status_code, reply.json()) == (503, {"error": error, "detail": message})


def test_run_of_a_wrapper_without_run_api_answers_404(tmp_path: Path) -> None:
    source = SOURCE.replace("def run_api(self)", "def other(self)")
    write_wrapper(tmp_path, "w", source)
    with serve(tmp_path) as gateway:
        reply = requests.post(f"{gateway.url}/w/run", json={}, timeout=WAIT_S)
    message = "wrapper w has no run_api(): it answers run_chat_completion"
    error = {"type": "invalid_request_error", "message": message, "code": "not_found"}
    assert (reply.status_code, reply.json()) == (404, {"error": error, "detail": message})


def test_readyz_says_no_while_the_server_drains(tmp_path: Path) -> None:
    with serve(tmp_path) as gateway:
        gateway.call(gateway.app.state.invoker.draining.set)
        reply = requests.get(f"{gateway.url}/readyz", timeout=WAIT_S)
    assert (reply.status_code, reply.json(), reply.headers["retry-after"]) == (503, {"status": "draining"}, "1")


def test_status_answers_though_a_folder_has_no_unicode_name(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff"))
    folder.mkdir()
    (folder / "pipeline_wrapper.py").touch()
    with serve(tmp_path) as gateway:
        status = requests.get(f"{gateway.url}/status", timeout=10).json()
    assert [wrapper["state"] for wrapper in status["wrappers"].values()] == ["failed"]
