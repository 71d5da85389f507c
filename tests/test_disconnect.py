"""A caller who leaves, through a real server: the work stops, the place is freed, nobody else notices."""

import asyncio
import gc
import http.client
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from gateway.disconnect import Disconnect
from gateway.run import Run
from tests import probe as probes
from tests.conftest import Serve
from tests.gateways import Gateway
from tests.probe import Probe, eventually, same_descriptors
from tests.wire import Connection, connect, get

HEAD = """
    import asyncio
    from gateway import BasePipelineWrapper, Limits, RunCancelled, SSEStream, current_run
    from tests import probe
    probe = probe.current
"""


@pytest.fixture
def probe() -> Iterator[Probe]:
    yield probes.renew()
    probes.renew()


def in_flight(gateway: Gateway) -> int:
    deployment = gateway.app.state.registry.get("w")
    return sum(limiter.in_flight + limiter.queued for limiter in deployment.limiters)


def wait_until_free(gateway: Gateway) -> None:
    eventually(lambda: in_flight(gateway) == 0, "in_flight == 0")


# The watcher by itself.


def test_disconnect_message_cancels_the_run() -> None:
    async def main() -> Any:
        run, messages = Run("id", "w"), asyncio.Queue[Any]()
        async with Disconnect(messages.get, run) as disconnect:
            messages.put_nowait({"type": "http.request", "body": b"", "more_body": False})
            await asyncio.sleep(0)
            before = run.cause
            messages.put_nowait({"type": "http.disconnect"})
            told = await disconnect.receive(), await disconnect.receive()
        return before, run.cause, told

    assert asyncio.run(main()) == (None, "disconnect", ({"type": "http.disconnect"},) * 2)


def test_disconnect_stops_watching_at_the_end() -> None:
    async def main() -> Any:
        run, messages = Run("id", "w"), asyncio.Queue[Any]()
        async with Disconnect(messages.get, run):
            await asyncio.sleep(0)
        messages.put_nowait({"type": "http.disconnect"})
        await asyncio.sleep(0)
        return run.cause, len(asyncio.all_tasks())

    assert asyncio.run(main()) == (None, 1)


# Whole replies.

WHOLE_SYNC = (
    HEAD
    + """
    class PipelineWrapper(BasePipelineWrapper):
        def run_api(self) -> str:
            probe.set("began")
            probe.wait("look")
            probe.note(current_run().is_cancelled)
            try:
                current_run().raise_if_cancelled()
            except RunCancelled as error:
                probe.note(error.cause)
                raise
            finally:
                probe.set("ended")
            return "whole"
"""
)


def cancelled_run(gateway: Gateway) -> bool:
    return any(run.is_cancelled for run in list(gateway.app.state.invoker._runs))


def test_whole_sync_run_is_marked_and_keeps_its_place_until_it_ends(serve_wrapper: Serve, probe: Probe) -> None:
    gateway = serve_wrapper(WHOLE_SYNC)
    connection = Connection(gateway.port).post()
    probe.wait("began")
    connection.leave()
    eventually(lambda: cancelled_run(gateway), "the run was marked")
    assert in_flight(gateway) == 1
    probe.set("look")
    probe.wait("ended")
    wait_until_free(gateway)
    assert probe.notes == [True, "disconnect"]


def test_half_close_counts_as_leaving(serve_wrapper: Serve, probe: Probe) -> None:
    gateway = serve_wrapper(WHOLE_SYNC)
    with connect(gateway.port) as connection:
        connection.post()
        probe.wait("began")
        connection.socket.shutdown(socket.SHUT_WR)
        eventually(lambda: cancelled_run(gateway), "the run was marked")
        probe.set("look")
        wait_until_free(gateway)
    assert probe.notes == [True, "disconnect"]


def test_reset_counts_as_leaving(serve_wrapper: Serve, probe: Probe) -> None:
    gateway = serve_wrapper(WHOLE_SYNC)
    connection = Connection(gateway.port).post()
    probe.wait("began")
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    connection.leave()
    eventually(lambda: cancelled_run(gateway), "the run was marked")
    probe.set("look")
    wait_until_free(gateway)
    assert probe.notes == [True, "disconnect"]


def test_caller_who_stays_is_not_cancelled(serve_wrapper: Serve, probe: Probe) -> None:
    gateway = serve_wrapper(WHOLE_SYNC)
    with connect(gateway.port) as connection:
        connection.post()
        probe.wait("began")
        probe.set("look")
        assert (connection.head().status, connection.body()) == (200, b'{"result":"whole"}')
    assert probe.notes == [False]


