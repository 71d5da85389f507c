"""`/v1/files` through the SDK, curl and a plain socket."""

import asyncio
import json
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha256
from itertools import count, repeat
from pathlib import Path
from time import time
from typing import Any

import openai
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai import AsyncOpenAI, OpenAI
from openai.types import FileDeleted, FileObject

from tests.gateways import WRAPPERS, Gateway, serve, spawn
from tests.openai.strict import check
from tests.probe import eventually, same_descriptors
from tests.wire import connect

WAIT_S = 20.0
MIB = 1024 * 1024
MAX_BYTES = 8 * MIB
MISSING = f"file-{'0' * 24}"
FORM = {"Content-Type": "multipart/form-data; boundary=b"}
PURPOSES = map("purpose-{}".format, count())  # one of its own for each test that lists

Create = Callable[..., FileObject]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """With two wrappers that take uploads, so that neither is the only one, and a reader that is called `files`."""
    wrappers_dir = tmp_path_factory.mktemp("wrappers")
    for name in ("files_reader", "files_reader_async", "files_taker", "files_taker_async"):
        (wrappers_dir / name).symlink_to(WRAPPERS / name)
    (wrappers_dir / "files").symlink_to(WRAPPERS / "files_reader")
    with serve(wrappers_dir, state_dir=tmp_path_factory.mktemp("state"), max_upload_bytes=MAX_BYTES) as gateway:
        yield gateway


def make_client(url: str, *, prefix: str = "/v1") -> OpenAI:
    return OpenAI(base_url=url + prefix, api_key="key", max_retries=0, timeout=WAIT_S)


@pytest.fixture(scope="module")
def client(gateway: Gateway) -> Iterator[OpenAI]:
    with make_client(gateway.url) as client:
        yield client


@pytest.fixture
def create(client: OpenAI) -> Create:
    """`create(content, filename, type)`: a stored file."""

    def create(
        content: bytes = b"content", filename: str = "a.txt", content_type: str = "text/plain", **given: Any
    ) -> FileObject:
        return client.files.create(file=(filename, content, content_type), **{"purpose": "user_data", **given})

    return create


def folder_of(gateway: Gateway) -> Path:
    folder: Path = gateway._settings.state_dir
    return folder


def database(gateway: Gateway) -> sqlite3.Connection:
    return sqlite3.connect(folder_of(gateway) / "gateway.db", isolation_level=None)


def stored(gateway: Gateway) -> tuple[list[str], list[str]]:
    """The ids of the rows and the names of the contents."""
    connection = database(gateway)
    try:
        rows = sorted(row[0] for row in connection.execute("SELECT id FROM files"))
    finally:
        connection.close()
    return rows, sorted(path.name for path in (folder_of(gateway) / "files").iterdir())


def open_files() -> list[str]:
    """What this process, in which the server is, holds open, but for sockets, which a client may keep."""
    links = []
    for path in list(Path("/proc/self/fd").iterdir()):
        with suppress(FileNotFoundError):  # closed meanwhile
            links.append(str(path.readlink()))
    return sorted(link for link in links if not link.startswith("socket:"))


def open_contents(gateway: Gateway) -> list[str]:
    return [link for link in open_files() if link.startswith(str(folder_of(gateway) / "files"))]


@contextmanager
def no_file_left_open() -> Iterator[None]:
    before = len(open_files())
    yield
    eventually(lambda: len(open_files()) <= before, "each file is closed")


@contextmanager
def nothing_stored(gateway: Gateway, create: Create) -> Iterator[None]:
    """Not a row, not a byte, no temporary file."""
    create()  # so that there is a folder
    before = stored(gateway)
    with no_file_left_open():
        yield
    assert stored(gateway) == before


def text(name: str, value: str | bytes) -> bytes:
    value = value.encode() if isinstance(value, str) else value
    return b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), value)


def part(content: bytes = b"content", filename: bytes = b"a.txt", name: bytes = b"file") -> bytes:
    head = b'--b\r\nContent-Disposition: form-data; name="%s"; filename="%s"\r\n\r\n' % (name, filename)
    return head + content + b"\r\n"


END = b"--b--\r\n"
PURPOSE = text("purpose", "user_data")


def post(gateway: Gateway, body: bytes, path: str = "/v1/files") -> requests.Response:
    return requests.post(gateway.url + path, data=body, headers=FORM, timeout=WAIT_S)


def get(gateway: Gateway, path: str, **headers: str) -> requests.Response:
    return requests.get(gateway.url + path, headers=headers, timeout=WAIT_S)


def envelope(message: str, code: str, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


def bounds(file: FileObject) -> bool:
    return time() - 60 < file.created_at <= time()


# The whole life of a file.
def test_file_lives_through_the_sdk(client: OpenAI, tmp_path: Path) -> None:
    path = tmp_path / "report.txt"
    path.write_bytes(b"first\nsecond")
    with open(path, "rb") as opened:  # noqa: PTH123 - as in OpenAI's own example
        for given, name in ((path, "report.txt"), (opened, "report.txt"), (b"first\nsecond", "upload")):
            made = client.files.with_raw_response.create(file=given, purpose="user_data")
            file = made.parse()
            assert check(made.http_response.json(), FileObject) == {
                "id": file.id,
                "object": "file",
                "bytes": 12,
                "created_at": file.created_at,
                "filename": name,
                "purpose": "user_data",
                "status": "processed",
            }
            assert re.fullmatch(r"file-[0-9a-f]{24}", file.id)
            assert bounds(file)
            assert client.files.retrieve(file.id) == file
            content = client.files.content(file.id)
            assert (content.read(), content.text) == (b"first\nsecond", "first\nsecond")
            assert client.files.wait_for_processing(file.id) == file
            gone = client.files.with_raw_response.delete(file.id)
            assert check(gone.http_response.json(), FileDeleted) == {"id": file.id, "object": "file", "deleted": True}
            for forget in (client.files.retrieve, client.files.content, client.files.delete):
                with pytest.raises(openai.NotFoundError):
                    forget(file.id)


def test_file_lives_through_the_async_sdk(gateway: Gateway) -> None:
    async def live() -> None:
        purpose = next(PURPOSES)
        async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="key", max_retries=0, timeout=WAIT_S) as client:
            names = [f"{number}.md" for number in range(5)]
            made = await asyncio.gather(
                *(client.files.create(file=(name, name.encode(), "text/markdown"), purpose=purpose) for name in names)
            )
            assert [file.filename for file in made] == names
            listed = [file async for file in client.files.list(purpose=purpose, limit=2)]
            assert sorted(file.id for file in listed) == sorted(file.id for file in made)
            for file in made:
                assert await client.files.retrieve(file.id) == file
                async with client.files.with_streaming_response.content(file.id) as reply:
                    assert b"".join([piece async for piece in reply.iter_bytes()]) == file.filename.encode()
                assert (await client.files.delete(file.id)).deleted
            assert (await client.files.list(purpose=purpose)).data == []

    asyncio.run(live())


