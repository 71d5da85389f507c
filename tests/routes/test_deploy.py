"""The admin doors of a real server: their shapes, and whom they answer."""

import http.client
import json
import socket
import sqlite3
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests

from gateway.errors import Forbidden
from gateway.routes.deploy import check_local
from gateway.source import RESERVED_NAMES
from tests.gateways import Gateway, serve, spawn, write_wrapper
from tests.wire import connect

WAIT_S = 20.0
ENTRY = "pipeline_wrapper.py"
SOURCE = "class PipelineWrapper:\n    def run_api(self) -> str:\n        return {!r}\n"
YAML = """
components:
  prompt:
    type: haystack.components.builders.prompt_builder.PromptBuilder
    init_parameters: {template: Hello}
outputs: {text: prompt.prompt}
"""
NO = "this door answers callers on the server's own machine only, straight and not from a web page"

# Each would succeed: `w` serves its second generation, `down` has been taken down.
DOORS: dict[str, Any] = {
    "/deploy_files": {"name": "x", "files": {ENTRY: SOURCE.format("x")}},
    "/deploy-yaml": {"name": "y", "source_code": YAML},
    "/undeploy/w": {},
    "/rollback/w": {},
    "/rollback/w?generation=1": None,
    "/restore/down": {},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wrappers")


@pytest.fixture(scope="module")
def gateway(folder: Path) -> Iterator[Gateway]:
    with serve(folder, watch=False) as gateway:
        prepare(gateway)
        yield gateway


def prepare(gateway: Gateway) -> None:
    """What `DOORS` needs."""
    for number in (1, 2):
        assert deploy(gateway, {ENTRY: SOURCE.format(number)}, name="w", overwrite=True)[0] == 200
    assert deploy(gateway, {ENTRY: SOURCE.format("down")}, name="down")[0] == 200
    assert post(gateway, "/undeploy/down", {})[0] == 200


def ask(gateway: Gateway, method: str, path: str, body: Any, **headers: str) -> tuple[int, Any, dict[str, str]]:
    """Status, JSON and headers, over a connection of its own, so that Host can be anything."""
    with closing(http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=WAIT_S)) as connection:
        connection.request(method, path, json.dumps(body), {"Content-Type": "application/json", **headers})
        reply = connection.getresponse()
        content = reply.read()
    return reply.status, json.loads(content) if content else None, dict(reply.getheaders())


def post(gateway: Gateway, path: str, body: Any, **headers: str) -> tuple[int, Any]:
    return ask(gateway, "POST", path, body, **headers)[:2]


def deploy(gateway: Gateway, files: Any, **fields: Any) -> tuple[int, Any]:
    return post(gateway, "/deploy_files", {"name": "d", "files": files, **fields})


def get(gateway: Gateway, path: str) -> Any:
    return requests.get(gateway.url + path, timeout=WAIT_S).json()


