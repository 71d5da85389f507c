"""`pipeline rollback NAME`: serve a generation again that is kept."""

import argparse
import os

from gateway.cli.client import add_client_arguments, make_client, quote_name
from gateway.cli.pipeline_deploy_files import post


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the wrapper")
    parser.add_argument("-g", "--generation", type=int, metavar="N", help="which (default: the one before)")
    parser.add_argument("--json", action="store_true", help="print the reply, untouched")
    add_client_arguments(parser, default_timeout_s=None)


def main(args: argparse.Namespace) -> int:
    query = "" if args.generation is None else f"?generation={args.generation}"
    path = f"/rollback/{quote_name(args.name)}{query}"
    return post(make_client(args, os.environ), path, {}, is_raw=args.json, done="serves")
