"""The Responses API through the official SDK: every kind of reply, whole and streamed."""

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.responses import Response, ResponseErrorEvent, ResponseStreamEvent
from pydantic import BaseModel

from tests.gateways import Gateway
from tests.openai.conftest import SDK, make_client
from tests.openai.strict import Event, check, record

NATIVE, ASYNC, CHAT = MODELS = ("responses_kinds", "responses_async", "responses_chat")
SEEN, SEEN_CHAT = "responses_seen", "responses_seen_chat"


def usage(read: int = 0, written: int = 0, cached: int = 0, reasoning: int = 0) -> dict[str, Any]:
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": read + written,
    }


def text(value: str) -> dict[str, Any]:
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": value}


def message(*parts: dict[str, Any] | str, status: str = "completed") -> dict[str, Any]:
    content = [text(part) if isinstance(part, str) else part for part in parts]
    return {"id": "msg_", "status": status, "type": "message", "role": "assistant", "content": content}


def reasoning(value: str) -> dict[str, Any]:
    summary = [{"type": "summary_text", "text": value}]
    return {"id": "rs_", "status": "completed", "type": "reasoning", "summary": summary}


def call(name: str, arguments: str, call_id: str) -> dict[str, Any]:
    return {
        "id": "fc_",
        "status": "completed",
        "type": "function_call",
        "arguments": arguments,
        "call_id": call_id,
        "name": name,
    }


WEATHER = call("weather", '{"city":"Köln"}', "call_a")
CLOCK = call("clock", "{}", "call_b")
STREAMED_WEATHER = {**WEATHER, "arguments": json.dumps({"city": "Köln"})}  # as Haystack's generator has put it
ONE_CALL = usage(7, 5, 3, 2)  # of a model
TWO_CALLS = usage(14, 10, 6, 4)
SUNNY = [message("Sunny.")]


@dataclass(frozen=True)
class Case:
    """What the gateway makes of a kind. `reason`: why the response is incomplete, None when it is complete."""

    output: Sequence[dict[str, Any]]
    usage: dict[str, Any]
    reason: str | None = None


CASES = {
    "text": Case(SUNNY, usage()),
    "empty text": Case([message("")], usage()),
    "text generator": Case([message("Sunny.\n€")], usage()),
    "chunk generator": Case([reasoning("Let me see."), *SUNNY], ONE_CALL),
    "call generator": Case([WEATHER, CLOCK], ONE_CALL),
    "dict generator": Case([message("Sunny.", status="incomplete")], ONE_CALL, "max_output_tokens"),
    "event generator": Case(SUNNY, usage()),
    "mixed generator": Case(
        [
            reasoning("One."),
            message("First. "),
            reasoning("Two."),
            message("Second.", {"type": "refusal", "refusal": "Not the third."}),
            WEATHER,
            CLOCK,
        ],
        ONE_CALL,
    ),
    "silent generator": Case([message("")], usage()),
    "message": Case([reasoning("Let me see."), *SUNNY], ONE_CALL),
    "calls": Case([message("Let me look."), WEATHER, CLOCK], ONE_CALL),
    "calls only": Case([WEATHER], ONE_CALL),
    "refusal": Case([message({"type": "refusal", "refusal": "I will not."})], ONE_CALL),
    "length": Case([message("Sun", status="incomplete")], ONE_CALL, "max_output_tokens"),
    "filtered": Case([message("Sun", status="incomplete")], ONE_CALL, "content_filter"),
    "replies": Case(SUNNY, ONE_CALL),
    "pipeline result": Case(SUNNY, ONE_CALL),
    "agent result": Case([message("Sunny in Köln.")], TWO_CALLS),
    "answers": Case(SUNNY, usage()),
    "completion": Case([reasoning("Let me see."), *SUNNY, WEATHER], ONE_CALL),
    "pipeline": Case([message("Sunny in Köln.")], ONE_CALL),
    "pipeline with calls": Case([message("Let me look."), STREAMED_WEATHER, CLOCK], ONE_CALL),
    "agent": Case([message("Sunny in Köln.")], TWO_CALLS),  # its own call stays on the server
}


