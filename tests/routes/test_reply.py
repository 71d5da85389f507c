"""Streams as they go over the wire, through a real server."""

import json
import re
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import requests

from tests import probe as probes
from tests.conftest import Serve
from tests.gateways import Gateway
from tests.probe import Probe, eventually
from tests.wire import Connection, Cut, connect, read_events

HEAD = """
    import asyncio
    from haystack.dataclasses import ReasoningContent, StreamingChunk
    from starlette.exceptions import HTTPException
    from gateway import BasePipelineWrapper, Limits, RunCancelled, SSEStream, current_run
    from tests import probe
    probe = probe.current

    async def to_async(iterator):
        for chunk in iterator:
            yield chunk

    def as_asked(iterator, is_async, events):
        generator = to_async(iterator) if is_async else iterator
        return SSEStream(generator) if events else generator
"""
both = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
formats = pytest.mark.parametrize("events", [False, True], ids=["text", "sse"])


@pytest.fixture
def probe() -> Iterator[Probe]:
    yield probes.renew()
    probes.renew()


def wait_until_free(gateway: Gateway) -> None:
    limiters = gateway.app.state.registry.get("w").limiters
    eventually(lambda: sum(limiter.in_flight for limiter in limiters) == 0, "in_flight == 0")


def source(body: str, before: str = "") -> str:
    """A wrapper whose `make` is a generator with this body; its caller chooses the kind and the format."""
    lines = "\n".join(f"            {line}" for line in body.strip("\n").splitlines())
    return f"""{HEAD}
    class PipelineWrapper(BasePipelineWrapper):
        {before}
        def run_api(self, is_async: bool = False, events: bool = False):
            return as_asked(self.make(), is_async, events)

        def make(self):
{lines}
"""


def post(gateway: Gateway, **arguments: Any) -> requests.Response:
    return requests.post(f"{gateway.url}/w/run", json=arguments, timeout=20)


# What arrives.

CHUNKS = r"""
yield "a"
yield ""
yield "\n"
yield "\r\n"
yield "b\nc\rd\r\n"
yield None
yield "üñ€ \U0001f600 \u2028\u2029\u0085 \x00\x1f\ufeff"
yield "data: x"
yield "\udc80"
yield b"bytes \xc3\xa9"
yield {"é": [1, None]}
yield 7
yield StreamingChunk(content="chunk")
yield StreamingChunk(content="", reasoning=ReasoningContent("thought"), index=0)
yield " end "
"""


@both
def test_text_chunks_arrive_byte_for_byte(serve_wrapper: Serve, probe: Probe, is_async: bool) -> None:
    gateway = serve_wrapper(source(CHUNKS))
    reply = post(gateway, is_async=is_async)
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert (
        reply.content
        == (
            "a\n\r\nb\nc\rd\r\nüñ€ \U0001f600 \u2028\u2029\u0085 \x00\x1f\ufeffdata: x?bytes é"
            '{"é":[1,null]}7chunkthought end '
        ).encode()
    )


@both
def test_sse_chunks_arrive_as_one_event_each(serve_wrapper: Serve, probe: Probe, is_async: bool) -> None:
    gateway = serve_wrapper(source(CHUNKS))
    reply = post(gateway, is_async=is_async, events=True)
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    events = read_events(reply.content)
    assert {kind for kind, _ in events} == {"message"}
    assert [data for _, data in events] == [
        *("a", "", "\n", "\n", "b\nc\nd\n"),  # the format has one line break
        "üñ€ \U0001f600 \u2028\u2029\u0085 \x00\x1f\ufeff",
        *("data: x", "?", "bytes é", '{"é":[1,null]}', "7", "chunk", "thought", " end "),
    ]


@both
@formats
def test_stream_headers(serve_wrapper: Serve, probe: Probe, is_async: bool, events: bool) -> None:
    gateway = serve_wrapper(source('yield "a"'))
    headers = post(gateway, is_async=is_async, events=events).headers
    assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-store", "no")
    assert headers["transfer-encoding"] == "chunked"
    assert "content-length" not in headers
    assert re.fullmatch("[0-9a-f]{32}", headers["x-request-id"])


