"""Haystack Gateway: a folder of wrappers, served.

The names are imported when they are first used (PEP 562): importing haystack alone costs half a second.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.datastructures import Headers, UploadFile

    from gateway.app import create_app
    from gateway.errors import GatewayError
    from gateway.haystack.message import get_last_user_input_text, get_last_user_message
    from gateway.haystack.streaming import async_streaming_generator, streaming_generator
    from gateway.run import Run, RunCancelled, current_run
    from gateway.settings import Settings
    from gateway.telemetry.log import log
    from gateway.version import __version__
    from gateway.wrapper import BasePipelineWrapper, Limits, SSEStream

_MODULES = {
    "BasePipelineWrapper": "gateway.wrapper",
    "GatewayError": "gateway.errors",
    "Headers": "starlette.datastructures",
    "Limits": "gateway.wrapper",
    "Run": "gateway.run",
    "RunCancelled": "gateway.run",
    "SSEStream": "gateway.wrapper",
    "Settings": "gateway.settings",
    "UploadFile": "starlette.datastructures",
    "__version__": "gateway.version",
    "async_streaming_generator": "gateway.haystack.streaming",
    "create_app": "gateway.app",
    "current_run": "gateway.run",
    "get_last_user_input_text": "gateway.haystack.message",
    "get_last_user_message": "gateway.haystack.message",
    "log": "gateway.telemetry.log",
    "streaming_generator": "gateway.haystack.streaming",
}

__all__ = [
    "BasePipelineWrapper",
    "GatewayError",
    "Headers",
    "Limits",
    "Run",
    "RunCancelled",
    "SSEStream",
    "Settings",
    "UploadFile",
    "__version__",
    "async_streaming_generator",
    "create_app",
    "current_run",
    "get_last_user_input_text",
    "get_last_user_message",
    "log",
    "streaming_generator",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'gateway' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
