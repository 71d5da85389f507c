"""Errors of the chat endpoint, and of every OpenAI path: the SDK's exceptions, and the envelope they are made from."""

import json
import re
from collections.abc import Iterator
from typing import Any

import openai
import pytest
import requests
from openai.types.shared import ErrorObject

from tests import probe as probes
from tests.conftest import Serve
from tests.gateways import Gateway
from tests.openai.conftest import MAX_BODY_BYTES, SDK, make_client
from tests.openai.strict import check, record
from tests.probe import Probe

WAIT_S = 20.0
SAY = [{"role": "user", "content": "hello"}]
WRAPPERS = ("chat_raising", "chat_raising_async")
ERROR_ID = re.compile(r"err_[0-9a-f]{16}")
INVALID = "invalid_request_error"

wrappers = pytest.mark.parametrize("wrapper", WRAPPERS)


def ask(sdk: SDK, model: str = "chat_kinds", **more: Any) -> Any:
    return sdk.get(sdk.client.chat.completions.create(**{"model": model, "messages": SAY, **more}))


def refused(sdk: SDK, *arguments: Any, **more: Any) -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as caught:
        ask(sdk, *arguments, **more)
    check(caught.value.body, ErrorObject)
    return caught.value


def envelope(
    message: str, code: str | None = None, param: str | None = None, kind: str = INVALID
) -> dict[str, str | None]:
    return {"message": message, "type": kind, "param": param, "code": code}


def hide_id(error: dict[str, Any]) -> dict[str, Any]:
    """The same for every run."""
    return {**error, "message": ERROR_ID.sub("err_…", error["message"])}


# What the wrapper raises.

HTTP_FAULTS = {
    "400": (openai.BadRequestError, 400, envelope("ask otherwise", "bad_request")),
    "401": (openai.AuthenticationError, 401, envelope("who are you?", "unauthorized")),
    "403": (openai.PermissionDeniedError, 403, envelope("not you", "forbidden")),
    "404": (openai.NotFoundError, 404, envelope("no such index", "not_found")),
    "409": (openai.ConflictError, 409, envelope("the index is being changed", "conflict")),
    "422": (
        openai.UnprocessableEntityError,
        422,
        envelope("top_k must be smaller than 10", "invalid_arguments"),
    ),
    "429": (openai.RateLimitError, 429, envelope("slower", "too_many_requests", kind="rate_limit_error")),
    "503": (
        openai.InternalServerError,
        503,
        envelope("the index is away", "service_unavailable", kind="server_error"),
    ),
}


def failed(wrapper: str) -> dict[str, Any]:
    return envelope(f"wrapper {wrapper} failed; the log says why under err_…", "wrapper_error", kind="server_error")


PLACES = [("method", False), ("method", True), ("first", True), ("later", False)]
RAISED = [(what, *place) for what in (*HTTP_FAULTS, "value") for place in PLACES] + [("object", "first", False)]


@wrappers
@pytest.mark.parametrize(("what", "where", "is_stream"), RAISED)
def test_fault_before_the_first_byte_has_its_status(
    sdk: SDK, wrapper: str, what: str, where: str, is_stream: bool
) -> None:
    expected = HTTP_FAULTS.get(what, (openai.InternalServerError, 500, failed(wrapper)))
    error = refused(sdk, wrapper, stream=is_stream, metadata={"what": what, "where": where})
    assert (type(error), error.status_code, hide_id(error.body)) == expected  # type: ignore[arg-type]
    assert error.response.json() == {"error": error.body}
    assert error.response.headers["content-type"] == "application/json"


def test_wrapper_may_say_when_to_try_again(sdk: SDK) -> None:
    error = refused(sdk, "chat_raising", metadata={"what": "429", "where": "method"})
    assert error.response.headers["retry-after"] == "7"


