"""What the server sends, held against the SDK's own models: the SDK itself takes nearly anything."""

import json
from collections.abc import Iterable, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from openai import BaseModel

from tests.wire import read_events

DONE = "[DONE]"
EXTRA_FIELDS = {  # beyond the SDK's models: the name of the model, the fields
    "ChatCompletionMessage": {"reasoning_content"},  # the whole field calls it so
    "ChoiceDelta": {"reasoning_content"},
    "Model": {"capabilities"},  # our own
    "Response": {"store"},  # the request's field: here it says that nothing is kept
    "ResponseFunctionCallArgumentsDoneEvent": {"name"},  # required by OpenAI's document
}


class Event(NamedTuple):
    """A server-sent event. `kind`: its `event:` line, "message" without one. `data`: JSON, or the text `[DONE]`."""

    kind: str
    data: Any


def record(body: bytes) -> list[Event]:
    """The events of a whole event stream, comments left out. Fails on a line of any other sort, and on a cut event."""
    text = body.decode()
    assert text.endswith("\n\n"), f"the stream ends in the middle of an event: {text[-200:]!r}"
    odd = [line for line in text.split("\n") if line and not line.startswith((":", "event: ", "data: "))]
    assert not odd, f"lines that are no part of an event: {odd}"
    return [Event(kind, data if data == DONE else json.loads(data)) for kind, data in read_events(body)]


def check(value: Any, annotation: Any) -> Any:
    """`value` again. Fails unless it is one of `annotation` (a model of the SDK, a union of them …) in strict form:

    every required field is there, no unknown one (but for `EXTRA_FIELDS`), each of exactly its type, literals included.
    """
    faults = find_faults(value, annotation)
    assert not faults, "\n".join([*faults, json.dumps(value)])
    return value


def find_faults(value: Any, annotation: Any, where: str = "$") -> list[str]:
    """One sentence for each place in `value`, JSON as Python has it, that is not as the annotation says."""
    origin = get_origin(annotation)
    if annotation is Any or annotation is object:
        return []
    if origin is Annotated:
        return find_faults(value, get_args(annotation)[0], where)
    if origin in (Union, UnionType):
        return _find_union_faults(value, get_args(annotation), where)
    if origin is Literal:
        return [] if value in get_args(annotation) else [f"{where}: {value!r} is none of {get_args(annotation)}"]
    if origin is list:
        return _find_type_fault(value, list, where) or _join(
            find_faults(item, get_args(annotation)[0], f"{where}[{index}]") for index, item in enumerate(value)
        )
    if origin is dict:
        return _find_type_fault(value, dict, where) or _join(
            find_faults(item, get_args(annotation)[1], f"{where}.{key}") for key, item in value.items()
        )
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _find_type_fault(value, dict, where) or _find_model_faults(value, annotation, where)
    return _find_type_fault(value, annotation, where)


def find_nulls(value: Any, where: str = "") -> list[str]:
    """Where a null stands, as in `choices[0].finish_reason`."""
    if value is None:
        return [where]
    if isinstance(value, Mapping):
        return _join(find_nulls(item, f"{where}.{key}".removeprefix(".")) for key, item in value.items())
    if isinstance(value, list):
        return _join(find_nulls(item, f"{where}[{index}]") for index, item in enumerate(value))
    return []


def _find_model_faults(value: Mapping[str, Any], model: type[BaseModel], where: str) -> list[str]:
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    extra = EXTRA_FIELDS.get(model.__name__, set())
    missing = [name for name, field in fields.items() if field.is_required() and name not in value]
    return [
        *(f"{where}.{name} is missing ({model.__name__})" for name in missing),
        *(f"{where}.{name} is unknown ({model.__name__})" for name in value.keys() - fields.keys() - extra),
        *_join(
            find_faults(value[name], field.annotation, f"{where}.{name}")
            for name, field in fields.items()
            if name in value
        ),
    ]


def _find_union_faults(value: Any, members: Iterable[Any], where: str) -> list[str]:
    """None when one member fits; else those of the member that has this `type`, or that is nearest."""
    members = list(members)
    if value is None:
        return [] if NoneType in members else [f"{where} must not be null"]
    found = {repr(member): find_faults(value, member, where) for member in members if member is not NoneType}
    tagged = [repr(member) for member in members if isinstance(value, dict) and _has_tag(member, value.get("type"))]
    return min((found[name] for name in tagged or found), key=len)


def _has_tag(member: Any, tag: Any) -> bool:
    while get_origin(member) is Annotated:
        member = get_args(member)[0]
    field = getattr(member, "model_fields", {}).get("type")
    return field is not None and tag in get_args(field.annotation)


def _find_type_fault(value: Any, kind: Any, where: str) -> list[str]:
    kinds = {float: (float, int), bool: (bool,), NoneType: (NoneType,)}.get(kind, (kind,))
    is_right = isinstance(value, kinds) and (kind is bool or not isinstance(value, bool))
    return [] if is_right else [f"{where}: {value!r} is no {getattr(kind, '__name__', kind)}"]


def _join(lists: Iterable[list[str]]) -> list[str]:
    return [item for items in lists for item in items]
