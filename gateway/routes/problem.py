"""Errors into bodies: the only place."""

import traceback
from http.client import responses
from secrets import token_hex
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway.errors import GatewayError, MethodNotAllowed, NotFound, WrapperRaised
from gateway.protocols.run import encode_json
from gateway.telemetry.log import log


class ProblemRenderer:
    """`{"error": {"type", "message", "code", "details"?, "error_id"?}, "detail"}`; Hayhooks' clients read `detail`.

    The text of an exception that nobody foresaw is not shown: it is logged, with its traceback and the `error_id` that
    the reply carries, unless `show_tracebacks` puts the traceback into the reply as well.
    """

    def __init__(self, *, show_tracebacks: bool) -> None:
        self._show_tracebacks = show_tracebacks

    def body(self, error: BaseException) -> dict[str, Any]:
        """The body for an error, which is logged here when it needs an operator's eye."""
        if isinstance(error, HTTPException):
            error = _from_http(error)
        unforeseen = error.__cause__ if isinstance(error, WrapperRaised) else error
        if isinstance(error, GatewayError) and (unforeseen is error or unforeseen is None):
            fields: dict[str, Any] = {"type": error.type, "message": error.message, "code": error.code}
            if error.details is not None:
                fields["details"] = list(error.details)
            return {"error": fields, "detail": error.message}
        error_id = f"err_{token_hex(8)}"
        log.error("unexpected error", error_id=error_id, exc_info=unforeseen)
        known = error if isinstance(error, GatewayError) else GatewayError("the gateway failed")
        message = f"{known.message}; the log says why under {error_id}"
        if self._show_tracebacks and unforeseen is not None:
            message = "".join(traceback.format_exception(unforeseen))
        fields = {"type": known.type, "message": message, "code": known.code, "error_id": error_id}
        return {"error": fields, "detail": message}

    def response(self, error: BaseException) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else getattr(error, "status", 500)
        headers = getattr(error, "headers", None)
        return Response(encode_json(self.body(error)), status, headers, media_type="application/json")

    async def handle(self, request: Request, error: Exception) -> Response:
        """Starlette's exception handler. Its router says 404 and 405 without saying of what."""
        if isinstance(error, HTTPException) and "endpoint" not in request.scope and error.status_code == 404:
            error = NotFound(f"there is nothing at {request.url.path}")
        elif isinstance(error, HTTPException) and error.status_code == 405:
            allowed = (error.headers or {}).get("Allow", "")
            message = f"{request.method} is not allowed on {request.url.path}; allowed: {allowed}"
            error = MethodNotAllowed(message, headers=error.headers)
        return self.response(error)


def _from_http(error: HTTPException) -> GatewayError:
    detail: Any = error.detail  # FastAPI's may be any JSON
    known = GatewayError(detail if isinstance(detail, str) else encode_json(detail).decode())
    known.code = responses.get(error.status_code, "http error").lower().replace(" ", "_").replace("-", "_")
    known.type = "server_error" if error.status_code >= 500 else "invalid_request_error"
    return known
