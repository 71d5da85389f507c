"""Requests that no client should send: each is refused in OpenAI's words or answered, and the server goes on."""

import json
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.gateways import WRAPPERS, Gateway, serve
from tests.openai.strict import DONE, record
from tests.wire import connect

WAIT_S = 60.0
NAME = "abused"
SAY = [{"role": "user", "content": "hello"}]
CHAT = {"model": NAME, "messages": SAY}
RESPONSE = {"model": NAME, "input": "hello"}
EMBEDDING = {"model": NAME, "input": "hello"}
PATHS = {
    "/v1/chat/completions": CHAT,
    "/chat/completions": CHAT,
    f"/{NAME}/chat": CHAT,
    "/v1/responses": RESPONSE,
    "/responses": RESPONSE,
    "/v1/embeddings": EMBEDDING,
    "/embeddings": EMBEDDING,
}
MAIN_PATHS = [path for path in PATHS if path.startswith("/v1/")]
DEEP = 100_000

json_paths = pytest.mark.parametrize("path", PATHS)
main_paths = pytest.mark.parametrize("path", MAIN_PATHS)
upload_paths = pytest.mark.parametrize("path", ["/v1/files", "/files"])


@pytest.fixture(scope="module")
def wrappers_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    wrappers_dir = tmp_path_factory.mktemp("wrappers")
    for name in (NAME, "abused_chat"):
        (wrappers_dir / name).symlink_to(WRAPPERS / name)
    return wrappers_dir


@pytest.fixture(scope="module")
def gateway(wrappers_dir: Path) -> Iterator[Gateway]:
    with serve(wrappers_dir) as gateway:
        yield gateway


