"""Chat completions through OpenAI's SDK: everything that a wrapper may give, whole and streamed."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from openai import ContentFilterFinishReasonError, LengthFinishReasonError, OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

from tests import probe as probes
from tests.conftest import Serve
from tests.gateways import Gateway
from tests.openai.conftest import SDK, make_async_client, make_client
from tests.openai.kinds import KINDS, OWN_CALL, SPACED_CALLS, Kind
from tests.openai.strict import DONE, Event, check, find_nulls, record
from tests.probe import Probe, eventually
from tests.wire import read_events

WAIT_S = 20.0
WRAPPERS = ("chat_kinds", "chat_kinds_async")
ECHOES = ("chat_echo", "chat_echo_async")
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
            "additionalProperties": False,
        },
    },
}

kinds = pytest.mark.parametrize("name", KINDS)
wrappers = pytest.mark.parametrize("wrapper", WRAPPERS)
echoes = pytest.mark.parametrize("wrapper", ECHOES)


def say(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def usage_of(kind: Kind) -> dict[str, Any]:
    prompt, completion = kind.usage
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def fold(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """The whole reply that a stream amounts to, by the rules of OpenAI's document; but for id and time."""
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for part in chunk["choices"]:
            empty = {"message": {"content": None, "refusal": None}, "logprobs": None, "finish_reason": None}
            choice = choices.setdefault(part["index"], {"index": part["index"], **empty})
            choice["finish_reason"] = part["finish_reason"] or choice["finish_reason"]
            message = choice["message"]
            for key, value in part["delta"].items():
                if key == "tool_calls":
                    for piece in value:
                        fold_call(message.setdefault("tool_calls", []), piece)
                else:
                    message[key] = (message.get(key) or "") + value
    return {"choices": [choices[index] for index in sorted(choices)], "usage": chunks[-1]["usage"]}


def fold_call(calls: list[dict[str, Any]], piece: dict[str, Any]) -> None:
    if piece["index"] == len(calls):
        calls.append({key: piece[key] for key in ("id", "type", "function")})
    else:
        assert piece.keys() == {"index", "function"}
        calls[piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]


def completions(sdk: SDK) -> Any:
    return sdk.client.chat.completions


def ask_whole(sdk: SDK, wrapper: str, text: str, **more: Any) -> dict[str, Any]:
    """The whole reply, strictly a completion."""
    answer = sdk.body(completions(sdk).with_streaming_response.create(model=wrapper, messages=say(text), **more))
    body: dict[str, Any] = check(json.loads(answer), ChatCompletion)
    assert isinstance(body["choices"], list)
    return body


def ask_stream(sdk: SDK, wrapper: str, text: str, **more: Any) -> list[Event]:
    """The recorded stream, each chunk strictly a chunk."""
    manager = completions(sdk).with_streaming_response.create(model=wrapper, messages=say(text), stream=True, **more)
    events = record(sdk.body(manager))
    for event in events[:-1]:
        if "event" not in event.data:
            check(event.data, ChatCompletionChunk)
    return events


def chunks_of(events: list[Event]) -> list[dict[str, Any]]:
    return [event.data for event in events[:-1] if "event" not in event.data]


def choice(delta: dict[str, Any], finish_reason: str | None = None, index: int = 0) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": finish_reason}


@wrappers
@kinds
def test_stream_is_exact(sdk: SDK, wrapper: str, name: str) -> None:
    kind = KINDS[name]
    events = ask_stream(sdk, wrapper, name)
    assert events[-1] == ("message", DONE)
    assert {event.kind for event in events} == {"message"}
    chunks = chunks_of(events)
    head = {"id": chunks[0]["id"], "object": "chat.completion.chunk", "created": chunks[0]["created"], "model": wrapper}
    assert head["id"].startswith("chatcmpl-")
    first, *others = kind.deltas
    deltas = [choice({"role": "assistant", **first}), *map(choice, others), choice({}, kind.finish_reason)]
    assert chunks == [{**head, "choices": [delta]} for delta in deltas]
    assert [event.data["event"] for event in events[:-1] if "event" in event.data] == list(kind.events)


