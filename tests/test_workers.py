"""`gateway run --workers N` as a process: what one worker is told, all do, whichever of them dies or is stuck."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.gateways import Process, spawn, write_wrapper
from tests.probe import eventually as soon

COUNT = 4
WAIT_S = 30.0
ENTRY = "pipeline_wrapper.py"
WHO = """
    import os, sys

    class PipelineWrapper:
        def run_api(self, name: str = "") -> list:
            begin = f"gateway_wrappers.{name}_"
            return [os.getpid(), sorted(key for key in sys.modules if name and key.startswith(begin))]
"""
STREAM = """
    import os, time

    class PipelineWrapper:
        def run_api(self):
            yield str(os.getpid())
            while not os.path.exists({gate!r}):
                time.sleep(0.01)
            yield " whole"
"""


def wrapper(word: str, *setup: str) -> str:
    """A wrapper that answers `word`; `setup`: the lines of its `setup()`."""
    lines = "".join(f"        {line}\n" for line in setup or ("pass",))
    return (
        "import os, signal, time\nfrom pathlib import Path\n\n\nclass PipelineWrapper:\n"
        f"    def setup(self):\n{lines}\n    def run_api(self) -> str:\n        return {word!r}\n"
    )


def wait_for(path: Path) -> str:
    """A line of a `setup()` that goes on once there is this file."""
    return f"while not os.path.exists({str(path)!r}): time.sleep(0.01)"


def mark(path: Path) -> str:
    """A line of a `setup()` that leaves a file called after its process."""
    return f"Path({str(path)!r} + str(os.getpid())).touch()"


def eventually(condition: Callable[[], Any], what: str = "the condition") -> None:
    """As in `probe`, for what a worker does while its successor may be starting."""

    def is_true() -> Any:
        with suppress(HTTPException, OSError):
            return condition()

    soon(is_true, what)


class Line:
    """A connection, and so one worker. `ask` gives the status and the body."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
        self._connection.connect()
        self._connection.auto_open = 0  # http.client would connect anew, to any worker

    def send(self, method: str, path: str, body: Any = None) -> "Line":
        self._connection.request(method, path, json.dumps({} if body is None else body))
        return self

    def reply(self) -> HTTPResponse:
        return self._connection.getresponse()

    def receive(self) -> tuple[int, Any]:
        reply = self.reply()
        return reply.status, json.loads(reply.read())

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        return self.send(method, path, body).receive()

    def post(self, path: str, body: Any = None) -> tuple[int, Any]:
        return self.ask("POST", path, body)

    def get(self, path: str) -> Any:
        return self.ask("GET", path)[1]

    def deploy(self, name: str, source: str, **fields: Any) -> tuple[int, Any]:
        return self.post("/deploy_files", {"name": name, "files": {ENTRY: source}, "overwrite": True, **fields})

    def deployed(self, name: str, source: str, **fields: Any) -> int:
        """The generation of a deploy that went well."""
        status, body = self.deploy(name, source, **fields)
        assert status == 200, body
        number: int = body["generation"]
        return number

    def run(self, name: str, /, **arguments: Any) -> Any:
        """The result, or the status of a failure."""
        status, body = self.post(f"/{name}/run", arguments)
        return body["result"] if status == 200 else status

    def pid(self) -> int:
        pid: int = self.run("who")[0]
        return pid

    def close(self) -> None:
        self._connection.close()


