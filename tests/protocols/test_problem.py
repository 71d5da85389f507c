from typing import Any

import pytest

from gateway.protocols.openai import error_body
from gateway.protocols.problem import Problem, native_body

DETAILS = ({"loc": "body.x", "message": "m", "type": "t"},)
CASES: dict[str, tuple[Problem, dict[str, Any], dict[str, Any]]] = {  # native fields, OpenAI's
    "plain": (
        Problem("m", "server_error", "c"),
        {"type": "server_error", "message": "m", "code": "c"},
        {"message": "m", "type": "server_error", "param": None, "code": "c"},
    ),
    "param": (
        Problem("m", "invalid_request_error", "c", "messages[0]"),
        {"type": "invalid_request_error", "message": "m", "code": "c"},
        {"message": "m", "type": "invalid_request_error", "param": "messages[0]", "code": "c"},
    ),
    "details": (
        Problem("m", "invalid_request_error", "c", details=DETAILS),
        {"type": "invalid_request_error", "message": "m", "code": "c", "details": list(DETAILS)},
        {"message": "m", "type": "invalid_request_error", "param": None, "code": "c"},
    ),
    "no details": (
        Problem("m", "invalid_request_error", "c", details=()),
        {"type": "invalid_request_error", "message": "m", "code": "c", "details": []},
        {"message": "m", "type": "invalid_request_error", "param": None, "code": "c"},
    ),
    "error_id": (
        Problem("m", "server_error", "c", error_id="err_1"),
        {"type": "server_error", "message": "m", "code": "c", "error_id": "err_1"},
        {"message": "m", "type": "server_error", "param": None, "code": "c"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bodies(case: str) -> None:
    problem, native, openai = CASES[case]
    assert native_body(problem) == {"error": native, "detail": "m"}
    assert error_body(problem) == {"error": openai}
