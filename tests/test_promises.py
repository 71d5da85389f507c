"""What the gateway promises for running and streaming, end to end: real servers, real sockets."""

import asyncio
import gc
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h2.connection
import h2.events
import httpx
import pytest
import requests

from gateway.run import Run
from gateway.stream import Stream
from tests import probe as probes
from tests.conftest import Serve
from tests.gateways import Gateway, serve, spawn, write_wrapper
from tests.probe import Probe, eventually, same_descriptors
from tests.wire import Connection, connect, get, read_events

HEAD = """
    import asyncio
    from contextvars import ContextVar
    from gateway import BasePipelineWrapper, Limits, SSEStream, current_run, log
    from tests import probe
    probe = probe.current
"""


@pytest.fixture
def probe() -> Iterator[Probe]:
    yield probes.renew()
    probes.renew()


def in_flight(gateway: Gateway, name: str = "w") -> int:
    return sum(limiter.in_flight for limiter in gateway.app.state.registry.get(name).limiters)


def wait_until_free(gateway: Gateway, name: str = "w") -> None:
    eventually(lambda: in_flight(gateway, name) == 0, "in_flight == 0")


WAITS = (
    HEAD
    + """
    class PipelineWrapper(BasePipelineWrapper):
        limits = Limits(max_concurrency={places}, max_queue={queue})

        def run_api(self, name: str = "") -> str:
            probe.set("began")
            probe.wait("go")
            return name
"""
)


# The loop is never blocked, and overload is answered.


def test_probes_answer_while_a_hundred_sync_runs_are_in_hand(serve_wrapper: Serve, probe: Probe) -> None:
    gateway = serve_wrapper(WAITS.format(places=100, queue=0))
    with ExitStack() as stack:
        runs = [stack.enter_context(connect(gateway.port)).post(body={"name": str(number)}) for number in range(100)]
        probe.wait("began", 100)
        for path in ("/livez", "/readyz", "/status/w", "/openapi.json"):
            assert get(gateway.port, path)[0] == 200
        assert get(gateway.port, "/status/w")[1]["in_flight"] == 100
        probe.set("go")
        assert [run.head().body() for run in runs] == [b'{"result":"%d"}' % number for number in range(100)]
    wait_until_free(gateway)


def test_overload_of_one_wrapper_is_refused_at_once_and_costs_another_nothing(tmp_path: Path, probe: Probe) -> None:
    write_wrapper(tmp_path, "w", WAITS.format(places=2, queue=1))
    write_wrapper(tmp_path, "other", HEAD + "\n    class PipelineWrapper(BasePipelineWrapper):\n"
                  "        def run_api(self):\n            return iter('abc')\n")  # fmt: skip
    with serve(tmp_path) as gateway, ExitStack() as stack:
        runs = [stack.enter_context(connect(gateway.port)).post(body={"name": str(number)}) for number in range(2)]
        probe.wait("began", 2)
        runs.append(stack.enter_context(connect(gateway.port)).post(body={"name": "2"}))
        eventually(lambda: get(gateway.port, "/status/w")[1]["queued"] == 1)
        for _ in range(5):
            refused = stack.enter_context(connect(gateway.port)).post().head()
            problem = json.loads(refused.body())["error"]
            assert (refused.status, refused.headers["retry-after"], problem["code"]) == (429, "1", "queue_full")
        assert requests.post(f"{gateway.url}/other/run", json={}, timeout=10).text == "abc"
        probe.set("go")
        assert [json.loads(run.head().body()) for run in runs] == [{"result": str(number)} for number in range(3)]
        wait_until_free(gateway)
        assert requests.post(f"{gateway.url}/w/run", json={"name": "again"}, timeout=10).json() == {"result": "again"}


# Streams are bounded.


def memory_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("events", [False, True], ids=["text", "sse"])
def test_stalled_readers_cost_little_memory(tmp_path: Path, kind: str, events: bool) -> None:
    method, define = ("async def run_api_async", "async def") if kind == "async" else ("def run_api", "def")
    source = f"""
    from pathlib import Path
    from gateway import BasePipelineWrapper, SSEStream

    class PipelineWrapper(BasePipelineWrapper):
        {method}(self):
            return {"SSEStream(self.stream())" if events else "self.stream()"}

        {define} stream(self):
            count = 0
            try:
                while count < 20_000:
                    count += 1
                    yield f"{{count:10000}}"
            finally:
                (Path(__file__).parent / f"stopped {{id(self)}} {{count}}").touch()
    """
    write_wrapper(tmp_path / "wrappers", "w", source)
    environment = {"GATEWAY_SEND_TIMEOUT_S": "1.5"}
    with spawn("--wrappers-dir", str(tmp_path / "wrappers"), environment=environment) as process, ExitStack() as stack:
        process.wait_until_ready()
        port = int(process.url.rpartition(":")[2])
        before = memory_bytes(process.process.pid)
        for _ in range(5):
            stack.enter_context(connect(port, receive_buffer=4096)).post().head()
        peak = 0

        def is_over() -> bool:
            nonlocal peak
            peak = max(peak, memory_bytes(process.process.pid))
            return bool(get(port, "/status/w")[1]["in_flight"] == 0)

        eventually(is_over, "the streams were ended")
        # Each of the five would have sent 200 MB.
        assert peak - before < 60_000_000
        assert process.process.poll() is None


