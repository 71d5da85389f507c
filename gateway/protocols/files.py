"""Files (OpenAI's OpenAPI document 2.3.0, read November 2026)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from gateway.errors import InvalidRequest

MAX_LIMIT = 10_000
MAX_PURPOSE = 256  # it stands in every list
MIN_EXPIRY_S, MAX_EXPIRY_S = 3600, 30 * 24 * 3600


@dataclass(frozen=True, slots=True)
class FileUpload:
    """The text fields of an upload. `model`: the wrapper that is to take the file, ours alone."""

    purpose: str
    model: str | None
    expires_in_s: int | None


@dataclass(frozen=True, slots=True)
class FileQuery:
    purpose: str | None
    limit: int
    after: str | None
    order: Literal["asc", "desc"]


def parse_upload(fields: Mapping[str, str]) -> FileUpload:
    """Raises `InvalidRequest` (400) with the field at fault."""
    purpose = fields.get("purpose")
    if not purpose:
        raise InvalidRequest("purpose is required", param="purpose", code="missing_required_parameter")
    if len(purpose) > MAX_PURPOSE:
        raise InvalidRequest(f"purpose is longer than {MAX_PURPOSE} characters", param="purpose")
    seconds = None
    if (given := fields.get("expires_after[seconds]")) is not None:
        seconds = _read_integer("expires_after[seconds]", given, MIN_EXPIRY_S, MAX_EXPIRY_S)
    anchor = fields.get("expires_after[anchor]")
    is_odd = anchor not in (None, "created_at") or (anchor is None) != (seconds is None)
    if is_odd or "expires_after" in fields:  # as JSON, say: it is not to be ignored
        message = "expires_after needs an anchor, which is created_at, and seconds"
        raise InvalidRequest(message, param="expires_after", code="invalid_value")
    return FileUpload(purpose, fields.get("model") or None, seconds)


def parse_query(query: Mapping[str, str]) -> FileQuery:
    """Raises `InvalidRequest` (400) with the parameter at fault."""
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidRequest(f"order must be asc or desc, not {order[:64]}", param="order")
    limit = _read_integer("limit", query.get("limit", str(MAX_LIMIT)), 1, MAX_LIMIT)
    return FileQuery(query.get("purpose"), limit, query.get("after"), cast(Literal["asc", "desc"], order))


def file_object(file: Mapping[str, Any]) -> dict[str, Any]:
    """`file`: `id`, `size` in bytes, `created_at`, `filename`, `purpose`, and `expires_at` when it expires."""
    return {
        "id": file["id"],
        "object": "file",
        "bytes": file["size"],
        "created_at": file["created_at"],
        **({"expires_at": file["expires_at"]} if file.get("expires_at") is not None else {}),
        "filename": file["filename"],
        "purpose": file["purpose"],
        "status": "processed",
    }


def file_list(files: Iterable[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    data = list(files)
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": has_more}


def deletion(file_id: str) -> dict[str, Any]:
    return {"id": file_id, "object": "file", "deleted": True}


def _read_integer(name: str, text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 12 and least <= int(text) <= most):
        raise InvalidRequest(f"{name} must be an integer from {least} to {most}, not {text[:64]}", param=name)
    return int(text)
