"""Events for user interfaces, as Open WebUI reads them (its documentation of plugin events, November 2026)."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from gateway.protocols.run import encode_json

NotificationType = Literal["info", "success", "warning", "error"]


class _EventData(BaseModel):
    """A mapping that says more than the class knows stays a mapping, and loses nothing."""

    model_config = ConfigDict(extra="forbid")


class StatusEventData(_EventData):
    """A line of progress. `done`: it stops shimmering. `hidden`: it is not shown any more."""

    description: str
    done: bool = False
    hidden: bool = False


class MessageEventData(_EventData):
    content: str


class NotificationEventData(_EventData):
    type: NotificationType = "info"
    content: str


class PipelineEvent(BaseModel):
    """Goes out as `data: {"event": {"type": …, "data": …}}` between the chunks of a chat; no part of the reply."""

    type: str
    data: StatusEventData | NotificationEventData | dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return self.model_dump()

    def to_event_dict(self) -> dict[str, Any]:
        """By this method an event is known for one, whoever has defined its class."""
        return self.model_dump()


class OpenWebUIEvent(PipelineEvent):
    """An event that only Open WebUI knows."""

    data: StatusEventData | MessageEventData | NotificationEventData | dict[str, Any]  # type: ignore[assignment]


def create_status_event(description: str, done: bool = False, hidden: bool = False) -> PipelineEvent:
    """Show what is being done."""
    return PipelineEvent(type="status", data=StatusEventData(description=description, done=done, hidden=hidden))


def create_notification_event(content: str, notification_type: NotificationType = "info") -> PipelineEvent:
    """Show a toast."""
    return PipelineEvent(type="notification", data=NotificationEventData(type=notification_type, content=content))


def create_message_event(content: str) -> OpenWebUIEvent:
    """Append to the message."""
    return OpenWebUIEvent(type="message", data=MessageEventData(content=content))


def create_replace_event(content: str) -> OpenWebUIEvent:
    """Replace the message."""
    return OpenWebUIEvent(type="replace", data=MessageEventData(content=content))


def create_source_event(source_data: dict[str, Any]) -> OpenWebUIEvent:
    """Add a reference, a citation, or what code has printed."""
    return OpenWebUIEvent(type="source", data=source_data)


def create_chat_completion_event(data: dict[str, Any]) -> OpenWebUIEvent:
    """Give a completion's result."""
    return OpenWebUIEvent(type="chat:completion", data=data)


def create_details_tag(tool_name: str, summary: str, content: str) -> str:
    """No event but text of the reply, which Open WebUI shows folded."""
    return f'<details type="{tool_name}" done="true">\n<summary>{summary}</summary>\n\n{content}\n</details>\n\n'


def default_on_tool_call_start(tool_name: str, arguments: Any, tool_call_id: str | None) -> PipelineEvent | None:
    """Say which tool is being called."""
    return create_status_event(f"Calling '{tool_name}' tool...") if tool_name else None


def default_on_tool_call_end(
    tool_name: str, arguments: dict[str, Any], result: str, error: bool
) -> list[PipelineEvent | str]:
    """Say that the tool has been called; show what it was given and what it gave, or that it failed."""
    if error:
        return [
            create_status_event(f"Called '{tool_name}' tool", done=True, hidden=True),
            create_notification_event(f"Error calling '{tool_name}' tool", "error"),
        ]
    content = f"```\nArguments:\n{arguments}\n\nResponse:\n{result}\n```"
    return [
        create_status_event(f"Called '{tool_name}' tool", done=True),
        create_details_tag(tool_name, f"Tool call result for '{tool_name}'", content),
    ]


def default_on_pipeline_end(result: Any) -> str:
    """The whole result as text: JSON but for a text."""
    return result if isinstance(result, str) else encode_json(result).decode()
