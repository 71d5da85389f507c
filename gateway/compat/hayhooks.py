"""`from hayhooks import …` inside the gateway's process, when Hayhooks is not installed."""

import sys
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import gateway

NAMES = (
    "BasePipelineWrapper",
    "PipelineEvent",
    "SSEStream",
    "async_streaming_generator",
    "chat_messages_from_openai_response",
    "coerce_pipeline_inputs",
    "default_on_pipeline_end",
    "default_on_tool_call_end",
    "default_on_tool_call_start",
    "get_input_files",
    "get_last_user_input_text",
    "get_last_user_message",
    "is_user_message",
    "log",
    "streaming_generator",
)


class _Hayhooks(ModuleType):
    """Hands the names on when they are asked for: some of them import haystack."""

    __all__ = NAMES

    def __getattr__(self, name: str) -> Any:
        if name in NAMES:
            return getattr(gateway, name)
        kind = AttributeError if name.startswith("__") else ImportError  # of which Python keeps the text
        raise kind(f"haystack-gateway {gateway.__version__} does not have {name} of hayhooks")


def install() -> None:
    """Put the module in `sys.modules`, unless there is one. A second call does nothing."""
    if "hayhooks" not in sys.modules and find_spec("hayhooks") is None:
        sys.modules["hayhooks"] = _Hayhooks("hayhooks", "Names of Hayhooks, served by haystack-gateway.")
