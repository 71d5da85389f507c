"""A worker as its supervisor starts it: what it is told, what it tells, and how it leaves."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests
from pydantic import TypeAdapter

from gateway.asgi import STRICT, VARIABLE, Assignment
from gateway.server import RETIRE, Role, bind
from gateway.settings import Settings
from tests.gateways import START_S, write_wrapper
from tests.probe import eventually
from tests.wire import Connection, connect, get

WORKER = """
    import os, sys
    from gateway import BasePipelineWrapper

    class PipelineWrapper(BasePipelineWrapper):
        def setup(self):
            if "BROKEN" in os.environ:
                raise RuntimeError("broken")
            self.gate = os.open({gate!r}, os.O_RDWR)  # a pipe: each byte in it lets one stream go on

        def run_api(self, what: str):
            if what == "stream":
                return self.stream()
            if what == "environment":
                return sorted(name for name in os.environ if name.startswith("GATEWAY"))
            found = [os.get_inheritable(fd) for fd in range(3, 100) if os.path.exists(f"/proc/self/fd/{{fd}}")]
            return any(found)

        def stream(self):
            yield "first "
            os.read(self.gate, 1)
            yield "last"
"""
LATE = """
import os
os.read(os.open({gate!r}, os.O_RDWR), 1)

class PipelineWrapper:
    def run_api(self) -> str:
        return ""
"""
BROKEN = "raise RuntimeError('broken')\n"


class Worker:
    """`python -m gateway.asgi`. `is_ready`: blocks until it has told, or has ended."""

    def __init__(self, settings: Settings, listener: socket.socket, role: Role, *, is_broken: bool = False) -> None:
        alive, self._held = os.pipe()
        self._ready, ready = os.pipe()
        lock = os.open(os.devnull, os.O_RDONLY)
        told = Assignment(settings, "run", role, listener.fileno(), alive, ready, lock)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gateway.asgi"],
            env={**os.environ, VARIABLE: told.to_json(), **({"BROKEN": "1"} if is_broken else {})},
            pass_fds=(told.listener, alive, ready, lock),
            stderr=subprocess.PIPE,
            text=True,
        )
        for descriptor in (alive, ready, lock):
            os.close(descriptor)

    @property
    def is_ready(self) -> bool:
        return os.read(self._ready, 1) == b"1"

    def leave_alone(self) -> None:
        """As if the supervisor had ended."""
        os.close(self._held)
        self._held = -1

    def end(self) -> tuple[int, list[dict[str, Any]]]:
        """The exit code and the log."""
        _, said = self.process.communicate(timeout=START_S)
        return self.process.returncode, [json.loads(line) for line in said.splitlines()]

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        for descriptor in (self._ready, self._held):
            if descriptor >= 0:
                os.close(descriptor)


class Port:
    """A listening socket that workers share; what no worker accepts can be accepted here."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.gate = folder / "gate"
        os.mkfifo(self.gate)
        self._gate = os.open(self.gate, os.O_RDWR)
        stack.callback(os.close, self._gate)
        self.wrapper = write_wrapper(folder / "wrappers", "w", WORKER.format(gate=str(self.gate)))
        self._settings = Settings(port=0, wrappers_dir=folder / "wrappers", access_log=False)
        self._stack = stack
        self.listener = stack.enter_context(bind(self._settings))
        self.number: int = self.listener.getsockname()[1]

    def start(self, role: Role = "first", *, is_broken: bool = False, **settings: Any) -> Worker:
        worker = Worker(self._settings.model_copy(update=settings), self.listener, role, is_broken=is_broken)
        self._stack.callback(worker.close)
        return worker

    def edit(self, source: str) -> None:
        (self.wrapper / "pipeline_wrapper.py").write_text(source)

    def open_gate(self) -> None:
        os.write(self._gate, b"x")

    def run(self, what: str) -> Any:
        reply = requests.post(f"http://127.0.0.1:{self.number}/w/run", json={"what": what}, timeout=START_S)
        return reply.json().get("result", reply.status_code)

    def call(self) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.number))
        self._stack.callback(client.close)
        return client

    def is_waiting(self, client: socket.socket) -> bool:
        """Whether nobody has accepted this connection, the next one that waits."""
        self.listener.settimeout(0)
        try:
            accepted, address = self.listener.accept()
        except BlockingIOError:
            return False
        accepted.close()
        return bool(address == client.getsockname())


@pytest.fixture
def port(tmp_path: Path) -> Iterator[Port]:
    with ExitStack() as stack:
        yield Port(tmp_path, stack)


def begin_stream(connection: Connection) -> Connection:
    connection.post(body={"what": "stream"}).head()
    assert connection.piece() == b"first "
    return connection


def is_last_reply(connection: Connection) -> bool:
    connection.get("/readyz").head()
    assert (connection.status, json.loads(connection.body())) == (200, {"status": "ready"})
    return connection.headers.get("connection") == "close"


def test_assignment_comes_through_the_environment_whole(tmp_path: Path) -> None:
    settings = Settings(wrappers_dir=tmp_path, state_dir=tmp_path / "ü", timeout_s=1.5, max_concurrency=3)
    told = Assignment(settings, "id", "renewal", 3, 4, 5, 6)
    assert TypeAdapter(Assignment).validate_json(told.to_json()) == told


def test_worker_hands_nothing_of_its_supervisor_on(port: Port) -> None:
    """A program that a wrapper starts would hold the port, and the lock of the state folder."""
    assert port.start().is_ready
    assert (port.run("environment"), port.run("descriptors")) == ([], False)