@wrappers
@pytest.mark.parametrize("what", [*HTTP_FAULTS, "value", "object"])
def test_stream_that_breaks_raises_after_its_chunks(sdk: SDK, wrapper: str, what: str) -> None:
    asked = {
        "model": wrapper,
        "messages": SAY,
        "stream": True,
        "stream_options": {"include_usage": True},
        "metadata": {"what": what, "where": "later"},
    }
    expected = HTTP_FAULTS[what][2] if what in HTTP_FAULTS else failed(wrapper)
    chunks: list[Any] = []
    with pytest.raises(openai.APIError) as caught:
        sdk.read(sdk.client.chat.completions.create(**asked), chunks)
    error = caught.value
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["one ", "two "]
    assert type(error) is openai.APIError
    assert hide_id(error.body) == expected  # type: ignore[arg-type]
    assert (error.code, error.type, error.param) == (expected["code"], expected["type"], expected["param"])
    assert error.message == error.body["message"]  # type: ignore[index]
    events = record(sdk.body(sdk.client.chat.completions.with_streaming_response.create(**asked)))
    assert [list(event.data) for event in events[:-1]] == [["id", "object", "created", "model", "choices", "usage"]] * 2
    assert (events[-1].kind, list(events[-1].data), hide_id(events[-1].data["error"])) == (
        "message",
        ["error"],
        expected,
    )


@wrappers
def test_first_chunk_that_is_no_part_of_a_reply(sdk: SDK, wrapper: str) -> None:
    """It is looked at only when the stream has begun."""
    asked = {"model": wrapper, "messages": SAY, "metadata": {"what": "object", "where": "first"}}
    events = record(sdk.body(sdk.client.chat.completions.with_streaming_response.create(**asked, stream=True)))
    assert [hide_id(event.data["error"]) for event in events] == [failed(wrapper)]
    with pytest.raises(openai.APIError, match=f"wrapper {wrapper} failed"):
        sdk.read(sdk.client.chat.completions.create(**asked, stream=True))


@wrappers
def test_stream_helper_raises_when_the_stream_breaks(sdk: SDK, wrapper: str) -> None:
    helper = sdk.client.chat.completions.stream(
        model=wrapper, messages=SAY, metadata={"what": "value", "where": "later"}
    )
    with pytest.raises(openai.APIError, match=f"wrapper {wrapper} failed"):
        sdk.follow(helper, "get_final_completion")


# What the gateway refuses.

MODEL = {"model": "chat_kinds"}
MISSING = "missing_required_parameter"
BAD_REQUESTS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"messages": []}, envelope("messages must not be empty", "empty_array", "messages")),
    ({"messages": "hello"}, envelope("messages must be an array, not a string", "invalid_type", "messages")),
    ({"messages": None}, envelope("messages is required", MISSING, "messages")),
    ({"messages": ["hello"]}, envelope("messages[0] must be an object, not a string", "invalid_type", "messages[0]")),
    (
        {"messages": [*SAY, {"content": "hello"}]},
        envelope("messages[1].role is required", MISSING, "messages[1].role"),
    ),
    (
        {"messages": [{"role": "user", "content": 5}]},
        envelope(
            "messages[0].content must be a string or an array, not an integer", "invalid_type", "messages[0].content"
        ),
    ),
    (
        {"messages": [{"role": "user", "content": ["hello"]}]},
        envelope("messages[0].content[0] must be an object", "invalid_type", "messages[0].content[0]"),
    ),
    ({"model": None}, envelope("model is required", MISSING, "model")),
    ({"model": 5}, envelope("model must be a string, not an integer", "invalid_type", "model")),
    ({"stream": "yes"}, envelope("stream must be true or false, not a string", "invalid_type", "stream")),
    (
        {"stream_options": [1]},
        envelope("stream_options must be an object, not an array", "invalid_type", "stream_options"),
    ),
    (
        {"stream_options": {"include_usage": 1}},
        envelope(
            "stream_options.include_usage must be true or false, not an integer",
            "invalid_type",
            "stream_options.include_usage",
        ),
    ),
    ({"n": "2"}, envelope("n must be an integer, not a string", "invalid_type", "n")),
    ({"n": True}, envelope("n must be an integer, not true or false", "invalid_type", "n")),
    ({"n": 0}, envelope("n must be from 1 to 128, not 0", "invalid_value", "n")),
    ({"n": 129}, envelope("n must be from 1 to 128, not 129", "invalid_value", "n")),
    (
        {"n": 2},
        envelope("n = 2 is not supported: wrapper chat_kinds gives 1 at most", "unsupported_value", "n"),
    ),
    (
        {"n": 3, "model": "chat_echo"},
        envelope("n = 3 is not supported: wrapper chat_echo gives 2 at most", "unsupported_value", "n"),
    ),
]


