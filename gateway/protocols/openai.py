"""What all of OpenAI's endpoints share (OpenAPI document 2.3.0 of November 2026): fields, heads, events, errors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.errors import InvalidRequest
from gateway.protocols.problem import Problem
from gateway.protocols.result import check_whole
from gateway.protocols.run import encode_json

_LINE_ENDS = ("\x85", "\u2028", "\u2029")  # httpx's iter_lines() ends a line at each
DONE = b"data: [DONE]\n\n"
_WORDS = {str: "a string", bool: "true or false", int: "an integer", list: "an array", dict: "an object"}


@dataclass(frozen=True, slots=True)
class Head:
    """What names a reply. `key`: its own part of the id, of which the ids inside of it are made. `created`: Unix s."""

    key: str
    created: int
    model: str


class OpenAIEncoder:
    """An encoder (`gateway.protocols.run.Encoder`) that also takes a value whole. `feed` and `finish` are its own."""

    media_type = "application/json"

    def whole(self, value: Any) -> bytes:
        """All of the reply to a value that is no stream. Raises TypeError for what no reply can be made of."""
        check_whole(value)
        return b"".join([self.start(), self.feed(value), self.finish()])

    def start(self) -> bytes:
        return b""

    def feed(self, chunk: Any) -> bytes:
        raise NotImplementedError

    def finish(self, result: Any = None) -> bytes:
        raise NotImplementedError

    def fail(self, problem: Problem) -> bytes:
        return encode_json(error_body(problem))


def read_object(data: Any) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise InvalidRequest(f"the body must be a JSON object, not {_say(data)}", code="invalid_type")
    return data


def read_field(body: Mapping[str, Any], name: str, *kinds: type, default: Any = None, is_required: bool = False) -> Any:
    """A field by its dotted name; `default` when it is left out or null. Raises `InvalidRequest` (400) naming it."""
    value: Any = body
    for key in name.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    if value is None:
        if is_required:
            raise InvalidRequest(f"{name} is required", param=name, code="missing_required_parameter")
        return default
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        expected = " or ".join(_WORDS[kind] for kind in kinds)
        raise InvalidRequest(f"{name} must be {expected}, not {_say(value)}", param=name, code="invalid_type")
    return value


def read_within(
    where: str, body: Mapping[str, Any], name: str, *kinds: type, default: Any = None, is_required: bool = False
) -> Any:
    """As `read_field`, for an object that stands at `where`."""
    try:
        return read_field(body, name, *kinds, default=default, is_required=is_required)
    except InvalidRequest as error:
        raise InvalidRequest(f"{where}.{error.message}", param=f"{where}.{name}", code=error.code) from None


def read_model(body: Mapping[str, Any], model: str | None) -> str:
    """The wrapper's name: `model` when the path has named it, else the body's."""
    return model if model is not None else str(read_field(body, "model", str, is_required=True))


def read_objects(body: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """An array of objects. Raises `InvalidRequest` (400) naming the first that is none."""
    values = read_field(body, name, list, is_required=True)
    for position, value in enumerate(values):
        if not isinstance(value, dict):
            where = f"{name}[{position}]"
            raise InvalidRequest(f"{where} must be an object, not {_say(value)}", param=where, code="invalid_type")
    objects: list[dict[str, Any]] = values
    return objects


def error_body(problem: Problem) -> dict[str, Any]:
    """OpenAI's envelope, from which the SDKs make their exceptions."""
    return {
        "error": {
            "message": problem.message,
            "type": problem.type,
            "param": problem.param,
            "code": problem.code,
        }
    }


def text(value: Any) -> str:
    """JSON as text, on what everybody takes for one line."""
    encoded = encode_json(value).decode()
    for end in () if encoded.isascii() else _LINE_ENDS:
        encoded = encoded.replace(end, f"\\u{ord(end):04x}")
    return encoded


def _say(value: Any) -> str:
    return "null" if value is None else _WORDS.get(type(value), "a number")
