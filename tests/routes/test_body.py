"""Bodies through a real server: what cannot be read, what is too large, and files that leave nothing behind."""

import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha256
from itertools import repeat
from pathlib import Path
from shutil import which
from typing import Any

import httpx
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.gateways import WRAPPERS, Gateway, serve, spawn
from tests.probe import eventually

WAIT_S = 10.0
MIB = 1024 * 1024
LIMITS = {"max_body_bytes": 16 * 1024, "max_upload_bytes": 4 * MIB, "max_upload_files": 3, "max_form_fields": 3}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """With small limits."""
    wrappers_dir = tmp_path_factory.mktemp("wrappers")
    for name in ("arguments", "uploads", "one_upload"):
        (wrappers_dir / name).symlink_to(WRAPPERS / name)
    with serve(wrappers_dir, **LIMITS) as gateway:
        yield gateway


def run(gateway: Gateway, name: str, **options: Any) -> requests.Response:
    return requests.post(f"{gateway.url}/{name}/run", timeout=WAIT_S, **options)


def kept(gateway: Gateway) -> list[Any]:
    """The uploads that the wrapper has got so far."""
    uploads: list[Any] = gateway.app.state.registry.snapshot["uploads"].deployment.instance.kept
    return uploads


def digest(content: bytes) -> str:
    return sha256(content).hexdigest()[:8]


def send_half(gateway: Gateway, request: bytes) -> bytes:
    """What the server answers though the request is not over."""
    with socket.create_connection(("127.0.0.1", gateway.port), WAIT_S) as connection:
        connection.sendall(request)
        reply = b""
        while b"\r\n\r\n" not in reply or not reply.endswith(b"}"):
            piece = connection.recv(65536)
            assert piece, reply
            reply += piece
    return reply


def descriptors() -> list[str]:
    """What this process, in which the server is, holds open."""
    links = []
    for path in list(Path("/proc/self/fd").iterdir()):
        with suppress(FileNotFoundError):  # closed meanwhile, as the descriptor of the listing itself
            links.append(str(path.readlink()))
    return links


def temporary_files() -> list[str]:
    return [link for link in descriptors() if link.endswith("(deleted)")]


def sockets() -> list[str]:
    return [link for link in descriptors() if link.startswith("socket:")]


@contextmanager
def no_file_left() -> Iterator[None]:
    before = len(temporary_files())
    yield
    eventually(lambda: len(temporary_files()) <= before, "each temporary file closed")


# What cannot be read: one sentence, one status.
JSON_TYPE = {"Content-Type": "application/json"}
FORM_TYPE = {"Content-Type": "multipart/form-data; boundary=b"}
NOT_JSON = [
    b" ",
    b"not json",
    b'{"text": "\xff"}',
    b'{"unknown": "\xff"}',
    b'{"text": ' + b"[" * 100_000,
    b'{"anything": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"anything": ' + b'{"a":' * 100_000,
    b'{"text": "a"} trailing',
    b'{"text": "a"',
    b'{"number": ' + b"1" * 5000 + b"}",
    '{"text": "a"}'.encode("utf-16"),
    b"\xef\xbb\xbf" + b'{"text": "a"}',
]


@pytest.mark.parametrize("body", NOT_JSON, ids=range(len(NOT_JSON)))
def test_run_answers_400_when_the_body_is_not_json(gateway: Gateway, body: bytes) -> None:
    if len(body) > LIMITS["max_body_bytes"]:
        with serve(WRAPPERS.parent / "wrappers", max_body_bytes=16 * MIB) as roomy:
            reply = run(roomy, "arguments", data=body, headers=JSON_TYPE)
    else:
        reply = run(gateway, "arguments", data=body, headers=JSON_TYPE)
    error = reply.json()["error"]
    assert (reply.status_code, error["type"], error["code"]) == (400, "invalid_request_error", "invalid_json")
    assert error["message"] == reply.json()["detail"]
    assert len(error["message"]) < 200
    assert error["message"].startswith("the body is ")


