"""One shape for every error, and what it must not tell."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from starlette.exceptions import HTTPException
from starlette.routing import Route

from gateway import Settings, create_app
from gateway.errors import GatewayError, InvalidArguments, InvalidRequest, ModelNotFound, WrapperRaised
from gateway.protocols.problem import Problem
from gateway.routes.problem import ProblemRenderer, is_openai
from tests.conftest import Serve
from tests.gateways import WRAPPERS, Gateway, serve, spawn

WAIT_S = 10.0
OPENAI_MODULES = ("gateway.routes.openai", "gateway.routes.files")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    wrappers_dir = tmp_path_factory.mktemp("wrappers")
    for name in ("arguments", "raising"):
        (wrappers_dir / name).symlink_to(WRAPPERS / name)
    with serve(wrappers_dir) as gateway:
        yield gateway


def problem(message: str, code: str, kind: str = "invalid_request_error") -> dict[str, Any]:
    return {"error": {"type": kind, "message": message, "code": code}, "detail": message}


NOT_FOUND = {
    "/": "there is nothing at /",
    "/no/such/path": "there is nothing at /no/such/path",
    "/a%2fb/run": "there is nothing at /a/b/run",
    "//run": "there is nothing at //run",
    "/nope/schema": "there is no wrapper 'nope'",
    "/argument/schema": "there is no wrapper 'argument'; did you mean arguments?",
    "/status/nope": "there is no wrapper 'nope'",
}


@pytest.mark.parametrize("path", NOT_FOUND)
def test_error_is_404_when_there_is_nothing_at_the_path(gateway: Gateway, path: str) -> None:
    with requests.Session() as session:
        request = requests.Request("GET", gateway.url).prepare()
        request.url = gateway.url + path
        reply = session.send(request, timeout=WAIT_S)
    code = "wrapper_not_found" if "wrapper" in NOT_FOUND[path] else "not_found"
    assert (reply.status_code, reply.json()) == (404, problem(NOT_FOUND[path], code))
    assert "x-request-id" in reply.headers


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("argumets", "there is no wrapper 'argumets'; did you mean arguments?"),
        ("%2e%2e", "there is no wrapper '..'"),
        ("%00", r"there is no wrapper '\x00'"),
        ("gr%C3%BCn", "there is no wrapper 'grün'"),
        ("%0d%0aX-Injected:%20yes", r"there is no wrapper '\r\nX-Injected: yes'"),
        ("x" * 5000, f"there is no wrapper '{'x' * 64}'"),
    ],
)
def test_error_is_404_with_the_nearest_name_when_the_wrapper_is_unknown(gateway: Gateway, name: str, said: str) -> None:
    with requests.Session() as session:
        request = requests.Request("POST", gateway.url, json={}).prepare()
        request.url = f"{gateway.url}/{name}/run"
        reply = session.send(request, timeout=WAIT_S)
    assert (reply.status_code, reply.json()) == (404, problem(said, "wrapper_not_found"))


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/arguments/run", {"POST"}),
        ("PUT", "/arguments/run", {"POST"}),
        ("POST", "/livez", {"GET", "HEAD"}),
        ("DELETE", "/status", {"GET", "HEAD"}),
        ("POST", "/arguments/schema", {"GET", "HEAD"}),
        ("PATCH", "/v1/files", {"GET", "HEAD", "POST"}),  # more than one route
        ("PATCH", "/files/file-1", {"GET", "HEAD", "DELETE"}),
    ],
)
def test_error_is_405_with_allow_when_the_method_is_wrong(
    gateway: Gateway, method: str, path: str, allowed: set[str]
) -> None:
    reply = requests.request(method, gateway.url + path, timeout=WAIT_S)
    assert (reply.status_code, set(reply.headers["allow"].split(", "))) == (405, allowed)
    message = f"{method} is not allowed on {path}; allowed: {reply.headers['allow']}"
    assert reply.json()["error"] == {
        **problem(message, "method_not_allowed")["error"],
        **({"param": None} if is_openai({"path": path}) else {}),
    }
    assert reply.json().get("detail") == (None if is_openai({"path": path}) else message)


@pytest.mark.parametrize("host", ["[", "a b", "", "x" * 300, "evil.example/path?", "[::1"])
def test_error_stands_an_odd_host_header(gateway: Gateway, host: str) -> None:
    reply = requests.get(f"{gateway.url}/nothing", headers={"Host": host}, timeout=WAIT_S)
    assert (reply.status_code, reply.json()) == (404, problem("there is nothing at /nothing", "not_found"))


def test_error_of_the_wrapper_carries_an_id_and_no_text(gateway: Gateway) -> None:
    reply = requests.post(f"{gateway.url}/raising/run", json={"what": "value"}, timeout=WAIT_S)
    error_id = reply.json()["error"]["error_id"]
    message = f"wrapper raising failed; the log says why under {error_id}"
    error = {"type": "server_error", "message": message, "code": "wrapper_error", "error_id": error_id}
    assert (reply.status_code, reply.json()) == (500, {"error": error, "detail": message})
    assert "hunter2" not in reply.text


MEANT: dict[str, tuple[int, str, str, str]] = {
    "arguments": (422, "invalid_request_error", "top_k must be smaller than 10", "invalid_arguments"),
    "unavailable": (503, "server_error", "the index is being built", "unavailable"),
    "gateway": (500, "server_error", "the index is broken", "internal_error"),
    "unknown status": (460, "invalid_request_error", "an odd status", "http_460"),
}


@pytest.mark.parametrize("what", MEANT)
@pytest.mark.parametrize("where", ["method", "text", "events"])
def test_error_that_the_wrapper_means_for_its_caller_passes(gateway: Gateway, where: str, what: str) -> None:
    reply = requests.post(f"{gateway.url}/raising/run", json={"what": what, "where": where}, timeout=WAIT_S)
    status, kind, message, code = MEANT[what]
    assert reply.status_code == status
    assert (reply.json()["error"]["type"], reply.json()["detail"]) == (kind, message)
    assert what == "unknown status" or reply.json() == problem(message, code, kind)
    assert what != "unavailable" or reply.headers["retry-after"] == "7"


def test_error_of_starlettes_kind_passes_with_its_headers(gateway: Gateway) -> None:
    reply = requests.post(f"{gateway.url}/raising/run", json={"what": "teapot"}, timeout=WAIT_S)
    assert (reply.status_code, reply.headers["x-tea"]) == (418, "green")
    assert reply.json()["detail"] == "I am a teapot"
    assert reply.json()["error"]["type"] == "invalid_request_error"


def test_error_shows_the_traceback_when_told_to(serve_wrapper: Serve) -> None:
    gateway = serve_wrapper(
        """
        from gateway import BasePipelineWrapper

        class PipelineWrapper(BasePipelineWrapper):
            def run_api(self) -> str:
                raise ValueError("the password is hunter2")
        """,
        show_tracebacks=True,
    )
    body = requests.post(f"{gateway.url}/w/run", json={}, timeout=WAIT_S).json()
    assert body["detail"] == body["error"]["message"]
    assert body["detail"].startswith("Traceback (most recent call last):\n")
    assert body["detail"].endswith("ValueError: the password is hunter2\n")
    assert 'pipeline_wrapper.py", line ' in body["detail"]
    assert body["error"]["error_id"].startswith("err_")


def test_error_is_logged_with_its_id_and_traceback(tmp_path: Path) -> None:
    (tmp_path / "raising").symlink_to(WRAPPERS / "raising")
    with spawn("--wrappers-dir", str(tmp_path)) as process:
        process.wait_until_ready()
        reply = requests.post(
            f"{process.url}/raising/run", json={"what": "value"}, headers={"X-Request-ID": "abc"}, timeout=WAIT_S
        )
        line = json.loads(process.wait_for(reply.json()["error"]["error_id"]))
    assert (line["level"], line["request_id"], line["wrapper"]) == ("error", "abc", "raising")
    assert line["error_id"] == reply.json()["error"]["error_id"]
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert line["exception"].endswith("ValueError: the password is hunter2")
    assert sum("hunter2" in line for line in process.lines) == 1


# The renderer by itself.
RENDERED: dict[str, tuple[BaseException, int, dict[str, Any]]] = {
    "gateway": (GatewayError("sentence"), 500, problem("sentence", "internal_error", "server_error")),
    "details": (
        InvalidArguments("sentence", details=[{"loc": "body.x", "message": "m", "type": "t"}]),
        422,
        {
            "error": {
                "type": "invalid_request_error",
                "message": "sentence",
                "code": "invalid_arguments",
                "details": [{"loc": "body.x", "message": "m", "type": "t"}],
            },
            "detail": "sentence",
        },
    ),
    "http": (HTTPException(409, "sentence"), 409, problem("sentence", "conflict")),
    "http without a detail": (HTTPException(502), 502, problem("Bad Gateway", "bad_gateway", "server_error")),
    "raised without a cause": (
        WrapperRaised("wrapper w failed"),
        500,
        problem("wrapper w failed", "wrapper_error", "server_error"),
    ),
}


NATIVE = {"path": "/w/run"}
OPENAI = {"path": "/v1/chat/completions"}
DETAILS = [{"loc": "body.x", "message": "m", "type": "t"}]


@pytest.mark.parametrize("case", RENDERED)
def test_response_of_an_error(case: str) -> None:
    error, status, body = RENDERED[case]
    reply = ProblemRenderer(show_tracebacks=False).response(NATIVE, error)
    assert (reply.status_code, json.loads(bytes(reply.body))) == (status, body)


@pytest.mark.parametrize("case", RENDERED)
def test_response_of_an_error_on_a_path_of_openai(case: str) -> None:
    error, status, body = RENDERED[case]
    reply = ProblemRenderer(show_tracebacks=False).response(OPENAI, error)
    fields = {key: body["error"][key] for key in ("type", "message", "code")}
    assert (reply.status_code, json.loads(bytes(reply.body))) == (status, {"error": {**fields, "param": None}})


@pytest.mark.parametrize(
    ("error", "status", "code", "param"),
    [
        (InvalidRequest("sentence", param="n", code="unsupported_value"), 400, "unsupported_value", "n"),
        (InvalidRequest("sentence"), 400, "invalid_value", None),
        (ModelNotFound("sentence"), 404, "model_not_found", "model"),
    ],
)
def test_response_names_the_field_on_a_path_of_openai(
    error: GatewayError, status: int, code: str, param: str | None
) -> None:
    reply = ProblemRenderer(show_tracebacks=False).response(OPENAI, error)
    fields = {"message": "sentence", "type": "invalid_request_error", "param": param, "code": code}
    assert (reply.status_code, json.loads(bytes(reply.body))) == (status, {"error": fields})
    assert reply.media_type == "application/json"


@pytest.mark.parametrize("status", [420, 460, 499, 520, 599])
def test_response_of_a_status_that_has_no_name(status: int) -> None:
    reply = ProblemRenderer(show_tracebacks=False).response(NATIVE, HTTPException(status, "sentence"))
    assert (reply.status_code, json.loads(bytes(reply.body))["detail"]) == (status, "sentence")


def test_response_keeps_the_headers_of_the_error() -> None:
    renderer = ProblemRenderer(show_tracebacks=False)
    for error in (HTTPException(401, "sentence", {"X-Tea": "green"}), GatewayError("s", headers={"X-Tea": "green"})):
        assert renderer.response(NATIVE, error).headers["x-tea"] == "green"


PROBLEMS: dict[str, tuple[BaseException, Problem]] = {
    "gateway": (GatewayError("sentence"), Problem("sentence", "server_error", "internal_error")),
    "param": (
        InvalidRequest("sentence", param="n"),
        Problem("sentence", "invalid_request_error", "invalid_value", "n"),
    ),
    "details": (
        InvalidArguments("sentence", details=DETAILS),
        Problem("sentence", "invalid_request_error", "invalid_arguments", details=DETAILS),
    ),
    "http too often": (HTTPException(429, "sentence"), Problem("sentence", "rate_limit_error", "too_many_requests")),
    "http": (HTTPException(409, {"any": "JSON"}), Problem('{"any":"JSON"}', "invalid_request_error", "conflict")),
    "raised without a cause": (
        WrapperRaised("wrapper w failed"),
        Problem("wrapper w failed", "server_error", "wrapper_error"),
    ),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_problem_of_an_error(case: str) -> None:
    error, expected = PROBLEMS[case]
    assert ProblemRenderer(show_tracebacks=False).problem(error) == expected


def test_problem_of_what_nobody_foresaw_has_an_id_and_no_text() -> None:
    raised = WrapperRaised("wrapper w failed")
    raised.__cause__ = ValueError("hunter2")
    for error, said, code in (
        (ValueError("hunter2"), "the gateway failed", "internal_error"),
        (raised, "wrapper w failed", "wrapper_error"),
    ):
        found = ProblemRenderer(show_tracebacks=False).problem(error)
        message = f"{said}; the log says why under {found.error_id}"
        assert found == Problem(message, "server_error", code, error_id=found.error_id)
        assert ProblemRenderer(show_tracebacks=True).problem(error).message.endswith("ValueError: hunter2\n")


# Which paths speak OpenAI's dialect.
OPENAI_PATHS = [
    "/v1",
    "/v1/",
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/responses/resp_1",
    "/v1/embeddings",
    "/v1/models",
    "/v1/models/m",
    "/v1/files",
    "/v1/files/abc",
    "/v1/files/file-1/content",
    "/v1/anything",
    "/v1/any/thing/at/all",
    "/v1/a\nb",
    "/v1//",
    "/chat/completions",
    "/responses",
    "/embeddings",
    "/models",
    "/models/m",
    "/models/chat",
    "/files",
    "/files/file-1",
    "/files/file-1/content",
    "/w/chat",
    "/grün/chat",
    "/chat/chat",
    "/files/chat",
    "/responses/chat",
]
NATIVE_PATHS = [
    "",
    "/",
    "/livez",
    "/readyz",
    "/docs",
    "/openapi.json",
    "/status",
    "/status/w",
    "/status/files",
    "/status/chat",
    "/w/run",
    "/w/schema",
    "/chat",
    "/chat/run",
    "/chat/schema",
    "/chat/completions/",
    "/files/run",
    "/files/schema",
    "/files/abc",
    "/files/abc/content",
    "/files/file-",
    "/files/file-1/other",
    "/responses/run",
    "/responses/schema",
    "/embeddings/run",
    "/embeddings/schema",
    "/models/m/run",
    "/v1x",
    "/v1x/run",
    "/v2/chat/completions",
    "/w/chat/",
    "/w/chat/more",
    "//chat",
    "/w/chats",
    "/a/v1/models",
]


@pytest.mark.parametrize("path", OPENAI_PATHS)
def test_path_of_openai(path: str) -> None:
    assert is_openai({"path": path})
    assert is_openai({"path": path, "root_path": ""})
    assert is_openai({"path": f"/behind/a/proxy{path}", "root_path": "/behind/a/proxy"})


@pytest.mark.parametrize("path", NATIVE_PATHS)
def test_path_of_the_gateway_itself(path: str) -> None:
    assert not is_openai({"path": path})
    assert not is_openai({"path": f"/behind/a/proxy{path}", "root_path": "/behind/a/proxy"})


@pytest.mark.parametrize(
    ("root_path", "path", "expected"),
    [
        ("/v1", "/v1/w/run", False),
        ("/v1", "/v1/v1/models", True),
        ("/gate", "/gateway/chat", True),
        ("/gate", "/gate/w/run", False),
        ("/gate", "/w/chat", True),
    ],
)
def test_path_is_read_below_the_root_path_as_the_router_does(root_path: str, path: str, expected: bool) -> None:
    assert is_openai({"path": path, "root_path": root_path}) is expected


ENVELOPES = {  # what the server itself answers with, at each door
    ("GET", "/v1/anything"): (404, "there is nothing at /v1/anything", "not_found", None),
    ("GET", "/v1/models/nope"): (404, "there is no wrapper 'nope'", "model_not_found", "model"),
    ("GET", "/models/nope"): (404, "there is no wrapper 'nope'", "model_not_found", "model"),
    ("POST", "/nope/chat"): (400, "messages is required", "missing_required_parameter", "messages"),
    ("POST", "/chat/completions"): (400, "model is required", "missing_required_parameter", "model"),
    ("POST", "/responses"): (400, "model is required", "missing_required_parameter", "model"),
    ("POST", "/embeddings"): (400, "model is required", "missing_required_parameter", "model"),
    ("GET", "/files/file-nope"): (404, "there is no file 'file-nope'", "file_not_found", "file_id"),
    ("GET", "/chat/completions"): (
        405,
        "GET is not allowed on /chat/completions; allowed: POST",
        "method_not_allowed",
        None,
    ),
}


@pytest.mark.parametrize("door", ENVELOPES, ids=" ".join)
def test_error_is_in_the_envelope_of_openai_on_its_paths(gateway: Gateway, door: tuple[str, str]) -> None:
    status, message, code, param = ENVELOPES[door]
    method, path = door
    body = {} if method == "POST" else None
    reply = requests.request(method, gateway.url + path, json=body, timeout=WAIT_S)
    fields = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    assert (reply.status_code, reply.json()) == (status, {"error": fields})


@pytest.mark.parametrize("path", ["/files/abc", "/files/abc/content", "/chats", "/v1x/models"])
def test_error_is_native_beside_the_paths_of_openai(gateway: Gateway, path: str) -> None:
    reply = requests.get(gateway.url + path, timeout=WAIT_S)
    assert (reply.status_code, reply.json()) == (404, problem(f"there is nothing at {path}", "not_found"))


def test_every_route_speaks_the_dialect_of_its_endpoint(tmp_path: Path) -> None:
    spoken = {
        (path := re.sub(r"\{\w+\}", "x", route.path)): (
            is_openai({"path": path}),
            route.endpoint.__module__ in OPENAI_MODULES,
        )
        for route in create_app(Settings(wrappers_dir=tmp_path)).routes
        if isinstance(route, Route)
    }
    assert {path: said for path, said in spoken.items() if said[0] != said[1]} == {}
    assert (True, True) in spoken.values()