class Server:
    """A gateway of several workers. `folder`: its wrappers."""

    def __init__(self, process: Process, folder: Path, count: int) -> None:
        self.process = process
        self.folder = folder
        self.count = count
        self.port = int(process.url.rpartition(":")[2])
        self._lines: dict[int, Line] = {}

    @contextmanager
    def fresh(self, count: int = 1) -> Iterator[list[Line]]:
        """New connections, made before any of them is used: so one worker does not get them all."""
        lines: list[Line] = []
        try:
            for _ in range(count):
                lines.append(Line(self.port))
            yield lines
        finally:
            for line in lines:  # a test may have taken some out
                line.close()

    def status(self) -> dict[str, Any]:
        with self.fresh() as (line,):
            found: dict[str, Any] = line.get("/status")
            return found

    def generations(self) -> dict[int, dict[str, int]]:
        """By the pid of the worker."""
        return {each["pid"]: each["generations"] for each in self.status()["workers"]}

    @property
    def lines(self) -> dict[int, Line]:
        """A connection to each worker, by its pid."""

        def is_complete() -> bool:
            pids = self.generations().keys()
            for gone in self._lines.keys() - pids:
                self._lines.pop(gone).close()
            if pids == self._lines.keys():
                return True
            with self.fresh(8) as lines:
                for line in [line.send("POST", "/who/run") for line in lines]:
                    pid = line.receive()[1]["result"][0]
                    if pid not in self._lines:
                        self._lines[pid] = line
                lines[:] = [line for line in lines if line not in self._lines.values()]
            return False

        eventually(is_complete, "a connection to each worker")
        return self._lines

    def wait_until_whole(self, without: int = 0) -> None:
        """Until all workers serve, `without` one that has died."""

        def is_whole() -> bool:
            found = self.generations()
            first, *others = found.values()
            return without not in found and len(found) == self.count and all(each == first for each in others)

        eventually(is_whole, "all workers there, with the same generations,")

    def status_at_last(self) -> dict[str, Any]:
        """Empty while nobody serves."""
        try:
            found: dict[str, Any] = requests.get(f"{self.process.url}/status", timeout=10).json()
        except requests.RequestException:
            return {}
        return found

    def answers(self, name: str) -> set[Any]:
        """What new connections are answered until each worker has answered some."""
        pids: set[int] = set()
        found: set[Any] = set()

        def have_all_answered() -> bool:
            with self.fresh(16) as lines:
                for line in [line.send("POST", f"/{name}/run") for line in lines]:
                    status, body = line.receive()
                    found.add(body["result"] if status == 200 else status)
                pids.update(line.pid() for line in lines)
            return pids >= self.lines.keys()

        soon(have_all_answered, "an answer of each worker")
        return found

    def each(self, name: str) -> list[Any]:
        """What each worker answers."""
        return [line.run(name) for line in self.lines.values()]

    def modules(self, name: str) -> list[str]:
        """Of the generations of this wrapper, in all workers."""
        return sorted({key for line in self.lines.values() for key in line.run("who", name=name)[1]})

    def staged(self, name: str) -> list[str]:
        folder = self.folder / ".gateway" / "generations" / name
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def rows(self, query: str) -> list[Any]:
        with closing(sqlite3.connect(self.folder / ".gateway" / "gateway.db")) as connection:
            return connection.execute(query).fetchall()

    def close(self) -> None:
        for line in self._lines.values():
            line.close()


@contextmanager
def serve(folder: Path, *arguments: str, count: int = COUNT, **environment: str) -> Iterator[Server]:
    """The wrapper `who` is there already, and all workers serve."""
    if not (folder / "who").exists():
        write_wrapper(folder, "who", WHO)
    options = ["--wrappers-dir", str(folder), "--workers", str(count), "--no-access-log", *arguments]
    with spawn(*options, environment=environment) as process:
        server = Server(process, folder, count)
        pids: list[int] = []
        try:
            process.wait_until_ready()
            yield server
        finally:
            server.close()
            with suppress(requests.RequestException, OSError):
                pids = list(server.generations()) if process.process.poll() is None else []
            process.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.process.wait(5)
            for pid in pids:  # of a supervisor that did not end them
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """For tests that end no worker; each has wrappers of its own name."""
    with serve(tmp_path_factory.mktemp("workers")) as server:
        yield server


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def is_alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


# Every change reaches every worker.
def test_each_change_reaches_every_worker_before_its_reply(server: Server) -> None:
    lines = list(server.lines.values())
    steps: list[tuple[str, Any, int | None, Any]] = [
        ("/deploy_files", wrapper("one"), 1, "one"),
        ("/deploy_files", wrapper("two"), 2, "two"),
        ("/undeploy/w", None, None, 404),
        ("/restore/w", None, 2, "two"),
        ("/rollback/w", None, 3, "one"),
        ("/rollback/w?generation=2", None, 4, "two"),
        ("/undeploy/w", None, None, 404),
        ("/deploy_files", wrapper("five"), 5, "five"),
    ]
    for index, (path, source, number, answer) in enumerate(steps):
        body = {} if source is None else {"name": "w", "files": {ENTRY: source}, "overwrite": True}
        status, reply = lines[index % COUNT].post(path, body)
        assert (status, reply.get("generation")) == (200, number), reply
        assert server.each("w") == [answer] * COUNT
        assert server.answers("w") == {answer}
        assert [each.get("w") for each in server.generations().values()] == [number] * COUNT


