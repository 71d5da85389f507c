"""The socket, the signals and the drain: `gateway run` as a process of its own."""

import asyncio
import ipaddress
import json
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests

from gateway import Settings, create_app
from gateway.errors import ConfigError
from gateway.server import bind, serve_app
from tests.gateways import Process, spawn, write_wrapper
from tests.probe import eventually
from tests.wire import Connection, Cut, connect, get, read_events

EXIT_S = 20.0  # far more than an exit takes, far less than a hang

# Waits for a file in the folder that it is told, or for ever.
SOURCE = """
    import asyncio, os, threading, time
    from pathlib import Path
    from gateway import BasePipelineWrapper, SSEStream

    HERE = Path(__file__).parent
    opened = threading.Event()

    def open_fifo():
        # Returns when the test opens the other end.
        with (HERE / "go").open() as fifo:
            fifo.read()
        opened.set()

    class PipelineWrapper(BasePipelineWrapper):
        def setup(self):
            os.mkfifo(HERE / "go")
            threading.Thread(target=open_fifo, daemon=True).start()

        def run_api(self, kind: str):
            if kind == "sync":
                opened.wait()
                return "whole"
            if kind == "stuck":
                threading.Event().wait()
            return SSEStream(self.stream()) if kind == "sse" else self.stream()

        def stream(self):
            try:
                for number in range(3):
                    yield f"{number} "
                opened.wait()
                for number in range(3, 6):
                    yield f"{number} "
            finally:
                (HERE / "stream closed").touch()

        def close(self):
            (HERE / "closed").touch()
"""
SOURCE_ASYNC = """
    import asyncio, threading
    from pathlib import Path
    from gateway import BasePipelineWrapper, SSEStream

    HERE = Path(__file__).parent

    class PipelineWrapper(BasePipelineWrapper):
        async def run_api_async(self, kind: str):
            if kind == "executor":
                await asyncio.to_thread(threading.Event().wait)
            if kind == "wait":
                try:
                    await asyncio.Event().wait()
                finally:
                    await asyncio.sleep(0.001)
                    (HERE / "cleaned up").touch()
            return SSEStream(self.stream()) if kind == "sse" else self.stream()

        async def stream(self):
            try:
                yield "first "
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.001)
                (HERE / "stream closed").touch()
"""


class House:
    """A spawned gateway with a wrapper `w` (sync) and a wrapper `a` (async)."""

    def __init__(self, process: Process, folder: Path) -> None:
        self.process = process
        self.folder = folder
        self.port = int(process.url.rpartition(":")[2])

    def post(self, stack: ExitStack, kind: str, wrapper: str = "w") -> Connection:
        return stack.enter_context(connect(self.port)).post(f"/{wrapper}/run", {"kind": kind})

    def wait_for_runs(self, count: int, wrapper: str = "w") -> None:
        eventually(lambda: get(self.port, f"/status/{wrapper}")[1]["in_flight"] == count, f"{count} runs in hand")

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.process.send_signal(number)

    def wait_until_draining(self) -> None:
        eventually(lambda: get(self.port, "/readyz") == (503, {"status": "draining"}), "/readyz says draining")

    def go_on(self) -> None:
        (self.folder / "w" / "go").write_text("")

    def exit_code(self) -> int:
        return self.process.process.wait(EXIT_S)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    with ExitStack() as stack:

        def start_with(**settings: Any) -> House:
            folder = tmp_path / "wrappers"
            write_wrapper(folder, "w", SOURCE)
            write_wrapper(folder, "a", SOURCE_ASYNC)
            environment = {f"GATEWAY_{key.upper()}": str(value) for key, value in settings.items()}
            process = stack.enter_context(spawn("--wrappers-dir", str(folder), environment=environment))
            process.wait_until_ready()
            return House(process, folder)

        yield start_with


# The socket.


def test_bind_takes_a_free_port_and_listens() -> None:
    with bind(Settings(port=0)) as listener:
        host, port = listener.getsockname()
        assert (host, port > 0) == ("127.0.0.1", True)
        socket.create_connection((host, port), timeout=5).close()


def test_bind_to_a_port_in_use() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError) as caught:
            bind(Settings(port=port))
    assert str(caught.value) == f"cannot listen on localhost:{port}: Address already in use"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "::ffff:192.0.2.1"])
def test_bind_refuses_all_but_loopback_until_there_are_keys(host: str) -> None:
    with pytest.raises(ConfigError) as caught:
        bind(Settings(host=host, port=0))
    said = "there are no keys yet, so that the gateway answers its own machine only"
    assert str(caught.value) == f"cannot listen on {host}: {said}; use localhost, and a proxy that asks who is there"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.1", "127.0.0.2", "::1"])
