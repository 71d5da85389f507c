"""`chat NAME`: a conversation in the terminal, or one answer to what is piped in."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from gateway.cli.client import Client, add_client_arguments, make_client, read_pieces
from gateway.cli.error import CommandError
from gateway.cli.failure import explain_reply
from gateway.cli.output import Write, open_output
from gateway.cli.sse import EventDecoder

HELP = "/reset forgets the conversation, /quit or Ctrl-D ends it; Ctrl-C stops an answer"

Message = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the wrapper to talk to")
    parser.add_argument("--system", metavar="TEXT", help="a system message that stands before the conversation")
    add_client_arguments(parser, default_timeout_s=None)


def main(args: argparse.Namespace) -> int:
    client = make_client(args, os.environ)
    opening = [{"role": "system", "content": args.system}] if args.system else []
    with open_output(None) as write:
        if not sys.stdin.isatty():
            question = _read_question()
            if not question.strip():
                raise CommandError("there is nothing to answer: pipe a question in, or start it in a terminal")
            _answer(client, args.name, [*opening, {"role": "user", "content": question}], write)
            return 0
        return _converse(client, args.name, opening, write)


def _read_question() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig").rstrip("\n")
    except UnicodeDecodeError as error:
        raise CommandError(f"the question is not UTF-8: {error.reason} at byte {error.start}") from None


def _converse(client: Client, name: str, opening: list[Message], write: Write) -> int:
    with suppress(ImportError):  # makes `input` edit its line and remember those before
        import readline  # noqa: F401
    print(f"talking to {name}; {HELP}", file=sys.stderr)
    messages = list(opening)
    while True:
        try:
            question = input("> ").strip()
        except EOFError:
            print(file=sys.stderr)
            return 0
        if question == "/quit":
            return 0
        if question == "/reset":
            messages = list(opening)
            print("the conversation is forgotten", file=sys.stderr)
        elif question == "/help":
            print(HELP, file=sys.stderr)
        elif question:
            turn: Message = {"role": "user", "content": question}
            try:
                answer = _answer(client, name, [*messages, turn], write)
                messages += [turn, {"role": "assistant", "content": answer}]
            except CommandError as error:
                print(error.message, file=sys.stderr)
            except KeyboardInterrupt:  # the turn is left out: its answer is not whole
                print("\nstopped", file=sys.stderr)


def _answer(client: Client, name: str, messages: list[Message], write: Write) -> str:
    """Show the answer as it comes, ended by a line end; returns it. Raises `CommandError` when it breaks off."""
    body = json.dumps({"model": name, "messages": messages, "stream": True}).encode()
    text: list[str] = []
    called: list[str] = []
    try:
        with client.send("POST", "/v1/chat/completions", body, "application/json") as response:
            for delta in _read_deltas(read_pieces(response)):
                content = delta.get("content")
                if isinstance(content, str):
                    text.append(content)
                    write(content.encode("utf-8", "backslashreplace"))
                functions = [call.get("function") or {} for call in delta.get("tool_calls") or ()]
                called += [function["name"] for function in functions if function.get("name")]
    finally:
        if text and not text[-1].endswith("\n"):
            write(b"\n")
    if called:
        print(f"the wrapper asks its client to call {', '.join(called)}, which this one cannot", file=sys.stderr)
    return "".join(text)


def _read_deltas(pieces: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    decoder = EventDecoder()
    for piece in pieces:
        for event in decoder.feed(piece):
            if event.data == "[DONE]":
                return
            try:
                chunk = json.loads(event.data)
            except ValueError:
                raise CommandError("the reply is no chat stream; is that a gateway?") from None
            if "error" in chunk:
                raise CommandError(explain_reply(event.data, "the run failed"))
            for choice in chunk.get("choices") or ():
                yield choice.get("delta") or {}
    raise CommandError("the reply is incomplete: the connection broke")