@wrappers
@kinds
def test_stream_with_usage_folds_to_the_whole_reply(sdk: SDK, wrapper: str, name: str) -> None:
    kind = KINDS[name]
    chunks = chunks_of(ask_stream(sdk, wrapper, name, stream_options={"include_usage": True}))
    *before, last = chunks
    assert [chunk["usage"] for chunk in before] == [None] * len(before)
    assert (last["choices"], last["usage"]) == ([], usage_of(kind))
    assert {chunk["created"] for chunk in chunks} == {last["created"]}
    assert {chunk["id"] for chunk in chunks} == {last["id"]}
    whole = ask_whole(sdk, wrapper, name)
    assert fold(chunks) == {"choices": whole["choices"], "usage": whole["usage"]}
    said = {key for delta in kind.deltas for key in delta}
    nulls = {"choices[0].logprobs", *(f"choices[0].message.{key}" for key in {"content", "refusal"} - said)}
    assert set(find_nulls(whole)) == nulls


def test_events_stand_in_their_place(client: OpenAI) -> None:
    manager = client.chat.completions.with_streaming_response.create(
        model="chat_kinds", messages=say("events"), stream=True
    )
    with manager as response:
        body = response.read()
    data = [text for _, text in read_events(body)]
    assert data[0] == '{"event":{"type":"status","data":{"description":"looking it up","done":false,"hidden":false}}}'
    shape = ["event" if text.startswith('{"event"') else json.loads(text)["choices"][0]["delta"] for text in data[:-1]]
    assert shape == [
        "event",
        {"role": "assistant", "content": "fi"},
        *["event"] * 4,
        {"content": "ve"},
        {},
    ]


def test_completion_of_the_wrapper_keeps_what_it_says(sdk: SDK) -> None:
    assert ask_whole(sdk, "chat_kinds", "a completion") == KINDS["a completion"].value()  # type: ignore[misc]


def test_completion_is_headed_when_the_wrapper_has_left_that_out(sdk: SDK) -> None:
    body = ask_whole(sdk, "chat_kinds_async", "a meagre completion")
    assert body == {
        "id": body["id"],
        "object": "chat.completion",
        "created": body["created"],
        "model": "chat_kinds_async",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "five", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": usage_of(KINDS["a meagre completion"]),
    }
    assert body["id"].startswith("chatcmpl-")


def test_whole_calls_are_exact(sdk: SDK) -> None:
    body = ask_whole(sdk, "chat_kinds_async", "a run with calls")
    calls = [{key: value for key, value in call["tool_calls"][0].items() if key != "index"} for call in SPACED_CALLS]
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Let me see.", "refusal": None, "tool_calls": calls},
            "logprobs": None,
            "finish_reason": "tool_calls",
        }
    ]


# The SDK's own ways to ask.


@wrappers
def test_create_gives_a_completion(sdk: SDK, wrapper: str) -> None:
    answer = sdk.get(completions(sdk).create(model=wrapper, messages=say("chunks with reasoning")))
    assert type(answer) is ChatCompletion
    message = answer.choices[0].message
    assert (message.role, message.content, message.reasoning_content) == ("assistant", "five", "Five, I think.")
    assert answer.usage.total_tokens == 0


@wrappers
def test_create_gives_chunks(sdk: SDK, wrapper: str) -> None:
    chunks = sdk.read(completions(sdk).create(model=wrapper, messages=say("a run"), stream=True))
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["five, ", "I ", "think", None]
    assert [chunk.choices[0].delta.role for chunk in chunks] == ["assistant", None, None, None]
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None, None, None, "stop"]