def test_run_takes_no_body_for_no_arguments(gateway: Gateway) -> None:
    assert run(gateway, "arguments").json() == {"result": {"x-test": "None"}}


def test_run_says_that_the_body_is_empty_when_something_is_required(tmp_path: Path) -> None:
    (tmp_path / "results").symlink_to(WRAPPERS / "results")
    with serve(tmp_path) as gateway:
        reply = run(gateway, "results")
    message = "the body is empty: send a JSON object with the arguments as its fields"
    assert (reply.status_code, reply.json()) == (400, problem(message, "invalid_json"))


PART = b'--b\r\nContent-Disposition: form-data; name="text"\r\n\r\nvalue\r\n'
FILE_PART = b'--b\r\nContent-Disposition: form-data; name="files"; filename="f.txt"\r\n\r\ncontent\r\n'
NOT_FORM: dict[str, tuple[str, bytes]] = {
    "empty": ("boundary=b", b""),
    "no boundary": ("", PART + b"--b--\r\n"),
    "an empty boundary": ("boundary=", PART + b"--b--\r\n"),
    "another boundary": ("boundary=c", PART + b"--b--\r\n"),
    "a boundary of 300": (f"boundary={'b' * 300}", PART + b"--b--\r\n"),
    "no closing boundary": ("boundary=b", PART),
    "cut off in a value": ("boundary=b", PART[:-4]),
    "cut off in a header": ("boundary=b", PART[:30]),
    "cut off in a file": ("boundary=b", FILE_PART[:-4]),
    "cut off after a file": ("boundary=b", FILE_PART),
    "not a form": ("boundary=b", b'{"text": "a"}'),
    "a part without name": ("boundary=b", b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n"),
    "a part without disposition": ("boundary=b", b"--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b--\r\n"),
    "a part without headers": ("boundary=b", b"--b\r\n\r\nx\r\n--b--\r\n"),
    "a header of 1 MB": ("boundary=b", b"--b\r\nX: " + b"x" * MIB + b"\r\n\r\nx\r\n--b--\r\n"),
    "10,000 headers": ("boundary=b", b"--b\r\n" + b"X: x\r\n" * 10_000 + b"\r\nx\r\n--b--\r\n"),
    "too many files": ("boundary=b", FILE_PART * 4 + b"--b--\r\n"),
    "too many fields": ("boundary=b", PART * 4 + b"--b--\r\n"),
}


@pytest.mark.parametrize("case", NOT_FORM)
def test_run_answers_400_when_the_form_is_broken(gateway: Gateway, case: str) -> None:
    parameters, body = NOT_FORM[case]
    with no_file_left():
        reply = run(gateway, "uploads", data=body, headers={"Content-Type": f"multipart/form-data; {parameters}"})
    error = reply.json()["error"]
    assert (reply.status_code, error["type"], error["code"]) == (400, "invalid_request_error", "invalid_multipart")
    assert error["message"].startswith("the body is not a valid form: ")


CHARSETS = ["punycode", "idna", "undefined", "unicode_escape", "raw_unicode_escape", "utf-7", "hex", "rot13", "utf-16"]


@pytest.mark.parametrize("charset", [*CHARSETS, "é", "x" * 1000, "../x", '"'])
def test_run_stands_an_odd_charset(gateway: Gateway, charset: str) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="text"\r\n\r\n\\ud800+2AA-\xff-\r\n--b--\r\n'
    header = f"multipart/form-data; boundary=b; charset={charset}".encode()
    reply = run(gateway, "arguments", data=body, headers={"Content-Type": header})
    assert reply.status_code in (200, 400)


def test_run_takes_form_text_as_utf_8_whatever_charset_is_named(gateway: Gateway) -> None:
    body = '--b\r\nContent-Disposition: form-data; name="text"\r\n\r\ngrün\r\n--b--\r\n'.encode()
    reply = run(gateway, "arguments", data=body, headers=FORM_TYPE)
    assert reply.json()["result"]["text"] == "'grün'"


INVALID: dict[str, tuple[dict[str, Any], list[tuple[str, str]]]] = {
    "an array": ({"json": [1]}, [("body", "object_type")]),
    "a number": ({"json": 1}, [("body", "object_type")]),
    "null": ({"data": b"null", "headers": JSON_TYPE}, [("body", "object_type")]),
    "a wrong type": ({"json": {"number": "many"}}, [("body.number", "int_parsing")]),
    "null where it is not allowed": ({"json": {"number": None}}, [("body.number", "int_type")]),
    "two faults": (
        {"json": {"number": 1.5, "colour": "green"}},
        [("body.number", "int_from_float"), ("body.colour", "enum")],
    ),
    "inside of a list": ({"json": {"items": [{"name": "n"}, {}]}}, [("body.items.1.name", "missing")]),
    "a wrong type in a form": ({"files": {"number": (None, "many")}}, [("body.number", "int_parsing")]),
    "a repeated field that is no list": ({"data": [("number", "1"), ("number", "2")]}, [("body.number", "int_type")]),
    "a list with a word": ({"data": {"numbers": "1,2"}}, [("body.numbers.0", "int_parsing")]),
    "a file where a value belongs": ({"files": {"text": ("a.txt", b"a")}}, [("body.text", "unexpected_file")]),
}


@pytest.mark.parametrize("case", INVALID)
def test_run_answers_422_with_the_place(gateway: Gateway, case: str) -> None:
    options, faults = INVALID[case]
    reply = run(gateway, "arguments", **options)
    body = reply.json()
    assert (reply.status_code, body["error"]["code"]) == (422, "invalid_arguments")
    assert [(fault["loc"], fault["type"]) for fault in body["error"]["details"]] == faults
    assert body["detail"] == body["error"]["message"]
    assert faults[0][0] == "body" or body["detail"].startswith(f"{faults[0][0]}: ")


def test_run_answers_422_with_the_whole_error(gateway: Gateway) -> None:
    message = "body.note: Input should be a valid string"
    detail = {"loc": "body.note", "message": "Input should be a valid string", "type": "string_type"}
    error = {"type": "invalid_request_error", "message": message, "code": "invalid_arguments", "details": [detail]}
    assert run(gateway, "uploads", json={"note": 1}).json() == {"error": error, "detail": message}


FILES_MISUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "missing in a form": ("one_upload", {"files": {"note": (None, "x")}}, "missing"),
    "missing in JSON": ("one_upload", {"json": {"note": "x"}}, "missing"),
    "text in JSON": ("one_upload", {"json": {"document": "x"}}, "file_in_json"),
    "text in a form": ("one_upload", {"files": {"document": (None, "x")}}, "file_type"),
    "two for one": ("one_upload", {"files": [("document", b"a"), ("document", b"b")]}, "too_many_files"),
}


