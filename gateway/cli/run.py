"""`gateway run`: the server."""

import argparse
import asyncio
import os
import socket
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.cli.environment import prepare_haystack, read_environ
from gateway.errors import ConfigError
from gateway.settings import Origins, Settings, check_folders, load_settings

if TYPE_CHECKING:
    from gateway.state import State

ADD_HELP = False  # `-h` is the host here, as in Hayhooks


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--help", action="help", help="show this message and exit")
    add("-h", "--host", help="address to listen on (localhost)")
    add("-p", "--port", type=int, help="port to listen on, 0 for a free one (1416)")
    add(
        "-d",
        "--wrappers-dir",
        "--pipelines-dir",
        dest="wrappers_dir",
        type=Path,
        help="the folder of wrappers (wrappers)",
    )
    add("--state-dir", type=Path, help="the gateway's own folder (.gateway in the folder of wrappers)")
    add("--root-path", help="prefix that a proxy strips")
    add("--additional-python-path", type=Path, help="folder of code shared by wrappers")
    add("-w", "--workers", type=int, help="processes that serve (1)")
    add("-r", "--reload", action="store_true", help="renew the workers when gateway.toml, .env or shared code changes")
    add("--no-watch", dest="watch", action="store_false", default=None, help="do not follow changes of the folder")
    add("--strict", action="store_true", default=None, help="exit 1 when a wrapper does not load")
    add("--show-tracebacks", action="store_true", default=None, help="put tracebacks into replies: for development")
    add("--log-format", choices=("auto", "console", "json"), help="auto: console on a terminal, else json")
    add("--log-level", choices=("debug", "info", "warning", "error"), help="lowest level that is logged (info)")
    add("--no-access-log", dest="access_log", action="store_false", default=None, help="no line for each request")


def main(args: argparse.Namespace) -> int:
    typed: dict[str, Any] = {
        name: value for name, value in vars(args).items() if name in Settings.model_fields and value is not None
    }
    settings = load_settings(typed, os.environ, Path.cwd())
    if not settings.wrappers_dir.is_dir():
        raise ConfigError(
            f"there is no folder {settings.wrappers_dir}: name the folder of wrappers with --wrappers-dir"
        )
    check_folders(settings)
    prepare_haystack()
    read = partial(read_environ, args.environ, Path.cwd() / ".env")
    return _serve(settings, Origins(typed, read, Path.cwd()) if args.reload else None)


def _serve(settings: Settings, origins: Origins | None) -> int:
    """`origins`: where the settings are to be loaded from again; None for no reload."""
    from gateway import server
    from gateway.state import LOG_LOCK, State
    from gateway.telemetry.log import configure_logging

    is_supervised = settings.workers > 1 or origins is not None
    configure = partial(configure_logging, level=settings.log_level, format=settings.log_format)
    configure(pid=os.getpid() if is_supervised else None)
    state = State(settings.state_path)
    try:
        lock = state.lock()
        listener = server.bind(settings)
        settings = settings.model_copy(update={"state_dir": state.folder()})
        if not is_supervised:
            from gateway.app import create_app

            return server.run(create_app(settings), settings, listener)
        configure(pid=os.getpid(), lock=state.folder() / LOG_LOCK)
        return asyncio.run(_supervise(settings, origins, listener, state, lock))
    finally:
        state.close()


async def _supervise(
    settings: Settings, origins: Origins | None, listener: socket.socket, state: "State", lock: int
) -> int:
    from gateway.reload import Reloader
    from gateway.supervisor import Supervisor

    supervisor = Supervisor(settings, os.environ, listener, state, lock)
    reloader = Reloader(settings, origins, supervisor.renew) if origins is not None else None
    reloading = asyncio.create_task(reloader.watch()) if reloader is not None else None
    try:
        return await supervisor.run()
    finally:
        if reloading is not None:
            reloading.cancel()
