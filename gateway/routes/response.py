"""The gateway's own JSON replies."""

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from gateway.protocols.run import encode_json


def json_response(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """As Starlette's `JSONResponse`, for text that may be no Unicode, such as the name of a folder."""
    return Response(encode_json(body), status, headers, media_type="application/json")
