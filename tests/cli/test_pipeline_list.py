from pathlib import Path
from typing import Any

import pytest

from gateway.cli.main import main
from tests.cli.conftest import Live
from tests.cli.double import Double, as_json

ENTRY = "pipeline_wrapper.py"
SOURCE = "class PipelineWrapper:\n    def run_api(self) -> str:\n        return 'x'\n"
HEAD = "NAME  GENERATION  ORIGIN  MADE  DESCRIPTION\n"


@pytest.mark.parametrize(
    ("argv", "out"), [([], "b\na\n"), (["--json"], '{"status": "Up!", "pipelines": ["b", "a"]}')], ids=["names", "raw"]
)
def test_list_of_what_serves(server: Double, capsys: pytest.CaptureFixture[str], argv: list[str], out: str) -> None:
    server.on("GET", "/status", as_json({"status": "Up!", "pipelines": ["b", "a"]}))
    assert main(["pipeline", "list", "--url", server.url, *argv]) == 0
    assert capsys.readouterr() == (out, "")


def test_list_of_nothing(server: Double, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("GET", "/status", as_json({"status": "Up!", "pipelines": []}))
    assert main(["pipeline", "list", "--url", server.url]) == 0
    assert capsys.readouterr() == ("", "")


def kept(number: int, **fields: Any) -> dict[str, Any]:
    plain = {"origin": "deploy", "description": "", "is_yaml": False, "is_saved": True, "created_at": 1_795_392_000}
    return {"number": number, **plain, **fields}


def history(server: Double, wrappers: dict[str, dict[str, Any]], kept: dict[str, list[dict[str, Any]]]) -> int:
    serving = [name for name, wrapper in wrappers.items() if "generation" in wrapper]
    server.on("GET", "/status", as_json({"pipelines": serving, "wrappers": wrappers}))
    for name, generations in kept.items():
        server.on("GET", f"/status/{name}", as_json({"status": "Up!", "history": generations}))
    return main(["pipeline", "list", "--history", "--url", server.url])


def test_history_newest_first_with_a_star_at_what_serves(server: Double, capsys: pytest.CaptureFixture[str]) -> None:
    wrappers = {
        "zebra": {"state": "serving", "generation": 12},
        "down": {"state": "undeployed"},
        "edited": {"state": "serving", "generation": 7},
        "new": {"state": "serving", "generation": 1},
    }
    generations = {
        "zebra": [kept(12, description="two\n lines\t here"), kept(9, origin="rollback", created_at=0)],
        "down": [kept(1, description="ü")],
        "edited": [kept(6, origin="folder")],
        "new": [],
    }
    assert history(server, wrappers, generations) == 0
    table = (
        "NAME    GENERATION  ORIGIN    MADE                  DESCRIPTION\n"
        "down    1           deploy    2026-11-23 00:00:00Z  ü\n"
        "edited  6           folder    2026-11-23 00:00:00Z\n"
        "zebra   12*         deploy    2026-11-23 00:00:00Z  two lines here\n"
        "zebra   9           rollback  1970-01-01 00:00:00Z\n"
    )
    assert capsys.readouterr() == (table, "")


def test_history_of_nothing(server: Double, capsys: pytest.CaptureFixture[str]) -> None:
    assert history(server, {}, {}) == 0
    assert capsys.readouterr() == (HEAD, "")


def test_history_of_hayhooks(server: Double, capsys: pytest.CaptureFixture[str]) -> None:
    """It keeps none, and has no `wrappers`."""
    server.on("GET", "/status", as_json({"status": "Up!", "pipelines": ["a"]}))
    server.on("GET", "/status/a", as_json({"status": "Up!", "pipeline": "a"}))
    assert main(["pipeline", "list", "--history", "--url", server.url]) == 0
    assert capsys.readouterr() == (HEAD, "")


def test_history_of_something_else(server: Double, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("GET", "/status", as_json({"pipelines": ["a"], "wrappers": {"a": {}}}))
    server.on("GET", "/status/a", as_json([]))
    assert main(["pipeline", "list", "--history", "--url", server.url]) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err.startswith(f"gateway: the reply of {server.url} ")) == ("", True)


def test_history_and_raw_are_not_both(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pipeline", "list", "--history", "--json"]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.startswith("usage: gateway pipeline list ")) == ("", True)


def test_history_as_a_user(live: Live, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "told").mkdir()
    (tmp_path / "told" / ENTRY).write_text(SOURCE)
    for text in ("first", "second"):
        argv = ["pipeline", "deploy-files", "told", "-o", "--description", text, "--url", live.url]
        assert main(argv) == 0
    capsys.readouterr()
    assert main(["pipeline", "list", "--history", "--url", live.url]) == 0
    captured = capsys.readouterr()
    rows = [line.split() for line in captured.out.splitlines() if line.startswith("told ")]
    assert [[*row[:3], *row[5:]] for row in rows] == [
        ["told", "2*", "deploy", "second"],
        ["told", "1", "deploy", "first"],
    ]
    assert captured.err == ""
