"""What renews the workers and what does not; then `gateway run --reload` as a process, where nobody notices."""

import asyncio
import json
import shutil
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
import structlog

from gateway import reload
from gateway.cli.environment import read_environ
from gateway.reload import Reloader
from gateway.settings import Origins, Settings, load_settings
from tests.gateways import START_S, Process, spawn, write_wrapper
from tests.probe import eventually
from tests.wire import connect

NOT_TAKEN = "the changed configuration is not taken up"
FIXED = "these settings change with a restart only"

Act = Callable[[Path], object]


# The reloader alone: `renew` is a list.
class Watched(Reloader):
    """Counts its looks."""

    looks = 0

    def _look(self) -> Any:
        self.looks += 1
        return super()._look()


class Lab:
    """`told`: the settings and variables that each renewal was given, as far as they are not those of the start."""

    def __init__(self, folder: Path, *, outer: Mapping[str, str], typed: Mapping[str, Any]) -> None:
        self.folder = folder
        self.told: list[dict[str, Any]] = []
        self._origins = Origins(typed, partial(read_environ, outer, folder / ".env"), folder)
        self._environ = self._origins.read_environ()
        self._settings = load_settings(typed, self._environ, folder)

    def begin(self, renew: Callable[[], Awaitable[object]] | None = None) -> Watched:
        async def note(settings: Settings, environ: Mapping[str, str]) -> None:
            before = {**self._settings.model_dump(), **self._environ}
            after = {**settings.model_dump(), **environ}
            changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
            self.told.append({name: after.get(name) for name in sorted(changed)})
            if renew is not None:
                await renew()

        return Watched(self._settings, self._origins, note)


async def settle(reloader: Watched) -> None:
    """Until what has changed by now has been looked at, and come to rest."""
    due = reloader.looks + 4
    while reloader.looks < due:
        await asyncio.sleep(0.001)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(reload, "LOOK_S", 0.005)
    monkeypatch.chdir(tmp_path)
    for name in ("wrappers/w", "shared"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "shared" / "words.py").write_text("WORD = 1\n")
    return tmp_path


@pytest.fixture(autouse=True)
def log() -> Iterator[list[dict[str, Any]]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


def watch(
    folder: Path, *acts: Act, outer: Mapping[str, str] | None = None, typed: Mapping[str, Any] | None = None
) -> list[list[dict[str, Any]]]:
    """What each of these acts has led to."""
    lab = Lab(folder, outer=outer or {}, typed=typed or {})

    async def main() -> list[list[dict[str, Any]]]:
        reloader = lab.begin()
        watching = asyncio.create_task(reloader.watch())
        found = []
        await settle(reloader)
        for act in acts:
            count = len(lab.told)
            act(folder)
            await settle(reloader)
            found.append(lab.told[count:])
        assert not watching.done()
        watching.cancel()
        return found

    return asyncio.run(main())


def write(place: str, text: str | bytes) -> Act:
    def act(folder: Path) -> None:
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())

    return act


def replace(place: str, text: str) -> Act:
    """As an editor saves: a new file takes the name of the old one."""

    def act(folder: Path) -> None:
        write(f"{place}.new", text)(folder)
        (folder / f"{place}.new").replace(folder / place)

    return act


def remove(place: str) -> Act:
    def act(folder: Path) -> None:
        path = folder / place
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return act


def move(place: str, to: str) -> Act:
    return lambda folder: (folder / place).rename(folder / to)


def link(place: str, to: str) -> Act:
    def act(folder: Path) -> None:
        (folder / "link.new").symlink_to(folder / to)
        (folder / "link.new").replace(folder / place)

    return act


def test_configuration_file_of_any_making(folder: Path) -> None:
    found = watch(
        folder,
        write("gateway.toml", "max_queue = 1"),
        write("gateway.toml", "max_queue = 2"),  # of the same size, maybe in the same tick of the clock
        replace("gateway.toml", "max_queue = 3"),
        remove("gateway.toml"),
        write("mounted/one.toml", "max_queue = 4"),
        write("mounted/two.toml", "max_queue = 5"),
        link("gateway.toml", "mounted/one.toml"),
        link("gateway.toml", "mounted/two.toml"),
        write("mounted/two.toml", "max_queue = 6"),
    )
    one, two, three, four, five, six = ([{"max_queue": number}] for number in range(1, 7))
    assert found == [one, two, three, [{}], [], [], four, five, six]