@pytest.mark.parametrize("case", FILES_MISUSED)
def test_run_answers_422_when_a_file_parameter_is_misused(gateway: Gateway, case: str) -> None:
    name, options, kind = FILES_MISUSED[case]
    reply = run(gateway, name, **options)
    details = [(fault["loc"], fault["type"]) for fault in reply.json()["error"]["details"]]
    assert (reply.status_code, details) == (422, [("body.document", kind)])


def test_run_names_the_parameter_in_the_curl_example(gateway: Gateway) -> None:
    reply = run(gateway, "one_upload", files={"document": (None, "x")})
    assert "curl -F 'document=@path'" in reply.json()["detail"]


def test_run_refuses_a_file_that_no_parameter_takes(gateway: Gateway) -> None:
    reply = run(gateway, "uploads", files={"file": ("a.txt", b"a")})
    assert reply.status_code == 422
    assert reply.json()["error"]["details"][0]["loc"] == "body.file"


@pytest.mark.parametrize(
    ("content_type", "said"),
    [
        ("text/plain", "Content-Type text/plain is not supported: send application/json or multipart/form-data"),
        ("application/xml; a=b", "Content-Type application/xml is not supported: "),
        ("application/x-www-form-urlencoded", "add the header 'Content-Type: application/json'"),
    ],
)
def test_run_answers_415_when_the_type_is_not_supported(gateway: Gateway, content_type: str, said: str) -> None:
    reply = run(gateway, "arguments", data=b'{"text": "a"}', headers={"Content-Type": content_type})
    assert (reply.status_code, reply.json()["error"]["code"]) == (415, "unsupported_media_type")
    assert said in reply.json()["detail"]


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/problem+json", None]
)
def test_run_reads_json_whatever_its_type_is_called(gateway: Gateway, content_type: str | None) -> None:
    reply = run(gateway, "arguments", data=b'{"text": "a"}', headers={"Content-Type": content_type})
    assert reply.json() == {"result": {"text": "'a'", "x-test": "None"}}


