"""Deploying under load, two hundred times over, and cut off by `kill -9`: by one process and by several workers."""

import asyncio
import gc
import json
import os
import random
import re
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest
import requests

from gateway.loader import ROOT
from tests.gateways import Process, serve
from tests.probe import descriptors, eventually
from tests.wire import connect

pytestmark = pytest.mark.slow

WAIT_S = 30.0
CALLERS = 32
CALLS = 100  # over one connection
OVERWRITES, SECONDS = 40, 20.0
MOMENTS, LEADERS = 20, 10
REDEPLOYS = 200
MIB = 1024 * 1024
ENTRY = "pipeline_wrapper.py"
CALM = {"HAYSTACK_TELEMETRY_ENABLED": "False"}


def deploy(url: str, files: dict[str, str]) -> int:
    """The generation that serves these files under the name `w`."""
    body = {"name": "w", "files": files, "overwrite": True}
    reply = requests.post(f"{url}/deploy_files", json=body, timeout=WAIT_S)
    assert reply.status_code == 200, reply.text
    number: int = reply.json()["generation"]
    return number


def run(url: str) -> Any:
    reply = requests.post(f"{url}/w/run", json={}, timeout=WAIT_S)
    assert reply.status_code == 200, reply.text
    return reply.json()["result"]


def generations(url: str) -> dict[int, int | None]:
    """What each worker serves: pid → generation, None for none."""
    workers = requests.get(f"{url}/status", timeout=WAIT_S).json()["workers"]
    return {each["pid"]: each["generations"].get("w") for each in workers}


def wait_until(condition: Callable[[], Any], what: object, pause_s: float = 0.02) -> None:
    """As `eventually`, for what a new process has to do first."""
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s, f"{what} did not come true"
        time.sleep(pause_s)


@contextmanager
def gateway(wrappers_dir: Path, workers: int) -> Iterator[Process]:
    """Ready; all its processes are killed at the end when they still run."""
    arguments = ["--wrappers-dir", str(wrappers_dir), "--workers", str(workers), "--no-access-log"]
    process = Process(arguments, environment=CALM)
    try:
        process.wait_until_ready()
        yield process
    finally:
        kill(process)
        process.close()