# Nothing leaks.

MIXED = (
    HEAD
    + """
    class PipelineWrapper(BasePipelineWrapper):
        def run_api(self, kind: str):
            if kind == "fails":
                raise ValueError("no")
            if kind == "stream fails":
                return self.fail()
            if kind == "async":
                return SSEStream(self.stream())
            return iter("abc") if kind == "stream" else "abc"

        def fail(self):
            yield "a"
            raise ValueError("no")

        async def stream(self):
            for letter in "abc":
                yield letter
"""
)


def test_nothing_is_left_of_many_requests(serve_wrapper: Serve, probe: Probe) -> None:
    def left() -> int:
        gc.collect()
        return sum(isinstance(thing, Run | Stream) for thing in gc.get_objects())

    others = left()  # of the tests before this one
    gateway = serve_wrapper(MIXED)

    def ask(kind: str) -> Any:
        with connect(gateway.port) as connection:
            connection.post(body={"kind": kind}).head()
            return connection.until_cut() if kind == "stream fails" else (connection.status, connection.body())

    def round_of_requests() -> list[Any]:
        return [ask(kind) for kind in ("whole", "stream", "async", "stream fails")] + [ask("fails")[0]]

    expected = [(200, b'{"result":"abc"}'), (200, b"abc"), (200, b"data: a\n\ndata: b\n\ndata: c\n\n"), b"a", 500]
    assert round_of_requests() == expected
    wait_until_free(gateway)
    tasks, threads = gateway.call(lambda: len(asyncio.all_tasks())), threading.active_count()
    with same_descriptors():
        for _ in range(50):
            assert round_of_requests() == expected
    wait_until_free(gateway)
    eventually(lambda: gateway.call(lambda: len(asyncio.all_tasks())) <= tasks, "no more tasks")
    eventually(lambda: threading.active_count() <= threads + 1, "no more threads")

    eventually(lambda: left() <= others + 4, "250 runs and their streams were let go")


def test_many_clients_at_once_get_what_is_theirs(serve_wrapper: Serve, probe: Probe) -> None:
    gateway = serve_wrapper(
        HEAD
        + """
    class PipelineWrapper(BasePipelineWrapper):
        def run_api(self, name: str, is_async: bool, events: bool):
            stream = self.stream_async(name) if is_async else self.stream(name)
            return SSEStream(stream) if events else stream

        def stream(self, name):
            for number in range(300):
                yield f"{name}.{number} "

        async def stream_async(self, name):
            for number in range(300):
                yield f"{name}.{number} "
                await asyncio.sleep(0)
"""
    )

    def ask(name: int) -> bool:
        is_async, events = bool(name & 1), bool(name & 2)
        with connect(gateway.port) as connection:
            connection.post(body={"name": str(name), "is_async": is_async, "events": events})
            body = connection.head().body()
        expected = [f"{name}.{number} " for number in range(300)]
        return [data for _, data in read_events(body)] == expected if events else body == "".join(expected).encode()

    with ThreadPoolExecutor(40) as clients:
        assert list(clients.map(ask, range(200))) == [True] * 200
    wait_until_free(gateway)


HTTP2 = (
    HEAD
    + """
    class PipelineWrapper(BasePipelineWrapper):
        def run_api(self, endless: bool = False):
            return self.stream(10**9 if endless else 3)

        def stream(self, count):
            try:
                for number in range(count):
                    yield f"{number} "
            finally:
                probe.note(current_run().cause)
                probe.set("closed")
"""
)


def test_http2_streams_side_by_side(serve_wrapper: Serve, probe: Probe) -> None:
    gateway = serve_wrapper(HTTP2)
    with httpx.Client(http1=False, http2=True, timeout=10) as client:
        with client.stream("POST", f"{gateway.url}/w/run", json={"endless": True}) as endless:
            assert endless.http_version == "HTTP/2"
            assert next(endless.iter_bytes()).startswith(b"0 ")
            whole = client.post(f"{gateway.url}/w/run", json={})
            assert (whole.status_code, whole.text) == (200, "0 1 2 ")
            probe.wait("closed")
        assert client.post(f"{gateway.url}/w/run", json={}).text == "0 1 2 "
        probe.wait("closed", 2)
    # The client has closed its connection.
    probe.wait("closed", 3)
    wait_until_free(gateway)
    assert probe.notes == [None, None, "disconnect"]


