"""What no handler foresaw, answered inside of the other middleware: Starlette's own catcher stands outside of them."""

from collections.abc import Callable

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class CatchMiddleware:
    """Answers with `respond(scope, error)`; when the reply has begun, the error goes on and the connection ends."""

    def __init__(self, app: ASGIApp, *, respond: Callable[[Scope, BaseException], Response]) -> None:
        self._app = app
        self._respond = respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def send_and_note(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except Exception as error:  # logged by `respond`, with its traceback
            if has_begun or scope["type"] != "http":
                raise
            await self._respond(scope, error)(scope, receive, send)
