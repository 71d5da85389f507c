"""What is deployed, in Hayhooks' shapes: files as text, and binary ones as base64, or one YAML pipeline."""

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.errors import InvalidArguments

ENTRY = "pipeline_wrapper.py"
MAX_PART = 240  # bytes of a name: 255 in most file systems, less what a copy is called until it is whole
MAX_PLACE = 1024  # bytes of a whole place


@dataclass(frozen=True, slots=True)
class DeployRequest:
    """`files`: places, `/` between folders, each inside of the wrapper's folder → content."""

    name: str
    files: dict[str, bytes]
    overwrite: bool
    is_saved: bool
    description: str


def parse_files(data: Any) -> DeployRequest:
    """The body of `/deploy_files`. Raises `InvalidArguments` (422) with the field at fault."""
    body = _object(data)
    given = _field(body, "files", dict, is_required=True)
    files = {_place(place): _content(place, content) for place, content in given.items()}
    if ENTRY not in files:
        raise _fault("files", f"{ENTRY} is missing", "missing")
    for place in files:
        for end in (position for position, letter in enumerate(place) if letter == "/"):
            if place[:end] in files:
                raise _fault(f"files.{place[:end]}", f"is a file, and {place} needs it to be a folder", "place")
    return DeployRequest(
        name=_field(body, "name", str, is_required=True),
        files=files,
        overwrite=_field(body, "overwrite", bool, default=False),
        is_saved=_field(body, "save_files", bool, default=True),
        description=_field(body, "description", str, default=""),
    )


def parse_yaml(data: Any) -> DeployRequest:
    """The body of `/deploy-yaml`. Raises `InvalidArguments` (422) with the field at fault."""
    body = _object(data)
    name = _field(body, "name", str, is_required=True)
    source = _field(body, "source_code", str, is_required=True)
    return DeployRequest(
        name=name,
        files={f"{name}.yml": source.encode("utf-8", "surrogatepass")},
        overwrite=_field(body, "overwrite", bool, default=False),
        is_saved=_field(body, "save_file", bool, default=True),
        description=_field(body, "description", str, default=""),
    )


def deployed(name: str, generation: int) -> dict[str, Any]:
    return {"name": name, "success": True, "endpoint": f"/{name}/run", "generation": generation}


def _object(data: Any) -> Mapping[str, Any]:
    if not isinstance(data, dict):
        raise _fault("", "the body must be a JSON object", "object_type")
    return data


def _field(body: Mapping[str, Any], name: str, kind: type, *, default: Any = None, is_required: bool = False) -> Any:
    value = body.get(name)
    if value is None and is_required:
        raise _fault(name, "Field required", "missing")
    if value is None:
        return default
    if isinstance(value, str) and not _is_unicode(value):
        raise _fault(name, "is no Unicode text: it holds half a character", "type")
    if not isinstance(value, kind):
        words = {str: "a string", bool: "true or false", dict: "an object"}
        raise _fault(name, f"must be {words[kind]}", "type")
    return value


def _place(place: str) -> str:
    """A place inside of the folder, as it is. Raises `InvalidArguments` for one that leads out of it, or nowhere."""
    parts = place.split("/")
    is_bad = any(part in ("", ".", "..") or len(part.encode("utf-8", "surrogatepass")) > MAX_PART for part in parts)
    is_long = len(place.encode("utf-8", "surrogatepass")) > MAX_PLACE
    if is_bad or is_long or "\\" in place or not place.isprintable():
        raise _fault(
            f"files.{place!r}", "must be a place inside of the wrapper's folder, such as data/words.txt", "place"
        )
    return place


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _content(place: str, content: Any) -> bytes:
    if isinstance(content, str):
        return content.encode("utf-8", "surrogatepass")
    encoded = content.get("content_base64") if isinstance(content, Mapping) else None
    if not isinstance(encoded, str):
        raise _fault(f"files.{place}", 'must be a string, or {"content_base64": "…"}', "type")
    try:
        return b64decode(encoded, validate=True)
    except ValueError as error:
        raise _fault(f"files.{place}", f"is not base64: {error}", "base64") from None


def _fault(name: str, message: str, kind: str) -> InvalidArguments:
    loc = f"body.{name}" if name else "body"
    return InvalidArguments(f"{loc}: {message}", details=[{"loc": loc, "message": message, "type": kind}])