def disk(folder: Path) -> dict[str, Any]:
    """All that lies in the folder and in the state below it, and what is on record there."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        if not path.name.startswith("gateway.db"):
            found[path.relative_to(folder).as_posix()] = path.read_bytes() if path.is_file() else None
    with closing(sqlite3.connect(folder / ".gateway" / "gateway.db")) as database:
        for table in ("wrappers", "generations"):
            found[table] = database.execute(f"SELECT * FROM {table} ORDER BY name, 2").fetchall()
    return found


def serving(gateway: Gateway) -> dict[str, Any]:
    return {name: each.get("generation") for name, each in get(gateway, "/status")["wrappers"].items()}


# Whom they answer.
FOREIGN: dict[str, dict[str, str]] = {
    "another origin": {"Origin": "https://evil.example"},
    "the null origin": {"Origin": "null"},
    "an empty origin": {"Origin": ""},
    "another port": {"Origin": "http://127.0.0.1:1"},
    "no port": {"Origin": "http://127.0.0.1"},
    "another name of this machine": {"Origin": "http://localhost:{port}"},
    "another scheme": {"Origin": "https://127.0.0.1:{port}"},
    "another host": {"Host": "evil.example"},
    "a host that begins like ours": {"Host": "127.0.0.1.evil.example"},
    "a host that ends like ours": {"Host": "evil.localhost"},
    "a host that was rebound": {"Host": "evil.example:{port}", "Origin": "http://evil.example:{port}"},
    "an address of the network": {"Host": "192.168.0.1:{port}"},
    "all addresses": {"Host": "0.0.0.0:{port}"},
    "no host": {"Host": ""},
    "Forwarded": {"Forwarded": "for=192.0.2.1"},
    "an empty Forwarded": {"Forwarded": ""},
    "X-Forwarded-For": {"X-Forwarded-For": "127.0.0.1"},
    "X-Forwarded-Host": {"X-Forwarded-Host": "localhost"},
    "X-Forwarded-Proto": {"X-Forwarded-Proto": "http"},
    "X-Forwarded-Port": {"X-Forwarded-Port": "80"},
    "X-Forwarded-Server": {"X-Forwarded-Server": "proxy"},
    "in lower case": {"x-forwarded-for": "127.0.0.1"},
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("case", FOREIGN)
def test_door_is_closed_to_a_foreign_caller(gateway: Gateway, folder: Path, door: str, case: str) -> None:
    headers = {name: value.format(port=gateway.port) for name, value in FOREIGN[case].items()}
    before = disk(folder), serving(gateway)
    code, reply, answered = ask(gateway, "POST", door, DOORS[door], **headers)
    error = {"type": "permission_error", "message": NO, "code": "forbidden"}
    assert (code, reply) == (403, {"error": error, "detail": NO})
    assert cors(answered) == []
    assert (disk(folder), serving(gateway)) == before


@pytest.mark.parametrize("is_named", [False, True], ids=["without an origin", "from its own pages"])
def test_door_is_open_to_the_same_request_of_a_local_caller(tmp_path: Path, is_named: bool) -> None:
    with serve(tmp_path, watch=False) as gateway:
        prepare(gateway)
        headers = {"Origin": gateway.url} if is_named else {}
        for door, body in DOORS.items():
            code, reply, answered = ask(gateway, "POST", door, body, **headers)
            assert (door, code, reply["success"], cors(answered)) == (door, 200, True, [])


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1416", "127.0.0.1", "127.8.8.8:80", "[::1]", "[::1]:1416"])
def test_door_is_open_under_every_name_of_this_machine(gateway: Gateway, host: str) -> None:
    for headers in ({"Host": host}, {"Host": host, "Origin": f"http://{host}"}):
        assert post(gateway, "/rollback/nobody", {}, **headers)[0] == 404


# A real socket of ours has no foreign peer; and some names no client sends.
PEERS: dict[str, tuple[Any, str, bool]] = {
    "this machine": (("127.0.0.1", 5000), "localhost", True),
    "this machine, IPv6": (("::1", 5000), "[::1]:1416", True),
    "the network": (("192.0.2.7", 5000), "localhost", False),
    "the network, IPv6": (("2001:db8::7", 5000), "localhost", False),
    "any": (("0.0.0.0", 5000), "localhost", False),
    "a socket without an address": (("", 0), "localhost", False),
    "nobody": (None, "localhost", False),
    "a name after the brackets": (("127.0.0.1", 5000), "[::1].evil.example", False),
    "a zone in the brackets": (("127.0.0.1", 5000), "[::1%evil.example]", False),
    "a name after the colon": (("127.0.0.1", 5000), "127.0.0.1:evil.example", False),
    "a user": (("127.0.0.1", 5000), "localhost:@evil.example", False),
    "an open bracket": (("127.0.0.1", 5000), "[::1", False),
    "no brackets": (("127.0.0.1", 5000), "::1", False),
    "two hosts": (("127.0.0.1", 5000), "localhost, evil.example", False),
}


@pytest.mark.parametrize("case", PEERS)
def test_check_local_looks_at_the_peer_and_at_the_whole_host(case: str) -> None:
    client, host, is_local = PEERS[case]
    scope = {"type": "http", "scheme": "http", "client": client, "headers": [(b"host", host.encode())]}
    if is_local:
        check_local(scope)
    else:
        with pytest.raises(Forbidden, match=NO):
            check_local(scope)


@pytest.mark.parametrize("door", DOORS)
def test_foreign_caller_is_refused_before_the_body_is_read(gateway: Gateway, door: str) -> None:
    """None of it is sent; a body so large, and of such a type, would have another answer."""
    lines = [f"POST {door} HTTP/1.1", "Host: localhost", "Origin: https://evil.example"]
    lines += ["Content-Type: text/plain", "Content-Length: 1000000000000", "", ""]
    with connect(gateway.port) as connection:
        connection.socket.sendall("\r\n".join(lines).encode())
        connection.head()
        assert (connection.status, json.loads(connection.body())["detail"]) == (403, NO)


def cors(headers: dict[str, str]) -> list[str]:
    return [name for name in headers if name.lower().startswith("access-control-")]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("origin", [None, "https://evil.example"])
def test_door_takes_post_alone_and_has_no_cors_headers(gateway: Gateway, method: str, origin: str | None) -> None:
    headers = {} if origin is None else {"Origin": origin, "Access-Control-Request-Method": "POST"}
    for door in DOORS:
        code, _, answered = ask(gateway, method, door, DOORS[door], **headers)
        assert (door, code, answered["allow"], cors(answered)) == (door, 405, "POST", [])


# What they answer.
def test_deploy_files_in_the_shape_of_hayhooks(gateway: Gateway) -> None:
    body = SOURCE.format("d").replace("'d'", "__import__('pathlib').Path(__file__).with_name('b').read_bytes().hex()")
    binary = {"content_base64": b64encode(bytes(range(240, 256))).decode()}
    code, reply = deploy(gateway, {ENTRY: body, "b": binary}, name="hh", description="first")
    assert (code, reply) == (200, {"name": "hh", "success": True, "endpoint": "/hh/run", "generation": 1})
    assert post(gateway, "/hh/run", {})[1] == {"result": bytes(range(240, 256)).hex()}
    told = get(gateway, "/status/hh")["history"]
    assert json.dumps([{**kept, "created_at": 0} for kept in told]) == json.dumps(
        [
            {
                "number": 1,
                "origin": "deploy",
                "description": "first",
                "is_yaml": False,
                "is_saved": True,
                "created_at": 0,
            }
        ]
    )  # as text: 0 is False to Python, and not to a client
    assert deploy(gateway, {ENTRY: body}, name="hh")[0] == 409


def test_admin_doors_tell_what_they_have_done(tmp_path: Path) -> None:
    with serve(tmp_path, watch=False) as gateway:
        prepare(gateway)
        done = {"name": "w", "success": True, "endpoint": "/w/run"}
        assert post(gateway, "/rollback/w", {}) == (200, {**done, "generation": 3})
        assert post(gateway, "/rollback/w?generation=2", {}) == (200, {**done, "generation": 4})
        assert post(gateway, "/w/run", {})[1] == {"result": 2}
        assert post(gateway, "/undeploy/w", {}) == (200, {"success": True, "name": "w"})
        assert post(gateway, "/restore/w", {}) == (200, {**done, "generation": 4})


@pytest.mark.parametrize("is_saved", [True, False])
def test_conflict_with_what_is_known(gateway: Gateway, is_saved: bool) -> None:
    name = f"known-{is_saved}"
    assert deploy(gateway, {ENTRY: SOURCE.format("x")}, name=name, save_files=is_saved)[0] == 200
    for body in ({"files": {ENTRY: SOURCE.format("y")}}, {"files": {ENTRY: SOURCE.format("y")}, "save_files": False}):
        code, reply = deploy(gateway, name=name, **body)
        assert (code, reply["detail"]) == (409, f"wrapper {name} is deployed already; overwrite replaces it")
    code, reply = post(gateway, "/deploy-yaml", {"name": name, "source_code": YAML})
    assert (code, reply["detail"]) == (409, f"wrapper {name} is deployed already; overwrite replaces it")
    assert post(gateway, f"/{name}/run", {})[1] == {"result": "x"}
    code, reply = deploy(gateway, {ENTRY: SOURCE.format("y")}, name=name, save_files=is_saved, overwrite=True)
    assert (code, reply["generation"]) == (200, 2)


@pytest.mark.parametrize("place", ["d/", f"d/{ENTRY}", "d/notes.txt", "d.yml", "d.yaml"])
@pytest.mark.parametrize("is_saved", [True, False])
def test_conflict_with_what_stands_on_disk_only(tmp_path: Path, place: str, is_saved: bool) -> None:
    with serve(tmp_path, watch=False) as gateway:
        path = tmp_path / place
        path.parent.mkdir(exist_ok=True)
        path.mkdir() if place.endswith("/") else path.write_text("mine")
        before = disk(tmp_path)
        code, reply = deploy(gateway, {ENTRY: SOURCE.format("x")}, save_files=is_saved)
        standing = place.partition("/")[0]
        assert (code, reply["detail"]) == (409, f"wrapper d is on disk as {standing} already; overwrite replaces it")
        assert disk(tmp_path) == before


LOADS: dict[str, tuple[dict[str, str], str]] = {
    "syntax": ({ENTRY: "x = 1\ndef"}, f"{ENTRY}, line 2: SyntaxError: "),
    "an import": (
        {ENTRY: "from .a import x", "a.py": "\n\n1 / 0"},
        "a.py, line 3: ZeroDivisionError: division by zero",
    ),
    "a setup": (
        {ENTRY: SOURCE.format("x") + "    def setup(self):\n        raise ValueError('so')"},
        f"{ENTRY}, line 5: ValueError: so",
    ),
    "empty": ({ENTRY: ""}, f"{ENTRY} defines no class PipelineWrapper"),
}


@pytest.mark.parametrize("case", LOADS)
def test_deploy_that_does_not_load_names_the_file_and_line(gateway: Gateway, case: str) -> None:
    files, said = LOADS[case]
    code, reply = deploy(gateway, files, name="bad")
    assert (code, reply["detail"].startswith(said)) == (422, True), reply
    assert requests.get(f"{gateway.url}/status/bad", timeout=WAIT_S).status_code == 404


# What they refuse.
NAMES = [
    *("", " ", ".", "..", "../x", "..%2fx", "a/b", "a\\b", "/a", "a.b", ".a", "_a", "-a", "a b", " a", "a\n"),
    *(
        "a\0",
        "\0",
        "a" * 65,
        "a" * 5000,
        "ä",
        "\uff57",
        "\u0430",
        "w\u200b",
        "w\u0301",
        "\u0661",
        *sorted(RESERVED_NAMES),
    ),
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_name_that_cannot_be_served_is_refused(gateway: Gateway, folder: Path, name: str) -> None:
    why = "is reserved for the gateway's own paths" if name in RESERVED_NAMES else "cannot be served"
    before = disk(folder), serving(gateway)
    for door in ("/deploy_files", "/deploy-yaml"):
        code, reply = post(gateway, door, {**DOORS[door], "name": name, "overwrite": True})
        assert (code, reply["detail"].startswith(f"the name {name!r} {why}: ")) == (422, True), reply
    assert (disk(folder), serving(gateway)) == before


@pytest.mark.parametrize("name", ["chat", "files", "responses", "embeddings", "deploy_files", "A", "0", "a" * 64])
def test_name_that_can_be_served_is_taken(gateway: Gateway, name: str) -> None:
    assert deploy(gateway, {ENTRY: SOURCE.format("x")}, name=name, overwrite=True)[0] == 200
    assert post(gateway, f"/{name}/run", {})[1] == {"result": "x"}


PATHS: dict[str, str] = {
    "%00": "there is no wrapper '\\x00'",
    "%ff": "there is no wrapper '\ufffd'",
    "%2e%2e": "there is no wrapper '..'",
    "q" * 300: f"there is no wrapper '{'q' * 64}'",
    "%EF%BD%97": "there is no wrapper '\uff57'",
    "W": "there is no wrapper 'W'",
    "status": "there is no wrapper 'status'",
}


@pytest.mark.parametrize("name", PATHS)
def test_path_of_no_wrapper_answers_404(gateway: Gateway, folder: Path, name: str) -> None:
    before = disk(folder)
    for door in ("undeploy", "restore"):
        code, reply = post(gateway, f"/{door}/{name}", {})
        assert (code, reply["detail"]) == (404, PATHS[name])
    assert post(gateway, f"/rollback/{name}", {})[0] == 404
    assert disk(folder) == before


def test_path_of_no_wrapper_leaves_nothing_with_several_workers(tmp_path: Path) -> None:
    """A turn among workers is a file of the wrapper's name."""
    write_wrapper(tmp_path, "w", SOURCE.format("mine"))
    with spawn("--wrappers-dir", str(tmp_path), "--workers", "2", "--no-watch") as process:
        process.wait_until_ready()
        before = set(disk(tmp_path))
        for name in PATHS:
            for door in ("undeploy", "restore", "rollback"):
                reply = requests.post(f"{process.url}/{door}/{name}", timeout=WAIT_S)
                assert (door, reply.status_code) == (door, 404), reply.text
        assert set(disk(tmp_path)) == before


