"""One pipe for every log line: ours, the wrappers', Haystack's and the other libraries'.

Lines go to stderr, readable on a terminal, else one JSON object a line. A line that is written during a run carries
its `request_id` and `wrapper`. Payloads are never logged.
"""

import fcntl
import logging
import os
import select
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import sleep
from typing import Any

import structlog
from pydantic_core import to_json
from structlog.typing import EventDict, Processor, WrappedLogger

from gateway.run import get_run

TAKEN_FIELDS = frozenset({"event", "level", "timestamp", "self", "method_name"})  # by structlog; ours get a `_` behind

TRY_S = 0.001  # between two attempts to have stderr for a long line,
TRIES = 1000  # of which there are so many


class Log:
    """The logger that wrappers import as `log`.

    `log.info("{} files", 3)`, `log.info("done", seconds=1.2)` and `log.info({"event": "done", "seconds": 1.2})` all
    work. A message whose braces do not match its arguments is logged as it stands: logging never raises.
    """

    def __init__(self) -> None:
        self._logger = structlog.get_logger()  # lazy: bound to the configuration at the first line

    def debug(self, message: object, /, *args: Any, **fields: Any) -> None:
        self._emit("debug", message, args, fields)

    def info(self, message: object, /, *args: Any, **fields: Any) -> None:
        self._emit("info", message, args, fields)

    def warning(self, message: object, /, *args: Any, **fields: Any) -> None:
        self._emit("warning", message, args, fields)

    def error(self, message: object, /, *args: Any, **fields: Any) -> None:
        self._emit("error", message, args, fields)

    def critical(self, message: object, /, *args: Any, **fields: Any) -> None:
        self._emit("critical", message, args, fields)

    def exception(self, message: object, /, *args: Any, **fields: Any) -> None:
        """At level error, with the traceback of the exception in hand."""
        self._emit("error", message, args, {"exc_info": True, **fields})

    def _emit(self, level: str, message: object, args: tuple[Any, ...], fields: dict[str, Any]) -> None:
        try:
            text, fields = _format(message, args, fields)
            getattr(self._logger, level)(text, **fields)
        except Exception as error:  # a circle, an object that cannot be shown: a line less must not fail a run
            self._logger.error("a log line could not be written", reason=repr(type(error)))


def _format(message: object, args: tuple[Any, ...], fields: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    if isinstance(message, Mapping):
        fields = {**{str(key): value for key, value in message.items()}, **fields}
        text = str(fields.pop("event", ""))
    else:
        text = str(message)
    if "{" in text and (args or fields):
        try:
            text = text.format(*args, **fields)
        except (LookupError, ValueError, AttributeError, TypeError):
            fields = {**fields, "args": args} if args else fields
    if not fields.keys().isdisjoint(TAKEN_FIELDS):
        fields = {f"{key}_" if key in TAKEN_FIELDS else key: value for key, value in fields.items()}
    return text, fields


log = Log()


def add_run(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Name the run that a line belongs to."""
    run = get_run()
    if run is not None:
        event.setdefault("request_id", run.id)
        event.setdefault("wrapper", run.wrapper)
    return event


def _add_pid(pid: int, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event.setdefault("pid", pid)
    return event


class _SharedStderr:
    """Stderr of several processes, line by line.

    A pipe takes up to `PIPE_BUF` bytes as a whole, and a longer line in pieces when it is nearly full: those of two
    processes would mix. So long lines are written alone. The lock is `fcntl.flock`'s: it ends with its process.
    """

    def __init__(self, lock: Path) -> None:
        """`lock`: a file that all of these processes open."""
        self._stderr = sys.stderr.buffer
        self._lock = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        self._turn = threading.Lock()  # a thread would share the other one

    def write(self, line: bytes | str) -> None:
        data = line.encode("utf-8", "backslashreplace") if isinstance(line, str) else line
        with self._turn:
            self._take(fcntl.LOCK_SH if len(data) <= select.PIPE_BUF else fcntl.LOCK_EX)
            try:
                self._stderr.write(data)
                self._stderr.flush()
            finally:
                fcntl.flock(self._lock, fcntl.LOCK_UN)

    def flush(self) -> None:
        """Each line is."""

    def _take(self, kind: int) -> None:
        """Not for ever: one that is stopped in the middle of its line must not stop the others."""
        for _ in range(TRIES):
            with suppress(BlockingIOError):
                return fcntl.flock(self._lock, kind | fcntl.LOCK_NB)
            sleep(TRY_S)


def configure_logging(
    *,
    level: str = "info",
    format: str = "auto",  # noqa: A002
    pid: int | None = None,
    lock: Path | None = None,
) -> None:
    """Send structlog's and the standard library's lines through one formatter to stderr. For the process's owner only.

    `format`: `console`, `json`, or `auto`: console when stderr is a terminal. The standard library's loggers stay at
    INFO or above, Haystack's at WARNING unless `level` is `debug`; a logger that sets its own level keeps it.
    `pid`: stands in every line, so that several processes can share stderr; `lock`: a file that they then share too.
    """
    console = format == "console" or (format == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        add_run,
        *([] if pid is None else [partial(_add_pid, pid)]),
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    shared_stderr: Any = None
    if lock is not None:
        with suppress(OSError):  # without it a long line may be torn
            shared_stderr = _SharedStderr(lock)
    render: list[Processor] = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    if not console:
        render = [structlog.processors.format_exc_info, _render_json]
    structlog.configure(
        processors=[*shared, *render, _encode],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # One write and one flush a line.
        logger_factory=structlog.BytesLoggerFactory(shared_stderr or sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(shared_stderr or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    # At DEBUG libraries log payloads: sse-starlette every chunk, openai every body. `log` has no such floor.
    floor = max(logging.INFO, logging.getLevelName(level.upper()))
    logging.basicConfig(level=floor, handlers=[handler], force=True)
    # A client that leaves a pipeline of requests makes asyncio warn once for each reply.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # else a line for every change of a file
    if level != "debug":  # at INFO Haystack writes a line for every component of every run
        logging.getLogger("haystack").setLevel(max(logging.WARNING, floor))


def _render_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    return to_json(event, fallback=str, inf_nan_mode="strings").decode()


def _encode(_logger: WrappedLogger, _method: str, line: Any) -> bytes:
    return str(line).encode("utf-8", "backslashreplace")