class Answer:
    """`headers`: by their names in lower case."""

    def __init__(self, response: HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.content = response.read()

    @property
    def is_stream(self) -> bool:
        return self.headers["content-type"].startswith("text/event-stream")

    def json(self) -> Any:
        return json.loads(self.content)


class Door:
    """One connection, kept alive, through which whatever is given goes to any path."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connection = HTTPConnection("127.0.0.1", port, timeout=WAIT_S)

    def ask(self, method: str, path: str, data: bytes | None = None, media_type: str = "application/json") -> Answer:
        self.connection.request(method, path, data, {"Content-Type": media_type})
        return Answer(self.connection.getresponse())

    def post(self, path: str, body: Any, media_type: str = "application/json") -> Answer:
        """`body`: bytes as they are, anything else as JSON."""
        return self.ask("POST", path, body if isinstance(body, bytes) else json.dumps(body).encode(), media_type)

    def refuse(self, path: str, body: Any, media_type: str = "application/json") -> tuple[int, str, str | None]:
        """Status, code and param of a refusal."""
        answer = self.post(path, body, media_type)
        return answer.status, *read_error(answer)

    def survive(self, path: str, body: Any) -> int:
        """The status of a proper answer, or of a refusal."""
        answer = self.post(path, body)
        if answer.status != 200:
            assert answer.status in (400, 404), (answer.status, answer.content)
            read_error(answer)
        elif answer.is_stream:
            assert [event for event in record(answer.content) if "error" in event.data] == []
            assert answer.content.endswith(b"data: [DONE]\n\n") or b"event: response.completed\n" in answer.content
        else:
            assert answer.json().get("error") is None
        return answer.status


@pytest.fixture(scope="module")
def server(gateway: Gateway) -> Iterator[Door]:
    door = Door(gateway.port)
    yield door
    door.connection.close()


@pytest.fixture(autouse=True)
def _still_answers(server: Door) -> Iterator[None]:
    yield
    assert server.post("/v1/chat/completions", CHAT).json()["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "hello", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]


def read_error(answer: Answer) -> tuple[str, str | None]:
    """The code and the param of a refusal. Fails unless its body is the envelope and nothing else."""
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body.keys() == {"error"}
    error = body["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["type"] == ("server_error" if answer.status >= 500 else "invalid_request_error")
    return error["code"], error["param"]


def with_raw(good: Mapping[str, Any], raw: bytes) -> bytes:
    """`good` with one more field, `extra`, of which the JSON is `raw`."""
    return json.dumps(good).encode()[:-1] + b',"extra":' + raw + b"}"


# Bodies that are no JSON object.

MALFORMED = {
    "empty": b"",
    "blank": b" \r\n\t",
    "text": b"hello",
    "form": b"model=abused&input=hello",
    "cut": b'{"model": "abused", "messages": [{"ro',
    "two objects": b"{}{}",
    "trailing comma": b'{"model": "abused",}',
    "comment": b'{"model": "abused" /* mine */}',
    "single quotes": b"{'model': 'abused'}",
    "zeros": b"\0" * 100,
    "not UTF-8": b'{"model": "\xff\xfe"}',
    "UTF-16": '{"model": "abused"}'.encode("utf-16"),
    "surrogate as bytes": b'{"model": "\xed\xa0\x80"}',
    "lone surrogate": b'{"model": "\\ud800"}',
    "reversed pair": b'{"model": "\\ude00\\ud83d"}',
    "surrogate in a key": b'{"\\udfff": 1}',
    "control character": b'{"model": "a\x01b"}',
    "NaN": b'{"model": NaN}',
    "Infinity": b'{"model": Infinity}',
    "minus Infinity": b'{"model": [-Infinity]}',
    "deep arrays": b"[" * DEEP,
    "deep arrays, closed": b"[" * DEEP + b"]" * DEEP,
    "deep objects": b'{"a":' * DEEP,
    "deep objects, closed": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
}
NO_OBJECTS = {
    "array": b"[]",
    "objects": b'[{"model": "abused"}]',
    "text": b'"abused"',
    "null": b"null",
    "true": b"true",
}
NO_OBJECTS |= {"integer": b"1", "number": b"-1.5e300", "a long number": b"9" * 4000}


@json_paths
@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_body_that_is_no_json_is_refused(server: Door, path: str, body: bytes) -> None:
    assert server.refuse(path, body) == (400, "invalid_json", None)


@json_paths
@pytest.mark.parametrize("body", NO_OBJECTS.values(), ids=NO_OBJECTS)
def test_body_that_is_no_object_is_refused(server: Door, path: str, body: bytes) -> None:
    assert server.refuse(path, body) == (400, "invalid_type", None)


@json_paths
def test_fields_that_break_the_json_are_refused(server: Door, path: str) -> None:
    for raw in (
        b"NaN",
        b"[1, -Infinity]",
        b'"\\ud800"',
        b"[" * DEEP + b"]" * DEEP,
        b'{"a":' * DEEP + b"1" + b"}" * DEEP,
        b'"\n"',
    ):
        assert server.refuse(path, with_raw(PATHS[path], raw)) == (400, "invalid_json", None), raw[:20]


@json_paths
@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "image/png", "\xff", "json"])
def test_body_of_another_type_is_refused(server: Door, path: str, media_type: str) -> None:
    assert server.refuse(path, PATHS[path], media_type) == (415, "unsupported_media_type", None)


# Sizes.


@json_paths
@pytest.mark.parametrize("is_announced", [True, False])
def test_body_beyond_the_limit_is_refused(server: Door, path: str, is_announced: bool) -> None:
    size = 20_000_000
    length = f"Content-Length: {size}" if is_announced else "Transfer-Encoding: chunked"
    piece = b"x" * 100_000
    with connect(server.port) as connection:
        head = f"POST {path} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n{length}\r\n\r\n"
        connection.socket.sendall(head.encode())
        for _ in range(size // len(piece)):
            connection.socket.sendall(piece if is_announced else b"%x\r\n%s\r\n" % (len(piece), piece))
        if not is_announced:
            connection.socket.sendall(b"0\r\n\r\n")
        error = json.loads(connection.head().body())
        assert (connection.status, error) == (
            413,
            {
                "error": {
                    "message": "the body is larger than max_body_bytes = 16777216 bytes",
                    "type": "invalid_request_error",
                    "param": None,
                    "code": "too_large",
                }
            },
        )


def test_many_messages_are_answered(server: Door) -> None:
    messages = [{"role": "user", "content": str(number)} for number in range(100_000)]
    chat = server.post("/v1/chat/completions", {"model": NAME, "messages": messages})
    assert (chat.status, chat.json()["choices"][0]["message"]["content"]) == (200, "99999")
    response = server.post("/v1/responses", {"model": NAME, "input": messages})
    assert (response.status, response.json()["output"][0]["content"][0]["text"]) == (200, "99999")


@pytest.mark.parametrize(("count", "status"), [(2048, 200), (2049, 400), (100_000, 400)])
def test_many_inputs_are_embedded_up_to_the_bound(server: Door, count: int, status: int) -> None:
    response = server.post("/v1/embeddings", {"model": NAME, "input": ["ab"] * count})
    if status == 200:
        assert [item["embedding"] for item in response.json()["data"]] == [[2.0]] * count
    else:
        assert (response.status, *read_error(response)) == (400, "invalid_value", "input")


@pytest.mark.parametrize("is_stream", [False, True])
def test_huge_text_comes_back_whole(server: Door, is_stream: bool) -> None:
    text = "ü\n" * 1_000_000
    body = {**CHAT, "messages": [{"role": "user", "content": text}], "stream": is_stream}
    assert read_text(server.post("/v1/chat/completions", body)) == text


RAW = (b"1" * 4000, b"1e999", b"-1e-999", b"0." + b"1" * 10_000, b"[" * 100 + b"]" * 100, b'"\\ud83d\\ude00"', b"0e1")


@json_paths
def test_huge_keys_and_numbers_are_no_harm(server: Door, path: str) -> None:
    huge = {"k" * 1_000_000: "v" * 1_000_000, **{f"key{number}": number for number in range(20_000)}}
    assert server.survive(path, {**PATHS[path], **huge}) == 200
    statuses = {raw[:5]: server.survive(path, with_raw(PATHS[path], raw)) for raw in RAW}
    assert statuses == dict.fromkeys(statuses, 200)


# Fields.

VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "false": False,
    "zero": 0,
    "negative": -1.5,
    "long": 10**30,
    "nothing": "",
    "text": "x",
    "NUL": "\0",
    "array": [],
    "texts": ["x"],
    "mixed": [None, 1, "x", [[]], {}],
    "objects": [{}],
    "untyped": [{"type": None}],
    "object": {},
    "unknown": {"type": "x", "x": {"y": [None]}},
}
CHAT_FIELDS = (
    "model messages audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens "
    "max_tokens metadata modalities n parallel_tool_calls prediction presence_penalty prompt_cache_key "
    "reasoning_effort response_format safety_identifier seed service_tier stop store stream stream_options "
    "temperature tool_choice tools top_logprobs top_p user verbosity web_search_options unknown"
)
RESPONSE_FIELDS = (
    "model input background conversation include instructions max_output_tokens max_tool_calls metadata "
    "parallel_tool_calls previous_response_id prompt prompt_cache_key reasoning safety_identifier service_tier store "
    "stream stream_options temperature text tool_choice tools top_logprobs top_p truncation user unknown"
)
EMBEDDING_FIELDS = "model input dimensions encoding_format user unknown"
FIELDS = {
    "/v1/chat/completions": CHAT_FIELDS.split(),
    "/v1/responses": RESPONSE_FIELDS.split(),
    "/v1/embeddings": EMBEDDING_FIELDS.split(),
}
ROWS = [(path, field) for path, fields in FIELDS.items() for field in fields]


@pytest.mark.parametrize(("path", "field"), ROWS)
def test_field_of_any_value_is_answered_or_refused(server: Door, path: str, field: str) -> None:
    for value in VALUES.values():
        server.survive(path, {**PATHS[path], field: value})
        if path == "/v1/responses":
            server.survive(path, {**PATHS[path], "model": "abused_chat", "stream": True, field: value})


STRICT = {  # what the gateway itself heeds: the param it names, the values it takes
    ("/v1/chat/completions", "model"): ("model", {}),
    ("/v1/chat/completions", "messages"): ("messages", {}),
    ("/v1/chat/completions", "n"): ("n", {"null"}),
    ("/v1/chat/completions", "stream"): ("stream", {"null", "true", "false"}),
    ("/v1/chat/completions", "stream_options"): (
        "stream_options",
        {"null", "object", "unknown"},
    ),
    ("/v1/responses", "model"): ("model", {}),
    ("/v1/responses", "input"): ("input", {"nothing", "text", "NUL"}),
    ("/v1/responses", "stream"): ("stream", {"null", "true", "false"}),
    ("/v1/embeddings", "model"): ("model", {}),
    ("/v1/embeddings", "input"): ("input", {"nothing", "text", "NUL", "texts"}),
    ("/v1/embeddings", "encoding_format"): ("encoding_format", {"null"}),
    ("/v1/embeddings", "dimensions"): ("dimensions", {"null", "long"}),
}


@pytest.mark.parametrize(("path", "field"), STRICT)
def test_field_that_is_heeded_takes_its_values_only(server: Door, path: str, field: str) -> None:
    param, taken = STRICT[path, field]
    answers = {name: server.post(path, {**PATHS[path], field: value}) for name, value in VALUES.items()}
    assert {name for name, answer in answers.items() if answer.status == 200} == set(taken)
    params = {read_error(answer)[1] for name, answer in answers.items() if name not in taken}
    assert {str(name).partition("[")[0] for name in params} == {param}


@main_paths
def test_body_in_which_all_is_null_is_refused(server: Door, path: str) -> None:
    assert server.refuse(path, dict.fromkeys(FIELDS[path])) == (400, "missing_required_parameter", "model")
    nulls = dict.fromkeys(field for field in FIELDS[path] if field not in PATHS[path])
    assert server.survive(path, {**PATHS[path], **nulls}) == 200


PLACES: dict[str, dict[str, Any]] = {  # of one message or item: the field `x` takes every value
    "role": {"role": "x", "content": "hello"},
    "content": {"role": "user", "content": "x"},
    "part": {"role": "user", "content": ["x"]},
    "part type": {"role": "user", "content": [{"type": "x", "text": "hello"}]},
    "text": {"role": "user", "content": [{"type": "text", "text": "x"}]},
    "input text": {"role": "user", "content": [{"type": "input_text", "text": "x"}]},
    "image": {"role": "user", "content": [{"type": "image_url", "image_url": "x"}]},
    "image url": {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
    "input image": {"role": "user", "content": [{"type": "input_image", "image_url": "x"}]},
    "audio": {"role": "user", "content": [{"type": "input_audio", "input_audio": "x"}]},
    "file": {"role": "user", "content": [{"type": "file", "file": "x"}]},
    "file id": {"role": "user", "content": [{"type": "file", "file": {"file_id": "x"}}]},
    "file data": {"role": "user", "content": [{"type": "file", "file": {"file_data": "x", "filename": "x"}}]},
    "input file": {"role": "user", "content": [{"type": "input_file", "file_id": "x"}]},
    "name": {"role": "user", "content": "hello", "name": "x"},
    "system": {"role": "system", "content": "x"},
    "system part": {"role": "developer", "content": [{"type": "text", "text": "x"}]},
    "assistant": {"role": "assistant", "content": "x"},
    "assistant part": {"role": "assistant", "content": [{"type": "text", "text": "x"}]},
    "refusal": {"role": "assistant", "refusal": "x"},
    "refusal part": {"role": "assistant", "content": [{"type": "refusal", "refusal": "x"}]},
    "reasoning": {"role": "assistant", "content": "a", "reasoning_content": "x"},
    "calls": {"role": "assistant", "tool_calls": "x"},
    "call": {"role": "assistant", "tool_calls": ["x"]},
    "call id": {"role": "assistant", "tool_calls": [{"id": "x", "function": {"name": "f", "arguments": "{}"}}]},
    "call function": {"role": "assistant", "tool_calls": [{"id": "a", "function": "x"}]},
    "call name": {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "x", "arguments": "{}"}}]},
    "call arguments": {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "x"}}]},
    "custom call": {"role": "assistant", "tool_calls": [{"id": "a", "type": "custom", "custom": "x"}]},
    "function call": {"role": "assistant", "function_call": "x"},
    "tool": {"role": "tool", "tool_call_id": "a", "content": "x"},
    "tool call id": {"role": "tool", "tool_call_id": "x", "content": "a"},
    "tool part": {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "x"}]},
    "function": {"role": "function", "name": "x", "content": "a"},
    "unknown": {"role": "user", "content": "hello", "unknown": "x"},
}
ITEM_PLACES: dict[str, dict[str, Any]] = {
    "type": {"type": "x", "role": "user", "content": "hello"},
    "function_call": {"type": "function_call", "call_id": "a", "name": "x", "arguments": "x"},
    "function_call id": {"type": "function_call", "call_id": "x", "name": "f", "arguments": "{}"},
    "function_call_output": {"type": "function_call_output", "call_id": "a", "output": "x"},
    "function_call_output part": {
        "type": "function_call_output",
        "call_id": "a",
        "output": [{"type": "input_text", "text": "x"}],
    },
    "custom_tool_call": {"type": "custom_tool_call", "call_id": "a", "name": "x", "input": "x"},
    "reasoning summary": {"type": "reasoning", "summary": "x"},
    "reasoning text": {"type": "reasoning", "summary": [{"type": "summary_text", "text": "x"}]},
    "reasoning content": {"type": "reasoning", "summary": [], "content": "x"},
    "item_reference": {"type": "item_reference", "id": "x"},
    "web_search_call": {"type": "web_search_call", "id": "x", "action": "x"},
}


def put(place: Any, value: Any) -> Any:
    """`place` with `value` wherever it says `x`."""
    if isinstance(place, dict):
        return {key: put(item, value) for key, item in place.items()}
    if isinstance(place, list):
        return [put(item, value) for item in place]
    return value if place == "x" else place


@pytest.mark.parametrize("place", PLACES)
def test_message_of_any_value_is_answered_or_refused(server: Door, place: str) -> None:
    for value in VALUES.values():
        message = put(PLACES[place], value)
        server.survive("/v1/chat/completions", {"model": NAME, "messages": [message]})
        server.survive("/v1/responses", {"model": NAME, "input": [message]})
        server.survive("/v1/responses", {"model": "abused_chat", "input": [message, *SAY], "stream": True})


@pytest.mark.parametrize("place", ITEM_PLACES)
def test_item_of_any_value_is_answered_or_refused(server: Door, place: str) -> None:
    for value in VALUES.values():
        item = put(ITEM_PLACES[place], value)
        server.survive("/v1/responses", {"model": NAME, "input": [item]})
        server.survive("/v1/responses", {"model": "abused_chat", "input": [item, *SAY], "stream": True})
        server.survive("/v1/responses", {"model": "abused_chat", "input": "hello", "instructions": [item]})


@main_paths
def test_field_said_twice_holds_as_it_was_said_last(server: Door, path: str) -> None:
    good = json.dumps(PATHS[path]).encode()
    assert server.survive(path, b'{"model": "nobody", ' + good[1:]) == 200
    assert server.refuse(path, good[:-1] + b', "model": "nobody"}') == (404, "model_not_found", "model")
    assert server.refuse(path, good[:-1] + b', "model": null}') == (400, "missing_required_parameter", "model")


# Names.

NAMES = {
    "nothing": "",
    "blank": " ",
    "spaces": f" {NAME} ",
    "line": f"{NAME}\n",
    "upper": NAME.upper(),
    "up": f"../{NAME}",
    "far up": "../" * 50 + "etc/passwd",
    "down": f"{NAME}/pipeline_wrapper.py",
    "dot": ".",
    "state": ".gateway",
    "slash": f"{NAME}/",
    "backslash": f"..\\{NAME}",
    "escaped NUL": "%00",
    "NUL": f"{NAME}\0",
    "escape": "%61bused",
    "Cyrillic": "\u0430bused",
    "fullwidth": "\uff41bused",
    "combining": "abuse\u0301d",
    "right to left": "\u202edesuba",
    "zero width": "abused\u200b",
    "template": "{x}",
    "format": "{0.__class__}%s%n",
    "reserved": "v1",
    "dunder": "__class__",
    "SQL": "abused' OR 1=1 --",
    "header": "abused\r\nX-Evil: 1",
    "long": "a" * 1_000_000,
    "emoji": "\U0001f600" * 100,
}


@main_paths
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_model_nobody_has_is_not_found(server: Door, path: str, name: str) -> None:
    assert server.refuse(path, {**PATHS[path], "model": name}) == (404, "model_not_found", "model")


@pytest.mark.parametrize(
    "name", ["%7Bx%7D", "{x}", "%00", "..%5Cabused", "%D0%B0bused", "abused%0a", "%ff", "%20", "v1", "%25", "a" * 8000]
)
def test_name_in_the_path_that_nobody_has_is_not_found(server: Door, name: str) -> None:
    assert server.refuse(f"/{name}/chat", CHAT) == (404, "model_not_found", "model")


# Texts that break lines.

TEXTS = {
    "end": "\n\ndata: [DONE]\n\n",
    "end alone": "[DONE]",
    "event": '\n\nevent: error\ndata: {"error": {"message": "x"}}\n\n',
    "carriage returns": "a\rb\r\rc\r\n\r\nd\r",
    "line feeds": "\n\n\n\n",
    "comment": "\n: ping\n\n",
    "retry": "\r\nretry: 0\r\nid: \0\r\n\r\n",
    "separators": "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\x1dh\x1ei",
    "NUL": "a\0b",
    "byte order mark": "\ufeffdata: x",
    "emoji": "\U0001f600" * 10,
    "JSON": '"}]}\\u0000\\"',
    "chunk": "\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
}


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("codes", [[0xD83D], [0xDE00, 0xD83D], [97, 0xDFFF, 98], [0xD83D, 0xDE00]])
def test_reply_of_lone_surrogates_is_valid_json(server: Door, codes: list[int], is_stream: bool) -> None:
    text = "".join(map(chr, codes))
    body = {"model": "abused_chat", "stream": is_stream, "codes": codes}
    for path, request in (("/v1/chat/completions", {"messages": SAY}), ("/v1/responses", {"input": "hello"})):
        answer = server.post(path, {**body, **request})
        answer.content.decode()
        assert json.dumps(read_text(answer)) == json.dumps(text)


@pytest.mark.parametrize("model", [NAME, "abused_chat"])
@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_text_that_breaks_lines_comes_back_whole(server: Door, text: str, is_stream: bool, model: str) -> None:
    message = {"role": "user", "content": text}
    chat = server.post("/v1/chat/completions", {"model": model, "messages": [message], "stream": is_stream})
    assert read_text(chat) == text
    response = server.post("/v1/responses", {"model": model, "input": [message], "stream": is_stream})
    assert read_text(response) == text


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_stream_has_the_same_lines_for_every_reader(server: Door, text: str) -> None:
    """httpx's `iter_lines`, for one, ends a line wherever `str.splitlines` does."""
    chat = server.post(
        "/v1/chat/completions", {**CHAT, "messages": [{"role": "user", "content": text}], "stream": True}
    )
    response = server.post("/v1/responses", {"model": NAME, "input": text, "stream": True})
    for body in (chat.content.decode(), response.content.decode()):
        assert body.splitlines() == body.removesuffix("\n").split("\n")


def read_text(answer: Answer) -> str:
    """The text of a chat or a response, whole or streamed to its proper end."""
    assert answer.status == 200, answer.content
    if not answer.is_stream:
        return whole_text(answer.json())
    events = record(answer.content)
    if events[-1].data == DONE:
        choices = [choice for event in events[:-1] for choice in event.data["choices"]]
        assert choices[-1]["finish_reason"] == "stop"
        return "".join(choice["delta"].get("content", "") for choice in choices)
    assert events[-1].kind == "response.completed"
    text = "".join(event.data["delta"] for event in events if event.kind == "response.output_text.delta")
    assert whole_text(events[-1].data["response"]) == text
    return text


def whole_text(body: Mapping[str, Any]) -> str:
    return str(
        body["choices"][0]["message"]["content"] if "choices" in body else body["output"][0]["content"][0]["text"]
    )


# Uploads.

BOUNDARY = "b0"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


def part(disposition: str, content: bytes, *headers: str) -> bytes:
    lines = [f"--{BOUNDARY}", f"Content-Disposition: form-data; {disposition}", *headers]
    return "\r\n".join(lines).encode("utf-8", "surrogatepass") + b"\r\n\r\n" + content + b"\r\n"


PURPOSE = part('name="purpose"', b"user_data")
FILE = part('name="file"; filename="a.txt"', b"hello")
END = f"--{BOUNDARY}--\r\n".encode()
MISSING = "missing_required_parameter"
UPLOADS: dict[str, tuple[bytes, str, tuple[int, str, str | None]]] = {
    "JSON": (b"{}", "application/json", (415, "unsupported_media_type", None)),
    "text": (b"hello", "text/plain", (415, "unsupported_media_type", None)),
    "no boundary": (PURPOSE + FILE + END, "multipart/form-data", (400, "invalid_multipart", None)),
    "another boundary": (PURPOSE + FILE + END, f"{FORM}1", (400, "invalid_multipart", None)),
    "odd boundary": (PURPOSE + FILE + END, "multipart/form-data; boundary=\xff\xfe", (400, "invalid_multipart", None)),
    "long boundary": (END, f"multipart/form-data; boundary={'b' * 5000}", (400, "invalid_multipart", None)),
    "empty": (b"", FORM, (400, "invalid_multipart", None)),
    "noise": (b"\0\xff" * 1000, FORM, (400, "invalid_multipart", None)),
    "cut in the file": (PURPOSE + FILE[:-4], FORM, (400, "invalid_multipart", None)),
    "cut before the end": (PURPOSE + FILE, FORM, (400, "invalid_multipart", None)),
    "no name": (part('filename="a.txt"', b"x") + END, FORM, (400, "invalid_multipart", None)),
    "odd header": (f"--{BOUNDARY}\r\n\0: x\r\n\r\nx\r\n".encode() + END, FORM, (400, "invalid_multipart", None)),
    "nothing": (END, FORM, (400, MISSING, "purpose")),
    "no purpose": (FILE + END, FORM, (400, MISSING, "purpose")),
    "empty purpose": (part('name="purpose"', b"") + FILE + END, FORM, (400, MISSING, "purpose")),
    "purpose as a file": (part('name="purpose"; filename="p"', b"x") + FILE + END, FORM, (400, MISSING, "purpose")),
    "no file": (PURPOSE + END, FORM, (400, MISSING, "file")),
    "file as text": (PURPOSE + part('name="file"', b"hello") + END, FORM, (400, MISSING, "file")),
    "two files": (PURPOSE + FILE + FILE + END, FORM, (400, MISSING, "file")),
    "form without a file": (b"purpose=user_data", "application/x-www-form-urlencoded", (400, MISSING, "file")),
    "unknown model": (PURPOSE + FILE + part('name="model"', b"../x") + END, FORM, (404, "model_not_found", "model")),
    "model without uploads": (
        PURPOSE + FILE + part('name="model"', NAME.encode()) + END,
        FORM,
        (404, "model_not_found", "model"),
    ),
    "expiry without anchor": (
        PURPOSE + FILE + part('name="expires_after[seconds]"', b"3600") + END,
        FORM,
        (400, "invalid_value", "expires_after"),
    ),
    "expiry that is no number": (
        PURPOSE + FILE + part('name="expires_after[seconds]"', "٣٦٠٠".encode()) + END,
        FORM,
        (400, "invalid_value", "expires_after[seconds]"),
    ),
    "expiry beyond all": (
        PURPOSE + FILE + part('name="expires_after[seconds]"', b"9" * 10_000) + END,
        FORM,
        (400, "invalid_value", "expires_after[seconds]"),
    ),
    "too many fields": (PURPOSE + PURPOSE * 1000 + FILE + END, FORM, (400, "invalid_multipart", None)),
    "too many files": (PURPOSE + FILE * 1001 + END, FORM, (400, "invalid_multipart", None)),
    "huge field": (part('name="purpose"', b"x" * 20_000_000) + FILE + END, FORM, (413, "too_large", None)),
}


@upload_paths
@pytest.mark.parametrize("case", UPLOADS)
def test_upload_that_is_none_is_refused(server: Door, path: str, case: str) -> None:
    body, media_type, expected = UPLOADS[case]
    assert server.refuse(path, body, media_type) == expected


FILENAMES = {
    "up": "../../../../tmp/evil.txt",
    "root": "/etc/passwd",
    "backslash": "..\\..\\evil.txt",
    "dots": "..",
    "template": "{x}",
    "percent": "%2e%2e%2f%00",
    "long": "n" * 2000,
    "look-alike": "\u0430.txt",
    "right to left": "\u202etxt.exe",
    "emoji": "\U0001f600.txt",
    "header": "a%0d%0aX-Evil: 1.txt",
    "semicolon": "a; filename=b.txt",
}


@pytest.mark.parametrize("name", FILENAMES.values(), ids=FILENAMES)
def test_file_of_an_odd_name_stays_in_its_folder(server: Door, wrappers_dir: Path, name: str) -> None:
    answer = server.post("/v1/files", PURPOSE + part(f'name="file"; filename="{name}"', b"hello") + END, FORM)
    assert answer.status == 200, answer.content
    file = answer.json()
    expected = {"object": "file", "bytes": 5, "filename": name, "purpose": "user_data", "status": "processed"}
    assert file == {"id": file["id"], "created_at": file["created_at"], **expected}
    assert [path.name for path in (wrappers_dir / ".gateway" / "files").iterdir()] == [file["id"]]
    content = server.ask("GET", f"/v1/files/{file['id']}/content")
    assert (content.content, "x-evil" in content.headers) == (b"hello", False)
    assert server.ask("DELETE", f"/v1/files/{file['id']}").json()["deleted"] is True


# Anything at all.

TEXT = st.text(st.characters(), max_size=8)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.sampled_from(["type", "text"]), inner, max_size=3)
    ),
    max_leaves=8,
)
ROLES = st.sampled_from(["user", "system", "developer", "assistant", "tool", "function"]) | ANYTHING
PART_TYPES = (
    "text input_text output_text image_url input_image input_audio file input_file refusal message function_call "
    "function_call_output reasoning custom_tool_call"
)
TYPES = st.sampled_from(PART_TYPES.split())
PART_KEYS = (
    "text image_url input_audio file file_id file_data filename refusal summary call_id name arguments output id"
)
PARTS = st.builds(
    lambda fields, kind: {**fields, "type": kind},
    st.dictionaries(st.sampled_from(PART_KEYS.split()), ANYTHING, max_size=4),
    TYPES | ANYTHING,
)
MESSAGES = st.builds(
    lambda fields, role, content: {**fields, "role": role, "content": content},
    st.dictionaries(st.sampled_from(["name", "tool_calls", "tool_call_id", "reasoning_content"]), ANYTHING, max_size=2),
    ROLES,
    ANYTHING | st.lists(PARTS, max_size=3),
)
examples = settings(max_examples=50, deadline=None)