@both
@formats
def test_burst_costs_far_fewer_writes_than_chunks(
    serve_wrapper: Serve, probe: Probe, is_async: bool, events: bool
) -> None:
    gateway = serve_wrapper(source("for number in range(1000):\n    yield f'{number} '"))
    with connect(gateway.port) as connection:
        connection.post(body={"is_async": is_async, "events": events}).head()
        pieces = list(connection.pieces())
    body = b"".join(pieces)
    expected = [f"{number} " for number in range(1000)]
    assert ([data for _, data in read_events(body)] if events else body.decode()) == (
        expected if events else "".join(expected)
    )
    assert len(pieces) <= 100


@formats
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_paced_chunk_is_seen_before_the_next_is_made(
    serve_wrapper: Serve, probe: Probe, kind: str, events: bool
) -> None:
    wait = "await probe.until" if kind == "async" else "probe.wait"
    method, generator = ("async def run_api_async", "async def") if kind == "async" else ("def run_api", "def")
    gateway = serve_wrapper(
        HEAD
        + f"""
    class PipelineWrapper(BasePipelineWrapper):
        {method}(self, events: bool):
            return SSEStream(self.make()) if events else self.make()

        {generator} make(self):
            for number in range(20):
                {wait}("ask", number + 1)
                yield str(number)
"""
    )
    with connect(gateway.port) as connection:
        connection.post(body={"events": events})
        for number in range(20):
            probe.set("ask")
            if number == 0:
                connection.head()
            assert connection.piece() == (f"data: {number}\n\n" if events else str(number)).encode()
        assert connection.piece() == b""


@both
@formats
def test_hundred_thousand_tiny_chunks_arrive_whole(
    serve_wrapper: Serve, probe: Probe, is_async: bool, events: bool
) -> None:
    gateway = serve_wrapper(source("for number in range(100_000):\n    yield f'{number},'"))
    body = post(gateway, is_async=is_async, events=events).content
    expected = [f"{number}," for number in range(100_000)]
    assert (
        (body == "".join(f"data: {data}\n\n" for data in expected).encode())
        if events
        else (body == "".join(expected).encode())
    )


@both
@formats
def test_megabyte_chunks_arrive_whole(serve_wrapper: Serve, probe: Probe, is_async: bool, events: bool) -> None:
    gateway = serve_wrapper(source("for letter in 'abcdefgh':\n    yield letter * 1_000_000"))
    body = post(gateway, is_async=is_async, events=events).content
    expected = [letter * 1_000_000 for letter in "abcdefgh"]
    assert (
        (body == "".join(f"data: {data}\n\n" for data in expected).encode())
        if events
        else (body == "".join(expected).encode())
    )


@both
@formats
def test_generator_that_never_yields_is_an_empty_stream(
    serve_wrapper: Serve, probe: Probe, is_async: bool, events: bool
) -> None:
    gateway = serve_wrapper(source("return\nyield"))
    reply = post(gateway, is_async=is_async, events=events)
    assert (reply.status_code, reply.content) == (200, b"")
    wait_until_free(gateway)


@pytest.mark.parametrize("method", ["def run_api", "async def run_api_async"])
@pytest.mark.parametrize(("value", "kind"), [("None", "NoneType"), ("['a', 'b']", "list")])
def test_sse_stream_of_no_generator_is_a_clear_500(
    serve_wrapper: Serve, probe: Probe, method: str, value: str, kind: str
) -> None:
    gateway = serve_wrapper(
        HEAD
        + f"""
    class PipelineWrapper(BasePipelineWrapper):
        {method}(self):
            return SSEStream({value})
""",
        show_tracebacks=True,
    )
    reply = post(gateway)
    assert (reply.status_code, reply.json()["error"]["code"]) == (500, "wrapper_error")
    assert f"TypeError: SSEStream takes a generator, sync or async, not {kind}" in reply.json()["detail"]
    wait_until_free(gateway)


@pytest.mark.parametrize("method", ["def run_api", "async def run_api_async"])
@both
@formats
def test_method_and_generator_may_be_of_different_kinds(
    serve_wrapper: Serve, probe: Probe, method: str, is_async: bool, events: bool
) -> None:
    gateway = serve_wrapper(
        HEAD
        + f"""
    class PipelineWrapper(BasePipelineWrapper):
        {method}(self, is_async: bool, events: bool):
            return as_asked(iter("abc"), is_async, events)
"""
    )
    body = post(gateway, is_async=is_async, events=events).content
    assert body == (b"data: a\n\ndata: b\n\ndata: c\n\n" if events else b"abc")
    wait_until_free(gateway)


