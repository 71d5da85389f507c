"""`gateway check DIR`: what would be served, and what would not, without serving it."""

import argparse
import asyncio
import inspect
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from gateway.cli.environment import prepare_haystack
from gateway.compat import hayhooks
from gateway.errors import ConfigError, LoadError
from gateway.loader import share_code
from gateway.preparer import Preparer
from gateway.registry import Deployment
from gateway.settings import load_settings
from gateway.source import Found, scan
from gateway.telemetry.log import configure_logging
from gateway.thread import ThreadPool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("wrappers_dir", type=Path, metavar="DIR", help="the folder of wrappers")
    add("--additional-python-path", type=Path, help="folder of code shared by wrappers")
    add("--json", action="store_true", help="print the report as JSON")
    add("--report", type=Path, help=argparse.SUPPRESS)  # the child's side


def main(args: argparse.Namespace) -> int:
    """1 when a wrapper would not serve. The wrappers are loaded in a child process, which they may pollute or crash."""
    if not args.wrappers_dir.is_dir():
        raise ConfigError(f"there is no folder {args.wrappers_dir}")
    if args.report is not None:
        report = asyncio.run(_load(args))
        args.report.write_text(json.dumps(report), encoding="utf-8")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        # -P: a `secrets.py` in the working directory is not the standard library's
        command = [sys.executable, "-P", "-m", "gateway", "check", str(args.wrappers_dir), "--report", str(path)]
        if args.additional_python_path is not None:
            command += ["--additional-python-path", str(args.additional_python_path)]
        # What the wrappers print is theirs to tell, but not part of the report.
        code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False).returncode  # noqa: S603
        if not path.exists():
            raise ConfigError(f"the process that loads the wrappers ended with exit code {code} before all were loaded")
        report = json.loads(path.read_text(encoding="utf-8"))
    print(json.dumps(report, indent=2) if args.json else _show(report))
    return 1 if any("reason" in wrapper for wrapper in report.values()) else 0


async def _load(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    prepare_haystack()
    configure_logging(level="critical")  # the reasons stand in the report
    typed = {"wrappers_dir": args.wrappers_dir, "additional_python_path": args.additional_python_path}
    settings = load_settings(
        {name: value for name, value in typed.items() if value is not None}, os.environ, Path.cwd()
    )
    share_code(settings.additional_python_path)
    pool = ThreadPool("check")
    preparer = Preparer(settings, pool)
    hayhooks.install()
    report: dict[str, dict[str, Any]] = {}

    async def check(found: Found) -> None:
        report[found.name] = {}
        try:
            deployment = await preparer.prepare(found, 1)
        except LoadError as error:
            report[found.name] = {"reason": error.message}
        else:
            report[found.name] = {"methods": _signatures(deployment)}
            await preparer.close(deployment)

    async with asyncio.TaskGroup() as checks:
        for found in await pool.call(lambda: scan(settings.wrappers_dir.absolute())):
            checks.create_task(check(found))
    return report


def _signatures(deployment: Deployment) -> list[str]:
    return [f"{method.call.__name__}{inspect.signature(method.call)}" for method in deployment.methods.values()]


def _show(report: dict[str, dict[str, Any]]) -> str:
    width = max(map(len, report), default=0)
    lines = [
        f"{'FAILS ' if 'reason' in wrapper else 'serves'}  {name:{width}}  {text}"
        for name, wrapper in report.items()
        for text in wrapper.get("methods") or [wrapper["reason"]]
    ]
    failed = sum("reason" in wrapper for wrapper in report.values())
    return "\n".join([*lines, f"{len(report)} found, {len(report) - failed} would serve, {failed} would not"])
