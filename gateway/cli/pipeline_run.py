"""`pipeline run NAME`: one run over HTTP, with parameters and files; the result goes to stdout or into a file."""

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.cli.client import Client, add_client_arguments, make_client, parse_json, quote_name
from gateway.cli.error import CommandError
from gateway.cli.output import open_output
from gateway.cli.param import Schema, admits_text, kinds_of, parse_or_text, read_params, split_param
from gateway.cli.reply import deliver
from gateway.cli.upload import MultipartBody, choose_field, find_uploads


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the wrapper to run")
    parser.add_argument(
        "--param",
        "-p",
        type=split_param,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an argument: text where the wrapper takes text, else JSON; the same key again fills a list",
    )
    parser.add_argument("--file", "-f", type=Path, action="append", default=[], help="a file to send; repeatable")
    parser.add_argument("--dir", "-d", type=Path, action="append", default=[], help="a folder of files to send")
    parser.add_argument("--stream", "-s", action="store_true", help="accepted; streams are always shown as they arrive")
    parser.add_argument("--json", action="store_true", help="print the whole reply, untouched")
    parser.add_argument(
        "--output", "-o", type=Path, metavar="FILE", help="write the result into FILE, whole or not at all"
    )
    parser.add_argument(
        "--retries",
        type=_count,
        default=0,
        metavar="N",
        help="repeat when the connection is refused or the answer is 429, 502, 503 or 504 (default: 0)",
    )
    add_client_arguments(parser, default_timeout_s=None)


def main(args: argparse.Namespace) -> int:
    client = make_client(args, os.environ)
    path = f"/{quote_name(args.name)}"
    uploads = find_uploads(args.file, args.dir)
    description = _describe(client, path) if args.param or uploads else {}
    schema = description.get("arguments", {})
    values = read_params(args.param, schema)
    body: bytes | MultipartBody
    if uploads:
        field = choose_field(args.name, description.get("files", []))
        body = MultipartBody(form_fields(values, schema), [(field, upload) for upload in uploads])
        media_type = body.media_type
    else:
        body, media_type = json.dumps(values).encode(), "application/json"
    is_terminal = args.output is None and sys.stdout.isatty()
    with (
        open_output(args.output) as write,  # before the run: a folder that cannot be written costs none
        client.send("POST", f"{path}/run", body, media_type) as response,
    ):
        deliver(response, write, is_raw=args.json, is_terminal=is_terminal)
    return 0


def form_fields(values: Mapping[str, Any], schema: Schema) -> list[tuple[str, str]]:
    """The arguments as text fields from which the server reads the same values again."""
    fields = []
    for key, value in values.items():
        is_text = admits_text(kinds_of(key, schema))
        # in a text field a JSON list would be text: the items go one by one
        for item in value if is_text and isinstance(value, list) else [value]:
            fields.append((key, _form_text(item, is_text)))
    return fields


def _form_text(value: Any, is_text: bool) -> str:
    """A string stands as it is unless the server would read something else in it, which its JSON literal prevents."""
    if not isinstance(value, str):
        return json.dumps(value)
    read = parse_or_text(value)
    # in a text field the server looks for null and for quoted strings only
    is_misread = read != value and (not is_text or read is None or isinstance(read, str))
    return json.dumps(value) if is_misread else value


def _describe(client: Client, path: str) -> Mapping[str, Any]:
    address = f"{client.address}{path}/schema"
    description = parse_json(client.get(f"{path}/schema"), address)
    if not isinstance(description, dict) or not isinstance(description.get("arguments"), dict):
        raise CommandError(f"{address} describes no arguments; is that a gateway?")
    return description


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)