# What is too large.
TOO_LARGE = f"the body is larger than max_body_bytes = {LIMITS['max_body_bytes']} bytes"


def problem(message: str, code: str) -> dict[str, Any]:
    return {"error": {"type": "invalid_request_error", "message": message, "code": code}, "detail": message}


def test_run_answers_413_before_the_body_is_sent(gateway: Gateway) -> None:
    head = (
        b"POST /arguments/run HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 999999999999\r\n"
    )
    reply = send_half(gateway, head + b"\r\n")
    assert reply.startswith(b"HTTP/1.1 413 ")
    assert TOO_LARGE.encode() in reply


def test_run_answers_413_to_chunks_that_do_not_end(gateway: Gateway) -> None:
    head = b"POST /arguments/run HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    reply = send_half(gateway, head + b"4001\r\n" + b" " * 0x4001 + b"\r\n")
    assert reply.startswith(b"HTTP/1.1 413 ")
    assert TOO_LARGE.encode() in reply


def test_run_answers_413_to_an_upload_that_does_not_end(gateway: Gateway) -> None:
    head = b"POST /uploads/run HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    head += b"Transfer-Encoding: chunked\r\n\r\n"
    part = FILE_PART[:-2] + b"x" * (5 * MIB)
    with no_file_left():
        reply = send_half(gateway, head + f"{len(part):x}\r\n".encode() + part)
        assert reply.startswith(b"HTTP/1.1 413 ")


def test_run_answers_413_when_the_text_fields_together_are_too_large(gateway: Gateway) -> None:
    reply = run(gateway, "uploads", files=[("note", (None, "x" * 9000)), ("other", (None, "x" * 9000))])
    message = f"the form's text fields are larger than max_body_bytes = {LIMITS['max_body_bytes']}"
    assert (reply.status_code, reply.json()) == (413, problem(message, "too_large"))


def test_run_takes_a_body_of_exactly_the_limit(gateway: Gateway) -> None:
    body = b'{"text": "a"}'.ljust(LIMITS["max_body_bytes"])
    assert run(gateway, "arguments", data=body, headers=JSON_TYPE).status_code == 200
    assert run(gateway, "arguments", data=body + b" ", headers=JSON_TYPE).status_code == 413


def test_a_reply_that_does_not_wait_for_the_body_ends_the_connection(gateway: Gateway) -> None:
    targets = {"POST /no_such_wrapper/run": b"404", "GET /livez": b"200", "POST /arguments/run": b"415"}
    with ExitStack() as stack:
        connections = {}
        for target in targets:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port), WAIT_S))
            head = f"{target} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
            connection.sendall(head.encode() + b"1\r\nx\r\n" * 30)  # more pieces than Hypercorn holds
            connections[target] = connection
        for target, status in targets.items():
            replies = b"".join(iter(lambda: connections[target].recv(65536), b""))  # noqa: B023
            assert replies.startswith(b"HTTP/1.1 " + status)


def test_connections_are_closed_when_their_callers_have_left(tmp_path: Path) -> None:
    with serve(tmp_path, keep_alive_timeout_s=60) as gateway:
        before = set(sockets())
        for _ in range(20):
            requests.get(f"{gateway.url}/livez", timeout=WAIT_S)
        eventually(lambda: not set(sockets()) - before, "each socket closed")


