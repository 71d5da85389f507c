from pathlib import Path

import pytest

from gateway.cli.main import main
from tests.cli.conftest import Live
from tests.cli.double import Double, Reply, as_json

ENTRY = "pipeline_wrapper.py"
SOURCE = "class PipelineWrapper:\n    def run_api(self) -> str:\n        return 'x'\n"
DONE = as_json({"success": True, "name": "w"})


def test_undeploy(server: Double, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("POST", "/undeploy/w", DONE)
    assert main(["pipeline", "undeploy", "w", "--url", server.url]) == 0
    assert capsys.readouterr() == ("w has been taken down\n", "")


def test_reply_untouched(server: Double, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    server.on("POST", "/undeploy/w", Reply(b'{"name":  "w"}'))
    assert main(["pipeline", "undeploy", "w", "--json", "--url", server.url]) == 0
    assert capsysbinary.readouterr() == (b'{"name":  "w"}', b"")


@pytest.mark.parametrize("command", ["undeploy", "rollback", "restore"])
@pytest.mark.parametrize(
    ("name", "path"), [("a b", "a%20b"), ("../x", "..%2Fx"), ("ä?#", "%C3%A4%3F%23"), ("a%2f", "a%252f")]
)
def test_name_is_one_part_of_the_path(server: Double, command: str, name: str, path: str) -> None:
    assert main(["pipeline", command, name, "--url", server.url]) == 1
    assert [request.path for request in server.requests] == [f"/{command}/{path}"]


@pytest.mark.parametrize("command", ["undeploy", "rollback", "restore"])
@pytest.mark.parametrize("name", ["", ".", ".."])
def test_name_that_is_a_folder(server: Double, capsys: pytest.CaptureFixture[str], command: str, name: str) -> None:
    assert main(["pipeline", command, name, "--url", server.url]) == 1
    assert capsys.readouterr() == ("", f"gateway: {name!r} is no name of a wrapper\n")
    assert server.requests == []


@pytest.mark.parametrize("command", ["undeploy", "rollback", "restore"])
@pytest.mark.parametrize("argv", [[], ["w", "x"], ["w", "--force"]])
def test_wrong_command_line(capsys: pytest.CaptureFixture[str], command: str, argv: list[str]) -> None:
    assert main(["pipeline", command, *argv]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.startswith(f"usage: gateway pipeline {command} ")) == ("", True)


@pytest.mark.parametrize("command", ["undeploy", "rollback", "restore"])
def test_server_that_is_not_there(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main(["pipeline", command, "w", "--url", "http://127.0.0.1:1"]) == 1
    sentence = "gateway: cannot connect to http://127.0.0.1:1: connection refused; is the gateway running?\n"
    assert capsys.readouterr() == ("", sentence)


@pytest.mark.parametrize("command", ["undeploy", "rollback", "restore"])
@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        (as_json({"detail": "Pipeline 'w' not found"}, 404), "Pipeline 'w' not found"),
        (Reply(b"hello"), "the reply of {url} is not valid JSON; is that a gateway?"),
        (as_json({"success": True}), "the reply of {url} names no wrapper; is that a gateway?"),
        (Reply(b'{"na', is_cut=True), "the reply is incomplete: the connection broke"),
    ],
    ids=["404", "no JSON", "no name", "half of it"],
)
def test_reply_of_the_server(
    server: Double, capsys: pytest.CaptureFixture[str], command: str, reply: Reply, sentence: str
) -> None:
    server.on("POST", f"/{command}/w", reply)
    assert main(["pipeline", command, "w", "--url", server.url]) == 1
    assert capsys.readouterr() == ("", f"gateway: {sentence.format(url=server.url)}\n")


def test_undeploy_as_a_user(live: Live, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def call(*argv: str) -> tuple[int, str, str]:
        code = main(["pipeline", *argv, "--url", live.url])
        return code, *capsys.readouterr()

    (tmp_path / "leaving").mkdir()
    (tmp_path / "leaving" / ENTRY).write_text(SOURCE)
    assert call("undeploy", "leaving") == (1, "", "gateway: there is no wrapper 'leaving'\n")
    assert call("deploy-files", "leaving")[0] == 0
    assert call("undeploy", "leaving") == (0, "leaving has been taken down\n", "")
    assert call("undeploy", "leaving") == (1, "", "gateway: wrapper leaving has been taken down already\n")
    assert call("run", "leaving") == (1, "", "gateway: wrapper leaving has been taken down\n")
    assert (live.folder / "leaving" / ENTRY).read_text() == SOURCE
    near = "gateway: there is no wrapper 'leavin'; did you mean leaving?\n"
    assert call("undeploy", "leavin") == (1, "", near)
