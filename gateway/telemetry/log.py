"""One pipe for every log line: ours, the wrappers', Haystack's and the other libraries'.

Lines go to stderr, readable on a terminal, else one JSON object a line. A line that is written during a run carries
its `request_id` and `wrapper`. Payloads are never logged.
"""

import logging
import sys
from collections.abc import Mapping
from typing import Any

import structlog
from pydantic_core import to_json
from structlog.typing import EventDict, Processor, WrappedLogger

from gateway.run import get_run

TAKEN_FIELDS = frozenset({"event", "level", "timestamp", "self", "method_name"})  # by structlog; ours get a `_` behind


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


def configure_logging(*, level: str = "info", format: str = "auto") -> None:  # noqa: A002
    """Send structlog's and the standard library's lines through one formatter to stderr. For the process's owner only.

    `format`: `console`, `json`, or `auto`: console when stderr is a terminal. The standard library's loggers stay at
    INFO or above, Haystack's at WARNING unless `level` is `debug`; a logger that sets its own level keeps it.
    """
    console = format == "console" or (format == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        add_run,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render: list[Processor] = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    if not console:
        render = [structlog.processors.format_exc_info, _render_json]
    structlog.configure(
        processors=[*shared, *render, _encode],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),  # one write and one flush a line
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
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
    if level != "debug":  # at INFO Haystack writes a line for every component of every run
        logging.getLogger("haystack").setLevel(max(logging.WARNING, floor))


def _render_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    return to_json(event, fallback=str, inf_nan_mode="strings").decode()


def _encode(_logger: WrappedLogger, _method: str, line: Any) -> bytes:
    return str(line).encode("utf-8", "backslashreplace")
