"""What the wrappers `chat_raising` and `chat_raising_async` raise."""

from starlette.exceptions import HTTPException

from gateway.errors import InvalidArguments

FAULTS: dict[str, Exception] = {
    "value": ValueError("the password is hunter2"),
    "400": HTTPException(400, "ask otherwise"),
    "401": HTTPException(401, "who are you?"),
    "403": HTTPException(403, "not you"),
    "404": HTTPException(404, "no such index"),
    "409": HTTPException(409, "the index is being changed"),
    "422": InvalidArguments("top_k must be smaller than 10"),
    "429": HTTPException(429, "slower", headers={"Retry-After": "7"}),
    "503": HTTPException(503, "the index is away"),
}