def expect(case: Case, model: str, **said: Any) -> dict[str, Any]:
    """The response object. `said`: what the request says and the response repeats."""
    output = [{**item, "id": f"{item['id']}KEY{position}"} for position, item in enumerate(case.output)]
    return {
        "id": "resp_KEY",
        "object": "response",
        "created_at": "NOW",
        "status": "incomplete" if case.reason else "completed",
        "background": False,
        "error": None,
        "incomplete_details": {"reason": case.reason} if case.reason else None,
        "model": model,
        "output": output,
        "previous_response_id": None,
        "store": False,
        "usage": case.usage,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "prompt_cache_key": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": "default",
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
        "user": None,
        **said,
    }


def normalize(response: dict[str, Any]) -> dict[str, Any]:
    """Without what differs from reply to reply."""
    assert isinstance(response["created_at"], int)
    key = response["id"].removeprefix("resp_")
    assert len(key) == 24
    normal: dict[str, Any] = json.loads(json.dumps({**response, "created_at": "NOW"}).replace(key, "KEY"))
    return normal


def ask_whole(client: OpenAI, model: str, question: str, **said: Any) -> dict[str, Any]:
    raw = client.responses.with_raw_response.create(model=model, input=question, **said)
    assert raw.headers["content-type"] == "application/json"
    whole: dict[str, Any] = check(json.loads(raw.content), Response)
    return whole


def ask_stream(client: OpenAI, model: str, question: str, **said: Any) -> list[Event]:
    """The events of a stream that does not fail, each checked by itself."""
    with client.responses.with_streaming_response.create(model=model, input=question, stream=True, **said) as raw:
        assert raw.headers["content-type"].partition(";")[0] == "text/event-stream"
        events = record(raw.read())
    check_events(events)
    return events


def check_events(events: list[Event]) -> None:
    assert [event.kind for event in events] == [event.data["type"] for event in events]
    assert [event.data["sequence_number"] for event in events] == list(range(len(events)))
    for event in events:
        if event.kind == "error":  # the envelope, by which the SDK knows it
            check({key: value for key, value in event.data.items() if key != "error"}, ResponseErrorEvent)
        else:
            check(event.data, ResponseStreamEvent)


PARTS = {"message": "content", "reasoning": "summary"}  # where an item has its parts
TEXTS = {"output_text": "text", "refusal": "refusal", "reasoning_summary_text": "text"}  # and a part what grows


class Fold:
    """Rebuilds a response from its events, and holds them to their order."""

    def __init__(self, events: list[Event]) -> None:
        kinds = [event.kind for event in events]
        assert kinds[:2] == ["response.created", "response.in_progress"]
        assert kinds[-1] in ("response.completed", "response.incomplete")
        first, *others = [event.data["response"] for event in (*events[:2], events[-1])]
        assert (first["status"], first["output"], first["usage"]) == ("in_progress", [], None)
        assert others[0] == first
        self.output: list[dict[str, Any]] = []
        self._open_items: set[int] = set()
        self._open_parts: set[tuple[int, int]] = set()
        for event in events[2:-1]:
            self._take(event.kind.removeprefix("response."), event.data)
        assert (self._open_items, self._open_parts) == (set(), set())
        self.response = {**others[1], "output": self.output}
        assert others[1]["output"] == self.output

    def _take(self, kind: str, data: dict[str, Any]) -> None:
        position = data["output_index"]
        subject, _, word = kind.rpartition(".")
        if subject == "output_item" and word == "added":
            assert position == len(self.output)
            assert data["item"]["status"] == "in_progress"
            self.output.append(copy.deepcopy(data["item"]))
            self._open_items.add(position)
            return
        assert position in self._open_items
        item = self.output[position]
        if subject == "output_item":
            self._open_items.remove(position)
            assert data["item"]["status"] != "in_progress"
            assert data["item"] == {**item, "status": data["item"]["status"]}
            item["status"] = data["item"]["status"]
            return
        assert data["item_id"] == item["id"]
        if subject == "function_call_arguments":
            if word == "delta":
                item["arguments"] += data["delta"]
            else:
                assert (data["name"], data["arguments"]) == (item["name"], item["arguments"])
            return
        self._take_part(subject, word, data, item)

    def _take_part(self, subject: str, word: str, data: dict[str, Any], item: dict[str, Any]) -> None:
        parts = item[PARTS[item["type"]]]
        index = data["summary_index" if item["type"] == "reasoning" else "content_index"]
        place = (data["output_index"], index)
        if subject in ("content_part", "reasoning_summary_part"):
            if word == "added":
                assert index == len(parts)
                parts.append(copy.deepcopy(data["part"]))
                self._open_parts.add(place)
            else:
                assert data["part"] == parts[index]
                self._open_parts.remove(place)
            return
        assert place in self._open_parts
        key = TEXTS[subject]
        if word == "delta":
            parts[index][key] += data["delta"]
        else:
            assert data[key] == parts[index][key]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", CASES)