@wrappers
@pytest.mark.parametrize(
    "name", [name for name, kind in KINDS.items() if kind.finish_reason in ("stop", "tool_calls") and not kind.events]
)
def test_stream_helper_accumulates_the_whole_reply(sdk: SDK, wrapper: str, name: str) -> None:
    helper = completions(sdk).stream(
        model=wrapper, messages=say(name), stream_options={"include_usage": True}, tools=[ADD]
    )
    events, final = sdk.follow(helper, "get_final_completion")
    whole = sdk.get(completions(sdk).create(model=wrapper, messages=say(name)))
    assert fields(final) == fields(whole)
    deltas = [event.delta for event in events if event.type == "content.delta"]
    assert "".join(deltas) == (whole.choices[0].message.content or "")
    done = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    calls = whole.choices[0].message.tool_calls or []
    assert [(event.name, event.arguments, event.parsed_arguments) for event in done] == [
        (call.function.name, call.function.arguments, json.loads(call.function.arguments)) for call in calls
    ]


@wrappers
@pytest.mark.parametrize(
    ("name", "error"), [("chunks", LengthFinishReasonError), ("pieces", ContentFilterFinishReasonError)]
)
def test_stream_helper_heeds_the_finish_reason(sdk: SDK, wrapper: str, name: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        sdk.follow(completions(sdk).stream(model=wrapper, messages=say(name)), "get_final_completion")


def fields(completion: Any) -> dict[str, Any]:
    """What a completion says; the SDK's accumulation adds fields of its own and leaves nulls out."""
    choices = []
    for each in completion.choices:
        message = each.message.model_dump(exclude_none=True)
        message.pop("parsed", None)
        for call in message.get("tool_calls", ()):
            call.pop("index", None)
            call["function"].pop("parsed_arguments", None)
        message["content"] = message.get("content") or None
        choices.append((each.index, message, each.finish_reason))
    return {"choices": choices, "usage": completion.usage.model_dump(exclude_none=True)}


@wrappers
def test_raw_response_has_headers_and_parses(sdk: SDK, wrapper: str) -> None:
    raw = sdk.get(completions(sdk).with_raw_response.create(model=wrapper, messages=say("a text")))
    assert raw.headers["content-type"] == "application/json"
    assert raw.request_id == raw.headers["x-request-id"]
    parsed = raw.parse()
    assert parsed.choices[0].message.content == "five"
    assert parsed._request_id == raw.request_id


def test_streaming_response_gives_lines(client: OpenAI) -> None:
    manager = client.chat.completions.with_streaming_response.create(
        model="chat_kinds", messages=say("texts"), stream=True
    )
    with manager as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        lines = [line for line in response.iter_lines() if line]
    assert [line[:6] for line in lines] == ["data: "] * 5
    assert lines[-1] == "data: [DONE]"


@pytest.mark.parametrize("name", ["chunks with calls", "pieces with calls", "a run with calls", "a message with calls"])
@wrappers
def test_calls_are_answered_in_a_second_round(sdk: SDK, wrapper: str, name: str) -> None:
    """What the SDK has gathered goes back as it is, with the results."""
    helper = completions(sdk).stream(model=wrapper, messages=say(name), tools=[ADD])
    _, final = sdk.follow(helper, "get_final_completion")
    message = final.choices[0].message
    assert [call.id for call in message.tool_calls] == ["call_1", "call_2"][: len(message.tool_calls)]
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": str(sum(call.function.parsed_arguments.values()))}
        for call in message.tool_calls
    ]
    history = [*say("add"), message, *results]
    answer = sdk.get(completions(sdk).create(model="chat_echo", messages=history, tools=[ADD]))
    seen = json.loads(answer.choices[0].message.content)["messages"]
    assert [(one["role"], one["content"]) for one in seen[2:]] == [("tool", "5"), ("tool", "9")][: len(results)]
    assert [call["function"]["name"] for call in seen[1]["tool_calls"]] == ["add"] * len(results)


# What a wrapper gets.


class Echo(BaseModel):
    model: str
    messages: list[dict[str, Any]]
    body: dict[str, Any]
    caller: str | None


def echo(sdk: SDK, wrapper: str, **asked: Any) -> dict[str, Any]:
    answer = sdk.get(completions(sdk).create(model=wrapper, **{"messages": say("hello"), **asked}))
    seen: dict[str, Any] = json.loads(answer.choices[0].message.content)
    return seen


