"""`pipeline list`: the names that serve, one a line."""

import argparse
import os

from gateway.cli.client import make_client
from gateway.cli.output import open_output
from gateway.cli.status import add_arguments, read_status

__all__ = ["add_arguments", "main"]


def main(args: argparse.Namespace) -> int:
    client = make_client(args, os.environ)
    body = client.get("/status")
    text = (
        body if args.json else "".join(f"{name}\n" for name in read_status(body, client.address)["pipelines"]).encode()
    )
    with open_output(None) as write:
        write(text)
    return 0
