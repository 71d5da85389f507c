"""`/openapi.json`, `/openapi.yaml` and `/docs` of a real server: what they say is what it does."""

import re
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import requests
import yaml
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from gateway.registry import Entry
from gateway.routes import docs
from tests.conftest import Serve
from tests.gateways import Gateway, serve, write_wrapper

WAIT_S = 10.0
JSON, MULTIPART = "application/json", "multipart/form-data"
URLENCODED = "application/x-www-form-urlencoded"
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
PETS = f'''
    from typing import Annotated, Literal

    from pydantic import BaseModel, Field

    from gateway import BasePipelineWrapper

    class Cat(BaseModel):
        kind: Literal["cat"]

    class Dog(BaseModel):
        kind: Literal["dog"]
        friends: list["Dog"] = []

    class PipelineWrapper(BasePipelineWrapper):
        def run_api(
            self, query: str, pet: Annotated[Cat | Dog, Field(discriminator="kind")], share: float = 1e-7
        ) -> list[Cat | Dog]:
            """Ask é 😀 "quoted": {EVIL}

            Yes:
              - no

            Args:
                query: {EVIL}
            """
            return [pet]
'''
PLAIN = """
    from gateway import BasePipelineWrapper

    class PipelineWrapper(BasePipelineWrapper):
        def run_api(self) -> str:
            return "plain"
"""
UPLOAD = """
    from gateway import BasePipelineWrapper
    from starlette.datastructures import UploadFile

    class PipelineWrapper(BasePipelineWrapper):
        def run_api(self, question: str, files: list[UploadFile]) -> int:
            return len(files)
"""
EVENTS = """
    from gateway import BasePipelineWrapper, SSEStream

    class PipelineWrapper(BasePipelineWrapper):
        def run_api(self, count: int) -> SSEStream:
            return SSEStream(str(number) for number in range(count))
"""
SOURCES = {"pets": PETS, "plain-one": PLAIN, "plain_one": PLAIN, "upload": UPLOAD, "events": EVENTS}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    wrappers_dir = tmp_path_factory.mktemp("wrappers")
    for name, source in SOURCES.items():
        write_wrapper(wrappers_dir, name, source)
    write_wrapper(wrappers_dir, "broken", "raise RuntimeError")
    with serve(wrappers_dir) as gateway:
        yield gateway


def get(gateway: Gateway, path: str, method: str = "GET", **options: Any) -> requests.Response:
    return requests.request(method, gateway.url + path, timeout=WAIT_S, **options)


def document_of(gateway: Gateway) -> dict[str, Any]:
    found: dict[str, Any] = get(gateway, "/openapi.json").json()
    return found


def runs_of(gateway: Gateway) -> list[str]:
    return [path.split("/")[1] for path in document_of(gateway)["paths"] if path.endswith("/run")]


def look_up(document: dict[str, Any], node: Any) -> Any:
    while "$ref" in node:
        keys = node["$ref"].removeprefix("#/").split("/")
        node = document
        for key in keys:
            node = node[key]
    return node


def assert_documented(document: dict[str, Any], operation: dict[str, Any], reply: requests.Response) -> None:
    """The status, the media type, the headers and the body are what the document says."""
    response = look_up(document, operation["responses"][str(reply.status_code)])
    media_type = reply.headers["content-type"].partition(";")[0]
    schema = response["content"][media_type]["schema"]
    assert set(response["headers"]) - {"Retry-After"} <= {name.title().replace("Id", "ID") for name in reply.headers}
    body = reply.json() if media_type == JSON else yaml.safe_load(reply.text) if "yaml" in media_type else reply.text
    Draft202012Validator({**schema, "components": document["components"]}).validate(body)


def test_openapi_is_valid(gateway: Gateway) -> None:
    reply = get(gateway, "/openapi.json")
    assert (reply.status_code, reply.headers["content-type"]) == (200, JSON)
    validate(reply.json())
    assert runs_of(gateway) == ["events", "pets", "plain-one", "plain_one", "upload"]


def test_yaml_says_what_the_json_says(gateway: Gateway) -> None:
    reply = get(gateway, "/openapi.yaml")
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/yaml")
    assert yaml.safe_load(reply.content) == document_of(gateway)
    assert not re.search(r"(^|\s)[&*]id\d+", reply.text)