def test_each_reply_after_a_deploy_is_of_the_new_one(server: Server, pool: ThreadPoolExecutor) -> None:
    lines = list(server.lines.values())
    for number in range(1, 13):
        assert lines[number % COUNT].deployed("often", wrapper(str(number))) == number
        with server.fresh(24) as fresh:
            assert set(pool.map(lambda line: line.run("often"), fresh)) == {str(number)}
        assert server.each("often") == [str(number)] * COUNT


def test_folder_that_is_dropped_edited_and_removed_reaches_every_worker(server: Server) -> None:
    folder = write_wrapper(server.folder, "folder", wrapper("one"))
    eventually(lambda: server.each("folder") == ["one"] * COUNT)
    (folder / ENTRY).write_text(wrapper("two"))
    eventually(lambda: server.each("folder") == ["two"] * COUNT)
    (folder / ENTRY).write_text("nonsense(")
    reason = f"{ENTRY}, line 1: SyntaxError: '(' was never closed"

    def described() -> list[Any]:
        return [line.get("/status/folder") for line in server.lines.values()]

    eventually(lambda: all(reason in (each["reason"] or "") for each in described()))
    assert len({each["reason"] for each in described()}) == 1
    assert [each["generation"] for each in described()] == [2] * COUNT
    assert server.answers("folder") == {"two"}
    (folder / ENTRY).write_text(wrapper("four"))
    eventually(lambda: server.each("folder") == ["four"] * COUNT)
    assert [(each["reason"], each["generation"]) for each in described()] == [(None, 4)] * COUNT
    (line, *_) = server.lines.values()
    assert line.deployed("folder", wrapper("five")) == 5  # one watcher only: each edit has taken one number
    shutil.rmtree(folder)
    eventually(lambda: server.each("folder") == [404] * COUNT)
    assert line.get("/status")["wrappers"].get("folder") is None


def test_undeployed_folder_comes_back_with_its_next_edit(server: Server) -> None:
    folder = write_wrapper(server.folder, "back", wrapper("one"))
    eventually(lambda: server.each("back") == ["one"] * COUNT)
    first, *_, last = server.lines.values()
    assert first.post("/undeploy/back")[0] == 200
    assert server.each("back") == [404] * COUNT
    assert last.post("/restore/back")[0] == 200
    assert server.each("back") == ["one"] * COUNT
    assert last.post("/undeploy/back")[0] == 200
    (folder / ENTRY).write_text(wrapper("two"))
    eventually(lambda: server.each("back") == ["two"] * COUNT)


def test_status_is_the_same_from_any_worker(server: Server) -> None:
    (line, *_) = server.lines.values()
    line.deployed("told", wrapper("one"))
    line.post("/undeploy/told")
    line.deployed("shown", wrapper("one"))
    found = [each.get("/status") for each in server.lines.values()]
    pids = [each["pid"] for each in found[0]["workers"]]
    assert pids == sorted(server.lines)
    children = Path(f"/proc/{server.process.process.pid}/task/{server.process.process.pid}/children").read_text()
    assert pids == sorted(map(int, children.split()))
    for status in found:
        for described in status["wrappers"].values():
            described.pop("loaded_at", None)
    assert found == [found[0]] * COUNT
    serving = {name: each["generation"] for name, each in found[0]["wrappers"].items() if "generation" in each}
    assert [each["generations"] for each in found[0]["workers"]] == [serving] * COUNT
    assert found[0]["wrappers"]["told"]["state"] == "undeployed"
    assert [each.ask("GET", "/readyz") for each in server.lines.values()] == [(200, {"status": "ready"})] * COUNT


# A failure in one worker is that of all.
@pytest.mark.parametrize("has_old", [True, False])
@pytest.mark.parametrize("place", ["setup", "import"])
@pytest.mark.parametrize("is_leader", [True, False])
def test_deploy_that_fails_in_one_worker_only(server: Server, has_old: bool, place: str, is_leader: bool) -> None:
    (leader, line), (other, _), *_ = server.lines.items()
    name = f"fails-{place}-{has_old}-{is_leader}"
    if has_old:
        line.deployed(name, wrapper("old"))
    before = server.modules(name), server.staged(name)
    victim = leader if is_leader else other
    fault = f"if os.getpid() == {victim}: raise RuntimeError('no luck')"
    source = wrapper("new", fault) if place == "setup" else f"import os\n{fault}\n{wrapper('new')}"
    number = 7 if place == "setup" else 2
    status, body = line.deploy(name, source)
    reason = f"worker {victim}: {ENTRY}, line {number}: RuntimeError: no luck"
    assert (status, reason in body["detail"]) == (422, True), body
    old = "old" if has_old else 404
    assert (server.each(name), server.answers(name)) == ([old] * COUNT, {old})
    assert (server.modules(name), server.staged(name)) == before
    assert (server.folder / name).exists() is has_old
    assert line.deployed(name, wrapper("next")) == (3 if has_old else 2)
    assert server.answers(name) == {"next"}


