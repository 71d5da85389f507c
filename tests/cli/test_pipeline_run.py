import json
import os
import signal
import termios
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from subprocess import Popen
from threading import Event
from typing import Any

import pytest

from gateway.cli.main import main
from gateway.cli.pipeline_run import form_fields
from tests.cli.double import Double, Reply, as_json

STRING = {"type": "string"}
INTEGER = {"type": "integer"}
MAYBE = {"anyOf": [STRING, {"type": "null"}]}
DONE = as_json({"result": "done"})
ERROR_EVENT = b'data: a\n\nevent: error\ndata: {"error": {"message": "it broke", "error_id": "err_1"}}\n\n'

Start = Callable[..., "Popen[bytes]"]


def run(server: Double, *argv: str) -> int:
    return main(["pipeline", "run", "echo", "--url", server.url, *argv])


def posted(server: Double) -> list[Any]:
    return [request for request in server.requests if request.method == "POST"]


def test_params_as_json(server: Double, capsys: pytest.CaptureFixture[str]) -> None:
    server.wrapper({"query": STRING, "zip": STRING, "top_k": INTEGER}, DONE)
    argv = ["-p", 'query="What is Haystack?"', "--param", "zip=12345", "-ptop_k=3", "--param=extra=[1]"]
    assert run(server, *argv) == 0
    assert capsys.readouterr() == ("done\n", "")
    assert [(request.method, request.path) for request in server.requests] == [
        ("GET", "/echo/schema"),
        ("POST", "/echo/run"),
    ]
    assert server.requests[1].headers["Content-Type"] == "application/json"
    assert server.requests[1].json() == {"query": "What is Haystack?", "zip": "12345", "top_k": 3, "extra": [1]}


