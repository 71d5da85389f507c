import json
from base64 import b64decode
from struct import unpack
from typing import Any

import numpy as np
import pytest
from haystack.dataclasses import Document
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CreateEmbeddingResponse

from gateway.errors import InvalidRequest
from gateway.protocols.embeddings import EXPECTED, EmbeddingRequest, EmbeddingWhole, parse
from gateway.protocols.problem import Problem

ONE, TWO = [0.5, -1.0], [2.0, 0.25]
USAGE = {"prompt_tokens": 3, "total_tokens": 3}
DOCUMENTS = [Document(content="a", embedding=ONE), Document(content="b", embedding=TWO)]
SDK = {
    "object": "list",
    "model": "other",
    "data": [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate([ONE, TWO])],
    "usage": USAGE,
}
CASES: dict[str, tuple[Any, int]] = {  # what gives ONE and TWO, its tokens
    "lists": ([ONE, TWO], 0),
    "tuples": (((0.5, -1.0), (2, 0.25)), 0),
    "numpy": (np.array([ONE, TWO], dtype=np.float32), 0),
    "list of numpy": ([np.array(ONE), np.array(TWO)], 0),
    "documents": (DOCUMENTS, 0),
    "document embedder": ({"documents": DOCUMENTS, "meta": {"model": "x", "usage": USAGE}}, 3),
    "plain": ({"embeddings": [ONE, TWO]}, 0),
    "plain with usage": ({"embeddings": np.array([ONE, TWO]), "usage": USAGE}, 3),
    "pipeline": ({"writer": 1, "embedder": {"documents": DOCUMENTS, "meta": {"usage": USAGE}}}, 3),
    "pipeline of other components": (
        {"cleaner": {"texts": ["a"]}, "embedder": {"documents": DOCUMENTS}, "writer": {"documents_written": 2}},
        0,
    ),
    "pipeline whose embedder comes last": (
        {"splitter": {"documents": [Document(content="x")]}, "embedder": {"documents": DOCUMENTS}},
        0,
    ),
    "OpenAI": (SDK, 3),
    "SDK": (CreateEmbeddingResponse.model_validate(SDK), 3),
    "parts of OpenAI": ([{"embedding": ONE}, {"embedding": TWO}], 0),
    "counts in other words": ({"embeddings": [ONE, TWO], "usage": {"input_tokens": 3}}, 3),
}
SINGLE: dict[str, tuple[Any, int]] = {
    "text embedder": ({"embedding": ONE, "meta": {"model": "x", "usage": USAGE}}, 3),
    "pipeline": ({"embedder": {"embedding": ONE, "meta": {"usage": USAGE}}}, 3),
    "numpy": ({"embedding": np.array(ONE)}, 0),
    "list": ([ONE], 0),
}


def body(vectors: list[Any], tokens: int) -> dict[str, Any]:
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    return {"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}


def make(count: int, is_base64: bool = False) -> EmbeddingWhole:
    return EmbeddingWhole(EmbeddingRequest("m", ["text"] * count, {}, is_base64))


def unpacked(text: str) -> list[float]:
    data = b64decode(text, validate=True)
    return list(unpack(f"<{len(data) // 4}f", data))


@pytest.mark.parametrize("case", CASES)
def test_whole(case: str) -> None:
    value, tokens = CASES[case]
    assert json.loads(make(2).whole(value)) == body([ONE, TWO], tokens)
    packed = json.loads(make(2, is_base64=True).whole(value))
    for datum in packed["data"]:
        datum["embedding"] = unpacked(datum["embedding"])
    assert packed == body([ONE, TWO], tokens)


@pytest.mark.parametrize("case", SINGLE)
def test_whole_of_one_text(case: str) -> None:
    value, tokens = SINGLE[case]
    assert json.loads(make(1).whole(value)) == body([ONE], tokens)


def test_feed_takes_them_in_parts() -> None:
    encoder = make(3)
    parts = [[ONE], {"embedding": TWO, "meta": {"usage": USAGE}}, {"embeddings": [ONE], "usage": USAGE}]
    assert [encoder.start(), *(encoder.feed(part) for part in parts)] == [b"", b"", b"", b""]
    assert json.loads(encoder.finish()) == body([ONE, TWO, ONE], 6)


def test_whole_in_base64_is_the_low_byte_first() -> None:
    assert json.loads(make(1, is_base64=True).whole([[1.0, -2.0]]))["data"][0]["embedding"] == "AACAPwAAAMA="


WRONG: dict[str, tuple[Any, str]] = {
    "none": (None, f"embeddings cannot be made of NoneType: return {EXPECTED}"),
    "number": (1, f"embeddings cannot be made of int: return {EXPECTED}"),
    "generator of none": ({"embeddings": 1}, f"embeddings cannot be made of int: return {EXPECTED}"),
    "unknown dict": (
        {"a": 1, "b": [ONE]},
        f"embeddings cannot be made of a mapping with the keys a, b: {EXPECTED}",
    ),
    "too few": ([ONE], f"1 vectors were given for 2 inputs: return {EXPECTED}"),
    "too many": ([ONE, TWO, ONE], f"3 vectors were given for 2 inputs: return {EXPECTED}"),
    "nothing": ([], f"0 vectors were given for 2 inputs: return {EXPECTED}"),
    "no numbers": ([[], ONE], f"a vector must hold finite numbers, and some: return {EXPECTED}"),
    "not finite": ([[float("nan")], ONE], f"a vector must hold finite numbers, and some: return {EXPECTED}"),
    "texts": (["12", "12"], f"a vector cannot be made of str: return {EXPECTED}"),
    "numbers": ([1, 2], f"a vector cannot be made of int: return {EXPECTED}"),
    "one vector alone": ([0.5, -1.0, 2.0], f"3 vectors were given for 2 inputs: return {EXPECTED}"),
}


@pytest.mark.parametrize("case", WRONG)
def test_whole_raises_when_it_is_not_one_vector_for_each_input(case: str) -> None:
    value, sentence = WRONG[case]
    with pytest.raises((TypeError, ValueError)) as caught:
        make(2).whole(value)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("value", [[0.5], [None], [["a"]], [Document(content="a")], "a"])
@pytest.mark.parametrize("is_base64", [False, True])
def test_whole_raises_when_it_is_no_vector(value: Any, is_base64: bool) -> None:
    with pytest.raises((TypeError, ValueError)):
        make(1, is_base64).whole(value)


def test_fail_is_the_envelope() -> None:
    assert json.loads(make(1).fail(Problem("m", "server_error", "wrapper_error"))) == {
        "error": {"message": "m", "type": "server_error", "param": None, "code": "wrapper_error"}
    }


@given(
    st.lists(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=5), max_size=5)
)
def test_base64_and_float_agree(vectors: list[list[float]]) -> None:
    plain = json.loads(make(len(vectors)).whole(vectors))
    packed = json.loads(make(len(vectors), is_base64=True).whole(vectors))
    assert [datum["embedding"] for datum in plain["data"]] == vectors
    assert [unpacked(datum["embedding"]) for datum in packed["data"]] == vectors


