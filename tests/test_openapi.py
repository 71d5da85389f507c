"""The document of what is deployed, without a server; over HTTP: `tests/routes/test_docs.py`."""

import datetime
import enum
import json
from collections.abc import AsyncIterator, Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

import pytest
from haystack import Document
from openapi_spec_validator import validate
from pydantic import BaseModel, Field, create_model
from starlette.datastructures import Headers, UploadFile
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from typing_extensions import TypedDict

from gateway import Settings, create_app
from gateway.limiter import Limiter
from gateway.openapi import OPENAI_PATHS, describe
from gateway.registry import Deployment, Method
from gateway.signature import read_signature
from gateway.source import NAME
from gateway.wrapper import Limits, SSEStream

T = TypeVar("T")
JSON, MULTIPART = "application/json", "multipart/form-data"
URLENCODED = "application/x-www-form-urlencoded"


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]
    friends: list["Dog"] = []


class Small(BaseModel):
    kind: Literal["bird"]
    size: Literal["small"]


class Large(BaseModel):
    kind: Literal["bird"]
    size: Literal["large"]


class One(TypedDict):
    number: Literal[1]


class Two(TypedDict):
    number: Literal[2]


class Tree(BaseModel):
    name: str
    children: list["Tree"] = []


class Page(BaseModel, Generic[T]):
    items: list[T]
    next: "Page[T] | None" = None


class Odd(BaseModel):
    """Fields that are called like keywords, and hold what looks like them."""

    reference: str = Field("#/$defs/Cat", alias="$ref")
    definitions: dict[str, Cat] = Field({}, alias="$defs")
    mapping: dict[str, str] = {"cat": "#/$defs/Cat"}
    default: Literal["#/$defs/Cat"] = "#/$defs/Cat"
    properties: Cat | None = None
    discriminator: dict[str, Any] = {"mapping": {"cat": "#/$defs/Cat"}}
    items: list[str] = ["$defs"]


class Loose(BaseModel):
    count: int = None  # type: ignore[assignment]
    bound: float = float("inf")


class Picture(Response):
    media_type = "image/png"


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]
Bird = Annotated[Small | Large, Field(discriminator="size")]


def takes_nothing() -> str: ...


def takes_plain(query: str, top_k: int = 3, share: float | None = None, tags: list[str] | None = None) -> str:
    """Ask.

    Args:
        query: What is asked.
    """


def takes_models(
    tree: Tree, pages: Page[Cat], other: Page[int], odd: Odd, trees: dict[str, Tree]
) -> dict[str, Tree]: ...
def takes_unions(pet: Pet, number: Annotated[One | Two, Field(discriminator="number")], pets: list[Pet]) -> Pet: ...
def takes_nested_union(animal: Annotated[Cat | Bird, Field(discriminator="kind")]) -> Any: ...
def takes_values(
    color: Color, day: datetime.date, at: datetime.datetime, key: UUID, how: Literal["a", 1] = 1
) -> None: ...


def takes_bounds(
    count: Annotated[int, Field(gt=4, multiple_of=3)],
    share: Annotated[float, Field(gt=0, lt=1)],
    code: Annotated[str, Field(min_length=8, max_length=9)],
    pair: tuple[int, str],
    pets: Annotated[list[Pet], Field(min_length=2)],
    given: Annotated[str, Field(pattern="^a+$", examples=["aaa"])],
) -> None: ...


def takes_pattern(code: Annotated[str, Field(pattern="^a+$")]) -> str: ...
def takes_loose(
    query: str = None,  # type: ignore[assignment]  # noqa: RUF013
    loose: Loose | None = None,
    limit: float = float("inf"),
    least: Annotated[int, Field(ge=1)] = 0,
) -> Any: ...
def takes_keywords(schema: str, copy: Color, model_config: Any, self_: bool, mapping: dict[str, Any]) -> str: ...
def takes_headers(query: str, headers: Headers) -> str: ...
def takes_file(file: UploadFile) -> str: ...
def takes_files(query: str, files: list[UploadFile] | None = None) -> str: ...
def takes_many_files(pet: Pet, files: list[UploadFile], cover: UploadFile | None = None) -> list[Tree]: ...
def gives_document() -> list[Document]: ...
def gives_text() -> Iterator[str]: ...
async def gives_async_text(query: str) -> AsyncIterator[str]: ...
def gives_events() -> SSEStream: ...
def gives_response() -> Response: ...
def gives_file() -> FileResponse: ...
def gives_json() -> JSONResponse: ...
def gives_page() -> HTMLResponse: ...
def gives_picture() -> Picture: ...
def gives_unknown(): ...  # type: ignore[no-untyped-def]


FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: function for name, function in list(globals().items()) if name.startswith(("takes_", "gives_"))
}


def deploy(name: str, function: Callable[..., Any]) -> Deployment:
    method = Method("run_api", function, is_async=False, signature=read_signature(name, function))
    places = Limiter(1, 1, 1)
    return Deployment(name, 1, name, Path(), None, {"run_api": method}, Limits(), 0.0, places, places)


def operation(document: dict[str, Any], name: str = "w") -> dict[str, Any]:
    found: dict[str, Any] = document["paths"][f"/{name}/run"]["post"]
    return found


def references(node: Any) -> Iterator[str]:
    """Every reference of a document in which nothing else is called `$ref` or `mapping`."""
    if isinstance(node, dict):
        found = node.get("$ref")
        yield from [found] if isinstance(found, str) else []
        yield from node["discriminator"]["mapping"].values() if "discriminator" in node else ()
    for part in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from references(part)


def look_up(document: dict[str, Any], reference: str) -> Any:
    node: Any = document
    for key in reference.removeprefix("#/").split("/"):
        node = node[key]
    return node


def schema_of(document: dict[str, Any], media_type: str = JSON, name: str = "w") -> Any:
    schema = operation(document, name)["requestBody"]["content"][media_type]["schema"]
    return look_up(document, schema["$ref"]) if "$ref" in schema else schema


def test_document_without_wrappers_describes_the_gateway() -> None:
    document = describe([])
    validate(document)
    assert list(document["paths"]) == [
        "/v1/chat/completions",
        "/v1/responses",
        "/v1/embeddings",
        "/v1/models",
        "/v1/models/{name}",
        "/v1/files",
        "/v1/files/{file_id}",
        "/v1/files/{file_id}/content",
        "/{name}/schema",
        "/status",
        "/status/{name}",
        "/livez",
        "/readyz",
        "/openapi.json",
        "/openapi.yaml",
        "/docs",
    ]
    assert list(document["components"]["schemas"]) == ["Error", "OpenAIError", "Status", "Wrapper"]


def test_name_is_what_the_loader_takes() -> None:
    assert describe([])["components"]["parameters"]["Name"]["schema"]["pattern"] == f"^{NAME.pattern}$"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_document_is_valid(name: str) -> None:
    document = describe([deploy("w", FUNCTIONS[name])])
    validate(document)
    json.dumps(document, allow_nan=False)
    if name != "takes_models":  # which has properties of these names
        for reference in references(document):
            assert isinstance(look_up(document, reference), dict), reference


def test_document_is_valid_for_all_together() -> None:
    validate(describe(deploy(name, function) for name, function in FUNCTIONS.items()))


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in ("takes_pattern", "takes_file")])
def test_example_fits_the_signature(name: str) -> None:
    signature = read_signature("w", FUNCTIONS[name])
    content = operation(describe([deploy("w", FUNCTIONS[name])]))["requestBody"]["content"]
    example = next(iter(content.values()))["example"]
    assert set(signature.schema.get("required", ())) <= set(example)
    assert set(signature.adapter.validate_json(json.dumps(example))) == set(example)


def test_example_is_left_out_where_none_is_known() -> None:
    content = operation(describe([deploy("w", takes_pattern)]))["requestBody"]["content"]
    assert all("example" not in media for media in content.values())


def test_example_prefers_what_the_author_wrote() -> None:
    def run_api(
        query: Annotated[str, Field(examples=["Who?"])], size: Annotated[int, Field(examples=["no"])]
    ) -> str: ...

    body = operation(describe([deploy("w", run_api)]))["requestBody"]
    assert body["content"][JSON]["example"] == {"query": "Who?", "size": 1}


def test_discriminator_points_to_the_components() -> None:
    document = describe([deploy("w", takes_unions)])
    assert schema_of(document)["properties"]["pet"]["discriminator"] == {
        "propertyName": "kind",
        "mapping": {"cat": "#/components/schemas/w.Cat", "dog": "#/components/schemas/w.Dog"},
    }


def test_discriminator_of_a_union_in_a_union_is_left_out() -> None:
    schema = schema_of(describe([deploy("w", takes_nested_union)]))["properties"]["animal"]
    assert "discriminator" not in schema
    assert schema["oneOf"][0] == {"$ref": "#/components/schemas/w.Cat"}
    assert schema["oneOf"][1]["discriminator"]["mapping"] == {
        "small": "#/components/schemas/w.Small",
        "large": "#/components/schemas/w.Large",
    }