def test_each_kind_whole_and_streamed_gives_the_same(client: OpenAI, kind: str, model: str) -> None:
    expected = expect(CASES[kind], model)
    assert normalize(ask_whole(client, model, kind)) == expected
    assert normalize(Fold(ask_stream(client, model, kind)).response) == expected


@pytest.mark.parametrize("kind", ["response", "SDK response"])
@pytest.mark.parametrize("model", MODELS)
def test_response_object_of_the_wrapper_whole_and_streamed(client: OpenAI, kind: str, model: str) -> None:
    whole = ask_whole(client, model, kind)
    streamed = normalize(Fold(ask_stream(client, model, kind)).response)
    case = Case([reasoning("Let me see."), *SUNNY, WEATHER], ONE_CALL)
    assert streamed == expect(case, model)
    ids = {"resp_mine", "rs_mine", "msg_mine", "fc_mine"}
    assert {whole["id"], *(item["id"] for item in whole["output"])} == ids
    assert whole == {
        **expect(case, "mine", metadata={"my": "own"}, parallel_tool_calls=False, tool_choice="none"),
        "id": "resp_mine",
        "created_at": 1700000000.0,
        "output": [
            {"type": "reasoning", "id": "rs_mine", "summary": reasoning("Let me see.")["summary"]},
            {**SUNNY[0], "id": "msg_mine"},
            {**WEATHER, "id": "fc_mine"},
        ],
    }


@pytest.mark.parametrize("model", MODELS)
def test_response_object_that_leaves_much_out_is_completed(client: OpenAI, model: str) -> None:
    expected = expect(Case(SUNNY, ONE_CALL), model)
    assert normalize(Fold(ask_stream(client, model, "short response")).response) == expected
    assert normalize(ask_whole(client, model, "short response")) == expected


def test_response_object_with_other_items_whole_and_streamed(client: OpenAI) -> None:
    whole = ask_whole(client, NATIVE, "response of other items")["output"]
    streamed = ask_stream(client, NATIVE, "response of other items")[-1].data["response"]["output"]
    assert [item["type"] for item in whole] == ["web_search_call", "message", "custom_tool_call"]
    assert (streamed[0], streamed[1]["content"], streamed[2]) == (whole[0], whole[1]["content"], whole[2])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (
            "text generator",
            """
            created in_progress output_item.added content_part.added
            output_text.delta output_text.delta output_text.delta output_text.delta
            output_text.done content_part.done output_item.done completed
            """,
        ),
        (
            "silent generator",
            """
            created in_progress output_item.added content_part.added
            output_text.done content_part.done output_item.done completed
            """,
        ),
        (
            "mixed generator",
            """
            created in_progress
            output_item.added reasoning_summary_part.added
            reasoning_summary_text.delta reasoning_summary_text.done reasoning_summary_part.done output_item.done
            output_item.added content_part.added
            output_text.delta output_text.done content_part.done output_item.done
            output_item.added reasoning_summary_part.added
            reasoning_summary_text.delta reasoning_summary_text.done reasoning_summary_part.done output_item.done
            output_item.added content_part.added output_text.delta output_text.done content_part.done
            content_part.added refusal.delta refusal.done content_part.done output_item.done
            output_item.added function_call_arguments.delta output_item.added function_call_arguments.delta
            function_call_arguments.done output_item.done function_call_arguments.done output_item.done
            completed
            """,
        ),
        (
            "call generator",
            """
            created in_progress
            output_item.added output_item.added
            function_call_arguments.delta function_call_arguments.delta function_call_arguments.delta
            function_call_arguments.done output_item.done function_call_arguments.done output_item.done
            completed
            """,
        ),
        (
            "length",
            """
            created in_progress output_item.added content_part.added output_text.delta
            output_text.done content_part.done output_item.done incomplete
            """,
        ),
    ],
)
def test_events_come_in_their_order(client: OpenAI, kind: str, expected: str) -> None:
    events = ask_stream(client, NATIVE, kind)
    assert [event.kind for event in events] == [f"response.{name}" for name in expected.split()]


