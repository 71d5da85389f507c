"""A stand-in for the server: says what a test tells it to, and keeps what it was sent."""

import json
import socket
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from python_multipart.multipart import MultipartParser, parse_options_header


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Message
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def parts(self) -> list[tuple[str, str | None, bytes]]:
        """The form's parts as (field, file name, bytes), read by python-multipart as on the server."""
        _, options = parse_options_header(self.headers["Content-Type"])
        parts: list[tuple[str, str | None, bytes]] = []
        state: dict[str, Any] = {}

        def begin() -> None:
            state.update(name=b"", value=b"", disposition=b"", body=b"")

        def end_header() -> None:
            if state["name"].lower() == b"content-disposition":
                state["disposition"] = state["value"]
            state.update(name=b"", value=b"")

        def add(key: str) -> Callable[[bytes, int, int], None]:
            def more(data: bytes, start: int, end: int) -> None:
                state[key] += data[start:end]

            return more

        def end_part() -> None:
            _, fields = parse_options_header(state["disposition"])
            name = fields.get(b"filename")
            parts.append((fields[b"name"].decode(), name and name.decode(), state["body"]))

        parser = MultipartParser(
            options[b"boundary"],
            {
                "on_part_begin": begin,
                "on_header_field": add("name"),
                "on_header_value": add("value"),
                "on_header_end": end_header,
                "on_part_data": add("body"),
                "on_part_end": end_part,
            },
        )
        parser.write(self.body)
        parser.finalize()
        return parts


@dataclass(frozen=True)
class Reply:
    """`body`: bytes get a Content-Length, an iterable goes out chunk by chunk; `is_cut`: without the last chunk."""

    body: bytes | Iterable[bytes] = b""
    status: int = 200
    media_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    is_cut: bool = False

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(self.status)
        handler.send_header("Content-Type", self.media_type)
        for name, value in self.headers.items():
            handler.send_header(name, value)
        if isinstance(self.body, bytes):
            handler.send_header("Content-Length", str(len(self.body) + self.is_cut))
            handler.end_headers()
            handler.wfile.write(self.body)
            handler.close_connection |= self.is_cut
            return
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for piece in self.body:
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        if self.is_cut:
            handler.close_connection = True
        else:
            handler.wfile.write(b"0\r\n\r\n")


def as_json(value: Any, status: int = 200, **headers: str) -> Reply:
    return Reply(json.dumps(value).encode(), status, headers=headers)


class Double:
    """`on(method, path, *replies)`: the replies in their order, the last one for ever."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._connections: list[socket.socket] = []
        self._refusals: dict[str, Callable[[Any], None]] = {}
        self._replies: dict[tuple[str, str], list[Callable[[Any], None]]] = {}
        double = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if self.path in double._refusals:
                    double._refusals[self.path](self)
                    self.close_connection = True
                    return
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                double.requests.append(Request(self.command, self.path, self.headers, body))
                replies = double._replies.get((self.command, self.path), [as_json({"detail": "not here"}, 404)])
                reply = replies.pop(0) if len(replies) > 1 else replies[0]
                reply(self)

            do_POST = do_GET  # noqa: N815

            def log_message(self, *args: Any) -> None:
                pass

            def setup(self) -> None:
                super().setup()
                double._connections.append(self.connection)

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                if not isinstance(sys.exception(), ConnectionError):  # a client may leave when it likes
                    super().handle_error(request, client_address)

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False  # so that close() waits for every one
        self._thread = Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def on(self, method: str, path: str, *replies: Callable[[Any], None]) -> None:
        self._replies[method, path] = list(replies)

    def refuse_body(self, path: str, reply: Callable[[Any], None]) -> None:
        """Answer and hang up without reading the body."""
        self._refusals[path] = reply

    def wrapper(self, properties: Any, reply: Callable[[Any], None], files: Iterable[str] = ()) -> None:
        """A wrapper `echo` with these arguments."""
        arguments = {"type": "object", "properties": properties}
        self.on("GET", "/echo/schema", as_json({"name": "echo", "arguments": arguments, "files": list(files)}))
        self.on("POST", "/echo/run", reply)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        for connection in self._connections:
            with suppress(OSError):  # closed already
                connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()