def test_properties_called_like_keywords_are_left_alone() -> None:
    odd = describe([deploy("w", takes_models)])["components"]["schemas"]["w.Odd"]["properties"]
    cat = {"$ref": "#/components/schemas/w.Cat"}
    assert odd["$ref"] == {"default": "#/$defs/Cat", "title": "$Ref", "type": "string"}
    assert odd["$defs"]["additionalProperties"] == cat
    assert odd["mapping"]["default"] == {"cat": "#/$defs/Cat"}
    assert odd["default"] == {"const": "#/$defs/Cat", "default": "#/$defs/Cat", "title": "Default", "type": "string"}
    assert odd["properties"] == {"anyOf": [cat, {"type": "null"}], "default": None}
    assert odd["discriminator"]["default"] == {"mapping": {"cat": "#/$defs/Cat"}}
    assert odd["items"]["default"] == ["$defs"]


def test_models_of_one_name_are_kept_apart() -> None:
    def make_thing(**fields: Any) -> Any:
        return create_model("Thing", **fields)

    def make(argument: Any, result: Any) -> Callable[..., Any]:
        def run_api(thing: Any) -> Any: ...

        run_api.__annotations__ = {"thing": argument, "return": list[result]}
        return run_api

    number, text = make_thing(value=int), make_thing(value=str)
    deployments = [deploy("a", make(number, number)), deploy("b", make(text, make_thing(other=bool)))]
    schemas = describe(deployments)["components"]["schemas"]
    fields = {name: list(schema["properties"]) for name, schema in schemas.items() if name.endswith(".Thing")}
    assert fields == {
        "a.Thing": ["value"],
        "a.result.Thing": ["value"],
        "b.Thing": ["value"],
        "b.result.Thing": ["other"],
    }
    assert schemas["a.Thing"]["properties"]["value"]["type"] == "integer"
    assert schemas["b.Thing"]["properties"]["value"]["type"] == "string"


def test_default_that_nobody_can_send_is_not_shown() -> None:
    document = describe([deploy("w", takes_loose)])
    properties = schema_of(document)["properties"]
    assert {name for name, schema in properties.items() if "default" in schema} == {"loose"}
    assert properties["query"] == {"title": "Query", "type": "string"}
    fields = document["components"]["schemas"]["w.Loose"]["properties"]
    assert fields == {"count": {"title": "Count", "type": "integer"}, "bound": {"title": "Bound", "type": "number"}}


def test_operation_ids_are_unique() -> None:
    names = ["a-b", "a_b", "a-b_c", "a_b-c", "status", "get_status", "A-b", "1"]
    document = describe(deploy(name, takes_plain) for name in names)
    validate(document)
    ids = [
        item["operationId"] for path in document["paths"].values() for item in path.values() if "operationId" in item
    ]
    assert len(set(ids)) == len(ids) == len(names) + 18


def test_order_does_not_depend_on_the_registry() -> None:
    deployments = [deploy(name, takes_models) for name in ("b", "a", "c")]
    documents = [describe(order) for order in (deployments, deployments[::-1])]
    assert json.dumps(documents[0]) == json.dumps(documents[1])
    assert list(documents[0]["paths"])[:3] == ["/a/run", "/b/run", "/c/run"]


def test_describe_leaves_the_signature_alone() -> None:
    deployment = deploy("w", takes_models)
    signature = deployment.methods["run_api"].signature
    assert signature is not None
    before = deepcopy((signature.schema, signature.result_schema))
    describe([deployment])
    assert (signature.schema, signature.result_schema) == before


def test_wrapper_without_run_api_has_no_path() -> None:
    places = Limiter(1, 1, 1)
    chat = Method("run_chat_completion", takes_plain, is_async=False, signature=None)
    methods = {"run_chat_completion": chat}
    deployment = Deployment("w", 1, "w", Path(), None, methods, Limits(), 0.0, places, places)
    assert describe([deployment]) == describe([])


@pytest.mark.parametrize(
    ("root_path", "url"), [("", "/"), ("/", "/"), ("/api", "/api"), ("/api/v2/", "/api/v2"), ("api", "/api")]
)
def test_root_path_is_the_server(root_path: str, url: str) -> None:
    assert describe([], root_path=root_path)["servers"] == [{"url": url}]