def test_typed_stream_gives_what_the_wire_does(client: OpenAI, sdk: SDK) -> None:
    wire = ask_stream(client, NATIVE, "mixed generator")
    typed = sdk.read(sdk.client.responses.create(model=NATIVE, input="mixed generator", stream=True))
    assert [event.type for event in typed] == [event.kind for event in wire]
    assert typed[-1].response.output_text == "First. Second."


@pytest.mark.parametrize("model", MODELS)
def test_typed_stream_gives_each_chunk(sdk: SDK, model: str) -> None:
    events = sdk.read(sdk.client.responses.create(model=model, input="text generator", stream=True))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert deltas == ["Sun", "ny", ".\n", "€"]
    assert events[-1].response.output_text == "Sunny.\n€"


@pytest.mark.parametrize("model", MODELS)
def test_typed_whole_reply(sdk: SDK, model: str) -> None:
    response = sdk.get(sdk.client.responses.create(model=model, input="calls"))
    calls = [(item.name, item.arguments, item.call_id) for item in response.output if item.type == "function_call"]
    assert calls == [("weather", '{"city":"Köln"}', "call_a"), ("clock", "{}", "call_b")]
    assert response.output_text == "Let me look."
    assert response.usage.to_dict() == ONE_CALL


class Weather(BaseModel):
    city: str
    degrees: int


SCHEMA = {
    "format": {
        "type": "json_schema",
        "strict": True,
        "name": "Weather",
        "schema": {
            "properties": {
                "city": {"title": "City", "type": "string"},
                "degrees": {"title": "Degrees", "type": "integer"},
            },
            "required": ["city", "degrees"],
            "title": "Weather",
            "type": "object",
            "additionalProperties": False,
        },
    }
}


@pytest.mark.parametrize("model", MODELS)
def test_stream_helper_snapshots_and_parses(sdk: SDK, model: str) -> None:
    manager = sdk.client.responses.stream(model=model, input="object", text_format=Weather)
    events, final = sdk.follow(manager, "get_final_response")
    snapshots = [event.snapshot for event in events if event.type == "response.output_text.delta"]
    assert snapshots == [final.output_text] == ['{"city": "Köln", "degrees": 21}']
    assert final.output_parsed == Weather(city="Köln", degrees=21)
    assert final.text.to_dict() == SCHEMA


@pytest.mark.parametrize("kind", ["mixed generator", "call generator", "chunk generator", "calls", "agent"])
def test_stream_helper_accumulates_each_item(sdk: SDK, kind: str) -> None:
    tools: Any = [openai.pydantic_function_tool(Weather, name="forecast")]
    manager = sdk.client.responses.stream(model=NATIVE, input=kind, tools=tools)
    events, final = sdk.follow(manager, "get_final_response")
    arguments: dict[str, str] = {}
    for event in events:
        if event.type == "response.function_call_arguments.delta":
            arguments[event.item_id] = event.snapshot
    assert arguments == {item.id: item.arguments for item in final.output if item.type == "function_call"}
    assert [item.type for item in final.output] == [item["type"] for item in CASES[kind].output]


@pytest.mark.parametrize("model", MODELS)
def test_parse_gives_the_object(sdk: SDK, model: str) -> None:
    response = sdk.get(sdk.client.responses.parse(model=model, input="object", text_format=Weather))
    assert response.output_parsed == Weather(city="Köln", degrees=21)


def test_lines_of_a_stream_through_with_streaming_response(client: OpenAI) -> None:
    with client.responses.with_streaming_response.create(model=NATIVE, input="length", stream=True) as raw:
        lines = [line for line in raw.iter_lines() if line.startswith("event: ")]
        assert raw.headers["cache-control"] == "no-store"
    assert (lines[0], lines[-1]) == ("event: response.created", "event: response.incomplete")


def test_whole_reply_through_with_streaming_response(sdk: SDK) -> None:
    body = sdk.body(sdk.client.responses.with_streaming_response.create(model=ASYNC, input="message"))
    assert normalize(check(json.loads(body), Response)) == expect(CASES["message"], ASYNC)


