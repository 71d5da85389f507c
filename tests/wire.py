"""HTTP/1.1 over a plain socket: shows each chunk as the server wrote it, and whether the end came."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

WAIT_S = 20.0


class Cut(Exception):
    """The connection ended before the body did."""


class Connection:
    """One client connection. `status` and `headers` are those of the last reply."""

    def __init__(self, port: int, *, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(WAIT_S)
        self.socket.connect(("127.0.0.1", port))
        self._file = self.socket.makefile("rb")
        self.status = 0
        self.headers: dict[str, str] = {}

    def post(self, path: str = "/w/run", body: Any = None, **headers: str) -> "Connection":
        payload = json.dumps({} if body is None else body).encode()
        lines = [f"POST {path} HTTP/1.1", "Host: test", "Content-Type: application/json"]
        lines += [f"Content-Length: {len(payload)}", *(f"{name}: {value}" for name, value in headers.items())]
        self.socket.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + payload)
        return self

    def get(self, path: str) -> "Connection":
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        return self

    def head(self) -> "Connection":
        """Read the status line and the headers."""
        line = self._file.readline()
        if not line:
            raise Cut("no reply")
        self.status = int(line.split()[1])
        self.headers = {}
        while line := self._file.readline().strip().decode():
            name, _, value = line.partition(":")
            self.headers[name.lower()] = value.strip()
        return self

    def piece(self) -> bytes:
        """The next chunk of a chunked body; b"" is the last one. Raises `Cut`."""
        line = self._file.readline()
        if not line:
            raise Cut
        data = self._file.read(int(line, 16) + 2)
        if not data.endswith(b"\r\n"):
            raise Cut
        return data[:-2]

    def pieces(self) -> Iterator[bytes]:
        """The chunks that are left, without the closing one. Raises `Cut` when that does not come."""
        while piece := self.piece():
            yield piece

    def body(self) -> bytes:
        """What is left of the body, chunked or not."""
        if "content-length" in self.headers:
            return self._file.read(int(self.headers["content-length"]))
        return b"".join(self.pieces())

    def until_cut(self) -> bytes:
        """What comes before the connection ends without a closing chunk."""
        data = b""
        try:
            for piece in self.pieces():
                data += piece
        except Cut:
            return data
        raise AssertionError(f"the body was ended properly after {data[-200:]!r}")

    def is_closed_by_server(self) -> bool:
        return self._file.read(1) == b""

    def leave(self) -> None:
        """Close at once."""
        self._file.close()
        self.socket.close()


@contextmanager
def connect(port: int, *, receive_buffer: int | None = None) -> Iterator[Connection]:
    connection = Connection(port, receive_buffer=receive_buffer)
    try:
        yield connection
    finally:
        connection.leave()


def get(port: int, path: str) -> tuple[int, Any]:
    """Status and JSON body, over a connection of its own."""
    with connect(port) as connection:
        body = connection.get(path).head().body()
        return connection.status, json.loads(body)


def read_events(body: bytes) -> list[tuple[str, str]]:
    """`(event, data)` of each server-sent event; comments are left out."""
    events = []
    for block in body.decode().split("\n\n"):
        kind, data = "message", []
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            if name == "event":
                kind = value.removeprefix(" ")
            elif name == "data":
                data.append(value.removeprefix(" "))
        if data:
            events.append((kind, "\n".join(data)))
    return events