PARTS = [
    {"type": "text", "text": "What is this? \u20ac"},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}},
    {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
    {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"}},
    {"type": "file", "file": {"file_id": "file-1"}},
    {"type": "of_tomorrow", "of_tomorrow": {"deep": [1, None, 2.5]}},
]
MESSAGES = [
    {"role": "developer", "content": "Be short."},
    {"role": "system", "content": [{"type": "text", "text": "Be kind."}], "name": "house"},
    {"role": "user", "content": PARTS},
    {"role": "assistant", "content": None, "refusal": None, "tool_calls": [OWN_CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "5"}]},
    {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "reasoning_content": "hm"},
    {"role": "user", "content": ""},
]


@echoes
def test_messages_reach_the_wrapper_untouched(sdk: SDK, wrapper: str) -> None:
    assert echo(sdk, wrapper, messages=MESSAGES)["messages"] == MESSAGES


@echoes
def test_every_parameter_reaches_the_body(sdk: SDK, wrapper: str) -> None:
    known = {
        "temperature": 0.2,
        "top_p": 1,
        "seed": 7,
        "stop": ["\n", "END"],
        "max_completion_tokens": 5,
        "tools": [ADD, {"type": "namespace", "tools": [{"type": "web_search"}]}],
        "tool_choice": {"type": "function", "function": {"name": "add"}},
        "parallel_tool_calls": False,
        "metadata": {"who": "me"},
        "logit_bias": {"50256": -100},
        "reasoning_effort": "low",
        "response_format": {"type": "json_object"},
        "user": "u",
        "store": True,
        "service_tier": "auto",
        "modalities": ["text"],
        "prediction": {"type": "content", "content": "five"},
        "stream": False,
    }
    unknown = {"top_k": 3, "filters": {"field": "meta.year", "operator": ">", "value": None}, "schema": []}
    seen = echo(sdk, wrapper, **known, extra_body=unknown)
    assert seen["body"] == {"model": wrapper, "messages": say("hello"), **known, **unknown}
    assert seen["model"] == wrapper


@echoes
def test_headers_reach_the_wrapper(sdk: SDK, wrapper: str) -> None:
    assert echo(sdk, wrapper, extra_headers={"X-Caller": "me"})["caller"] == "me"
    assert echo(sdk, wrapper)["caller"] is None


@echoes
def test_response_format_reaches_the_wrapper_and_is_parsed(sdk: SDK, wrapper: str) -> None:
    class Seen(BaseModel):
        model: str
        caller: str | None

    answer = sdk.get(completions(sdk).parse(model=wrapper, messages=say("hello"), response_format=Seen))
    message = answer.choices[0].message
    assert message.parsed == Seen(model=wrapper, caller=None)
    assert json.loads(message.content)["body"]["response_format"] == {
        "type": "json_schema",
        "json_schema": {
            "name": "Seen",
            "strict": True,
            "schema": {
                "type": "object",
                "title": "Seen",
                "properties": {
                    "model": {"type": "string", "title": "Model"},
                    "caller": {"anyOf": [{"type": "string"}, {"type": "null"}], "title": "Caller"},
                },
                "required": ["model", "caller"],
                "additionalProperties": False,
            },
        },
    }
    helper = completions(sdk).stream(model=wrapper, messages=say("hello"), response_format=Seen)
    events, final = sdk.follow(helper, "get_final_completion")
    assert final.choices[0].message.parsed == message.parsed
    assert [event.parsed for event in events if event.type == "content.done"] == [message.parsed]


@echoes
def test_as_many_choices_as_the_wrapper_allows(sdk: SDK, wrapper: str) -> None:
    whole = sdk.get(completions(sdk).create(model=wrapper, messages=say("hello"), n=2))
    assert [each.index for each in whole.choices] == [0, 1]
    assert whole.choices[0].message == whole.choices[1].message
    helper = completions(sdk).stream(model=wrapper, messages=say("hello"), n=2)
    _, final = sdk.follow(helper, "get_final_completion")
    echoed = [json.loads(each.message.content)["body"]["n"] for each in final.choices]
    assert echoed == [2, 2]
    events = record(
        sdk.body(
            completions(sdk).with_streaming_response.create(model=wrapper, messages=say("hello"), n=2, stream=True)
        )
    )
    parts = [check(event.data, ChatCompletionChunk)["choices"][0] for event in events[:-1]]
    for index in (0, 1):
        mine = [part for part in parts if part["index"] == index]
        assert ["role" in part["delta"] for part in mine] == [True] + [False] * (len(mine) - 1)
        assert [part["finish_reason"] for part in mine] == [None] * (len(mine) - 1) + ["stop"]