# Pings.


@both
def test_silent_sse_stream_is_pinged(serve_wrapper: Serve, probe: Probe, is_async: bool) -> None:
    method, generator, wait = (
        ("async def run_api_async", "async def", "await probe.until")
        if is_async
        else ("def run_api", "def", "probe.wait")
    )
    gateway = serve_wrapper(
        HEAD
        + f"""
    class PipelineWrapper(BasePipelineWrapper):
        {method}(self):
            return SSEStream(self.make())

        {generator} make(self):
            yield "a"
            {wait}("go")
            yield "b"
""",
        ping_interval_s=0.01,
    )
    with connect(gateway.port) as connection:
        connection.post().head()
        pieces = [connection.piece() for _ in range(6)]
        probe.set("go")
        rest = b"".join(connection.pieces())
    assert pieces[0] == b"data: a\n\n"
    assert all(re.fullmatch(rb": ping - [^\n]+\n\n", piece) for piece in pieces[1:])
    assert read_events(b"".join(pieces) + rest) == [("message", "a"), ("message", "b")]


def test_ping_comes_before_the_first_chunk_too(serve_wrapper: Serve, probe: Probe) -> None:
    gateway = serve_wrapper(source('probe.wait("go")\nyield "a"'), ping_interval_s=0.01, first_byte_wait_s=0.01)
    with connect(gateway.port) as connection:
        connection.post(body={"events": True}).head()
        assert connection.piece().startswith(b": ping - ")
        probe.set("go")
        assert read_events(connection.body()) == [("message", "a")]


# Errors.

BREAKS = (
    HEAD
    + """
    class PipelineWrapper(BasePipelineWrapper):
        def run_api(self, is_async: bool = False, events: bool = False):
            generator = self.make_async() if is_async else self.make()
            return SSEStream(generator) if events else generator

        def make(self):
            yield "a"
            probe.wait("seen")
            raise ValueError("the secret")

        async def make_async(self):
            yield "a"
            await probe.until("seen")
            raise ValueError("the secret")
"""
)


@both
def test_error_after_the_first_byte_is_an_sse_event_and_a_proper_end(
    serve_wrapper: Serve, probe: Probe, is_async: bool
) -> None:
    gateway = serve_wrapper(BREAKS)
    with connect(gateway.port) as connection:
        connection.post(body={"is_async": is_async, "events": True}).head()
        assert connection.piece() == b"data: a\n\n"
        probe.set("seen")
        ((kind, data),) = read_events(connection.body())
        problem = json.loads(data)
        error_id = problem["error"]["error_id"]
        message = f"wrapper w failed; the log says why under {error_id}"
        assert kind == "error"
        assert problem == {
            "error": {"type": "server_error", "message": message, "code": "wrapper_error", "error_id": error_id},
            "detail": message,
        }
        # The connection is fit for the next request.
        assert connection.get("/livez").head().body() == b'{"status":"alive"}'
    wait_until_free(gateway)


@both
def test_error_after_the_first_byte_cuts_a_text_stream(serve_wrapper: Serve, probe: Probe, is_async: bool) -> None:
    gateway = serve_wrapper(BREAKS)
    with connect(gateway.port) as connection:
        connection.post(body={"is_async": is_async}).head()
        assert connection.piece() == b"a"
        probe.set("seen")
        assert connection.until_cut() == b""
        assert connection.is_closed_by_server()
    wait_until_free(gateway)


