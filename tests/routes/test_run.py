"""`POST /{name}/run` through a real server: arguments of every kind in, results of every kind out, and its limits."""

import socket
import statistics
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
import requests

from tests.conftest import Serve
from tests.gateways import WRAPPERS, Gateway, serve, spawn, write_wrapper
from tests.probe import eventually

WAIT_S = 10.0


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    wrappers_dir = tmp_path_factory.mktemp("wrappers")
    for name in ("arguments", "results", "raising", "raising_async"):
        (wrappers_dir / name).symlink_to(WRAPPERS / name)
    with serve(wrappers_dir) as gateway:
        yield gateway


def deployment(gateway: Gateway, name: str) -> Any:
    return gateway.app.state.registry.snapshot[name].deployment


def in_flight(gateway: Gateway, name: str) -> tuple[int, int]:
    """Runs in hand and waiting."""
    limiters = deployment(gateway, name).limiters
    counts = gateway.call(lambda: [(limiter.in_flight, limiter.queued) for limiter in limiters])
    return sum(count[0] for count in counts), sum(count[1] for count in counts)


# Arguments. A JSON body, or a form as `requests` takes it; and what the method then gets.
UUID_TEXT = "00000000-0000-0000-0000-000000000001"
JSON_CASES: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "nothing": ({}, {}),
    "text": ({"text": '"quoted"'}, {"text": repr('"quoted"')}),
    "empty text": ({"text": ""}, {"text": "''"}),
    "null": ({"maybe": None}, {"maybe": "None"}),
    "numbers": ({"number": 7, "ratio": 1}, {"number": "7", "ratio": "1.0"}),
    "bool": ({"flag": True}, {"flag": "True"}),
    "enum": ({"colour": "blue"}, {"colour": "<Colour.BLUE: 'blue'>"}),
    "literal": ({"word": "b"}, {"word": "'b'"}),
    "date": ({"day": "2026-01-02"}, {"day": "datetime.date(2026, 1, 2)"}),
    "uuid": ({"key": UUID_TEXT}, {"key": f"UUID('{UUID_TEXT}')"}),
    "lists": ({"tags": ["a", "b"], "numbers": [1, 2]}, {"tags": "['a', 'b']", "numbers": "[1, 2]"}),
    "dict": ({"options": {"a": 1}}, {"options": "{'a': 1}"}),
    "model": ({"item": {"name": "n"}}, {"item": "Item(name='n', count=1)"}),
    "models": ({"items": [{"name": "n", "count": 2}]}, {"items": "[Item(name='n', count=2)]"}),
    "anything": ({"anything": [1, {"a": None}]}, {"anything": "[1, {'a': None}]"}),
    "names of pydantic's": (
        {"schema": "s", "copy": 1, "model_config": "m"},
        {"schema": "'s'", "copy": "1", "model_config": "'m'"},
    ),
    "a field that nobody knows": ({"unknown": 1}, {}),
}
FORM_CASES: dict[str, tuple[list[tuple[str, str]], dict[str, str]]] = {
    "text": ([("text", "plain text")], {"text": "'plain text'"}),
    "text that looks like a number": ([("text", "12345")], {"text": "'12345'"}),
    "text that looks like JSON": ([("text", '{"a": 1}')], {"text": repr('{"a": 1}')}),
    "quoted text": ([("text", '"Summarize this"')], {"text": "'Summarize this'"}),
    "quoted text with escapes": ([("text", r'"a\nb \u00fc"')], {"text": repr("a\nb ü")}),
    "half a quote": ([("text", '"Summarize')], {"text": repr('"Summarize')}),
    "two quoted words": ([("text", '"a" and "b"')], {"text": repr('"a" and "b"')}),
    "null where None is not allowed": ([("text", "null")], {"text": "'null'"}),
    "null": ([("maybe", "null")], {"maybe": "None"}),
    "quoted null": ([("maybe", '"null"')], {"maybe": "'null'"}),
    "empty text": ([("text", "")], {"text": "''"}),
    "unicode": ([("text", "grün 💚")], {"text": "'grün 💚'"}),
    "numbers": ([("number", "7"), ("ratio", "1e-1")], {"number": "7", "ratio": "0.1"}),
    "bool as JSON": ([("flag", "true")], {"flag": "True"}),
    "bool as a word": ([("flag", "yes")], {"flag": "True"}),
    "int or text": ([("either", "5")], {"either": "'5'"}),
    "enum": ([("colour", "blue")], {"colour": "<Colour.BLUE: 'blue'>"}),
    "quoted enum": ([("colour", '"blue"')], {"colour": "<Colour.BLUE: 'blue'>"}),
    "literal": ([("word", "b")], {"word": "'b'"}),
    "date": ([("day", "2026-01-02")], {"day": "datetime.date(2026, 1, 2)"}),
    "uuid": ([("key", UUID_TEXT)], {"key": f"UUID('{UUID_TEXT}')"}),
    "repeated field": ([("tags", "a"), ("tags", '"b"'), ("tags", "3")], {"tags": "['a', 'b', '3']"}),
    "one text of a list": ([("tags", "a")], {"tags": "['a']"}),
    "a list as JSON": ([("tags", '["a", "b"]')], {"tags": "['a', 'b']"}),
    "null list": ([("tags", "null"), ("text", "x")], {"text": "'x'"}),
    "repeated number": ([("numbers", "1"), ("numbers", "2")], {"numbers": "[1, 2]"}),
    "dict": ([("options", '{"a": 1}')], {"options": "{'a': 1}"}),
    "model": ([("item", '{"name": "n"}')], {"item": "Item(name='n', count=1)"}),
    "repeated model": (
        [("items", '{"name": "n"}'), ("items", '{"name": "m"}')],
        {"items": "[Item(name='n', count=1), Item(name='m', count=1)]"},
    ),
    "anything": ([("anything", "[1, 2]")], {"anything": "[1, 2]"}),
    "anything that is not JSON": ([("anything", "[1, 2")], {"anything": "'[1, 2'"}),
    "names of pydantic's": (
        [("schema", "s"), ("copy", "1"), ("model_config", "m")],
        {"schema": "'s'", "copy": "1", "model_config": "'m'"},
    ),
}


