"""`pipeline undeploy NAME`: take a wrapper down; its files stay."""

import argparse
import os

from gateway.cli.client import add_client_arguments, make_client, quote_name
from gateway.cli.pipeline_deploy_files import post


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the wrapper to take down")
    parser.add_argument("--json", action="store_true", help="print the reply, untouched")
    add_client_arguments(parser, default_timeout_s=None)


def main(args: argparse.Namespace) -> int:
    client = make_client(args, os.environ)
    return post(client, f"/undeploy/{quote_name(args.name)}", {}, is_raw=args.json, done="has been taken down")
