"""Load on one path of a server: by wrk where it is there, else by a client of our own."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bench_parts.contender import Server, request
from bench_parts.machine import cpu_seconds

CONNECTIONS = 32
REPLY_S = 10.0
SETTLE_S = 0.3  # for what the last load left in the server: the replies that nobody has waited for
WRK_SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = os.getenv("BENCH_BODY")
function done(summary, latency, requests)
    local e = summary.errors
    io.write(string.format('\\n{"replies": %d, "bytes": %d, "errors": %d, "seconds": %f}\\n', summary.requests,
        summary.bytes, e.connect + e.read + e.write + e.status + e.timeout, summary.duration / 1e6))
end
"""


class LoadFailed(Exception):
    """The figures would not mean what they seem to."""


@dataclass(frozen=True)
class Work:
    """A path, what is sent to it, and what each reply must be.

    `chunks`: data events of a stream, 0 = a whole reply. `has_bare`: the yardstick does it too.
    """

    name: str
    label: str
    body: str
    chunks: int = 0
    has_bare: bool = True

    @property
    def path(self) -> str:
        return f"/{self.name}/run"

    def check(self, port: int) -> int:
        """Probe once; give the length of the right body. Raises `LoadFailed`."""
        status, body = request(port, "POST", self.path, self.body)
        if status != 200:
            raise LoadFailed(f"its probe got status {status}")
        if self.chunks:
            right = b"".join(b"data: token %d\n\n" % number for number in range(self.chunks))
            if body != right:
                raise LoadFailed(f"its probe got {body.count(b'data: ')} events where {self.chunks} are right")
        elif json.loads(body) != {"result": {"answer": "You said: hello", "top_k": 3}}:
            raise LoadFailed(f"its probe got {body[:80]!r}")
        return len(body)


WORKS = (
    Work("json_sync", "JSON run, sync", '{"text": "hello", "top_k": 3}'),
    Work("json_async", "JSON run, async", '{"text": "hello", "top_k": 3}'),
    Work("pipeline", "JSON run of a Haystack pipeline, sync", '{"text": "hello", "top_k": 3}', has_bare=False),
    Work("sse_sync", "SSE stream of 100 chunks, sync", '{"chunks": 100}', 100),
    Work("sse_async", "SSE stream of 100 chunks, async", '{"chunks": 100}', 100),
)


@dataclass(frozen=True)
class Load:
    """What one stretch of load gave. `cpu_ms`: the server's CPU time for each reply, None where it cannot be read."""

    rate: float
    cpu_ms: float | None


class Generator:
    """Puts load on a path. `folder`: for wrk's script. `is_wrk`: False when it is not there or not wanted."""

    def __init__(self, folder: Path, *, is_wrk: bool) -> None:
        self.is_wrk = is_wrk and shutil.which("wrk") is not None
        self._script = folder / "wrk.lua"
        self._script.write_text(WRK_SCRIPT)

    def run(self, server: Server, work: Work, seconds: float) -> Load:
        """Raises `LoadFailed` when a reply was not 2xx, came short, or a connection broke."""
        length = work.check(server.port)
        before_s = cpu_seconds(server.pid)
        figures = self._generate(server.port, work, seconds)
        after_s = cpu_seconds(server.pid)
        replies = int(figures["replies"])
        if figures["errors"]:
            raise LoadFailed(f"{int(figures['errors'])} replies were not 2xx or broke off")
        if not replies or figures["bytes"] < replies * length:
            raise LoadFailed(f"{replies} replies of {length} bytes cannot be in {int(figures['bytes'])} bytes")
        time.sleep(SETTLE_S)
        cpu_ms = None if before_s is None or after_s is None else (after_s - before_s) * 1000 / replies
        return Load(replies / figures["seconds"], cpu_ms)

    def _generate(self, port: int, work: Work, seconds: float) -> dict[str, float]:
        if self.is_wrk:
            url = f"http://127.0.0.1:{port}{work.path}"
            whole = f"{max(1, round(seconds))}s"  # it knows no fractions
            command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{whole}", f"--timeout={REPLY_S:g}s"]
            command += ["-s", str(self._script), url]
        else:
            client = str(Path(__file__).with_name("client.py"))
            command = [sys.executable, client, str(port), work.path, work.body, str(seconds), str(CONNECTIONS)]
        environment = {**os.environ, "BENCH_BODY": work.body}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=seconds + 60)
        if done.returncode:
            raise LoadFailed(f"{command[0]} failed: {done.stderr.strip()[-200:]}")
        figures: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
        return figures
