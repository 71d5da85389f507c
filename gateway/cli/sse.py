"""Server-sent events, read: bytes in, events out.

Source: WHATWG HTML, 9.2.6 "Interpreting an event stream" (read November 2026). `id` and `retry` serve only those who
reconnect, which a run cannot, so they are skipped.
"""

import codecs
import re
from dataclasses import dataclass

_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class Event:
    """`type` is "message" where the stream named none; the lines of `data` are joined by `\\n`."""

    type: str
    data: str


class EventDecoder:
    """Feed it the body in pieces of any size. An event that is cut off by the body's end is dropped (the standard)."""

    def __init__(self) -> None:
        self._text = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._line: list[
            str
        ] = []  # pieces of a line that has not ended; joined once, so that a long line costs no more
        self._is_after_cr = False
        self._type = ""
        self._data: list[str] = []

    def feed(self, piece: bytes) -> list[Event]:
        text = self._text.decode(piece)
        if self._is_after_cr and text:
            text = text.removeprefix("\n")  # the second half of a CRLF
            self._is_after_cr = False
        self._is_after_cr = self._is_after_cr or text.endswith("\r")
        *lines, rest = _LINE_END.split(text)
        events = []
        for line in lines:
            self._line.append(line)
            event = self._take("".join(self._line))
            self._line.clear()
            if event:
                events.append(event)
        if rest:
            self._line.append(rest)
        return events

    def _take(self, line: str) -> Event | None:
        if not line:
            event = Event(self._type or "message", "\n".join(self._data)) if self._data else None
            self._type, self._data = "", []
            return event
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._type = value
        return None