@given(messages=st.lists(MESSAGES, min_size=1, max_size=3), is_stream=st.booleans(), more=ANYTHING)
@examples
def test_any_messages_are_answered_or_refused(server: Door, messages: Any, is_stream: bool, more: Any) -> None:
    for model in (NAME, "abused_chat"):
        body = {"model": model, "messages": messages, "stream": is_stream, "tools": more, "metadata": more}
        server.survive("/v1/chat/completions", body)


@given(items=st.lists(MESSAGES | PARTS, min_size=1, max_size=3), is_stream=st.booleans(), more=ANYTHING)
@examples
def test_any_items_are_answered_or_refused(server: Door, items: Any, is_stream: bool, more: Any) -> None:
    for model in (NAME, "abused_chat"):
        body = {"model": model, "input": items, "stream": is_stream, "text": more, "tools": more, "reasoning": more}
        server.survive("/v1/responses", body)


@given(path=st.sampled_from(MAIN_PATHS), fields=st.data())
@examples
def test_any_fields_are_answered_or_refused(server: Door, path: str, fields: st.DataObject) -> None:
    more = fields.draw(st.dictionaries(st.sampled_from(FIELDS[path]), ANYTHING, max_size=5))
    server.survive(path, {**PATHS[path], **more})


@given(path=st.sampled_from(list(PATHS)), body=ANYTHING)
@examples
def test_any_json_is_answered_or_refused(server: Door, path: str, body: Any) -> None:
    server.survive(path, body)


@given(path=st.sampled_from([*PATHS, "/v1/files"]), body=st.binary(max_size=200))
@examples
def test_any_bytes_are_refused(server: Door, path: str, body: bytes) -> None:
    assert server.refuse(path, body, FORM if path == "/v1/files" else "application/json")[0] == 400
