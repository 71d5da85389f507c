import json
import os
import signal
import subprocess
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen
from threading import Event
from typing import Any

import pytest

from gateway.cli.main import main
from tests.cli.conftest import COMMAND, Live
from tests.cli.double import Double, Reply, as_json

Start = Callable[..., "Popen[bytes]"]
ENTRY = "pipeline_wrapper.py"
SOURCE = "class PipelineWrapper:\n    def run_api(self) -> str:\n        return {!r}\n"
DONE = as_json({"name": "w", "success": True, "endpoint": "/w/run", "generation": 3})
BYTES = bytes(range(240, 256))
PLAIN = {"name": "w", "files": {ENTRY: "x = 1\n"}, "overwrite": False, "save_files": True, "description": ""}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "w"
    folder.mkdir()
    (folder / ENTRY).write_text("x = 1\n")
    return folder


def deploy(url: str, *argv: str) -> int:
    return main(["pipeline", "deploy-files", "--url", url, *argv])


def sent(server: Double, *argv: str) -> Any:
    """The body of the one request."""
    server.on("POST", "/deploy_files", DONE)
    assert deploy(server.url, *argv) == 0
    (request,) = server.requests
    assert (request.method, request.path, request.headers["Content-Type"]) == (
        "POST",
        "/deploy_files",
        "application/json",
    )
    return request.json()


