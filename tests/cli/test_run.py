"""`gateway run` as a process: its options, its lock, and what it does not listen on."""

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
import requests

from gateway import Settings
from gateway.cli.main import main
from gateway.errors import ConfigError
from gateway.server import bind
from tests.gateways import Process, spawn, write_wrapper
from tests.probe import eventually

Start = Callable[..., "Popen[bytes]"]
WAIT_S = 20.0
ENTRY = "pipeline_wrapper.py"
SOURCE = "class PipelineWrapper:\n    def run_api(self) -> str:\n        return {!r}\n"
CLOSED = "there are no keys yet, so that the gateway answers its own machine only; use localhost, and a proxy that asks"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_wrapper(tmp_path / "wrappers", "w", SOURCE.format("one")).parent


def get(process: Process, path: str) -> Any:
    return requests.get(process.url + path, timeout=WAIT_S).json()


def run(process: Process, name: str = "w") -> Any:
    return requests.post(f"{process.url}/{name}/run", json={}, timeout=WAIT_S).json()["result"]


# What it listens on.
OPEN = ["0.0.0.0", "::", "0", "*", "192.0.2.1", "8.8.8.8", "134744072", "0x08080808", "169.254.0.1", "::ffff:0.0.0.0"]
LOCAL = {
    "localhost": "127.0.0.1",
    "127.0.0.1": "127.0.0.1",
    "127.0.0.2": "127.0.0.2",
    "127.255.255.254": "127.255.255.254",
    "2130706433": "127.0.0.1",
}


@pytest.mark.parametrize("host", [*OPEN, "2001:db8::1", "fe80::1", "::ffff:192.0.2.1"])
def test_address_of_other_machines_is_refused(host: str) -> None:
    with pytest.raises(ConfigError) as raised:
        bind(Settings(host=host, port=0))
    assert raised.value.message.startswith(f"cannot listen on {host}: {CLOSED}")


@pytest.mark.parametrize("host", LOCAL)
def test_address_of_this_machine_is_taken(host: str) -> None:
    with bind(Settings(host=host, port=0)) as listener:
        assert listener.getsockname()[0] == LOCAL[host]


def test_host_name_is_what_it_stands_for() -> None:
    """That of this machine may be an address of either kind."""
    name = socket.gethostname()
    address = socket.gethostbyname(name)
    if address.startswith("127."):
        bind(Settings(host=name, port=0)).close()
    else:
        with pytest.raises(ConfigError, match="answers its own machine only"):
            bind(Settings(host=name, port=0))


@pytest.mark.parametrize(
    ("argv", "environment"),
    [
        (["-h", "0.0.0.0", "--workers", "2"], {}),
        ([], {"HAYHOOKS_HOST": "0.0.0.0"}),
    ],
    ids=["typed, with workers", "as Hayhooks' images set it"],
)
def test_open_address_is_one_sentence(folder: Path, start: Start, argv: list[str], environment: dict[str, str]) -> None:
    process = start("run", "-d", str(folder), "--port", "0", *argv, env={**os.environ, **environment})
    out, err = process.communicate(timeout=WAIT_S)
    sentence = f"gateway: cannot listen on 0.0.0.0: {CLOSED} who is there\n"
    assert (process.returncode, out, err.decode()) == (1, b"", sentence)


def test_ipv6_is_served_and_its_doors_are_open(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with spawn("-d", str(folder), "--host", "::1") as process:
        process.wait_until_ready()
        assert process.url.startswith("http://[::1]:")
        assert main(["pipeline", "undeploy", "w", "--url", process.url]) == 0
        assert capfd.readouterr() == ("w has been taken down\n", "")
        assert process.stop() == 0


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--workers", "0"], "setting workers = 0: Input should be greater than or equal to 1"),
        (["--workers", "257"], "setting workers = 257: Input should be less than or equal to 256"),
        (["--port", "65536"], "setting port = 65536: Input should be less than or equal to 65535"),
        (["-d", "gone"], "there is no folder gone: name the folder of wrappers with --wrappers-dir"),
    ],
)
def test_setting_that_makes_no_sense(capsys: pytest.CaptureFixture[str], argv: list[str], sentence: str) -> None:
    assert main(["run", *argv]) == 1
    assert capsys.readouterr() == ("", f"gateway: {sentence}\n")


