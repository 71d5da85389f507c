"""`pipeline restore NAME`: serve again what was taken down."""

import argparse
import os

from gateway.cli.client import make_client, quote_name
from gateway.cli.pipeline_deploy_files import post
from gateway.cli.pipeline_undeploy import add_arguments

__all__ = ["add_arguments", "main"]


def main(args: argparse.Namespace) -> int:
    client = make_client(args, os.environ)
    return post(client, f"/restore/{quote_name(args.name)}", {}, is_raw=args.json, done="serves")