def test_clients_see_413_and_404_though_they_still_send(gateway: Gateway, tmp_path: Path) -> None:
    body = b"x" * (20 * MIB)
    for name, status in (("arguments", 413), ("no_such_wrapper", 404)):
        url = f"{gateway.url}/{name}/run"
        assert requests.post(url, data=body, headers=JSON_TYPE, timeout=WAIT_S).status_code == status
        assert (
            requests.post(url, data=repeat(b"x" * 65536, 320), headers=JSON_TYPE, timeout=WAIT_S).status_code == status
        )
        assert httpx.post(url, content=body, headers=JSON_TYPE, timeout=WAIT_S).status_code == status
        if curl := which("curl"):
            (tmp_path / "body").write_bytes(body)
            command = [curl, "-s", "-o", tmp_path / "reply", "-w", "%{http_code}", "--json", f"@{tmp_path / 'body'}"]
            assert subprocess.run([*command, url], capture_output=True, text=True).stdout == str(status)


# Files.
def test_run_passes_files_with_names_and_types(gateway: Gateway) -> None:
    reply = run(
        gateway,
        "uploads",
        files=[
            ("files", ("docs/a.txt", b"first", "text/plain")),
            ("files", ("docs/a.txt", b"second", "text/plain")),
            ("one", ("grün.pdf", b"", "application/pdf")),
        ],
        data={"note": '"quoted"', "numbers": ["1", "2"]},
    )
    assert reply.json() == {
        "result": {
            "one": ["grün.pdf", "application/pdf", 0, digest(b"")],
            "files": [
                ["docs/a.txt", "text/plain", 5, digest(b"first")],
                ["docs/a.txt", "text/plain", 6, digest(b"second")],
            ],
            "note": "quoted",
            "numbers": [1, 2],
        }
    }


@pytest.mark.parametrize("body", [{}, {"one": None, "files": None}, {"files": []}])
def test_run_takes_json_without_its_optional_files(gateway: Gateway, body: dict[str, Any]) -> None:
    reply = run(gateway, "uploads", json={"note": "still here", **body})
    assert reply.json() == {"result": {"one": None, "files": None, "note": "still here", "numbers": None}}


def test_run_passes_one_file_of_a_list(gateway: Gateway) -> None:
    reply = run(gateway, "uploads", files={"files": ("a", b"x")})
    assert reply.json()["result"]["files"] == [["a", None, 1, digest(b"x")]]


def test_run_passes_none_for_a_file_that_a_browser_left_out(gateway: Gateway) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="one"; filename=""\r\n\r\n\r\n--b--\r\n'
    assert run(gateway, "uploads", data=body, headers=FORM_TYPE).json()["result"]["one"] is None


def test_run_passes_a_required_file_to_an_async_method(gateway: Gateway) -> None:
    content = b"x" * (2 * MIB)
    reply = run(gateway, "one_upload", files={"document": ("a", content)}, data={"note": "n"})
    assert reply.json() == {"result": {"name": "a", "size": len(content), "note": "n"}}


@pytest.mark.parametrize("should_fail", ["false", "true"])
@pytest.mark.parametrize("size", [10, 1_300_000])
def test_run_closes_all_files_when_it_ends(gateway: Gateway, size: int, should_fail: str) -> None:
    before = len(kept(gateway))
    with no_file_left():
        files = [("files", ("a", b"a" * size)), ("files", ("b", b"b" * size)), ("one", ("c", b"c" * size))]
        reply = run(gateway, "uploads", files=files, data={"should_fail": should_fail})
        assert reply.status_code == (500 if should_fail == "true" else 200)
        uploads = kept(gateway)[before:]
        assert len(uploads) == 3
        eventually(lambda: [upload.file.closed for upload in uploads] == [True] * 3, "each file closed")


def test_run_closes_files_when_the_arguments_do_not_fit(gateway: Gateway) -> None:
    files = [("files", ("a", b"a" * 2 * MIB)), ("files", ("b", b"b" * MIB))]
    with no_file_left():
        assert run(gateway, "uploads", files=files, data={"numbers": "many"}).status_code == 422