def test_edit_that_fails_in_one_worker_only(server: Server) -> None:
    folder = write_wrapper(server.folder, "edit", wrapper("old"))
    eventually(lambda: server.each("edit") == ["old"] * COUNT)
    before = server.modules("edit")
    for victim in server.lines:  # one of them is the one that watches
        (folder / ENTRY).write_text(wrapper("new", f"if os.getpid() == {victim}: raise RuntimeError('no luck')"))
        reason = f"worker {victim}: {ENTRY}, line 7: RuntimeError: no luck"

        def reasons() -> list[Any]:
            return [line.get("/status/edit")["reason"] for line in server.lines.values()]

        eventually(lambda: reasons() == [reason] * COUNT)  # noqa: B023 - called at once
        assert (server.each("edit"), server.modules("edit")) == (["old"] * COUNT, before)
    (folder / ENTRY).write_text(wrapper("healed"))
    eventually(lambda: server.each("edit") == ["healed"] * COUNT)


def test_failure_is_told_when_every_worker_has_let_go(server: Server, tmp_path: Path) -> None:
    (leader, line), (slow, _), *_ = server.lines.items()
    ended = f"if os.getpid() == {slow}: time.sleep(0.5); Path({str(tmp_path / 'ended')!r}).touch()"
    source = wrapper("new", f"if os.getpid() == {leader}: raise RuntimeError('no luck')", ended)
    assert line.deploy("slowly", source)[0] == 422
    assert ((tmp_path / "ended").exists(), server.modules("slowly")) == (True, [])


# At once.
def test_deploys_of_one_name_at_once_take_turns(server: Server, pool: ThreadPoolExecutor) -> None:
    with server.fresh(16) as lines:
        words = [str(index) for index in range(16)]
        numbers = list(
            pool.map(lambda pair: pair[0].deployed("turns", wrapper(pair[1])), zip(lines, words, strict=True))
        )
    assert sorted(numbers) == list(range(1, 17))
    last = words[numbers.index(16)]
    assert server.answers("turns") == {last}
    assert {each["turns"] for each in server.generations().values()} == {16}
    assert (server.folder / "turns" / ENTRY).read_text() == wrapper(last)
    eventually(lambda: len(server.staged("turns")) == 5, "the last five are kept")


def test_one_of_many_first_deploys_wins(server: Server, pool: ThreadPoolExecutor) -> None:
    with server.fresh(8) as lines:
        replies = list(pool.map(lambda line: line.deploy("first", wrapper("one"), overwrite=False)[0], lines))
    assert sorted(replies) == [200] + [409] * 7
    assert server.answers("first") == {"one"}


def test_different_acts_at_once_leave_all_workers_equal(server: Server, pool: ThreadPoolExecutor) -> None:
    (line, *_) = server.lines.values()
    for word in ("one", "two", "three"):
        line.deployed("acts", wrapper(word))
    acts = ["/undeploy/acts", "/restore/acts", "/rollback/acts", "deploy"] * 4

    def act(pair: tuple[Line, str]) -> int:
        line, path = pair
        return line.deploy("acts", wrapper("four"))[0] if path == "deploy" else line.post(path)[0]

    with server.fresh(16) as lines:
        codes = set(pool.map(act, zip(lines, acts, strict=True)))
    assert codes <= {200, 404, 409}
    assert len(server.answers("acts")) == 1
    assert len({each.get("acts") for each in server.generations().values()}) == 1
    assert line.deployed("acts", wrapper("last")) > 3
    assert server.answers("acts") == {"last"}