@pytest.mark.parametrize(("asked", "expected"), BAD_REQUESTS)
def test_bad_request_names_the_field(sdk: SDK, asked: dict[str, Any], expected: dict[str, Any]) -> None:
    error = refused(sdk, extra_body=asked)  # the SDK would not send some of it by itself
    assert (type(error), error.status_code, error.body) == (openai.BadRequestError, 400, expected)
    assert (error.param, error.code, error.type) == (expected["param"], expected["code"], INVALID)


NO_MODEL = {
    "nope": "there is no wrapper 'nope'",
    "chat_kind": "there is no wrapper 'chat_kind'; did you mean chat_kinds?",
    "chat_kinds/chat": "there is no wrapper 'chat_kinds/chat'; did you mean chat_kinds?",
    "": "there is no wrapper ''",
}


@pytest.mark.parametrize("model", NO_MODEL)
def test_unknown_model_is_not_found(sdk: SDK, model: str) -> None:
    error = refused(sdk, model)
    assert type(error) is openai.NotFoundError
    assert error.body == envelope(NO_MODEL[model], "model_not_found", "model")


def test_wrapper_without_chat_is_not_found(sdk: SDK) -> None:
    error = refused(sdk, "arguments")
    assert type(error) is openai.NotFoundError
    message = "wrapper arguments has no run_chat_completion(): it answers run_api"
    assert error.body == envelope(message, "model_not_found", "model")


def test_wrapper_that_failed_to_load(sdk: SDK) -> None:
    error = refused(sdk, "broken")
    assert (type(error), error.status_code) == (openai.InternalServerError, 503)
    message = "wrapper broken failed to load; its reason stands in /status"
    assert error.body == envelope(message, "wrapper_failed", kind="server_error")
    assert "retry-after" not in error.response.headers


FULL = """
    from gateway import BasePipelineWrapper, Limits
    from tests import probe
    probe = probe.current

    class PipelineWrapper(BasePipelineWrapper):
        limits = Limits(max_concurrency=1, max_queue=0)

        {method}(self, model: str, messages: list, body: dict):
            yield "first"
            {wait}("go")
"""


@pytest.fixture
def probe() -> Iterator[Probe]:
    yield probes.renew()
    probes.renew()


@pytest.mark.parametrize(
    ("method", "wait"),
    [("def run_chat_completion", "probe.wait"), ("async def run_chat_completion_async", "await probe.until")],
)
def test_full_queue_is_a_rate_limit(serve_wrapper: Serve, probe: Probe, method: str, wait: str) -> None:
    gateway = serve_wrapper(FULL.format(method=method, wait=wait))
    with make_client(gateway) as client:
        asked: Any = {"model": "w", "messages": SAY}
        with client.chat.completions.create(**asked, stream=True) as stream:
            assert next(stream).choices[0].delta.content == "first"
            with pytest.raises(openai.RateLimitError) as caught:
                client.chat.completions.create(**asked)
            probe.set("go")
            assert [chunk.choices[0].finish_reason for chunk in stream] == ["stop"]
    message = "wrapper w: 1 runs in hand and 0 waiting; try again later"
    assert caught.value.body == envelope(message, "queue_full", kind="rate_limit_error")
    assert caught.value.response.headers["retry-after"] == "1"


# The envelope on every path.

CHAT_PATHS = ("/v1/chat/completions", "/chat/completions", "/chat_kinds/chat")
POST_PATHS = (*CHAT_PATHS, "/v1/responses", "/responses", "/v1/embeddings", "/embeddings")


def send(gateway: Gateway, method: str, path: str, data: bytes | None = None, **headers: str) -> requests.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.request(method, gateway.url + path, data=data, headers=names, timeout=WAIT_S)


def read_error(reply: requests.Response) -> dict[str, Any]:
    body = reply.json()
    assert list(body) == ["error"]
    assert list(body["error"]) == ["message", "type", "param", "code"]
    assert reply.headers["content-type"] == "application/json"
    error: dict[str, Any] = check(body["error"], ErrorObject)
    return error


NOTHING = [
    ("GET", "/v1"),
    ("GET", "/v1/"),
    ("POST", "/v1/nope"),
    ("GET", "/v1/chat/completions/chatcmpl-1"),
    ("POST", "/v1/completions"),
    ("GET", "/v1/models/a/b"),
    ("DELETE", "/v1/chat_kinds/run"),
    ("GET", "/v1/files/file-1/nope"),
]


