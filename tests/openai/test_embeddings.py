"""Embeddings through the official SDK."""

import json
from base64 import b64decode
from struct import unpack
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types import CreateEmbeddingResponse

from tests.gateways import Gateway
from tests.openai.conftest import SDK, make_client
from tests.openai.strict import check

KINDS, ASYNC = MODELS = ("embeddings_kinds", "embeddings_async")
TEXTS = ["one", "three", "€"]
VECTORS = [[3.0, 0.5, -2.0], [5.0, 0.5, -2.0], [1.0, 0.5, -2.0]]
COUNTED = {"prompt_tokens": 6, "total_tokens": 6}
UNKNOWN = {"prompt_tokens": 0, "total_tokens": 0}
CASES = {  # with the usage that the form has a place for
    "lists": UNKNOWN,
    "tuples": UNKNOWN,
    "array": UNKNOWN,
    "arrays": UNKNOWN,
    "embeddings": UNKNOWN,
    "answer": COUNTED,
    "SDK answer": COUNTED,
    "document embedder": COUNTED,
    "documents": UNKNOWN,
    "pipeline": COUNTED,
    "pipeline with others": COUNTED,
    "generator": COUNTED,
}


def ask_raw(client: OpenAI, model: str, texts: Any, **said: Any) -> dict[str, Any]:
    raw = client.embeddings.with_raw_response.create(model=model, input=texts, **said)
    assert raw.headers["content-type"] == "application/json"
    answer: dict[str, Any] = json.loads(raw.content)
    return answer


def expect(model: str, vectors: list[list[float]], usage: dict[str, int]) -> dict[str, Any]:
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    return {"object": "list", "data": data, "model": model, "usage": usage}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", CASES)
def test_each_kind_as_floats_and_as_base64(client: OpenAI, kind: str, model: str) -> None:
    floats = ask_raw(client, model, TEXTS, user=kind, encoding_format="float")
    assert check(floats, CreateEmbeddingResponse) == expect(model, VECTORS, CASES[kind])
    coded = ask_raw(client, model, TEXTS, user=kind, encoding_format="base64")
    for item in coded["data"]:
        item["embedding"] = list(unpack("<3f", b64decode(item["embedding"], validate=True)))
    assert coded == floats


@pytest.mark.parametrize("model", MODELS)
def test_default_of_the_sdk_is_decoded_by_it(sdk: SDK, model: str) -> None:
    answer = sdk.get(sdk.client.embeddings.create(model=model, input=TEXTS))
    assert answer.to_dict() == expect(model, VECTORS, UNKNOWN)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", ["lists", "text embedder", "text pipeline", "document embedder", "generator"])
def test_one_text(sdk: SDK, kind: str, model: str) -> None:
    answer = sdk.get(sdk.client.embeddings.create(model=model, input="one", user=kind))
    assert [item.embedding for item in answer.data] == VECTORS[:1]


def test_format_that_is_left_out_is_float(client: OpenAI) -> None:
    answer = client.post("/embeddings", body={"model": KINDS, "input": "one"}, cast_to=CreateEmbeddingResponse)
    assert answer.to_dict() == expect(KINDS, VECTORS[:1], UNKNOWN)


def test_dimensions_reach_the_wrapper(sdk: SDK) -> None:
    answer = sdk.get(sdk.client.embeddings.create(model=KINDS, input=TEXTS, dimensions=2))
    assert [item.embedding for item in answer.data] == [vector[:2] for vector in VECTORS]


def test_as_many_texts_as_openai_takes(client: OpenAI) -> None:
    texts = [str(number) for number in range(2048)]
    answer = client.embeddings.create(model=KINDS, input=texts)
    assert [item.index for item in answer.data] == list(range(2048))
    assert [item.embedding[0] for item in answer.data] == [len(text) for text in texts]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "kind",
    [
        "too few",
        "too many",
        "flat",
        "nothing",
        "text",
        "words",
        "other",
        "documents without",
        "raises",
        "breaks off",
    ],
)
@pytest.mark.parametrize("form", ["float", "base64"])
def test_what_makes_no_vectors_fails_with_an_id(sdk: SDK, kind: str, form: str, model: str) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        sdk.get(sdk.client.embeddings.create(model=model, input=TEXTS, user=kind, encoding_format=form))
    error = caught.value
    assert (error.status_code, error.code, error.type, error.param) == (500, "wrapper_error", "server_error", None)
    assert f"wrapper {model} failed; the log says why under err_" in error.message


def test_what_the_wrapper_says_itself_is_told(sdk: SDK) -> None:
    with pytest.raises(openai.ConflictError, match="the index is being built"):
        sdk.get(sdk.client.embeddings.create(model=ASYNC, input=TEXTS, user="conflict"))


@pytest.mark.parametrize(
    ("said", "param", "code"),
    [
        ({"model": None}, "model", "missing_required_parameter"),
        ({"input": None}, "input", "missing_required_parameter"),
        ({"input": 1}, "input", "invalid_type"),
        ({"input": []}, "input", "invalid_value"),
        ({"input": ["?"] * 2049}, "input", "invalid_value"),
        ({"input": [1, 2]}, "input", "invalid_type"),
        ({"input": [[1, 2], [3]]}, "input", "invalid_type"),
        ({"input": ["?", 1]}, "input", "invalid_type"),
        ({"encoding_format": "hex"}, "encoding_format", "invalid_value"),
        ({"encoding_format": 1}, "encoding_format", "invalid_type"),
        ({"dimensions": 0}, "dimensions", "invalid_value"),
        ({"dimensions": "3"}, "dimensions", "invalid_type"),
        ({"dimensions": True}, "dimensions", "invalid_type"),
    ],
)
def test_bad_request_names_the_field(client: OpenAI, said: dict[str, Any], param: str, code: str) -> None:
    body = {"model": KINDS, "input": "?", **said}
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/embeddings", body=body, cast_to=CreateEmbeddingResponse)
    assert (caught.value.param, caught.value.code, caught.value.type) == (param, code, "invalid_request_error")


def test_arrays_of_tokens_are_refused_in_a_sentence(sdk: SDK) -> None:
    with pytest.raises(openai.BadRequestError, match="arrays of tokens are not supported: send the text"):
        sdk.get(sdk.client.embeddings.create(model=KINDS, input=[[1, 2], [3]]))


@pytest.mark.parametrize("model", ["nobody", "responses_kinds"])
def test_wrapper_that_embeds_nothing_is_not_found(sdk: SDK, model: str) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        sdk.get(sdk.client.embeddings.create(model=model, input="?"))
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_path_without_v1(gateway: Gateway) -> None:
    with make_client(gateway, "") as client:
        assert client.embeddings.create(model=KINDS, input="one").data[0].embedding == VECTORS[0]
        with pytest.raises(openai.NotFoundError) as caught:
            client.embeddings.create(model="nobody", input="one")
    assert caught.value.code == "model_not_found"
