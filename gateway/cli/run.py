"""`gateway run`: the server."""

import argparse
import os
from pathlib import Path
from typing import Any

from gateway.cli.environment import prepare_haystack
from gateway.errors import ConfigError
from gateway.settings import Settings, load_settings

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
    add("-w", "--workers", type=int, default=1, help="worker processes; this version serves with 1")
    add("-r", "--reload", action="store_true", help="not in this version")
    add("--strict", action="store_true", default=None, help="exit 1 when a wrapper does not load")
    add("--show-tracebacks", action="store_true", default=None, help="put tracebacks into replies: for development")
    add("--log-format", choices=("auto", "console", "json"), help="auto: console on a terminal, else json")
    add("--log-level", choices=("debug", "info", "warning", "error"), help="lowest level that is logged (info)")
    add("--no-access-log", dest="access_log", action="store_false", default=None, help="no line for each request")


def main(args: argparse.Namespace) -> int:
    if args.workers != 1:
        raise ConfigError("--workers: this version serves with one worker")
    if args.reload:
        raise ConfigError("--reload: this version does not have it yet; restart the server instead")
    typed: dict[str, Any] = {
        name: value for name, value in vars(args).items() if name in Settings.model_fields and value is not None
    }
    settings = load_settings(typed, os.environ, Path.cwd())
    if not settings.wrappers_dir.is_dir():
        raise ConfigError(
            f"there is no folder {settings.wrappers_dir}: name the folder of wrappers with --wrappers-dir"
        )
    for folder in (settings.wrappers_dir, settings.additional_python_path):
        if folder is not None and not os.access(folder, os.R_OK | os.X_OK):
            raise ConfigError(f"the folder {folder} cannot be read")
    prepare_haystack()
    return _serve(settings)


def _serve(settings: Settings) -> int:
    from gateway import server
    from gateway.app import create_app
    from gateway.telemetry.log import configure_logging

    listener = server.bind(settings)
    configure_logging(level=settings.log_level, format=settings.log_format)
    return server.run(create_app(settings), settings, listener)