# What goes wrong.


@dataclass(frozen=True)
class Fault:
    exception: type[openai.APIStatusError]
    status: int
    kind: str
    code: str
    message: str


FAULTS = {
    "raises": Fault(openai.InternalServerError, 500, "server_error", "wrapper_error", "failed; the log says why"),
    "raises at once": Fault(openai.InternalServerError, 500, "server_error", "wrapper_error", "the log says why"),
    "nothing": Fault(openai.InternalServerError, 500, "server_error", "wrapper_error", "the log says why under err_"),
    "odd": Fault(openai.InternalServerError, 500, "server_error", "wrapper_error", "the log says why under err_"),
    "too many": Fault(openai.RateLimitError, 429, "rate_limit_error", "too_many_requests", "come back later"),
    "conflict": Fault(openai.ConflictError, 409, "invalid_request_error", "conflict", "it is there already"),
}


def check_fault(error: openai.APIStatusError, fault: Fault) -> None:
    assert isinstance(error.body, dict)
    assert set(error.body) == {"message", "type", "param", "code"}
    assert (error.status_code, error.type, error.code) == (fault.status, fault.kind, fault.code)
    assert fault.message in error.message
    assert "password" not in error.message


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("kind", FAULTS)
def test_failure_before_the_first_chunk_has_its_status(sdk: SDK, kind: str, is_stream: bool, model: str) -> None:
    with pytest.raises(FAULTS[kind].exception) as caught:
        sdk.get(sdk.client.responses.create(model=model, input=kind, stream=is_stream))
    check_fault(caught.value, FAULTS[kind])


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", ["raises later", "odd chunk"])
def test_failure_in_the_middle_ends_the_stream_with_failed_and_error(client: OpenAI, kind: str, model: str) -> None:
    events = ask_stream(client, model, kind)
    assert [event.kind for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.failed",
        "error",
    ]
    failed, error = events[-2].data["response"], events[-1].data
    assert (failed["status"], failed["usage"]) == ("failed", None)
    assert failed["error"] == {"code": "server_error", "message": error["message"]}
    assert error == {
        "type": "error",
        "code": "wrapper_error",
        "message": error["message"],
        "param": None,
        "error": {"message": error["message"], "type": "server_error", "param": None, "code": "wrapper_error"},
        "sequence_number": 6,
    }
    assert f"wrapper {model} failed; the log says why under err_" in error["message"]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", ["raises later", "odd chunk"])
def test_failure_in_the_middle_raises_in_the_sdk(sdk: SDK, kind: str, model: str) -> None:
    seen: list[Any] = []
    with pytest.raises(openai.APIError, match="the log says why under err_") as caught:
        sdk.read(sdk.client.responses.create(model=model, input=kind, stream=True), seen)
    assert type(caught.value) is openai.APIError
    assert (caught.value.code, caught.value.type) == ("wrapper_error", "server_error")
    assert [event.type for event in seen[-2:]] == ["response.output_text.delta", "response.failed"]


@pytest.mark.parametrize("kind", ["raises later", "odd chunk"])
def test_failure_in_the_middle_of_a_whole_reply_has_its_status(client: OpenAI, kind: str) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        client.responses.create(model=NATIVE, input=kind)
    check_fault(caught.value, FAULTS["raises"])


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"conversation": {"id": "conv_1"}}, "conversation"),
        ({"background": True}, "background"),
    ],
)
@pytest.mark.parametrize("is_stream", [False, True])
def test_what_would_have_to_be_stored_is_refused(
    client: OpenAI, said: dict[str, Any], param: str, is_stream: bool
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model=NATIVE, input="text", stream=is_stream, **said)
    assert (caught.value.param, caught.value.code) == (param, "unsupported_parameter")
    assert f"{param} is not supported: " in caught.value.message