def run(gateway: Gateway, name: str, **options: Any) -> requests.Response:
    return requests.post(f"{gateway.url}/{name}/run", timeout=WAIT_S, **options)


@pytest.mark.parametrize("case", JSON_CASES)
def test_run_passes_arguments_from_json(gateway: Gateway, case: str) -> None:
    body, expected = JSON_CASES[case]
    reply = run(gateway, "arguments", json=body)
    assert (reply.status_code, reply.json()) == (200, {"result": {**expected, "x-test": "None"}})


@pytest.mark.parametrize("case", FORM_CASES)
@pytest.mark.parametrize("encoding", ["multipart", "urlencoded"])
def test_run_passes_arguments_from_a_form(gateway: Gateway, encoding: str, case: str) -> None:
    fields, expected = FORM_CASES[case]
    if encoding == "multipart":
        reply = run(gateway, "arguments", files=[(name, (None, text)) for name, text in fields])
    else:
        reply = run(gateway, "arguments", data=fields)
    assert (reply.status_code, reply.json()) == (200, {"result": {**expected, "x-test": "None"}})


def test_run_injects_headers_and_keeps_them_out_of_the_schema(gateway: Gateway) -> None:
    reply = run(gateway, "arguments", json={"headers": "mine"}, headers={"X-Test": "yes"})
    schema = requests.get(f"{gateway.url}/arguments/schema", timeout=WAIT_S).json()
    assert (reply.json(), "headers" in schema["arguments"]["properties"]) == ({"result": {"x-test": "'yes'"}}, False)


def test_schema_describes_arguments_and_result(gateway: Gateway) -> None:
    schema = requests.get(f"{gateway.url}/arguments/schema", timeout=WAIT_S).json()
    arguments = schema["arguments"]["properties"]
    assert {name: schema[name] for name in ("name", "files", "media_type", "result")} == {
        "name": "arguments",
        "files": [],
        "media_type": "application/json",
        "result": {"additionalProperties": {"type": "string"}, "type": "object"},
    }
    assert arguments["text"] == {
        "default": "the default",
        "description": "Any text.",
        "title": "Text",
        "type": "string",
    }
    assert arguments["day"]["anyOf"] == [{"format": "date", "type": "string"}, {"type": "null"}]
    assert "required" not in schema["arguments"]