@pytest.mark.parametrize("door", ["undeploy", "restore", "rollback"])
@pytest.mark.parametrize("name", ["..%2fw", "../w", "", "w/", "w%2f..", "/w"])
def test_path_that_leads_elsewhere_answers_404(gateway: Gateway, folder: Path, door: str, name: str) -> None:
    before = disk(folder), serving(gateway)
    assert post(gateway, f"/{door}/{name}", {})[0] == 404
    assert (disk(folder), serving(gateway)) == before


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.0", "x", "%D9%A1", "%C2%B2", "1%00", "1%20", "1" * 10, "1" * 5000])
def test_generation_that_is_no_number_is_refused(gateway: Gateway, folder: Path, text: str) -> None:
    before = disk(folder)
    code, reply = post(gateway, f"/rollback/w?generation={text}", {})
    assert (code, reply["detail"].startswith("generation must be a number, not '")) == (400, True)
    assert disk(folder) == before


@pytest.mark.parametrize("number", ["0", "3", "999999999"])
def test_generation_that_is_not_kept_answers_404(gateway: Gateway, number: str) -> None:
    code, reply = post(gateway, f"/rollback/w?generation={number}", {})
    message = f"generation {number} of w is not kept; `pipeline list --history` shows which are"
    assert (code, reply["detail"]) == (404, message)


