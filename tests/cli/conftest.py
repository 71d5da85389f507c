import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import client
from tests.cli.double import Double
from tests.gateways import spawn

COMMAND = Path(sys.executable).with_name("gateway")


@dataclass(frozen=True, slots=True)
class Live:
    """A gateway that runs: its address, and its folder of wrappers, which it does not watch."""

    url: str
    folder: Path


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """One for all tests of the command line: each takes names of its own."""
    folder = tmp_path_factory.mktemp("live")
    with spawn("--wrappers-dir", str(folder), "--no-watch") as process:
        process.wait_until_ready()
        yield Live(process.url, folder)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty folder, and an environment that names no server and no proxy."""
    for name in os.environ:
        if name.upper().startswith(("GATEWAY_", "HAYHOOKS_")) or name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def server() -> Iterator[Double]:
    double = Double()
    yield double
    double.close()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that a client would have slept between its tries."""
    slept: list[float] = []
    make = client.Client
    monkeypatch.setattr(client, "Client", lambda **fields: make(**fields, sleep=slept.append))
    return slept


@pytest.fixture
def start() -> Iterator[Callable[..., "subprocess.Popen[bytes]"]]:
    """Starts `gateway` as a process; what still runs at the end is killed."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(*argv: str, **options: Any) -> "subprocess.Popen[bytes]":
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        processes.append(subprocess.Popen([COMMAND, *argv], **pipes))
        return processes[-1]

    yield start
    for process in processes:
        with process:
            process.kill()