def test_run_prefers_the_async_method(gateway: Gateway) -> None:
    assert run(gateway, "raising_async", json={"what": "value"}).status_code == 500


# Results.
DOCUMENT = {"id": "1", "content": "text", "blob": None, "score": None, "embedding": None, "sparse_embedding": None}
RESULT_CASES = {
    "none": None,
    "text": "grün",
    "number": 1.5,
    "list": [1, "two", None, True],
    "model": {"text": "yes", "points": 0.5},
    "models": [{"text": "yes", "points": 0.5}],
    "dataclass": {"x": 1, "y": 2},
    "document": {"documents": [{**DOCUMENT, "page": 2}]},
    "message": {"role": "assistant", "meta": {}, "name": None, "content": [{"text": "hello"}]},
    "nan": {"scores": [None, None, None, 1.0]},
    "enum": "red",
    "date": ["2026-01-02", UUID_TEXT, "1.5", [3], "bytes"],
    "surrogate": "\ud800",
    "nan and surrogate": [None, "\ud800"],
    "keys": {"2026-01-02": 1, UUID_TEXT: 2, "red": 3},
}


@pytest.mark.parametrize("kind", RESULT_CASES)
def test_run_answers_a_result(gateway: Gateway, kind: str) -> None:
    reply = run(gateway, "results", json={"kind": kind})
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/json")
    assert reply.json() == {"result": RESULT_CASES[kind]}


def test_run_passes_a_response_through(gateway: Gateway) -> None:
    reply = run(gateway, "results", json={"kind": "response"}, headers={"X-Request-ID": "mine"})
    assert (reply.status_code, reply.json()) == (202, {"mine": True})
    assert (reply.headers["x-mine"], reply.headers["x-request-id"]) == ("yes", "mine")
    reply = run(gateway, "results", json={"kind": "bytes"})
    assert (reply.content, reply.headers["content-type"]) == (b"\x00\xff", "image/png")


STREAM_CASES = {
    "plain": ("text/plain; charset=utf-8", 'one\nzwei €{"three":3}'),
    "plain async": ("text/plain; charset=utf-8", "onetwo\nlines"),
    "events": (
        "text/event-stream; charset=utf-8",
        'data: one\ndata: \n\ndata: zwei \n\ndata: €\n\ndata: {"three":3}\n\n',
    ),
    "events async": ("text/event-stream; charset=utf-8", "data: one\n\ndata: two\ndata: lines\n\n"),
}


@pytest.mark.parametrize("kind", STREAM_CASES)
def test_run_streams_a_generator(gateway: Gateway, kind: str) -> None:
    reply = run(gateway, "results", json={"kind": kind})
    reply.encoding = "utf-8"
    media_type, text = STREAM_CASES[kind]
    assert (reply.status_code, reply.headers["content-type"], reply.text) == (200, media_type, text)
    assert (reply.headers["cache-control"], reply.headers["x-accel-buffering"]) == ("no-store", "no")


@pytest.mark.parametrize("kind", ["object", "events of a list"])
def test_run_answers_wrapper_error_for_a_result_that_cannot_be_sent(gateway: Gateway, kind: str) -> None:
    reply = run(gateway, "results", json={"kind": kind})
    assert (reply.status_code, reply.json()["error"]["code"]) == (500, "wrapper_error")
    assert "x-request-id" in reply.headers


# What a wrapper raises.
WEIRD = ["value", "exit", "interrupt", "stop", "stop async", "generator exit", "cancelled", "timeout"]


@pytest.mark.parametrize("name", ["raising", "raising_async"])
@pytest.mark.parametrize("what", WEIRD)
@pytest.mark.parametrize("where", ["method", "text", "events"])
def test_run_answers_500_for_whatever_a_wrapper_raises(gateway: Gateway, where: str, what: str, name: str) -> None:
    reply = run(gateway, name, json={"what": what, "where": where})
    error = reply.json()["error"]
    assert (reply.status_code, error["type"], error["code"]) == (500, "server_error", "wrapper_error")
    assert error["message"] == f"wrapper {name} failed; the log says why under {error['error_id']}"
    assert requests.get(f"{gateway.url}/livez", timeout=WAIT_S).json() == {"status": "alive"}
    eventually(lambda: in_flight(gateway, name) == (0, 0))


