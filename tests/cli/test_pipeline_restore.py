from pathlib import Path

import pytest

from gateway.cli.main import main
from tests.cli.conftest import Live
from tests.cli.double import Double, Reply, as_json

ENTRY = "pipeline_wrapper.py"
SOURCE = "class PipelineWrapper:\n    def run_api(self) -> str:\n        return 'x'\n"
DONE = as_json({"name": "w", "success": True, "endpoint": "/w/run", "generation": 4})


def test_restore(server: Double, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("POST", "/restore/w", DONE)
    assert main(["pipeline", "restore", "w", "--url", server.url]) == 0
    assert capsys.readouterr() == ("w serves (generation 4)\n", "")


def test_reply_untouched(server: Double, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    server.on("POST", "/restore/w", Reply(b'{"name":  "w"}'))
    assert main(["pipeline", "restore", "w", "--json", "--url", server.url]) == 0
    assert capsysbinary.readouterr() == (b'{"name":  "w"}', b"")


def test_restore_as_a_user(live: Live, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def call(*argv: str) -> tuple[int, str, str]:
        code = main(["pipeline", *argv, "--url", live.url])
        return code, *capsys.readouterr()

    (tmp_path / "coming").mkdir()
    (tmp_path / "coming" / ENTRY).write_text(SOURCE)
    assert call("restore", "coming") == (1, "", "gateway: there is no wrapper 'coming'\n")
    assert call("deploy-files", "coming")[0] == 0
    assert call("restore", "coming") == (1, "", "gateway: wrapper coming has not been taken down\n")
    assert call("undeploy", "coming")[0] == 0
    assert call("restore", "coming") == (0, "coming serves (generation 1)\n", "")
    assert call("run", "coming") == (0, "x\n", "")