def test_run_closes_a_file_beside_a_text_of_the_same_name(gateway: Gateway) -> None:
    with no_file_left():
        reply = run(gateway, "uploads", files=[("files", ("a", b"a" * 2 * MIB)), ("files", (None, "text"))])
        assert reply.status_code == 422


def test_run_closes_files_when_the_caller_leaves(gateway: Gateway) -> None:
    head = b"POST /uploads/run HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    before = len(temporary_files())
    with no_file_left(), socket.create_connection(("127.0.0.1", gateway.port), WAIT_S) as connection:
        connection.sendall(head + b"Content-Length: 4000000\r\n\r\n" + FILE_PART[:-2] + b"x" * 2 * MIB)
        eventually(lambda: len(temporary_files()) > before, "the upload lies on disk")


def test_run_leaves_no_descriptor_behind_after_30_uploads(gateway: Gateway) -> None:
    with no_file_left(), requests.Session() as session:
        for number in range(30):
            files = [("files", (f"{number}", b"a" * MIB)), ("files", ("b", b"b" * (MIB + number)))]
            assert session.post(f"{gateway.url}/uploads/run", files=files, timeout=WAIT_S).status_code == 200


@given(st.lists(st.binary(max_size=40) | st.sampled_from([PART, FILE_PART, b"--b", b"--b--\r\n", b"\r\n"]), max_size=6))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_run_answers_any_form_with_a_sentence(gateway: Gateway, pieces: list[bytes]) -> None:
    reply = run(gateway, "uploads", data=b"".join(pieces), headers=FORM_TYPE)
    assert reply.status_code in (200, 400, 422)
    assert reply.status_code == 200 or reply.json()["detail"]


@given(
    st.binary(max_size=60) | st.text(max_size=60).map(lambda text: f'{{"text": "{text}"}}'.encode("utf-8", "replace"))
)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_run_answers_any_json_with_a_sentence(gateway: Gateway, body: bytes) -> None:
    reply = run(gateway, "arguments", data=body, headers=JSON_TYPE)
    assert reply.status_code in (200, 400, 422)
    assert reply.status_code == 200 or reply.json()["detail"]


def peak_kib(pid: int) -> int:
    """The most memory that the process has held so far."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1])


def test_run_takes_200_mb_without_holding_them(tmp_path: Path) -> None:
    (tmp_path / "wrappers").mkdir()
    (tmp_path / "wrappers" / "one_upload").symlink_to(WRAPPERS / "one_upload")
    head = b'--b\r\nContent-Disposition: form-data; name="document"; filename="large.bin"\r\n\r\n'
    tail = b"\r\n--b--\r\n"
    piece, count = b"x" * (256 * 1024), 800

    def body() -> Iterator[bytes]:
        yield head
        yield from repeat(piece, count)
        yield tail

    length = len(head) + len(piece) * count + len(tail)
    with spawn("--wrappers-dir", str(tmp_path / "wrappers"), environment={"TMPDIR": str(tmp_path)}) as process:
        process.wait_until_ready()
        url = f"{process.url}/one_upload/run"
        assert requests.post(url, files={"document": ("empty", b"")}, timeout=60).json()["result"]["size"] == 0
        before_kib = peak_kib(process.process.pid)
        reply = httpx.post(url, content=body(), headers={**FORM_TYPE, "Content-Length": str(length)}, timeout=60)
        assert reply.json() == {"result": {"name": "large.bin", "size": 200 * MIB, "note": ""}}
        assert peak_kib(process.process.pid) - before_kib < 32 * 1024
        descriptors = [link.resolve() for link in Path(f"/proc/{process.process.pid}/fd").iterdir()]
        ours = tmp_path / "wrappers" / ".gateway"  # the state folder, open as long as the server serves
        assert [path for path in descriptors if path.is_relative_to(tmp_path) and not path.is_relative_to(ours)] == []
        assert [path.name for path in tmp_path.iterdir()] == ["wrappers"]
