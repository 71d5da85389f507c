"""The supervisor: first alone, with workers that only do what they are told; then `gateway run --workers N` whole."""

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import requests
import structlog

from gateway import supervisor
from gateway.server import bind
from gateway.settings import Settings
from gateway.state import State
from gateway.supervisor import Supervisor
from tests.gateways import START_S, Process, spawn, write_wrapper
from tests.probe import descriptors, eventually
from tests.wire import connect

# Stands in for `gateway.asgi`. It leaves a file for each thing that happens to it: `<number>.<pid>.<what>`.
WORKER = """
    import json, os, signal, sys, time
    from pathlib import Path

    told = json.loads(os.environ.pop("GATEWAY_WORKER"))
    kind = os.environ["KIND"]

    def note(what):
        Path(os.environ["NOTES"], f"{time.monotonic_ns():020}.{os.getpid()}.{what}").touch()

    def on_signal(number, _frame):
        note(signal.Signals(number).name)
        if kind != "deaf":
            sys.exit(0)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, on_signal)
    note(f"{told['role']}.{told['settings']['max_queue']}")
    if kind == "exits":
        sys.exit(3)
    if kind == "strict":
        sys.exit(78)
    if kind != "loads":
        os.write(told["ready"], b"1")
    if kind == "forks" and os.fork() == 0:
        time.sleep(60)
    if kind == "ends":
        sys.exit(4)
    while True:
        signal.pause()
"""


class Notes:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def all(self) -> list[tuple[int, str]]:
        """`(pid, what)`, in the order in which it happened."""
        found = (name.split(".", 2) for name in sorted(path.name for path in self.folder.iterdir()))
        return [(int(pid), what) for _, pid, what in found]

    def begun(self, what: str = "") -> list[int]:
        return [pid for pid, noted in self.all() if noted.startswith(what or ("first", "replacement", "renewal"))]

    def of(self, pid: int) -> list[str]:
        return [what for each, what in self.all() if each == pid]


class Lab:
    """A supervisor in this process. `log`: what it has said."""

    def __init__(self, folder: Path, log: list[dict[str, Any]]) -> None:
        self.notes = Notes(folder / "notes")
        self.log = log
        self.settings = Settings(port=0, wrappers_dir=folder, max_queue=1)
        self.state = State(folder / "state")
        self._path = folder / "path"
        (self._path / "gateway").mkdir(parents=True)
        (self._path / "gateway" / "__init__.py").touch()
        (self._path / "gateway" / "asgi.py").write_text(dedent(WORKER))

    def environ(self, kind: str) -> dict[str, str]:
        return {"PYTHONPATH": str(self._path), "KIND": kind, "NOTES": str(self.notes.folder)}

    def run(self, kind: str, act: Callable[[Supervisor], Awaitable[object]], **settings: Any) -> int:
        """The exit code, when `act` has come to its end and the supervisor was told to stop."""

        async def main() -> int:
            lock = self.state.lock()
            with bind(self.settings) as listener:
                told = self.settings.model_copy(update=settings)
                subject = Supervisor(told, self.environ(kind), listener, self.state, lock)
                running = asyncio.create_task(subject.run())
                try:
                    async with asyncio.timeout(START_S):
                        await act(subject)
                        if not subject._stop.is_set():  # a second signal would end this process
                            os.kill(os.getpid(), signal.SIGTERM)
                        return await running
                finally:
                    self.end()
                    os.close(lock)

        return asyncio.run(main())

    async def until(self, condition: Callable[[], Any], what: str) -> None:
        await asyncio.to_thread(eventually, condition, what)

    async def until_begun(self, count: int, what: str = "") -> list[int]:
        await self.until(lambda: len(self.notes.begun(what)) >= count, f"{count} workers {what}")
        return self.notes.begun(what)

    def end(self) -> None:
        for pid in self.notes.begun():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.state.close()

    @property
    def lines(self) -> list[dict[str, Any]]:
        """But for the one that every gateway begins with."""
        return [line for line in self.log if line["event"] != "listening"]

    def said(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.log if line["event"] == event]