def test_variables_of_the_environment_file(folder: Path) -> None:
    assert watch(
        folder,
        write(".env", "GATEWAY_MAX_QUEUE=1\nKEY=a"),
        write(".env", "GATEWAY_MAX_QUEUE=1\nKEY=b"),
        replace(".env", "KEY=b"),
        write(".env", ""),
        remove(".env"),
    ) == [
        [{"GATEWAY_MAX_QUEUE": "1", "KEY": "a", "max_queue": 1}],
        [{"GATEWAY_MAX_QUEUE": "1", "KEY": "b", "max_queue": 1}],
        [{"KEY": "b"}],
        [{}],
        [],
    ]


def test_variable_of_the_start_that_is_taken_out_goes_away(folder: Path) -> None:
    write(".env", "GATEWAY_MAX_QUEUE=1\nKEY=a")(folder)
    assert watch(folder, write(".env", "")) == [[{"GATEWAY_MAX_QUEUE": None, "KEY": None, "max_queue": 256}]]


def test_real_environment_wins_over_the_file(folder: Path) -> None:
    """Also where both have said the same at the start."""
    outer = {"GATEWAY_MAX_QUEUE": "1", "KEY": "a"}
    write(".env", "GATEWAY_MAX_QUEUE=1\nKEY=a")(folder)
    assert watch(folder, write(".env", "GATEWAY_MAX_QUEUE=2\nKEY=b\nNEW=1"), outer=outer) == [[{"NEW": "1"}]]


def test_what_was_typed_wins_over_both(folder: Path) -> None:
    found = watch(
        folder,
        write(".env", "GATEWAY_MAX_QUEUE=2"),
        write("gateway.toml", "max_queue = 3"),
        write("gateway.toml", "timeout_s = 3"),
        typed={"max_queue": 1},
    )
    assert found == [
        [{"GATEWAY_MAX_QUEUE": "2"}],
        [],
        [{"GATEWAY_MAX_QUEUE": "2", "timeout_s": 3.0}],
    ]


# Nothing that a worker would see otherwise.
CALM: dict[str, Act] = {
    "a comment": write("gateway.toml", "# nothing\nmax_queue = 1"),
    "the same once more": replace("gateway.toml", "max_queue = 1"),
    "a comment in .env": write(".env", "# nothing\nKEY=a"),
    "an editor's file": write(".gateway.toml.swp", "x"),
    "an editor's copy": write("gateway.toml~", "max_queue = 2"),
    "another file": write("other.toml", "max_queue = 2"),
    "bytecode": write("shared/__pycache__/words.cpython-311.pyc", "x"),
    "code in a cache": write("shared/.cache/words.py", "x"),
    "a link of Emacs": link("shared/.#words.py", "nowhere"),
    "a backup": write("shared/words.py~", "x"),
    "git": write("shared/.git/hooks/hook.py", "x"),
    "data": write("shared/words.json", "{}"),
    "a log": write("shared/gateway.log", "x"),
    "an empty folder": lambda folder: (folder / "shared" / "new").mkdir(),
    "a wrapper": write("wrappers/w/pipeline_wrapper.py", "x = 1"),
    "the state": write("wrappers/.gateway/generations/w/1/pipeline_wrapper.py", "x"),
}


@pytest.mark.parametrize("path", [Path("shared"), Path()], ids=["shared", "the folder itself"])
def test_what_changes_no_setting_and_no_code_renews_nothing(
    folder: Path, path: Path, log: list[dict[str, Any]]
) -> None:
    write("gateway.toml", "max_queue = 1")(folder)
    write(".env", "KEY=a")(folder)
    found = watch(folder, *CALM.values(), typed={"additional_python_path": path})
    assert (dict(zip(CALM, found, strict=True)), log) == ({name: [] for name in CALM}, [])


def test_shared_code_of_any_making(folder: Path) -> None:
    acts: dict[str, Act] = {
        "an edit": write("shared/words.py", "WORD = 2\n"),
        "a file": write("shared/new.py", ""),
        "a package, moved in": lambda folder: (
            write("package/deep/code.py", "")(folder),
            move("package", "shared/package")(folder),
        ),
        "a package, moved out": move("shared/package", "package"),
        "a rename": move("shared/new.py", "shared/newer.py"),
        "a library": write("shared/fast.so", "x"),
        "a removal": remove("shared/newer.py"),
    }
    found = watch(folder, *acts.values(), typed={"additional_python_path": Path("shared")})
    assert dict(zip(acts, found, strict=True)) == {name: [{}] for name in acts}


