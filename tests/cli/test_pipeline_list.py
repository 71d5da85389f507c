import pytest

from gateway.cli.main import main
from tests.cli.double import Double, as_json


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
