"""`scripts/bench` on our own server, with durations that measure nothing: the table is complete and nothing is left."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOADS = ("json_sync", "json_async", "pipeline", "sse_sync", "sse_async")
STARTS = ("start", "rss", "pss", "lost")
DROPS = ("closed", "last", "probe", "probe_max")
KEYS = [
    *(f"{load}{suffix}" for load in LOADS for suffix in ("", "_cpu")),
    *(f"{start}{suffix}" for suffix in ("_light", "") for start in STARTS),
    "help",
    *(f"drop_{kind}_{drop}" for kind in ("sync", "async") for drop in DROPS),
    *("slow_probe", "slow_probe_max", "slow_all"),
]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory and CPU time are read from /proc"),
]


def bench(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/bench.py", "--no-peer", "--rounds", "1", "--seconds", "0.3", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_bench_without_peer_prints_every_row(tmp_path: Path) -> None:
    done = bench("--json", str(tmp_path / "figures.json"))

    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))["rows"]
    assert [row["key"] for row in rows] == KEYS
    assert {row["key"]: row["faults"] for row in rows if row["faults"]} == {}
    assert [row["key"] for row in rows if not row["figures"].get("ours")] == []
    closed = {row["key"]: row["figures"]["ours"] for row in rows if row["key"].endswith("_closed")}
    assert closed == {"drop_sync_closed": [20.0], "drop_async_closed": [20.0]}
    table = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert len(table) == len(KEYS) + 2
    assert {line.count("|") for line in table} == {9}
    assert done.stdout.count("Hayhooks was left out") == 1


def test_bench_without_wrk_uses_its_own_client(tmp_path: Path) -> None:
    options = ("--only", "json_async", "--only", "sse_async", "--json", str(tmp_path / "figures.json"))
    done = bench("--no-wrk", *options)

    assert done.returncode == 0, done.stderr
    assert "our own asyncio client" in done.stdout
    rows = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))["rows"]
    assert [(row["key"], row["faults"]) for row in rows if not row["key"].endswith("_cpu")] == [
        ("json_async", {}),
        ("sse_async", {}),
    ]


def test_bench_when_it_is_ended_leaves_no_server(tmp_path: Path) -> None:
    command = [sys.executable, "scripts/bench.py", "--no-peer", "--only", "json_async", "--seconds", "60"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "round 1" in line:
                break
        process.terminate()
        assert process.wait(30) == 130

    folders = [str(tmp_path).encode(), b"bench_parts"]
    left = [path.parent.name for path in Path("/proc").glob("[0-9]*/cmdline") if _names(path, folders)]
    assert left == []
    assert list(tmp_path.iterdir()) == []


def _names(path: Path, texts: list[bytes]) -> bool:
    try:
        command = path.read_bytes()
    except OSError:
        return False
    return any(text in command for text in texts)
