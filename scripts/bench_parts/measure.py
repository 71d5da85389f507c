"""The measurements. Each takes turns, A B A B, and fills rows of the table."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from bench_parts import leave
from bench_parts.contender import NAMES, WITH_HAYSTACK, Contender, Server, StartFailed
from bench_parts.load import CONNECTIONS, WORKS, Generator, LoadFailed, Work
from bench_parts.machine import Cores, memory_bytes
from bench_parts.table import Row

MIB = 1024 * 1024
WARM_UP_S = 1.0
IDLE_S = 1.0
WATCHED_ROUNDS = 3  # of what takes its time and tells the same each time
FAULTS = (LoadFailed, StartFailed, OSError, HTTPException)


@dataclass(frozen=True)
class Bench:
    """What every measurement needs."""

    contenders: Sequence[Contender]
    cores: Cores
    seconds: float
    rounds: int
    is_wrk: bool

    def serve(self, stack: ExitStack, contender: Contender, names: frozenset[str] = NAMES) -> Server:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        return stack.enter_context(Server(contender, self.cores, folder, names))

    def serve_all(self, stack: ExitStack, rows: Sequence[Row], *, with_bare: bool) -> list[Server]:
        """Those that start; a fault in each row for the others."""
        servers = []
        for contender in self.contenders:
            if with_bare or contender.name != "bare":
                try:
                    servers.append(self.serve(stack, contender))
                except StartFailed as error:
                    _fail_all(rows, contender.name, error)
        return servers

    def take_turns(
        self, rounds: int, servers: Sequence[Server], rows: Sequence[Row], one: Callable[[Server], None]
    ) -> None:
        """`one` for each server in turn; one that fails is named in the rows and left out of the rest."""
        failed: set[str] = set()
        for number in range(rounds):
            say(f"{rows[0].label}: round {number + 1} of {rounds}")
            for server in servers:
                name = server.contender.name
                if name in failed:
                    continue
                try:
                    one(server)
                except FAULTS as error:
                    failed.add(name)
                    _fail_all(rows, name, error)


def measure_load(bench: Bench, names: Sequence[str]) -> list[Row]:
    """Replies a second, and the server's CPU time for each."""
    rows: list[Row] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        generator = Generator(folder, is_wrk=bench.is_wrk)
        works = [work for work in WORKS if work.name in names]
        pairs = [(work, _load_rows(work)) for work in works]
        rows = [row for _, pair in pairs for row in pair]
        servers = bench.serve_all(stack, rows, with_bare=True)
        for work, (rate, cpu) in pairs:

            def one(server: Server, work: Work = work, rate: Row = rate, cpu: Row = cpu) -> None:
                load = generator.run(server, work, bench.seconds)
                rate.add(server.contender.name, load.rate)
                cpu.add(server.contender.name, load.cpu_ms)

            doers = [server for server in servers if work.has_bare or server.contender.name != "bare"]
            for server in doers:
                try:
                    generator.run(server, work, min(WARM_UP_S, bench.seconds))
                except FAULTS as error:
                    say(f"{server.contender.title}, warm-up of {work.name}: {error}")
            bench.take_turns(bench.rounds, doers, (rate, cpu), one)
    return rows


def _load_rows(work: Work) -> tuple[Row, Row]:
    unit = "streams/s" if work.chunks else "requests/s"
    return (
        Row(work.name, f"{work.label}, {CONNECTIONS} connections", unit, is_more_better=True),
        Row(f"{work.name}_cpu", f"{work.label}: the server's CPU time for one", "ms"),
    )


def measure_start(bench: Bench) -> list[Row]:
    """Process start to ready, and what it holds a moment later, without and with a wrapper that imports Haystack."""
    light = _measure_start(bench, NAMES - WITH_HAYSTACK, "_light", "no wrapper imports Haystack")
    return light + _measure_start(bench, NAMES, "", "one wrapper imports Haystack")


