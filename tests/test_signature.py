import json
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from datetime import date
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal, Optional
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from starlette.datastructures import Headers, UploadFile
from starlette.responses import FileResponse, JSONResponse, Response

from gateway.errors import InvalidArguments, InvalidJSON, SignatureError
from gateway.signature import FileParameter, FormField, Signature, read_signature
from gateway.wrapper import SSEStream


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


class Item(BaseModel):
    name: str


class Upload(UploadFile):
    """As fastapi's is."""


def read(function: Callable[..., Any]) -> Signature:
    return read_signature("w", function)


def form_field(annotation: Any) -> FormField:
    def run_api(value):  # type: ignore[no-untyped-def]
        pass

    run_api.__annotations__["value"] = annotation
    return read(run_api).fields["value"]


FORM_FIELDS: list[tuple[Any, FormField]] = [
    (str, FormField(is_text=True)),
    (str | None, FormField(is_text=True, is_nullable=True)),
    (Optional[str], FormField(is_text=True, is_nullable=True)),  # noqa: UP045
    (int | str, FormField(is_text=True)),
    (Literal["a", "b"], FormField(is_text=True)),
    (Literal[1, 2], FormField()),
    (Colour, FormField(is_text=True)),
    (Level, FormField()),
    (date, FormField(is_text=True)),
    (UUID, FormField(is_text=True)),
    (Annotated[str, Field(min_length=1)], FormField(is_text=True)),
    (int, FormField()),
    (bool | None, FormField(is_nullable=True)),
    (dict[str, int], FormField()),
    (Item, FormField()),
    (Item | str, FormField(is_text=True)),
    (Any, FormField()),
    (list[str], FormField(is_list=True, is_item_text=True)),
    (list[str] | None, FormField(is_list=True, is_item_text=True, is_nullable=True)),
    (list[Colour], FormField(is_list=True, is_item_text=True)),
    (list[int], FormField(is_list=True)),
    (list, FormField(is_list=True)),
    (list[Item], FormField(is_list=True)),
    (set[str], FormField(is_list=True, is_item_text=True)),
    (tuple[int, ...], FormField(is_list=True)),
    (str | list[str], FormField(is_text=True, is_list=True, is_item_text=True)),
]


@pytest.mark.parametrize(("annotation", "expected"), FORM_FIELDS, ids=[str(case[0]) for case in FORM_FIELDS])
def test_form_field_of_an_annotation(annotation: Any, expected: FormField) -> None:
    assert form_field(annotation) == expected


PARSED: list[tuple[Any, list[str], Any]] = [
    (str, ["plain"], "plain"),
    (str, ['"quoted"'], "quoted"),
    (str, ['"'], '"'),
    (str, ['""'], ""),
    (str, [' "a"'], ' "a"'),
    (str, ["null"], "null"),
    (str, ["a", "b"], ["a", "b"]),
    (str | None, ["null"], None),
    (str | None, ['"null"'], "null"),
    (int, ["7"], 7),
    (int, ["seven"], "seven"),
    (dict, ["{"], "{"),
    (Any, ["true"], True),
    (list[str], ["a"], ["a"]),
    (list[str], ["a", "b"], ["a", "b"]),
    (list[str], ['["a"]'], ["a"]),
    (list[str], ['["a"]', "b"], ['["a"]', "b"]),
    (list[str], ["null"], ["null"]),
    (list[str] | None, ["null"], None),
    (list[str] | None, ["null", "null"], ["null", "null"]),
    (list[int], ["1", "2"], [1, 2]),
    (list[Item], ['{"name": "n"}'], [{"name": "n"}]),
    (str | list[str], ["[1]"], "[1]"),
    (str | list[str], ["a", "b"], ["a", "b"]),
]


@pytest.mark.parametrize(("annotation", "texts", "expected"), PARSED, ids=[str(case[:2]) for case in PARSED])
def test_form_field_parses_texts(annotation: Any, texts: list[str], expected: Any) -> None:
    assert form_field(annotation).parse(texts) == expected


@given(st.text())
def test_form_field_gives_back_a_quoted_text(text: str) -> None:
    field = FormField(is_text=True)
    assert field.parse([json.dumps(text)]) == text
    assert text.startswith('"') or field.parse([text]) == text


def test_signature_describes_arguments_with_the_docstring() -> None:
    def run_api(query: str, top_k: int = 3, files: list[UploadFile] | None = None) -> str:
        """Answer a query.

        In one sentence.

        Args:
            query: What is asked.
            files: Where to look.
        """

    signature = read(run_api)
    assert (signature.summary, signature.description) == ("Answer a query.", "Answer a query.\n\nIn one sentence.")
    assert signature.files == {"files": FileParameter(is_list=True, is_required=False, description="Where to look.")}
    assert signature.schema == {
        "title": "Arguments of w",
        "type": "object",
        "required": ["query"],
        "properties": {
            "query": {"title": "Query", "type": "string", "description": "What is asked."},
            "top_k": {"title": "Top K", "type": "integer", "default": 3},
        },
    }
    assert (signature.result_kind, signature.result_schema) == ("json", {"type": "string"})


def test_signature_takes_out_headers_and_files() -> None:
    def run_api(
        bare: UploadFile,
        optional: Upload | None = None,
        several: list[UploadFile] = [],  # noqa: B006
        *,
        headers: Headers,
    ) -> None: ...

    signature = read(run_api)
    assert (signature.headers_parameter, dict(signature.fields)) == ("headers", {})
    assert {name: (file.is_list, file.is_required) for name, file in signature.files.items()} == {
        "bare": (False, True),
        "optional": (False, False),
        "several": (True, False),
    }
    assert signature.schema == {"title": "Arguments of w", "type": "object", "properties": {}}


