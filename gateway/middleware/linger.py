"""Replies that are ready before the request has been read to its end: 404, 413, 415, a wrapper that is loading."""

import asyncio
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LINGER_S = 2.0


class LingerMiddleware:
    """Sends such a reply, then reads on for `LINGER_S` seconds, discarding, before the reply is ended.

    A client that is still sending would see its connection reset instead of the reply. And Hypercorn (0.18) holds ten
    pieces of a body; ending a reply while more of them wait blocks its task, and the connection with it, for good.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        is_read = False

        async def receive_and_note() -> Message:
            nonlocal is_read
            message = await receive()
            is_read = is_read or not message.get("more_body", False)  # a disconnect has none
            return message

        async def discard() -> None:
            while not is_read:
                await receive_and_note()

        async def send_and_linger(message: Message) -> None:
            if is_read or message["type"] != "http.response.body" or message.get("more_body", False):
                return await send(message)
            await send({**message, "more_body": True})
            with suppress(TimeoutError):
                await asyncio.wait_for(discard(), LINGER_S)
            discarding = asyncio.create_task(discard())
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            discarding.cancel()

        await self._app(scope, receive_and_note, send_and_linger)