@pytest.mark.parametrize("prefix", ["/v1", ""])
def test_file_lives_through_curl(gateway: Gateway, tmp_path: Path, prefix: str) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("there is no curl")

    def call(path: str, *options: str) -> Any:
        command = [curl, "-sS", "-H", "Authorization: Bearer key", gateway.url + prefix + path, *options]
        return subprocess.run(command, capture_output=True, check=True, cwd=tmp_path, timeout=WAIT_S).stdout

    (tmp_path / "my data.jsonl").write_bytes(b'{"a": 1}\n')
    fields = ["purpose=batch", "file=@my data.jsonl", "expires_after[anchor]=created_at", "expires_after[seconds]=3600"]
    file = json.loads(call("/files", *(option for field in fields for option in ("-F", field))))
    assert (file["filename"], file["bytes"], file["purpose"]) == ("my data.jsonl", 9, "batch")
    assert file["expires_at"] == file["created_at"] + 3600
    assert json.loads(call(f"/files/{file['id']}")) == file
    assert call(f"/files/{file['id']}/content") == b'{"a": 1}\n'
    (tmp_path / "into").mkdir()
    call(f"/files/{file['id']}/content", "-OJ", "--output-dir", "into")
    assert [path.read_bytes() for path in (tmp_path / "into").iterdir()] == [b'{"a": 1}\n']
    assert file in json.loads(call("/files?purpose=batch"))["data"]
    assert json.loads(call(f"/files/{file['id']}", "-X", "DELETE"))["deleted"] is True
    error = json.loads(call(f"/files/{file['id']}"))
    assert error == envelope(f"there is no file '{file['id']}'", "file_not_found", "file_id")


def test_paths_without_v1_serve_the_same_beside_a_wrapper_called_files(gateway: Gateway, client: OpenAI) -> None:
    with make_client(gateway.url, prefix="") as short:
        file = short.files.create(file=("a.txt", b"content"), purpose="user_data")
        assert client.files.retrieve(file.id) == short.files.retrieve(file.id) == file
        assert short.files.content(file.id).read() == b"content"
        assert file.id in [each.id for each in short.files.list(limit=5)]
        run = requests.post(f"{gateway.url}/files/run", json={"file_id": file.id}, timeout=WAIT_S)
        assert run.json()["result"]["content"] == "content"
        part = {"type": "file", "file": {"file_id": file.id}}
        body = {"messages": [{"role": "user", "content": [part]}]}
        chat = requests.post(f"{gateway.url}/files/chat", json=body, timeout=WAIT_S)
        assert chat.json()["choices"][0]["message"]["content"] == "content"
        assert get(gateway, "/files/schema").json()["name"] == "files"
        short.files.delete(file.id)
        with pytest.raises(openai.NotFoundError):
            client.files.retrieve(file.id)


# Lists.
def test_list_pages_through_all_files_of_a_purpose(client: OpenAI, create: Create) -> None:
    purpose = next(PURPOSES)
    files = [create(filename=str(number), purpose=purpose) for number in range(5)]
    create()
    for limit in (1, 2, 5, 6, 10_000):
        assert list(client.files.list(purpose=purpose, limit=limit)) == files[::-1]
        assert list(client.files.list(purpose=purpose, limit=limit, order="asc")) == files
    assert list(client.files.list(purpose=purpose)) == files[::-1]
    assert list(client.files.list(purpose=purpose, after=files[2].id)) == [files[1], files[0]]
    assert list(client.files.list(purpose=purpose, after=files[2].id, order="asc", limit=1)) == files[3:]


@pytest.mark.parametrize(
    ("query", "expected", "has_more"),
    [("", "210", False), ("&limit=2", "21", True), ("&limit=3", "210", False), ("&limit=1&order=asc", "0", True)],
)
def test_list_says_whether_there_is_more(
    gateway: Gateway, create: Create, query: str, expected: str, has_more: bool
) -> None:
    purpose = next(PURPOSES)
    files = [create(filename=str(number), purpose=purpose) for number in range(3)]
    body = get(gateway, f"/v1/files?purpose={purpose}{query}").json()
    for file in body["data"]:
        check({**file, "purpose": "batch"}, FileObject)
    ids = [files[int(number)].id for number in expected]
    assert [file["id"] for file in body.pop("data")] == ids
    assert body == {"object": "list", "first_id": ids[0], "last_id": ids[-1], "has_more": has_more}


