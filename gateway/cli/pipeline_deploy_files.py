"""`pipeline deploy-files DIR`: deploy a wrapper's folder to a running server."""

import argparse
import json
import os
from base64 import b64encode
from pathlib import Path
from typing import Any

from gateway.cli.client import Client, add_client_arguments, make_client, parse_json, read_pieces
from gateway.cli.error import CommandError
from gateway.cli.output import open_output
from gateway.cli.upload import find_uploads
from gateway.source import is_ignored


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="the wrapper's folder; hidden files stay where they are")
    add("-n", "--name", help="what the wrapper is to be called (default: the folder's name)")
    add("-s", "--skip-saving-files", action="store_true", help="keep it out of the server's folder of wrappers")
    add_deploy_arguments(parser)


def add_deploy_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-o", "--overwrite", action="store_true", help="replace a wrapper of this name")
    add("--description", default="", metavar="TEXT", help="what stands beside it in the history")
    add("--json", action="store_true", help="print the reply, untouched")
    add_client_arguments(parser, default_timeout_s=None)


def main(args: argparse.Namespace) -> int:
    name = args.name or args.folder.resolve().name
    uploads = [upload for upload in find_uploads([], [args.folder]) if not is_ignored(Path(upload.name))]
    files = {upload.name: _content(upload.path) for upload in uploads}
    body = {
        "name": name,
        "files": files,
        "overwrite": args.overwrite,
        "save_files": not args.skip_saving_files,
        "description": args.description,
    }
    return post(make_client(args, os.environ), "/deploy_files", body, is_raw=args.json, done="serves")


def post(client: Client, path: str, body: Any, *, is_raw: bool, done: str) -> int:
    """Send, and say in one line what has been done."""
    with client.send("POST", path, json.dumps(body).encode(), "application/json") as response:
        reply = b"".join(read_pieces(response))
    told = parse_json(reply, client.address)
    if not isinstance(told, dict) or "name" not in told:
        raise CommandError(f"the reply of {client.address} names no wrapper; is that a gateway?")
    generation = f" (generation {told['generation']})" if "generation" in told else ""
    with open_output(None) as write:
        write(reply if is_raw else f"{told['name']} {done}{generation}\n".encode())
    return 0


def _content(path: Path) -> Any:
    try:
        str(path).encode()
        content = path.read_bytes()
    except UnicodeEncodeError:
        raise CommandError(f"{str(path)!a} has a name that is no Unicode: it cannot be sent") from None
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return {"content_base64": b64encode(content).decode()}