def test_long_setup_holds_back_no_other_name(server: Server, pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with server.fresh(2) as (line, other):
        slow = pool.submit(line.deploy, "long", wrapper("long", mark(tmp_path / "in"), wait_for(gate)))
        write_wrapper(server.folder, "long-edit", wrapper("long", mark(tmp_path / "in-edit"), wait_for(gate)))
        eventually(lambda: len(list(tmp_path.glob("in*"))) == 2 * COUNT)
        other.deployed("quick", wrapper("quick"))
        write_wrapper(server.folder, "quick-edit", wrapper("quick"))
        eventually(lambda: server.each("quick-edit") == ["quick"] * COUNT)
        assert (server.each("quick"), slow.done()) == (["quick"] * COUNT, False)
        gate.touch()
        assert slow.result(WAIT_S)[0] == 200
    assert server.each("long") == ["long"] * COUNT
    eventually(lambda: server.each("long-edit") == ["long"] * COUNT)


def test_process_that_a_setup_has_forked_holds_no_turn(
    server: Server, pool: ThreadPoolExecutor, tmp_path: Path
) -> None:
    (leader, line), *_ = server.lines.items()
    gate = tmp_path / "gate"
    child = f"while not os.path.exists({str(gate)!r}): time.sleep(0.01)"
    source = wrapper("forks", f"if os.getpid() == {leader} and os.fork() == 0:", f"    {child}", "    os._exit(0)")
    try:
        assert line.deployed("forks", source) == 1
        again = pool.submit(line.deployed, "forks", wrapper("again"))
        eventually(again.done, "the next deploy")
    finally:
        gate.touch()
    assert again.result(WAIT_S) == 2


# One that is silent or dies.
Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def start(*arguments: str, count: int = 3, **environment: str) -> Server:
            return stack.enter_context(serve(tmp_path / "wrappers", *arguments, count=count, **environment))

        yield start


@pytest.mark.slow
def test_worker_that_is_stopped_is_replaced_and_serves_what_was_decided(start: Start) -> None:
    server = start(GATEWAY_DEPLOY_TIMEOUT_S="1")
    (_, line), (victim, _), *_ = server.lines.items()
    line.deployed("w", wrapper("old"))
    os.kill(victim, signal.SIGSTOP)
    assert line.deployed("w", wrapper("new")) == 2  # it was ended before the decision
    server.wait_until_whole(without=victim)
    assert not is_alive(victim)
    assert server.answers("w") == {"new"}
    (_, line), (victim, _), *_ = server.lines.items()
    os.kill(victim, signal.SIGSTOP)
    status, body = line.post("/undeploy/w")
    said = f"w: decided, but not served in time by the workers {victim}, which are replaced"
    assert (status, body["detail"]) == (504, said)
    server.wait_until_whole(without=victim)
    assert server.answers("w") == {404}


@pytest.mark.slow
def test_worker_that_is_stopped_when_it_has_prepared(start: Start, pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    server = start(GATEWAY_DEPLOY_TIMEOUT_S="1")
    (_, line), (victim, _), (third, _) = server.lines.items()
    line.deployed("w", wrapper("old"))
    reply = pool.submit(
        line.deploy, "w", wrapper("new", f"if os.getpid() == {third}:", f"    {wait_for(tmp_path / 'go')}")
    )
    query = f"SELECT prepared FROM answers JOIN workers ON id = worker WHERE name = 'w' AND pid = {victim}"
    eventually(lambda: server.rows(query) == [(2,)])
    os.kill(victim, signal.SIGSTOP)
    (tmp_path / "go").touch()
    status, body = reply.result(WAIT_S)
    said = f"w: decided, but not served in time by the workers {victim}, which are replaced"
    assert (status, body["detail"]) == (504, said)
    server.wait_until_whole(without=victim)
    assert server.answers("w") == {"new"}
    assert {each["w"] for each in server.generations().values()} == {2}


@pytest.mark.slow
def test_worker_that_is_busy_is_not_silent(start: Start) -> None:
    server = start(count=2, GATEWAY_DEPLOY_TIMEOUT_S="0.5")
    (leader, line), _ = server.lines.items()
    pids = server.lines.keys()
    assert line.deployed("w", wrapper("busy", f"if os.getpid() != {leader}: time.sleep(1.5)")) == 1
    assert server.generations().keys() == pids
    assert server.answers("w") == {"busy"}


@pytest.mark.slow
def test_leader_that_is_stopped_does_not_keep_the_turn(start: Start, pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    server = start(GATEWAY_DEPLOY_TIMEOUT_S="1")
    (leader, line), (_, other), *_ = server.lines.items()
    source = wrapper(
        "lost", f"if os.getpid() == {leader}:", f"    {mark(tmp_path / 'in')}", f"    {wait_for(tmp_path / 'go')}"
    )
    pool.submit(line.deploy, "w", source)
    eventually((tmp_path / f"in{leader}").exists)
    os.kill(leader, signal.SIGSTOP)
    try:
        again = pool.submit(other.deployed, "w", wrapper("again"))
        eventually(again.done, "the deploy through another worker")
    finally:
        (tmp_path / "go").touch()
        with suppress(ProcessLookupError):
            os.kill(leader, signal.SIGCONT)
    assert again.result(WAIT_S) == 2
    server.wait_until_whole(without=leader)
    assert server.answers("w") == {"again"}


@pytest.mark.slow
def test_killed_worker_is_replaced_and_nobody_waits_for_its_successor(start: Start, tmp_path: Path) -> None:
    gate, entered = tmp_path / "gate", tmp_path / "entered"
    gate.touch()
    entered.mkdir()
    write_wrapper(tmp_path / "wrappers", "folder", wrapper("folder", mark(entered / "_"), wait_for(gate)))
    server = start()
    (victim, _), (_, line), *_ = server.lines.items()
    line.deployed("saved", wrapper("saved"))
    line.deployed("unsaved", wrapper("unsaved"), save_files=False)
    line.deployed("gone", wrapper("gone"))
    line.post("/undeploy/gone")
    before = server.generations()[victim]
    gate.unlink()
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: len(list(entered.iterdir())) == server.count + 1)
    with server.fresh(50) as lines:
        found = [[line.run(name) for name in ("saved", "unsaved", "folder", "gone")] for line in lines]
    assert found == [["saved", "unsaved", "folder", 404]] * 50
    assert line.deployed("saved", wrapper("newer")) == 2  # its successor does what is decided while it loads
    gate.touch()
    server.wait_until_whole(without=victim)
    assert server.generations() == {pid: {**before, "saved": 2} for pid in server.lines}
    for name, answer in (("saved", "newer"), ("unsaved", "unsaved"), ("folder", "folder"), ("gone", 404)):
        assert server.answers(name) == {answer}
    for pid in server.lines:  # it follows too
        assert server.lines[pid].deployed("after", wrapper(str(pid))) > 0
        assert server.each("after") == [str(pid)] * server.count


@pytest.mark.parametrize("is_first", [True, False])
def test_worker_that_dies_of_a_deploy_fails_it(
    start: Start, pool: ThreadPoolExecutor, tmp_path: Path, is_first: bool
) -> None:
    server = start()
    (leader, line), (victim, _), *_ = server.lines.items()
    line.deployed("w", wrapper("old"))
    setup = [
        f"if os.getpid() == {leader}:",
        f"    {wait_for(tmp_path / 'go') if is_first else 'pass'}",
        f"    {mark(tmp_path / 'ready')}",
        f"if os.getpid() == {victim}:",
        f"    {'pass' if is_first else wait_for(tmp_path / f'ready{leader}')}",
        "    os.kill(os.getpid(), signal.SIGKILL)",
    ]
    reply = pool.submit(line.deploy, "w", wrapper("new", *setup))
    eventually(lambda: victim not in server.generations())  # its end is known, whether the leader is ready or not
    (tmp_path / "go").touch()
    status, body = reply.result(WAIT_S)
    assert (status, body["detail"]) == (422, f"worker {victim}: it has died of it")
    server.wait_until_whole(without=victim)
    assert (server.answers("w"), server.staged("w")) == ({"old"}, ["1"])
    assert line.deployed("w", wrapper("next")) == 3
    assert server.answers("w") == {"next"}


@pytest.mark.slow
def test_successor_that_comes_in_the_middle_of_a_deploy_is_not_ended(
    start: Start, pool: ThreadPoolExecutor, tmp_path: Path
) -> None:
    for name in ("gate", "slow"):
        (tmp_path / name).touch()
    entered = tmp_path / "entered"
    entered.mkdir()
    write_wrapper(tmp_path / "wrappers", "slow", wrapper("slow", mark(entered / "_"), wait_for(tmp_path / "slow")))
    server = start(count=2, GATEWAY_DEPLOY_TIMEOUT_S="1")
    (leader, line), (victim, _) = server.lines.items()
    (tmp_path / "slow").unlink()
    go = tmp_path / "go"
    fault = f"if os.getpid() == {victim}: os.kill(os.getpid(), signal.SIGKILL)"
    reply = pool.submit(line.deploy, "w", wrapper("new", fault, f"if os.getpid() == {leader}:", f"    {wait_for(go)}"))
    eventually(lambda: len(list(entered.iterdir())) == server.count + 1)
    go.touch()
    assert reply.result(WAIT_S)[0] == 422
    assert line.deployed("w", wrapper("next")) == 2
    (tmp_path / "slow").touch()
    server.wait_until_whole(without=victim)
    assert len(list(entered.iterdir())) == server.count + 1
    assert server.answers("w") == {"next"}


@pytest.mark.slow
def test_leader_that_is_killed_leaves_nothing_of_its_deploy(start: Start) -> None:
    server = start()
    (leader, line), (_, other), *_ = server.lines.items()
    other.deployed("w", wrapper("old"))
    before = server.modules("w")
    with pytest.raises((HTTPException, OSError)):
        line.deploy("w", wrapper("new", f"if os.getpid() == {leader}: os.kill(os.getpid(), signal.SIGKILL)"))
    assert other.run("w") == "old"
    server.wait_until_whole(without=leader)
    eventually(lambda: server.rows("SELECT name FROM wrappers WHERE proposed OR publishing") == [])
    eventually(lambda: server.modules("w") == before)
    eventually(lambda: server.staged("w") == ["1"])
    assert server.answers("w") == {"old"}
    assert other.deployed("w", wrapper("next")) == 3
    assert server.answers("w") == {"next"}


@pytest.mark.slow
def test_deploy_right_after_its_leader_was_killed(start: Start) -> None:
    server = start()
    (leader, line), (_, other), *_ = server.lines.items()
    with pytest.raises((HTTPException, OSError)):
        line.deploy("w", wrapper("new", f"if os.getpid() == {leader}: os.kill(os.getpid(), signal.SIGKILL)"))
    assert other.deployed("w", wrapper("next")) == 2
    server.wait_until_whole(without=leader)
    assert server.answers("w") == {"next"}
    eventually(lambda: server.rows("SELECT name FROM wrappers WHERE proposed OR publishing") == [])


@pytest.mark.slow
def test_watcher_that_is_killed_has_a_successor(start: Start) -> None:
    server = start()
    folder = write_wrapper(server.folder, "w", wrapper("one"))
    eventually(lambda: server.each("w") == ["one"] * server.count)
    inode = str((server.folder / ".gateway" / "locks" / "watch").stat().st_ino)
    locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    (watcher,) = {int(pid) for _, _, _, _, pid, place, *_ in locks if place.rpartition(":")[2] == inode}
    os.kill(watcher, signal.SIGKILL)
    (folder / ENTRY).write_text(wrapper("two"))
    eventually(lambda: server.each("w") == ["two"] * len(server.lines))
    server.wait_until_whole(without=watcher)
    assert server.answers("w") == {"two"}
    assert {each["w"] for each in server.generations().values()} == {2}


def break_edit(server: Server, folder: Path, word: str) -> None:
    """Edit it to what cannot be loaded, and wait until every worker tells so."""
    (folder / ENTRY).write_text(f"raise RuntimeError({word!r})")
    eventually(lambda: all(word in str(line.get("/status/w")["reason"]) for line in server.lines.values()))


@pytest.mark.slow
def test_successor_of_a_worker_while_an_edit_is_broken_is_not_silent(start: Start, tmp_path: Path) -> None:
    folder = write_wrapper(tmp_path / "wrappers", "w", wrapper("old"))
    server = start(count=2, GATEWAY_DEPLOY_TIMEOUT_S="1")
    break_edit(server, folder, "first")
    (victim, *_) = server.lines
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: len(server.lines.keys() - {victim}) == 2)
    pids = set(server.lines)
    break_edit(server, folder, "second")
    (line, *_) = server.lines.values()
    assert line.deployed("other", wrapper("other")) == 1
    (folder / ENTRY).write_text(wrapper("healed"))
    eventually(lambda: server.each("w") == ["healed"] * 2)
    assert set(server.lines) == pids


@pytest.mark.slow
def test_strict_ends_no_gateway_that_serves(start: Start, tmp_path: Path) -> None:
    folder = write_wrapper(tmp_path / "wrappers", "w", wrapper("old"))
    server = start("--strict", count=2)
    break_edit(server, folder, "first")
    (victim, *_) = server.lines
    os.kill(victim, signal.SIGKILL)
    server.wait_until_whole(without=victim)
    assert (server.answers("w"), server.process.process.poll()) == ({"old"}, None)
    (folder / ENTRY).write_text(wrapper("healed"))
    eventually(lambda: server.each("w") == ["healed"] * 2)


@pytest.mark.slow
def test_successor_of_a_worker_serves_what_was_decided_and_not_what_was_refused(start: Start, tmp_path: Path) -> None:
    folder = write_wrapper(tmp_path / "wrappers", "w", wrapper("old"))
    server = start(count=2)
    (first, *_) = pids = set(server.lines)
    fault = f"if os.getpid() in {sorted(pids)}: raise RuntimeError('no luck')"
    (folder / ENTRY).write_text(wrapper("refused", fault))
    eventually(lambda: all(line.get("/status/w")["reason"] for line in server.lines.values()))
    os.kill(first, signal.SIGKILL)
    server.wait_until_whole(without=first)
    assert server.answers("w") == {"old"}


@pytest.mark.parametrize("is_dropped", [False, True])
def test_wrapper_that_kills_every_worker_ends_nothing(start: Start, tmp_path: Path, is_dropped: bool) -> None:
    write_wrapper(tmp_path / "wrappers", "w", wrapper("one"))
    server = start(count=2)
    before = set(server.lines)
    if is_dropped:  # it may have been chance once, and is not tried a third time
        write_wrapper(tmp_path / "wrappers", "deadly", "import os\n\nos._exit(3)")
        died = "a process that was loading it has died"
        eventually(
            lambda: server.status_at_last().get("wrappers", {}).get("deadly", {}).get("reason") == died,
            "what kills is told",
        )
    else:
        (line, *_) = server.lines.values()
        with pytest.raises((OSError, HTTPException)):  # who was asked has died
            line.deploy("deadly", "import os\n\nos._exit(3)")

    def both_serve() -> bool:
        workers = server.status_at_last().get("workers", ())
        are_new = before.isdisjoint(each["pid"] for each in workers)
        return len(workers) == 2 and are_new and all("w" in each["generations"] for each in workers)

    eventually(both_serve, "two others serve")
    replies = [requests.post(f"{server.process.url}/w/run", json={}, timeout=WAIT_S) for _ in range(8)]
    assert [(reply.status_code, reply.json()) for reply in replies] == [(200, {"result": "one"})] * 8


# The end.
class Streams:
    """One run in hand in each worker, which waits for the gate."""

    def __init__(self, server: Server, gate: Path) -> None:
        self._gate = gate
        self._replies = {pid: line.send("POST", "/stream/run").reply() for pid, line in server.lines.items()}
        begun = {pid: reply.read1(64).decode() for pid, reply in self._replies.items()}
        assert begun == {pid: str(pid) for pid in server.lines}

    def end(self) -> list[str]:
        """What is left of each. Raises when one is cut off."""
        self._gate.touch()
        return [reply.read().decode() for reply in self._replies.values()]


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """The wrapper `stream` is there, and waits for this file."""
    write_wrapper(tmp_path / "wrappers", "stream", STREAM.format(gate=str(tmp_path / "gate")))
    return tmp_path / "gate"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_to_the_supervisor_lets_streams_end_whole(start: Start, gate: Path, number: int) -> None:
    server = start()
    streams, pids = Streams(server, gate), list(server.lines)
    server.process.process.send_signal(number)
    for _ in pids:
        server.process.wait_for("waiting for runs in hand")
    assert streams.end() == [" whole"] * server.count
    assert server.process.process.wait(WAIT_S) == 0
    assert [pid for pid in pids if is_alive(pid)] == []


def test_second_signal_to_the_supervisor_ends_all_at_once(start: Start, gate: Path) -> None:
    server = start()
    streams, pids = Streams(server, gate), list(server.lines)
    server.process.process.terminate()
    for _ in pids:
        server.process.wait_for("waiting for runs in hand")
    assert server.process.stop() == 1
    eventually(lambda: [pid for pid in pids if is_alive(pid)] == [])
    with pytest.raises((HTTPException, OSError)):
        streams.end()


def test_workers_leave_with_their_supervisor(start: Start, gate: Path) -> None:
    server = start()
    (_, line), *_ = server.lines.items()
    line.deployed("w", wrapper("one"))
    streams, pids = Streams(server, gate), list(server.lines)
    server.process.process.kill()
    for _ in pids:
        server.process.wait_for("waiting for runs in hand")
    assert streams.end() == [" whole"] * server.count
    eventually(lambda: [pid for pid in pids if is_alive(pid)] == [])
    again = start(count=2)  # the lock of the state folder is free
    assert again.answers("w") == {"one"}


def test_strict_ends_all_workers_when_a_wrapper_does_not_load(tmp_path: Path) -> None:
    write_wrapper(tmp_path, "who", WHO)
    write_wrapper(tmp_path, "w", "nonsense(")
    with spawn("--wrappers-dir", str(tmp_path), "--workers", "2", "--strict") as process:
        assert process.process.wait(WAIT_S) == 1
        process.close()
        pids = {json.loads(line).get("pid") for line in process.lines}
        assert [pid for pid in pids if pid and is_alive(pid)] == []
        assert len(pids) >= 2
