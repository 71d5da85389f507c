"""The events, in the words that Open WebUI reads and Hayhooks sends."""

import json
from typing import Any

import pytest
from haystack.dataclasses import ChatMessage, Document
from pydantic import ValidationError

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

SOURCE = {"source": {"name": "a.pdf"}, "document": ["text"], "metadata": [{"page": 1}]}
COMPLETION = {"choices": [{"message": {"content": "done"}}], "done": True}
MADE: dict[str, tuple[PipelineEvent, dict[str, Any]]] = {
    "a status": (
        create_status_event("working"),
        {"type": "status", "data": {"description": "working", "done": False, "hidden": False}},
    ),
    "a status that is over": (
        create_status_event("worked", done=True, hidden=True),
        {"type": "status", "data": {"description": "worked", "done": True, "hidden": True}},
    ),
    "a status by position": (
        create_status_event("worked", True, False),
        {"type": "status", "data": {"description": "worked", "done": True, "hidden": False}},
    ),
    "a notification": (
        create_notification_event("look"),
        {"type": "notification", "data": {"type": "info", "content": "look"}},
    ),
    "a warning": (
        create_notification_event("look", notification_type="warning"),
        {"type": "notification", "data": {"type": "warning", "content": "look"}},
    ),
    "a message": (create_message_event("more"), {"type": "message", "data": {"content": "more"}}),
    "a replacement": (create_replace_event("other"), {"type": "replace", "data": {"content": "other"}}),
    "a source": (create_source_event(SOURCE), {"type": "source", "data": SOURCE}),
    "a completion": (create_chat_completion_event(COMPLETION), {"type": "chat:completion", "data": COMPLETION}),
    "a completion with its message": (
        create_chat_completion_event({"content": "done", "title": "t"}),
        {"type": "chat:completion", "data": {"content": "done", "title": "t"}},
    ),
    "a status with more to it": (
        PipelineEvent(type="status", data={"description": "working", "urls": ["a"]}),
        {"type": "status", "data": {"description": "working", "urls": ["a"]}},
    ),
    "a status as a mapping": (
        PipelineEvent(type="status", data={"description": "working"}),
        {"type": "status", "data": {"description": "working", "done": False, "hidden": False}},
    ),
    "one of the wrapper's own": (PipelineEvent(type="mine", data={"a": [1]}), {"type": "mine", "data": {"a": [1]}}),
    "one of Open WebUI's": (OpenWebUIEvent(type="files", data={"a": [1]}), {"type": "files", "data": {"a": [1]}}),
}


@pytest.mark.parametrize("case", MADE)
def test_event_has_exactly_this_shape(case: str) -> None:
    event, expected = MADE[case]
    assert event.to_dict() == expected
    assert event.to_event_dict() == expected
    assert json.loads(event.model_dump_json()) == expected


def test_events_of_open_webui_are_events_of_a_pipeline() -> None:
    kinds = {case: type(event) for case, (event, _) in MADE.items()}
    only_open_webui = {"a message", "a replacement", "a source", "a completion", "one of Open WebUI's"}
    only_open_webui |= {"a completion with its message"}
    assert {case for case, kind in kinds.items() if kind is OpenWebUIEvent} == only_open_webui
    assert {case for case, kind in kinds.items() if kind is PipelineEvent} == MADE.keys() - only_open_webui
    assert issubclass(OpenWebUIEvent, PipelineEvent)


def test_unknown_kind_of_notification_is_refused() -> None:
    with pytest.raises(ValidationError):
        create_notification_event("look", "loud")  # type: ignore[arg-type]


def test_details_tag() -> None:
    assert create_details_tag("add", "it added", "5") == (
        '<details type="add" done="true">\n<summary>it added</summary>\n\n5\n</details>\n\n'
    )
    assert create_details_tag(tool_name="add", summary="s", content="c") == create_details_tag("add", "s", "c")


def test_default_on_tool_call_start() -> None:
    event = default_on_tool_call_start("add", {"a": 2}, "call_1")
    assert event == create_status_event("Calling 'add' tool...")
    assert default_on_tool_call_start(tool_name="add", arguments=None, tool_call_id=None) == event
    assert default_on_tool_call_start("", {}, None) is None


def test_default_on_tool_call_end() -> None:
    assert default_on_tool_call_end("add", {"a": 2}, "5", False) == [
        create_status_event("Called 'add' tool", done=True),
        '<details type="add" done="true">\n<summary>Tool call result for \'add\'</summary>\n\n'
        "```\nArguments:\n{'a': 2}\n\nResponse:\n5\n```\n</details>\n\n",
    ]


def test_default_on_tool_call_end_of_a_call_that_failed() -> None:
    assert default_on_tool_call_end(tool_name="add", arguments={}, result="no", error=True) == [
        create_status_event("Called 'add' tool", done=True, hidden=True),
        create_notification_event("Error calling 'add' tool", "error"),
    ]


MESSAGE = ChatMessage.from_assistant("größer", meta={"model": "m"})
RESULTS: dict[str, tuple[Any, Any]] = {
    "a pipeline's": ({"llm": {"replies": [MESSAGE]}}, {"llm": {"replies": [MESSAGE.to_dict()]}}),
    "documents": (
        {"r": {"documents": [Document(content="d")]}},
        {"r": {"documents": [Document(content="d").to_dict()]}},
    ),
    "an agent's": ({"last_message": MESSAGE, "step_count": 2}, {"last_message": MESSAGE.to_dict(), "step_count": 2}),
    "numbers": ({"a": {"score": 0.5, "n": 1}}, {"a": {"score": 0.5, "n": 1}}),
    "nothing": ({}, {}),
}


@pytest.mark.parametrize("case", RESULTS)
def test_default_on_pipeline_end_gives_the_result_as_json(case: str) -> None:
    result, expected = RESULTS[case]
    text = default_on_pipeline_end(result)
    assert json.loads(text) == expected
    assert "\\u" not in text


def test_default_on_pipeline_end_leaves_a_text_as_it_is() -> None:
    assert default_on_pipeline_end("größer") == "größer"
