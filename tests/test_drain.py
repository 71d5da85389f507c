"""SIGTERM and SIGINT, sent to a process of its own."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import requests

from tests.gateways import Process, spawn, write_wrapper

RUNS = 5
WAITING = """
    import os, time
    from gateway import BasePipelineWrapper, SSEStream, log

    class PipelineWrapper(BasePipelineWrapper):
        def setup(self):
            self.gate = os.open({gate!r}, os.O_RDWR)  # a pipe: each byte in it lets one run go on

        def run_api(self, kind: str):
            if kind == "stuck":
                log.info("began")
                while True:
                    time.sleep(3600)
            return SSEStream(self.stream()) if kind == "stream" else self.wait()

        def wait(self):
            log.info("began")
            os.read(self.gate, 1)
            return "whole"

        def stream(self):
            yield "first"
            yield self.wait()

        def close(self):
            log.info("closed")
"""


class Server:
    """A process, and the gate at which its runs wait."""

    def __init__(self, process: Process, gate: Path) -> None:
        self.process = process
        self._gate = gate

    def open_gate(self, runs: int) -> None:
        descriptor = os.open(self._gate, os.O_RDWR)
        os.write(descriptor, b"x" * runs)
        os.close(descriptor)

    def begin_to_drain(self, number: int = signal.SIGTERM) -> None:
        self.process.process.send_signal(number)
        self.process.wait_for("waiting for runs in hand")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[float], Server]]:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    write_wrapper(tmp_path / "wrappers", "w", WAITING.format(gate=str(gate)))
    with ExitStack() as stack:

        def start(shutdown_timeout_s: float) -> Server:
            environment = {"GATEWAY_SHUTDOWN_TIMEOUT_S": str(shutdown_timeout_s)}
            process = stack.enter_context(spawn("--wrappers-dir", str(tmp_path / "wrappers"), environment=environment))
            process.wait_until_ready()
            return Server(process, gate)

        yield start


class Caller(threading.Thread):
    """One run in hand. `reply`: status and body, when it has come."""

    def __init__(self, process: Process, kind: str) -> None:
        super().__init__(daemon=True)
        self._url, self._kind = process.url, kind
        self.reply: tuple[int, str] | None = None
        self.start()
        process.wait_for('"began"')

    def run(self) -> None:
        with suppress(requests.RequestException):
            reply = requests.post(f"{self._url}/w/run", json={"kind": self._kind}, timeout=30)
            self.reply = reply.status_code, reply.text

    def wait(self) -> tuple[int, str]:
        self.join(30)
        assert self.reply is not None
        return self.reply


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_lets_runs_and_streams_end_whole_and_refuses_new_ones(
    start: Callable[[float], Server], number: int
) -> None:
    server = start(20)
    url = server.process.url
    callers = [Caller(server.process, kind) for kind in ["value"] * RUNS + ["stream"] * RUNS]
    server.begin_to_drain(number)
    ready = requests.get(f"{url}/readyz", timeout=5)
    refused = requests.post(f"{url}/w/run", json={"kind": "value"}, timeout=5)
    assert (ready.status_code, ready.json()) == (503, {"status": "draining"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
    assert refused.headers["Retry-After"] == "1"
    assert requests.get(f"{url}/livez", timeout=5).status_code == 200
    assert [caller.reply for caller in callers] == [None] * (2 * RUNS)
    server.open_gate(2 * RUNS)
    whole, streamed = (200, '{"result":"whole"}'), (200, "data: first\n\ndata: whole\n\n")
    assert [caller.wait() for caller in callers] == [whole] * RUNS + [streamed] * RUNS
    assert server.process.process.wait(30) == 0
    server.process.close()
    assert sum('"closed"' in line for line in server.process.lines) == 1


def test_limit_of_the_drain_cancels_with_the_dialects_error(start: Callable[[float], Server]) -> None:
    server = start(0.2)
    run, stream = Caller(server.process, "value"), Caller(server.process, "stream")
    assert server.process.stop() == 0
    status, body = run.wait()
    assert (status, json.loads(body)["error"]["code"]) == (503, "draining")
    status, body = stream.wait()
    first, error, end = body.split("\n\n")
    assert (status, first, error.partition("\n")[0], end) == (200, "data: first", "event: error", "")
    assert json.loads(error.partition("data: ")[2])["error"]["code"] == "draining"


def test_stuck_thread_does_not_keep_the_process(start: Callable[[float], Server]) -> None:
    server = start(0.2)
    Caller(server.process, "stuck")
    assert server.process.stop() == 0


def test_second_signal_ends_it_at_once(start: Callable[[float], Server]) -> None:
    server = start(20)
    Caller(server.process, "stuck")
    server.begin_to_drain()
    assert server.process.stop() == 1


def test_idle_connection_does_not_delay_the_end(start: Callable[[float], Server]) -> None:
    server = start(20)
    with requests.Session() as session:
        assert session.get(f"{server.process.url}/livez", timeout=5).status_code == 200
        assert server.process.stop() == 0
