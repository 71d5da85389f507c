"""`pipeline deploy-yaml FILE`: deploy a pipeline in YAML to a running server."""

import argparse
import os
from pathlib import Path

from gateway.cli.client import make_client
from gateway.cli.error import CommandError
from gateway.cli.pipeline_deploy_files import add_deploy_arguments, post


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", type=Path, metavar="FILE", help="the pipeline, with its inputs and outputs")
    add("-n", "--name", help="what it is to be called (default: the file's name)")
    add(
        "--save-file",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="put it into the server's folder of wrappers",
    )
    add("--skip-mcp", action=argparse.BooleanOptionalAction, help="accepted; no pipeline is an MCP tool yet")
    add_deploy_arguments(parser)


def main(args: argparse.Namespace) -> int:
    try:
        source = args.file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"cannot read {args.file}: {getattr(error, 'strerror', None) or error}") from None
    body = {
        "name": args.name or args.file.stem,
        "source_code": source,
        "overwrite": args.overwrite,
        "save_file": args.save_file,
        "description": args.description,
    }
    return post(make_client(args, os.environ), "/deploy-yaml", body, is_raw=args.json, done="serves")