def test_worker_leaves_when_its_supervisor_has_ended(port: Port) -> None:
    worker = port.start()
    assert worker.is_ready
    with connect(port.number) as stream:
        begin_stream(stream)
        worker.leave_alone()
        eventually(lambda: get(port.number, "/readyz")[0] == 503, "draining")
        port.open_gate()
        assert list(stream.pieces()) == [b"last"]
    code, log = worker.end()
    assert (code, {line["pid"] for line in log}) == (0, {worker.process.pid})


def test_worker_with_strict_ends_before_it_is_ready(port: Port) -> None:
    worker = port.start(is_broken=True, strict=True)
    assert not worker.is_ready
    code, log = worker.end()
    assert (code, log[-1]["failed"]) == (STRICT, ["w (pipeline_wrapper.py, line 8: RuntimeError: broken)"])


def test_second_signal_does_not_cut_the_streams_of_a_worker(port: Port) -> None:
    """systemd sends SIGTERM to every process, and the supervisor hands its own on."""
    worker = port.start()
    assert worker.is_ready
    with connect(port.number) as stream:
        begin_stream(stream)
        worker.process.send_signal(signal.SIGTERM)
        eventually(lambda: get(port.number, "/readyz")[0] == 503, "draining")
        worker.process.send_signal(signal.SIGTERM)
        worker.process.send_signal(signal.SIGINT)
        port.open_gate()
        assert list(stream.pieces()) == [b"last"]
    assert worker.end()[0] == 0


def test_retired_worker_serves_whom_it_has_and_nobody_new(port: Port) -> None:
    worker = port.start()
    assert worker.is_ready
    with connect(port.number) as stream, connect(port.number) as kept, connect(port.number) as fresh:
        begin_stream(stream)
        assert kept.get("/readyz").head().headers.get("connection") is None
        kept.body()
        fresh.socket.sendall(b"GET /readyz HTTP/1.1\r\n")
        assert get(port.number, "/livez")[0] == 200  # so that `fresh`, which was before it, has been accepted
        worker.process.send_signal(RETIRE)
        eventually(lambda: is_last_reply(kept), "a reply that is the connection's last")
        late = port.call()
        fresh.socket.sendall(b"Host: test\r\n\r\n")
        fresh.head()
        assert (fresh.status, fresh.headers["connection"], json.loads(fresh.body())) == (
            200,
            "close",
            {"status": "ready"},
        )
        assert port.is_waiting(late)  # though the worker has been at its sockets since
        port.open_gate()
        assert list(stream.pieces()) == [b"last"]
    assert worker.end()[0] == 0


def test_retired_worker_cancels_what_does_not_end_in_time(port: Port) -> None:
    worker = port.start(shutdown_timeout_s=0.1)
    assert worker.is_ready
    with connect(port.number) as stream:
        begin_stream(stream)
        worker.process.send_signal(RETIRE)
        assert stream.until_cut() == b""
    assert worker.end()[0] == 0


# A wrapper fails that another worker serves: what a newcomer does depends on what it is for.
ROLES: list[tuple[Role, bool, bool, int, str]] = [
    ("replacement", False, True, 0, "wrappers loaded"),
    ("replacement", True, False, STRICT, "strict: stopping, because a wrapper failed to load"),
    ("renewal", False, False, STRICT, "what the other workers serve does not load in a new one"),
    ("renewal", True, False, STRICT, "strict: stopping, because a wrapper failed to load"),
]


@pytest.mark.parametrize(("role", "is_strict", "is_ready", "code", "event"), ROLES)
def test_worker_that_cannot_serve_what_the_others_do(
    port: Port, role: Role, is_strict: bool, is_ready: bool, code: int, event: str
) -> None:
    first = port.start()
    assert first.is_ready
    late = port.start(role, is_broken=True, strict=is_strict)
    assert late.is_ready == is_ready
    if is_ready:
        late.process.send_signal(signal.SIGTERM)
    found, log = late.end()
    assert (found, event in {line["event"] for line in log}) == (code, True)
    assert port.run("environment") == []  # by the first, which serves on


def test_renewal_may_fail_to_load_what_nobody_serves(port: Port) -> None:
    """It was broken before: that is no reason to keep the old settings."""
    assert port.start(is_broken=True).is_ready
    assert port.start("renewal", is_broken=True).is_ready


@pytest.mark.parametrize("role", ["replacement", "renewal"])
def test_successor_that_is_to_leave_before_it_has_loaded_accepts_nobody(port: Port, role: Role, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    port.edit(f"open({str(begun)!r}, 'w')\n" + LATE.format(gate=str(port.gate)))
    worker = port.start(role)
    eventually(begun.exists, "the import")
    worker.process.send_signal(signal.SIGTERM)
    client = port.call()
    port.open_gate()
    assert not worker.is_ready
    assert worker.end()[0] == 0
    assert port.is_waiting(client)


def test_worker_does_not_look_for_modules_in_the_working_directory(tmp_path: Path) -> None:
    """Unless `gateway` itself does, as `python -m gateway` would."""
    write_wrapper(tmp_path / "wrappers", "w", BROKEN)
    for name in ("haystack", "secrets", "gateway"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('shadowed')")
    command = [sys.executable, "-P", "-m", "gateway", "run", "-p", "0", "-w", "2", "--strict", "--log-format", "json"]
    done = subprocess.run(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, timeout=START_S, check=False)
    assert (done.returncode, "shadowed" in done.stderr, "RuntimeError: broken" in done.stderr) == (1, False, True)


def test_first_worker_listens_before_it_has_loaded(port: Port) -> None:
    port.edit(LATE.format(gate=str(port.gate)))
    worker = port.start()
    assert get(port.number, "/readyz") == (503, {"status": "loading"})
    port.open_gate()
    assert worker.is_ready
    assert get(port.number, "/readyz") == (200, {"status": "ready"})
