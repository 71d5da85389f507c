import pytest

from gateway.cli.main import main
from tests.cli.double import Double, as_json

STATUS = {
    "status": "Up!",
    "pipelines": ["b", "a-long-name"],
    "wrappers": {
        "b": {"state": "serving", "reason": None, "generation": 2, "methods": ["run_api"], "in_flight": 0},
        "a-long-name": {"state": "serving", "reason": None, "generation": 1},
        "bad": {"state": "failed", "reason": "line 3:\n  no such module 'x'"},
    },
    "ready": False,
    "version": "0.1.0",
}


def run(server: Double, reply: object, capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    server.on("GET", "/status", as_json(reply))
    code = main([*argv, "--url", server.url])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_status_as_a_table(server: Double, capsys: pytest.CaptureFixture[str]) -> None:
    table = (
        f"{server.url} is up, version 0.1.0, not ready yet\n"
        "NAME         STATE    GENERATION  REASON\n"
        "a-long-name  serving  1\n"
        "b            serving  2\n"
        "bad          failed               line 3: no such module 'x'\n"
    )
    assert run(server, STATUS, capsys, "status") == (0, table, "")


def test_status_without_wrappers(server: Double, capsys: pytest.CaptureFixture[str]) -> None:
    empty = {"status": "Up!", "pipelines": [], "wrappers": {}, "ready": True, "version": "0.1.0"}
    assert run(server, empty, capsys, "status") == (0, f"{server.url} is up, version 0.1.0\nno wrappers\n", "")


def test_status_of_hayhooks(server: Double, capsys: pytest.CaptureFixture[str]) -> None:
    table = f"{server.url} is up\nNAME  STATE    GENERATION  REASON\na     serving\n"
    assert run(server, {"status": "Up!", "pipelines": ["a"]}, capsys, "status") == (0, table, "")


def test_status_raw(server: Double, capsys: pytest.CaptureFixture[str]) -> None:
    raw = '{"status": "Up!", "pipelines": []}'
    assert run(server, {"status": "Up!", "pipelines": []}, capsys, "status", "--json") == (0, raw, "")


def test_status_of_something_else(server: Double, capsys: pytest.CaptureFixture[str]) -> None:
    sentence = f"gateway: the reply of {server.url} is no status; is that a gateway?\n"
    assert run(server, {"ok": True}, capsys, "status") == (1, "", sentence)
