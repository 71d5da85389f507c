"""`pipeline list`: the names that serve, one a line; with `--history` what can be gone back to."""

import argparse
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from gateway.cli.client import Client, make_client, parse_json, quote_name
from gateway.cli.error import CommandError, UsageError
from gateway.cli.output import open_output
from gateway.cli.status import add_arguments as add_status_arguments
from gateway.cli.status import align, read_status


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--history", action="store_true", help="every generation that is kept, newest first")
    add_status_arguments(parser)


def main(args: argparse.Namespace) -> int:
    if args.history and args.json:
        raise UsageError("--history is made of several replies: give either it or --json")
    client = make_client(args, os.environ)
    body = client.get("/status")
    status = read_status(body, client.address)
    if args.history:
        text = _history(client, status)
    elif args.json:
        text = body
    else:
        text = "".join(f"{name}\n" for name in status["pipelines"]).encode()
    with open_output(None) as write:
        write(text)
    return 0


def _history(client: Client, status: Mapping[str, Any]) -> bytes:
    rows = [["NAME", "GENERATION", "ORIGIN", "MADE", "DESCRIPTION"]]
    for name in sorted(status.get("wrappers") or status["pipelines"]):
        path = f"/status/{quote_name(name)}"
        told = parse_json(client.get(path), client.address)
        if not isinstance(told, dict):
            raise CommandError(f"the reply of {client.address} is no status; is that a gateway?")
        for kept in told.get("history") or ():
            made = datetime.fromtimestamp(kept["created_at"], UTC).strftime("%Y-%m-%d %H:%M:%SZ")
            mark = "*" if kept["number"] == status["wrappers"][name].get("generation") else ""
            description = " ".join(kept["description"].split())
            rows.append([name, f"{kept['number']}{mark}", kept["origin"], made, description])
    return "".join(f"{line}\n" for line in align(rows)).encode()
