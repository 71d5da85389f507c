"""Haystack as the client: pipelines and agents of one wrapper, whose model is another wrapper of the same gateway."""

import gc
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import openai
import pytest
import requests
from openai import OpenAI
from openai.lib.streaming.chat import ChatCompletionStreamState

from gateway import Settings
from tests import probe as probes
from tests.gateways import WRAPPERS, Gateway
from tests.probe import Probe, eventually
from tests.wire import connect

WAIT_S = 20.0
NUMBERS = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}
CHAT_TOOLS = [{"type": "function", "function": {"name": "plus", "parameters": NUMBERS}}]
RESPONSES_TOOLS = [{"type": "function", "name": "plus", "parameters": NUMBERS, "strict": None}]
TOOLS: dict[str, list[Any]] = {"chat": CHAT_TOOLS, "responses": RESPONSES_TOOLS}

clients = pytest.mark.parametrize("model", ["haystack_client", "haystack_client_async"])
agents = pytest.mark.parametrize("model", ["haystack_agent", "haystack_agent_async"])
kinds = pytest.mark.parametrize("kind", ["chat", "responses"])
insides = pytest.mark.parametrize("inside", ["whole", "streamed"], ids=["whole inside", "streamed inside"])
outsides = pytest.mark.parametrize("outside", ["whole", "streamed"], ids=["whole outside", "streamed outside"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """`REMOTE_URL`: its own address, which it has before it starts, for the wrappers that it is the model of."""
    wrappers_dir = tmp_path_factory.mktemp("wrappers")
    for folder in WRAPPERS.glob("haystack_*"):
        (wrappers_dir / folder.name).symlink_to(folder)
    gateway = Gateway(Settings(port=0, wrappers_dir=wrappers_dir, access_log=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REMOTE_URL", f"{gateway.url}/v1")
        gateway.start()
        gateway.wait_until_loaded()
    yield gateway
    gateway.stop()


@pytest.fixture(scope="module")
def caller(server: Gateway) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=WAIT_S) as client:
        yield client


@pytest.fixture
def probe() -> Iterator[Probe]:
    yield probes.renew()
    probes.renew()


class Answer(NamedTuple):
    """What of a reply is the same in both APIs. `calls`: `(id, name, arguments)` of each."""

    text: str
    reasoning: str = ""
    calls: tuple[tuple[str, str, dict[str, int]], ...] = ()
    finish: str = "stop"
    usage: tuple[int, int, int, int] = (7, 3, 2, 1)  # in, out, of these: from a cache, of reasoning


def ask(caller: OpenAI, kind: str, model: str, outside: str, given: Any, **settings: Any) -> Answer:
    if kind == "chat":
        arguments = {"model": model, "messages": given, **settings}
        if outside == "whole":
            return read_completion(caller.chat.completions.create(**arguments))
        state = ChatCompletionStreamState()
        counting = {"stream": True, "stream_options": {"include_usage": True}}
        with caller.chat.completions.create(**arguments, **counting) as chunks:
            for chunk in chunks:
                state.handle_chunk(chunk)
        return read_completion(state.current_completion_snapshot)
    arguments = {"model": model, "input": given, **settings}
    if outside == "whole":
        return read_response(caller.responses.create(**arguments))
    with caller.responses.create(**arguments, stream=True) as events:
        *_, last = events
        return read_response(last.response)


def read_completion(completion: Any) -> Answer:
    (choice,), usage = completion.choices, completion.usage
    message = choice.message
    calls = [(call.id, call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or ()]
    return Answer(
        message.content or "",
        getattr(message, "reasoning_content", ""),
        tuple(calls),
        choice.finish_reason,
        (
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.prompt_tokens_details.cached_tokens,
            usage.completion_tokens_details.reasoning_tokens,
        ),
    )


def read_response(response: Any) -> Answer:
    calls = [item for item in response.output if item.type == "function_call"]
    parts = [part.text for item in response.output if item.type == "reasoning" for part in item.summary]
    reasons = {"max_output_tokens": "length"}
    reason = response.incomplete_details and reasons[response.incomplete_details.reason]
    usage = response.usage
    return Answer(
        response.output_text,
        "".join(parts),
        tuple((call.call_id, call.name, json.loads(call.arguments)) for call in calls),
        reason or ("tool_calls" if calls else "stop"),
        (
            usage.input_tokens,
            usage.output_tokens,
            usage.input_tokens_details.cached_tokens,
            usage.output_tokens_details.reasoning_tokens,
        ),
    )


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def inner(inside: str) -> dict[str, Any]:
    return {"metadata": {"inside": inside}}


CASES = {
    "hello there": Answer("HELLO THERE"),
    "cut it short": Answer("it short", finish="length"),
    "think forty two": Answer("forty two", reasoning="is it forty two?"),
}


@clients
@kinds
@insides
@outsides
@pytest.mark.parametrize("text", CASES)
def test_answer_of_the_other_wrapper_comes_through(
    caller: OpenAI, model: str, kind: str, inside: str, outside: str, text: str
) -> None:
    expected = CASES[text]
    if kind == "chat":  # in chat completions Haystack's generator does not look for reasoning
        expected = expected._replace(reasoning="")
    assert ask(caller, kind, model, outside, user(text), **inner(inside)) == expected


def test_answers_of_the_other_wrapper_are_those_of_a_direct_call(caller: OpenAI) -> None:
    # What the table above expects, without Haystack between.
    for text, expected in CASES.items():
        for kind in ("chat", "responses"):
            for outside in ("whole", "streamed"):
                assert ask(caller, kind, "haystack_model", outside, user(text)) == expected


@clients
@kinds
@insides
@outsides
def test_tool_calls_of_the_other_wrapper_are_the_callers_to_answer(
    caller: OpenAI, model: str, kind: str, inside: str, outside: str
) -> None:
    settings = {**inner(inside), "tools": TOOLS[kind]}
    asked = ask(caller, kind, model, outside, user("sum 1 2 3"), **settings)
    assert asked._replace(calls=()) == Answer("", finish="tool_calls")
    assert [call[1:] for call in asked.calls] == [("plus", {"a": 1, "b": 2}), ("plus", {"a": 1, "b": 3})]
    ids = [call_id for call_id, *_ in asked.calls]
    # Haystack's generator for the Responses API takes the id of the item for that of the call.
    assert ids == ["call_0", "call_1"] if kind == "chat" else len({*ids}) == 2
    told = ask(caller, kind, model, outside, [*user("sum 1 2 3"), *results(kind, asked, "4")], **settings)
    assert told == Answer(f"{ids[1]} gave 4")  # the other wrapper sees which call was answered


def results(kind: str, asked: Answer, text: str) -> list[dict[str, Any]]:
    """The turn that called tools, and a result of each, as the caller sends them back."""
    calls = [(call_id, {"name": name, "arguments": json.dumps(arguments)}) for call_id, name, arguments in asked.calls]
    if kind == "chat":
        functions = [{"id": call_id, "type": "function", "function": function} for call_id, function in calls]
        answers = [{"role": "tool", "tool_call_id": call_id, "content": text} for call_id, _ in calls]
        return [{"role": "assistant", "content": None, "tool_calls": functions}, *answers]
    items = [{"type": "function_call", "call_id": call_id, **function} for call_id, function in calls]
    return [*items, *({"type": "function_call_output", "call_id": call_id, "output": text} for call_id, _ in calls)]


@clients
@insides
@outsides
def test_reasoning_goes_back_to_the_other_wrapper(caller: OpenAI, model: str, inside: str, outside: str) -> None:
    first = caller.responses.create(model=model, input=user("think forty two"), **inner(inside))  # type: ignore[call-overload]
    turns = [item.to_dict() for item in first.output]
    assert [item["type"] for item in turns] == ["reasoning", "message"]
    told = ask(caller, "responses", model, outside, [*turns, *user("and then")], **inner(inside))
    assert told == Answer("AND THEN")


@clients
@kinds
def test_settings_reach_the_other_wrapper(caller: OpenAI, model: str, kind: str) -> None:
    told = ask(caller, kind, model, "whole", user("show temperature"), **inner("whole"), temperature=0.25)
    assert told.text == "0.25"


@agents
@kinds
@outsides
def test_agent_runs_its_tools_here_and_its_answer_comes_through(
    caller: OpenAI, probe: Probe, model: str, kind: str, outside: str
) -> None:
    told = ask(caller, kind, model, outside, user("sum 2 3"))
    assert told == Answer("call_0 gave 5", usage=(14, 6, 4, 2))
    assert probe.notes == [(model, 2, 3)]


@agents
@kinds
@outsides
def test_agent_with_several_calls_at_once(caller: OpenAI, probe: Probe, model: str, kind: str, outside: str) -> None:
    told = ask(caller, kind, model, outside, user("sum 2 3 4"))
    assert told == Answer("call_1 gave 6", usage=(14, 6, 4, 2))
    assert sorted(probe.notes) == [(model, 2, 3), (model, 2, 4)]


@agents
@kinds
def test_agents_tool_calls_are_in_no_event(server: Gateway, probe: Probe, model: str, kind: str) -> None:
    paths = {"chat": ("chat/completions", "messages"), "responses": ("responses", "input")}
    path, field = paths[kind]
    body = {"model": model, field: user("sum 2 3"), "stream": True}
    reply = requests.post(f"{server.url}/v1/{path}", json=body, timeout=WAIT_S)
    assert reply.status_code == 200
    assert [word for word in ('"tool_calls":', "function_call", '"add"') if word in reply.text] == []
    assert probe.notes == [(model, 2, 3)]


# The message that the pipeline gets.

REPLY = {"role": "assistant", "name": None, "content": [{"text": "HELLO THERE"}]}


@clients
@kinds
@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
def test_message_holds_what_the_other_wrapper_said(server: Gateway, model: str, kind: str, is_streamed: bool) -> None:
    body = {"kind": kind, "query": "hello there", "is_streamed": is_streamed}
    result = requests.post(f"{server.url}/{model}/run", json=body, timeout=WAIT_S).json()["result"]
    meta = result["reply"].pop("meta")
    assert result == {"reply": REPLY, "chunks": ["HELLO ", "THERE"] if is_streamed else []}
    assert (meta["model"], meta["finish_reason"]) == ("haystack_model", "stop")
    usage = {key: value for key, value in meta["usage"].items() if not key.endswith("details")}
    if kind == "chat":
        assert usage == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        assert meta["index"] == 0
    else:
        assert usage == {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
        assert (meta["status"], meta["error"], meta["store"]) == ("completed", None, False)
        assert meta["id"].startswith("resp_")


# Embedders.


@clients
@pytest.mark.parametrize("texts", [["a b"], ["a b", "c", "d e f"]], ids=["text embedder", "document embedder"])
def test_vectors_of_the_other_wrapper_come_through(caller: OpenAI, model: str, texts: list[str]) -> None:
    reply = caller.embeddings.create(model=model, input=texts)
    assert [(each.index, each.embedding) for each in reply.data] == [
        (index, [float(len(text)), 0.5, -1.0]) for index, text in enumerate(texts)
    ]
    spent = sum(len(text.split()) for text in texts)
    assert (reply.model, reply.usage.prompt_tokens, reply.usage.total_tokens) == (model, spent, spent)


@clients
@pytest.mark.parametrize("texts", [["fail"], ["fail", "c"]], ids=["text embedder", "document embedder"])
def test_failure_of_the_other_wrappers_vectors_is_told(caller: OpenAI, model: str, texts: list[str]) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        caller.embeddings.create(model=model, input=texts)
    assert (caught.value.status_code, caught.value.code) == (500, "wrapper_error")


# Errors.

STATUSES = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    409: openai.ConflictError,
    422: openai.UnprocessableEntityError,
    429: openai.RateLimitError,
    503: openai.InternalServerError,
}


@clients
@kinds
@outsides
@pytest.mark.parametrize("status", STATUSES)
def test_error_that_the_wrapper_hands_on_keeps_its_status(
    caller: OpenAI, model: str, kind: str, outside: str, status: int
) -> None:
    with pytest.raises(STATUSES[status]) as caught:
        ask(caller, kind, model, outside, user(f"fail {status}"), **inner("whole"))
    error = caught.value
    assert (error.status_code, error.body["message"]) == (status, f"the model says {status}")  # type: ignore[attr-defined]


@clients
@kinds
@outsides
@pytest.mark.parametrize("status", [400, 429])
def test_error_inside_a_stream_that_has_not_begun_is_the_wrappers_own(
    caller: OpenAI, model: str, kind: str, outside: str, status: int
) -> None:
    # Nobody has handed it on: to this caller it is a fault of the wrapper that he called.
    with pytest.raises(openai.InternalServerError) as caught:
        ask(caller, kind, model, outside, user(f"fail {status}"), **inner("streamed"))
    assert (caught.value.status_code, caught.value.code) == (500, "wrapper_error")
    assert "the model says" not in str(caught.value)


@clients
@kinds
def test_stream_of_the_other_wrapper_that_breaks_breaks_the_callers(caller: OpenAI, model: str, kind: str) -> None:
    texts: list[str] = []
    with pytest.raises(openai.APIError) as caught:
        read_texts(caller, kind, model, texts)
    assert "".join(texts) == "a beginning"
    assert caught.value.code == "wrapper_error"
    assert "the secret" not in str(caught.value)


def read_texts(caller: OpenAI, kind: str, model: str, texts: list[str]) -> None:
    if kind == "chat":
        chunks = caller.chat.completions.create(
            model=model, messages=user("break it"), stream=True, extra_body=inner("streamed")
        )
        for chunk in chunks:
            texts += [choice.delta.content or "" for choice in chunk.choices]
        return
    for event in caller.responses.create(
        model=model, input=user("break it"), stream=True, extra_body=inner("streamed")
    ):
        if event.type == "response.output_text.delta":
            texts.append(event.delta)


@clients
@kinds
def test_caller_who_leaves_stops_the_other_wrapper_too(server: Gateway, probe: Probe, model: str, kind: str) -> None:
    paths = {"chat": ("chat/completions", "messages"), "responses": ("responses", "input")}
    path, field = paths[kind]
    body = {"model": model, field: user("endless words"), "stream": True, **inner("streamed")}
    with connect(server.port) as connection:
        pieces = connection.post(f"/v1/{path}", body).head().pieces()
        assert any(b"on " in piece for piece in pieces)
    limiters = server.app.state.registry.get(model).limiters
    eventually(lambda: sum(limiter.in_flight for limiter in limiters) == 0, "in_flight == 0")
    gc.collect()  # the SDK's stream refers to itself, and Haystack closes it in one of the four cases only
    probe.wait("model left")
    assert probe.notes == ["disconnect"]
