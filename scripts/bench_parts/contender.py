"""Who is measured: how each is started, and when it is ready."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType

from bench_parts.machine import Cores, free_port

WRAPPERS = Path(__file__).parent.parent / "bench_wrappers"
NAMES = frozenset(folder.name for folder in WRAPPERS.iterdir() if folder.is_dir())
WITH_HAYSTACK = frozenset({"pipeline"})  # the only wrapper that imports Haystack: 0.5 s and 50 MiB by itself
START_S = 60.0
LOSS_S = 2.0  # after its first 200 a server that still lacks a wrapper is asked for so long
STARTS = 20
STOP_S = 10.0
POLL_S = 0.005


class StartFailed(Exception):
    """The server did not come up."""


class WrapperLost(StartFailed):
    """It came up without one of its wrappers."""


@dataclass(frozen=True)
class Contender:
    """`command`: with `{port}` and `{wrappers}` to be filled in. `help`: the command whose `--help` is timed."""

    name: str
    title: str
    command: tuple[str, ...]
    ready_path: str
    live_path: str
    help: tuple[str, ...] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    def is_ready(self, names: frozenset[str], status: int, body: bytes) -> bool:
        """What a reply of `ready_path` says. Raises `WrapperLost` when it does not name all wrappers."""
        if status != 200:
            return False
        if self.name == "theirs" and (missing := names.difference(json.loads(body)["pipelines"])):
            raise WrapperLost(f"it does not serve {', '.join(sorted(missing))}")
        return True


def ours() -> Contender:
    gateway = str(Path(sys.executable).parent / "gateway")
    command = (gateway, "run", "--port", "{port}", "--wrappers-dir", "{wrappers}")
    return Contender("ours", "this gateway", command, "/readyz", "/livez", (gateway, "--help"))


def theirs(python: Path) -> Contender:
    hayhooks = str(python.parent / "hayhooks")
    environment = {"HAYHOOKS_PORT": "{port}", "HAYHOOKS_PIPELINES_DIR": "{wrappers}"}
    command = (hayhooks, "run")
    return Contender("theirs", "Hayhooks", command, "/status", "/status", (hayhooks, "--help"), environment)


def bare() -> Contender:
    command = (sys.executable, str(Path(__file__).with_name("bare.py")), "{port}")
    return Contender("bare", "bare Starlette on Hypercorn", command, "/readyz", "/readyz")


class Server:
    """A running contender; a context manager that leaves no process behind. Its lines go to a file in `folder`.

    `start_s`: from the start of the process to ready. `lost`: starts before it that came up without a wrapper.
    `closed`: the file to which the wrappers' paced streams write when they end.
    """

    def __init__(self, contender: Contender, cores: Cores, folder: Path, names: frozenset[str] = NAMES) -> None:
        self.contender = contender
        self._names = names
        self.port = free_port()
        self.lost = 0
        self.start_s = 0.0
        self.closed = folder / f"closed-{self.port}"
        self._log = folder / f"log-{self.port}"
        self._folder = folder
        # Each has a copy: nobody's cache or clean-up may touch another's.
        wrappers = folder / f"wrappers-{self.port}"
        for name in names:
            shutil.copytree(WRAPPERS / name, wrappers / name, ignore=shutil.ignore_patterns("__pycache__"))
        values = {"port": str(self.port), "wrappers": str(wrappers)}
        self._command = [*cores.prefix, *(part.format(**values) for part in contender.command)]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "HAYHOOKS_"))}
        self._environment = {
            **kept,
            "HAYSTACK_TELEMETRY_ENABLED": "False",
            "BENCH_CLOSED_FILE": str(self.closed),
            **{name: value.format(**values) for name, value in contender.environment.items()},
        }

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> "Server":
        """Start until it comes up with all wrappers. Raises `StartFailed`."""
        for _ in range(STARTS):
            try:
                self.start_s = self._start()
                return self
            except WrapperLost:
                self.lost += 1
                self._stop()
            except BaseException:
                self._stop()
                raise
        raise StartFailed(f"{self.contender.title}: lost a wrapper in each of {STARTS} starts")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def _start(self) -> float:
        begun_s = time.monotonic()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env=self._environment,
                start_new_session=True,
            )
        answered_s: float | None = None
        while True:
            now_s = time.monotonic()
            try:
                if self.contender.is_ready(self._names, *request(self.port, "GET", self.contender.ready_path)):
                    return time.monotonic() - begun_s
            except WrapperLost:
                answered_s = answered_s or now_s
                if now_s - answered_s > LOSS_S:
                    raise
            except (OSError, HTTPException):
                pass
            if self._process.poll() is not None or now_s - begun_s > START_S:
                last = self._log.read_text(errors="replace").strip().splitlines()[-1:]
                raise StartFailed(f"{self.contender.title} did not start: {' '.join(last) or 'no word from it'}")
            time.sleep(POLL_S)

    def _stop(self) -> None:
        """SIGTERM, then SIGKILL for whatever is left of its session."""
        with suppress(ProcessLookupError, AttributeError):
            self._process.terminate()
        with suppress(subprocess.TimeoutExpired, AttributeError):
            self._process.wait(STOP_S)
        with suppress(ProcessLookupError, AttributeError):
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def request(port: int, method: str, path: str, body: str | None = None, timeout_s: float = 30.0) -> tuple[int, bytes]:
    """Status and body of one request on a connection of its own."""
    connection = HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request(method, path, body, {} if body is None else {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