def children(pid: int) -> list[int]:
    with suppress(FileNotFoundError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def is_running(pid: int) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def kill(process: Process) -> None:
    """The supervisor, so that it replaces nobody, then each worker: they have sessions of their own."""
    workers = children(process.process.pid) if process.process.poll() is None else []
    process.process.kill()
    for pid in workers:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.process.wait()
    wait_until(lambda: not any(map(is_running, workers)), "the end of the workers")


# Under load.
NUMBERED = """
import os

NUMBER = {}

class PipelineWrapper:
    def run_api(self, lines: str | None = None):
        return [NUMBER, os.getpid()] if lines is None else self.stream(lines)

    def stream(self, lines):
        yield f"{{NUMBER}} begins\\n"
        with open(lines) as file:
            for line in file:
                yield f"{{NUMBER}} {{line}}"
        from .late import WORD
        yield f"{{NUMBER}} {{WORD}}"
"""
REQUEST = b"POST /w/run HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


class Load:
    """Callers who ask without a pause, on a thread of their own. What is asked from now on is answered by `floor` or a
    newer number, else it is one of the `faults`. `counts`: replies by pid.
    """

    def __init__(self, port: int) -> None:
        self.floor = 0
        self.faults: list[Any] = []
        self.counts: dict[int, int] = {}
        self._port = port
        self._is_over = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()

    async def _run(self) -> None:
        await asyncio.gather(*(self._call() for _ in range(CALLERS)))

    async def _call(self) -> None:
        while not self._is_over:
            try:
                async with asyncio.timeout(WAIT_S):
                    reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                try:
                    for _ in range(CALLS):
                        if not self._is_over:
                            await self._ask(reader, writer)
                finally:
                    writer.close()
                    await writer.wait_closed()
            except (OSError, EOFError, TimeoutError) as error:
                self.faults.append(error)

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        floor = self.floor
        async with asyncio.timeout(WAIT_S):
            writer.write(REQUEST)
            head = await reader.readuntil(b"\r\n\r\n")
            length = LENGTH.search(head)
            assert length is not None
            body = await reader.readexactly(int(length[1]))
        if not head.startswith(b"HTTP/1.1 200 "):
            self.faults.append((floor, head, body))
            return
        number, pid = json.loads(body)["result"]
        self.counts[pid] = self.counts.get(pid, 0) + 1
        if number < floor:
            self.faults.append((floor, number, pid))


@pytest.mark.parametrize("workers", [1, 4])
def test_no_request_fails_while_it_is_overwritten(tmp_path: Path, workers: int) -> None:
    wrappers_dir, lines = tmp_path / "wrappers", tmp_path / "lines"
    wrappers_dir.mkdir()
    os.mkfifo(lines)
    with gateway(wrappers_dir, workers) as process, connect(port := int(process.url.rpartition(":")[2])) as stream:
        url = process.url
        deploy(url, {ENTRY: NUMBERED.format(0), "late.py": "WORD = 'late'"})
        stream.post(body={"lines": str(lines)}).head()
        with lines.open("w", buffering=1) as writer, Load(port) as load:
            begun_s = time.monotonic()
            for number in range(1, OVERWRITES + 1):
                if number % 2:
                    deploy(url, {ENTRY: NUMBERED.format(number)})
                else:
                    before = max(each or 0 for each in generations(url).values())
                    (wrappers_dir / "w" / ENTRY).write_text(NUMBERED.format(number))
                    wait_until(
                        lambda: all((each or 0) > before for each in generations(url).values()),  # noqa: B023 - called at once
                        f"edit {number} in every worker",
                    )
                load.floor = number
                writer.write(f"{number}\n")
                time.sleep(max(0, begun_s + number * SECONDS / OVERWRITES - time.monotonic()))
            assert set(generations(url)) == set(load.counts)
        assert load.faults == []
        assert (len(load.counts), min(load.counts.values()) > CALLS) == (workers, True), load.counts
        expected = ["0 begins", *(f"0 {number}" for number in range(1, OVERWRITES + 1)), "0 late"]
        assert b"".join(stream.pieces()).decode().split("\n") == expected
        assert run(url)[0] == OVERWRITES


# Two hundred times.
COMPONENT = """
import os
import sys

from haystack import Pipeline, component
from haystack.core.component import component as registered

from .part import WORD


@component
class Part:
    @component.output_types(text=str)
    def run(self, text: str):
        return {"text": text}


def inside(names):
    return len([name for name in names if name.startswith("gateway_wrappers")])


class PipelineWrapper:
    def setup(self):
        self.ballast = [str(number) for number in range(10_000)]
        self.pipeline = Pipeline()
        self.pipeline.add_component("part", Part())

    def run_api(self) -> dict:
        counts = [len(sys.path), inside(sys.modules), inside(registered.registry)]
        return {"word": WORD, "pid": os.getpid(), "counts": counts}
"""


def redeploy(url: str, number: int) -> None:
    deploy(url, {ENTRY: COMPONENT, "part.py": f"WORD = '{number}'"})
    assert run(url)["word"] == str(number)


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_200_redeploys_leave_nothing_behind(tmp_path: Path) -> None:
    with serve(tmp_path) as server:

        def seen() -> list[Any]:
            folders = sorted((tmp_path / ".gateway" / "generations").glob("*/*"))
            return [len(server.app.routes), run(server.url)["counts"], len(folders)]

        for number in range(20):
            redeploy(server.url, number)
        gc.collect()
        before, threads, files = seen(), threading.active_count(), descriptors()
        memory = resident_bytes(os.getpid())
        for number in range(REDEPLOYS):
            redeploy(server.url, number)
        eventually(lambda: seen() == before, f"{before} as before")
        assert before[1][1:] == [1 + 3, 1]  # the root, the package and its two modules
        eventually(lambda: threading.active_count() <= threads + 2, "no more threads")
        eventually(lambda: descriptors() <= files, "no more descriptors")
        gc.collect()
        assert resident_bytes(os.getpid()) - memory < 10 * MIB
    eventually(lambda: not [name for name in sys.modules if name.startswith(ROOT + ".")], "no module left")


def test_200_redeploys_leave_nothing_behind_in_any_worker(tmp_path: Path) -> None:
    with gateway(tmp_path, 2) as process:
        url = process.url

        def counts() -> dict[int, list[int]]:
            """Of each worker, by its pid."""
            found: dict[int, list[int]] = {}

            def ask() -> bool:
                result = run(url)
                found[result["pid"]] = result["counts"]
                return len(found) == 2

            eventually(ask, "an answer of each worker")
            return found

        def sizes(pid: int) -> list[int]:
            """Threads and descriptors."""
            return [len(list(Path(f"/proc/{pid}/{what}").iterdir())) for what in ("task", "fd")]

        for number in range(20):
            redeploy(url, number)
        before = counts()
        opened = {pid: sizes(pid) for pid in before}
        memory = {pid: resident_bytes(pid) for pid in before}
        for number in range(REDEPLOYS):
            redeploy(url, number)
        eventually(lambda: counts() == before, f"{before} as before")
        for pid, (threads, files) in opened.items():
            eventually(lambda: sizes(pid)[0] <= threads + 2, f"no more threads than {threads}")  # noqa: B023 - called at once
            eventually(lambda: sizes(pid)[1] <= files, f"no more descriptors than {files}")  # noqa: B023 - called at once
            assert resident_bytes(pid) - memory[pid] < 10 * MIB
        assert len(list((tmp_path / ".gateway" / "generations").glob("*/*"))) == 5


# Cut off.
WHOLE = """
import os
from pathlib import Path
from .part import WORD

class PipelineWrapper:
    def run_api(self) -> dict:
        datum = Path(__file__).with_name("data").joinpath("29.txt")
        return {{"words": [{!r}, WORD, datum.read_text()], "pid": os.getpid()}}
"""
OWN = {".env": b"KEY=secret\n", "blob.bin": bytes(range(240, 256)), "own.txt": b"mine"}


def whole(word: str) -> dict[str, str]:
    """Files that belong together: the wrapper answers with the word of three of them."""
    data = {f"data/{index}.txt": word for index in range(30)}
    return {ENTRY: WHOLE.format(word), "part.py": f"WORD = {word!r}", **data}


class Folder:
    """A wrapper's folder, and how it may stand after a deploy that was cut off."""

    def __init__(self, wrappers_dir: Path) -> None:
        self._wrappers_dir = wrappers_dir
        self._path = wrappers_dir / "w"
        for place, content in {**{place: text.encode() for place, text in whole("first").items()}, **OWN}.items():
            (self._path / place).parent.mkdir(parents=True, exist_ok=True)
            (self._path / place).write_bytes(content)

    def edit(self, word: str) -> None:
        """As its user does, in two files: one is the deploy's too."""
        (self._path / ENTRY).write_text(WHOLE.format(word))
        (self._path / "own.txt").write_text(word)

    def tree(self) -> dict[str, bytes]:
        """Every file by its place; one that goes meanwhile is not there."""
        found = {}
        for path in sorted(self._path.rglob("*")):
            with suppress(FileNotFoundError, IsADirectoryError):
                found[path.relative_to(self._path).as_posix()] = path.read_bytes()
        return found

    def has_kept(self, word: str) -> bool:
        """Whether this edit is anywhere."""
        found = []
        for path in [self._path / ENTRY, *self._wrappers_dir.glob(f".gateway/generations/w/*/{ENTRY}")]:
            with suppress(FileNotFoundError):  # only the last ones are kept
                found.append(path.read_text())
        return WHOLE.format(word) in found


def after(before: dict[str, bytes], word: str) -> dict[str, bytes]:
    """How the folder stands when this has been deployed over it."""
    return {**before, **{place: text.encode() for place, text in whole(word).items()}}


def words(found: dict[str, bytes]) -> list[str]:
    """What a wrapper of these files answers."""
    entry = re.search(r"\['(.*?)', WORD", found[ENTRY].decode())
    part = re.fullmatch(r"WORD = '(.*)'", found["part.py"].decode())
    assert entry is not None
    assert part is not None
    return [entry[1], part[1], found["data/29.txt"].decode()]


class Deploy(threading.Thread):
    """A deploy that may be cut off. `number`: its generation, None when no reply has come."""

    def __init__(self, url: str, word: str) -> None:
        super().__init__()
        self.number: int | None = None
        self._word = word
        self._connection = HTTPConnection("127.0.0.1", int(url.rpartition(":")[2]), timeout=WAIT_S)

    def ask_pid(self) -> int:
        """Of the worker that will lead this deploy."""
        pid: int = self._post("/w/run", {})["result"]["pid"]
        return pid

    def leave(self) -> None:
        self._connection.close()

    def run(self) -> None:
        with suppress(OSError, HTTPException):
            body = {"name": "w", "files": whole(self._word), "overwrite": True}
            self.number = self._post("/deploy_files", body).get("generation")
        self.leave()

    def _post(self, path: str, body: Any) -> Any:
        self._connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        return json.loads(self._connection.getresponse().read())


class Record:
    """What the state's database says of the wrapper; its gateway is not waited for."""

    def __init__(self, wrappers_dir: Path) -> None:
        place = f"file:{wrappers_dir / '.gateway' / 'gateway.db'}?mode=ro"
        self._connection = sqlite3.connect(place, uri=True, isolation_level=None)

    def is_publishing(self) -> bool:
        return self._read()[0] is not None

    def is_calm(self) -> bool:
        return bool(self._read() == (None, None))

    def close(self) -> None:
        self._connection.close()

    def _read(self) -> Any:
        return self._connection.execute("SELECT publishing, proposed FROM wrappers WHERE name = 'w'").fetchone()


def moments(url: str, count: int) -> Iterator[float]:
    """In seconds, over the whole length of a deploy and a little beyond, in no order."""
    begun_s = time.monotonic()
    deploy(url, whole("timed"))
    chance, took_s = random.Random(4), time.monotonic() - begun_s
    found = [(index + chance.random()) / count * took_s * 1.2 for index in range(count)]
    chance.shuffle(found)
    return iter(found)


def serves(process: Process, number: int | None) -> int:
    """How many workers have said that they serve it."""
    lines = map(json.loads, list(process.lines))
    return sum(line["event"] == "wrapper serves" and line["generation"] == number for line in lines)


def is_whole(url: str, folder: Folder, before: dict[str, bytes], word: str) -> bool:
    """Whether the old or the new one stands there, and serves."""
    found = folder.tree()
    return found in (before, after(before, word)) and run(url)["words"] == words(found)


@pytest.mark.parametrize("workers", [1, 3])
def test_killed_in_the_middle_of_a_deploy_it_serves_the_old_or_the_new_one(tmp_path: Path, workers: int) -> None:
    folder, outcomes = Folder(tmp_path), set()
    with ExitStack() as stack:
        process = stack.enter_context(gateway(tmp_path, workers))
        for turn, moment in enumerate(moments(process.url, MOMENTS)):
            if turn % 2:
                folder.edit(f"mine {turn}")
            before, word = folder.tree(), f"theirs {turn}"
            deploying = Deploy(process.url, word)
            deploying.start()
            time.sleep(moment)  # which is what is tried here
            kill(process)
            deploying.join(WAIT_S)
            process = stack.enter_context(gateway(tmp_path, workers))
            assert is_whole(process.url, folder, before, word), process.lines
            outcomes.add(folder.tree() != before)
            assert deploying.number is None or folder.tree() != before  # what was answered holds
            assert folder.has_kept(f"mine {turn}") or not turn % 2
            (number,) = set(generations(process.url).values())
            wait_until(lambda: serves(process, number) == workers, f"the line that {number} serves")  # noqa: B023 - called at once
        deploy(process.url, whole("last"))  # after any crash
        assert run(process.url)["words"] == ["last"] * 3
    assert outcomes == {False, True}


def test_worker_killed_in_the_middle_of_a_deploy_that_it_leads(tmp_path: Path) -> None:
    folder, outcomes = Folder(tmp_path), set()
    with gateway(tmp_path, 3) as process, closing(Record(tmp_path)) as record:
        url = process.url
        oldest = list(generations(url))  # first: one that dies young is replaced after a while only
        for turn, moment in enumerate(moments(url, LEADERS)):
            if turn % 4 > 1:
                folder.edit(f"mine {turn}")
            before, word = folder.tree(), f"theirs {turn}"
            leader, deploying = oldest[0], Deploy(url, word)
            while deploying.ask_pid() != leader:
                deploying.leave()
            deploying.start()
            if turn % 2:
                wait_until(lambda: record.is_publishing() or not deploying.is_alive(), "the copy", pause_s=0)  # noqa: B023 - called at once
            else:
                time.sleep(moment)  # which is what is tried here
            os.kill(leader, signal.SIGKILL)
            deploying.join(WAIT_S)
            wait_until(lambda: not is_running(leader), "its end")  # noqa: B023 - called at once

            def is_over() -> bool:
                serving = generations(url)
                has_team = len(serving.keys() - {leader}) == 3 and len(set(serving.values())) == 1  # noqa: B023 - called at once
                return has_team and record.is_calm() and is_whole(url, folder, before, word)  # noqa: B023 - called at once

            wait_until(is_over, ("the old or the new one, whole, in all workers", process.lines))
            outcomes.add(folder.tree() != before)
            assert deploying.number is None or folder.tree() != before  # what was answered holds
            assert folder.has_kept(f"mine {turn}") or turn % 4 < 2
            oldest = [pid for pid in oldest if pid != leader] + [pid for pid in generations(url) if pid not in oldest]
        deploy(url, whole("last"))  # its turn has come free
        assert run(url)["words"] == ["last"] * 3
        folder.edit("mine")  # and the watch has been taken over
        wait_until(lambda: run(url)["words"] == ["mine", "last", "last"], "the edit")
    assert outcomes == {False, True}


def test_edit_in_the_middle_of_a_deploy_is_served_or_kept(tmp_path: Path) -> None:
    folder, outcomes = Folder(tmp_path), set()
    with gateway(tmp_path, 1) as process:
        url = process.url
        for turn, moment in enumerate(moments(url, MOMENTS)):
            word = f"mine {turn}"
            deploying = Deploy(url, f"theirs {turn}")
            deploying.start()
            time.sleep(moment)  # which is what is tried here
            folder.edit(word)
            deploying.join(WAIT_S)
            assert deploying.number is not None
            stays = words(folder.tree())[0] == word
            if stays:
                wait_until(lambda: run(url)["words"][0] == word, "the edit")  # noqa: B023 - called at once
            assert folder.has_kept(word)
            outcomes.add(stays)
    assert outcomes == {False, True}
