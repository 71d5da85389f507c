"""The machine: cores, ports, and what a tree of processes has used. Memory and CPU time are read on Linux only."""

import os
import platform
import shutil
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
KIB = 1024


@dataclass(frozen=True)
class Cores:
    """The core of the servers and the one of the client; None where nothing can be pinned."""

    server: int | None
    client: int | None

    @property
    def prefix(self) -> list[str]:
        """What a server's command line begins with."""
        return [] if self.server is None else ["taskset", "-c", str(self.server)]

    def pin_client(self) -> None:
        """Pin this process, and the load generators that it starts."""
        if self.client is not None:
            os.sched_setaffinity(0, {self.client})

    def describe(self) -> str:
        if self.server is None:
            return "nothing pinned: it takes two cores and taskset; servers and client share what there is"
        return f"servers pinned to core {self.server}, client to core {self.client} (taskset)"


def choose_cores() -> Cores:
    if not hasattr(os, "sched_getaffinity") or shutil.which("taskset") is None:
        return Cores(None, None)
    usable = sorted(os.sched_getaffinity(0))
    return Cores(usable[0], usable[1]) if len(usable) > 1 else Cores(None, None)


def cpu_model() -> str:
    with suppress(OSError):
        for line in (PROC / "cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def process_tree(pid: int) -> list[int]:
    """`pid` and all that descend from it; empty where there is no /proc."""
    children: dict[int, list[int]] = {}
    for folder in PROC.glob("[0-9]*"):
        fields = _stat(int(folder.name))
        if fields:
            children.setdefault(int(fields[1]), []).append(int(folder.name))
    tree = [pid] if (PROC / str(pid)).exists() else []
    for parent in tree:
        tree += children.get(parent, [])
    return tree


def cpu_seconds(pid: int) -> float | None:
    """User and system time of the tree of `pid` so far."""
    stats = [fields for process in process_tree(pid) if (fields := _stat(process))]
    if not stats:
        return None
    ticks = sum(int(fields[11]) + int(fields[12]) for fields in stats)
    return ticks / int(os.sysconf("SC_CLK_TCK"))


def memory_bytes(pid: int) -> tuple[int, int] | None:
    """RSS and PSS of the tree of `pid`."""
    rss = pss = 0
    for process in process_tree(pid):
        with suppress(OSError):
            for line in (PROC / str(process) / "smaps_rollup").read_text().splitlines():
                name, _, rest = line.partition(":")
                if name == "Rss":
                    rss += int(rest.split()[0]) * KIB
                elif name == "Pss":
                    pss += int(rest.split()[0]) * KIB
    return (rss, pss) if rss else None


def _stat(pid: int) -> list[str]:
    """The fields of proc(5) `stat` from the third on, those behind the name, which may hold anything."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
