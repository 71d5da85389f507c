import pytest

from gateway.cli.sse import Event, EventDecoder

CASES = {
    "one event": (b"data: a\n\n", [Event("message", "a")]),
    "no space after the colon": (b"data:a\n\n", [Event("message", "a")]),
    "only one space is taken": (b"data:  a\n\n", [Event("message", " a")]),
    "lines joined": (b"data: a\ndata:\ndata: b\n\n", [Event("message", "a\n\nb")]),
    "a line break alone": (b"data: \ndata: \n\n", [Event("message", "\n")]),
    "data without a colon": (b"data\n\n", [Event("message", "")]),
    "named": (b"event: error\ndata: x\n\ndata: y\n\n", [Event("error", "x"), Event("message", "y")]),
    "a name without data": (b"event: error\n\ndata: y\n\n", [Event("message", "y")]),
    "comments, ids and unknown fields": (b": ping\n\nid: 1\nretry: 5\nfoo: b\ndata: a\n\n", [Event("message", "a")]),
    "crlf": (b"data: a\r\ndata: b\r\n\r\n", [Event("message", "a\nb")]),
    "cr": (b"data: a\rdata: b\r\rdata: c\r\r", [Event("message", "a\nb"), Event("message", "c")]),
    "mixed ends": (b"data: a\r\n\ndata: b\n\r", [Event("message", "a"), Event("message", "b")]),
    "a byte order mark": (b"\xef\xbb\xbfdata: a\n\n", [Event("message", "a")]),
    "a second byte order mark": (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", []),
    "other scripts and other line ends": ("data: ä\u2028🙂\n\n".encode(), [Event("message", "ä\u2028🙂")]),
    "not UTF-8": (b"data: \xff\n\n", [Event("message", "\ufffd")]),
    "cut off": (b"data: a\n\ndata: b\n", [Event("message", "a")]),
    "a colon in the data": (b"data: a: b\n\n", [Event("message", "a: b")]),
}


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
@pytest.mark.parametrize(("body", "events"), CASES.values(), ids=CASES)
def test_events_in_pieces_of_any_size(body: bytes, events: list[Event], size: int) -> None:
    decoder = EventDecoder()
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    assert [event for piece in pieces for event in decoder.feed(piece)] == events


def test_event_comes_with_the_carriage_return_that_ends_it() -> None:
    decoder = EventDecoder()
    assert decoder.feed(b"data: a\r\r") == [Event("message", "a")]
    assert decoder.feed(b"") == []
    assert decoder.feed(b"\ndata: b\n\n") == [Event("message", "b")]
