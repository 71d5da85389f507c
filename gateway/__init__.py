"""Haystack Gateway: a folder of wrappers, served.

The names are imported when they are first used (PEP 562): importing haystack alone costs half a second.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.datastructures import Headers, UploadFile

    from gateway.app import create_app
    from gateway.errors import GatewayError
    from gateway.events import (
        OpenWebUIEvent,
        PipelineEvent,
        create_chat_completion_event,
        create_details_tag,
        create_message_event,
        create_notification_event,
        create_replace_event,
        create_source_event,
        create_status_event,
        default_on_pipeline_end,
        default_on_tool_call_end,
        default_on_tool_call_start,
    )
    from gateway.files import StoredFile, get_file
    from gateway.haystack.convert import chat_messages_from_openai, chat_messages_from_openai_response
    from gateway.haystack.inputs import coerce_pipeline_inputs
    from gateway.haystack.message import (
        get_input_files,
        get_last_user_input_text,
        get_last_user_message,
        is_user_message,
    )
    from gateway.haystack.streaming import async_streaming_generator, streaming_generator
    from gateway.haystack.yaml_pipeline import YAMLPipelineWrapper
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
    "OpenWebUIEvent": "gateway.events",
    "PipelineEvent": "gateway.events",
    "Run": "gateway.run",
    "RunCancelled": "gateway.run",
    "SSEStream": "gateway.wrapper",
    "Settings": "gateway.settings",
    "StoredFile": "gateway.files",
    "UploadFile": "starlette.datastructures",
    "YAMLPipelineWrapper": "gateway.haystack.yaml_pipeline",
    "__version__": "gateway.version",
    "async_streaming_generator": "gateway.haystack.streaming",
    "chat_messages_from_openai": "gateway.haystack.convert",
    "chat_messages_from_openai_response": "gateway.haystack.convert",
    "coerce_pipeline_inputs": "gateway.haystack.inputs",
    "create_app": "gateway.app",
    "create_chat_completion_event": "gateway.events",
    "create_details_tag": "gateway.events",
    "create_message_event": "gateway.events",
    "create_notification_event": "gateway.events",
    "create_replace_event": "gateway.events",
    "create_source_event": "gateway.events",
    "create_status_event": "gateway.events",
    "current_run": "gateway.run",
    "default_on_pipeline_end": "gateway.events",
    "default_on_tool_call_end": "gateway.events",
    "default_on_tool_call_start": "gateway.events",
    "get_file": "gateway.files",
    "get_input_files": "gateway.haystack.message",
    "get_last_user_input_text": "gateway.haystack.message",
    "get_last_user_message": "gateway.haystack.message",
    "is_user_message": "gateway.haystack.message",
    "log": "gateway.telemetry.log",
    "streaming_generator": "gateway.haystack.streaming",
}

__all__ = [
    "BasePipelineWrapper",
    "GatewayError",
    "Headers",
    "Limits",
    "OpenWebUIEvent",
    "PipelineEvent",
    "Run",
    "RunCancelled",
    "SSEStream",
    "Settings",
    "StoredFile",
    "UploadFile",
    "YAMLPipelineWrapper",
    "__version__",
    "async_streaming_generator",
    "chat_messages_from_openai",
    "chat_messages_from_openai_response",
    "coerce_pipeline_inputs",
    "create_app",
    "create_chat_completion_event",
    "create_details_tag",
    "create_message_event",
    "create_notification_event",
    "create_replace_event",
    "create_source_event",
    "create_status_event",
    "current_run",
    "default_on_pipeline_end",
    "default_on_tool_call_end",
    "default_on_tool_call_start",
    "get_file",
    "get_input_files",
    "get_last_user_input_text",
    "get_last_user_message",
    "is_user_message",
    "log",
    "streaming_generator",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'gateway' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
