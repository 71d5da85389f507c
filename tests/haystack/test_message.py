from types import SimpleNamespace
from typing import Any

import pytest

from gateway.haystack.message import get_last_user_input_text, get_last_user_message

USER = {"role": "user", "content": "first"}
ASSISTANT = {"role": "assistant", "content": "answer"}
PARTS = {
    "role": "user",
    "content": [
        {"type": "text", "text": "one "},
        {"type": "image_url", "image_url": {"url": "x"}},
        {"type": "text", "text": "two"},
        {"type": "text", "text": None},
    ],
}
MESSAGES: dict[str, tuple[list[Any], str | None]] = {
    "none": ([], None),
    "no user": ([ASSISTANT, {"role": "system", "content": "s"}], None),
    "one": ([USER], "first"),
    "last of several": ([USER, ASSISTANT, {"role": "user", "content": "second"}, ASSISTANT], "second"),
    "parts": ([PARTS], "one two"),
    "no content": ([{"role": "user", "content": None}], ""),
    "content is missing": ([{"role": "user"}], ""),
    "only an image": ([{"role": "user", "content": [{"type": "image_url"}]}], ""),
    "objects": ([SimpleNamespace(role="user", content=[SimpleNamespace(type="text", text="o")])], "o"),
}


@pytest.mark.parametrize("case", MESSAGES)
def test_get_last_user_message(case: str) -> None:
    messages, expected = MESSAGES[case]
    assert get_last_user_message(messages) == expected


ITEMS: dict[str, tuple[list[Any], str | None]] = {
    "none": ([], None),
    "message": ([{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "q"}]}], "q"),
    "without a type": ([{"role": "user", "content": "q"}], "q"),
    "call after it": (
        [{"role": "user", "content": "q"}, {"type": "function_call", "role": "user", "name": "f", "arguments": "{}"}],
        "q",
    ),
    "answer after it": (
        [
            {"role": "user", "content": "q"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]},
        ],
        "q",
    ),
}


@pytest.mark.parametrize("case", ITEMS)
def test_get_last_user_input_text(case: str) -> None:
    items, expected = ITEMS[case]
    assert get_last_user_input_text(items) == expected