def test_folder_of_shared_code_that_is_gone_for_a_while(folder: Path, log: list[dict[str, Any]]) -> None:
    typed = {"additional_python_path": Path("shared")}
    acts = (move("shared", "away"), write("gateway.toml", "max_queue = 1"), move("away", "shared"))
    assert watch(folder, *acts, typed=typed) == [[], [], [{"max_queue": 1}]]
    said = (NOT_TAKEN, "the folder shared cannot be read")
    assert [(line["event"], line["reason"]) for line in log if "reason" in line] == [said] * 2


def test_another_folder_of_shared_code(folder: Path) -> None:
    path = {"additional_python_path": Path("other")}
    found = watch(
        folder,
        write("other/code.py", ""),
        write("gateway.toml", 'additional_python_path = "other"'),
        write("other/code.py", "x = 1"),
        write("shared/words.py", "x = 1"),
        remove("gateway.toml"),
    )
    assert found == [[], [path], [path], [], [{}]]


BROKEN: list[tuple[str, str | bytes, str]] = [
    ("gateway.toml", "max_queue = ", "Invalid value"),
    ("gateway.toml", "max_qeue = 1", "unknown setting in gateway.toml: max_qeue; did you mean max_queue?"),
    ("gateway.toml", "max_queue = -1", "setting max_queue = -1: Input should be greater than or equal to 0"),
    ("gateway.toml", b"\xff", "invalid start byte"),
    ("gateway.toml", 'additional_python_path = "nowhere"', "the folder nowhere cannot be read"),
    (".env", "GATEWAY_MAX_QUEUE=many", "setting max_queue = 'many'"),
    (".env", "GATEWAY_MAX_QEUE=1", "unknown setting in the environment: GATEWAY_MAX_QEUE; did you mean max_queue?"),
    (".env", b"KEY=\xff", "cannot read"),
]


@pytest.mark.parametrize(("place", "text", "reason"), BROKEN)
def test_broken_edit_is_told_of_and_the_next_one_heals_it(
    folder: Path, log: list[dict[str, Any]], place: str, text: str | bytes, reason: str
) -> None:
    write("gateway.toml", "timeout_s = 1")(folder)
    good = "max_queue = 1" if place == "gateway.toml" else "GATEWAY_MAX_QUEUE=1"
    found = watch(folder, write(place, text), write(place, good))
    assert ([len(told) for told in found], found[1][0]["max_queue"]) == ([0, 1], 1)
    (line,) = [line for line in log if line["log_level"] == "error"]
    assert (line["event"], reason in line["reason"]) == (NOT_TAKEN, True)


def test_settings_of_the_socket_and_the_folders_are_kept(folder: Path, log: list[dict[str, Any]]) -> None:
    text = 'host = "::1"\nport = 9\nworkers = 3\nwrappers_dir = "shared"\nstate_dir = "s"\n'
    acts = (write("gateway.toml", text), write("gateway.toml", f"{text}max_queue = 1"), remove("gateway.toml"))
    assert watch(folder, *acts, typed={"port": 0}) == [[], [{"max_queue": 1}], [{}]]
    said = [line for line in log if line["event"] == FIXED]
    kept = ["host", "workers", "wrappers_dir", "state_dir"]
    assert said == [{"event": FIXED, "settings": kept, "log_level": "warning"}] * 2


def test_change_during_a_renewal_is_not_lost(folder: Path) -> None:
    lab = Lab(folder, outer={}, typed={"additional_python_path": Path("shared")})

    async def main() -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def renew() -> None:
            begun.set()
            await go_on.wait()

        reloader = lab.begin(renew)
        watching = asyncio.create_task(reloader.watch())
        await settle(reloader)
        write("gateway.toml", "max_queue = 1")(folder)
        await begun.wait()
        write("gateway.toml", "max_queue = 2")(folder)
        write("shared/words.py", "WORD = 2")(folder)
        assert lab.told == [{"max_queue": 1}]
        go_on.set()
        await settle(reloader)
        watching.cancel()

    asyncio.run(main())
    assert [told["max_queue"] for told in lab.told] == [1, 2]