def _measure_start(bench: Bench, names: frozenset[str], suffix: str, what: str) -> list[Row]:
    """The first start of each warms the disk and is not counted."""
    start = Row(f"start{suffix}", f"start to ready, {len(names)} wrappers; {what}", "s")
    rss = Row(f"rss{suffix}", f"memory when idle, RSS; {what}", "MiB")
    pss = Row(f"pss{suffix}", f"memory when idle, PSS; {what}", "MiB")
    lost = Row(f"lost{suffix}", f"starts that came up without one of the {len(names)} wrappers", "%")
    rows = (start, rss, pss, lost)
    tried = dict.fromkeys((contender.name for contender in bench.contenders if contender.name != "bare"), 0)
    losses = dict(tried)
    for number in range(bench.rounds + 1):
        say(f"{start.label}: round {number} of {bench.rounds}")
        for contender in bench.contenders:
            if contender.name in start.faults or (contender.name == "bare" and names & WITH_HAYSTACK):
                continue
            try:
                with ExitStack() as stack:
                    server = bench.serve(stack, contender, names)
                    if contender.name in tried:
                        losses[contender.name] += server.lost
                        tried[contender.name] += server.lost + 1
                    if number:
                        _note_start(server, start, rss, pss)
            except FAULTS as error:
                _fail_all(rows, contender.name, error)
    for name, count in tried.items():
        lost.add(name, 100 * losses[name] / count if count else None)
    return list(rows)


def _note_start(server: Server, start: Row, rss: Row, pss: Row) -> None:
    name = server.contender.name
    time.sleep(IDLE_S)
    start.add(name, server.start_s)
    if (held := memory_bytes(server.pid)) is not None:
        rss.add(name, held[0] / MIB)
        pss.add(name, held[1] / MIB)


def measure_help(bench: Bench) -> list[Row]:
    row = Row("help", "`--help`, process start to exit", "ms")
    for number in range(2 * bench.rounds + 1):
        say(f"{row.label}: round {number} of {2 * bench.rounds}")
        for contender in bench.contenders:
            if contender.help is None:
                continue
            begun_s = time.monotonic()
            done = subprocess.run([*bench.cores.prefix, *contender.help], capture_output=True, stdin=subprocess.DEVNULL)
            taken_s = time.monotonic() - begun_s
            if done.returncode:
                row.fail(contender.name, f"exit code {done.returncode}")
            elif number:
                row.add(contender.name, taken_s * 1000)
    return [row]


def measure_drop(bench: Bench, name: str, kind: str) -> list[Row]:
    """20 callers who leave in the middle of a paced stream."""
    what = f"{leave.CALLERS} dropped {kind} streams"
    closed = Row(f"drop_{kind}_closed", f"{what}: generators closed within 2 s", "of 20", is_more_better=True)
    last = Row(f"drop_{kind}_last", f"{what}: until the last was closed", "ms")
    median = Row(f"drop_{kind}_probe", f"{what}: live probe meanwhile, median", "ms")
    worst = Row(f"drop_{kind}_probe_max", f"{what}: live probe meanwhile, slowest", "ms")
    rows = (closed, last, median, worst)

    def one(server: Server) -> None:
        contender = server.contender.name
        leave.check_stream(server, name)
        departure = leave.drop_streams(server, name)
        median_ms, max_ms = leave.median_and_max(departure.probe_ms)
        closed.add(contender, departure.closed)
        last.add(contender, departure.last_ms)
        median.add(contender, median_ms)
        worst.add(contender, max_ms)

    with ExitStack() as stack:
        servers = bench.serve_all(stack, rows, with_bare=False)
        bench.take_turns(min(bench.rounds, WATCHED_ROUNDS), servers, rows, one)
    return list(rows)


def measure_slow(bench: Bench) -> list[Row]:
    """100 sync runs in hand."""
    what = f"{leave.SLOW_RUNS} sync runs of {leave.SLOW_S:g} s"
    median = Row("slow_probe", f"{what}: live probe meanwhile, median", "ms")
    worst = Row("slow_probe_max", f"{what}: live probe meanwhile, slowest", "ms")
    taken = Row("slow_all", f"{what}: until all had answered", "s")
    rows = (median, worst, taken)

    def one(server: Server) -> None:
        probe_ms, taken_s = leave.run_slowly(server)
        median_ms, max_ms = leave.median_and_max(probe_ms)
        median.add(server.contender.name, median_ms)
        worst.add(server.contender.name, max_ms)
        taken.add(server.contender.name, taken_s)

    with ExitStack() as stack:
        servers = bench.serve_all(stack, rows, with_bare=False)
        bench.take_turns(min(bench.rounds, WATCHED_ROUNDS), servers, rows, one)
    return list(rows)


def _fail_all(rows: Sequence[Row], name: str, error: BaseException) -> None:
    say(f"{name}: {error}")
    for row in rows:
        row.fail(name, str(error) or type(error).__name__)


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)
