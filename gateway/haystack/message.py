"""OpenAI messages and items as a wrapper wants them."""

from collections.abc import Mapping, Sequence
from typing import Any

TEXT_PARTS = ("text", "input_text", "output_text")


def get_last_user_message(messages: Sequence[Any]) -> str | None:
    """The text of the last message with the role `user`, None without one.

    `messages`: OpenAI chat messages, as mappings or objects. Content parts are joined; what is not text is left out.
    """
    for message in reversed(messages):
        if _get(message, "role") == "user":
            return _text(_get(message, "content"))
    return None


def get_last_user_input_text(input_items: Sequence[Any]) -> str | None:
    """The text of the last user message among the input items of the Responses API, None without one."""
    messages = [item for item in input_items if _get(item, "type") in (None, "message")]
    return get_last_user_message(messages)


def _text(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(_get(part, "text") or "" for part in content if _get(part, "type") in TEXT_PARTS)


def _get(item: Any, key: str) -> Any:
    return item.get(key) if isinstance(item, Mapping) else getattr(item, key, None)
