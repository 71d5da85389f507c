"""A load generator for machines without wrk: `python client.py PORT PATH BODY SECONDS CONNECTIONS` prints JSON.

It relies on what the measured replies look like: a Content-Length, or chunks whose data does not end like a last one.
"""

import asyncio
import json
import sys
import time
from contextlib import suppress

LAST_CHUNK = b"\r\n0\r\n\r\n"


class Connection(asyncio.Protocol):
    """Sends the request again as soon as the reply to the last one is whole."""

    def __init__(self, request: bytes, lost: asyncio.Event) -> None:
        self.replies = self.bytes = self.errors = 0
        self._request = request
        self._lost = lost
        self._buffer = b""
        self._end = 0  # of a reply with a length, in the buffer; 0: its head has not come yet; -1: it is chunked

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.bytes += len(data)
        self._buffer += data
        if self._end == 0 and not self._read_head():
            return
        if not (self._buffer.endswith(LAST_CHUNK) if self._end < 0 else len(self._buffer) >= self._end):
            return
        self.replies += 1
        self._buffer, self._end = b"", 0
        self._transport.write(self._request)

    def _read_head(self) -> bool:
        head, found, _ = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return False
        if head.split(b" ", 2)[1][:1] != b"2":
            self.errors += 1
        _, has_length, rest = head.lower().partition(b"content-length:")
        self._end = len(head) + 4 + int(rest.split(b"\r\n", 1)[0]) if has_length else -1
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self.errors += 1
        self._lost.set()


async def load(port: int, request: bytes, seconds: float, connections: int) -> dict[str, float]:
    """Replies, bytes and errors of so many seconds. Ends early when the server drops a connection."""
    lost = asyncio.Event()
    loop = asyncio.get_running_loop()
    begun_s = time.monotonic()
    pairs = [
        await loop.create_connection(lambda: Connection(request, lost), "127.0.0.1", port) for _ in range(connections)
    ]
    with suppress(TimeoutError):
        await asyncio.wait_for(lost.wait(), seconds)
    taken_s = time.monotonic() - begun_s
    protocols = [protocol for _, protocol in pairs]
    totals = {name: sum(getattr(each, name) for each in protocols) for name in ("replies", "bytes", "errors")}
    for transport, _ in pairs:
        transport.abort()
    return {**totals, "seconds": taken_s}


def main(port: str, path: str, body: str, seconds: str, connections: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
    print(json.dumps(asyncio.run(load(int(port), request, float(seconds), int(connections)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