def test_bind_takes_any_name_of_this_machine(host: str) -> None:
    with bind(Settings(host=host, port=0)) as listener:
        assert ipaddress.ip_address(listener.getsockname()[0]).is_loopback


def test_bind_to_a_host_that_is_nowhere() -> None:
    with pytest.raises(ConfigError, match=r"^cannot listen on nowhere\.invalid:0: "):
        bind(Settings(host="nowhere.invalid", port=0))


def test_who_connects_before_the_server_is_up_waits(tmp_path: Path) -> None:
    settings = Settings(port=0, wrappers_dir=tmp_path, access_log=False)
    listener = bind(settings)
    port = listener.getsockname()[1]
    with connect(port) as early:
        early.get("/livez")

        async def main() -> None:
            stop = asyncio.Event()
            serving = asyncio.create_task(serve_app(create_app(settings), settings, listener, stop))
            assert await asyncio.to_thread(lambda: early.head().body()) == b'{"status":"alive"}'
            stop.set()
            await serving

        asyncio.run(main())
        assert early.status == 200


def test_two_apps_in_one_process_stream_at_the_same_time(tmp_path: Path) -> None:
    async def main() -> Any:
        ports, tasks, stop = [], [], asyncio.Event()
        for name in ("one", "two"):
            source = f"""
            from gateway import BasePipelineWrapper, current_run
            class PipelineWrapper(BasePipelineWrapper):
                def run_api(self):
                    for number in range(2000):
                        yield f"{name} {{number}} {{current_run().wrapper}}\\n"
            """
            write_wrapper(tmp_path / name, "w", source)
            settings = Settings(port=0, wrappers_dir=tmp_path / name, access_log=False)
            listener, app = bind(settings), create_app(settings)
            ports.append(listener.getsockname()[1])
            tasks.append(asyncio.create_task(serve_app(app, settings, listener, stop)))
            await app.state.tracker.is_loaded.wait()

        def read(port: int) -> bytes:
            with connect(port) as connection:
                return connection.post().head().body()

        bodies = await asyncio.gather(*(asyncio.to_thread(read, port) for port in ports * 4))
        stop.set()
        await asyncio.gather(*tasks)
        return bodies

    expected = ["".join(f"{name} {number} w\n" for number in range(2000)).encode() for name in ("one", "two")]
    assert asyncio.run(main()) == expected * 4


# The end.


def test_idle_gateway_ends_with_0_and_closes_its_wrappers(start: Any) -> None:
    house = start()
    house.signal()
    assert house.exit_code() == 0
    assert (house.folder / "w" / "closed").exists()


def test_sigint_is_as_good(start: Any) -> None:
    house = start()
    with ExitStack() as stack:
        runs = [house.post(stack, "sync") for _ in range(2)]
        house.wait_for_runs(2)
        house.signal(signal.SIGINT)
        house.wait_until_draining()
        house.go_on()
        assert [run.head().body() for run in runs] == [b'{"result":"whole"}'] * 2
        assert house.exit_code() == 0
    assert (house.folder / "w" / "closed").exists()
    assert not any("Traceback" in line for line in house.process.lines)


def test_drain_lets_runs_and_streams_end_whole_and_refuses_new_ones(start: Any) -> None:
    house = start()
    with ExitStack() as stack:
        runs = [house.post(stack, "sync") for _ in range(5)]
        texts = [house.post(stack, "text").head() for _ in range(3)]
        events = [house.post(stack, "sse").head() for _ in range(2)]
        begun = [stream.piece() for stream in texts + events]
        house.wait_for_runs(10)
        house.signal()
        house.wait_until_draining()

        refused = house.post(stack, "sync").head()
        problem = json.loads(refused.body())["error"]
        assert (refused.status, refused.headers["retry-after"], problem["code"]) == (503, "1", "draining")
        assert get(house.port, "/livez") == (200, {"status": "alive"})
        ready = stack.enter_context(connect(house.port)).get("/readyz").head()
        assert (ready.status, ready.headers["retry-after"]) == (503, "1")

        house.go_on()
        assert [(run.head().status, run.body()) for run in runs] == [(200, b'{"result":"whole"}')] * 5
        bodies = [first + stream.body() for first, stream in zip(begun, texts + events, strict=True)]
        assert bodies[:3] == [b"0 1 2 3 4 5 "] * 3
        assert [read_events(body) for body in bodies[3:]] == [[("message", f"{number} ") for number in range(6)]] * 2
        assert house.exit_code() == 0
    assert (house.folder / "w" / "closed").exists()


