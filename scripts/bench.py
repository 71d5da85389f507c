"""This gateway beside Hayhooks and beside bare Starlette on the same Hypercorn: one Markdown table of ratios.

Progress goes to stderr, the table to stdout. No server is left behind, however it ends.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from bench_parts.contender import Contender, bare, ours, theirs
from bench_parts.environment import HAYHOOKS, PeerMissing, prepare_hayhooks, read_versions
from bench_parts.load import WORKS
from bench_parts.machine import choose_cores, cpu_model
from bench_parts.measure import Bench, measure_drop, measure_help, measure_load, measure_slow, measure_start, say
from bench_parts.table import Row, render

ROOT = Path(__file__).resolve().parent.parent
LOADS = tuple(work.name for work in WORKS)
OTHERS: dict[str, Callable[[Bench], list[Row]]] = {
    "start": measure_start,  # and memory
    "help": measure_help,
    "drop_sync": lambda bench: measure_drop(bench, "sse_sync", "sync"),
    "drop_async": lambda bench: measure_drop(bench, "sse_async", "async"),
    "slow": measure_slow,
}


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    known = (*LOADS, *OTHERS)
    parser.add_argument("--seconds", type=float, default=4.0, help="of load in each round (4; wrk takes whole ones)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each server (5)")
    parser.add_argument("--only", action="append", choices=known, help="measure this; may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure of every round there too")
    parser.add_argument("--no-peer", action="store_true", help="leave Hayhooks out")
    parser.add_argument("--no-wrk", action="store_true", help="use our own client although wrk is there")
    args = parser.parse_args(argv)
    if args.seconds <= 0 or args.rounds < 1:
        parser.error("--seconds and --rounds must be positive")
    args.only = args.only or list(known)
    return args


def find_contenders(*, with_peer: bool) -> tuple[list[Contender], dict[str, dict[str, str]], list[str]]:
    """Who is there, their packages, and what to say about who is not."""
    contenders, notes = [ours()], []
    versions = {"ours and bare": read_versions(Path(sys.executable))}
    if with_peer:
        try:
            python = prepare_hayhooks(ROOT / ".bench" / f"hayhooks-{HAYHOOKS}")
            contenders.append(theirs(python))
            versions["Hayhooks"] = read_versions(python)
        except PeerMissing as error:
            notes.append(f"Hayhooks is missing: {error}")
    else:
        notes.append("Hayhooks was left out (--no-peer)")
    return [*contenders, bare()], versions, notes


def describe(bench: Bench, versions: dict[str, dict[str, str]], notes: list[str]) -> list[str]:
    """The lines above the table."""
    client = _wrk_version() if bench.is_wrk else "our own asyncio client"
    if not bench.is_wrk and shutil.which("wrk") is None:
        client += ", because wrk is not installed (Debian: apt install wrk)"
    packages = [
        f"{who}: {', '.join(f'{name} {version}' for name, version in of.items())}" for who, of in versions.items()
    ]
    return [
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {cpu_model()}, {os.cpu_count()} cores, load average before:"
        f" {os.getloadavg()[0]:.1f}",
        *packages,
        f"client: {client}; {bench.cores.describe()}",
        f"medians of {bench.rounds} rounds of {bench.seconds:g} s, the servers taking turns; spread: half of highest"
        " minus lowest, of the median",
        "default settings, one worker each, access logs into a file (bare: none)",
        *notes,
    ]


def _wrk_version() -> str:
    done = subprocess.run(["wrk", "-v"], capture_output=True, text=True)
    return " ".join((done.stdout + done.stderr).split()[:2])


def measure(bench: Bench, names: list[str]) -> list[Row]:
    loads = [name for name in LOADS if name in names]
    rows = measure_load(bench, loads) if loads else []
    for name, function in OTHERS.items():
        if name in names:
            rows += function(bench)
    return rows


def interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(argv: list[str]) -> int:
    args = parse(argv)
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell's background job has SIGINT ignored
        signal.signal(number, interrupt)
    contenders, versions, notes = find_contenders(with_peer=not args.no_peer)
    for note in notes:
        say(note)
    cores = choose_cores()
    cores.pin_client()
    is_wrk = shutil.which("wrk") is not None and not args.no_wrk
    bench = Bench(contenders, cores, args.seconds, args.rounds, is_wrk)
    head = describe(bench, versions, notes)
    rows = measure(bench, args.only)
    print("\n".join(f"- {line}" for line in head), render(rows), sep="\n\n")
    if args.json:
        report: dict[str, Any] = {"about": head, "versions": versions, "rows": [row.as_dict() for row in rows]}
        args.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 1 if any("ours" in row.faults for row in rows) else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(130)