@pytest.mark.parametrize("name", ["raising", "raising_async"])
@pytest.mark.parametrize("what", WEIRD)
def test_run_ends_events_with_an_error_event_when_the_wrapper_raises_later(
    gateway: Gateway, what: str, name: str
) -> None:
    reply = run(gateway, name, json={"what": what, "where": "events later"})
    first, last, rest = reply.text.split("\n\n")
    assert (reply.status_code, first, rest) == (200, "data: first", "")
    assert last.startswith('event: error\ndata: {"error":{"type":"server_error"')
    eventually(lambda: in_flight(gateway, name) == (0, 0))


@pytest.mark.parametrize("name", ["raising", "raising_async"])
@pytest.mark.parametrize("what", WEIRD)
def test_run_aborts_text_when_the_wrapper_raises_later(gateway: Gateway, what: str, name: str) -> None:
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        run(gateway, name, json={"what": what, "where": "text later"})
    eventually(lambda: in_flight(gateway, name) == (0, 0))


@pytest.mark.parametrize("where", ["a validator", "to_dict"])
@pytest.mark.parametrize("error", ["ZeroDivisionError", "SystemExit"])
def test_run_answers_500_for_what_the_wrappers_own_types_raise(serve_wrapper: Serve, error: str, where: str) -> None:
    gateway = serve_wrapper(
        f"""
        from pydantic import BaseModel, field_validator
        from gateway import BasePipelineWrapper

        class Odd(BaseModel):
            number: int

            @field_validator("number")
            @classmethod
            def check(cls, number: int) -> int:
                raise {error}

        class Result:
            def to_dict(self):
                raise {error}

        class PipelineWrapper(BasePipelineWrapper):
            def run_api(self, odd: Odd | None = None) -> Result:
                return Result()
        """
    )
    reply = run(gateway, "w", json={"odd": {"number": 1}} if where == "a validator" else {})
    assert (reply.status_code, reply.json()["error"]["code"]) == (500, "wrapper_error")
    assert reply.json()["error"]["message"].startswith("wrapper w failed")
    eventually(lambda: in_flight(gateway, "w") == (0, 0))


ENDING = """
    import asyncio
    import sys

    from haystack import Pipeline, component
    from starlette.responses import StreamingResponse
    from gateway import BasePipelineWrapper

    @component
    class Leaver:
        @component.output_types(out=str)
        def run(self, text: str):
            sys.exit(3)

    async def leave():
        sys.exit(3)

    def stream():
        yield "first"
        sys.exit(3)

    class PipelineWrapper(BasePipelineWrapper):
        def setup(self):
            self.pipeline = Pipeline()
            self.pipeline.add_component("leaver", Leaver())

        async def run_api(self, where: str):
            if where == "a task":
                await asyncio.gather(leave())
            if where == "a pipeline":
                return await self.pipeline.run_async({"leaver": {"text": "x"}})
            return StreamingResponse(stream())
"""


@pytest.mark.parametrize("where", ["a task", "a pipeline", "a response"])
def test_run_that_ends_the_process_in_a_task_of_its_own_does_not(tmp_path: Path, where: str) -> None:
    write_wrapper(tmp_path, "w", ENDING)
    with spawn("--wrappers-dir", str(tmp_path)) as process:
        process.wait_until_ready()
        url = f"{process.url}/w/run"
        if where == "a response":
            with pytest.raises(requests.exceptions.ChunkedEncodingError):
                requests.post(url, json={"where": where}, timeout=WAIT_S)
        else:
            reply = requests.post(url, json={"where": where}, timeout=WAIT_S)
            assert (reply.status_code, reply.json()["error"]["code"]) == (500, "wrapper_error")
        assert requests.get(f"{process.url}/status/w", timeout=WAIT_S).json()["in_flight"] == 0
        assert process.stop() == 0