FILES: dict[str, tuple[dict[str, Any], str]] = {
    "dots": ({"../x": ""}, "body.files.'../x': must be a place inside"),
    "dots in between": ({"a/../../x": ""}, "body.files.'a/../../x': must be a place inside"),
    "absolute": ({"/tmp/x": ""}, "body.files.'/tmp/x': must be a place inside"),
    "a backslash": ({"..\\x": ""}, "body.files.'..\\\\x': must be a place inside"),
    "an empty part": ({"a//x": ""}, "body.files.'a//x': must be a place inside"),
    "NUL": ({"a\0": ""}, "body.files.'a\\x00': must be a place inside"),
    "a part of 300 bytes": ({"x" * 300: ""}, "body.files.'xxx"),
    "a file that is a folder too": ({"a": "", "a/b": ""}, "body.files.a: is a file, and a/b needs it to be a folder"),
    "no base64": ({"a": {"content_base64": "a*b="}}, "body.files.a: is not base64: "),
    "a number": ({"a": 1}, "body.files.a: must be a string, or "),
}


@pytest.mark.parametrize("case", FILES)
def test_file_that_cannot_be_put_there_is_refused(gateway: Gateway, folder: Path, case: str) -> None:
    files, said = FILES[case]
    before = disk(folder), sorted(folder.parent.iterdir()), serving(gateway)
    code, reply = deploy(gateway, {ENTRY: SOURCE.format("x"), **files}, name="w", overwrite=True)
    assert (code, reply["detail"].startswith(said)) == (422, True), reply
    assert (disk(folder), sorted(folder.parent.iterdir()), serving(gateway)) == before