def test_http2_stream_that_is_reset_is_left(serve_wrapper: Serve, probe: Probe) -> None:
    gateway = serve_wrapper(HTTP2)
    connection = h2.connection.H2Connection()
    connection.initiate_connection()
    headers = [(":method", "POST"), (":path", "/w/run"), (":scheme", "http"), (":authority", "test")]
    connection.send_headers(1, [*headers, ("content-type", "application/json")])
    connection.send_data(1, b'{"endless": true}', end_stream=True)
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as raw:
        raw.sendall(connection.data_to_send())
        received: list[Any] = []
        while not any(isinstance(event, h2.events.DataReceived) for event in received):
            received += connection.receive_data(raw.recv(65536))
        raw.sendall(connection.data_to_send())
        connection.reset_stream(1)
        raw.sendall(connection.data_to_send())
        probe.wait("closed")
        wait_until_free(gateway)
        # The connection lives on.
        connection.send_headers(3, [(":method", "GET"), (":path", "/livez"), *headers[2:]], end_stream=True)
        raw.sendall(connection.data_to_send())
        bodies = b""
        while not any(isinstance(event, h2.events.StreamEnded) and event.stream_id == 3 for event in received):
            received += connection.receive_data(raw.recv(65536))
        for event in received:
            if isinstance(event, h2.events.DataReceived) and event.stream_id == 3:
                bodies += event.data
    assert bodies == b'{"status":"alive"}'
    assert probe.notes == ["disconnect"]


# A run knows itself, and so does its log.


def test_run_is_known_in_every_place_of_a_wrapper_and_in_its_log(tmp_path: Path) -> None:
    source = """
    from contextvars import ContextVar
    from gateway import BasePipelineWrapper, Headers, SSEStream, current_run, log
    own = ContextVar("own")

    class PipelineWrapper(BasePipelineWrapper):
        def run_api(self, is_async: bool):
            own.set(current_run().id)
            log.info("in the method")
            return self.stream_async() if is_async else self.stream()

        def stream(self):
            log.info("in the generator")
            yield self.seen()

        async def stream_async(self):
            log.info("in the generator")
            yield self.seen()

        def seen(self):
            run = current_run()
            return {"id": run.id, "own": own.get(), "wrapper": run.wrapper, "caller": run.caller,
                    "header": run.headers["x-mine"], "left": run.remaining_s, "cancelled": run.is_cancelled}
    """
    write_wrapper(tmp_path / "wrappers", "w", source)
    with spawn("--wrappers-dir", str(tmp_path / "wrappers")) as process:
        process.wait_until_ready()
        for number, is_async in enumerate((False, True)):
            headers = {"X-Request-ID": f"request-{number}", "X-Mine": "ü"}
            reply = requests.post(f"{process.url}/w/run", json={"is_async": is_async}, headers=headers, timeout=10)
            identity = f"request-{number}"
            assert (reply.headers["x-request-id"], reply.json()) == (
                identity,
                {"id": identity, "own": identity, "wrapper": "w", "caller": "127.0.0.1", "header": "ü"}
                | {"left": None, "cancelled": False},
            )
        assert process.stop() == 0
    lines = [json.loads(line) for line in process.lines]
    said = [(line["event"], line["request_id"], line["wrapper"]) for line in lines if line["event"].startswith("in ")]
    assert said == [
        (f"in the {place}", f"request-{number}", "w") for number in range(2) for place in ("method", "generator")
    ]


# The same again and again: what a race would need.


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("events", [False, True], ids=["text", "sse"])
def test_storm_of_leaving_clients_leaves_nothing(serve_wrapper: Serve, probe: Probe, kind: str, events: bool) -> None:
    gateway = serve_wrapper(
        HEAD
        + """
    class PipelineWrapper(BasePipelineWrapper):
        def run_api(self, is_async: bool, events: bool):
            stream = self.stream_async() if is_async else self.stream()
            return SSEStream(stream) if events else stream

        def stream(self):
            probe.set("opened")
            try:
                while True:
                    yield "x" * 100
            finally:
                probe.set("closed")

        async def stream_async(self):
            probe.set("opened")
            try:
                while True:
                    yield "x" * 100
                    await asyncio.sleep(0)
            finally:
                await asyncio.sleep(0)
                probe.set("closed")
""",
        max_concurrency=20,
    )
    body = {"is_async": kind == "async", "events": events}
    with same_descriptors():
        for number in range(200):
            connections = [Connection(gateway.port).post(body=body) for _ in range(20)]
            for place, connection in enumerate(connections):  # before the reply, after its head, after some chunks
                stage = (number + place) % 4
                if stage:
                    connection.head()
                for _ in range(stage - 1):
                    connection.piece()
                connection.leave()
            assert get(gateway.port, "/livez") == (200, {"status": "alive"})
    wait_until_free(gateway)
    eventually(lambda: probe.count("opened") == probe.count("closed"), "every generator was closed")
    assert gateway.call(lambda: len(gateway.app.state.invoker._runs)) == 0
