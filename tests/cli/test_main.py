import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE, Popen
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.cli import main as module
from gateway.cli.error import CommandError, UsageError
from gateway.cli.main import COMMANDS, main
from gateway.errors import ConfigError
from gateway.version import __version__
from tests.cli.conftest import COMMAND
from tests.cli.double import Double, as_json

Start = Callable[..., "Popen[bytes]"]


def command(monkeypatch: pytest.MonkeyPatch, action: Callable[[Any], int]) -> None:
    """`gateway status` does `action`."""
    stand_in = SimpleNamespace(add_arguments=lambda parser: None, main=action)
    monkeypatch.setattr(module, "import_module", lambda path: stand_in)


def raiser(error: BaseException) -> Callable[[Any], int]:
    def action(args: Any) -> int:
        raise error

    return action


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["pipeline", "--help"], ["stauts"], ["mcp", "run"]])
def test_overview_imports_no_library(argv: list[str]) -> None:
    code = f"import sys; from gateway.cli.main import main; main({argv}); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"requests", "urllib3", "tqdm", "dotenv", "pydantic", "haystack", "starlette", "asyncio", "ssl"}
    assert heavy & set(done.stderr.split()) == set()


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    width = max(map(len, COMMANDS)) + 2
    for words, (_, summary) in COMMANDS.items():
        assert f"  {words:<{width}}{summary}\n" in captured.out


@pytest.mark.parametrize("words", COMMANDS)
def test_help_of_a_command(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words.split(), "--help"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(f"usage: gateway {words} ")
    assert captured.err == ""


@pytest.mark.parametrize("name", ["gateway", "hayhooks"])
def test_version_under_both_names(name: str) -> None:
    done = subprocess.run([COMMAND.with_name(name), "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{name} {__version__}\n", "")


def test_version_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "gateway", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"gateway {__version__}\n", "")


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["stauts"], "gateway: error: unknown command 'stauts'; did you mean `gateway status`?"),
        (
            ["pipeline", "runn"],
            "gateway pipeline: error: unknown command 'pipeline runn'; did you mean `gateway pipeline run`?",
        ),
        (["list"], "gateway: error: unknown command 'list'; did you mean `gateway pipeline list`?"),
        (["xyzzy"], "gateway: error: unknown command 'xyzzy'"),
        (["--urll", "x", "status"], "gateway: error: unrecognized arguments: --urll x status"),
        (["status", "--urll"], "gateway status: error: unrecognized arguments: --urll"),
        (["pipeline", "run"], "gateway pipeline run: error: the following arguments are required: NAME"),
    ],
)
def test_wrong_command_line(argv: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("usage: gateway ")
    assert captured.err.splitlines()[-1] == line


@pytest.mark.parametrize("argv", [[], ["pipeline"]])
def test_command_left_out(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "  pipeline run   " in captured.err


@pytest.mark.parametrize(
    "line",
    [
        "pipeline deploy x.yml",
        "mcp run",
        "a2a run",
        "dashboard --once",
    ],
)
def test_command_of_a_later_version(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith(f"` does not exist yet in this version ({__version__})\n")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "err"),
    [
        (ConfigError("no folder x"), 1, "gateway: no folder x\n"),
        (CommandError("no server"), 1, "gateway: no server\n"),
        (KeyboardInterrupt(), 130, "gateway: interrupted\n"),
        (UsageError("not both"), 2, "usage: gateway status [-h]\ngateway status: error: not both\n"),
        (OSError(28, "No space left on device"), 1, "gateway: cannot write: No space left on device\n"),
    ],
)
def test_exit_code_of_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, err: str
) -> None:
    monkeypatch.setattr(module, "_drop_stdout", lambda: None)
    command(monkeypatch, raiser(error))
    assert main(["status"]) == code
    assert capsys.readouterr() == ("", err)


@pytest.mark.parametrize("error", [ZeroDivisionError("oops"), PermissionError(13, "oops")])
def test_bug_shows_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    command(monkeypatch, raiser(error))
    assert main(["status"]) == 3
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert "oops" in lines[-2]
    assert lines[-1] == f"gateway: this is a bug in gateway {__version__}; please report it with the lines above"


def test_exit_code_and_name_of_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    names = []

    def action(args: Any) -> int:
        names.append(args.prog)
        return 7

    command(monkeypatch, action)
    monkeypatch.setattr(sys, "argv", ["/somewhere/hayhooks"])
    assert main(["status"]) == 7
    assert names == ["hayhooks"]


def test_short_h_is_left_to_a_command_that_wants_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "-h"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("expected one argument")


def test_env_file_gives_way_to_the_environment(server: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.on("GET", "/status", as_json({"pipelines": ["a"]}))
    (tmp_path / ".env").write_text(f"GATEWAY_URL={server.url}\nGATEWAY_API_KEY=from-file\n")
    argv = [COMMAND, "pipeline", "list"]
    assert subprocess.run(argv, capture_output=True).stdout == b"a\n"
    monkeypatch.setenv("GATEWAY_API_KEY", "from-environment")
    assert subprocess.run(argv, capture_output=True).stdout == b"a\n"
    keys = [request.headers["Authorization"] for request in server.requests]
    assert keys == ["Bearer from-file", "Bearer from-environment"]


def test_env_file_that_is_no_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / ".env").write_bytes(b"A=\xff\n")
    assert main(["status"]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"gateway: cannot read {tmp_path}/.env: ")
    assert main(["--version"]) == 0


def test_reader_of_stdout_who_left(server: Double, start: Start) -> None:
    server.on("GET", "/status", as_json({"pipelines": ["a"]}))
    process = start("pipeline", "list", "--url", server.url)
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    assert process.wait(timeout=10) == 0
    assert process.stderr.read() == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_full_disk() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([COMMAND, "new", "a"], stdout=full, stderr=PIPE)
    assert (done.returncode, done.stderr) == (1, b"gateway: cannot write: No space left on device\n")