def test_change_before_the_watch_is_not_lost(folder: Path) -> None:
    """Between the reading of the settings and the first look the gateway has bound its port and opened its state."""
    lab = Lab(folder, outer={}, typed={"additional_python_path": Path("shared")})
    write("gateway.toml", "max_queue = 1")(folder)

    async def main() -> None:
        reloader = lab.begin()
        write("shared/words.py", "WORD = 2")(folder)
        watching = asyncio.create_task(reloader.watch())
        await settle(reloader)
        watching.cancel()

    asyncio.run(main())
    assert lab.told == [{"max_queue": 1}]


def test_renewal_that_raises_does_not_end_the_watch(folder: Path, log: list[dict[str, Any]]) -> None:
    lab = Lab(folder, outer={}, typed={})

    async def main() -> None:
        async def renew() -> None:
            raise RuntimeError("out of luck")

        reloader = lab.begin(renew)
        watching = asyncio.create_task(reloader.watch())
        for number in (1, 2):
            write("gateway.toml", f"max_queue = {number}")(folder)
            await settle(reloader)
        watching.cancel()

    asyncio.run(main())
    assert [told["max_queue"] for told in lab.told] == [1, 2]
    assert [line["event"] for line in log if line["log_level"] == "error"] == ["the workers could not be renewed"] * 2


# `gateway run --reload`.
CONNECTIONS = 32
WRAPPER = """
    import os, time
    from shared_words import WORD

    if "REFUSE" in os.environ:
        raise RuntimeError("refused")

    class PipelineWrapper:
        def setup(self):
            if "WAIT" in os.environ:
                while not os.path.exists(os.environ["WAIT"]):
                    time.sleep(0.01)

        def run_api(self, gate: str = ""):
            if gate:
                return self.stream(gate)
            return {"pid": os.getpid(), "word": WORD, "key": os.environ.get("KEY")}

        def stream(self, gate):
            yield "first "
            while not os.path.exists(gate):
                time.sleep(0.01)
            yield "last"
"""
SECOND = "class PipelineWrapper:\n    def run_api(self) -> str:\n        return 'second'\n"
RENEWED = '"workers renewed"'
KEPT = "a new worker did not start: the others go on as they are"


class Server:
    """`folder`: where it was started. Its wrapper `w` says what its worker has."""

    def __init__(self, folder: Path, process: Process) -> None:
        self.folder = folder
        self.process = process
        self.port = int(process.url.rpartition(":")[2])

    def edit(self, place: str, text: str) -> "Server":
        write(place, text)(self.folder)
        return self

    def wait_for(self, event: str) -> dict[str, Any]:
        line: dict[str, Any] = json.loads(self.process.wait_for(event))
        return line

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        reply = requests.request(method, f"{self.process.url}{path}", json=body, timeout=START_S)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def run(self, name: str = "w") -> Any:
        return self.ask("POST", f"/{name}/run", {})["result"]

    def pids(self) -> set[int]:
        return {each["pid"] for each in self.ask("GET", "/status")["workers"]}

    def max_queue(self) -> int:
        """Of the worker that answers."""
        number: int = self.ask("GET", "/status")["wrappers"]["w"]["limits"]["max_queue"]
        return number


Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    write_wrapper(tmp_path / "wrappers", "w", WRAPPER)
    write("shared/shared_words.py", "WORD = 'one'\n")(tmp_path)
    with ExitStack() as stack:

        def start(workers: int = 1, **environment: str) -> Server:
            arguments = ("--workers", str(workers), "--reload", "--additional-python-path", "shared", "--no-access-log")
            process = stack.enter_context(spawn(*arguments, cwd=tmp_path, environment=environment))
            process.wait_until_ready()
            return Server(tmp_path, process)

        yield start


class Load:
    """As many callers as `CONNECTIONS`, each with a new connection for each run, while this is entered."""

    def __init__(self, port: int) -> None:
        self.found: Counter[Any] = Counter()
        self._port = port
        self._is_over = threading.Event()
        self._callers = [threading.Thread(target=self._call) for _ in range(CONNECTIONS)]

    def _call(self) -> None:
        while not self._is_over.is_set():
            try:
                with connect(self._port) as connection:
                    connection.post().head()
                    result = json.loads(connection.body()).get("result", {})
                    self.found[connection.status, result.get("key")] += 1
            except Exception as error:
                self.found[repr(error), None] += 1

    def __enter__(self) -> "Load":
        for caller in self._callers:
            caller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for caller in self._callers:
            caller.join()