def test_yaml_takes_any_text_and_name(monkeypatch: pytest.MonkeyPatch) -> None:
    document = {
        "a" * 200: {"b": {"200": "x\n\n y: [z\n", "no": [], "d": {}}},
        "\ud800": "\ud800",
        "e": {},
        "f": "é\x85😀",
    }
    monkeypatch.setattr(docs, "describe", lambda deployments, root_path: document)
    rendering = docs._Rendering(docs._encode_yaml)
    found = yaml.safe_load(rendering._make({}, ""))
    assert found == {**{key: value for key, value in document.items() if key != "\ud800"}, "?": "?"}


def test_openapi_follows_the_registry(serve_wrapper: Serve) -> None:
    gateway = serve_wrapper(PLAIN)
    registry = gateway.app.state.registry
    served = registry.snapshot["w"]
    assert runs_of(gateway) == ["w"]
    gateway.call(lambda: registry.put(Entry("w", failure="gone")))
    assert runs_of(gateway) == []
    assert "/w/run" not in get(gateway, "/openapi.yaml").text
    gateway.call(lambda: registry.put(served))
    assert runs_of(gateway) == ["w"]
    assert "/w/run" in get(gateway, "/openapi.yaml").text


def test_root_path_is_the_server(serve_wrapper: Serve) -> None:
    gateway = serve_wrapper(PLAIN, root_path="/pre/fix")
    for prefix in ("", "/pre/fix"):
        document = get(gateway, f"{prefix}/openapi.json").json()
        assert document["servers"] == [{"url": "/pre/fix"}]
        assert get(gateway, f"{prefix}/docs").status_code == 200
    run = f"{document['servers'][0]['url']}{next(iter(document['paths']))}"
    assert get(gateway, run, "POST", json={}).json() == {"result": "plain"}


@pytest.mark.parametrize("path", ["/status", "/livez", "/readyz", "/openapi.json", "/openapi.yaml", "/docs"])
def test_gateway_path_answers_as_documented(gateway: Gateway, path: str) -> None:
    document = document_of(gateway)
    assert_documented(document, document["paths"][path]["get"], get(gateway, path))


@pytest.mark.parametrize("path", ["/{name}/schema", "/status/{name}"])
@pytest.mark.parametrize(("name", "status"), [("pets", 200), ("plain-one", 200), ("nobody", 404), ("broken", None)])
def test_named_path_answers_as_documented(gateway: Gateway, path: str, name: str, status: int | None) -> None:
    document = document_of(gateway)
    reply = get(gateway, path.format(name=name))
    assert reply.status_code == status or (status is None and reply.status_code in (200, 503))
    assert_documented(document, document["paths"][path]["get"], reply)


def test_readyz_answers_as_documented_while_draining(serve_wrapper: Serve) -> None:
    gateway = serve_wrapper(PLAIN)
    document = document_of(gateway)
    gateway.call(gateway.app.state.invoker.draining.set)
    ready, run = get(gateway, "/readyz"), get(gateway, "/w/run", "POST", json={})
    assert (ready.status_code, run.status_code) == (503, 503)
    assert {"Retry-After", "X-Request-ID"} <= set(document["paths"]["/readyz"]["get"]["responses"]["503"]["headers"])
    assert "Retry-After" in ready.headers
    assert "Retry-After" in run.headers
    assert_documented(document, document["paths"]["/readyz"]["get"], ready)
    assert_documented(document, document["paths"]["/w/run"]["post"], run)


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("media_type", [JSON, MULTIPART, URLENCODED])
def test_run_takes_its_example(gateway: Gateway, name: str, media_type: str) -> None:
    document = document_of(gateway)
    operation = document["paths"][f"/{name}/run"]["post"]
    media = operation["requestBody"]["content"].get(media_type)
    if media is None:
        assert name == "upload", "only a file that is required rules a body out"
        assert get(gateway, f"/{name}/run", "POST", json={"question": "text"}).status_code == 422
        return
    example = media["example"]
    fields = {key: value if isinstance(value, str) else str(value).replace("'", '"') for key, value in example.items()}
    options: dict[str, Any] = {JSON: {"json": example}, URLENCODED: {"data": urlencode(fields)}}.get(media_type, {})
    if media_type == URLENCODED:
        options["headers"] = {"Content-Type": URLENCODED}
    if media_type == MULTIPART:
        form = look_up(document, media["schema"])
        files = [key for key, schema in form["properties"].items() if "contentMediaType" in str(schema)]
        options = {
            "files": [*((key, (None, text)) for key, text in fields.items()), *((key, ("a", b"a")) for key in files)]
        }
        if not options["files"]:
            options = {"data": b"--x--\r\n", "headers": {"Content-Type": f"{MULTIPART}; boundary=x"}}
    reply = get(gateway, f"/{name}/run", "POST", **options)
    assert reply.status_code == 200, reply.text
    assert_documented(document, operation, reply)