DIED = "a worker has died and is replaced"


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.chdir(tmp_path)  # away from the gateway's own sources
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(tmp_path))])
    monkeypatch.setattr(supervisor, "BACKOFF_S", (0.0, 0.01, 0.02, 0.03, 0.04))
    with structlog.testing.capture_logs() as log:
        yield Lab(tmp_path, log)


def test_workers_begin_and_leave(lab: Lab) -> None:
    async def act(subject: Supervisor) -> None:
        await lab.until_begun(3)

    assert lab.run("serves", act, workers=3) == 0
    assert sorted(what for _, what in lab.notes.all()) == ["SIGTERM"] * 3 + ["first.1"] * 3
    assert lab.lines == []


def test_back_off_grows_with_each_worker_that_does_not_live(lab: Lab) -> None:
    async def act(subject: Supervisor) -> None:
        await lab.until_begun(8)

    lab.run("exits", act)
    died = lab.said(DIED)
    assert [line["after_s"] for line in died[:7]] == [0.01, 0.02, 0.03, 0.04, 0.04, 0.04, 0.04]
    assert [(line["pid"], line["code"]) for line in died[:7]] == [(pid, 3) for pid in lab.notes.begun()[:7]]
    assert len(lab.notes.begun("first")) == len(lab.notes.begun())


def test_back_off_begins_anew_after_a_worker_that_has_lived(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "HEALTHY_S", 0.0)

    async def act(subject: Supervisor) -> None:
        await lab.until_begun(4)

    lab.run("exits", act)
    assert [line["after_s"] for line in lab.said(DIED)[:3]] == [0.0] * 3


def test_worker_that_dies_has_a_successor_of_its_kind(lab: Lab) -> None:
    """A replacement waits until it has loaded, which is of use only where others serve."""

    async def act(subject: Supervisor) -> None:
        one, _ = await lab.until_begun(2)
        os.kill(one, signal.SIGKILL)
        await lab.until_begun(1, "replacement")

    lab.run("serves", act, workers=2)
    assert [lab.notes.of(pid)[0] for pid in lab.notes.begun()] == ["first.1"] * 2 + ["replacement.1"]
    assert [line["code"] for line in lab.said(DIED)] == [-signal.SIGKILL]


def test_worker_that_has_not_loaded_is_no_reason_to_wait(lab: Lab) -> None:
    async def act(subject: Supervisor) -> None:
        one, _ = await lab.until_begun(2)
        os.kill(one, signal.SIGKILL)
        await lab.until_begun(3)

    lab.run("loads", act, workers=2)
    assert len(lab.notes.begun("first")) == 3


def test_descriptors_do_not_grow_with_each_death(lab: Lab) -> None:
    async def act(subject: Supervisor) -> None:
        await lab.until_begun(1)
        before = descriptors()
        for count in range(20):
            os.kill(lab.notes.begun()[-1], signal.SIGKILL)
            await lab.until_begun(count + 2)
        await lab.until(lambda: descriptors() <= before, f"{before} descriptors")

    assert lab.run("serves", act) == 0
    assert len(lab.said(DIED)) == 20


def test_process_that_a_worker_has_forked_holds_up_nothing(lab: Lab) -> None:
    """It has the other end of the pipe in which a worker tells that it has loaded."""
    children: list[int] = []

    async def act(subject: Supervisor) -> None:
        (first,) = await lab.until_begun(1)
        children.extend(await asyncio.to_thread(children_of, first))
        os.kill(first, signal.SIGKILL)
        (_, second) = await lab.until_begun(2)
        children.extend(await asyncio.to_thread(children_of, second))

    try:
        assert lab.run("forks", act) == 0
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)