def test_renewal_under_load_fails_no_request_and_cuts_no_stream(start: Start, tmp_path: Path) -> None:
    server = start(workers=2)
    gate = tmp_path / "gate"
    with connect(server.port) as stream, Load(server.port) as load:
        stream.post(body={"gate": str(gate)}).head()
        assert stream.piece() == b"first "
        server.edit(".env", "KEY=new").wait_for(RENEWED)
        eventually(lambda: load.found[200, "new"] > 10 * CONNECTIONS, "runs of the new workers")
        gate.touch()
        assert list(stream.pieces()) == [b"last"]
    assert set(load.found) == {(200, None), (200, "new")}
    assert {server.run()["key"] for _ in range(20)} == {"new"}
    eventually(lambda: len(server.pids()) == 2, "the end of the old ones")
    assert server.process.stop() == 0


@pytest.mark.slow
def test_each_worker_takes_up_each_kind_of_change(start: Start) -> None:
    server = start(workers=2, GATEWAY_TIMEOUT_S="9", KEY="outer")
    server.edit("gateway.toml", "max_queue = 7\ntimeout_s = 1").edit(".env", "KEY=inner").wait_for(RENEWED)
    server.edit("shared/shared_words.py", "WORD = 'two'\n").wait_for(RENEWED)
    eventually(lambda: len(server.pids()) == 2, "the end of the old ones")
    found = [server.run() for _ in range(20)]
    assert {(each["word"], each["key"]) for each in found} == {("two", "outer")}
    limits = [server.ask("GET", "/status")["wrappers"]["w"]["limits"] for _ in range(20)]
    assert {(each["max_queue"], each["timeout_s"]) for each in limits} == {(7, 9.0)}


# What the new workers cannot do leaves the old ones: the edit, and what the log says.
REFUSED: list[tuple[str, str, str, str]] = [
    ("gateway.toml", "max_queue = ", NOT_TAKEN, "Invalid value"),
    ("shared/shared_words.py", "WORD = ", "what the other workers serve does not load in a new one", "SyntaxError"),
    (".env", "REFUSE=1", "what the other workers serve does not load in a new one", "RuntimeError: refused"),
    ("shared/shared_words.py", "import os; os._exit(9)", KEPT, ""),
]


@pytest.mark.slow
def test_edit_that_breaks_the_new_worker_leaves_the_old_one(start: Start) -> None:
    server = start()
    server.edit(".env", "")
    server.edit("gateway.toml", "")
    for place, text, event, reason in REFUSED:
        pids, before = server.pids(), (server.folder / place).read_text()
        line = server.edit(place, text).wait_for(event)
        if event not in (NOT_TAKEN, KEPT):
            server.wait_for(KEPT)
        assert reason in json.dumps(line)
        eventually(lambda pids=pids: server.pids() == pids, "the end of the new one")
        assert {server.run()["pid"] for _ in range(20)} <= pids
        server.edit(place, before)
        if event != NOT_TAKEN:
            server.wait_for(RENEWED)
            eventually(lambda pids=pids: server.pids().isdisjoint(pids), "the new one alone")
    assert [line for line in server.process.lines if "a worker has died" in line] == []
    assert server.run()["word"] == "one"


@pytest.mark.slow
def test_deploy_in_the_middle_of_a_renewal_reaches_the_new_worker(start: Start, tmp_path: Path) -> None:
    server = start()
    old = server.pids()
    gate = tmp_path / "gate"
    server.edit(".env", f"WAIT={gate}")
    eventually(lambda: len(server.pids()) == 2, "the successor")
    body = {"name": "second", "files": {"pipeline_wrapper.py": SECOND}}
    deploying = threading.Thread(target=server.ask, args=("POST", "/deploy_files", body))
    deploying.start()
    write_wrapper(tmp_path / "wrappers", "third", SECOND)
    gate.touch()
    server.wait_for(RENEWED)
    deploying.join()
    eventually(lambda: server.pids().isdisjoint(old), "the end")
    eventually(lambda: set(server.ask("GET", "/status")["pipelines"]) == {"w", "second", "third"}, "all three")
    assert (server.run("second"), server.run("third")) == ("second", "second")


def test_change_of_the_host_is_warned_about(start: Start) -> None:
    server = start()
    line = server.edit("gateway.toml", "host = '::1'\nmax_queue = 1").wait_for(FIXED)
    server.wait_for(RENEWED)
    assert (line["level"], line["settings"], server.max_queue()) == ("warning", ["host"], 1)
