"""A real gateway for a test: in a thread of this process, or as a process of its own."""

import asyncio
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import dedent
from typing import Any

import requests

from gateway import Settings, create_app
from gateway.server import bind, serve_app

WRAPPERS = Path(__file__).parent / "wrappers"
START_S = 30.0


class Gateway:
    """`url`: where it answers. `app`: the Starlette app. `call`: run a function on its loop and return the result."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._listener = bind(settings)
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.port = self._listener.getsockname()[1]

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self.app = create_app(self._settings)
        self._started.set()
        await serve_app(self.app, self._settings, self._listener, self._stop)

    def start(self) -> None:
        self._thread.start()
        self._started.wait(START_S)

    def wait_until_loaded(self) -> None:
        asyncio.run_coroutine_threadsafe(self.app.state.tracker.is_loaded.wait(), self._loop).result(START_S)

    def call(self, function: Callable[[], Any]) -> Any:
        async def run() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(START_S)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_S)
        assert not self._thread.is_alive(), "the gateway did not stop"


@contextmanager
def serve(wrappers_dir: Path, *, wait: bool = True, watch: bool = False, **settings: Any) -> Iterator[Gateway]:
    """A gateway in a thread. `wait`: until all wrappers are loaded. `watch`: its end takes a tenth of a second then."""
    with ExitStack() as stack:
        if wrappers_dir == WRAPPERS:  # the sources stay as they are, and two runs of the tests apart
            settings.setdefault("state_dir", Path(stack.enter_context(TemporaryDirectory())))
        gateway = Gateway(Settings(port=0, wrappers_dir=wrappers_dir, access_log=False, watch=watch, **settings))
        gateway.start()
        stack.callback(gateway.stop)
        if wait:
            gateway.wait_until_loaded()
        yield gateway


class Process:
    """`gateway run` as a user starts it. `lines`: its stderr, as it comes."""

    def __init__(
        self, arguments: list[str], *, cwd: Path | None = None, environment: dict[str, str] | None = None
    ) -> None:
        command = [sys.executable, "-m", "gateway", "run", "--port", "0", "--log-format", "json", *arguments]
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, cwd=cwd, env={**os.environ, **(environment or {})}
        )
        self.lines: list[str] = []
        self._fresh: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            self._fresh.put(line)
        self._fresh.put("")

    def wait_for(self, text: str) -> str:
        """The next line that holds `text`."""
        while line := self._fresh.get(timeout=START_S):
            if text in line:
                return line
        raise AssertionError(f"{text!r} did not come: {self.lines}")

    @property
    def url(self) -> str:
        line = next((line for line in self.lines if '"listening"' in line), None) or self.wait_for('"listening"')
        url: str = json.loads(line)["url"]
        return url

    def wait_until_ready(self) -> None:
        deadline_s = time.monotonic() + START_S
        while requests.get(f"{self.url}/readyz", timeout=5).status_code != 200:
            assert time.monotonic() < deadline_s
            assert self.process.poll() is None, self.lines
            time.sleep(0.02)

    def close(self) -> None:
        self._reader.join(START_S)
        assert self.process.stderr is not None
        self.process.stderr.close()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """The exit code after a signal."""
        self.process.send_signal(number)
        return self.process.wait(START_S)


@contextmanager
def spawn(*arguments: str, cwd: Path | None = None, environment: dict[str, str] | None = None) -> Iterator[Process]:
    """A gateway process, killed at the end if it still runs."""
    process = Process(list(arguments), cwd=cwd, environment=environment)
    try:
        yield process
    finally:
        process.process.kill()
        process.process.wait()
        process.close()


def write_wrapper(wrappers_dir: Path, name: str, source: str) -> Path:
    """`<wrappers_dir>/<name>/pipeline_wrapper.py` with this (indented) source; gives the folder."""
    folder = wrappers_dir / name
    folder.mkdir(parents=True)
    (folder / "pipeline_wrapper.py").write_text(dedent(source), encoding="utf-8")
    return folder