def test_run_without_a_body_is_taken_where_none_is_required(gateway: Gateway) -> None:
    for name in SOURCES:
        body = document_of(gateway)["paths"][f"/{name}/run"]["post"]["requestBody"]
        assert (get(gateway, f"/{name}/run", "POST").status_code == 200) is not body["required"]


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"data": b"{", "headers": {"Content-Type": JSON}}, 400),
        ({"data": b"x", "headers": {"Content-Type": "text/plain"}}, 415),
        ({"json": {}}, 422),
    ],
)
def test_run_refuses_as_documented(gateway: Gateway, options: dict[str, Any], status: int) -> None:
    document = document_of(gateway)
    reply = get(gateway, "/pets/run", "POST", **options)
    assert reply.status_code == status
    assert_documented(document, document["paths"]["/pets/run"]["post"], reply)


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/pets/run", 405), ("GET", "/no/such/path", 404)])
def test_error_of_no_operation_is_an_error_too(gateway: Gateway, method: str, path: str, status: int) -> None:
    document = document_of(gateway)
    reply = get(gateway, path, method)
    assert reply.status_code == status
    schema = {**document["components"]["schemas"]["Error"], "components": document["components"]}
    Draft202012Validator(schema).validate(reply.json())


def test_request_id_goes_in_and_out_as_documented(gateway: Gateway) -> None:
    document = document_of(gateway)
    parameter = look_up(document, document["paths"]["/plain_one/run"]["post"]["parameters"][0])
    reply = get(gateway, "/plain_one/run", "POST", json={}, headers={parameter["name"]: "my-id"})
    assert reply.headers[parameter["name"]] == "my-id"
    assert re.search(parameter["schema"]["pattern"], "my-id")


class Page(HTMLParser):
    """`tags`: of each start tag its name and attributes. `texts`: what stands in `<script>` and `<style>`."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {"script": [], "style": []}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] in self.texts and data.strip():
            self.texts[self.tags[-1][0]].append(data)


@pytest.fixture(scope="module")
def page_reply(gateway: Gateway) -> requests.Response:
    return get(gateway, "/docs")


@pytest.fixture(scope="module")
def page(page_reply: requests.Response) -> Page:
    return Page(page_reply.text)


def test_page_is_the_file_whatever_is_deployed(page_reply: requests.Response) -> None:
    assert page_reply.status_code == 200
    assert page_reply.headers["content-type"] == "text/html; charset=utf-8"
    assert page_reply.text == Path(docs.__file__).with_name("docs.html").read_text(encoding="utf-8")
    assert EVIL not in page_reply.text


def test_page_has_a_policy_for_its_own_script_and_style_alone(page_reply: requests.Response, page: Page) -> None:
    policy = dict(directive.split(" ", 1) for directive in page_reply.headers["content-security-policy"].split("; "))
    hashes = {}
    for tag, texts in page.texts.items():
        assert len(texts) == 1
        hashes[tag] = f"'sha256-{b64encode(sha256(texts[0].encode()).digest()).decode()}'"
    assert policy == {
        "default-src": "'none'",
        "script-src": hashes["script"],
        "style-src": hashes["style"],
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }


def test_page_loads_nothing(page_reply: requests.Response, page: Page) -> None:
    assert not re.search(r"https?:|//[^ ]|\burl\(|\bimport\b", page_reply.text)
    addresses = {
        value
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data", "poster")
    }
    assert addresses == {"data:,", "openapi.json", "openapi.yaml", "status"}
    assert {tag for tag, _ in page.tags} & {"img", "iframe", "object", "embed", "base", "form"} == set()


def test_page_writes_text_only(page: Page) -> None:
    script = page.texts["script"][0]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|srcdoc", script)
    assert not re.search(r"localStorage|sessionStorage|cookie|indexedDB", script)
    for _, attributes in page.tags:
        assert not any(name == "style" or name.startswith("on") for name in attributes)


def test_page_labels_its_controls(page_reply: requests.Response, page: Page) -> None:
    assert page.tags[0][0] == "html"
    assert page.tags[0][1] == {"lang": "en"}
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.tags
    for control in ("key", "filter"):
        assert re.search(rf'<label>[^<]+<input id="{control}"', page_reply.text)


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/openapi.yaml"])
def test_head_is_answered(gateway: Gateway, path: str) -> None:
    head, whole = get(gateway, path, "HEAD"), get(gateway, path)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-type", "content-length"):
        assert head.headers[name] == whole.headers[name]
