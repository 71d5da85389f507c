"""The settings: one frozen object, made once at the edge (CLI, `asgi.py`) and handed down."""

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.errors import ConfigError

MIB = 1024 * 1024
CLIENT_VARIABLES = frozenset({"GATEWAY_URL", "GATEWAY_API_KEY"})
ALIASES = {"pipelines_dir": "wrappers_dir"}  # Hayhooks' name of the folder


class Settings(BaseModel):
    """What the server may be told. The unit stands in the name; None means no limit unless said otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field("localhost", description="address to listen on")
    port: int = Field(1416, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    root_path: str = Field("", description="prefix that a proxy strips before it passes a request on")
    wrappers_dir: Path = Field(Path("wrappers"), description="the folder of wrapper folders")
    state_dir: Path | None = Field(
        None, description="the gateway's own folder; None = .gateway in the wrappers' folder"
    )
    additional_python_path: Path | None = Field(None, description="folder of code shared by wrappers")
    workers: int = Field(1, ge=1, le=256, description="processes that serve")
    watch: bool = Field(True, description="follow changes of the wrappers' folder")
    strict: bool = Field(False, description="exit 1 when a wrapper does not load")
    show_tracebacks: bool = Field(False, description="put tracebacks into replies: for development")
    log_format: Literal["auto", "console", "json"] = Field("auto", description="auto: console on a terminal, else json")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="lowest level that is logged")
    access_log: bool = Field(True, description="one line for each request")

    max_body_bytes: int = Field(16 * MIB, gt=0, description="a JSON body, or all text fields of a form together")
    max_upload_bytes: int = Field(1024 * MIB, gt=0, description="a multipart body")
    max_upload_files: int = Field(1000, gt=0, description="files in one multipart body")
    max_form_fields: int = Field(1000, gt=0, description="text fields in one multipart body")

    max_concurrency: int | None = Field(
        None, gt=0, description="runs at once of a wrapper; None = 64 on threads and 1,024 on the event loop"
    )
    max_queue: int = Field(256, ge=0, description="runs of a wrapper that wait for a place")
    queue_timeout_s: float = Field(30, gt=0, description="longest wait for a place")
    timeout_s: float | None = Field(None, gt=0, description="longest run, until the wrapper is through")
    first_chunk_timeout_s: float | None = Field(None, gt=0, description="longest silence before a stream's first chunk")
    idle_chunk_timeout_s: float | None = Field(None, gt=0, description="longest silence inside a stream")

    first_byte_wait_s: float = Field(5, ge=0, description="how long a stream's reply waits for its first chunk")
    send_timeout_s: float = Field(60, gt=0, description="a reader who takes nothing for so long loses its stream")
    ping_interval_s: float = Field(15, gt=0, description="between comment lines in a silent SSE stream")
    stream_buffer_chunks: int = Field(256, gt=0, description="chunks a stream holds before its producer waits")
    stream_buffer_bytes: int = Field(256 * 1024, gt=0, description="bytes a stream holds before its producer waits")

    deploy_timeout_s: float = Field(
        120, gt=0, description="a worker that is silent for so long in a deploy is replaced"
    )
    setup_timeout_s: float = Field(600, gt=0, description="longest import, and longest setup(), of a wrapper")
    shutdown_timeout_s: float = Field(30, ge=0, description="how long runs in hand may go on after SIGTERM")
    keep_alive_timeout_s: float = Field(75, gt=0, description="an idle connection is closed after so long")

    @property
    def state_path(self) -> Path:
        """Where the gateway's own folder is to be, absolute: a wrapper may change the working directory."""
        return (self.state_dir or self.wrappers_dir / ".gateway").absolute()


def load_settings(typed: Mapping[str, Any], environ: Mapping[str, str], folder: Path) -> Settings:
    """`Settings` from what was typed, `GATEWAY_*`, `HAYHOOKS_*` and `folder/gateway.toml`: the first that has a value.

    An empty variable counts as unset. Without any of them `wrappers_dir` is `wrappers`, or `pipelines` when only that
    exists in `folder`. Raises `ConfigError` for an unknown key (of ours: a `HAYHOOKS_*` one may be for Hayhooks alone)
    and for a value that does not fit.
    """
    file = _from_toml(folder / "gateway.toml")
    ours = _from_environ(environ, "GATEWAY_", CLIENT_VARIABLES)
    theirs = _from_environ(environ, "HAYHOOKS_")
    known = {key: value for key, value in theirs.items() if key in Settings.model_fields}
    values = {**file, **known, **ours, **typed}
    if not (folder / "wrappers").exists() and (folder / "pipelines").exists():
        values.setdefault("wrappers_dir", Path("pipelines"))
    for origin, keys in (("the environment: GATEWAY_", ours), ("gateway.toml: ", file)):
        for key in keys:
            if key not in Settings.model_fields:
                name = key.upper() if origin.endswith("_") else key
                near = get_close_matches(key, Settings.model_fields, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise ConfigError(f"unknown setting in {origin}{name}{hint}")
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        name = ".".join(map(str, fault["loc"]))
        raise ConfigError(f"setting {name} = {fault['input']!r}: {fault['msg']}") from None


@dataclass(frozen=True, slots=True)
class Origins:
    """Where settings come from, to load them again. `read_environ`: raises `ConfigError`; `folder`: see above."""

    typed: Mapping[str, Any]
    read_environ: Callable[[], Mapping[str, str]]
    folder: Path


def check_folders(settings: Settings) -> None:
    """Raises `ConfigError` for a folder that cannot be read."""
    for folder in (settings.wrappers_dir, settings.additional_python_path):
        if folder is not None and not os.access(folder, os.R_OK | os.X_OK):
            raise ConfigError(f"the folder {folder} cannot be read")


def _from_environ(environ: Mapping[str, str], prefix: str, skip: frozenset[str] = frozenset()) -> dict[str, str]:
    names = {key: key.removeprefix(prefix).lower() for key in environ if key.startswith(prefix) and key not in skip}
    return {ALIASES.get(name, name): environ[key] for key, name in names.items() if environ[key]}


def _from_toml(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:  # not readable, not UTF-8, not TOML
        raise ConfigError(f"{path}: {error}") from None
    return {ALIASES.get(key, key): value for key, value in values.items()}
