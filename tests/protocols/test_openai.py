import json
from typing import Any

import pytest

from gateway.errors import InvalidRequest
from gateway.protocols.openai import (
    OpenAIEncoder,
    error_body,
    read_field,
    read_model,
    read_object,
    read_objects,
    text,
)
from gateway.protocols.problem import Problem
from gateway.protocols.result import EXPECTED

MISSING, TYPE = "missing_required_parameter", "invalid_type"
BODY = {
    "text": "a",
    "empty": "",
    "flag": False,
    "zero": 0,
    "half": 0.5,
    "array": [],
    "object": {"inner": {"text": "b"}, "null": None},
    "null": None,
}
FIELDS: dict[str, tuple[str, tuple[type, ...], Any]] = {  # name, kinds, value
    "text": ("text", (str,), "a"),
    "empty text": ("empty", (str,), ""),
    "false": ("flag", (bool,), False),
    "zero": ("zero", (int,), 0),
    "array": ("array", (str, list), []),
    "object": ("object", (dict,), BODY["object"]),
    "inside": ("object.inner.text", (str,), "b"),
    "null": ("null", (str,), "default"),
    "null inside": ("object.null", (str,), "default"),
    "left out": ("missing", (str,), "default"),
    "left out inside": ("object.missing", (str,), "default"),
    "inside of nothing": ("missing.inner", (str,), "default"),
    "inside of text": ("text.inner", (str,), "default"),
}


@pytest.mark.parametrize("case", FIELDS)
def test_read_field(case: str) -> None:
    name, kinds, expected = FIELDS[case]
    assert read_field(BODY, name, *kinds, default="default") == expected


def test_read_field_gives_none_without_a_default() -> None:
    assert read_field(BODY, "missing", str) is None


WRONG: dict[str, tuple[str, tuple[type, ...], str, str]] = {  # name, kinds, code, sentence
    "left out": ("missing", (str,), MISSING, "missing is required"),
    "null": ("null", (str,), MISSING, "null is required"),
    "left out inside": ("object.missing", (str,), MISSING, "object.missing is required"),
    "text": ("text", (int,), TYPE, "text must be an integer, not a string"),
    "false is no integer": ("flag", (int,), TYPE, "flag must be an integer, not true or false"),
    "zero is not false": ("zero", (bool,), TYPE, "zero must be true or false, not an integer"),
    "half": ("half", (int,), TYPE, "half must be an integer, not a number"),
    "array": ("array", (str, dict), TYPE, "array must be a string or an object, not an array"),
    "object": ("object", (str, list), TYPE, "object must be a string or an array, not an object"),
    "inside": ("object.inner.text", (dict,), TYPE, "object.inner.text must be an object, not a string"),
}


@pytest.mark.parametrize("case", WRONG)
def test_read_field_raises(case: str) -> None:
    name, kinds, code, sentence = WRONG[case]
    with pytest.raises(InvalidRequest) as caught:
        read_field(BODY, name, *kinds, is_required=True)
    assert (caught.value.param, caught.value.code, caught.value.message) == (name, code, sentence)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (None, "null"),
        ("a", "a string"),
        (True, "true or false"),
        (1, "an integer"),
        (1.5, "a number"),
        ([], "an array"),
    ],
)
def test_read_object_raises_when_it_is_none(data: Any, said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_object(data)
    assert caught.value.message == f"the body must be a JSON object, not {said}"
    assert (caught.value.param, caught.value.code) == (None, TYPE)


def test_read_object_gives_the_object_itself() -> None:
    assert read_object(BODY) is BODY


def test_read_model() -> None:
    assert read_model({"model": "m"}, None) == "m"
    assert read_model({"model": "m"}, "w") == "w"
    assert read_model({"model": 5}, "") == ""
    with pytest.raises(InvalidRequest, match=r"^model is required$"):
        read_model({}, None)


def test_read_objects() -> None:
    assert read_objects({"items": [{}, {"a": 1}]}, "items") == [{}, {"a": 1}]
    assert read_objects({"items": []}, "items") == []
    with pytest.raises(InvalidRequest) as caught:
        read_objects({"items": [{}, []]}, "items")
    assert (caught.value.param, caught.value.code) == ("items[1]", TYPE)
    assert caught.value.message == "items[1] must be an object, not an array"
    with pytest.raises(InvalidRequest, match=r"^items is required$"):
        read_objects({}, "items")


PROBLEM = Problem("m", "server_error", "wrapper_error", "model", [{"loc": "x"}], "err_1")
ENVELOPE = {"error": {"message": "m", "type": "server_error", "param": "model", "code": "wrapper_error"}}


def test_error_body() -> None:
    assert error_body(PROBLEM) == ENVELOPE
    assert error_body(Problem("m", "server_error", "c")) == {
        "error": {"message": "m", "type": "server_error", "param": None, "code": "c"}
    }


def test_text_is_json() -> None:
    assert text({"a": ["grün", None]}) == '{"a":["grün",null]}'


class Recorder(OpenAIEncoder):
    def start(self) -> bytes:
        return b"start "

    def feed(self, chunk: Any) -> bytes:
        return f"{chunk} ".encode()

    def finish(self, result: Any = None) -> bytes:
        return f"finish {result}".encode()


def test_whole_is_a_stream_of_one_chunk() -> None:
    assert Recorder().whole("a") == b"start a finish None"
    assert json.loads(Recorder().fail(PROBLEM)) == ENVELOPE


@pytest.mark.parametrize("value", [None, {"a": 1}])
def test_whole_raises_before_it_begins(value: Any) -> None:
    with pytest.raises(TypeError) as caught:
        Recorder().whole(value)
    assert str(caught.value).endswith(f": return {EXPECTED}")