def test_whole_async_run_is_cancelled_and_cleans_up(serve_wrapper: Serve, probe: Probe) -> None:
    gateway = serve_wrapper(
        HEAD
        + """
    class PipelineWrapper(BasePipelineWrapper):
        async def run_api_async(self) -> str:
            try:
                probe.set("began")
                await probe.until("never")
            except asyncio.CancelledError:
                probe.note((current_run().cause, "cancelled"))
                raise
            finally:
                await probe.until("clean up")
                await asyncio.sleep(0.001)
                probe.note("cleaned up")
            return "never"
"""
    )
    connection = Connection(gateway.port).post()
    probe.wait("began")
    connection.leave()
    eventually(lambda: probe.notes, "the task was cancelled")
    assert in_flight(gateway) == 1
    probe.set("clean up")
    wait_until_free(gateway)
    assert probe.notes == [("disconnect", "cancelled"), "cleaned up"]


@pytest.mark.parametrize("method", ["def run_api", "async def run_api_async"])
def test_caller_who_leaves_the_queue_is_never_run(serve_wrapper: Serve, probe: Probe, method: str) -> None:
    wait = "await probe.until" if "async" in method else "probe.wait"
    gateway = serve_wrapper(
        HEAD
        + f"""
    class PipelineWrapper(BasePipelineWrapper):
        limits = Limits(max_concurrency=1)

        {method}(self, name: str) -> str:
            probe.note(name)
            probe.set("began")
            {wait}("go")
            return name
"""
    )
    deployment = gateway.app.state.registry.get("w")
    with connect(gateway.port) as first, connect(gateway.port) as third:
        first.post(body={"name": "first"})
        probe.wait("began")
        second = Connection(gateway.port).post(body={"name": "second"})
        eventually(lambda: deployment.threads.queued == 1)
        third.post(body={"name": "third"})
        eventually(lambda: deployment.threads.queued == 2)
        second.leave()
        eventually(lambda: deployment.threads.queued == 1)
        probe.set("go")
        assert [connection.head().body() for connection in (first, third)] == [
            b'{"result":"first"}',
            b'{"result":"third"}',
        ]
    wait_until_free(gateway)
    assert probe.notes == ["first", "third"]


# Streams.

STREAM = (
    HEAD
    + """
    class PipelineWrapper(BasePipelineWrapper):
        def run_api(self, before: int = 1, events: bool = False):
            generator = self.stream(before)
            return SSEStream(generator) if events else generator

        def stream(self, before: int):
            try:
                for number in range(before):
                    yield f"{number} "
                probe.set("silent")
                probe.wait("go")
                while True:
                    yield "more "
            except GeneratorExit:
                probe.note(current_run().cause)
                raise
            finally:
                probe.set("closed")
"""
)
STREAM_ASYNC = (
    HEAD
    + """
    class PipelineWrapper(BasePipelineWrapper):
        async def run_api_async(self, before: int = 1, events: bool = False):
            generator = self.stream(before)
            return SSEStream(generator) if events else generator

        async def stream(self, before: int):
            try:
                for number in range(before):
                    yield f"{number} "
                probe.set("silent")
                await probe.until("never")
            finally:
                await asyncio.sleep(0.001)
                probe.note(current_run().cause)
                probe.set("closed")
"""
)
both = pytest.mark.parametrize("source", [STREAM, STREAM_ASYNC], ids=["sync", "async"])
formats = pytest.mark.parametrize("events", [False, True], ids=["text", "sse"])


@both
@formats
@pytest.mark.parametrize("before", [0, 1], ids=["before the first chunk", "in the middle"])
@pytest.mark.parametrize("first_byte_wait_s", [0.01, 20])
def test_stream_is_closed_when_the_caller_leaves(
    serve_wrapper: Serve, probe: Probe, source: str, events: bool, before: int, first_byte_wait_s: float
) -> None:
    gateway = serve_wrapper(source, first_byte_wait_s=first_byte_wait_s)
    connection = Connection(gateway.port).post(body={"before": before, "events": events})
    if before or first_byte_wait_s < 1:
        assert connection.head().status == 200
    if before:
        assert connection.piece() == (b"data: 0 \n\n" if events else b"0 ")
    probe.wait("silent")
    connection.leave()
    if source is STREAM:
        eventually(lambda: cancelled_run(gateway), "the run was marked")
        assert in_flight(gateway) == 1
    probe.set("go")
    probe.wait("closed")
    wait_until_free(gateway)
    assert probe.notes == ["disconnect"]