@pytest.mark.parametrize("wrapper", ["w", "a"])
def test_time_limit_of_the_drain_ends_streams_with_an_error_event(start: Any, wrapper: str) -> None:
    house = start(shutdown_timeout_s=0.1)
    with ExitStack() as stack:
        events = house.post(stack, "sse", wrapper).head()
        text = house.post(stack, "text", wrapper).head()
        begun, begun_text = events.piece(), text.piece()
        assert begun_text
        house.signal()
        *chunks, (kind, data) = read_events(begun + events.body())
        text.until_cut()
        if wrapper == "w":
            house.go_on()
        assert house.exit_code() == 0
    expected = ["0 ", "1 ", "2 "] if wrapper == "w" else ["first "]
    assert chunks == [("message", chunk) for chunk in expected]
    assert kind == "error"
    assert json.loads(data) == {
        "error": {"type": "server_error", "message": "the server is shutting down", "code": "draining"},
        "detail": "the server is shutting down",
    }
    assert (house.folder / wrapper / "stream closed").exists()


def test_time_limit_of_the_drain_ends_whole_runs_with_a_503(start: Any) -> None:
    house = start(shutdown_timeout_s=0.1)
    with ExitStack() as stack:
        runs = [house.post(stack, "stuck"), house.post(stack, "wait", "a")]
        house.wait_for_runs(1)
        house.wait_for_runs(1, "a")
        house.signal()
        replies = [(run.head().status, run.headers["retry-after"], json.loads(run.body())["detail"]) for run in runs]
        assert replies == [(503, "1", "the server is shutting down")] * 2
        assert house.exit_code() == 0
    assert (house.folder / "a" / "cleaned up").exists()


def test_stuck_thread_does_not_keep_the_process(start: Any) -> None:
    house = start(shutdown_timeout_s=0)
    with ExitStack() as stack:
        house.post(stack, "stuck")
        house.wait_for_runs(1)
        house.signal()
        assert house.exit_code() == 0
    assert (house.folder / "w" / "closed").exists()


def test_stuck_thread_of_an_executor_does_not_keep_the_process(start: Any) -> None:
    # `asyncio.to_thread`, which is also how Haystack runs a sync component inside of `run_async`.
    house = start(shutdown_timeout_s=0)
    with ExitStack() as stack:
        house.post(stack, "executor", "a")
        house.wait_for_runs(1, "a")
        house.signal()
        assert house.exit_code() == 0
    assert (house.folder / "w" / "closed").exists()


def test_second_signal_ends_at_once(start: Any) -> None:
    house = start(shutdown_timeout_s=1000)
    with ExitStack() as stack:
        run = house.post(stack, "sync")
        house.wait_for_runs(1)
        house.signal()
        house.wait_until_draining()
        house.signal()
        assert house.exit_code() == 1
        with pytest.raises((Cut, ConnectionError)):
            run.head()


def test_idle_connection_does_not_delay_the_exit(start: Any) -> None:
    house = start(shutdown_timeout_s=1000, keep_alive_timeout_s=1000)
    with ExitStack() as stack:
        fresh = stack.enter_context(connect(house.port))
        used = stack.enter_context(connect(house.port)).get("/livez").head()
        assert used.body() == b'{"status":"alive"}'
        half = stack.enter_context(connect(house.port))
        half.socket.sendall(b"POST /w/run HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\n{")
        assert fresh.get("/livez").head().status == 200
        house.signal()
        assert house.exit_code() == 0


def test_reply_in_the_kernel_is_read_after_the_exit(start: Any) -> None:
    house = start()
    with ExitStack() as stack:
        streams = [house.post(stack, "text") for _ in range(3)]
        house.wait_for_runs(3)
        house.go_on()
        house.wait_for_runs(0)
        house.signal()
        assert house.exit_code() == 0
        assert [stream.head().body() for stream in streams] == [b"0 1 2 3 4 5 "] * 3