# Requests.
MINIMAL = {"model": "m", "input": "hi"}
REQUESTS: dict[str, tuple[dict[str, Any], list[str], bool]] = {
    "text": (MINIMAL, ["hi"], False),
    "texts": ({"model": "m", "input": ["a", "", "b"]}, ["a", "", "b"], False),
    "float": ({**MINIMAL, "encoding_format": "float"}, ["hi"], False),
    "base64": ({**MINIMAL, "encoding_format": "base64"}, ["hi"], True),
    "null": ({**MINIMAL, "encoding_format": None, "dimensions": None}, ["hi"], False),
    "dimensions": ({**MINIMAL, "dimensions": 1}, ["hi"], False),
    "what is not heeded": ({**MINIMAL, "user": 5, "unheard": {"of": [None]}}, ["hi"], False),
    "most": ({"model": "m", "input": ["a"] * 2048}, ["a"] * 2048, False),
}


@pytest.mark.parametrize("case", REQUESTS)
def test_parse(case: str) -> None:
    data, inputs, is_base64 = REQUESTS[case]
    request = parse(data)
    assert request.arguments == {"model": "m", "inputs": inputs, "body": data}
    assert request.is_base64 == is_base64


MISSING, TYPE, VALUE = "missing_required_parameter", "invalid_type", "invalid_value"
TOKENS = "input must be a string or an array of strings; arrays of tokens are not supported: send the text"
REFUSED: dict[str, tuple[Any, str | None, str, str]] = {  # param, code, sentence
    "array": ([], None, TYPE, "the body must be a JSON object, not an array"),
    "no model": ({"input": "hi"}, "model", MISSING, "model is required"),
    "no input": ({"model": "m"}, "input", MISSING, "input is required"),
    "input is an object": (
        {**MINIMAL, "input": {}},
        "input",
        TYPE,
        "input must be a string or an array, not an object",
    ),
    "input is empty": ({**MINIMAL, "input": []}, "input", VALUE, "input must hold from 1 to 2048 texts, not 0"),
    "input is long": (
        {**MINIMAL, "input": ["a"] * 2049},
        "input",
        VALUE,
        "input must hold from 1 to 2048 texts, not 2049",
    ),
    "input is tokens": ({**MINIMAL, "input": [1, 2]}, "input", TYPE, TOKENS),
    "input is arrays of tokens": ({**MINIMAL, "input": [[1], [2]]}, "input", TYPE, TOKENS),
    "input is mixed": ({**MINIMAL, "input": ["a", None]}, "input", TYPE, TOKENS),
    "encoding is unknown": (
        {**MINIMAL, "encoding_format": "int8"},
        "encoding_format",
        VALUE,
        "encoding_format must be float or base64, not int8",
    ),
    "encoding is a number": (
        {**MINIMAL, "encoding_format": 1},
        "encoding_format",
        TYPE,
        "encoding_format must be a string, not an integer",
    ),
    "dimensions are zero": ({**MINIMAL, "dimensions": 0}, "dimensions", VALUE, "dimensions must be at least 1"),
    "dimensions are text": (
        {**MINIMAL, "dimensions": "3"},
        "dimensions",
        TYPE,
        "dimensions must be an integer, not a string",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_parse_refuses(case: str) -> None:
    data, param, code, sentence = REFUSED[case]
    with pytest.raises(InvalidRequest) as caught:
        parse(data)
    assert (caught.value.status, caught.value.type) == (400, "invalid_request_error")
    assert (caught.value.param, caught.value.code, caught.value.message) == (param, code, sentence)