def test_cut_text_stream_has_no_closing_chunk_on_the_wire(serve_wrapper: Serve, probe: Probe) -> None:
    gateway = serve_wrapper(BREAKS)
    probe.set("seen")
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as raw:
        raw.sendall(b"POST /w/run HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
        received = b""
        while data := raw.recv(65536):
            received += data
    assert received.endswith(b"\r\n\r\n1\r\na\r\n")


def test_cut_text_stream_is_an_error_to_every_client(serve_wrapper: Serve, probe: Probe) -> None:
    gateway = serve_wrapper(BREAKS)
    probe.set("seen")
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        post(gateway)
    with pytest.raises(httpx.RemoteProtocolError), httpx.Client(timeout=20) as client:
        client.post(f"{gateway.url}/w/run", json={})
    command = ["curl", "-sS", "-o", "-", "-X", "POST", "-H", "Content-Type: application/json", "-d", "{}"]
    curl = subprocess.run([*command, f"{gateway.url}/w/run"], capture_output=True, timeout=20, check=False)
    assert (curl.returncode, curl.stdout) == (18, b"a")
    wait_until_free(gateway)


@both
@formats
@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        ("ValueError('the secret')", 500, "wrapper_error"),
        ("SystemExit(3)", 500, "wrapper_error"),
        ("KeyboardInterrupt()", 500, "wrapper_error"),
        ("StopIteration()", 500, "wrapper_error"),
        ("RunCancelled('timeout')", 500, "wrapper_error"),
        ("asyncio.CancelledError()", 500, "wrapper_error"),
        ("HTTPException(402, 'pay first')", 402, "payment_required"),
    ],
)
def test_error_before_the_first_chunk_has_its_status(
    serve_wrapper: Serve, probe: Probe, is_async: bool, events: bool, error: str, status: int, code: str
) -> None:
    gateway = serve_wrapper(source(f"raise {error}\nyield"))
    reply = post(gateway, is_async=is_async, events=events)
    assert (reply.status_code, reply.headers["content-type"]) == (status, "application/json")
    assert reply.json()["error"]["code"] == code
    assert "the secret" not in reply.text
    assert post(gateway, is_async=is_async, events=events).status_code == status  # the server lives on
    wait_until_free(gateway)


@both
def test_error_of_the_callers_own_in_a_stream_is_told_as_it_is(
    serve_wrapper: Serve, probe: Probe, is_async: bool
) -> None:
    gateway = serve_wrapper(source("yield 'a'\nraise HTTPException(402, 'pay first')"))
    events = read_events(post(gateway, is_async=is_async, events=True).content)
    problem = {
        "error": {"type": "invalid_request_error", "message": "pay first", "code": "payment_required"},
        "detail": "pay first",
    }
    # The error may have come before the reply began: with the chunk in the buffer it is still told after it.
    assert [(kind, json.loads(data) if kind == "error" else data) for kind, data in events] == [
        ("message", "a"),
        ("error", problem),
    ]


@both
def test_chunk_that_nobody_can_encode_is_an_error_event_after_the_others(
    serve_wrapper: Serve, probe: Probe, is_async: bool
) -> None:
    gateway = serve_wrapper(source("yield 'a'\nyield object()\nyield 'never'"))
    reply = post(gateway, is_async=is_async, events=True)
    events = read_events(reply.content)
    assert [kind for kind, _ in events] == ["message", "error"]
    assert events[0][1] == "a"
    assert json.loads(events[1][1])["error"]["code"] == "wrapper_error"
    wait_until_free(gateway)


@both
def test_chunk_that_nobody_can_encode_cuts_a_text_stream(serve_wrapper: Serve, probe: Probe, is_async: bool) -> None:
    gateway = serve_wrapper(source("yield 'a'\nyield object()\nyield 'never'"))
    with connect(gateway.port) as connection:
        connection.post(body={"is_async": is_async}).head()
        assert connection.until_cut() == b"a"
    wait_until_free(gateway)


@both
@formats
def test_error_in_close_of_an_abandoned_stream_harms_nobody(
    serve_wrapper: Serve, probe: Probe, is_async: bool, events: bool
) -> None:
    gateway = serve_wrapper(
        HEAD
        + """
    class PipelineWrapper(BasePipelineWrapper):
        def run_api(self, is_async: bool, events: bool):
            generator = self.make_async() if is_async else self.make()
            return SSEStream(generator) if events else generator

        def make(self):
            try:
                while True:
                    yield "x" * 1000
            finally:
                probe.set("closed")
                raise ValueError("in close")

        async def make_async(self):
            try:
                while True:
                    yield "x" * 1000
            finally:
                probe.set("closed")
                raise ValueError("in close")
"""
    )
    for number in range(3):
        connection = Connection(gateway.port).post(body={"is_async": is_async, "events": events}).head()
        assert connection.piece()
        connection.leave()
        probe.wait("closed", number + 1)
    wait_until_free(gateway)


