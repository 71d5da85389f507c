"""Errors into bodies: the only place."""

import re
import traceback
from http.client import responses
from secrets import token_hex
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from gateway.errors import GatewayError, MethodNotAllowed, NotFound, Overloaded, WrapperRaised
from gateway.protocols.openai import error_body
from gateway.protocols.problem import Problem, native_body
from gateway.protocols.run import encode_json
from gateway.routes.response import json_response
from gateway.telemetry.log import log

OPENAI_PATHS = re.compile(
    r"/v1(/.*)?|/chat/completions|/(responses|embeddings|models|files)|/models/[^/]+"
    r"|/files/file-[^/]+(/content)?|/(?!status/)[^/]+/chat",
    re.DOTALL,
)


def is_openai(scope: Scope) -> bool:
    """Whether the path speaks OpenAI's dialect, a path that does not exist too."""
    path, root = scope["path"], scope.get("root_path", "")
    return OPENAI_PATHS.fullmatch(path[len(root) :] if path.startswith(f"{root}/") else path) is not None


class ProblemRenderer:
    """The text of an exception that nobody foresaw is not shown: it is logged, with its traceback and an `error_id`.

    The reply carries that id too, unless `show_tracebacks` puts the traceback itself into the reply.
    """

    def __init__(self, *, show_tracebacks: bool) -> None:
        self._show_tracebacks = show_tracebacks

    def problem(self, error: BaseException) -> Problem:
        """What is said of an error, which is logged here when it needs an operator's eye."""
        if isinstance(error, HTTPException):
            error = _from_http(error)
        unforeseen = error.__cause__ if isinstance(error, WrapperRaised) else error
        if isinstance(error, GatewayError) and (unforeseen is error or unforeseen is None):
            return Problem(error.message, error.type, error.code, error.param, error.details)
        error_id = f"err_{token_hex(8)}"
        log.error("unexpected error", error_id=error_id, exc_info=unforeseen)
        known = error if isinstance(error, GatewayError) else GatewayError("the gateway failed")
        message = f"{known.message}; the log says why under {error_id}"
        if self._show_tracebacks and unforeseen is not None:
            message = "".join(traceback.format_exception(unforeseen))
        return Problem(message, known.type, known.code, known.param, error_id=error_id)

    def response(self, scope: Scope, error: BaseException) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else getattr(error, "status", 500)
        headers = getattr(error, "headers", None)
        body = error_body if is_openai(scope) else native_body
        return json_response(body(self.problem(error)), status, headers)

    async def handle(self, request: Request, error: Exception) -> Response:
        """Starlette's exception handler. Its router says 404 and 405 without saying of what."""
        if isinstance(error, HTTPException) and "endpoint" not in request.scope and error.status_code == 404:
            error = NotFound(f"there is nothing at {request.url.path}")
        elif isinstance(error, HTTPException) and error.status_code == 405:
            # Starlette names the methods of the first route of this path only.
            fitting = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
            allowed = ", ".join(sorted({method for route in fitting for method in route.methods}))
            message = f"{request.method} is not allowed on {request.url.path}; allowed: {allowed}"
            error = MethodNotAllowed(message, headers={"Allow": allowed})
        return self.response(request.scope, error)


def _from_http(error: HTTPException) -> GatewayError:
    detail: Any = error.detail  # FastAPI's may be any JSON
    known = GatewayError(detail if isinstance(detail, str) else encode_json(detail).decode())
    known.code = responses.get(error.status_code, "http error").lower().replace(" ", "_").replace("-", "_")
    known.type = "server_error" if error.status_code >= 500 else "invalid_request_error"
    if error.status_code == Overloaded.status:
        known.type = Overloaded.type
    return known