def children_of(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    eventually(path.read_text, "a child")
    return [int(child) for child in path.read_text().split()]


def test_worker_that_cannot_be_started_is_tried_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    python = sys.executable
    failed = "a worker could not be started"

    async def act(subject: Supervisor) -> None:
        (first,) = await lab.until_begun(1)
        monkeypatch.setattr(sys, "executable", str(lab.notes.folder / "gone"))
        before = descriptors()
        os.kill(first, signal.SIGKILL)
        await lab.until(lambda: len(lab.said(failed)) >= 3, failed)
        monkeypatch.setattr(sys, "executable", python)
        await lab.until_begun(2)
        await lab.until(lambda: descriptors() <= before, f"{before} descriptors")

    assert lab.run("serves", act) == 0
    assert [(line["after_s"], "gone" in line["reason"]) for line in lab.said(failed)[:3]] == [
        (0.02, True),
        (0.03, True),
        (0.04, True),
    ]


def test_first_workers_that_cannot_be_started_are_tried_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    python = sys.executable
    monkeypatch.setattr(sys, "executable", str(lab.notes.folder / "gone"))

    async def act(subject: Supervisor) -> None:
        await lab.until(lambda: len(lab.said("a worker could not be started")) >= 3, "attempts")
        monkeypatch.setattr(sys, "executable", python)
        await lab.until_begun(2)

    assert lab.run("serves", act, workers=2) == 0


def test_worker_is_replaced_though_it_cannot_be_forgotten(lab: Lab) -> None:
    async def act(subject: Supervisor) -> None:
        (first,) = await lab.until_begun(1)
        with lab.state.transaction() as rows:
            rows.execute("DROP TABLE workers")
        os.kill(first, signal.SIGKILL)
        await lab.until_begun(2)

    assert lab.run("serves", act) == 0
    line = lab.said("a worker that has ended could not be forgotten")[0]
    assert (line["pid"], line["reason"]) == (lab.notes.begun()[0], "no such table: workers")


def test_strict_ends_all_while_nobody_serves(lab: Lab) -> None:
    async def act(subject: Supervisor) -> None:
        await subject._stop.wait()

    assert lab.run("strict", act, workers=2) == 1
    assert (lab.lines, living(lab.notes.begun())) == ([], [])


def living(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_strict_of_a_replacement_does_not_end_who_serves(lab: Lab) -> None:
    async def act(subject: Supervisor) -> None:
        one, other = await lab.until_begun(2)
        subject._environ = lab.environ("strict")
        os.kill(one, signal.SIGKILL)
        await lab.until_begun(3, "replacement")
        assert living([other]) == [other]

    assert lab.run("serves", act, workers=2) == 0
    assert [line["code"] for line in lab.said(DIED)[:3]] == [-signal.SIGKILL, 78, 78]


# A renewal.
def renew(lab: Lab, subject: Supervisor, kind: str = "serves", max_queue: int = 2) -> Awaitable[None]:
    return subject.renew(lab.settings.model_copy(update={"max_queue": max_queue, "workers": 2}), lab.environ(kind))


def test_renewal_takes_one_worker_after_the_other(lab: Lab) -> None:
    async def act(subject: Supervisor) -> None:
        await lab.until_begun(2)
        await renew(lab, subject)
        await lab.until(lambda: [what for _, what in lab.notes.all()].count("SIGHUP") == 2, "the end of both")

    assert lab.run("serves", act, workers=2) == 0
    found = [what for _, what in lab.notes.all()]
    assert found[:3] == ["first.1", "first.1", "renewal.2"]
    assert sorted(found[3:6]) == ["SIGHUP", "SIGHUP", "renewal.2"]
    assert found[6:] == ["SIGTERM", "SIGTERM"]
    assert lab.lines == [{"event": "workers renewed", "workers": 2, "log_level": "info"}]


def test_what_dies_after_a_renewal_begins_with_the_new_settings(lab: Lab) -> None:
    async def act(subject: Supervisor) -> None:
        await lab.until_begun(2)
        await renew(lab, subject)
        os.kill(lab.notes.begun("renewal")[0], signal.SIGKILL)
        await lab.until_begun(1, "replacement.2")

    assert lab.run("serves", act, workers=2) == 0


@pytest.mark.parametrize("kind", ["exits", "strict", "unstartable"])
def test_successor_that_does_not_start_leaves_all_as_it_was(
    lab: Lab, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = sys.executable

    async def act(subject: Supervisor) -> None:
        before = await lab.until_begun(2)
        if kind == "unstartable":
            monkeypatch.setattr(sys, "executable", str(lab.notes.folder / "gone"))
        await renew(lab, subject, kind)
        monkeypatch.setattr(sys, "executable", python)
        assert living(before) == before
        os.kill(before[0], signal.SIGKILL)
        await lab.until_begun(1, "replacement.1")  # with the settings that were before

    assert lab.run("serves", act, workers=2) == 0
    renewals = [] if kind == "unstartable" else ["renewal.2"]
    assert [lab.notes.of(pid)[0] for pid in lab.notes.begun()] == ["first.1"] * 2 + renewals + ["replacement.1"]
    assert len(lab.said("a new worker did not start: the others go on as they are")) == 1
    assert len(lab.said(DIED)) == 1


def test_renewal_that_was_refused_can_be_tried_again(lab: Lab) -> None:
    async def act(subject: Supervisor) -> None:
        await lab.until_begun(2)
        await renew(lab, subject, "exits")
        await renew(lab, subject, max_queue=3)

    assert lab.run("serves", act, workers=2) == 0
    assert [lab.notes.of(pid)[0] for pid in lab.notes.begun()][2:] == ["renewal.2", "renewal.3", "renewal.3"]


def test_worker_that_dies_while_its_successor_starts_is_not_replaced_twice(lab: Lab) -> None:
    async def act(subject: Supervisor) -> None:
        (first,) = await lab.until_begun(1)
        renewing = asyncio.ensure_future(renew(lab, subject, "loads"))
        (successor,) = await lab.until_begun(1, "renewal")
        os.kill(first, signal.SIGKILL)
        await lab.until(lambda: len(subject._watching) == 1, "the end of the first")
        os.kill(successor, signal.SIGKILL)  # and now there is nobody
        await renewing
        await lab.until_begun(3)

    assert lab.run("serves", act) == 0
    assert [lab.notes.of(pid)[0] for pid in lab.notes.begun()] == ["first.1", "renewal.2", "first.1"]


def test_stop_in_the_middle_of_a_renewal(lab: Lab) -> None:
    renewing: list[asyncio.Future[None]] = []

    async def act(subject: Supervisor) -> None:
        await lab.until_begun(2)
        renewing.append(asyncio.ensure_future(renew(lab, subject, "loads")))
        await lab.until_begun(1, "renewal")

    assert lab.run("serves", act, workers=2) == 0
    assert [[*lab.notes.of(pid)[1:]] for pid in lab.notes.begun()] == [["SIGTERM"]] * 3
    assert (living(lab.notes.begun()), lab.lines) == ([], [])


def test_worker_that_was_asked_to_leave_is_not_asked_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "KILL_AFTER_S", 0.5)

    async def act(subject: Supervisor) -> None:
        await lab.until_begun(1)
        await renew(lab, subject)
        await lab.until(lambda: "SIGHUP" in [what for _, what in lab.notes.all()], "the leave of the first")

    assert lab.run("deaf", act, shutdown_timeout_s=0.0) == 0
    assert lab.notes.of(lab.notes.begun("first")[0]) == ["first.1", "SIGHUP"]


@pytest.mark.parametrize("is_renewal", [False, True])
def test_worker_that_does_not_leave_is_killed(lab: Lab, is_renewal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "KILL_AFTER_S", 0.1)

    async def act(subject: Supervisor) -> None:
        (first,) = await lab.until_begun(1)
        if is_renewal:
            await renew(lab, subject)
            await lab.until(lambda: not living([first]), "the end of the first")

    assert lab.run("deaf", act, shutdown_timeout_s=0.1) == 0
    (first, *_) = lab.notes.begun()
    assert lab.notes.of(first) == ["first.1", "SIGHUP" if is_renewal else "SIGTERM"]
    assert [line["pid"] for line in lab.said("a worker did not end and is killed")] == [first]


# `gateway run --workers 2`, whole.
WRAPPER = """
    import logging, os, time
    from gateway import log

    class PipelineWrapper:
        def run_api(self, size: int = 0) -> int:
            for _ in range(50 if size else 0):
                log.info("ours", text="x" * size)
                logging.getLogger("theirs").info("y" * size)
            return os.getpid()
"""
STREAM = """
    import os, time

    class PipelineWrapper:
        def run_api(self):
            yield "first "
            while not os.path.exists({gate!r}):
                time.sleep(0.01)
            yield "last"
"""
DEADLY = "import os\nos._exit(3)\n"


class Server:
    def __init__(self, process: Process, folder: Path) -> None:
        self.process = process
        self.folder = folder
        self.port = int(process.url.rpartition(":")[2])

    def post(self, path: str, body: Any = None) -> Any:
        reply = requests.post(f"{self.process.url}{path}", json=body or {}, timeout=START_S)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def pids(self) -> list[int]:
        """Of the workers that have loaded."""
        with closing(sqlite3.connect(self.folder / ".gateway" / "gateway.db")) as rows:
            return [pid for (pid,) in rows.execute("SELECT pid FROM workers WHERE is_loaded ORDER BY pid")]

    def kill(self, pid: int) -> None:
        """And wait for its successor."""
        count = len(self.pids())
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: pid not in self.pids() and len(self.pids()) == count, "a successor")

    def table(self, query: str) -> list[Any]:
        with closing(sqlite3.connect(self.folder / ".gateway" / "gateway.db")) as rows:
            return rows.execute(query).fetchall()


Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def start(*arguments: str) -> Server:
            folder = tmp_path / "wrappers"
            process = stack.enter_context(spawn("--wrappers-dir", str(folder), "--no-access-log", *arguments))
            server = Server(process, folder)
            process.wait_until_ready()
            return server

        yield start


def test_death_of_a_worker_leaves_nothing_of_it_in_the_database(start: Start, tmp_path: Path) -> None:
    write_wrapper(tmp_path / "wrappers", "w", WRAPPER)
    server = start("--workers", "2")
    server.post("/deploy_files", {"name": "kept", "files": {"pipeline_wrapper.py": dedent(WRAPPER)}})
    (victim, other) = server.pids()
    server.kill(victim)
    line = json.loads(server.process.wait_for(DIED))
    assert (line["level"], line["code"], line["after_s"]) == ("error", -9, 0.5)
    assert line["pid"] == victim
    (successor,) = set(server.pids()) - {other}
    answers = "SELECT pid, name, serving FROM workers LEFT JOIN answers ON id = worker"
    uses = "SELECT pid, name, number FROM workers LEFT JOIN uses ON id = worker"
    assert set(server.table(answers)) == {(pid, name, 1) for pid in (other, successor) for name in ("kept", "w")}
    assert set(server.table(uses)) >= {(pid, "kept", 1) for pid in (other, successor)}
    for table in ("answers", "uses"):
        assert server.table(f"SELECT * FROM {table} WHERE worker NOT IN (SELECT id FROM workers)") == []
    assert {server.post("/w/run")["result"] for _ in range(20)} <= {other, successor}


@pytest.mark.slow
def test_workers_that_die_at_once_are_started_again_until_they_live(start: Start, tmp_path: Path) -> None:
    folder = write_wrapper(tmp_path / "wrappers", "w", DEADLY)
    with spawn("--wrappers-dir", str(tmp_path / "wrappers"), "--workers", "2") as process:
        died = [json.loads(process.wait_for(DIED)) for _ in range(3)]
        assert [(line["code"], line["after_s"]) for line in died] == [(3, 0.5), (3, 1.0), (3, 2.0)]
        assert len({line["pid"] for line in died}) == 3
        (folder / "pipeline_wrapper.py").write_text(dedent(WRAPPER))
        process.wait_until_ready()
        assert process.stop() == 0


def test_lines_of_several_processes_stay_whole(start: Start, tmp_path: Path) -> None:
    """A pipe takes 4 KiB at once as a whole; what is longer it may take in pieces."""
    write_wrapper(tmp_path / "wrappers", "w", WRAPPER)
    server = start("--workers", "2")
    sizes = [100, 3000, 6000, 20_000] * 4
    with ThreadPoolExecutor(len(sizes)) as pool:
        found = set(pool.map(lambda size: server.post("/w/run", {"size": size})["result"], sizes))
    assert server.process.stop() == 0
    server.process.close()
    lines = [json.loads(line) for line in server.process.lines]
    told = [line for line in lines if line["event"] == "ours" or line["event"].startswith("y")]
    assert len(told) == 2 * 50 * len(sizes)
    assert {line["pid"] for line in told} == found
    assert {line["pid"] for line in lines} == {server.process.process.pid, *server_pids(lines)}


def server_pids(lines: list[dict[str, Any]]) -> set[int]:
    return {line["pid"] for line in lines if line["event"] == "wrappers loaded"}


def test_signal_to_every_process_at_once_lets_streams_end_whole(start: Start, tmp_path: Path) -> None:
    """So does systemd end a service."""
    gate = tmp_path / "gate"
    write_wrapper(tmp_path / "wrappers", "w", STREAM.format(gate=str(gate)))
    server = start("--workers", "2")
    with connect(server.port) as stream:
        stream.post().head()
        assert stream.piece() == b"first "
        pids = server.pids()
        os.kill(server.process.process.pid, signal.SIGTERM)
        server.process.wait_for("waiting for runs in hand")
        for pid in pids:
            with suppress(ProcessLookupError):  # the one without a stream may be through
                os.kill(pid, signal.SIGTERM)
        gate.touch()
        assert list(stream.pieces()) == [b"last"]
    assert server.process.process.wait(START_S) == 0


def test_port_and_state_are_free_after_the_end(start: Start, tmp_path: Path) -> None:
    write_wrapper(tmp_path / "wrappers", "w", WRAPPER)
    server = start("--workers", "2")
    pids = server.pids()
    assert server.process.stop() == 0
    assert living(pids) == []
    again = start("--workers", "2", "--port", str(server.port))
    assert again.port == server.port
    assert set(again.pids()).isdisjoint(pids)


def test_second_gateway_is_refused_and_the_first_serves_on(start: Start, tmp_path: Path) -> None:
    write_wrapper(tmp_path / "wrappers", "w", WRAPPER)
    server = start("--workers", "2")
    with spawn("--wrappers-dir", str(server.folder), "--workers", "2") as other:
        assert other.process.wait(START_S) == 1
        other.close()
    assert f"another gateway, process {server.process.process.pid}, holds the state folder" in other.lines[-1]
    assert server.post("/w/run")["result"] in server.pids()


def test_wrappers_folder_that_is_gone_ends_nobody(start: Start, tmp_path: Path) -> None:
    write_wrapper(tmp_path / "wrappers", "w", WRAPPER)
    server = start("--workers", "2", "--state-dir", str(tmp_path / "state"), "--no-watch")
    shutil.rmtree(server.folder)
    with connect(server.port) as one:
        pid = json.loads(one.post().head().body())["result"]
        os.kill(pid, signal.SIGKILL)
        server.process.wait_for(DIED)
        server.process.wait_for("wrappers loaded")
    assert requests.get(f"{server.process.url}/livez", timeout=START_S).status_code == 200
    assert server.process.stop() == 0