@pytest.mark.parametrize("said", [{"store": True}, {"store": False}, {"background": False}])
def test_nothing_is_stored_whatever_the_request_says(client: OpenAI, said: dict[str, Any]) -> None:
    nothing = {"previous_response_id": None, "conversation": None}
    expected = expect(CASES["text"], NATIVE)
    assert normalize(ask_whole(client, NATIVE, "text", **said, extra_body=nothing)) == expected
    assert normalize(Fold(ask_stream(client, NATIVE, "text", **said)).response) == expected


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({}, "model", "missing_required_parameter"),
        ({"model": 1, "input": "?"}, "model", "invalid_type"),
        ({"model": NATIVE}, "input", "missing_required_parameter"),
        ({"model": NATIVE, "input": 1}, "input", "invalid_type"),
        ({"model": NATIVE, "input": ["?"]}, "input[0]", "invalid_type"),
        ({"model": NATIVE, "input": [{"content": "?"}]}, "input[0].role", "invalid_type"),
        ({"model": NATIVE, "input": [{"role": "user", "content": 1}]}, "input[0].content", "invalid_type"),
        ({"model": NATIVE, "input": [{"role": "user", "content": ["?"]}]}, "input[0].content", "invalid_type"),
        ({"model": NATIVE, "input": "?", "instructions": 1}, "instructions", "invalid_type"),
        ({"model": NATIVE, "input": "?", "tools": {}}, "tools", "invalid_type"),
        ({"model": NATIVE, "input": "?", "stream": "yes"}, "stream", "invalid_type"),
        ({"model": CHAT, "input": "?", "reasoning": {"effort": 1}}, "reasoning.effort", "invalid_type"),
        ({"model": CHAT, "input": "?", "text": {"format": "json"}}, "text.format", "invalid_type"),
    ],
)
def test_bad_request_names_the_field(client: OpenAI, body: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/responses", body=body, cast_to=Response)
    assert (caught.value.param, caught.value.code, caught.value.type) == (param, code, "invalid_request_error")


def test_unknown_model_is_not_found(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.responses.create(model="nobody", input="?", stream=True)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_path_without_v1(gateway: Gateway) -> None:
    with make_client(gateway, "") as client:
        assert client.responses.create(model=NATIVE, input="text").output_text == "Sunny."
        with pytest.raises(openai.NotFoundError) as caught:
            client.responses.create(model="nobody", input="?")
    assert caught.value.code == "model_not_found"


# What the wrapper sees.

ITEMS: list[Any] = [
    {"role": "developer", "content": "Be brief."},
    {
        "type": "message",
        "role": "user",
        "content": [
            {"type": "input_text", "text": "What is it?"},
            {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"},
            {"type": "input_image", "file_id": "file-1", "detail": "auto"},
            {"type": "input_file", "file_id": "file-2"},
            {"type": "input_file", "filename": "a.txt", "file_data": "data:text/plain;base64,YQ=="},
            {"type": "input_file", "file_url": "https://example.org/a.pdf"},
        ],
    },
    {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "One."}, {"type": "summary_text", "text": "Two."}],
        "encrypted_content": "gAAAA",
    },
    {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": "Let me look.", "annotations": []}],
    },
    {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look", "arguments": '{"at": "it"}'},
    {"type": "function_call", "call_id": "call_2", "name": "clock", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "call_1", "output": "a cat"},
    {"type": "function_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "noon"}]},
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "And now?"}]},
]
MESSAGES = [
    {"role": "system", "content": "You are a guide."},
    {"role": "developer", "content": "Be brief."},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "What is it?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
            {"type": "file", "file": {"file_id": "file-1"}},
            {"type": "file", "file": {"file_id": "file-2"}},
            {"type": "file", "file": {"filename": "a.txt", "file_data": "data:text/plain;base64,YQ=="}},
            {"type": "file", "file": {"file_url": "https://example.org/a.pdf"}},
        ],
    },
    {
        "role": "assistant",
        "content": "Let me look.",
        "reasoning_content": "One.\n\nTwo.",
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": "it"}'}},
            {"id": "call_2", "type": "function", "function": {"name": "clock", "arguments": "{}"}},
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "a cat"},
    {"role": "tool", "tool_call_id": "call_2", "content": "noon"},
    {"role": "user", "content": "And now?"},
]
PARAMETERS = {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]}
SAID: dict[str, Any] = {
    "instructions": "You are a guide.",
    "tools": [
        {"type": "function", "name": "look", "description": "Look.", "parameters": PARAMETERS, "strict": True},
        {"type": "web_search", "search_context_size": "low"},
    ],
    "tool_choice": {"type": "function", "name": "look"},
    "parallel_tool_calls": False,
    "text": {**SCHEMA, "verbosity": "low"},
    "max_output_tokens": 99,
    "reasoning": {"effort": "high", "summary": "auto"},
    "temperature": 0.5,
    "top_p": 0.25,
    "metadata": {"a": "b"},
    "user": "me",
    "store": True,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "key",
    "safety_identifier": "safe",
    "service_tier": "flex",
    "truncation": "auto",
    "top_logprobs": 2,
    "max_tool_calls": 3,
}
REPEATED = {key: value for key, value in SAID.items() if key not in ("store", "include")}


