import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import pytest

from gateway.cli.main import main
from tests.gateways import write_wrapper
from tests.probe import eventually

Start = Callable[..., "Popen[bytes]"]
GOOD = "class PipelineWrapper:\n    def run_api(self, query: str, top_k: int = 3) -> str:\n        return query\n"
YAML = """\
components:
  prompt:
    type: haystack.components.builders.prompt_builder.PromptBuilder
    init_parameters: {template: "Hello, {{ name }}!", required_variables: [name]}
inputs: {name: prompt.name}
outputs: {text: prompt.prompt}
"""


def check(capfd: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    """The wrappers are loaded by a child, whose lines only the descriptors show."""
    code = main(["check", *argv])
    return code, *capfd.readouterr()


def test_all_that_would_serve(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_wrapper(tmp_path / "w", "good", GOOD)
    chat = "    async def run_chat_completion_async(self, model: str, messages: list, body: dict) -> str: ...\n"
    write_wrapper(tmp_path / "w", "both", GOOD + chat)
    (tmp_path / "w" / "greeting.yml").write_text(YAML)
    (tmp_path / "w" / ".hidden").mkdir()
    (tmp_path / "w" / "notes.txt").touch()
    before = sorted(tmp_path.rglob("*"))
    code, out, err = check(capfd, "w")
    assert (code, err) == (0, "")
    head, *rest = out.splitlines()
    assert head == "serves  both      run_api(query: str, top_k: int = 3) -> str"
    assert rest[0].startswith("serves  both      run_chat_completion_async(model: str, ")
    assert rest[1] == "serves  good      run_api(query: str, top_k: int = 3) -> str"
    assert rest[2].startswith("serves  greeting  run_api")
    assert rest[3:] == ["3 found, 3 would serve, 0 would not"]
    assert sorted(tmp_path.rglob("*")) == before  # no bytecode, no state


FAULTS: dict[str, tuple[str, str]] = {
    "syntax": ("x = 1\ndef", "pipeline_wrapper.py, line 2: SyntaxError: "),
    "an import": ("import no_such_module", "pipeline_wrapper.py, line 1: ModuleNotFoundError: "),
    "a setup": (
        f"{GOOD}    def setup(self):\n        raise ValueError('so')\n",
        "pipeline_wrapper.py, line 5: ValueError: so",
    ),
    "a signature": (
        "class PipelineWrapper:\n    def run_api(self, *args): pass\n",
        "wrapper bad3: run_api() takes *args: ",
    ),
    "no class": ("", "pipeline_wrapper.py defines no class PipelineWrapper"),
}


def test_each_that_would_not_serve(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for number, (source, _) in enumerate(FAULTS.values()):
        write_wrapper(tmp_path / "w", f"bad{number}", source)
    write_wrapper(tmp_path / "w", "good", GOOD)
    write_wrapper(tmp_path / "w", "status", GOOD)
    write_wrapper(tmp_path / "w", "a.b", GOOD)
    (tmp_path / "w" / "list.yml").write_text("- a\n")
    code, out, err = check(capfd, "w")
    *lines, count = out.splitlines()
    assert (code, err, count) == (1, "", f"{len(lines)} found, 1 would serve, {len(lines) - 1} would not")
    told = [line.split(maxsplit=2) for line in lines]
    assert [(name, verdict) for verdict, name, _ in told] == [
        ("a.b", "FAILS"),
        *((f"bad{number}", "FAILS") for number in range(len(FAULTS))),
        ("good", "serves"),
        ("list", "FAILS"),
        ("status", "FAILS"),
    ]
    reasons = {name: reason for _, name, reason in told}
    for number, (_, said) in enumerate(FAULTS.values()):
        assert reasons[f"bad{number}"].startswith(said)
    assert reasons["a.b"].startswith("the name 'a.b' cannot be served: ")
    assert reasons["status"].startswith("the name 'status' is reserved ")
    assert reasons["list"].startswith("list.yml: ")


def test_report_as_json(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_wrapper(tmp_path / "w", "good", GOOD)
    write_wrapper(tmp_path / "w", "bad", "")
    code, out, err = check(capfd, "w", "--json")
    report = {
        "bad": {"reason": "pipeline_wrapper.py defines no class PipelineWrapper"},
        "good": {"methods": ["run_api(query: str, top_k: int = 3) -> str"]},
    }
    assert (code, json.loads(out), err) == (1, report, "")


@pytest.mark.parametrize(("argv", "out"), [([], "0 found, 0 would serve, 0 would not\n"), (["--json"], "{}\n")])
def test_folder_with_nothing_in_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], argv: list[str], out: str
) -> None:
    (tmp_path / "w").mkdir()
    assert check(capfd, "w", *argv) == (0, out, "")


@pytest.mark.parametrize("place", ["gone", "file"])
def test_folder_that_is_none(tmp_path: Path, capfd: pytest.CaptureFixture[str], place: str) -> None:
    (tmp_path / "file").touch()
    assert check(capfd, place) == (1, "", f"gateway: there is no folder {place}\n")


def test_no_folder_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = check(capfd)
    assert (code, out, err.splitlines()[-1]) == (
        2,
        "",
        "gateway check: error: the following arguments are required: DIR",
    )


def test_what_a_wrapper_prints_is_not_part_of_the_report(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_wrapper(tmp_path / "w", "loud", f"print('loud')\n{GOOD}")
    code, out, err = check(capfd, "w", "--json")
    assert (code, list(json.loads(out)), err) == (0, ["loud"], "loud\n")


def test_wrapper_that_ends_the_process_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_wrapper(tmp_path / "w", "good", GOOD)
    write_wrapper(tmp_path / "w", "grave", "import os\nos._exit(7)\n")
    sentence = "gateway: the process that loads the wrappers ended with exit code 7 before all were loaded\n"
    assert check(capfd, "w") == (1, "", sentence)


def test_wrappers_are_set_up_and_closed_and_share_code(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "told.py").write_text(
        "from pathlib import Path\ndef tell(word):\n    Path('told').open('a').write(word + ' ')\n"
    )
    methods = "    def setup(self):\n        tell('setup')\n    def close(self):\n        tell('close')\n"
    write_wrapper(tmp_path / "w", "good", f"from told import tell\n{GOOD}{methods}")
    assert check(capfd, "w")[0] == 1
    assert check(capfd, "w", "--additional-python-path", "shared")[0] == 0
    assert (tmp_path / "told").read_text() == "setup close "


@pytest.mark.parametrize("name", ["gateway.py", "secrets.py", "queue.py", "structlog.py"])
def test_module_in_the_working_directory_is_not_ours(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / name).write_text("raise SystemExit('mine')\n")
    (tmp_path / "w").mkdir()
    assert check(capfd, "w") == (0, "0 found, 0 would serve, 0 would not\n", "")


def test_settings_of_the_gateway_hold(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = f"import threading\n{GOOD}    def setup(self):\n        threading.Event().wait()\n"
    write_wrapper(tmp_path / "w", "slow", source)
    monkeypatch.setenv("GATEWAY_SETUP_TIMEOUT_S", "0.2")
    code, out, _ = check(capfd, "w")
    assert (code, out.splitlines()[-1]) == (1, "1 found, 0 would serve, 1 would not")
    monkeypatch.setenv("GATEWAY_SETUP_TIMEOUT_S", "soon")
    code, out, err = check(capfd, "w")
    assert (code, out, err.startswith("gateway: setting setup_timeout_s = 'soon': ")) == (1, "", True)


def test_interrupt_ends_the_child_too(tmp_path: Path, start: Start) -> None:
    waiting = "import os, threading\nfrom pathlib import Path\nPath('pid').write_text(str(os.getpid()))\n"
    write_wrapper(tmp_path / "w", "slow", f"{waiting}threading.Event().wait()\n")
    process = start("check", "w", start_new_session=True)
    eventually((tmp_path / "pid").exists)
    eventually(lambda: (tmp_path / "pid").read_text())
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, b"Traceback" in err) == (130, b"", False), err
    eventually(lambda: not is_alive(int((tmp_path / "pid").read_text())))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
