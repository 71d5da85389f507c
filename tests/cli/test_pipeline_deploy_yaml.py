import os
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from gateway.cli.main import main
from tests.cli.conftest import Live
from tests.cli.double import Double, Reply, as_json

Start = Callable[..., "Popen[bytes]"]
YAML = """\
components:
  prompt:
    type: haystack.components.builders.prompt_builder.PromptBuilder
    init_parameters: {template: "Hello, {{ name }}!", required_variables: [name]}
inputs: {name: prompt.name}
outputs: {text: prompt.prompt}
"""
DONE = as_json({"name": "w", "success": True, "endpoint": "/w/run", "generation": 1})
PLAIN = {"name": "w", "source_code": YAML, "overwrite": False, "save_file": True, "description": ""}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "w.yml"
    path.write_text(YAML)
    return path


def deploy(url: str, *argv: str) -> int:
    return main(["pipeline", "deploy-yaml", "--url", url, *argv])


def sent(server: Double, *argv: str) -> Any:
    """The body of the one request."""
    server.on("POST", "/deploy-yaml", DONE)
    assert deploy(server.url, *argv) == 0
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/deploy-yaml")
    return request.json()


OPTIONS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "none": ([], {}),
    "-n": (["-n", "other"], {"name": "other"}),
    "--name": (["--name", "other"], {"name": "other"}),
    "-o": (["-o"], {"overwrite": True}),
    "--overwrite": (["--overwrite"], {"overwrite": True}),
    "--save-file": (["--save-file"], {}),
    "--no-save-file": (["--no-save-file"], {"save_file": False}),
    "--description": (["--description", "ü"], {"description": "ü"}),
    "--skip-mcp": (["--skip-mcp"], {}),
    "--no-skip-mcp": (["--no-skip-mcp"], {}),
    "all of Hayhooks'": (
        ["-n", "other", "-o", "--description", "d", "--skip-mcp", "--no-save-file"],
        {"name": "other", "overwrite": True, "description": "d", "save_file": False},
    ),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_option_as_it_is_sent(server: Double, file: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    argv, fields = OPTIONS[case]
    assert sent(server, "w.yml", *argv) == {**PLAIN, **fields}
    assert capsys.readouterr() == ("w serves (generation 1)\n", "")


@pytest.mark.parametrize(
    ("place", "name"), [("x/v.yaml", "v"), ("x/a.b.yml", "a.b"), ("x/plain", "plain"), ("x/.yml", ".yml")]
)
def test_name_of_the_file(server: Double, tmp_path: Path, place: str, name: str) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / place).write_text(YAML)
    assert sent(server, place) == {**PLAIN, "name": name}


def test_text_is_sent_without_its_mark(server: Double, tmp_path: Path) -> None:
    (tmp_path / "w.yml").write_bytes("\ufeffa: grün 😀\n".encode())
    assert sent(server, "w.yml")["source_code"] == "a: grün 😀\n"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("gone.yml", "No such file or directory"),
        ("folder.yml", "Is a directory"),
        ("latin.yml", "'utf-8' codec can't decode byte 0xe4 in position 3: invalid continuation byte"),
    ],
)
def test_file_that_cannot_be_read(
    server: Double, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, why: str
) -> None:
    (tmp_path / "folder.yml").mkdir()
    (tmp_path / "latin.yml").write_bytes(b"a: \xe4hm\n")
    assert deploy(server.url, name) == 1
    assert capsys.readouterr() == ("", f"gateway: cannot read {name}: {why}\n")
    assert server.requests == []


@pytest.mark.parametrize("argv", [[], ["w.yml", "x"], ["w.yml", "--save"], ["w.yml", "-s"]])
def test_wrong_command_line(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pipeline", "deploy-yaml", *argv]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("usage: gateway pipeline deploy-yaml ")


def test_reply_untouched(server: Double, file: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    raw = b'{"name":  "w"}'
    server.on("POST", "/deploy-yaml", Reply(raw))
    assert deploy(server.url, "w.yml", "--json") == 0
    assert capsysbinary.readouterr() == (raw, b"")


def test_server_that_is_not_there(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert deploy("http://127.0.0.1:1", "w.yml") == 1
    sentence = "gateway: cannot connect to http://127.0.0.1:1: connection refused; is the gateway running?\n"
    assert capsys.readouterr() == ("", sentence)


def test_deploy_as_a_user(live: Live, tmp_path: Path, start: Start) -> None:
    def call(*argv: str) -> tuple[int, bytes, bytes]:
        process = start("pipeline", *argv, env={**os.environ, "GATEWAY_URL": live.url})
        out, err = process.communicate(timeout=20)
        return process.returncode, out, err

    (tmp_path / "greeting.yml").write_text(YAML)
    assert call("deploy-yaml", "greeting.yml") == (0, b"greeting serves (generation 1)\n", b"")
    assert call("run", "greeting", "-p", "name=Ada") == (0, b'{\n  "text": "Hello, Ada!"\n}\n', b"")
    assert (live.folder / "greeting.yml").read_text() == YAML

    taken = b"gateway: wrapper greeting is deployed already; overwrite replaces it\n"
    assert call("deploy-yaml", "greeting.yml") == (1, b"", taken)
    (tmp_path / "greeting.yml").write_text(YAML.replace("Hello", "Good morning"))
    assert call("deploy-yaml", "greeting.yml", "-o", "--no-save-file")[:2] == (0, b"greeting serves (generation 2)\n")
    assert call("run", "greeting", "-p", "name=Ada") == (0, b'{\n  "text": "Good morning, Ada!"\n}\n', b"")
    assert (live.folder / "greeting.yml").read_text() == YAML

    (tmp_path / "greeting.yml").write_text("components: [\n")
    fault = b"gateway: greeting.yml: the YAML is not valid: line 2, column 1: did not find expected node content\n"
    assert call("deploy-yaml", "greeting.yml", "-o") == (1, b"", fault)
    assert call("run", "greeting", "-p", "name=Ada")[0] == 0
