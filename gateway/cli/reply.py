"""A reply of `POST /{name}/run`, by its media type, to the output."""

import json
from collections.abc import Callable, Iterable

import requests

from gateway.cli.client import parse_json, read_pieces
from gateway.cli.error import CommandError
from gateway.cli.failure import explain_reply
from gateway.cli.output import Write
from gateway.cli.sse import EventDecoder


def deliver(response: requests.Response, write: Write, *, is_raw: bool, is_terminal: bool) -> None:
    """Write what the run gave: a JSON reply's `result`, the data of events, any other body untouched.

    `is_raw`: every body untouched. `is_terminal`: somebody's screen is written to, so that only text may go there.
    Raises `CommandError` for a reply that breaks off, an error event, JSON that is none, and bytes for a screen.
    """
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    pieces = read_pieces(response)
    if media_type == "text/event-stream":
        _deliver_events(pieces, write, is_raw)
    elif media_type == "application/json" or media_type.endswith("+json"):
        body = b"".join(pieces)
        write(body if is_raw else render(body, response.url))
    elif is_terminal and not media_type.startswith("text/"):
        raise CommandError(
            f"the reply is {media_type or 'of no known type'}, not text: write it to a file with -o FILE"
        )
    else:
        for piece in pieces:
            write(piece)


def render(body: bytes, address: str) -> bytes:
    """The `result` in a JSON body, or all of it where it has none: a string as it is, else indented; one line end."""
    reply = parse_json(body, address)
    result = reply["result"] if isinstance(reply, dict) and "result" in reply else reply
    text = result if isinstance(result, str) else json.dumps(result, indent=2, ensure_ascii=False)
    # half a surrogate pair has no UTF-8: it is shown as the escape that JSON has for it
    return (text if text.endswith("\n") else f"{text}\n").encode("utf-8", "backslashreplace")


def _deliver_events(pieces: Iterable[bytes], write: Callable[[bytes], object], is_raw: bool) -> None:
    decoder = EventDecoder()
    for piece in pieces:
        if is_raw:
            write(piece)
        for event in decoder.feed(piece):
            if event.type == "error":
                raise CommandError(explain_reply(event.data, event.data or "the run failed"))
            if not is_raw:
                write(event.data.encode("utf-8", "backslashreplace"))
