"""What a run gave, as an ASGI response."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from typing import Any

from sse_starlette.sse import EventSourceResponse, SendTimeoutError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import CallerGone, GatewayError
from gateway.protocols.run import Encoder, EventEncoder, TextEncoder, encode_result
from gateway.routes.problem import ProblemRenderer
from gateway.run import Run
from gateway.settings import Settings
from gateway.stream import Stream, wrapper_error
from gateway.telemetry.log import log

PIECE_BYTES = 64 * 1024
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class _ReaderStalled(Exception):
    """Not a `TimeoutError`: a wrapper's own response may raise one of its own, which is an error to be seen."""


class _WholeReply:
    """A response whose reader may take his time, but not all of it: each piece has `send_timeout_s`.

    A wrapper's own response holds its run until it has been sent: it may read an upload, and it is work in hand.
    """

    def __init__(self, response: Response, send_timeout_s: float, run: Run | None) -> None:
        self.holds_run = run is not None
        self._response = response
        self._send_timeout_s = send_timeout_s
        self._run = run

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            body = message.get("body", b"")
            for start in range(0, max(len(body), 1), PIECE_BYTES):
                rest = message.get("more_body", False) or start + PIECE_BYTES < len(body)
                piece = {**message, "body": body[start : start + PIECE_BYTES], "more_body": rest} if body else message
                try:
                    async with asyncio.timeout(self._send_timeout_s):
                        await send(piece)
                except TimeoutError:
                    raise _ReaderStalled from None

        try:
            await self._response(scope, receive, send_in_time)
        except _ReaderStalled:
            log.warning("a reply was cut off: its reader took nothing", send_timeout_s=self._send_timeout_s)
        finally:
            if self._run is not None:
                self._run.end()


class ReplyMaker:
    """Turns a value or a stream into the response of the run dialect."""

    def __init__(self, settings: Settings, problems: ProblemRenderer) -> None:
        self._settings = settings
        self._problems = problems

    def encode(self, run: Run, value: Any) -> ASGIApp:
        """A whole reply; a wrapper's own `Response` as it is."""
        if isinstance(value, Response):
            return _WholeReply(value, self._settings.send_timeout_s, run)
        response = Response(encode_result(value), media_type="application/json")
        if len(response.body) > PIECE_BYTES:
            return _WholeReply(response, self._settings.send_timeout_s, None)
        return response  # fits into the socket's buffers: nobody waits for it

    async def make(self, outcome: ASGIApp | Stream) -> ASGIApp:
        """A stream's first batch is awaited, so that an early failure has its status. Raises that failure."""
        if not isinstance(outcome, Stream):
            return outcome
        await outcome.wait_for_first(self._settings.first_byte_wait_s)
        if outcome.is_events:
            return _EventResponse(
                encode_stream(outcome, EventEncoder(), self._problems),
                headers=STREAM_HEADERS,
                ping=self._settings.ping_interval_s,
                sep="\n",
                send_timeout=self._settings.send_timeout_s,
            )
        pieces = encode_stream(outcome, TextEncoder(), self._problems)
        return TextStreamResponse(pieces, self._settings.send_timeout_s)


class StreamBroken(Exception):
    """The stream ended before its end, and its format has no word for that."""


async def encode_stream(stream: Stream, encoder: Encoder, problems: ProblemRenderer) -> AsyncGenerator[bytes]:
    """Each batch as one piece of bytes. Raises `StreamBroken` when the encoder cannot say that the stream failed."""
    try:
        async for batch in stream:
            for piece in _encode(stream, encoder, batch):
                yield piece
    except CallerGone as error:
        raise StreamBroken from error
    except (GatewayError, HTTPException) as error:
        last = encoder.fail(problems.body(error))
        if last is None:
            raise StreamBroken from error
        yield last
    finally:
        stream.close()


def _encode(stream: Stream, encoder: Encoder, batch: list[Any]) -> Iterator[bytes]:
    """One piece for all of them; when a chunk cannot be encoded, those before it and then its error."""
    try:
        whole = encoder.feed(batch)
    except Exception:  # said below, where the chunk is known
        whole = None
    if whole:
        yield whole
    for chunk in batch if whole is None else ():
        try:
            yield encoder.feed([chunk])
        except Exception as error:  # the wrapper's own object
            failure = wrapper_error(stream.run, error)
            raise failure from failure.__cause__


class _EventResponse(EventSourceResponse):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except StreamBroken:
            pass  # the caller has left
        except SendTimeoutError:
            log.warning("a stream was ended: its reader took nothing", send_timeout_s=self.send_timeout)


class TextStreamResponse(Response):
    """Chunked text. A stream that breaks is left without its closing chunk, so that every client sees it."""

    media_type = "text/plain"

    def __init__(self, pieces: AsyncGenerator[bytes], send_timeout_s: float) -> None:
        self.status_code = 200
        self.background = None
        self._pieces = pieces
        self._send_timeout_s = send_timeout_s
        self.init_headers(STREAM_HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async for piece in self._pieces:
                async with asyncio.timeout(self._send_timeout_s):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except TimeoutError:
            log.warning("a stream was ended: its reader took nothing", send_timeout_s=self._send_timeout_s)
        except StreamBroken:
            pass  # its reason is in the log already; here it can only be shown by leaving the end out
        finally:
            await self._pieces.aclose()