def look(response: dict[str, Any]) -> dict[str, Any]:
    """What the wrapper says that it has seen."""
    seen: dict[str, Any] = json.loads(response["output"][0]["content"][0]["text"])
    return seen


def test_wrapper_sees_items_and_body_untouched(client: OpenAI) -> None:
    raw = client.responses.with_raw_response.create(model=SEEN, input=ITEMS, extra_headers={"X-Mine": "yes"}, **SAID)
    response = check(json.loads(raw.content), Response)
    body = {"model": SEEN, "input": ITEMS, **SAID}
    assert look(response) == {"model": SEEN, "input_items": ITEMS, "body": body, "mine": "yes"}
    assert normalize(response) == expect(Case(normalize(response)["output"], usage()), SEEN, **REPEATED) | {
        "output": normalize(response)["output"]
    }


def test_wrapper_sees_text_as_one_message(client: OpenAI) -> None:
    seen = look(ask_whole(client, SEEN, "Who?"))
    items = [{"type": "message", "role": "user", "content": "Who?"}]
    assert seen == {"model": SEEN, "input_items": items, "body": {"model": SEEN, "input": "Who?"}, "mine": None}


def test_stream_repeats_what_the_request_says(client: OpenAI) -> None:
    events = ask_stream(client, NATIVE, "text", **SAID)
    assert normalize(Fold(events).response) == expect(CASES["text"], NATIVE, **REPEATED)


def test_chat_method_sees_a_chat(client: OpenAI) -> None:
    raw = client.responses.with_raw_response.create(model=SEEN_CHAT, input=ITEMS, **SAID)
    seen = look(check(json.loads(raw.content), Response))
    form = {key: value for key, value in SCHEMA["format"].items() if key != "type"}
    function = {"name": "look", "description": "Look.", "parameters": PARAMETERS, "strict": True}
    replaced = ("instructions", "text", "reasoning", "max_output_tokens")
    assert {key: value for key, value in seen["body"].items() if key not in replaced} == {
        **{key: value for key, value in SAID.items() if key not in replaced},
        "model": SEEN_CHAT,
        "messages": MESSAGES,
        "tools": [{"type": "function", "function": function}, {"type": "web_search", "search_context_size": "low"}],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "response_format": {"type": "json_schema", "json_schema": form},
        "verbosity": "low",
        "max_completion_tokens": 99,
        "reasoning_effort": "high",
    }
    assert {"text", "reasoning", "max_output_tokens"} & seen["body"].keys() == set()
    assert (seen["model"], seen["messages"]) == (SEEN_CHAT, MESSAGES)


def test_chat_method_sees_text_as_one_message(client: OpenAI) -> None:
    seen = look(ask_whole(client, SEEN_CHAT, "Who?"))
    messages = [{"role": "user", "content": "Who?"}]
    assert seen == {"model": SEEN_CHAT, "messages": messages, "body": {"model": SEEN_CHAT, "messages": messages}}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"text": {"format": {"type": "text"}}}, {}),
        ({"text": {"format": {"type": "json_object"}}}, {"response_format": {"type": "json_object"}}),
        ({"tool_choice": "required"}, {"tool_choice": "required"}),
        ({"reasoning": {"summary": "auto"}}, {}),
    ],
)
def test_chat_method_sees_a_parameter(client: OpenAI, said: dict[str, Any], expected: dict[str, Any]) -> None:
    body = look(ask_whole(client, SEEN_CHAT, "Who?", **said))["body"]
    assert {key: value for key, value in body.items() if key not in ("model", "messages")} == expected