# Time.


@both
@formats
def test_first_chunk_later_than_first_byte_wait_s_still_streams(
    serve_wrapper: Serve, probe: Probe, is_async: bool, events: bool
) -> None:
    method, generator, wait = (
        ("async def run_api_async", "async def", "await probe.until")
        if is_async
        else ("def run_api", "def", "probe.wait")
    )
    gateway = serve_wrapper(
        HEAD
        + f"""
    class PipelineWrapper(BasePipelineWrapper):
        {method}(self, events: bool):
            return SSEStream(self.make()) if events else self.make()

        {generator} make(self):
            {wait}("go")
            yield "late"
""",
        first_byte_wait_s=0.01,
    )
    with connect(gateway.port) as connection:
        connection.post(body={"events": events}).head()
        assert connection.status == 200
        probe.set("go")
        assert connection.body() == (b"data: late\n\n" if events else b"late")


SILENT = """
    class PipelineWrapper(BasePipelineWrapper):
        limits = Limits({limits})

        def run_api(self, is_async: bool, events: bool, before: int):
            generator = self.make_async(before) if is_async else self.make(before)
            return SSEStream(generator) if events else generator

        def make(self, before):
            try:
                for _ in range(before):
                    yield "a"
                probe.wait("go")
                yield "never"
            finally:
                probe.note(current_run().cause)
                probe.set("closed")

        async def make_async(self, before):
            try:
                for _ in range(before):
                    yield "a"
                await probe.until("never")
            finally:
                probe.note(current_run().cause)
                probe.set("closed")
"""
TOO_LONG = {
    "error": {
        "type": "timeout_error",
        "message": "wrapper w: the run took too long and was stopped",
        "code": "deadline_exceeded",
    },
    "detail": "wrapper w: the run took too long and was stopped",
}


@both
@formats
@pytest.mark.parametrize("limit", ["timeout_s", "first_chunk_timeout_s"])
def test_silence_before_the_first_chunk_is_a_504(
    serve_wrapper: Serve, probe: Probe, is_async: bool, events: bool, limit: str
) -> None:
    gateway = serve_wrapper(HEAD + SILENT.format(limits=f"{limit}=0.05"))
    reply = post(gateway, is_async=is_async, events=events, before=0)
    assert (reply.status_code, reply.json()) == (504, TOO_LONG)
    probe.set("go")
    probe.wait("closed")
    wait_until_free(gateway)
    assert probe.notes == ["timeout"]


@both
@pytest.mark.parametrize("limit", ["timeout_s", "first_chunk_timeout_s", "idle_chunk_timeout_s"])
def test_silence_in_an_sse_stream_ends_it_with_an_event(
    serve_wrapper: Serve, probe: Probe, is_async: bool, limit: str
) -> None:
    before = 0 if limit == "first_chunk_timeout_s" else 1
    gateway = serve_wrapper(HEAD + SILENT.format(limits=f"{limit}=0.3"), first_byte_wait_s=0.01)
    with connect(gateway.port) as connection:
        connection.post(body={"is_async": is_async, "events": True, "before": before}).head()
        events = read_events(connection.body())
    assert connection.status == 200
    assert events[:-1] == [("message", "a")] * before
    assert (events[-1][0], json.loads(events[-1][1])) == ("error", TOO_LONG)
    probe.set("go")
    probe.wait("closed")
    wait_until_free(gateway)
    assert probe.notes == ["timeout"]


@both
@pytest.mark.parametrize("limit", ["timeout_s", "idle_chunk_timeout_s"])
def test_silence_in_a_text_stream_cuts_it(serve_wrapper: Serve, probe: Probe, is_async: bool, limit: str) -> None:
    gateway = serve_wrapper(HEAD + SILENT.format(limits=f"{limit}=0.3"))
    with connect(gateway.port) as connection:
        connection.post(body={"is_async": is_async, "events": False, "before": 1}).head()
        assert connection.until_cut() == b"a"
    probe.set("go")
    probe.wait("closed")
    wait_until_free(gateway)
    assert probe.notes == ["timeout"]


# A reader who does not read.

