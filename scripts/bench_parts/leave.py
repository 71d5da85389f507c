"""Callers who leave, and slow runs: what becomes of the work, and how the live probe answers meanwhile."""

import json
import socket
import statistics
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

from bench_parts.contender import Server, request
from bench_parts.load import LoadFailed

CALLERS = 20
CHUNKS = 500
PAUSE_S = 0.02  # so that a stream which nobody closes goes on for CHUNKS * PAUSE_S = 10 s
BEGUN = b"data: token 2\n"  # a caller leaves when it has seen this
IN_TIME_S = 2.0
PATIENCE_S = 14.0
SLOW_RUNS = 100
SLOW_S = 2.0
WATCH_S = 1.8  # all slow runs are in hand for so long
REPLY_S = 60.0
PROBE_PAUSE_S = 0.005


@dataclass(frozen=True)
class Departure:
    """`closed`: generators that had ended within `IN_TIME_S`. `last_ms`: from the drop to the end of the last one."""

    closed: int
    last_ms: float
    probe_ms: list[float]


def drop_streams(server: Server, name: str) -> Departure:
    """Open `CALLERS` paced streams, drop them all, and watch. Raises `LoadFailed` when one never ends."""
    server.closed.unlink(missing_ok=True)
    body = json.dumps({"chunks": CHUNKS, "pause_s": PAUSE_S})
    with ExitStack() as stack:
        callers = [stack.enter_context(closing(_send(server.port, name, body))) for _ in range(CALLERS)]
        for caller in callers:
            _read_until(caller, BEGUN)
    dropped_s = time.monotonic()
    probe_ms = watch(server, IN_TIME_S)
    while len(ends := _ends(server.closed)) < CALLERS:
        if time.monotonic() - dropped_s > PATIENCE_S:
            raise LoadFailed(f"{CALLERS - len(ends)} of {CALLERS} generators had not ended after {PATIENCE_S:g} s")
        time.sleep(0.05)
    in_time = sum(end_s - dropped_s <= IN_TIME_S for end_s in ends)
    return Departure(in_time, (max(ends) - dropped_s) * 1000, probe_ms)


def run_slowly(server: Server) -> tuple[list[float], float]:
    """Start `SLOW_RUNS` sync runs that sleep; times of the live probe meanwhile, and seconds until all had answered."""
    body = json.dumps({"text": "hello", "pause_s": SLOW_S})
    begun_s = time.monotonic()
    with ExitStack() as stack:
        callers = [stack.enter_context(closing(_send(server.port, "json_sync", body))) for _ in range(SLOW_RUNS)]
        probe_ms = watch(server, WATCH_S)
        for caller in callers:
            reply = _read_until(caller, b"}}")
            if not reply.startswith(b"HTTP/1.1 200"):
                raise LoadFailed(f"a slow run got {reply[:40]!r}")
    return probe_ms, time.monotonic() - begun_s


def watch(server: Server, seconds: float) -> list[float]:
    """Milliseconds of each probe of a client that asks again `PROBE_PAUSE_S` after the last answer."""
    times_ms = []
    end_s = time.monotonic() + seconds
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=REPLY_S)) as connection:
        while (begun_s := time.monotonic()) < end_s:
            connection.request("GET", server.contender.live_path)
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                raise LoadFailed(f"{server.contender.live_path} answered {response.status}")
            times_ms.append((time.monotonic() - begun_s) * 1000)
            time.sleep(PROBE_PAUSE_S)
    return times_ms


def check_stream(server: Server, name: str) -> None:
    """One short paced stream to its end: it must be whole and must report its end. Raises `LoadFailed`."""
    server.closed.unlink(missing_ok=True)
    status, body = request(server.port, "POST", f"/{name}/run", '{"chunks": 5, "pause_s": 0.001}')
    if (status, body.count(b"data: ")) != (200, 5) or len(_ends(server.closed)) != 1:
        raise LoadFailed(f"its probe got status {status} and {body.count(b'data: ')} events of 5")


def median_and_max(times_ms: list[float]) -> tuple[float, float]:
    return statistics.median(times_ms), max(times_ms)


def _send(port: int, name: str, body: str) -> socket.socket:
    caller = socket.create_connection(("127.0.0.1", port), timeout=REPLY_S)
    head = f"POST /{name}/run HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    caller.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    return caller


def _read_until(caller: socket.socket, mark: bytes) -> bytes:
    seen = b""
    while mark not in seen:
        data = caller.recv(65536)
        if not data:
            raise LoadFailed(f"a reply ended early: {seen[-80:]!r}")
        seen += data
    return seen


def _ends(path: Path) -> list[float]:
    return [float(line) for line in path.read_text().splitlines()] if path.exists() else []