@pytest.mark.parametrize("is_saved", [True, False])
def test_longest_file_name_that_is_accepted_can_be_written(gateway: Gateway, is_saved: bool) -> None:
    length = 255
    while length > 200:
        files = {ENTRY: SOURCE.format("x"), "a" * length: "content", f"b/{'c' * length}": "content"}
        code, reply = deploy(gateway, files, name="long", save_files=is_saved, overwrite=True)
        if code != 422:
            break
        length -= 1
    assert (code, length >= 240) == (200, True), reply


ODD: dict[str, tuple[dict[str, Any], int]] = {
    "half a character": ({"description": "\ud800"}, 400),  # no JSON to the parser
    "overwrite as a string": ({"overwrite": "true"}, 422),
    "overwrite as a number": ({"overwrite": 1}, 422),
    "save_files as a string": ({"save_files": "false"}, 422),
    "a description as a number": ({"description": 1}, 422),
    "a deep path": ({"files": {ENTRY: SOURCE.format("x"), "a/" * 3000 + "b": ""}}, 422),
    "a list": ({"files": []}, 422),
    "no files": ({"files": {}}, 422),
    "null": ({"files": None}, 422),
    "no name": ({"name": None}, 422),
    "too large": ({"files": {ENTRY: SOURCE.format("x"), "a": "x" * (17 * 1024 * 1024)}}, 413),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_body_is_refused(gateway: Gateway, folder: Path, case: str) -> None:
    fields, code = ODD[case]
    before = disk(folder), serving(gateway)
    files = {ENTRY: SOURCE.format("x")}
    assert post(gateway, "/deploy_files", {"name": "w", "overwrite": True, "files": files, **fields})[0] == code
    assert (disk(folder), serving(gateway)) == before


@pytest.mark.parametrize("door", ["/deploy_files", "/deploy-yaml"])
@pytest.mark.parametrize(
    ("content", "media_type", "code"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b'{"name": "\xff"}', "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"[]", "application/json", 422),
        (b"null", "application/json", 422),
        (b"{}", "text/plain", 415),
        (b"{}", "multipart/form-data; boundary=x", 415),
        (b"{}", "application/x-www-form-urlencoded", 415),
    ],
)
def test_body_that_is_none(gateway: Gateway, door: str, content: bytes, media_type: str, code: int) -> None:
    headers = {"Content-Type": media_type}
    assert requests.post(gateway.url + door, content, headers=headers, timeout=WAIT_S).status_code == code


def test_caller_who_leaves_in_the_middle_of_the_body_deploys_nothing(gateway: Gateway, folder: Path) -> None:
    before = disk(folder), serving(gateway)
    body = json.dumps(DOORS["/deploy_files"])
    head = f"POST /deploy_files HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body) + 1}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=WAIT_S) as caller:
        caller.sendall((head + body).encode())
        caller.shutdown(socket.SHUT_WR)
        while caller.recv(1 << 16):
            pass
    assert (disk(folder), serving(gateway)) == before