ALIASES = [
    ("/v1/chat/completions", {"model": "chat_echo"}, "chat_echo"),
    ("/chat/completions", {"model": "chat_echo"}, "chat_echo"),
    ("/chat_echo/chat", {"model": "chat_echo"}, "chat_echo"),
    ("/chat_echo/chat", {"model": "another"}, "chat_echo"),
    ("/chat_echo/chat", {}, "chat_echo"),
]


@pytest.mark.parametrize(("path", "body", "model"), ALIASES)
def test_aliases_answer_alike(gateway: Gateway, path: str, body: dict[str, Any], model: str) -> None:
    reply = requests.post(gateway.url + path, json={**body, "messages": say("hello"), "top_k": 3}, timeout=WAIT_S)
    whole = check(reply.json(), ChatCompletion)
    assert (reply.status_code, whole["model"]) == (200, model)
    seen = json.loads(whole["choices"][0]["message"]["content"])
    assert seen == {
        "model": model,
        "messages": say("hello"),
        "body": {"model": model, "messages": say("hello"), "top_k": 3},
        "caller": None,
    }


def test_client_without_v1(gateway: Gateway) -> None:
    with make_client(gateway, "") as client:
        answer = client.chat.completions.create(model="chat_kinds", messages=say("a text"))
        with client.chat.completions.create(model="chat_kinds", messages=say("texts"), stream=True) as stream:
            chunks = list(stream)
    assert answer.choices[0].message.content == "five"
    assert len(chunks) == 4


# A client that leaves.

ENDLESS = """
    from gateway import BasePipelineWrapper
    from tests import probe
    probe = probe.current

    class PipelineWrapper(BasePipelineWrapper):
        {method}(self, model: str, messages: list, body: dict):
            return self.stream()

        {generator}(self):
            try:
                while True:
                    yield "on and "
            finally:
                probe.set("closed")
"""
SYNC = {"method": "def run_chat_completion", "generator": "def stream"}
ASYNC = {"method": "async def run_chat_completion_async", "generator": "async def stream"}


@pytest.fixture
def probe() -> Iterator[Probe]:
    yield probes.renew()
    probes.renew()


def wait_until_free(gateway: Gateway) -> None:
    deployment = gateway.app.state.registry.get("w")
    eventually(lambda: all(limiter.in_flight == 0 for limiter in deployment.limiters), "in_flight == 0")


@pytest.mark.parametrize("methods", [SYNC, ASYNC], ids=["sync", "async"])
def test_client_that_leaves_stops_the_generator(serve_wrapper: Serve, probe: Probe, methods: dict[str, str]) -> None:
    gateway = serve_wrapper(ENDLESS.format(**methods))
    with make_client(gateway) as client:
        stream = client.chat.completions.create(model="w", messages=say("go on"), stream=True)
        assert next(stream).choices[0].delta.content == "on and "
        stream.close()
        probe.wait("closed")
        wait_until_free(gateway)


@pytest.mark.parametrize("methods", [SYNC, ASYNC], ids=["sync", "async"])
def test_async_client_that_leaves_stops_the_generator(
    serve_wrapper: Serve, probe: Probe, loop: Any, methods: dict[str, str]
) -> None:
    gateway = serve_wrapper(ENDLESS.format(**methods))

    async def leave() -> None:
        async with make_async_client(gateway) as client:
            stream = await client.chat.completions.create(model="w", messages=say("go on"), stream=True)
            assert (await anext(stream)).choices[0].delta.content == "on and "
            await stream.close()
            await probe.until("closed")

    loop.run(leave())
    wait_until_free(gateway)
