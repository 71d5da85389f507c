from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import FileDeleted, FileObject

from gateway.errors import InvalidRequest
from gateway.protocols.files import (
    FileQuery,
    FileUpload,
    deletion,
    file_list,
    file_object,
    parse_query,
    parse_upload,
)

EXPIRES = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
UPLOADS: dict[str, tuple[dict[str, str], FileUpload]] = {
    "purpose": ({"purpose": "user_data"}, FileUpload("user_data", None, None)),
    "any purpose": ({"purpose": "grün"}, FileUpload("grün", None, None)),
    "model": ({"purpose": "p", "model": "w"}, FileUpload("p", "w", None)),
    "empty model": ({"purpose": "p", "model": ""}, FileUpload("p", None, None)),
    "expiry": ({"purpose": "p", **EXPIRES}, FileUpload("p", None, 3600)),
    "longest expiry": (
        {"purpose": "p", **EXPIRES, "expires_after[seconds]": "2592000"},
        FileUpload("p", None, 2592000),
    ),
    "what is not heeded": ({"purpose": "p", "unheard": "of"}, FileUpload("p", None, None)),
}


@pytest.mark.parametrize("case", UPLOADS)
def test_parse_upload(case: str) -> None:
    fields, expected = UPLOADS[case]
    assert parse_upload(fields) == expected


SECONDS = "expires_after[seconds]"
BOTH = "expires_after needs an anchor, which is created_at, and seconds"
LONG = "9" * 5000


def not_seconds(text: str) -> str:
    return f"{SECONDS} must be an integer from 3600 to 2592000, not {text[:64]}"


REFUSED_UPLOADS: dict[str, tuple[dict[str, str], str, str, str]] = {  # param, code, sentence
    "nothing": ({}, "purpose", "missing_required_parameter", "purpose is required"),
    "empty purpose": ({"purpose": ""}, "purpose", "missing_required_parameter", "purpose is required"),
    "no anchor": ({"purpose": "p", SECONDS: "3600"}, "expires_after", "invalid_value", BOTH),
    "no seconds": ({"purpose": "p", "expires_after[anchor]": "created_at"}, "expires_after", "invalid_value", BOTH),
    "another anchor": (
        {"purpose": "p", **EXPIRES, "expires_after[anchor]": "last_active_at"},
        "expires_after",
        "invalid_value",
        BOTH,
    ),
    **{
        f"seconds {text[:20]!r}": (
            {"purpose": "p", **EXPIRES, SECONDS: text},
            SECONDS,
            "invalid_value",
            not_seconds(text),
        )
        for text in ("", "3599", "2592001", "-3600", "3600.5", "1e4", " 3600", "٣٦٠٠", LONG, "000000003600999")
    },
}


@pytest.mark.parametrize("case", REFUSED_UPLOADS)
def test_parse_upload_refuses(case: str) -> None:
    fields, param, code, sentence = REFUSED_UPLOADS[case]
    with pytest.raises(InvalidRequest) as caught:
        parse_upload(fields)
    assert (caught.value.param, caught.value.code, caught.value.message) == (param, code, sentence)


QUERIES: dict[str, tuple[dict[str, str], FileQuery]] = {
    "nothing": ({}, FileQuery(None, 10_000, None, "desc")),
    "all": (
        {"purpose": "p", "limit": "1", "after": "file-1", "order": "asc", "unheard": "of"},
        FileQuery("p", 1, "file-1", "asc"),
    ),
    "most": ({"limit": "10000", "order": "desc"}, FileQuery(None, 10_000, None, "desc")),
}


@pytest.mark.parametrize("case", QUERIES)
def test_parse_query(case: str) -> None:
    query, expected = QUERIES[case]
    assert parse_query(query) == expected


REFUSED_QUERIES: dict[str, tuple[dict[str, str], str, str]] = {
    **{
        f"limit {text[:20]!r}": (
            {"limit": text},
            "limit",
            f"limit must be an integer from 1 to 10000, not {text[:64]}",
        )
        for text in ("", "0", "10001", "-1", "a", "1_0", LONG, "0" * 11 + "1" + "0" * 5000, "00000000000199999")
    },
    "order": ({"order": "up"}, "order", "order must be asc or desc, not up"),
    "long order": ({"order": "x" * 100}, "order", f"order must be asc or desc, not {'x' * 64}"),
}


@pytest.mark.parametrize("case", REFUSED_QUERIES)
def test_parse_query_refuses(case: str) -> None:
    query, param, sentence = REFUSED_QUERIES[case]
    with pytest.raises(InvalidRequest) as caught:
        parse_query(query)
    assert (caught.value.param, caught.value.code, caught.value.message) == (param, "invalid_value", sentence)


@given(st.from_regex(r"0{0,13}[0-9]{1,6}", fullmatch=True) | st.text(max_size=8))
def test_parse_query_takes_a_limit_within_its_bounds_or_refuses_it(text: str) -> None:
    with suppress(InvalidRequest):
        limit = parse_query({"limit": text}).limit
        assert (limit, 1 <= limit <= 10_000) == (int(text), True)


FILE: dict[str, Any] = {
    "id": "file-1",
    "size": 3,
    "created_at": 7,
    "filename": "a.txt",
    "purpose": "user_data",
    "expires_at": None,
    "content_type": "text/plain",
}
OBJECT = {
    "id": "file-1",
    "object": "file",
    "bytes": 3,
    "created_at": 7,
    "filename": "a.txt",
    "purpose": "user_data",
    "status": "processed",
}


def test_file_object() -> None:
    assert file_object(FILE) == OBJECT
    assert file_object({**FILE, "expires_at": 9}) == {**OBJECT, "expires_at": 9}
    assert FileObject.model_validate(OBJECT, strict=True).expires_at is None


def test_file_list() -> None:
    two = {**OBJECT, "id": "file-2"}
    assert file_list((each for each in (OBJECT, two)), has_more=True) == {
        "object": "list",
        "data": [OBJECT, two],
        "first_id": "file-1",
        "last_id": "file-2",
        "has_more": True,
    }
    assert file_list([], has_more=False) == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


def test_deletion() -> None:
    assert deletion("file-1") == {"id": "file-1", "object": "file", "deleted": True}
    assert FileDeleted.model_validate(deletion("file-1"), strict=True).deleted