def test_run_without_params_asks_for_no_schema(server: Double, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("POST", "/echo/run", DONE)
    assert run(server) == 0
    assert capsys.readouterr() == ("done\n", "")
    assert [request.json() for request in server.requests] == [{}]


def test_files_and_params_as_multipart(server: Double, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "docs" / "sub").mkdir(parents=True)
    (tmp_path / "docs" / "sub" / "b.txt").write_bytes(b"b")
    (tmp_path / "docs" / "a.txt").write_bytes(b"a")
    (tmp_path / "one.bin").write_bytes(b"\x00\xff\r\n--")
    server.wrapper({"query": STRING, "top_k": INTEGER}, DONE, files=["other", "files"])
    assert run(server, "--dir", "docs", "-f", "one.bin", "-p", 'query="a"', "-p", "top_k=3", "--stream") == 0
    assert capsys.readouterr() == ("done\n", "")
    (request,) = posted(server)
    assert request.headers["Content-Length"] == str(len(request.body))
    assert request.headers["Transfer-Encoding"] is None
    assert request.parts() == [
        ("query", None, b"a"),
        ("top_k", None, b"3"),
        ("files", "one.bin", b"\x00\xff\r\n--"),
        ("files", "a.txt", b"a"),
        ("files", "sub/b.txt", b"b"),
    ]


def test_only_file_parameter_takes_the_files(server: Double, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    server.wrapper({}, DONE, files=["document"])
    assert run(server, "-f", "a") == 0
    assert posted(server)[0].parts() == [("document", "a", b"1")]


def test_wrapper_that_takes_no_files(server: Double, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").write_bytes(b"1")
    server.wrapper({}, DONE)
    assert run(server, "-f", "a") == 1
    assert capsys.readouterr() == ("", "gateway: echo takes no files\n")
    assert posted(server) == []


@pytest.mark.parametrize(
    ("schema", "value", "texts"),
    [
        (STRING, "plain", ["plain"]),
        (STRING, "5", ["5"]),
        (STRING, '{"a": 1}', ['{"a": 1}']),
        (STRING, '"quoted"', ['"\\"quoted\\""']),
        (STRING, '"quoted" ', ['"\\"quoted\\" "']),
        (STRING, '"open', ['"open']),
        (MAYBE, "null", ['"null"']),
        (MAYBE, None, ["null"]),
        (STRING, "ä", ["ä"]),
        (STRING, ["1", '"a"'], ["1", '"\\"a\\""']),
        (INTEGER, 5, ["5"]),
        (INTEGER, "five", ["five"]),
        ({}, "5", ['"5"']),
        ({}, "null", ['"null"']),
        ({}, {"ä": [1.5, None]}, ['{"\\u00e4": [1.5, null]}']),
        ({"type": "array", "items": STRING}, ["a", "5"], ['["a", "5"]']),
    ],
)
def test_form_text_that_the_server_reads_as_the_value(schema: Any, value: Any, texts: list[str]) -> None:
    fields = form_fields({"key": value}, {"properties": {"key": schema}})
    assert fields == [("key", text) for text in texts]


@pytest.mark.parametrize(
    ("body", "out"),
    [
        (b'{"result":"a\\nb"}', "a\nb\n"),
        (b'{"result":"a\\n"}', "a\n"),
        (b'{"result":""}', "\n"),
        (b'{"result":null}', "null\n"),
        (b'{"result":"\\ud83d"}', "\\ud83d\n"),
        ('{"result":{"ä":[1,true]}}'.encode(), '{\n  "ä": [\n    1,\n    true\n  ]\n}\n'),
        (b'{"answer":1}', '{\n  "answer": 1\n}\n'),
        (b"[1]", "[\n  1\n]\n"),
    ],
)
def test_json_result(server: Double, capsys: pytest.CaptureFixture[str], body: bytes, out: str) -> None:
    server.on("POST", "/echo/run", Reply(body))
    assert run(server) == 0
    assert capsys.readouterr() == (out, "")


def test_whole_reply_untouched(server: Double, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    body = b'{ "result":1.10 ,"x":"\\u00e4"}'
    server.on("POST", "/echo/run", Reply(body))
    assert run(server, "--json") == 0
    assert capsysbinary.readouterr() == (body, b"")


def test_json_that_is_none(server: Double, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("POST", "/echo/run", Reply(b'{"result"'))
    assert run(server) == 1
    sentence = f"gateway: the reply of {server.url}/echo/run is not valid JSON; is that a gateway?\n"
    assert capsys.readouterr() == ("", sentence)


@pytest.mark.parametrize("argv", [[], ["--json"], ["-s"]])
def test_text_stream_byte_for_byte(server: Double, capsysbinary: pytest.CaptureFixture[bytes], argv: list[str]) -> None:
    pieces = [b"a", b"\r\n", "ä".encode()[:1], "ä".encode()[1:], b"\xff"]
    server.on("POST", "/echo/run", Reply(pieces, media_type="text/plain; charset=utf-8"))
    assert run(server, *argv) == 0
    assert capsysbinary.readouterr() == (b"a\r\n\xc3\xa4\xff", b"")


@pytest.mark.parametrize("argv", [[], ["-s"]])
def test_events_as_their_data(server: Double, capsysbinary: pytest.CaptureFixture[bytes], argv: list[str]) -> None:
    body = [b": ping\n\ndata: a", b"\n\ndata: \ndata: \n\nevent: x\nda", b"ta: {}\n\n"]
    server.on("POST", "/echo/run", Reply(body, media_type="text/event-stream"))
    assert run(server, *argv) == 0
    assert capsysbinary.readouterr() == (b"a\n{}", b"")


@pytest.mark.parametrize(("argv", "out"), [([], b"a"), (["--json"], ERROR_EVENT)])
def test_error_event(server: Double, capsysbinary: pytest.CaptureFixture[bytes], argv: list[str], out: bytes) -> None:
    server.on("POST", "/echo/run", Reply([ERROR_EVENT], media_type="text/event-stream"))
    assert run(server, *argv) == 1
    assert capsysbinary.readouterr() == (out, b"gateway: it broke\n  error id: err_1\n")


@pytest.mark.parametrize("media_type", ["text/plain", "application/octet-stream"])
def test_stream_that_breaks(server: Double, capsysbinary: pytest.CaptureFixture[bytes], media_type: str) -> None:
    server.on("POST", "/echo/run", Reply([b"half"], media_type=media_type, is_cut=True))
    assert run(server) == 1
    assert capsysbinary.readouterr() == (b"half", b"gateway: the reply is incomplete: the connection broke\n")


def test_stream_that_falls_silent(server: Double, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    is_over = Event()

    def pieces() -> Iterator[bytes]:
        yield b"half"
        is_over.wait(10)

    server.on("POST", "/echo/run", Reply(pieces(), media_type="text/plain"))
    assert run(server, "--timeout", "0.1") == 1
    is_over.set()
    sentence = b"gateway: the reply is incomplete: the server was silent for too long (--timeout)\n"
    assert capsysbinary.readouterr() == (b"half", sentence)


def test_file_reply_to_a_pipe(server: Double, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    server.on("POST", "/echo/run", Reply(b"%PDF\x00", media_type="application/pdf"))
    assert run(server) == 0
    assert capsysbinary.readouterr() == (b"%PDF\x00", b"")


@pytest.mark.parametrize(
    ("media_type", "code", "out"), [("application/pdf", 1, ""), ("text/csv", 0, "x"), ("application/json", 1, "")]
)
def test_reply_to_a_terminal(
    server: Double,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    media_type: str,
    code: int,
    out: str,
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    server.on("POST", "/echo/run", Reply(b"x", media_type=media_type))
    assert run(server) == code
    captured = capsys.readouterr()
    assert captured.out == out
    if media_type == "application/pdf":
        sentence = "gateway: the reply is application/pdf, not text: write it to a file with -o FILE\n"
        assert captured.err == sentence


@pytest.mark.parametrize(
    ("reply", "argv", "content"),
    [
        (Reply(b"\x00\xff", media_type="application/pdf"), [], b"\x00\xff"),
        (Reply(b'{"result":{"a":1}}'), [], b'{\n  "a": 1\n}\n'),
        (Reply(b'{"result":{"a":1}}'), ["--json"], b'{"result":{"a":1}}'),
        (Reply([b"a", b"b"], media_type="text/plain"), [], b"ab"),
        (Reply([b"data: a\n\n"], media_type="text/event-stream"), [], b"a"),
    ],
)
def test_output_into_a_file(
    server: Double, tmp_path: Path, capsys: pytest.CaptureFixture[str], reply: Reply, argv: list[str], content: bytes
) -> None:
    server.on("POST", "/echo/run", reply)
    assert run(server, "-o", "out", *argv) == 0
    assert capsys.readouterr() == ("", "")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"out": content}


@pytest.mark.parametrize(
    "reply", [Reply([b"half"], media_type="text/plain", is_cut=True), as_json({"detail": "no"}, 500)]
)
def test_failed_run_leaves_no_file(server: Double, tmp_path: Path, reply: Reply) -> None:
    server.on("POST", "/echo/run", reply)
    assert run(server, "--output", "out") == 1
    assert list(tmp_path.iterdir()) == []


def test_output_that_cannot_be_written_costs_no_run(server: Double, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(server, "-o", "gone/out") == 1
    assert capsys.readouterr() == ("", "gateway: cannot write gone/out: No such file or directory\n")
    assert server.requests == []


def test_refused_arguments_line_by_line(server: Double, capsys: pytest.CaptureFixture[str]) -> None:
    details = [
        {"loc": "body.top_k", "message": "not a number", "type": "int_parsing"},
        {"loc": "body.query", "message": "Field required", "type": "missing"},
    ]
    error = {"type": "t", "message": "two faults", "code": "invalid_arguments", "details": details}
    server.wrapper({"top_k": INTEGER}, as_json({"error": error, "detail": "two faults"}, 422))
    assert run(server, "-p", "top_k=x") == 1
    err = "gateway: two faults\n  body.top_k: not a number\n  body.query: Field required\n"
    assert capsys.readouterr() == ("", err)


def test_unknown_wrapper(server: Double, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("GET", "/echo/schema", as_json({"error": {"message": "there is no wrapper 'echo'"}}, 404))
    assert run(server, "-p", "a=1") == 1
    assert capsys.readouterr() == ("", "gateway: there is no wrapper 'echo'\n")
    assert posted(server) == []


def test_schema_that_is_none(server: Double, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("GET", "/echo/schema", as_json([]))
    assert run(server, "-p", "a=1") == 1
    sentence = f"gateway: {server.url}/echo/schema describes no arguments; is that a gateway?\n"
    assert capsys.readouterr() == ("", sentence)


@pytest.mark.parametrize(
    ("name", "path"), [("a b", "/a%20b/run"), ("../x", "/..%2Fx/run"), ("ä?#", "/%C3%A4%3F%23/run")]
)
def test_name_is_one_part_of_the_path(server: Double, name: str, path: str) -> None:
    main(["pipeline", "run", name, "--url", server.url])
    assert [request.path for request in server.requests] == [path]


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_name_that_is_a_folder(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pipeline", "run", name]) == 1
    assert capsys.readouterr() == ("", f"gateway: {name!r} is no name of a wrapper\n")


def test_missing_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pipeline", "run", "echo", "-f", "gone"]) == 1
    assert capsys.readouterr() == ("", "gateway: no such file: gone\n")


@pytest.mark.parametrize("argv", [["-p", "query"], ["--retries", "-1"], ["--retries", "x"], ["--par", "a=1"]])
def test_wrong_command_line(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pipeline", "run", "echo", *argv]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("usage: gateway pipeline run ")


def test_upload_is_sent_again_whole(server: Double, tmp_path: Path, pauses: list[float]) -> None:
    (tmp_path / "a").write_bytes(b"x" * 300_000)
    server.wrapper({}, DONE, files=["files"])
    server.on("POST", "/echo/run", Reply(status=503, headers={"Retry-After": "0"}), DONE)
    assert run(server, "-f", "a", "--retries", "1") == 0
    bodies = [request.parts() for request in posted(server)]
    assert bodies == [[("files", "a", b"x" * 300_000)]] * 2
    assert len(pauses) == 1


def test_upload_that_is_refused_half_way(server: Double, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (tmp_path / "a").open("wb") as file:
        file.truncate(64 * 1024 * 1024)

    def refuse(handler: Any) -> None:
        as_json({"error": {"message": "the body is too large"}}, 413)(handler)

    server.wrapper({}, DONE, files=["files"])
    server.refuse_body("/echo/run", refuse)
    assert run(server, "-f", "a") == 1
    assert capsys.readouterr() == ("", "gateway: the body is too large\n")


def test_progress_only_on_a_terminal(server: Double, tmp_path: Path, start: Start) -> None:
    (tmp_path / "a").write_bytes(b"x" * 300_000)
    server.wrapper({}, DONE, files=["files"])
    argv = ["pipeline", "run", "echo", "--url", server.url, "-f", "a"]
    assert start(*argv).communicate() == (b"done\n", b"")
    master, terminal = os.openpty()
    termios.tcsetwinsize(terminal, (24, 80))  # a new one has no columns to draw in
    process = start(*argv, stderr=terminal)
    out, _ = process.communicate()
    shown = os.read(master, 100_000)
    os.close(terminal)
    os.close(master)
    assert out == b"done\n"
    assert b"sending:" in shown


def test_interrupt_in_a_stream(server: Double, tmp_path: Path, start: Start) -> None:
    is_gone = Event()

    def stream(handler: Any) -> None:
        Reply([b"a"], media_type="text/plain", is_cut=True)(handler)
        handler.rfile.read(1)  # returns when the client closes the connection
        is_gone.set()

    server.on("POST", "/echo/run", stream)
    process = start("pipeline", "run", "echo", "--url", server.url)
    assert process.stdout
    assert process.stdout.read(1) == b"a"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=10) == (b"", b"gateway: interrupted\n")
    assert process.returncode == 130
    assert is_gone.wait(10)


def test_interrupt_removes_the_partial_file(server: Double, tmp_path: Path, start: Start) -> None:
    is_running = Event()

    def stream(handler: Any) -> None:
        Reply([b"a"], media_type="text/plain", is_cut=True)(handler)
        is_running.set()
        handler.rfile.read(1)

    server.on("POST", "/echo/run", stream)
    process = start("pipeline", "run", "echo", "--url", server.url, "-o", "out")
    assert is_running.wait(10)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=10) == (b"", b"gateway: interrupted\n")
    assert process.returncode == 130
    assert list(tmp_path.iterdir()) == []


def test_reader_of_a_stream_who_leaves(server: Double, start: Start) -> None:
    is_gone = Event()

    def endless(handler: Any) -> None:
        try:
            Reply(repeat(b"token " * 100), media_type="text/plain")(handler)
        finally:
            is_gone.set()

    server.on("POST", "/echo/run", endless)
    process = start("pipeline", "run", "echo", "--url", server.url)
    assert process.stdout
    assert process.stderr
    assert process.stdout.read(5) == b"token"
    process.stdout.close()
    assert process.wait(timeout=10) == 0
    assert process.stderr.read() == b""
    assert is_gone.wait(10)


def test_chunk_is_shown_before_the_next_one(server: Double, start: Start) -> None:
    is_read = Event()

    def pieces() -> Iterator[bytes]:
        yield b"data: a\n\n"
        assert is_read.wait(10)
        yield b"data: b\n\n"

    server.on("POST", "/echo/run", Reply(pieces(), media_type="text/event-stream"))
    process = start("pipeline", "run", "echo", "--url", server.url)
    assert process.stdout
    assert process.stdout.read(1) == b"a"
    is_read.set()
    assert process.communicate(timeout=10) == (b"b", b"")


def test_result_is_what_the_program_prints(server: Double, start: Start) -> None:
    server.on("POST", "/echo/run", as_json({"result": {"ä": 1}}))
    out, err = start("pipeline", "run", "echo", "--url", server.url, env={**os.environ, "LC_ALL": "C"}).communicate()
    assert (json.loads(out), err) == ({"ä": 1}, b"")