def test_list_is_empty_for_an_unknown_purpose(gateway: Gateway) -> None:
    empty = {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
    assert get(gateway, "/v1/files?purpose=no+such").json() == empty


LIMITS = "limit must be an integer from 1 to 10000, not "
BAD_QUERIES = {
    "limit=0": (LIMITS + "0", "limit"),
    "limit=10001": (LIMITS + "10001", "limit"),
    "limit=-1": (LIMITS + "-1", "limit"),
    "limit=1.5": (LIMITS + "1.5", "limit"),
    "limit=": (LIMITS, "limit"),
    "limit=many": (LIMITS + "many", "limit"),
    "limit=%D9%A1": (LIMITS + "\u0661", "limit"),  # a digit, but none of ours
    f"limit={'9' * 5000}": (LIMITS + "9" * 64, "limit"),
    f"limit=000000000001{'9' * 20}": (LIMITS + "000000000001" + "9" * 20, "limit"),
    f"limit=000000000001{'9' * 5000}": (LIMITS + "000000000001" + "9" * 52, "limit"),
    "order=up": ("order must be asc or desc, not up", "order"),
    "order=": ("order must be asc or desc, not ", "order"),
    f"order={'x' * 100}": (f"order must be asc or desc, not {'x' * 64}", "order"),
}


@pytest.mark.parametrize("query", BAD_QUERIES, ids=range(len(BAD_QUERIES)))
def test_list_answers_400_to_a_bad_parameter(gateway: Gateway, query: str) -> None:
    message, param = BAD_QUERIES[query]
    reply = get(gateway, f"/v1/files?{query}")
    assert (reply.status_code, reply.json()) == (400, envelope(message, "invalid_value", param))


def test_sdk_raises_bad_request_for_a_bad_parameter(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.files.list(limit=0)
    assert (raised.value.param, raised.value.code) == ("limit", "invalid_value")


@given(
    st.dictionaries(
        st.sampled_from(["limit", "order", "after", "purpose", "x"]),
        st.text(max_size=30) | st.integers(-(10**30), 10**30).map(str) | st.text("0123456789", min_size=8, max_size=40),
    )
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_list_answers_any_query_with_a_sentence(gateway: Gateway, query: dict[str, str]) -> None:
    reply = requests.get(f"{gateway.url}/v1/files", params=query, timeout=WAIT_S)
    assert reply.status_code in (200, 400, 404)
    assert reply.status_code == 200 or reply.json()["error"]["message"]


# Expiry.
def test_file_is_gone_when_it_has_expired(gateway: Gateway, client: OpenAI, create: Create) -> None:
    purpose = next(PURPOSES)
    file = create(purpose=purpose, expires_after={"anchor": "created_at", "seconds": 2_592_000})
    assert file.expires_at == file.created_at + 2_592_000
    assert client.files.retrieve(file.id) == file
    connection = database(gateway)
    connection.execute("UPDATE files SET expires_at = ? WHERE id = ?", (int(time()), file.id))
    connection.close()
    for forget in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError):
            forget(file.id)
    assert client.files.list(purpose=purpose).data == []
    assert file.id not in [*stored(gateway)[0], *stored(gateway)[1]]


# What cannot be taken.
SECONDS, ANCHOR = "expires_after[seconds]", "expires_after[anchor]"
SECONDS_RANGE = f"{SECONDS} must be an integer from 3600 to 2592000, not "
NEEDS_BOTH = "expires_after needs an anchor, which is created_at, and seconds"
NOT_A_FORM = "the body is not a valid form: "
BAD_UPLOADS: dict[str, tuple[bytes, str, str, str | None]] = {
    "nothing": (END, "purpose is required", "missing_required_parameter", "purpose"),
    "no purpose": (part() + END, "purpose is required", "missing_required_parameter", "purpose"),
    "an empty purpose": (
        part() + text("purpose", "") + END,
        "purpose is required",
        "missing_required_parameter",
        "purpose",
    ),
    "no file": (
        PURPOSE + END,
        "one file is expected in the field file, not 0",
        "missing_required_parameter",
        "file",
    ),
    "text for a file": (
        PURPOSE + text("file", "text") + END,
        "one file is expected in the field file, not 0",
        "missing_required_parameter",
        "file",
    ),
    "a file that nobody chose": (
        PURPOSE + part(b"", b"") + END,
        "one file is expected in the field file, not 0",
        "missing_required_parameter",
        "file",
    ),
    "a file of another name": (
        PURPOSE + part(name=b"document") + END,
        "one file is expected in the field file, not 0",
        "missing_required_parameter",
        "file",
    ),
    "two files": (
        PURPOSE + part() + part() + END,
        "one file is expected in the field file, not 2",
        "missing_required_parameter",
        "file",
    ),
    **{
        f"seconds {value[:20]}": (
            PURPOSE + part() + text(ANCHOR, "created_at") + text(SECONDS, value) + END,
            SECONDS_RANGE + value[:64],
            "invalid_value",
            SECONDS,
        )
        for value in ("3599", "2592001", "0", "-3600", "3600.0", "", "soon", "000000003600" + "9" * 30)
    },
    "another anchor": (
        PURPOSE + part() + text(ANCHOR, "now") + text(SECONDS, "3600") + END,
        NEEDS_BOTH,
        "invalid_value",
        "expires_after",
    ),
    "an anchor alone": (
        PURPOSE + part() + text(ANCHOR, "created_at") + END,
        NEEDS_BOTH,
        "invalid_value",
        "expires_after",
    ),
    "seconds alone": (PURPOSE + part() + text(SECONDS, "3600") + END, NEEDS_BOTH, "invalid_value", "expires_after"),
    "expiry as JSON": (
        PURPOSE + part() + text("expires_after", '{"anchor": "created_at", "seconds": 3600}') + END,
        NEEDS_BOTH,
        "invalid_value",
        "expires_after",
    ),
    "no closing boundary": (
        PURPOSE + part(),
        NOT_A_FORM + "it ends in the middle, without its closing boundary",
        "invalid_multipart",
        None,
    ),
    "cut off in the file": (
        PURPOSE + part(b"x" * 2 * MIB)[:-100],
        NOT_A_FORM + "it ends in the middle, without its closing boundary",
        "invalid_multipart",
        None,
    ),
    "another boundary": (END.replace(b"b", b"c"), NOT_A_FORM + "Invalid multipart data.", "invalid_multipart", None),
    "not a form": (b'{"purpose": "x"}', NOT_A_FORM + "Invalid multipart data.", "invalid_multipart", None),
    "no body": (
        b"",
        NOT_A_FORM + "it ends in the middle, without its closing boundary",
        "invalid_multipart",
        None,
    ),
    "an endless name": (
        PURPOSE + part(filename=b"x" * 100_000) + END,
        NOT_A_FORM + "Invalid multipart data.",
        "invalid_multipart",
        None,
    ),
    "a line's end in a name": (
        PURPOSE + part(filename=b"a\rb") + END,
        NOT_A_FORM + "Invalid multipart data.",
        "invalid_multipart",
        None,
    ),
}


@pytest.mark.parametrize("case", BAD_UPLOADS)
@pytest.mark.parametrize("path", ["/v1/files", "/files"])
def test_create_answers_400_to_a_bad_upload(gateway: Gateway, create: Create, path: str, case: str) -> None:
    body, message, code, param = BAD_UPLOADS[case]
    with nothing_stored(gateway, create):
        reply = post(gateway, body, path)
        assert (reply.status_code, reply.json()) == (400, envelope(message, code, param))


def test_create_refuses_an_endless_purpose(gateway: Gateway, create: Create) -> None:
    with nothing_stored(gateway, create):
        reply = post(gateway, text("purpose", "x" * MIB) + part() + END)
        error = reply.json()["error"]
        assert (reply.status_code, error.get("param"), len(error["message"]) < 200) == (400, "purpose", True)


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", None])
def test_create_answers_415_to_what_is_no_form(gateway: Gateway, content_type: str | None) -> None:
    reply = requests.post(f"{gateway.url}/v1/files", data=b"{}", headers={"Content-Type": content_type}, timeout=WAIT_S)
    known = content_type or "application/json"
    message = f"Content-Type {known} is not supported: send multipart/form-data"
    assert (reply.status_code, reply.json()) == (415, envelope(message, "unsupported_media_type"))


def test_sdk_raises_for_bad_uploads(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.files.create(file=b"x", purpose="")  # type: ignore[arg-type]
    assert raised.value.param == "purpose"
    with pytest.raises(openai.BadRequestError) as raised:
        client.files.create(file=b"x", purpose="batch", expires_after={"anchor": "created_at", "seconds": 1})
    assert raised.value.param == SECONDS


@given(
    st.lists(
        st.binary(max_size=30) | st.sampled_from([PURPOSE, part(), part(b"", b""), text(SECONDS, "9"), b"--b", END]),
        max_size=5,
    )
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_create_answers_any_form_with_a_sentence(gateway: Gateway, pieces: list[bytes]) -> None:
    reply = post(gateway, b"".join(pieces))
    assert reply.status_code in (200, 400)
    assert reply.status_code == 200 or reply.json()["error"]["message"]


def test_create_answers_413_to_a_file_that_is_too_large(gateway: Gateway, client: OpenAI, create: Create) -> None:
    message = f"the body is larger than max_upload_bytes = {MAX_BYTES} bytes"
    with nothing_stored(gateway, create):
        with pytest.raises(openai.APIStatusError) as raised:
            client.files.create(file=b"x" * MAX_BYTES, purpose="user_data")
        assert raised.value.status_code == 413
        assert raised.value.body == envelope(message, "too_large")["error"]
        pieces = iter([PURPOSE, part(b"x" * MAX_BYTES), END])  # chunked: nobody says how large it will be
        reply = requests.post(f"{gateway.url}/files", data=pieces, headers=FORM, timeout=WAIT_S)
        assert (reply.status_code, reply.json()) == (413, envelope(message, "too_large"))


UNKNOWN = [MISSING, "nothing", "..", "%2e%2e%2fgateway.db", "%00", "%ff", "x" * 5000, "file-%0d%0aX:y", "'", "file-"]


@pytest.mark.parametrize("file_id", UNKNOWN, ids=range(len(UNKNOWN)))
def test_unknown_file_is_answered_with_404(gateway: Gateway, create: Create, file_id: str) -> None:
    create()
    before = stored(gateway)
    for method, suffix in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        with connect(gateway.port) as connection:
            connection.socket.sendall(f"{method} /v1/files/{file_id}{suffix} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            body = json.loads(connection.head().body())
            assert (connection.status, list(body), set(connection.headers)) == (
                404,
                ["error"],
                {"content-length", "content-type", "date", "x-request-id"},
            )
            assert body["error"]["code"] in ("file_not_found", "not_found")
    assert stored(gateway) == before


def test_sdk_raises_not_found_for_an_unknown_file(client: OpenAI) -> None:
    for call in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError) as raised:
            call(MISSING)
        assert raised.value.body == envelope(f"there is no file '{MISSING}'", "file_not_found", "file_id")["error"]
    with pytest.raises(openai.NotFoundError):
        client.files.list(after=MISSING)


def test_unknown_file_is_answered_with_the_envelope_without_v1(gateway: Gateway) -> None:
    for suffix in ("", "/content"):
        reply = get(gateway, f"/files/{MISSING}{suffix}")
        message = f"there is no file '{MISSING}'"
        assert (reply.status_code, reply.json()) == (404, envelope(message, "file_not_found", "file_id"))


# Names are data.
HOSTILE_NAMES: dict[bytes, tuple[str, str]] = {  # as sent: as listed, as offered to a browser
    b"../../x": ("../../x", 'attachment; filename="x"'),
    b"/etc/passwd": ("/etc/passwd", 'attachment; filename="passwd"'),
    b"..": ("..", 'attachment; filename="{id}"'),
    b"a\x00b": ("a\x00b", "attachment; filename*=utf-8''a%00b"),
    b"a\nb": ("a\nb", "attachment; filename*=utf-8''a%0Ab"),
    b"%0d%0aX-Evil: 1": ("%0d%0aX-Evil: 1", "attachment; filename*=utf-8''%250d%250aX-Evil%3A%201"),
    b"a;filename=b.exe": ("a;filename=b.exe", "attachment; filename*=utf-8''a%3Bfilename%3Db.exe"),
    b'a\\"b': ('a"b', "attachment; filename*=utf-8''a%22b"),
    "grün 日本 😀.pdf".encode(): (
        "grün 日本 😀.pdf",
        "attachment; filename*=utf-8''gr%C3%BCn%20%E6%97%A5%E6%9C%AC%20%F0%9F%98%80.pdf",
    ),
    b"\xff\xfe": ("ÿþ", "attachment; filename*=utf-8''%C3%BF%C3%BE"),
    b"x" * 3000: ("x" * 3000, f'attachment; filename="{"x" * 3000}"'),
    "😀".encode() * 600: ("😀" * 600, "attachment; filename*=utf-8''" + "%F0%9F%98%80" * 600),
    b" ": (" ", "attachment; filename*=utf-8''%20"),
    b"": ("upload", 'attachment; filename="upload"'),
    b"page.html": ("page.html", 'attachment; filename="page.html"'),
}


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=range(len(HOSTILE_NAMES)))
def test_hostile_name_is_data_and_touches_nothing(gateway: Gateway, name: bytes) -> None:
    shown, disposition = HOSTILE_NAMES[name]
    around = {path for path in folder_of(gateway).parent.rglob("*") if path.parent.name != "files"}
    before = stored(gateway)[1]
    content = b"<script>alert(1)</script>"
    file = post(gateway, PURPOSE + part(content, name) + END).json()
    assert file["filename"] == get(gateway, f"/v1/files/{file['id']}").json()["filename"] == shown
    assert stored(gateway)[1] == sorted([*before, file["id"]])
    assert {path for path in folder_of(gateway).parent.rglob("*") if path.parent.name != "files"} == around
    reply = get(gateway, f"/v1/files/{file['id']}/content")
    assert (reply.status_code, reply.content) == (200, content)
    assert reply.headers["Content-Type"] == "application/octet-stream"
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["Content-Disposition"] == disposition.replace("{id}", file["id"])
    assert set(map(str.lower, reply.headers)) == {
        *("accept-ranges", "content-disposition", "content-length", "content-type", "date", "etag"),
        *("last-modified", "x-content-type-options", "x-request-id"),
    }


@pytest.mark.parametrize("name", ['q"uote', "a\r\nX-Evil: 1", "..\\x", "grün.pdf", "a b;c", "x" * 2000])
def test_hostile_name_comes_through_the_sdk(client: OpenAI, name: str) -> None:
    file = client.files.create(file=(name, b"x"), purpose="user_data")
    sent = name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")  # as the HTML standard says
    assert client.files.retrieve(file.id).filename == sent
    reply = client.files.content(file.id).response
    assert "x-evil" not in reply.headers
    assert reply.headers["content-disposition"].startswith("attachment; filename")


# Content.
RANGES = {
    "bytes=0-0": (206, b"0", "bytes 0-0/10"),
    "bytes=3-5": (206, b"345", "bytes 3-5/10"),
    "bytes=7-": (206, b"789", "bytes 7-9/10"),
    "bytes=-2": (206, b"89", "bytes 8-9/10"),
    "bytes=-99": (206, b"0123456789", "bytes 0-9/10"),
    "bytes=5-99": (206, b"56789", "bytes 5-9/10"),
    "bytes=1-3,2-5": (206, b"12345", "bytes 1-5/10"),
    "bytes=10-": (416, b"", "bytes */10"),
    "bytes=99-": (416, b"", "bytes */10"),
    # What is no range is as if it were not there (RFC 9110, 14.2).
    "bytes=5-3": (200, b"0123456789", None),
    "bytes=a-b": (200, b"0123456789", None),
    "bytes=": (200, b"0123456789", None),
    "bytes": (200, b"0123456789", None),
    "lines=1-2": (200, b"0123456789", None),
    "bytes=" + "9" * 5000 + "-": (200, b"0123456789", None),
    "bytes=" + ",".join(["0-1"] * 101): (200, b"0123456789", None),
}


@pytest.mark.parametrize("value", RANGES, ids=range(len(RANGES)))
def test_content_gives_a_range(gateway: Gateway, create: Create, value: str) -> None:
    status, body, content_range = RANGES[value]
    reply = get(gateway, f"/v1/files/{create(b'0123456789').id}/content", Range=value)
    found = (reply.status_code, reply.content, reply.headers.get("Content-Range"))
    assert found == (status, body, content_range)


def test_content_gives_several_ranges_at_once(gateway: Gateway, create: Create) -> None:
    reply = get(gateway, f"/v1/files/{create(b'0123456789').id}/content", Range="bytes=0-1,8-9")
    boundary = reply.headers["Content-Type"].removeprefix("multipart/byteranges; boundary=")
    assert (reply.status_code, len(reply.content)) == (206, int(reply.headers["Content-Length"]))
    assert [piece.rpartition(b"\r\n\r\n")[2] for piece in reply.content.split(f"--{boundary}".encode())] == [
        *(b"", b"01\r\n", b"89\r\n", b"--")
    ]


@pytest.mark.parametrize("content", [b"", b"0123456789"])
def test_content_answers_head_without_it(gateway: Gateway, create: Create, content: bytes) -> None:
    reply = requests.head(f"{gateway.url}/v1/files/{create(content).id}/content", timeout=WAIT_S)
    assert (reply.status_code, reply.content) == (200, b"")
    assert reply.headers["Content-Length"] == str(len(content))


def test_content_of_nothing_is_nothing(client: OpenAI, create: Create) -> None:
    file = create(b"")
    assert (file.bytes, client.files.content(file.id).read()) == (0, b"")


def test_content_that_is_lost_is_answered_with_404(gateway: Gateway, client: OpenAI, create: Create) -> None:
    file = create()
    (folder_of(gateway) / "files" / file.id).unlink()
    with pytest.raises(openai.NotFoundError):
        client.files.content(file.id)
    reader = requests.post(f"{gateway.url}/files_reader/run", json={"file_id": file.id}, timeout=WAIT_S)
    assert (reader.status_code, reader.json()["error"]["code"]) == (404, "file_not_found")
    assert client.files.delete(file.id).deleted


def test_content_is_sent_to_its_end_though_the_file_is_deleted(
    gateway: Gateway, client: OpenAI, create: Create
) -> None:
    content = b"0123456789abcdef" * (MIB // 4)
    file = create(content)
    with no_file_left_open(), connect(gateway.port, receive_buffer=4096) as reading:
        reading.get(f"/v1/files/{file.id}/content").head()
        assert client.files.delete(file.id).deleted
        with pytest.raises(openai.NotFoundError):
            client.files.content(file.id)
        assert sha256(reading.body()).digest() == sha256(content).digest()


def test_content_is_closed_when_its_reader_leaves(gateway: Gateway, create: Create) -> None:
    file = create(b"x" * (MAX_BYTES - 1024))
    with connect(gateway.port, receive_buffer=4096) as reading:
        reading.get(f"/v1/files/{file.id}/content").head()
        eventually(lambda: open_contents(gateway), "the file is open")
    eventually(lambda: not open_contents(gateway), "the file is closed")


def test_content_is_closed_when_its_reader_takes_nothing(tmp_path: Path) -> None:
    (tmp_path / "wrappers").mkdir()
    with (
        serve(tmp_path / "wrappers", state_dir=tmp_path / "state", send_timeout_s=0.2) as gateway,
        make_client(gateway.url) as client,
    ):
        file = client.files.create(file=b"x" * (32 * MIB), purpose="user_data")
        with connect(gateway.port, receive_buffer=4096) as reading:
            reading.get(f"/v1/files/{file.id}/content").head()
            assert reading._file.read(1) == b"x"  # it is open by now
            eventually(lambda: not open_contents(gateway), "the file is closed")


# Uploads that do not come to their end.
def test_create_leaves_nothing_behind_when_the_caller_leaves(gateway: Gateway, create: Create) -> None:
    head = "POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    with nothing_stored(gateway, create):
        before = len(open_files())
        with socket.create_connection(("127.0.0.1", gateway.port), WAIT_S) as connection:
            connection.sendall(f"{head}Content-Length: {4 * MIB}\r\n\r\n".encode())
            connection.sendall(PURPOSE + part(b"x" * 2 * MIB))
            eventually(lambda: len(open_files()) > before, "the upload lies on disk")


def no_space(*_: Any, **__: Any) -> None:
    raise OSError(28, "No space left on device: /a/secret/place")


@pytest.mark.parametrize("seam", ["shutil.copyfileobj", "os.fsync", "tempfile.TemporaryFile"])
def test_create_answers_500_when_the_disk_is_full(
    gateway: Gateway, client: OpenAI, create: Create, monkeypatch: pytest.MonkeyPatch, seam: str
) -> None:
    with nothing_stored(gateway, create):
        with monkeypatch.context() as patch:
            patch.setattr(seam, no_space)
            with pytest.raises(openai.InternalServerError) as raised:
                client.files.create(file=b"x" * 2 * MIB, purpose="user_data")
        assert (raised.value.status_code, raised.value.type, raised.value.param) == (500, "server_error", None)
        message = raised.value.body["message"]  # type: ignore[index]
        assert re.fullmatch(r"the gateway failed; the log says why under err_[0-9a-f]{16}", message)
    assert create().status == "processed"


def test_create_of_20_threads_loses_none(client: OpenAI, create: Create) -> None:
    purpose = next(PURPOSES)
    with ThreadPoolExecutor(20) as threads:
        made = list(threads.map(lambda number: create(b"%d" % number * 1000, str(number), purpose=purpose), range(60)))
        contents = list(threads.map(lambda file: client.files.content(file.id).read(), made))
    assert [file.filename for file in made] == [str(number) for number in range(60)]
    assert contents == [b"%d" % number * 1000 for number in range(60)]
    assert {file.id for file in client.files.list(purpose=purpose, limit=7)} == {file.id for file in made}


def test_delete_of_20_threads_while_others_come_disturbs_nobody(client: OpenAI, create: Create) -> None:
    purpose = next(PURPOSES)

    def come_and_go(number: int) -> bool:
        file = create(purpose=purpose)
        client.files.list(purpose=purpose, limit=3)
        return client.files.content(file.id).read() == b"content" and client.files.delete(file.id).deleted

    with ThreadPoolExecutor(20) as threads:
        assert list(threads.map(come_and_go, range(60))) == [True] * 60
    assert client.files.list(purpose=purpose).data == []


def test_uploads_leave_no_descriptor_behind(gateway: Gateway, create: Create) -> None:
    create()

    def come_and_go(session: requests.Session, number: int) -> bool:
        form = {"file": ("a", b"x" * (MIB + number)), "purpose": (None, "user_data" if number % 5 else "")}
        with session.post(f"{gateway.url}/v1/files", files=form, timeout=WAIT_S) as reply:
            if not number % 5:
                return reply.status_code == 400
            return session.delete(f"{gateway.url}/v1/files/{reply.json()['id']}", timeout=WAIT_S).ok

    with same_descriptors(), requests.Session() as session:
        assert all(come_and_go(session, number) for number in range(50))


# Wrappers that read.
@pytest.mark.parametrize("wrapper", ["files_reader", "files_reader_async"])
def test_run_reads_an_uploaded_file(gateway: Gateway, create: Create, wrapper: str) -> None:
    file = create("grün".encode(), "../a.md", "text/markdown")
    reply = requests.post(f"{gateway.url}/{wrapper}/run", json={"file_id": file.id}, timeout=WAIT_S)
    assert reply.json() == {
        "result": {
            "id": file.id,
            "filename": "../a.md",
            "content_type": "text/markdown",
            "size": 5,
            "content": "grün",
        }
    }


@pytest.mark.parametrize("wrapper", ["files_reader", "files_reader_async"])
@pytest.mark.parametrize("file_id", [MISSING, "", "../gateway.db", 5, None, {}, [MISSING]])
def test_run_is_answered_with_404_when_it_asks_for_no_file(gateway: Gateway, wrapper: str, file_id: Any) -> None:
    reply = requests.post(f"{gateway.url}/{wrapper}/run", json={"file_id": file_id}, timeout=WAIT_S)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["type"]) == (404, "file_not_found", "invalid_request_error")


@pytest.mark.parametrize("wrapper", ["files_reader", "files_reader_async"])
@pytest.mark.parametrize("is_stream", [False, True])
def test_chat_and_response_read_the_files_that_their_input_names(
    client: OpenAI, create: Create, wrapper: str, is_stream: bool
) -> None:
    first, second = create(b"first").id, create(b"second").id
    messages: Any = [
        {"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "file", "file": {"file_id": first}}]},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": [{"type": "file", "file": {"file_id": second}}]},
    ]
    items: Any = [
        {"role": "user", "content": [{"type": "input_file", "file_id": first}]},
        {"role": "user", "content": [{"type": "input_file", "file_id": second}, {"type": "input_text", "text": "?"}]},
    ]
    if is_stream:
        with client.chat.completions.stream(model=wrapper, messages=messages) as chat:
            assert chat.get_final_completion().choices[0].message.content == "first|second"
        with client.responses.stream(model=wrapper, input=items) as response:
            assert response.get_final_response().output_text == "first|second"
    else:
        completion = client.chat.completions.create(model=wrapper, messages=messages)
        assert completion.choices[0].message.content == "first|second"
        assert client.responses.create(model=wrapper, input=items).output_text == "first|second"


@pytest.mark.parametrize("wrapper", ["files_reader", "files_reader_async"])
def test_chat_and_response_raise_not_found_for_a_file_that_is_not_there(client: OpenAI, wrapper: str) -> None:
    part: Any = {"type": "file", "file": {"file_id": MISSING}}
    item: Any = {"role": "user", "content": [{"type": "input_file", "file_id": MISSING}]}
    calls: list[Callable[[], Any]] = [
        lambda: client.chat.completions.create(model=wrapper, messages=[{"role": "user", "content": [part]}]),
        lambda: client.responses.create(model=wrapper, input=[item]),
        lambda: client.responses.create(model=wrapper, input=[item], stream=True),
    ]
    for call in calls:
        with pytest.raises(openai.NotFoundError) as raised:
            call()
        assert raised.value.body == envelope(f"there is no file '{MISSING}'", "file_not_found", "file_id")["error"]


# Wrappers that take.
def hand_over(client: OpenAI, purpose: str, model: str = "files_taker", **given: Any) -> Any:
    reply = client.files.with_raw_response.create(
        file=("a.txt", b"content", "text/plain"),
        purpose=purpose,  # type: ignore[arg-type]
        extra_body={"model": model},
        **given,
    )
    return reply.http_response.json()


def test_wrapper_takes_the_upload_that_names_it(gateway: Gateway, client: OpenAI, create: Create) -> None:
    taken = ["a.txt", "text/plain", "content"]
    with nothing_stored(gateway, create):
        file = hand_over(client, "partial")
        assert file == {
            "id": "file-own",
            "object": "file",
            "bytes": 7,
            "created_at": file["created_at"],
            "filename": "a.txt",
            "purpose": "partial",
            "status": "processed",
            "taken": taken,
        }
        assert time() - 60 < file["created_at"] <= time()
        file = hand_over(client, "user_data", "files_taker_async", extra_headers={"X-Test": "from the header"})
        assert (file["id"], file["taken"], file["purpose"]) == ("file-from the header", taken, "user_data")


@pytest.mark.parametrize("purpose", ["nothing", "whole", "model"])
def test_wrapper_may_leave_anything_out_of_what_it_has_taken(client: OpenAI, purpose: str) -> None:
    file = hand_over(client, purpose)
    check({**file, "purpose": "vision"}, FileObject)
    known = {"bytes": 7, "created_at": file["created_at"], "filename": "a.txt", "status": "processed"}
    whole = {
        "nothing": {**known, "id": file["id"], "purpose": "nothing"},
        "whole": {**known, "id": "file-w", "created_at": 8, "filename": "w", "purpose": "vision"},
        "model": {**known, "id": "file-m", "created_at": 5, "purpose": "vision", "status": "uploaded"},
    }[purpose]
    assert {key: value for key, value in file.items() if value is not None} == {"object": "file", **whole}
    assert re.fullmatch(r"file-([0-9a-f]{24}|w|m)", file["id"])


@pytest.mark.parametrize("purpose", ["unknown", "text", "list", "unfit", "stream", "failing"])
def test_wrapper_that_gives_no_file_is_a_500_with_an_id(client: OpenAI, purpose: str) -> None:
    with pytest.raises(openai.InternalServerError) as raised:
        hand_over(client, purpose)
    error: Any = raised.value.body
    message = error.pop("message")
    assert (raised.value.status_code, error) == (500, {"type": "server_error", "param": None, "code": "wrapper_error"})
    assert re.fullmatch(r"wrapper files_taker failed; the log says why under err_[0-9a-f]{16}", message)


def test_wrapper_may_refuse_an_upload_and_answer_as_it_likes(gateway: Gateway, client: OpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as raised:
        hand_over(client, "refused")
    assert raised.value.body == envelope("a.txt is too dull", "too_dull")["error"]
    body = text("purpose", "response") + text("model", "files_taker") + part() + END
    reply = post(gateway, body)
    assert (reply.status_code, reply.text) == (202, "as it is")


def test_wrapper_that_takes_no_uploads_cannot_be_named(gateway: Gateway, client: OpenAI, create: Create) -> None:
    with nothing_stored(gateway, create):
        for model in ("files_reader", "nobody"):
            with pytest.raises(openai.NotFoundError) as raised:
                hand_over(client, "user_data", model)
            assert (raised.value.code, raised.value.param) == ("model_not_found", "model")


def test_upload_that_names_no_wrapper_is_stored_when_two_take_uploads(client: OpenAI, create: Create) -> None:
    file = create(b"for nobody")
    assert client.files.content(file.id).read() == b"for nobody"


def test_upload_goes_to_the_only_wrapper_that_takes_them(tmp_path: Path) -> None:
    for name in ("files_taker_async", "files_reader"):
        (tmp_path / "wrappers").mkdir(exist_ok=True)
        (tmp_path / "wrappers" / name).symlink_to(WRAPPERS / name)
    with serve(tmp_path / "wrappers") as gateway, make_client(gateway.url) as client, no_file_left_open():
        for size in (0, 7, 2 * MIB):
            file = client.files.create(file=("a.txt", b"x" * size), purpose="user_data")
            assert (file.id, file.bytes, file.filename) == ("file-async", size, "a.txt")
    assert not (tmp_path / "wrappers" / ".gateway" / "files").exists()


# The state folder.
def test_nothing_is_written_before_the_first_upload(tmp_path: Path) -> None:
    (tmp_path / "files_reader").symlink_to(WRAPPERS / "files_reader")
    with serve(tmp_path) as gateway, make_client(gateway.url) as client:
        assert [model.id for model in client.models.list()] == ["files_reader"]
        client.chat.completions.create(model="files_reader", messages=[{"role": "user", "content": "hello"}])
        with pytest.raises(openai.BadRequestError):
            client.files.create(file=b"x", purpose="")  # type: ignore[arg-type]
        assert not (tmp_path / ".gateway" / "files").exists()
        file = client.files.create(file=b"x", purpose="user_data")
        assert sorted(path.name for path in tmp_path.iterdir()) == [".gateway", "files_reader"]
        assert [path.name for path in (tmp_path / ".gateway" / "files").iterdir()] == [file.id]


def test_two_apps_share_files_only_when_they_share_a_folder(tmp_path: Path) -> None:
    with ExitStack() as stack:
        clients = []
        for name, state in (("a", "shared"), ("b", "shared"), ("c", "its own")):
            (tmp_path / name).mkdir()
            gateway = stack.enter_context(serve(tmp_path / name, state_dir=tmp_path / state))
            clients.append(stack.enter_context(make_client(gateway.url)))
        files = [
            client.files.create(file=str(number).encode(), purpose="batch") for number, client in enumerate(clients)
        ]
        listed = [{file.id for file in client.files.list()} for client in clients]
        shared = {files[0].id, files[1].id}
        assert listed == [shared, shared, {files[2].id}]
        assert clients[1].files.content(files[0].id).read() == b"0"
        assert clients[1].files.delete(files[0].id).deleted
        with pytest.raises(openai.NotFoundError):
            clients[0].files.retrieve(files[0].id)


def test_files_survive_a_restart_and_are_seen_by_every_worker(tmp_path: Path) -> None:
    (tmp_path / "wrappers").mkdir()
    command = ("--wrappers-dir", str(tmp_path / "wrappers"), "--state-dir", str(tmp_path / "state"))
    with spawn(*command, "--workers", "2") as process, ExitStack() as stack:
        process.wait_until_ready()
        clients = [stack.enter_context(make_client(process.url)) for _ in range(8)]  # a connection each
        with ThreadPoolExecutor(8) as threads:
            files = list(
                threads.map(lambda client: client.files.create(file=("a.txt", b"content"), purpose="batch"), clients)
            )
        for client in clients:
            assert {file.id for file in client.files.list()} == {file.id for file in files}
            assert client.files.content(files[0].id).read() == b"content"
        assert clients[0].files.delete(files[1].id).deleted
        for client in clients:
            with pytest.raises(openai.NotFoundError):
                client.files.content(files[1].id)
        assert process.stop() == 0
    with spawn(*command) as process, make_client(process.url) as client:
        assert {file.id for file in client.files.list()} == {file.id for file in files} - {files[1].id}
        third = client.files.create(file=b"to be killed", purpose="batch")
        assert process.stop(signal.SIGKILL) == -signal.SIGKILL
    with spawn(*command) as process, make_client(process.url) as client:
        assert client.files.content(third.id).read() == b"to be killed"
    assert list((tmp_path / "wrappers").iterdir()) == []


def test_temporary_folder_stands_in_when_the_state_folder_cannot_be_made(tmp_path: Path) -> None:
    for name in ("wrappers", "temporary"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    command = ("--wrappers-dir", str(tmp_path / "wrappers"), "--state-dir", str(tmp_path / "file" / "state"))
    with spawn(*command, environment={"TMPDIR": str(tmp_path / "temporary")}) as process:
        with make_client(process.url) as client:
            files = [client.files.create(file=content, purpose="batch") for content in (b"first", b"second")]
            assert [client.files.content(file.id).read() for file in files] == [b"first", b"second"]
        assert len(list((tmp_path / "temporary").iterdir())) == 1
        assert process.stop() == 0
        lines = [json.loads(line) for line in process.lines]
    warnings = [line for line in lines if line["level"] not in ("info", "debug")]
    assert [(line["level"], line["event"]) for line in warnings] == [
        ("warning", "the state folder cannot be written: what is uploaded or deployed will not survive a restart")
    ]
    assert list((tmp_path / "temporary").iterdir()) == []


# What is large.
def peak_kib(pid: int) -> int:
    """The most memory that the process has held so far."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1])


def test_200_mb_come_and_go_without_being_held(tmp_path: Path) -> None:
    for name in ("wrappers", "temporary"):
        (tmp_path / name).mkdir()
    piece, pieces = b"0123456789abcdef" * (16 * 1024), 800
    content = sha256()
    for _ in range(pieces):
        content.update(piece)
    command = ("--wrappers-dir", str(tmp_path / "wrappers"))
    with spawn(*command, environment={"TMPDIR": str(tmp_path / "temporary")}) as process:
        pid, url = process.process.pid, f"{process.url}/v1/files"
        with make_client(process.url) as client:
            client.files.create(file=b"", purpose="user_data")
            before_kib = peak_kib(pid)
            head = part()[: -len(b"content\r\n")]
            body = iter([PURPOSE + head, *repeat(piece, pieces), b"\r\n" + END])
            file = requests.post(url, data=body, headers=FORM, timeout=60).json()
            assert file["bytes"] == 200 * MIB
            received = sha256()
            with client.files.with_streaming_response.content(file["id"]) as reply:
                for some in reply.iter_bytes():
                    received.update(some)
            assert received.digest() == content.digest()
            assert peak_kib(pid) - before_kib < 32 * 1024
            assert list((tmp_path / "temporary").iterdir()) == []
            client.files.delete(file["id"])
            small = part(b"x" * (MIB - 1024), name=b"other")  # one less than lies on disk
            reply = requests.post(url, data=PURPOSE + small * 100 + END, headers=FORM, timeout=60)
            assert (reply.status_code, reply.json()["error"]["type"]) == (400, "invalid_request_error")
            assert peak_kib(pid) - before_kib < 32 * 1024
        links = [link.resolve() for link in Path(f"/proc/{pid}/fd").iterdir()]
        assert [link for link in links if link.is_relative_to(tmp_path / "temporary")] == []
        assert len(list((tmp_path / "wrappers" / ".gateway" / "files").iterdir())) == 1


def test_content_is_sent_to_its_end_though_the_server_is_told_to_stop(tmp_path: Path) -> None:
    with spawn("--wrappers-dir", str(tmp_path)) as process, make_client(process.url) as client:
        content = b"0123456789abcdef" * (2 * MIB)
        file = client.files.create(file=content, purpose="user_data")
        with connect(int(process.url.rpartition(":")[2]), receive_buffer=4096) as reading:
            reading.get(f"/v1/files/{file.id}/content").head()
            process.process.send_signal(signal.SIGTERM)
            process.wait_for("waiting for runs in hand")
            assert reading.body() == content
        assert process.process.wait(WAIT_S) == 0
