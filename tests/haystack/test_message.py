from types import SimpleNamespace
from typing import Any

import pytest

from gateway.haystack.message import (
    get_input_files,
    get_last_user_input_text,
    get_last_user_message,
    is_user_message,
)

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


ROLES: dict[str, tuple[Any, bool]] = {
    "a user's": (USER, True),
    "a user's item": ({"type": "message", "role": "user", "content": []}, True),
    "an object": (SimpleNamespace(role="user"), True),
    "an assistant's": (ASSISTANT, False),
    "a developer's": ({"role": "developer", "content": "d"}, False),
    "in capitals": ({"role": "USER", "content": "u"}, False),
    "without a role": ({"content": "u"}, False),
    "an empty mapping": ({}, False),
    "an object without a role": (SimpleNamespace(content="u"), False),
    "a text": ("user", False),
    "nothing": (None, False),
}


@pytest.mark.parametrize("case", ROLES)
def test_is_user_message(case: str) -> None:
    message, expected = ROLES[case]
    assert is_user_message(message) is expected


def item(*parts: Any, role: str = "user") -> dict[str, Any]:
    return {"type": "message", "role": role, "content": list(parts)}


NAMED = {"type": "input_file", "file_id": "file-1"}
FULL = {"type": "input_file", "file_id": "file-2", "filename": "a.pdf"}
IN_CHAT = {"type": "file", "file": {"file_id": "file-3", "filename": "b.pdf"}}
FROM_CHAT = {"type": "input_file", "file_id": "file-3", "filename": "b.pdf"}
FILES: dict[str, tuple[list[Any], list[dict[str, Any]]]] = {
    "none": ([], []),
    "no file": ([item({"type": "input_text", "text": "q"}), USER], []),
    "one": ([item({"type": "input_text", "text": "q"}, NAMED)], [NAMED]),
    "several, oldest first": ([item(FULL, NAMED), ASSISTANT, item(NAMED)], [FULL, NAMED, NAMED]),
    "chat parts": ([{"role": "user", "content": [{"type": "text", "text": "q"}, IN_CHAT]}], [FROM_CHAT]),
    "both forms": ([item(NAMED), {"role": "user", "content": [IN_CHAT]}], [NAMED, FROM_CHAT]),
    "of another role": ([item(NAMED, role="assistant"), item(IN_CHAT, role="developer")], []),
    "without an id": (
        [item({"type": "input_file", "file_data": "data:,x"}, {"type": "file", "file": {"file_data": "data:,x"}})],
        [],
    ),
    "an image": ([item({"type": "input_image", "file_id": "file-4"})], []),
    "a file that is no mapping": ([item({"type": "file", "file": "file-5"}, {"type": "file"})], []),
    "no content": ([{"role": "user"}, {"role": "user", "content": None}], []),
    "a result of a tool": ([{"type": "function_call_output", "call_id": "c", "output": [NAMED]}], []),
}


@pytest.mark.parametrize("case", FILES)
def test_get_input_files(case: str) -> None:
    items, expected = FILES[case]
    assert get_input_files(items) == expected


def test_get_input_files_leaves_the_items_alone() -> None:
    items = [item(FULL)]
    (file,) = get_input_files(items)
    file["filename"] = "other"
    assert items == [item(FULL)]