ENDLESS = (
    HEAD
    + """
    class PipelineWrapper(BasePipelineWrapper):
        def run_api(self, events: bool = False):
            generator = self.stream()
            return SSEStream(generator) if events else generator

        def stream(self):
            probe.set("opened")
            try:
                while True:
                    yield "x" * 100
            finally:
                probe.set("closed")
"""
)
ENDLESS_ASYNC = (
    HEAD
    + """
    class PipelineWrapper(BasePipelineWrapper):
        async def run_api_async(self, events: bool = False):
            generator = self.stream()
            return SSEStream(generator) if events else generator

        async def stream(self):
            probe.set("opened")
            try:
                while True:
                    yield "x" * 100
                    await asyncio.sleep(0)
            finally:
                await asyncio.sleep(0)
                probe.set("closed")
"""
)


def drop_streams(gateway: Gateway, probe: Probe, clients: int, *, events: bool, offset: int = 0) -> None:
    """All of them get a chunk, then all leave at once; `/livez` answers throughout."""
    connections = [Connection(gateway.port).post(body={"events": events}) for _ in range(clients)]
    for connection in connections:
        assert connection.head().status == 200
        assert connection.piece()
    alive = get(gateway.port, "/livez")
    for connection in connections:
        connection.leave()
    assert (alive, get(gateway.port, "/livez")) == ((200, {"status": "alive"}),) * 2
    probe.wait("closed", offset + clients)
    wait_until_free(gateway)


@pytest.mark.parametrize("source", [ENDLESS, ENDLESS_ASYNC], ids=["sync", "async"])
@formats
def test_twenty_dropped_streams_leave_nothing_behind(
    serve_wrapper: Serve, probe: Probe, source: str, events: bool
) -> None:
    gateway = serve_wrapper(source)
    drop_streams(gateway, probe, 1, events=events)  # what is made once is there now
    tasks = gateway.call(lambda: len(asyncio.all_tasks()))
    drop_streams(gateway, probe, 20, events=events, offset=1)
    gc.collect()
    with same_descriptors():
        drop_streams(gateway, probe, 20, events=events, offset=21)
    threads = threading.active_count()
    drop_streams(gateway, probe, 20, events=events, offset=41)
    eventually(lambda: threading.active_count() <= threads, "no more threads")
    eventually(lambda: gateway.call(lambda: len(asyncio.all_tasks())) <= tasks, "no more tasks")
    assert gateway.call(lambda: len(gateway.app.state.invoker._runs)) == 0
    assert (probe.count("opened"), probe.count("closed")) == (61, 61)


def test_others_do_not_notice_dropped_streams(serve_wrapper: Serve, probe: Probe) -> None:
    gateway = serve_wrapper(
        HEAD
        + """
    class PipelineWrapper(BasePipelineWrapper):
        def run_api(self, name: str):
            try:
                for number in range(100):
                    yield f"{name} {number}\\n"
                    if name == "stays" and number % 10 == 0:
                        probe.wait("go", number // 10)
                while name != "stays":
                    yield "on\\n"
            finally:
                probe.set("closed")
"""
    )
    with connect(gateway.port) as stays:
        stays.post(body={"name": "stays"}).head()
        body = b""
        for number in range(10):
            leaves = Connection(gateway.port).post(body={"name": "leaves"}).head()
            assert leaves.piece()
            leaves.leave()
            probe.wait("closed", number + 1)
            probe.set("go")
        body = stays.body()
    assert body == b"".join(f"stays {number}\n".encode() for number in range(100))
    wait_until_free(gateway)


@formats
def test_keep_alive_connection_serves_on_after_a_stream(serve_wrapper: Serve, probe: Probe, events: bool) -> None:
    gateway = serve_wrapper(
        HEAD
        + """
    class PipelineWrapper(BasePipelineWrapper):
        def run_api(self, events: bool):
            generator = iter(["a", "b"])
            return SSEStream(generator) if events else generator
"""
    )
    client = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)
    bodies = []
    for _ in range(20):
        client.request("POST", "/w/run", f'{{"events": {str(events).lower()}}}', {"Content-Type": "application/json"})
        own = client.sock
        bodies.append(client.getresponse().read())
        assert client.sock is own
    client.close()
    assert bodies == [b"data: a\n\ndata: b\n\n" if events else b"ab"] * 20
    wait_until_free(gateway)


def test_normal_end_is_no_cancellation(serve_wrapper: Serve, probe: Probe) -> None:
    gateway = serve_wrapper(
        HEAD
        + """
    class PipelineWrapper(BasePipelineWrapper):
        def run_api(self, stream: bool):
            probe.note(current_run())
            return iter("ab") if stream else "ab"
"""
    )
    for stream in (False, True) * 10:
        assert requests.post(f"{gateway.url}/w/run", json={"stream": stream}, timeout=10).status_code == 200
    eventually(lambda: gateway.call(lambda: len(gateway.app.state.invoker._runs)) == 0)
    assert [run.cause for run in probe.notes] == [None] * 20
