"""`status`: is the server up, and how is each wrapper?"""

import argparse
import os
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.cli.client import add_client_arguments, make_client, parse_json
from gateway.cli.error import CommandError
from gateway.cli.output import open_output

TIMEOUT_S = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the reply, untouched")
    add_client_arguments(parser, default_timeout_s=TIMEOUT_S)


def main(args: argparse.Namespace) -> int:
    client = make_client(args, os.environ)
    body = client.get("/status")
    text = body if args.json else render(read_status(body, client.address), client.address).encode()
    with open_output(None) as write:
        write(text)
    return 0


def read_status(body: bytes, address: str) -> Mapping[str, Any]:
    """Raises `CommandError` when `body` is no reply of `GET /status`."""
    status = parse_json(body, address)
    if not isinstance(status, dict) or not isinstance(status.get("pipelines"), list):
        raise CommandError(f"the reply of {address} is no status; is that a gateway?")
    return status


def render(status: Mapping[str, Any], address: str) -> str:
    """A line for the server, then a table with a line for each wrapper. A server of Hayhooks tells names only."""
    version = f", version {status['version']}" if "version" in status else ""
    ready = "" if status.get("ready", True) else ", not ready yet"
    head = f"{address} is up{version}{ready}"
    wrappers = status.get("wrappers") or {name: {"state": "serving"} for name in status["pipelines"]}
    if not wrappers:
        return f"{head}\nno wrappers\n"
    rows = [["NAME", "STATE", "GENERATION", "REASON"], *(_row(name, wrappers[name]) for name in sorted(wrappers))]
    return "\n".join([head, *align(rows)]) + "\n"


def _row(name: str, wrapper: Mapping[str, Any]) -> list[str]:
    reason = " ".join(str(wrapper.get("reason") or "").split())
    return [name, str(wrapper.get("state", "")), str(wrapper.get("generation", "")), reason]


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with their columns under one another."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
