"""Models through the official SDK."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types import Model

from tests import probe as probes
from tests.conftest import Serve
from tests.gateways import Gateway, serve, write_wrapper
from tests.openai.conftest import SDK, make_client
from tests.openai.strict import check

METHODS = {
    "api": "def run_api(self, query: str) -> str: ...",
    "chat": "def run_chat_completion(self, model, messages, body): ...",
    "chat_async": "async def run_chat_completion_async(self, model, messages, body): ...",
    "response": "def run_response(self, model, input_items, body): ...",
    "embedding": "async def run_embedding_async(self, model, inputs, body): ...",
    "upload": "def run_file_upload(self, filename, content_type, content, purpose): ...",
}
ABLE = {  # with their capabilities
    "Chat-2_b": ["chat", "responses"],
    "all": ["chat", "responses", "embeddings"],
    "chat": ["chat", "responses"],
    "chat_async": ["chat", "responses"],
    "embedding": ["embeddings"],
    "response": ["responses"],
}
UNABLE = ("api", "upload")
SLOW = """
    from tests import probe

    class PipelineWrapper:
        def setup(self):
            probe.current.set("loading")
            probe.current.wait("go")

        def run_chat_completion(self, model, messages, body): ...
"""


def write(wrappers_dir: Path, name: str, *methods: str) -> None:
    folder = write_wrapper(wrappers_dir, name, "")
    lines = ["class PipelineWrapper:", *(f"    {METHODS[method]}" for method in methods)]
    (folder / "pipeline_wrapper.py").write_text("\n".join(lines), encoding="utf-8")


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A wrapper for each method, one with all, and `broken`."""
    wrappers_dir = tmp_path_factory.mktemp("wrappers")
    for name in METHODS:
        write(wrappers_dir, name, name)
    write(wrappers_dir, "Chat-2_b", "chat", "api")
    write(wrappers_dir, "all", *(name for name in METHODS if name != "chat_async"))
    write_wrapper(wrappers_dir, "broken", "raise RuntimeError('the password is 1234')")
    with serve(wrappers_dir) as gateway:
        yield gateway


def expect(gateway: Gateway, name: str) -> dict[str, Any]:
    loaded_at = gateway.call(lambda: gateway.app.state.registry.get(name).loaded_at)
    return {
        "id": name,
        "object": "model",
        "created": int(loaded_at),
        "owned_by": "haystack",
        "capabilities": ABLE[name],
    }


@pytest.mark.parametrize("prefix", ["/v1", ""])
def test_list_holds_what_answers(listed: Gateway, prefix: str) -> None:
    with make_client(listed, prefix) as client:
        raw = client.models.with_raw_response.list()
        assert [model.id for model in client.models.list()] == list(ABLE)
    answer = json.loads(raw.content)
    for model in answer["data"]:
        check(model, Model)
    assert answer == {"object": "list", "data": [expect(listed, name) for name in ABLE]}


@pytest.mark.parametrize("name", ABLE)
@pytest.mark.parametrize("prefix", ["/v1", ""])
def test_retrieve_gives_one(listed: Gateway, prefix: str, name: str) -> None:
    with make_client(listed, prefix) as client:
        model = client.models.retrieve(name)
    assert check(model.to_dict(), Model) == expect(listed, name)


@pytest.mark.parametrize("name", [*UNABLE, "nobody", "a b", "%2e%2e"])
@pytest.mark.parametrize("prefix", ["/v1", ""])
def test_retrieve_of_what_does_not_answer_is_not_found(listed: Gateway, prefix: str, name: str) -> None:
    with make_client(listed, prefix) as client, pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve(name)
    error = caught.value
    assert (error.code, error.param, error.type) == ("model_not_found", "model", "invalid_request_error")


def test_models_of_the_package_list_and_retrieve_alike(sdk: SDK) -> None:
    async def gather() -> list[Any]:
        return [model async for model in sdk.client.models.list()]

    models = sdk.get(gather()) if sdk.kind == "async" else list(sdk.client.models.list())
    names = [model.id for model in models]
    assert {"responses_kinds", "responses_chat", "embeddings_async"} <= set(names)
    assert {"arguments", "broken"} & set(names) == set()
    assert sdk.get(sdk.client.models.retrieve(names[-1])) == models[-1]


def test_failed_wrapper_is_said_to_have_failed(listed: Gateway) -> None:
    with make_client(listed) as client, pytest.raises(openai.InternalServerError) as caught:
        client.models.retrieve("broken")
    error = caught.value
    assert (error.status_code, error.code, error.type) == (503, "wrapper_failed", "server_error")
    assert "retry-after" not in error.response.headers
    assert "password" not in error.response.text


def test_wrapper_is_listed_once_it_has_loaded(serve_wrapper: Serve) -> None:
    probe = probes.renew()
    gateway = serve_wrapper(SLOW, wait=False)
    try:
        probe.wait("loading")
        with make_client(gateway) as client:
            assert list(client.models.list()) == []
            for ask in (client.models.retrieve, ask_chat(client), ask_response(client)):
                with pytest.raises(openai.InternalServerError) as caught:
                    ask("w")
                error = caught.value
                assert (error.status_code, error.code, error.type) == (503, "wrapper_loading", "server_error")
                assert int(error.response.headers["retry-after"]) >= 1
            probe.set("go")
            gateway.wait_until_loaded()
            assert [model.id for model in client.models.list()] == ["w"]
            assert client.models.retrieve("w").id == "w"
    finally:
        probe.set("go")
        probes.renew()


def ask_chat(client: OpenAI) -> Any:
    return lambda model: client.chat.completions.create(model=model, messages=[{"role": "user", "content": "?"}])


def ask_response(client: OpenAI) -> Any:
    return lambda model: client.responses.create(model=model, input="?")
