"""Pipeline inputs that came as JSON → the objects that the components take."""

from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter


def coerce_pipeline_inputs(pipeline: Any, data: Mapping[str, Any]) -> dict[str, Any]:
    """The `data` of `Pipeline.run`, nested or flat, with plain dicts made into what their input sockets take.

    A socket of `T`, `list[T]` or a union of these, where `T` has a `from_dict` (`ChatMessage`), is a pydantic
    model or a dataclass. What is an object already stays as it is. Raises ValueError for a dict that could be one of
    several classes.
    """
    if all(isinstance(value, Mapping) for value in data.values()):
        sockets = pipeline.inputs(include_components_with_connected_inputs=True)
        return {
            name: {key: _coerce(value, _types(key, [sockets.get(name, {})])) for key, value in inputs.items()}
            for name, inputs in data.items()
        }
    known = list(pipeline.inputs().values())
    return {key: _coerce(value, _types(key, known)) for key, value in data.items()}


def _types(key: str, sockets: Iterable[Mapping[str, Any]]) -> list[Any]:
    return [each[key]["type"] for each in sockets if key in each]


def _coerce(value: Any, types: Iterable[Any]) -> Any:
    items = value if isinstance(value, list) else [value]
    if not any(isinstance(item, dict) for item in items):
        return value
    for socket in types:
        classes = _classes(socket)
        if len(classes) > 1:
            names = ", ".join(sorted(kind.__name__ for kind in classes))
            raise ValueError(f"an input of {socket} may be one of {names}: give an object of the one that is meant")
        for kind in classes:
            made = [_make(item, kind) if isinstance(item, dict) else item for item in items]
            return made if isinstance(value, list) else made[0]
    return value


def _classes(socket: Any) -> set[type[Any]]:
    origin = get_origin(socket)
    if origin in (Union, UnionType, list):
        return set().union(*(_classes(argument) for argument in get_args(socket)))
    is_class = isinstance(socket, type) and origin is None
    is_made = is_class and (hasattr(socket, "from_dict") or issubclass(socket, BaseModel) or is_dataclass(socket))
    return {socket} if is_made else set()


def _make(value: dict[str, Any], kind: Any) -> Any:
    return kind.from_dict(value) if hasattr(kind, "from_dict") else TypeAdapter(kind).validate_python(value)