def test_signature_reads_annotations_that_are_strings() -> None:
    def run_api(number: "int", later: "Item | None" = None) -> "str": ...

    assert read(run_api).validate_json(b'{"number": 1, "later": {"name": "n"}}') == {
        "number": 1,
        "later": Item(name="n"),
    }


def untyped(query):  # type: ignore[no-untyped-def]
    pass


def variadic(*queries: str) -> None: ...


def keywords(**queries: str) -> None: ...


def positional(query: str, /) -> None: ...


def unknown(query: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821


def callback(query: Callable[[], int]) -> None: ...


def plain_class(query: "FormField | Response") -> None: ...


def generator(query: Generator[int, None, None]) -> None: ...


REFUSED: list[tuple[Callable[..., Any], str]] = [
    (untyped, "wrapper w: untyped(): parameter 'query' has no annotation: write query: str, or the type it takes"),
    (variadic, "wrapper w: variadic() takes *queries: str: name and annotate each parameter"),
    (keywords, "wrapper w: keywords() takes **queries: str: name and annotate each parameter"),
    (positional, "wrapper w: positional(): parameter 'query' is positional-only: remove the '/' from the signature"),
    (unknown, "wrapper w: unknown(): an annotation cannot be resolved: name 'Nowhere' is not defined"),
    (callback, "wrapper w: callback(): parameter 'query': "),
    (plain_class, "wrapper w: plain_class(): parameter 'query': "),
]


@pytest.mark.parametrize(("function", "said"), REFUSED, ids=[case[0].__name__ for case in REFUSED])
def test_signature_that_cannot_be_served_is_refused(function: Callable[..., Any], said: str) -> None:
    with pytest.raises(SignatureError) as caught:
        read(function)
    assert caught.value.message.startswith(said)
    assert "\n" not in caught.value.message


def text() -> str: ...


def nothing(): ...  # type: ignore[no-untyped-def]


def yields():  # type: ignore[no-untyped-def]
    yield "a"


async def yields_async():  # type: ignore[no-untyped-def]
    yield "a"


def iterates() -> Iterator[str]: ...


def iterates_async() -> AsyncIterator[str]: ...


def events() -> SSEStream: ...


def response() -> Response: ...


def json_response() -> JSONResponse: ...


def file_response() -> FileResponse: ...


def models() -> list[Item]: ...


def odd() -> Callable[[], int]: ...


RESULTS: list[tuple[Callable[..., Any], str, str]] = [
    (text, "json", "application/json"),
    (nothing, "json", "application/json"),
    (models, "json", "application/json"),
    (odd, "json", "application/json"),
    (yields, "text", "text/plain"),
    (yields_async, "text", "text/plain"),
    (iterates, "text", "text/plain"),
    (iterates_async, "text", "text/plain"),
    (events, "events", "text/event-stream"),
    (response, "response", "*/*"),
    (json_response, "response", "application/json"),
    (file_response, "response", "*/*"),
]


@pytest.mark.parametrize(("function", "kind", "media_type"), RESULTS, ids=[case[0].__name__ for case in RESULTS])
def test_signature_tells_the_kind_of_result(function: Callable[..., Any], kind: str, media_type: str) -> None:
    signature = read(function)
    assert (signature.result_kind, signature.media_type) == (kind, media_type)


def run_api(query: str, top_k: int = 3, item: Item | None = None, schema: str = "") -> None: ...


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"query": "q"}', {"query": "q"}),
        (b'{"query": "q", "top_k": "5"}', {"query": "q", "top_k": 5}),
        (b'{"query": "q", "item": {"name": "n"}}', {"query": "q", "item": Item(name="n")}),
        (b'{"query": "q", "schema": "s", "other": 1}', {"query": "q", "schema": "s"}),
    ],
)
def test_validate_json_gives_what_was_sent_and_no_defaults(body: bytes, expected: dict[str, Any]) -> None:
    assert read(run_api).validate_json(body) == expected


def test_validate_json_names_every_fault() -> None:
    with pytest.raises(InvalidArguments) as caught:
        read(run_api).validate_json(b'{"top_k": "x", "item": {"name": 1}}')
    assert caught.value.message == "body.query: Field required (and 2 more)"
    assert caught.value.details == [
        {"loc": "body.query", "message": "Field required", "type": "missing"},
        {
            "loc": "body.top_k",
            "message": "Input should be a valid integer, unable to parse string as an integer",
            "type": "int_parsing",
        },
        {"loc": "body.item.name", "message": "Input should be a valid string", "type": "string_type"},
    ]


@given(st.binary())
def test_validate_json_refuses_whatever_is_no_object(body: bytes) -> None:
    with pytest.raises((InvalidArguments, InvalidJSON)):
        read(run_api).validate_json(body)


def test_a_fault_does_not_repeat_what_was_sent() -> None:
    with pytest.raises(InvalidArguments) as caught:
        read(run_api).validate_json(b'{"query": "q", "top_k": "hunter2", "item": "hunter2"}')
    assert "hunter2" not in caught.value.message + str(caught.value.details)


def test_validate_json_does_not_list_faults_without_end() -> None:
    def method(numbers: list[int]) -> None: ...

    signature = read_signature("w", method)
    with pytest.raises(InvalidArguments) as caught:
        signature.validate_json(b'{"numbers": [' + b",".join([b'"x"'] * 101) + b"]}")
    assert (caught.value.message, caught.value.details) == (
        "body: 101 values do not fit; send fewer to see which",
        [],
    )