@pytest.mark.parametrize("is_async", [False, True])
def test_run_holds_its_files_and_its_place_until_its_own_response_is_sent(serve_wrapper: Serve, is_async: bool) -> None:
    gateway = serve_wrapper(
        f"""
        import threading
        from starlette.responses import StreamingResponse
        from gateway import BasePipelineWrapper, UploadFile

        class PipelineWrapper(BasePipelineWrapper):
            def setup(self):
                self.gate, self.kept = threading.Event(), []

            {"async " if is_async else ""}def run_api(self, document: UploadFile) -> StreamingResponse:
                self.kept.append(document)

                def copy():
                    assert self.gate.wait(30)
                    yield document.file.read()

                return StreamingResponse(copy())
        """
    )
    wrapper = deployment(gateway, "w").instance
    files = {"document": b"content"}
    with requests.post(f"{gateway.url}/w/run", files=files, stream=True, timeout=WAIT_S) as reply:
        counts = in_flight(gateway, "w")
        wrapper.gate.set()
        assert (reply.content, counts) == (b"content", (1, 0))
    eventually(lambda: in_flight(gateway, "w") == (0, 0))
    eventually(lambda: wrapper.kept[0].file.closed)


# Admission.
BLOCKED = """
    import threading
    from gateway import BasePipelineWrapper, Limits

    class PipelineWrapper(BasePipelineWrapper):
        limits = Limits({limits})

        def setup(self):
            self.gate = threading.Event()
            self.entered = threading.Semaphore(0)

        def run_api(self) -> str:
            self.entered.release()
            assert self.gate.wait(30)
            return "done"
"""


def blocked(limits: str = "") -> str:
    return BLOCKED.format(limits=limits)


def test_probes_answer_while_100_slow_sync_runs_are_in_hand(serve_wrapper: Serve) -> None:
    gateway = serve_wrapper(blocked("max_concurrency=100"))
    wrapper = deployment(gateway, "w").instance
    with ThreadPoolExecutor(100) as callers, requests.Session() as session:
        replies = [callers.submit(run, gateway, "w", json={}) for _ in range(100)]
        for _ in range(100):
            assert wrapper.entered.acquire(timeout=WAIT_S)
        times_s = []
        for _ in range(50):
            begun_s = perf_counter()
            assert session.get(f"{gateway.url}/livez", timeout=WAIT_S).status_code == 200
            times_s.append(perf_counter() - begun_s)
        status = session.get(f"{gateway.url}/status/w", timeout=WAIT_S).json()
        wrapper.gate.set()
        assert {reply.result().text for reply in replies} == {'{"result":"done"}'}
    assert statistics.median(times_s) < 0.05
    assert (status["in_flight"], status["queued"]) == (100, 0)
    assert in_flight(gateway, "w") == (0, 0)


def test_run_answers_429_when_the_queue_is_full(serve_wrapper: Serve) -> None:
    gateway = serve_wrapper(blocked("max_concurrency=1, max_queue=1"))
    wrapper = deployment(gateway, "w").instance
    with ThreadPoolExecutor(2) as callers:
        first = callers.submit(run, gateway, "w", json={})
        assert wrapper.entered.acquire(timeout=WAIT_S)
        second = callers.submit(run, gateway, "w", json={})
        eventually(lambda: in_flight(gateway, "w") == (1, 1))
        third = run(gateway, "w", json={})
        wrapper.gate.set()
        assert (first.result().status_code, second.result().status_code) == (200, 200)
    message = "wrapper w: 1 runs in hand and 1 waiting; try again later"
    assert (third.status_code, third.headers["retry-after"]) == (429, "1")
    assert third.json() == {
        "error": {"type": "rate_limit_error", "message": message, "code": "queue_full"},
        "detail": message,
    }


def test_run_answers_503_when_no_place_comes_free_in_time(serve_wrapper: Serve) -> None:
    gateway = serve_wrapper(blocked("max_concurrency=1, queue_timeout_s=0.05"))
    wrapper = deployment(gateway, "w").instance
    with ThreadPoolExecutor(1) as callers:
        first = callers.submit(run, gateway, "w", json={})
        assert wrapper.entered.acquire(timeout=WAIT_S)
        second = run(gateway, "w", json={})
        wrapper.gate.set()
        assert first.result().status_code == 200
    assert (second.status_code, second.json()["error"]["code"]) == (503, "queue_timeout")
    assert second.headers["retry-after"] == "1"
    assert in_flight(gateway, "w") == (0, 0)