@pytest.mark.parametrize(("method", "path"), NOTHING)
def test_path_that_is_not_there(gateway: Gateway, method: str, path: str) -> None:
    reply = send(gateway, method, path)
    assert (reply.status_code, read_error(reply)) == (404, envelope(f"there is nothing at {path}", "not_found"))


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize("path", POST_PATHS)
def test_method_that_is_not_allowed(gateway: Gateway, method: str, path: str) -> None:
    reply = send(gateway, method, path)
    message = f"{method} is not allowed on {path}; allowed: POST"
    assert (reply.status_code, read_error(reply)) == (405, envelope(message, "method_not_allowed"))
    assert reply.headers["allow"] == "POST"


@pytest.mark.parametrize("path", ["/v1/models", "/models", "/v1/models/chat_kinds", "/models/chat_kinds"])
def test_models_are_only_read(gateway: Gateway, path: str) -> None:
    reply = send(gateway, "POST", path)
    assert reply.status_code == 405
    assert read_error(reply)["code"] == "method_not_allowed"


@pytest.mark.parametrize("path", POST_PATHS)
def test_body_that_is_not_json(gateway: Gateway, path: str) -> None:
    reply = send(gateway, "POST", path, b'{"model": ', content_type="application/json")
    error = read_error(reply)
    assert (reply.status_code, error["code"], error["type"]) == (400, "invalid_json", INVALID)
    assert error["message"].startswith("the body is not valid JSON: ")


@pytest.mark.parametrize("path", POST_PATHS)
def test_body_that_is_empty(gateway: Gateway, path: str) -> None:
    reply = send(gateway, "POST", path)
    expected = envelope("the body is empty: send a JSON object", "invalid_json")
    assert (reply.status_code, read_error(reply)) == (400, expected)


@pytest.mark.parametrize("path", POST_PATHS)
def test_body_that_is_no_object(gateway: Gateway, path: str) -> None:
    reply = send(gateway, "POST", path, b"[1]", content_type="application/json")
    expected = envelope("the body must be a JSON object, not an array", "invalid_type")
    assert (reply.status_code, read_error(reply)) == (400, expected)


@pytest.mark.parametrize("path", POST_PATHS)
def test_body_of_another_type(gateway: Gateway, path: str) -> None:
    reply = send(gateway, "POST", path, b"hello", content_type="text/plain")
    message = "Content-Type text/plain is not supported: add the header 'Content-Type: application/json'"
    assert (reply.status_code, read_error(reply)) == (415, envelope(message, "unsupported_media_type"))


@pytest.mark.parametrize("path", POST_PATHS)
def test_body_that_is_too_large(gateway: Gateway, path: str) -> None:
    reply = send(gateway, "POST", path, b" " * (MAX_BODY_BYTES + 1), content_type="application/json")
    message = f"the body is larger than max_body_bytes = {MAX_BODY_BYTES} bytes"
    assert (reply.status_code, read_error(reply)) == (413, envelope(message, "too_large"))


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat/completions", "/v1/responses", "/responses"])
def test_unknown_model_on_every_path(gateway: Gateway, path: str) -> None:
    body = json.dumps({"model": "nope", "messages": SAY, "input": "hello"}).encode()
    reply = send(gateway, "POST", path, body, content_type="application/json")
    expected = envelope("there is no wrapper 'nope'", "model_not_found", "model")
    assert (reply.status_code, read_error(reply)) == (404, expected)


def test_unknown_name_in_the_path(gateway: Gateway) -> None:
    reply = send(gateway, "POST", "/nope/chat", json.dumps({"messages": SAY}).encode())
    expected = envelope("there is no wrapper 'nope'", "model_not_found", "model")
    assert (reply.status_code, read_error(reply)) == (404, expected)


@pytest.mark.parametrize("path", CHAT_PATHS)
def test_run_that_fails_on_every_path(gateway: Gateway, path: str) -> None:
    body = {"model": "chat_raising", "messages": SAY, "metadata": {"what": "value", "where": "method"}}
    path = path.replace("chat_kinds", "chat_raising")
    reply = send(gateway, "POST", path, json.dumps(body).encode())
    assert (reply.status_code, hide_id(read_error(reply))) == (500, failed("chat_raising"))
    assert "hunter2" not in reply.text
