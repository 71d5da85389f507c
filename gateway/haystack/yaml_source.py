"""YAML from anybody → a mapping, within bounds: the source is measured before anything is made of it."""

import re
from typing import Any

import yaml

from gateway.errors import LoadError

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 100
MAX_NODES = 100_000  # with every alias counted as what it stands for
MAX_DIGITS = 4_000  # of a number: to the base of 60, which YAML 1.1 has, half a million of them take half a minute

_NUMBER = re.compile(r"[-+0-9._:]+")

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse_yaml(source: str) -> dict[str, Any]:
    """Raises `LoadError`: too large, too deep, an alias bomb, no YAML (with line and column), no mapping."""
    if len(source) > MAX_BYTES:
        raise LoadError(f"the YAML is larger than {MAX_BYTES} characters")
    try:
        _measure(source)
        data = yaml.load(source, Loader=_Loader)  # noqa: S506 - a safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
        problem = (error.context or "").partition(";")[0] if error.problem == "second occurrence" else error.problem
        raise LoadError(f"the YAML is not valid: {where}{problem}") from None
    except (yaml.YAMLError, ValueError, ArithmeticError, RecursionError) as error:
        raise LoadError(f"the YAML is not valid: {str(error).partition(chr(10))[0]}") from None
    if not isinstance(data, dict):
        raise LoadError(f"the YAML must be a mapping with components and connections, not {_say(data)}")
    return data


def _measure(source: str) -> None:
    """Count the nodes that the source stands for, without making them. Events come flat, however deep it nests."""
    sizes: dict[str | None, int] = {}
    open_nodes: list[tuple[str | None, int]] = [(None, 0)]
    for event in yaml.parse(source, Loader=_Loader):
        size, anchor = 0, getattr(event, "anchor", None)
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((anchor, 1))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_nodes.pop()
        elif isinstance(event, yaml.AliasEvent):
            anchor, size = None, sizes.get(anchor, 1)
        elif isinstance(event, yaml.ScalarEvent):
            size = 1
            is_quoted = event.implicit[1]
            if len(event.value) > MAX_DIGITS and not is_quoted and _NUMBER.fullmatch(event.value):
                raise LoadError(f"the YAML has a number of more than {MAX_DIGITS} digits")
        if anchor is not None and size:
            sizes[anchor] = size
        name, so_far = open_nodes[-1]
        open_nodes[-1] = (name, so_far + size)
        if len(open_nodes) > MAX_DEPTH:
            raise LoadError(f"the YAML nests deeper than {MAX_DEPTH}")
        if so_far + size > MAX_NODES:
            raise LoadError(f"the YAML stands for more than {MAX_NODES} values")


def _say(data: Any) -> str:
    if data is None:
        return "nothing"
    return "a list" if isinstance(data, list) else "a single value"