def test_run_keeps_its_place_after_504_until_its_thread_has_ended(serve_wrapper: Serve) -> None:
    gateway = serve_wrapper(blocked("timeout_s=0.05"))
    wrapper = deployment(gateway, "w").instance
    reply = run(gateway, "w", json={})
    message = "wrapper w: the run took too long and was stopped"
    assert (reply.status_code, reply.json()) == (
        504,
        {"error": {"type": "timeout_error", "message": message, "code": "deadline_exceeded"}, "detail": message},
    )
    assert in_flight(gateway, "w") == (1, 0)
    wrapper.gate.set()
    eventually(lambda: in_flight(gateway, "w") == (0, 0))


def test_run_keeps_its_place_after_the_caller_left_until_its_thread_has_ended(serve_wrapper: Serve) -> None:
    gateway = serve_wrapper(blocked())
    wrapper = deployment(gateway, "w").instance
    with socket.create_connection(("127.0.0.1", gateway.port), WAIT_S) as connection:
        connection.sendall(b"POST /w/run HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        assert wrapper.entered.acquire(timeout=WAIT_S)
    assert in_flight(gateway, "w") == (1, 0)
    wrapper.gate.set()
    eventually(lambda: in_flight(gateway, "w") == (0, 0))


def test_run_of_a_wrapper_is_not_held_up_by_another_that_is_full(tmp_path: Path) -> None:
    write_wrapper(tmp_path, "slow", blocked("max_concurrency=1, max_queue=0"))
    (tmp_path / "results").symlink_to(WRAPPERS / "results")
    with serve(tmp_path) as gateway, ThreadPoolExecutor(1) as callers:
        wrapper = deployment(gateway, "slow").instance
        first = callers.submit(run, gateway, "slow", json={})
        assert wrapper.entered.acquire(timeout=WAIT_S)
        assert run(gateway, "slow", json={}).status_code == 429
        assert run(gateway, "results", json={"kind": "number"}).json() == {"result": 1.5}
        wrapper.gate.set()
        assert first.result().status_code == 200


def test_limits_of_the_class_override_the_settings(serve_wrapper: Serve) -> None:
    gateway = serve_wrapper(
        blocked("max_concurrency=3, timeout_s=9"), max_concurrency=5, max_queue=7, timeout_s=8, queue_timeout_s=2
    )
    assert requests.get(f"{gateway.url}/status/w", timeout=WAIT_S).json()["limits"] == {
        "max_concurrency": 3,
        "max_queue": 7,
        "queue_timeout_s": 2.0,
        "timeout_s": 9,
        "first_chunk_timeout_s": None,
        "idle_chunk_timeout_s": None,
    }


def test_probes_answer_while_a_large_result_is_encoded(serve_wrapper: Serve) -> None:
    gateway = serve_wrapper(
        """
        import threading
        from gateway import BasePipelineWrapper

        class Slow:
            def __init__(self, entered, gate):
                self.entered, self.gate = entered, gate

            def to_dict(self):
                self.entered.set()
                assert self.gate.wait(30)
                return {"done": True}

        class PipelineWrapper(BasePipelineWrapper):
            def setup(self):
                self.entered, self.gate = threading.Event(), threading.Event()

            def run_api(self) -> Slow:
                return Slow(self.entered, self.gate)
        """
    )
    wrapper = deployment(gateway, "w").instance
    timer = threading.Timer(2.0, wrapper.gate.set)  # so that a blocked loop fails the test and not the suite
    timer.start()
    with ThreadPoolExecutor(1) as callers:
        reply = callers.submit(run, gateway, "w", json={})
        assert wrapper.entered.wait(WAIT_S)
        begun_s = perf_counter()
        assert requests.get(f"{gateway.url}/livez", timeout=WAIT_S).status_code == 200
        took_s = perf_counter() - begun_s
        wrapper.gate.set()
        assert reply.result().json() == {"result": {"done": True}}
    timer.cancel()
    timer.join()
    assert took_s < 1.0
