"""What a run gave, as an ASGI response."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from functools import partial
from typing import Any, Protocol

from sse_starlette.sse import EventSourceResponse, SendTimeoutError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import CallerGone, GatewayError
from gateway.protocols.openai import OpenAIEncoder
from gateway.protocols.run import Encoder, EventEncoder, TextEncoder, encode_result
from gateway.routes.problem import ProblemRenderer
from gateway.run import Run
from gateway.settings import Settings
from gateway.stream import Stream, wrapper_error
from gateway.telemetry.log import log

EVENT_STREAM = "text/event-stream"
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


class Reply(Protocol):
    """How a caller wants what its run gives."""

    def whole(self, value: Any) -> ASGIApp:
        """A value's reply; called where the method ran. Raises what makes no reply."""

    async def stream(self, stream: Stream) -> ASGIApp:
        """A stream's reply. A failure before the first chunk is raised, so that it has its status."""


class ReplyMaker:
    """Turns bytes and streams into responses: sent in time, in pieces, with the headers of their kind."""

    def __init__(self, settings: Settings, problems: ProblemRenderer) -> None:
        self._settings = settings
        self._problems = problems

    def respond(self, response: Response, run: Run | None = None) -> ASGIApp:
        """`run`: what a wrapper's own response holds until it has been sent."""
        if run is not None or len(getattr(response, "body", b"")) > PIECE_BYTES or not hasattr(response, "body"):
            return _WholeReply(response, self._settings.send_timeout_s, run)
        return response  # fits into the socket's buffers: nobody waits for it

    async def stream(self, stream: Stream, encoder: Encoder) -> ASGIApp:
        """Its first batch is awaited."""
        await stream.wait_for_first(self._settings.first_byte_wait_s)
        pieces = encode_stream(stream, encoder, self._problems)
        if encoder.media_type != EVENT_STREAM:
            return TextStreamResponse(pieces, self._settings.send_timeout_s)
        return _EventResponse(
            pieces,
            headers=STREAM_HEADERS,
            ping=self._settings.ping_interval_s,
            sep="\n",
            send_timeout=self._settings.send_timeout_s,
        )

    async def gather(self, stream: Stream, encoder: Encoder) -> ASGIApp:
        """All of a stream in one reply."""
        pieces = [encoder.start()]
        try:
            async for batch in stream:
                for chunk in batch:
                    pieces.append(_guard(stream.run, partial(encoder.feed, chunk)))
            pieces.append(_guard(stream.run, partial(encoder.finish, stream.result)))
        finally:
            stream.close()
        return self.respond(Response(b"".join(pieces), media_type=encoder.media_type))


class RunReply:
    """The run dialect: `{"result": …}`, plain text, or events when the wrapper asks for them."""

    def __init__(self, maker: ReplyMaker, run: Run) -> None:
        self._maker = maker
        self._run = run

    def whole(self, value: Any) -> ASGIApp:
        if isinstance(value, Response):
            return self._maker.respond(value, self._run)
        return self._maker.respond(Response(encode_result(value), media_type="application/json"))

    async def stream(self, stream: Stream) -> ASGIApp:
        return await self._maker.stream(stream, EventEncoder() if stream.is_events else TextEncoder())


class OpenAIReply:
    """`make_encoder(passes_tool_calls)` gives the encoder of the endpoint, for a stream or for a whole reply."""

    def __init__(self, maker: ReplyMaker, run: Run, make_encoder: Callable[[bool], OpenAIEncoder]) -> None:
        self._maker = maker
        self._run = run
        self._make_encoder = make_encoder

    def whole(self, value: Any) -> ASGIApp:
        if isinstance(value, Response):
            return self._maker.respond(value, self._run)
        encoder = self._make_encoder(False)
        headers = STREAM_HEADERS if encoder.media_type == EVENT_STREAM else None
        return self._maker.respond(Response(encoder.whole(value), headers=headers, media_type=encoder.media_type))

    async def stream(self, stream: Stream) -> ASGIApp:
        encoder = self._make_encoder(stream.passes_tool_calls)
        if encoder.media_type == EVENT_STREAM:
            return await self._maker.stream(stream, encoder)
        return await self._maker.gather(stream, encoder)


class StreamBroken(Exception):
    """The stream ended before its end, and its format has no word for that."""


async def encode_stream(stream: Stream, encoder: Encoder, problems: ProblemRenderer) -> AsyncGenerator[bytes]:
    """Each batch as one piece of bytes. Raises `StreamBroken` when the encoder cannot say that the stream failed."""
    try:
        if head := encoder.start():
            yield head
        async for batch in stream:
            pieces, failure = _feed(stream.run, encoder, batch)
            if pieces:
                yield b"".join(pieces)
            if failure is not None:
                raise failure from failure.__cause__
        if last := _guard(stream.run, partial(encoder.finish, stream.result)):
            yield last
    except CallerGone as error:
        raise StreamBroken from error
    except (GatewayError, HTTPException) as error:
        failed = encoder.fail(problems.problem(error))
        if failed is None:
            raise StreamBroken from error
        yield failed
    finally:
        stream.close()


def _feed(run: Run, encoder: Encoder, batch: Iterable[Any]) -> tuple[list[bytes], BaseException | None]:
    """What can be encoded, and the error of the chunk that cannot."""
    pieces: list[bytes] = []
    try:
        for chunk in batch:
            if piece := encoder.feed(chunk):
                pieces.append(piece)
    except Exception as error:  # the wrapper's own object
        return pieces, wrapper_error(run, error)
    return pieces, None


def _guard(run: Run, encode: Callable[[], bytes]) -> bytes:
    try:
        return encode()
    except Exception as error:  # the wrapper's own object
        failure = wrapper_error(run, error)
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
