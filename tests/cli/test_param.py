import argparse
from typing import Any

import pytest

from gateway.cli.param import read_params, split_param

STRING = {"type": "string"}
NULL = {"type": "null"}
INTEGER = {"type": "integer"}
SCHEMA = {
    "type": "object",
    "properties": {
        "text": STRING,
        "maybe": {"anyOf": [STRING, NULL]},
        "count": {**INTEGER, "default": 3},
        "maybe_count": {"anyOf": [INTEGER, NULL]},
        "either": {"anyOf": [INTEGER, STRING]},
        "color": {"$ref": "#/$defs/Color"},
        "mode": {"const": "fast"},
        "level": {"enum": [1, 2]},
        "both": {"type": ["string", "null"]},
        "wrapped": {"allOf": [{"$ref": "#/$defs/Color"}]},
        "tags": {"type": "array", "items": STRING},
        "colors": {"type": "array", "items": {"$ref": "#/$defs/Color"}},
        "numbers": {"anyOf": [{"type": "array", "items": INTEGER}, NULL]},
        "one_or_more": {"anyOf": [STRING, {"type": "array", "items": STRING}]},
        "anything": {},
        "always": True,
        "loop": {"$ref": "#/$defs/Loop"},
        "tree": {"$ref": "#/$defs/Tree"},
    },
    "$defs": {
        "Color": {"enum": ["red", "12"]},
        "Loop": {"anyOf": [{"$ref": "#/$defs/Loop"}, STRING]},
        "Tree": {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}}},
    },
}

CASES: list[tuple[str, Any]] = [
    ("text=12345", "12345"),
    ("text=true", "true"),
    ("text=null", "null"),
    ("text=", ""),
    ("text=a=b=c", "a=b=c"),
    ('text={"a": 1}', '{"a": 1}'),
    ('text="What is Haystack?"', "What is Haystack?"),
    ('text="a\\nb \\u00e4"', "a\nb ä"),
    ('text="null"', "null"),
    ('text="\\"quoted\\""', '"quoted"'),
    ('text="open', '"open'),
    ('text=say "hi"', 'say "hi"'),
    ('text="a" "b"', '"a" "b"'),
    ('text="\\ud800"', '"\\ud800"'),
    ("maybe=null", None),
    ('maybe="null"', "null"),
    ("maybe=5", "5"),
    ("both=null", None),
    ("count=5", 5),
    ("count=five", "five"),
    ("count=null", None),
    ("count=NaN", "NaN"),
    ("count=1e999", "1e999"),
    ("count=" + "9" * 5000, "9" * 5000),
    ("count=" + "[" * 200_000, "[" * 200_000),
    ("maybe_count=null", None),
    ("either=5", "5"),
    ("color=12", "12"),
    ("wrapped=12", "12"),
    ("mode=1", "1"),
    ("level=1", 1),
    ("anything=5", 5),
    ("anything=five", "five"),
    ('anything="five"', "five"),
    ("always=5", 5),
    ("loop=5", "5"),
    ('tree={"children": []}', {"children": []}),
    ("unknown=5", 5),
    ("unknown=five", "five"),
    ('tags=["a", "b"]', ["a", "b"]),
    ("tags=5", ["5"]),
    ("numbers=5", [5]),
    ("numbers=null", None),
    ("one_or_more=5", "5"),
]


@pytest.mark.parametrize(("param", "value"), CASES, ids=[param[:20] for param, _ in CASES])
def test_value_as_the_schema_wants_it(param: str, value: Any) -> None:
    key, text = split_param(param)
    assert read_params([(key, text)], SCHEMA) == {key: value}


@pytest.mark.parametrize(
    ("key", "texts", "value"),
    [
        ("tags", ["12345", '"b"', "null"], ["12345", "b", "null"]),
        ("colors", ["12", "red"], ["12", "red"]),
        ("numbers", ["1", "x"], [1, "x"]),
        ("one_or_more", ["1", "2"], ["1", "2"]),
        ("text", ["1", "2"], ["1", "2"]),
        ("count", ["1", "2"], [1, 2]),
        ("unknown", ["1", "a"], [1, "a"]),
    ],
)
def test_key_given_again_fills_a_list(key: str, texts: list[str], value: Any) -> None:
    assert read_params([(key, text) for text in texts], SCHEMA) == {key: value}


def test_schema_without_properties() -> None:
    assert read_params([("a", "1")], {}) == {"a": 1}


@pytest.mark.parametrize("text", ["query", "=value", "", "a=\udcff"])
def test_param_that_is_none(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        split_param(text)