def test_reader_who_is_slow_gets_his_stream_whole_though_the_server_drains(tmp_path: Path) -> None:
    # The generator has ended, the last of its chunks are still on their way.
    source = """
    from pathlib import Path
    from gateway import BasePipelineWrapper

    class PipelineWrapper(BasePipelineWrapper):
        def run_api(self):
            for number in range(3):
                yield f"{number}" * 16_000_000
            (Path(__file__).parent / "made").touch()
    """
    folder = write_wrapper(tmp_path / "wrappers", "w", source)
    with spawn("--wrappers-dir", str(tmp_path / "wrappers")) as process:
        process.wait_until_ready()
        port = int(process.url.rpartition(":")[2])
        with connect(port, receive_buffer=65536) as connection:
            connection.post().head()
            raw = b""
            while not (folder / "made").exists():  # until the generator has ended
                raw += connection._file.read(65536)
            process.process.send_signal(signal.SIGTERM)
            pause = threading.Event()
            for _ in range(20):  # longer than the server's own grace of a second
                pause.wait(0.1)
                raw += connection._file.read(8192)
            raw += connection._file.read()
        assert len(raw) > 48_000_000
        assert raw.endswith(b"\r\n0\r\n\r\n")
        assert process.process.wait(EXIT_S) == 0


STALLS = """
    from pathlib import Path
    from gateway import BasePipelineWrapper, SSEStream

    HERE = Path(__file__).parent

    class PipelineWrapper(BasePipelineWrapper):
        def run_api(self, kind: str):
            return SSEStream(self.stream()) if kind == "sse" else self.stream()

        def stream(self):
            while True:
                yield "x" * 10_000

        def close(self):
            (HERE / "closed").touch()
"""


@pytest.mark.parametrize("kind", ["text", "sse"])
def test_stalled_reader_does_not_keep_the_process_nor_its_wrappers_open(tmp_path: Path, kind: str) -> None:
    folder = write_wrapper(tmp_path / "wrappers", "w", STALLS)
    environment = {"GATEWAY_SHUTDOWN_TIMEOUT_S": "0.1"}
    with spawn("--wrappers-dir", str(tmp_path / "wrappers"), environment=environment) as process:
        process.wait_until_ready()
        port = int(process.url.rpartition(":")[2])
        with connect(port, receive_buffer=4096) as connection, connect(port, receive_buffer=4096) as another:
            for stalled in (connection, another):
                stalled.post(body={"kind": kind}).head()
            process.process.send_signal(signal.SIGTERM)
            assert process.process.wait(EXIT_S) == 0
        process.close()
    assert (folder / "closed").exists()
    assert [line for line in process.lines if json.loads(line)["level"] == "error"] == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["text", "sse"])
def test_connection_of_a_stalled_reader_is_given_up_in_time(tmp_path: Path, kind: str) -> None:
    write_wrapper(tmp_path / "wrappers", "w", STALLS)
    environment = {"GATEWAY_SEND_TIMEOUT_S": "0.2"}
    with spawn("--wrappers-dir", str(tmp_path / "wrappers"), environment=environment) as process:
        process.wait_until_ready()
        port = int(process.url.rpartition(":")[2])
        with connect(port, receive_buffer=4096) as connection:
            own_port = connection.socket.getsockname()[1]
            connection.post(body={"kind": kind}).head()
            assert is_held(port, own_port)
            eventually(lambda: not is_held(port, own_port), "the connection was given up")


def is_held(port: int, peer_port: int) -> bool:
    """Whether a process holds the server's end of this connection."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, *_, inode = line.split()[:10]
        if (local.rpartition(":")[2], remote.rpartition(":")[2]) == (f"{port:04X}", f"{peer_port:04X}"):
            return inode != "0"
    return False


def test_wrapper_that_calls_exit_does_not_end_the_server(tmp_path: Path) -> None:
    source = """
    import asyncio, sys
    from gateway import BasePipelineWrapper

    class PipelineWrapper(BasePipelineWrapper):
        async def run_api_async(self, kind: str):
            if kind == "here":
                sys.exit(3)
            if kind == "task":
                await asyncio.create_task(self.leave())
            return self.stream()

        async def leave(self):
            sys.exit(3)

        async def stream(self):
            yield "a"
            sys.exit(3)
    """
    write_wrapper(tmp_path / "wrappers", "w", source)
    with spawn("--wrappers-dir", str(tmp_path / "wrappers")) as process:
        process.wait_until_ready()
        assert requests.post(f"{process.url}/w/run", json={"kind": "here"}, timeout=10).status_code == 500
        assert requests.post(f"{process.url}/w/run", json={"kind": "task"}, timeout=10).status_code == 500
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            requests.post(f"{process.url}/w/run", json={"kind": "stream"}, timeout=10)
        assert requests.get(f"{process.url}/livez", timeout=10).status_code == 200
        assert process.stop() == 0
