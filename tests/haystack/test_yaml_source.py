"""YAML from anybody: what is read, and what is refused in one sentence before anything is made of it."""

from typing import Any

import pytest

from gateway.errors import LoadError
from gateway.haystack.yaml_source import MAX_BYTES, MAX_DEPTH, MAX_NODES, parse_yaml

TENS = "[{0},{0},{0},{0},{0},{0},{0},{0},{0},{0}]"
BOMB = "\n".join(
    f"{name}: &{name} {TENS.format(of)}"
    for name, of in zip("abcdefghi", ["x", *map("*{}".format, "abcdefgh")], strict=True)
)
MERGES = "a: &a {k: v}\n" + "\n".join(f"m{number}: {{<<: [{', '.join(['*a'] * 99)}]}}" for number in range(600))

GOOD: dict[str, tuple[str, Any]] = {
    "a mapping": ("a: {b: [1, 2.5, true, null, text]}", {"a": {"b": [1, 2.5, True, None, "text"]}}),
    "JSON": ('{"a": ["b"]}', {"a": ["b"]}),
    "a byte order mark": ("\ufeffa: b", {"a": "b"}),
    "one document with its marks": ("---\na: b\n...\n", {"a": "b"}),
    "an alias": ("a: &x {k: v}\nb: *x", {"a": {"k": "v"}, "b": {"k": "v"}}),
    "a merge": ("a: &x {k: v, l: w}\nb: {<<: *x, k: z}", {"a": {"k": "v", "l": "w"}, "b": {"k": "z", "l": "w"}}),
    "as deep as may be": ("a: " + "[" * (MAX_DEPTH - 2) + "]" * (MAX_DEPTH - 2), None),
    "text of many digits": (f"a: '{'7' * 5000}'", {"a": "7" * 5000}),
    "a long text with colons": (f"a: '{'1:' * 5000}'", {"a": "1:" * 5000}),
}


@pytest.mark.parametrize("case", GOOD)
def test_mapping_is_read(case: str) -> None:
    source, expected = GOOD[case]
    data = parse_yaml(source)
    assert data == (data if expected is None else expected)


INVALID = "the YAML is not valid: "
NO_MAPPING = "the YAML must be a mapping with components and connections, not "
DEEP = f"the YAML nests deeper than {MAX_DEPTH}"
MANY = f"the YAML stands for more than {MAX_NODES} values"
LARGE = f"the YAML is larger than {MAX_BYTES} characters"
FAULTS = {
    "nothing": ("", NO_MAPPING + "nothing"),
    "a comment": ("# later", NO_MAPPING + "nothing"),
    "a list": ("- components", NO_MAPPING + "a list"),
    "a text": ("components", NO_MAPPING + "a single value"),
    "a number": ("42", NO_MAPPING + "a single value"),
    "a list that holds itself": ("&a [*a]", NO_MAPPING + "a list"),
    "not YAML": ("a: 1\nb: c: d", INVALID + "line 2, column 5: mapping values are not allowed in this context"),
    "an open list": ("a: [1,\n", INVALID + "line 2, column 1: did not find expected node content"),
    "a tab": ("a:\n\tb: 1", INVALID + "line 2, column 1: found character that cannot start any token"),
    "an unknown alias": ("a: *b", INVALID + "line 1, column 4: found undefined alias"),
    "an anchor given twice": ("a: &x 1\nb: &x 2", INVALID + "line 2, column 4: found duplicate anchor"),
    "two documents": ("a: 1\n---\nb: 2", INVALID + "line 2, column 1: but found another document"),
    "a list as a key": ("? [a]\n: b", INVALID + "line 1, column 3: found unhashable key"),
    "an object of Python": (
        "a: !!python/object/apply:os.system [ls]",
        INVALID + "line 1, column 4: could not determine a constructor for the tag "
        "'tag:yaml.org,2002:python/object/apply:os.system'",
    ),
    "a day that is none": ("a: 2026-02-31", INVALID + "day is out of range for month"),
    "NUL": ("a: b\0c", INVALID + "unacceptable character #x0000: control characters are not allowed"),
    "half of a character": (
        "a: \ud800",
        INVALID + "'utf-8' codec can't encode character '\\ud800' in position 3: surrogates not allowed",
    ),
    "lists in lists": ("[" * 100_000, DEEP),
    "mappings in mappings": ("{" * 100_000, DEEP),
    "items in items": ("- " * 100_000, DEEP),
    "one deeper than may be": ("a: " + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1), DEEP),
    "an alias bomb": (BOMB, MANY),
    "a bomb of merges": (MERGES, MANY),
    "many values": ("a: [" + "1," * MAX_NODES + "]", MANY),
    "10 MB": ("a: " + "x" * 10_000_000, LARGE),
    "one more than may be": ("a: " + "x" * (MAX_BYTES - 2), LARGE),
}


@pytest.mark.parametrize("case", FAULTS)
def test_fault_is_one_sentence(case: str) -> None:
    source, expected = FAULTS[case]
    with pytest.raises(LoadError) as caught:
        parse_yaml(source)
    assert caught.value.message == expected


@pytest.mark.parametrize(
    "number", ["7" * 500_000, "1:" * 250_000 + "1", "!!int '" + "1:" * 250_000 + "1'", "1:" * 250_000 + "1.5"]
)
def test_number_of_many_digits_is_refused(number: str) -> None:
    """YAML 1.1 has numbers to the base of 60: made of as many digits as fit, one takes half a minute."""
    with pytest.raises(LoadError) as caught:
        parse_yaml(f"a: {number}")
    assert "\n" not in caught.value.message