COUNTS = """
    class PipelineWrapper(BasePipelineWrapper):
        def run_api(self, is_async: bool, events: bool, chunks: int):
            generator = self.make_async(chunks) if is_async else self.make(chunks)
            return SSEStream(generator) if events else generator

        def make(self, chunks):
            try:
                for number in range(chunks):
                    probe.set("made")
                    yield f"{number:1000}"
            finally:
                probe.note(current_run().cause)
                probe.set("closed")

        async def make_async(self, chunks):
            try:
                for number in range(chunks):
                    probe.set("made")
                    yield f"{number:1000}"
            finally:
                await asyncio.sleep(0)
                probe.note(current_run().cause)
                probe.set("closed")
"""


@both
@formats
def test_stalled_reader_stops_the_producer_and_loses_its_stream(
    serve_wrapper: Serve, probe: Probe, is_async: bool, events: bool
) -> None:
    gateway = serve_wrapper(HEAD + COUNTS, send_timeout_s=0.5)
    with connect(gateway.port, receive_buffer=4096) as connection:
        connection.post(body={"is_async": is_async, "events": events, "chunks": 100_000})
        probe.wait("closed")
        wait_until_free(gateway)
        # 100 MB would have come; the buffers of stream, transport and kernel hold a few.
        assert 300 < probe.count("made") < 20_000
        assert probe.notes == ["disconnect"]
        connection.head()
        with pytest.raises(Cut):
            list(connection.pieces())


@both
@formats
def test_slow_reader_gets_everything_of_a_fast_producer(
    serve_wrapper: Serve, probe: Probe, is_async: bool, events: bool
) -> None:
    gateway = serve_wrapper(HEAD + COUNTS, stream_buffer_chunks=8)
    with connect(gateway.port, receive_buffer=4096) as connection:
        connection.post(body={"is_async": is_async, "events": events, "chunks": 20_000}).head()
        first = connection.piece()
        stalled = 0
        while stalled != (stalled := probe.count("made")):  # until the producer stands
            probes.threading.Event().wait(0.05)
        assert stalled < 20_000
        body = first + connection.body()
    expected = [f"{number:1000}" for number in range(20_000)]
    assert (
        (body == "".join(f"data: {data}\n\n" for data in expected).encode())
        if events
        else (body == "".join(expected).encode())
    )
    probe.wait("closed")
    assert probe.notes == [None]


def test_reader_of_a_whole_stream_chunk_by_chunk_is_not_timed_out(serve_wrapper: Serve, probe: Probe) -> None:
    # The limit is on one write, not on the stream.
    gateway = serve_wrapper(
        source("for number in range(6):\n    probe.wait('ask', number + 1)\n    yield str(number)"), send_timeout_s=0.1
    )
    pause = probes.threading.Event()
    with connect(gateway.port) as connection:
        connection.post()
        for number in range(6):
            pause.wait(0.05)
            probe.set("ask")
            if number == 0:
                connection.head()
            assert connection.piece() == str(number).encode()
        assert connection.piece() == b""


def test_reader_who_takes_nothing_of_a_wrappers_own_response_loses_it(serve_wrapper: Serve) -> None:
    gateway = serve_wrapper(
        """
        from starlette.responses import Response
        from gateway import BasePipelineWrapper, Limits

        class PipelineWrapper(BasePipelineWrapper):
            limits = Limits(max_concurrency=1)

            def run_api(self, size: int) -> Response:
                return Response(b"x" * size)
        """,
        send_timeout_s=0.3,
    )
    with connect(gateway.port, receive_buffer=4096) as stalled:
        stalled.post(body={"size": 30_000_000}).head()
        reply = requests.post(f"{gateway.url}/w/run", json={"size": 3}, timeout=20)
        assert (reply.status_code, reply.content) == (200, b"xxx")


def test_large_replies_arrive_whole(serve_wrapper: Serve) -> None:
    gateway = serve_wrapper(
        """
        from starlette.responses import Response
        from gateway import BasePipelineWrapper

        class PipelineWrapper(BasePipelineWrapper):
            def run_api(self, own: bool):
                text = "".join(map(str, range(500_000)))
                return Response(text) if own else text
        """
    )
    text = "".join(map(str, range(500_000)))
    own, whole = (requests.post(f"{gateway.url}/w/run", json={"own": own}, timeout=20) for own in (True, False))
    assert (own.text, whole.json()) == (text, {"result": text})
