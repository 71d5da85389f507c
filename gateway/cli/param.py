"""`--param key=value` → the arguments of a run. The server's schema, not a guess, decides what is text."""

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

Schema = Mapping[str, Any]


def split_param(text: str) -> tuple[str, str]:
    """`key=value` → `(key, value)`; the value may hold more `=`. For argparse: raises `ArgumentTypeError`."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form key=value")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"{key!r}: not valid UTF-8") from None
    return key, value


def read_params(params: Sequence[tuple[str, str]], schema: Schema) -> dict[str, Any]:
    """The values by key. `schema`: JSON Schema of the arguments, an object; a key that it lacks counts as no text."""
    texts: dict[str, list[str]] = {}
    for key, value in params:
        texts.setdefault(key, []).append(value)
    return {key: read_values(values, kinds_of(key, schema)) for key, values in texts.items()}


def read_values(texts: Sequence[str], kinds: Sequence[Schema]) -> Any:
    """One value of all the texts given for a key, by the same rules as the server reads a form.

    One text is text where `kinds` admit a string, else JSON where it parses, else text; a parameter that takes lists
    only gets a list of one. Several texts fill a list.
    """
    lists = [kind for kind in kinds if kind.get("type") == "array"]
    if len(texts) == 1:
        value = _read_one(texts[0], kinds)
        if not lists or isinstance(value, list) or value is None or admits_text(kinds):
            return value
    items = [item for kind in lists for item in _alternatives(kind.get("items"), kind)] if lists else kinds
    return [_read_one(text, items) for text in texts]


def kinds_of(key: str, schema: Schema) -> list[Schema]:
    """The plain schemas that a property admits, `anyOf`, `allOf` and `$ref` resolved; `[]` for an unknown one."""
    properties = schema.get("properties")
    kinds = list(_alternatives(properties.get(key) if isinstance(properties, dict) else None, schema))
    # an array's items may refer to the root's definitions as well
    return [{"$defs": schema.get("$defs", {}), **kind} for kind in kinds]


def admits_text(kinds: Sequence[Schema]) -> bool:
    return any("string" in _types(kind) or any(isinstance(value, str) for value in _values(kind)) for kind in kinds)


def admits_null(kinds: Sequence[Schema]) -> bool:
    return any("null" in _types(kind) or None in _values(kind) for kind in kinds)


def unquote(text: str) -> str:
    """`"What is Haystack?"` without its quotes where it is a well-formed JSON string literal, else `text` itself."""
    value = parse_or_text(text) if text[:1] == '"' else text
    if not isinstance(value, str):
        return text
    try:
        value.encode()
    except UnicodeEncodeError:  # half a surrogate pair: no JSON reader on the other side would take it
        return text
    return value


def parse_or_text(text: str) -> Any:
    """The JSON value where `text` is strict JSON with finite numbers, else `text`."""
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        return text


def _read_one(text: str, kinds: Sequence[Schema]) -> Any:
    if not admits_text(kinds):
        return parse_or_text(text)
    return None if text == "null" and admits_null(kinds) else unquote(text)


def _alternatives(schema: Any, root: Schema, seen: frozenset[str] = frozenset()) -> Iterator[Schema]:
    if not isinstance(schema, dict):
        return
    choices = [choice for word in ("anyOf", "oneOf", "allOf") for choice in schema.get(word, ())]
    for choice in choices:
        yield from _alternatives(choice, root, seen)
    reference = schema.get("$ref")
    if isinstance(reference, str):
        if reference not in seen:
            definition = root.get("$defs", {}).get(reference.rpartition("/")[2])
            yield from _alternatives(definition, root, seen | {reference})
    elif not choices:
        yield schema


def _types(schema: Schema) -> Sequence[Any]:
    kind = schema.get("type")
    return kind if isinstance(kind, list) else [kind]


def _values(schema: Schema) -> Sequence[Any]:
    return [schema["const"]] if "const" in schema else schema.get("enum", ())


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits} is out of range")
    return value
