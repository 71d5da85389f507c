import json
from typing import Any

import pytest

from gateway.cli.failure import explain_reply

TWO = [
    {"loc": "body.top_k", "message": "not a number", "type": "int_parsing"},
    {"loc": "body.query", "message": "Field required", "type": "missing"},
]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"error": {"message": "no wrapper 'x'", "code": "c"}, "detail": "no wrapper 'x'"}, "no wrapper 'x'"),
        (
            {"error": {"message": "bad arguments", "details": TWO}},
            "bad arguments\n  body.top_k: not a number\n  body.query: Field required",
        ),
        ({"error": {"message": "body.top_k: not a number", "details": TWO[:1]}}, "body.top_k: not a number"),
        ({"error": {"message": "the wrapper failed", "error_id": "err_1"}}, "the wrapper failed\n  error id: err_1"),
        ({"error": {"message": "the log says why under err_1", "error_id": "err_1"}}, "the log says why under err_1"),
        ({"detail": "old words"}, "old words"),
        ({"detail": [{"loc": ["body", "a"], "msg": "Field required"}]}, "502 Bad\n  body.a: Field required"),
        ({"error": "strange"}, "502 Bad"),
        ([1], "502 Bad"),
    ],
)
def test_reply_as_sentences(body: Any, text: str) -> None:
    assert explain_reply(json.dumps(body), "502 Bad") == text


@pytest.mark.parametrize("body", ["", "<html>", "[" * 100_000])
def test_reply_that_is_not_json(body: str) -> None:
    assert explain_reply(body, "502 Bad") == "502 Bad"
