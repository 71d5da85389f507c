from pathlib import Path

import pytest

from gateway.cli.main import main
from tests.cli.conftest import Live
from tests.cli.double import Double, Reply, as_json

ENTRY = "pipeline_wrapper.py"
SOURCE = "class PipelineWrapper:\n    def run_api(self) -> str:\n        return {!r}\n"
DONE = as_json({"name": "w", "success": True, "endpoint": "/w/run", "generation": 4})


@pytest.mark.parametrize(
    ("argv", "query"),
    [
        ([], ""),
        (["-g", "2"], "?generation=2"),
        (["--generation", "2"], "?generation=2"),
        (["--generation=0"], "?generation=0"),
    ],
)
def test_rollback(server: Double, capsys: pytest.CaptureFixture[str], argv: list[str], query: str) -> None:
    server.on("POST", f"/rollback/w{query}", DONE)
    assert main(["pipeline", "rollback", "w", "--url", server.url, *argv]) == 0
    assert capsys.readouterr() == ("w serves (generation 4)\n", "")


def test_reply_untouched(server: Double, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    server.on("POST", "/rollback/w", Reply(b'{"name":  "w"}'))
    assert main(["pipeline", "rollback", "w", "--json", "--url", server.url]) == 0
    assert capsysbinary.readouterr() == (b'{"name":  "w"}', b"")


@pytest.mark.parametrize("number", ["x", "", "1.5", "one"])
def test_generation_that_is_no_number(capsys: pytest.CaptureFixture[str], number: str) -> None:
    assert main(["pipeline", "rollback", "w", "-g", number]) == 2
    captured = capsys.readouterr()
    said = f"gateway pipeline rollback: error: argument -g/--generation: invalid int value: {number!r}"
    assert (captured.out, captured.err.splitlines()[-1]) == ("", said)


def test_rollback_as_a_user(live: Live, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def call(*argv: str) -> tuple[int, str, str]:
        code = main(["pipeline", *argv, "--url", live.url])
        return code, *capsys.readouterr()

    (tmp_path / "back").mkdir()
    (tmp_path / "back" / ENTRY).write_text(SOURCE.format("one"))
    assert call("deploy-files", "back")[0] == 0
    nothing = "gateway: there is no generation of back to go back to\n"
    assert call("rollback", "back") == (1, "", nothing)
    (tmp_path / "back" / ENTRY).write_text(SOURCE.format("two"))
    assert call("deploy-files", "back", "-o")[0] == 0
    assert call("rollback", "back") == (0, "back serves (generation 3)\n", "")
    assert call("run", "back") == (0, "one\n", "")
    assert (live.folder / "back" / ENTRY).read_text() == SOURCE.format("one")
    assert call("rollback", "back", "-g", "2") == (0, "back serves (generation 4)\n", "")
    assert call("run", "back") == (0, "two\n", "")
    gone = "gateway: generation 9 of back is not kept; `pipeline list --history` shows which are\n"
    assert call("rollback", "back", "-g", "9") == (1, "", gone)
    assert call("rollback", "back", "-g", "-1") == (1, "", "gateway: generation must be a number, not '-1'\n")
