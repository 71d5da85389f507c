"""OpenAI messages and items as a wrapper wants them."""

from collections.abc import Mapping, Sequence
from typing import Any

TEXT_PARTS = ("text", "input_text", "output_text")


def get_last_user_message(messages: Sequence[Any]) -> str | None:
    """The text of the last message with the role `user`, None without one.

    `messages`: OpenAI chat messages, as mappings or objects. Content parts are joined; what is not text is left out.
    """
    for message in reversed(messages):
        if is_user_message(message):
            return _text(_get(message, "content"))
    return None


def get_last_user_input_text(input_items: Sequence[Any]) -> str | None:
    """The text of the last user message among the input items of the Responses API, None without one."""
    messages = [item for item in input_items if _get(item, "type") in (None, "message")]
    return get_last_user_message(messages)


def is_user_message(message: Any) -> bool:
    """Whether a chat message, a mapping or an object, has the role `user`."""
    return bool(_get(message, "role") == "user")


def get_input_files(input_items: Sequence[Any]) -> list[dict[str, Any]]:
    """The uploaded files that the user's messages name, oldest first: each a mapping with at least its `file_id`.

    Of input items of the Responses API, and of chat messages.
    """
    files = []
    for item in filter(is_user_message, input_items):
        content = _get(item, "content")
        for part in content if isinstance(content, list) else ():
            named = _get(part, "file") if _get(part, "type") == "file" else part
            if _get(part, "type") in ("input_file", "file") and _get(named, "file_id"):
                files.append({"type": "input_file", **dict(named)})
    return files


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list | tuple) else ()
    texts = [_get(part, "text") for part in parts if _get(part, "type") in TEXT_PARTS]
    return "".join(text for text in texts if isinstance(text, str))


def _get(item: Any, key: str) -> Any:
    return item.get(key) if isinstance(item, Mapping) else getattr(item, key, None)