def test_folder_is_sent_byte_for_byte(server: Double, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contents = {
        ENTRY: b"x = 1\r\n",
        "empty": b"",
        "mark.txt": b"\xef\xbb\xbfa",
        "data/deep/ü b.txt": "grün\r\n".encode(),
        "nul": b"a\0b",
        "data/words.bin": BYTES,
        "latin": b"\xe4",
    }
    for place, content in contents.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(content)
    files = {
        ENTRY: "x = 1\r\n",
        "data/deep/ü b.txt": "grün\r\n",
        "data/words.bin": {"content_base64": b64encode(BYTES).decode()},
        "empty": "",
        "latin": {"content_base64": "5A=="},
        "mark.txt": "\ufeffa",
        "nul": "a\0b",
    }
    assert sent(server, "w") == {**PLAIN, "files": files}
    assert capsys.readouterr() == ("w serves (generation 3)\n", "")


@pytest.mark.parametrize(
    "place",
    [".env", ".git/config", "data/.hidden", ".w/x", "__pycache__/x.pyc", "a/__pycache__/x.pyc", "x.pyc", "x.py~"],
)
def test_what_is_hidden_or_left_behind_is_not_sent(server: Double, folder: Path, place: str) -> None:
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    (folder / place).write_text("secret")
    assert sent(server, "w") == PLAIN


def test_link_to_a_file_is_followed_and_no_other(server: Double, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "words").write_text("words")
    (folder / "words").symlink_to(tmp_path / "outside" / "words")
    (folder / "again").symlink_to(ENTRY)
    (folder / "folder").symlink_to(tmp_path / "outside")
    (folder / "itself").symlink_to(folder)
    (folder / "dead").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")  # whoever reads it waits for ever
    assert sent(server, "w")["files"] == {ENTRY: "x = 1\n", "again": "x = 1\n", "words": "words"}


def test_folder_that_is_a_link_has_its_own_name(server: Double, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    assert sent(server, "link") == PLAIN


OPTIONS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "-n": (["w", "-n", "other"], {"name": "other"}),
    "--name": (["w", "--name=other"], {"name": "other"}),
    "the options first": (["-n", "other", "w"], {"name": "other"}),
    "-o": (["w", "-o"], {"overwrite": True}),
    "--overwrite": (["w", "--overwrite"], {"overwrite": True}),
    "-s": (["w", "-s"], {"save_files": False}),
    "--skip-saving-files": (["w", "--skip-saving-files"], {"save_files": False}),
    "as Hayhooks' examples": (["-n", "other", "-os", "w"], {"name": "other", "overwrite": True, "save_files": False}),
    "--description": (["w", "--description", "ü\n"], {"description": "ü\n"}),
    "a slash": (["w/"], {}),
    "from below": (["w/../w/."], {}),
    "a name that the server is to refuse": (["w", "-n", "../x"], {"name": "../x"}),
    "an empty name is none": (["w", "-n", ""], {}),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_option_as_it_is_sent(server: Double, folder: Path, case: str) -> None:
    argv, fields = OPTIONS[case]
    assert sent(server, *argv) == {**PLAIN, **fields}


def test_name_of_the_working_directory(server: Double, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert sent(server, ".") == PLAIN


@pytest.mark.parametrize("argv", [[], ["w", "x"], ["w", "--over"], ["w", "--overwrite=yes"], ["w", "-n"]])
def test_wrong_command_line(argv: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pipeline", "deploy-files", *argv]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("usage: gateway pipeline deploy-files ")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("gone", "no such folder: gone"),
        ("file", "file is not a folder"),
        ("empty", "empty holds no files to send"),
        ("hidden", "hidden holds no files to send"),
    ],
)
def test_folder_that_cannot_be_sent(
    server: Double, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, sentence: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / ".env").touch()
    assert deploy(server.url, name) == 1
    assert capsys.readouterr() == ("", f"gateway: {sentence}\n")
    assert server.requests == []


def test_file_without_a_unicode_name_is_told(server: Double, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / os.fsdecode(b"a\xff")).touch()
    assert deploy(server.url, "w") == 1
    sentence = "gateway: 'w/a\\udcff' has a name that is no Unicode: it cannot be sent\n"
    assert capsys.readouterr() == ("", sentence)
    assert server.requests == []


REPLIES: dict[str, tuple[Reply, int, str, str]] = {
    "Hayhooks' own": (as_json({"name": "w", "success": True, "endpoint": "/w/run"}), 0, "w serves\n", ""),
    "no JSON": (Reply(b"hello"), 1, "", "the reply of {url} is not valid JSON; is that a gateway?\n"),
    "a list": (as_json([]), 1, "", "the reply of {url} names no wrapper; is that a gateway?\n"),
    "no name": (as_json({"ok": True}), 1, "", "the reply of {url} names no wrapper; is that a gateway?\n"),
    "half of it": (Reply(b'{"na', is_cut=True), 1, "", "the reply is incomplete: the connection broke\n"),
    "a refusal": (as_json({"error": {"message": "not you"}, "detail": "not you"}, 403), 1, "", "not you\n"),
    "a conflict of Hayhooks": (as_json({"detail": "it exists"}, 409), 1, "", "it exists\n"),
    "a fault with its place": (
        as_json({"error": {"message": f"{ENTRY}, line 3: ValueError: so"}}, 422),
        1,
        "",
        f"{ENTRY}, line 3: ValueError: so\n",
    ),
    "a fault without a word": (Reply(status=500), 1, "", "{url} answered 500 Internal Server Error\n"),
}


@pytest.mark.parametrize("case", REPLIES)
def test_reply_of_the_server(server: Double, folder: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    reply, code, out, err = REPLIES[case]
    server.on("POST", "/deploy_files", reply)
    assert deploy(server.url, "w") == code
    said = f"gateway: {err.format(url=server.url)}" if err else ""
    assert capsys.readouterr() == (out, said)


def test_reply_untouched(server: Double, folder: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    raw = b'{"name":  "w",\r\n"more": 1}'
    server.on("POST", "/deploy_files", Reply(raw))
    assert deploy(server.url, "w", "--json") == 0
    assert capsysbinary.readouterr() == (raw, b"")


def test_server_that_is_not_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert deploy("http://127.0.0.1:1", "w") == 1
    sentence = "gateway: cannot connect to http://127.0.0.1:1: connection refused; is the gateway running?\n"
    assert capsys.readouterr() == ("", sentence)


@pytest.mark.parametrize("is_begun", [False, True], ids=["before the reply", "in the reply"])
def test_server_that_falls_silent(
    server: Double, folder: Path, capsys: pytest.CaptureFixture[str], is_begun: bool
) -> None:
    def stall(handler: Any) -> None:
        if is_begun:
            Reply([b"{"], is_cut=True)(handler)
        handler.rfile.read(1)  # returns when the client has left
        handler.close_connection = True

    server.on("POST", "/deploy_files", stall)
    assert deploy(server.url, "w", "--timeout", "0.1") == 1
    captured = capsys.readouterr()
    why = "the reply is incomplete: the server was silent" if is_begun else f"{server.url} did not answer in time"
    assert (captured.out, captured.err.startswith(f"gateway: {why}"), captured.err.count("\n")) == ("", True, 1)


def test_interrupt(server: Double, folder: Path, start: Start) -> None:
    is_asked, is_gone = Event(), Event()

    def stall(handler: Any) -> None:
        is_asked.set()
        handler.rfile.read(1)
        is_gone.set()
        handler.close_connection = True

    server.on("POST", "/deploy_files", stall)
    process = start("pipeline", "deploy-files", "w", "--url", server.url)
    assert is_asked.wait(20)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20) == (b"", b"gateway: interrupted\n")
    assert (process.returncode, is_gone.wait(20)) == (130, True)


# With a gateway that runs.
def write(tmp_path: Path, name: str, source: str) -> Path:
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    (folder / ENTRY).write_text(source)
    return folder


def run(live: Live, name: str, start: Start) -> bytes:
    out, err = start("pipeline", "run", name, "--url", live.url).communicate(timeout=20)
    return out or err


def test_deploy_as_a_user(live: Live, tmp_path: Path, start: Start) -> None:
    def call(*argv: str) -> tuple[int, bytes, bytes]:
        process = start("pipeline", "deploy-files", *argv, env={**os.environ, "GATEWAY_URL": live.url})
        out, err = process.communicate(timeout=20)
        return process.returncode, out, err

    source = "from pathlib import Path\n" + SOURCE.replace("{!r}", "Path(__file__).with_name('b').read_bytes().hex()")
    folder = write(tmp_path, "typed", source)
    (folder / "b").write_bytes(BYTES)
    (folder / ".env").write_text("secret")
    assert call("typed", "--description", "the first") == (0, b"typed serves (generation 1)\n", b"")
    assert run(live, "typed", start) == BYTES.hex().encode() + b"\n"
    copy = {path.name: path.read_bytes() for path in (live.folder / "typed").iterdir()}
    assert copy == {ENTRY: source.encode(), "b": BYTES}

    write(tmp_path, "typed", SOURCE.format("two"))
    taken = b"gateway: wrapper typed is deployed already; overwrite replaces it\n"
    assert call("typed") == (1, b"", taken)
    assert call("typed", "-o") == (0, b"typed serves (generation 2)\n", b"")
    assert run(live, "typed", start) == b"two\n"

    write(tmp_path, "typed", "\n\n1 / 0\n")
    fault = f"gateway: {ENTRY}, line 3: ZeroDivisionError: division by zero\n".encode()
    assert call("typed", "--overwrite") == (1, b"", fault)
    assert run(live, "typed", start) == b"two\n"


def test_deploy_that_is_not_saved(live: Live, tmp_path: Path, capsys: pytest.CaptureFixture[str], start: Start) -> None:
    write(tmp_path, "unsaved", SOURCE.format("x"))
    assert deploy(live.url, "unsaved", "--skip-saving-files") == 0
    assert capsys.readouterr() == ("unsaved serves (generation 1)\n", "")
    assert (run(live, "unsaved", start), (live.folder / "unsaved").exists()) == (b"x\n", False)


def test_reply_of_a_gateway_untouched(live: Live, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "raw", SOURCE.format("x"))
    assert deploy(live.url, "raw", "--json") == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert json.loads(captured.out) == {"name": "raw", "success": True, "endpoint": "/raw/run", "generation": 1}


FAULTS: dict[str, tuple[str, dict[str, bytes], list[str], str]] = {
    "no wrapper in it": ("plain", {"notes.txt": b""}, [], f"body.files: {ENTRY} is missing"),
    "a name that cannot be": ("a.b", {ENTRY: b""}, [], "the name 'a.b' cannot be served: use letters, digits, "),
    "a name that is reserved": ("status", {ENTRY: b""}, [], "the name 'status' is reserved for the gateway's own "),
    "a name that is typed": ("ok", {ENTRY: b""}, ["-n", "../x"], "the name '../x' cannot be served: use letters, "),
    "no class": ("none", {ENTRY: b""}, [], f"{ENTRY} defines no class PipelineWrapper"),
    "a wrapper that is no text": ("bytes", {ENTRY: b"\xff"}, [], f"{ENTRY}"),
    "too much": ("much", {ENTRY: b"", "b": b"\xff" * 17_000_000}, [], "the body is larger than max_body_bytes = "),
}


@pytest.mark.parametrize("case", FAULTS)
def test_refusal_of_a_gateway(live: Live, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    name, files, argv, said = FAULTS[case]
    (tmp_path / name).mkdir()
    for place, content in files.items():
        (tmp_path / name / place).write_bytes(content)
    before = sorted(live.folder.iterdir())
    assert deploy(live.url, name, *argv) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert captured.err.startswith(f"gateway: {said}")
    assert sorted(live.folder.iterdir()) == before


def test_key_and_header_reach_a_gateway_that_asks_for_none(
    live: Live, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "keyed", SOURCE.format("x"))
    assert deploy(live.url, "keyed", "--api-key", "k", "--header", "X-Forwarded-For: 127.0.0.1") == 1
    said = "this door answers callers on the server's own machine only, straight and not from a web page"
    assert capsys.readouterr() == ("", f"gateway: {said}\n")
    assert deploy(live.url, "keyed", "--api-key", "k") == 0
    assert capsys.readouterr() == ("keyed serves (generation 1)\n", "")


@pytest.mark.parametrize("program", ["gateway", "hayhooks"])
def test_name_of_the_program(live: Live, tmp_path: Path, program: str) -> None:
    argv = [COMMAND.with_name(program), "pipeline", "deploy-files", "-n", "x", "gone", "--url", live.url]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"{program}: no such folder: gone\n")