def test_output_goes_back_in_as_input(client: OpenAI) -> None:
    """An agent loop of a client: what came out is sent back as it is, with the answers."""
    response = client.responses.create(model=NATIVE, input="calls")
    answers = [
        {"type": "function_call_output", "call_id": item.call_id, "output": "done"}
        for item in response.output
        if item.type == "function_call"
    ]
    items: Any = [{"role": "user", "content": "calls"}, *response.output, *answers]
    raw = client.responses.with_raw_response.create(model=SEEN_CHAT, input=items)
    assert look(json.loads(raw.content))["messages"] == [
        {"role": "user", "content": "calls"},
        {
            "role": "assistant",
            "content": "Let me look.",
            "tool_calls": [
                {
                    "id": call["call_id"],
                    "type": "function",
                    "function": {"name": call["name"], "arguments": call["arguments"]},
                }
                for call in (WEATHER, CLOCK)
            ],
        },
        {"role": "tool", "tool_call_id": "call_a", "content": "done"},
        {"role": "tool", "tool_call_id": "call_b", "content": "done"},
    ]


# As Codex asks: tools that it has invented, items that chat has no word for, and fields that nobody knows.

CODEX: dict[str, Any] = {
    "instructions": "You are a coding assistant. " + "Read before you write. ö " * 1600,
    "input": [
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "<permissions>"}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Mend it."}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": None, "encrypted_content": "gAAAA"},
        {
            "type": "local_shell_call",
            "call_id": "call_1",
            "status": "completed",
            "action": {"type": "exec", "command": ["ls"], "timeout_ms": None},
        },
        {"type": "local_shell_call_output", "id": "call_1", "output": "a.py"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "q"}},
        {"type": "custom_tool_call", "call_id": "call_2", "name": "apply_patch", "input": "*** Begin Patch"},
        {"type": "custom_tool_call_output", "call_id": "call_2", "output": "done"},
        {"type": "ghost_snapshot", "ghost_commit": {"id": "1"}},
    ],
    "tools": [
        {"type": "function", "name": "shell", "description": "Run.", "strict": False, "parameters": PARAMETERS},
        {"type": "local_shell"},
        {"type": "web_search", "external_web_access": True},
        {
            "type": "custom",
            "name": "apply_patch",
            "description": "Patch.",
            "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"},
        },
        {"type": "namespace", "name": "mcp", "description": "Others.", "tools": [{"type": "function", "name": "x"}]},
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "reasoning": {"effort": "medium", "summary": "auto"},
    "store": False,
    "stream": True,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "0199",
    "text": {"verbosity": "medium"},
    "client_metadata": {"x-installation": "1"},
    "nobody_knows": [{"this": None}],
}


def ask_as_it_is(client: OpenAI, body: dict[str, Any]) -> list[Event]:
    """The body untouched: the SDK's own parameters do not know all that is in it."""
    with client.responses.with_streaming_response.create(extra_body=body) as raw:
        return record(raw.read())


def test_request_like_codex_reaches_the_wrapper_untouched(client: OpenAI) -> None:
    body = {"model": SEEN, **CODEX}
    assert len(json.dumps(body)) > 40_000
    response = Fold(ask_as_it_is(client, body)).response
    assert look(response) == {"model": SEEN, "input_items": CODEX["input"], "body": body, "mine": None}
    assert response["tools"] == CODEX["tools"]


def test_request_like_codex_reaches_a_chat_method(client: OpenAI) -> None:
    body = {"model": SEEN_CHAT, **CODEX}
    seen = look(Fold(ask_as_it_is(client, body)).response)
    tools = [dict(tool) for tool in CODEX["tools"]]
    tools[0] = {"type": "function", "function": {key: value for key, value in tools[0].items() if key != "type"}}
    messages = [
        {"role": "system", "content": CODEX["instructions"]},
        {"role": "developer", "content": "<permissions>"},
        {"role": "user", "content": "Mend it."},
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "",
            "tool_calls": [
                {"id": "call_2", "type": "custom", "custom": {"name": "apply_patch", "input": "*** Begin Patch"}}
            ],
        },
        {"role": "tool", "tool_call_id": "call_2", "content": "done"},
    ]
    same = ("tool_choice", "parallel_tool_calls", "store", "stream", "include", "prompt_cache_key")
    assert {key: value for key, value in seen["body"].items() if key != "instructions"} == {
        **{key: CODEX[key] for key in (*same, "client_metadata", "nobody_knows")},
        "model": SEEN_CHAT,
        "messages": messages,
        "tools": tools,
        "reasoning_effort": "medium",
        "verbosity": "medium",
    }