@pytest.mark.parametrize("argv", [["--workers", "x"], ["--workers"], ["--reload=yes"], ["--watch"], ["x"]])
def test_wrong_command_line(capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
    assert main(["run", *argv]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.startswith("usage: gateway run ")) == ("", True)


# The state folder is one gateway's.
@pytest.mark.parametrize(("workers", "number"), [("1", signal.SIGKILL), ("2", signal.SIGTERM)])
def test_state_folder_is_one_gateways_as_long_as_it_runs(
    folder: Path, tmp_path: Path, start: Start, workers: str, number: int
) -> None:
    def refused(*argv: str) -> tuple[int, bytes, str]:
        process = start("run", "--port", "0", *argv)
        out, err = process.communicate(timeout=WAIT_S)
        return process.returncode, out, err.decode()

    (tmp_path / "others").mkdir()
    with spawn("-d", str(folder), "--workers", workers) as process:
        process.wait_until_ready()
        holder = f"another gateway, process {process.process.pid}, holds the state folder {folder / '.gateway'}"
        sentence = f"gateway: {holder}: stop it, or give this one a --state-dir of its own\n"
        assert refused("-d", str(folder)) == (1, b"", sentence)
        assert refused("-d", "others", "--state-dir", str(folder / ".gateway"), "-w", "2") == (1, b"", sentence)
        with spawn("-d", str(folder), "--state-dir", str(tmp_path / "state")) as other:
            other.wait_until_ready()
            assert (run(process), run(other)) == ("one", "one")
        process.stop(number)
    with spawn("-d", str(folder)) as process:
        process.wait_until_ready()
        assert run(process) == "one"


# The processes.
def test_workers_are_processes_that_serve_and_end(folder: Path) -> None:
    with spawn("-d", str(folder), "-w", "2") as process:
        process.wait_until_ready()
        workers = get(process, "/status")["workers"]
        assert [each["generations"] for each in workers] == [{"w": 1}] * 2
        pids = {each["pid"] for each in workers}
        assert (len(pids), process.process.pid in pids) == (2, False)
        assert process.stop() == 0
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_module_in_the_working_directory_is_not_a_workers(folder: Path, tmp_path: Path, start: Start) -> None:
    """As little as it is the program's, which `spawn` does not start as a user does."""
    for name in ("gateway.py", "secrets.py", "queue.py"):
        (tmp_path / name).write_text("raise SystemExit('mine')\n")
    process = start("run", "-d", str(folder), "--port", "0", "-w", "2", "--log-format", "json")
    assert process.stderr
    url = json.loads(next(line for line in process.stderr if b'"listening"' in line))["url"]
    eventually(lambda: requests.get(f"{url}/readyz", timeout=WAIT_S).status_code == 200)
    process.terminate()
    process.communicate(timeout=WAIT_S)
    assert process.returncode == 0


def test_reload_renews_the_worker_when_env_changes(folder: Path, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("WORD=one\n")
    (folder / "w" / ENTRY).write_text("import os\n" + SOURCE.replace("{!r}", "os.environ['WORD']"))
    with spawn("-d", str(folder), "-r", cwd=tmp_path) as process:
        process.wait_until_ready()
        assert run(process) == "one"
        (before,) = get(process, "/status")["workers"]
        (tmp_path / ".env").write_text("WORD=two\n")
        process.wait_for("workers renewed")
        eventually(lambda: [each["pid"] for each in get(process, "/status")["workers"]] != [before["pid"]])
        eventually(lambda: run(process) == "two")
        assert process.stop() == 0


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="a folder of Linux")
def test_no_watch_watches_nothing_and_takes_edits_up_at_the_next_start(folder: Path) -> None:
    def is_watching() -> bool:
        opened = Path(f"/proc/{process.process.pid}/fd").iterdir()
        return any("inotify" in str(each.readlink()) for each in opened if each.is_symlink())

    with spawn("-d", str(folder), "--no-watch") as process:
        process.wait_until_ready()
        (folder / "w" / ENTRY).write_text(SOURCE.format("two"))
        assert (is_watching(), run(process)) == (False, "one")
        assert process.stop() == 0
    with spawn("-d", str(folder)) as process:
        process.wait_until_ready()
        assert (run(process), get(process, "/status/w")["generation"]) == ("two", 2)
        eventually(is_watching)
