"""A request id for every request, in its reply, and one line for it in the log."""

import re
from secrets import token_hex
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.telemetry.log import log

REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")  # visible ASCII


class ObserveMiddleware:
    """Takes `X-Request-ID` in when it is well-formed, else makes one; puts it into `scope["state"]` and the reply."""

    def __init__(self, app: ASGIApp, *, access_log: bool) -> None:
        self._app = app
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        request_id = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        if not REQUEST_ID.fullmatch(request_id):
            request_id = token_hex(16).encode()
        scope.setdefault("state", {})["request_id"] = request_id.decode()
        header = (b"x-request-id", request_id)
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], header]}
            await send(message)

        begun_s = perf_counter()
        try:
            await self._app(scope, receive, send_with_id)
        finally:
            if self._access_log:
                log.info(
                    "request",
                    method=scope["method"],
                    path=scope["path"],
                    status=status,
                    duration_ms=round((perf_counter() - begun_s) * 1000, 1),
                    request_id=request_id.decode(),
                )
