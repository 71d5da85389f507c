"""The model that answers, when the environment names one."""

import os
from typing import Any


def chat_generator() -> Any | None:
    """An `OpenAIChatGenerator` for `OPENAI_MODEL` when `OPENAI_API_KEY` or `OPENAI_BASE_URL` is set, else None."""
    key, url = os.environ.get("OPENAI_API_KEY"), os.environ.get("OPENAI_BASE_URL")
    if not key and not url:
        return None
    # Imported only when there is a model: loading the openai package takes a second.
    from haystack.components.generators.chat import OpenAIChatGenerator
    from haystack.utils import Secret

    return OpenAIChatGenerator(
        api_key=Secret.from_token(key or "none"),  # a local server asks for no key, its client does
        api_base_url=url or None,
        model=os.environ.get("OPENAI_MODEL") or "gpt-5-mini",
    )