@pytest.mark.parametrize(
    ("function", "media_types", "is_required"),
    [
        (takes_nothing, [JSON, MULTIPART, URLENCODED], False),
        (takes_plain, [JSON, MULTIPART, URLENCODED], True),
        (takes_loose, [JSON, MULTIPART, URLENCODED], False),
        (takes_files, [JSON, MULTIPART, URLENCODED], True),
        (takes_file, [MULTIPART], True),
        (takes_many_files, [MULTIPART], True),
    ],
)
def test_body_kinds(function: Callable[..., Any], media_types: list[str], is_required: bool) -> None:
    body = operation(describe([deploy("w", function)]))["requestBody"]
    assert (list(body["content"]), body["required"]) == (media_types, is_required)


def test_files_stand_in_the_multipart_form_only() -> None:
    document = describe([deploy("w", takes_files)])
    file = {"type": "string", "contentMediaType": "application/octet-stream"}
    assert schema_of(document, MULTIPART)["properties"]["files"] == {"type": "array", "items": file}
    assert list(schema_of(document)["properties"]) == ["query"]
    document = describe([deploy("w", takes_many_files)])
    form = schema_of(document, MULTIPART)
    assert (list(form["properties"]), form["required"]) == (["pet", "files", "cover"], ["pet", "files"])
    assert form["properties"]["cover"] == file


def test_headers_are_no_argument() -> None:
    assert list(schema_of(describe([deploy("w", takes_headers)]))["properties"]) == ["query"]


TEXT = {"schema": {"type": "string"}}


@pytest.mark.parametrize(
    ("function", "content"),
    [
        (takes_nothing, {JSON: {"schema": {"type": "string"}}}),
        (gives_document, {JSON: {"schema": {}}}),
        (gives_unknown, {JSON: {"schema": {}}}),
        (takes_values, {JSON: {"schema": {"type": "null"}}}),
        (gives_text, {"text/plain": TEXT}),
        (gives_async_text, {"text/plain": TEXT}),
        (gives_events, {"text/event-stream": TEXT}),
        (gives_page, {"text/html": TEXT}),
        (gives_response, {"*/*": {}}),
        (gives_file, {"*/*": {}}),
        (gives_json, {JSON: {}}),
        (gives_picture, {"image/png": {}}),
    ],
)
def test_result_kinds(function: Callable[..., Any], content: dict[str, Any]) -> None:
    reply = operation(describe([deploy("w", function)]))["responses"]["200"]
    found = reply["content"]
    if found.get(JSON):
        assert found[JSON]["schema"]["required"] == ["result"]
        found = {JSON: {"schema": found[JSON]["schema"]["properties"]["result"]}}
    assert found == content
    assert list(reply["headers"]) == ["X-Request-ID"]


def test_docstring_is_told() -> None:
    document = describe([deploy("w", takes_plain), deploy("x", takes_nothing)])
    assert (operation(document)["summary"], operation(document, "x")["summary"]) == ("Ask.", "Run x.")
    assert schema_of(document)["properties"]["query"]["description"] == "What is asked."


def test_errors_are_one_component() -> None:
    document = describe([deploy("w", takes_plain)])
    responses = operation(document)["responses"]
    assert list(responses) == ["200", "400", "404", "413", "415", "422", "429", "500", "503", "504", "default"]
    for status, response in responses.items():
        if status != "200":
            found = look_up(document, response["$ref"])
            assert found["content"] == {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}
            assert ("Retry-After" in found["headers"]) is (status in ("429", "503"))


def test_wrapper_that_makes_its_own_replies_chooses_their_status() -> None:
    responses = operation(describe([deploy("w", gives_picture)]))["responses"]
    assert responses["default"] == responses["200"]
    assert list(responses["default"]["content"]) == ["image/png"]


def test_a_thousand_wrappers_are_described() -> None:
    one = deploy("w", takes_unions)
    document = describe(replace(one, name=f"w{number:03}") for number in range(1000))
    assert len(document["paths"]) == 1016
    assert len(document["components"]["schemas"]) == 4 + 1000 * 7
    assert len(json.dumps(document)) < 1000 * 10_000


def test_document_has_the_openai_paths_that_are_routed(tmp_path: Path) -> None:
    routes = [route for route in create_app(Settings(wrappers_dir=tmp_path)).routes if isinstance(route, Route)]
    routed = {
        (method.lower(), route.path.replace("{model}", "{name}"))
        for route in routes
        for method in (route.methods or set()) - {"HEAD"}
        if route.path.startswith("/v1")
    }
    assert routed == {(method, path) for method, path, *_ in OPENAI_PATHS}
