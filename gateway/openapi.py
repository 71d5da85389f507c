"""The registry's snapshot as an OpenAPI 3.1 document (spec 3.1.1, read November 2026).

A run is one path for each wrapper, because its arguments are its own; the gateway's own paths stand once. A status is
listed where the server sends it. 405, and 404 for a path that does not exist, belong to no operation: `info` tells.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from itertools import islice
from types import NoneType
from typing import Any, get_args

from gateway.registry import Deployment, State
from gateway.signature import FileParameter, Signature
from gateway.version import __version__
from gateway.wrapper import Limits

Schema = Mapping[str, Any]

JSON = "application/json"
MULTIPART = "multipart/form-data"
URLENCODED = "application/x-www-form-urlencoded"
DEFINITIONS = "#/$defs/"
NAME_PATTERN = "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
ABOUT = (
    "Haystack pipelines and agents, each a wrapper that is run with `POST /{name}/run`. "
    "An error of any path, 404 and 405 too, has the body `Error`, and every reply has an `X-Request-ID`."
)
ERRORS = {  # status → (component, description, whether `Retry-After` comes with it)
    "400": ("BadRequest", "The body cannot be read.", False),
    "404": ("NotFound", "There is no such wrapper.", False),
    "413": ("TooLarge", "The body is too large.", False),
    "415": ("UnsupportedMediaType", "The body is neither JSON nor a form.", False),
    "422": ("InvalidArguments", "The arguments do not fit; `details` names each.", False),
    "429": ("Overloaded", "Too many runs are waiting.", True),
    "500": ("Failed", "The wrapper failed.", False),
    "503": ("Unavailable", "No place in time, the wrapper loads or failed to load, or the server shuts down.", True),
    "504": ("DeadlineExceeded", "The run took too long.", False),
    "default": ("Other", "Any other status that the wrapper raises.", False),
}
SUCCESS = {
    "json": "The result.",
    "text": "The text as it is made. When the run fails on its way the connection ends before the reply does.",
    "events": "An event for each chunk. When the run fails on its way, the last event is `error`, its data an `Error`.",
    "response": "The wrapper's own reply, which may have another status.",
}


def _object(required: Schema, optional: Schema | None = None) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


TEXT = {"type": "string"}
TEXTS = {"type": "array", "items": TEXT}
SCHEMA = {"type": "object", "description": "JSON Schema."}
FAULT = _object({"loc": {**TEXT, "examples": ["body.top_k"]}, "message": TEXT, "type": TEXT})
ERROR = _object(
    {
        "error": _object(
            {
                "type": TEXT,
                "message": {**TEXT, "description": "One sentence: what went wrong, and where."},
                "code": {**TEXT, "description": "A stable word for programs."},
            },
            {
                "details": {"type": "array", "items": FAULT},
                "error_id": {**TEXT, "description": "Under this id the log says more."},
            },
        ),
        "detail": {**TEXT, "description": "The message again."},
    }
)
WRAPPER = _object(
    {
        "state": {"enum": list(get_args(State))},
        "reason": {"type": ["string", "null"], "description": "Of its failure."},
    },
    {
        "generation": {"type": "integer", "description": "Counts its deploys; this and the rest while it serves."},
        "loaded_at": {"type": "number", "description": "Unix time in seconds."},
        "methods": TEXTS,
        "limits": {"type": "object", "properties": {one.name: {"type": ["number", "null"]} for one in fields(Limits)}},
        "in_flight": {"type": "integer"},
        "queued": {"type": "integer"},
    },
)
STATUS = _object(
    {
        "status": {"const": "Up!"},
        "pipelines": {**TEXTS, "description": "Those that serve."},
        "version": TEXT,
        "ready": {"type": "boolean"},
        "wrappers": {"type": "object", "additionalProperties": {"$ref": "#/components/schemas/Wrapper"}},
    }
)
CONTRACT = _object(
    {"name": TEXT, "description": TEXT, "arguments": SCHEMA, "files": TEXTS, "media_type": TEXT, "result": SCHEMA}
)
NAME = {"name": "name", "in": "path", "required": True, "schema": {**TEXT, "pattern": NAME_PATTERN}}
REQUEST_ID = {
    "name": "X-Request-ID",
    "in": "header",
    "description": "Names the request in the log and in its reply; the gateway makes one where none comes.",
    "schema": {**TEXT, "pattern": "^[!-~]{1,128}$"},
}


def describe(deployments: Iterable[Deployment], *, root_path: str = "") -> dict[str, Any]:
    """The document for what serves now. `root_path`: the prefix under which clients reach the server."""
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {"Error": ERROR, "Status": STATUS, "Wrapper": WRAPPER}
    for deployment in sorted(deployments, key=lambda deployment: deployment.name):
        method = deployment.methods.get("run_api")
        if method is not None and method.signature is not None:
            paths[f"/{deployment.name}/run"] = {"post": _run_operation(deployment.name, method.signature, schemas)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Haystack Gateway", "version": __version__, "description": ABOUT},
        "servers": [{"url": f"/{root_path.strip('/')}"}],
        "tags": [{"name": "wrappers"}, {"name": "gateway"}],
        "paths": {**paths, **_gateway_paths()},
        "components": {
            "schemas": schemas,
            "responses": {
                component: _reply(text, {"$ref": "#/components/schemas/Error"}, is_later=is_later)
                for component, text, is_later in ERRORS.values()
            },
            "parameters": {"Name": NAME, "RequestID": REQUEST_ID},
            "headers": {
                "RequestID": {"description": "Names the request in the log.", "schema": TEXT},
                "RetryAfter": {"description": "Seconds to wait.", "schema": {"type": "integer"}},
            },
        },
    }


def _gateway_paths() -> dict[str, Any]:
    status = {"$ref": "#/components/schemas/Status"}
    wrapper = [_object({"status": {"const": "Up!"}, "pipeline": TEXT}), {"$ref": "#/components/schemas/Wrapper"}]
    later = _reply("Not yet, or no longer: it loads, or it drains.", _state("loading", "draining"), is_later=True)
    ready = "Whether every wrapper serves or has failed, and the server stays."
    document = {"type": "object"}
    named = {"parameters": [{"$ref": "#/components/parameters/Name"}]}
    contract = _get("get_schema", "What a wrapper takes and gives.", CONTRACT, JSON, **_errors(("404", "503")))
    one = _get("get_wrapper_status", "One wrapper.", {"allOf": wrapper}, JSON, **_errors(("404",)))
    return {
        "/{name}/schema": {**named, **contract},
        "/status": _get("get_status", "Every wrapper that was found.", status),
        "/status/{name}": {**named, **one},
        "/livez": _get("get_liveness", "Answers while the process lives.", _state("alive")),
        "/readyz": _get("get_readiness", ready, _state("ready"), JSON, **{"503": later}),
        "/openapi.json": _get("get_openapi_json", "This document.", document),
        "/openapi.yaml": _get("get_openapi_yaml", "This document.", document, "application/yaml"),
        "/docs": _get("get_docs", "This document, to read and to try.", TEXT, "text/html"),
    }


def _get(operation_id: str, summary: str, schema: Schema, media_type: str = JSON, **others: Any) -> dict[str, Any]:
    responses = {"200": _reply("OK", schema, media_type), **others}
    return {"get": {"operationId": operation_id, "tags": ["gateway"], "summary": summary, "responses": responses}}


def _state(*states: str) -> dict[str, Any]:
    return _object({"status": {"enum": list(states)}})


def _reply(text: str, schema: Schema, media_type: str = JSON, *, is_later: bool = False) -> dict[str, Any]:
    names = {"X-Request-ID": "RequestID", **({"Retry-After": "RetryAfter"} if is_later else {})}
    headers = {name: {"$ref": f"#/components/headers/{component}"} for name, component in names.items()}
    return {"description": text, "headers": headers, "content": {media_type: {"schema": schema} if schema else {}}}


def _errors(statuses: Iterable[str]) -> dict[str, Any]:
    return {status: {"$ref": f"#/components/responses/{ERRORS[status][0]}"} for status in statuses}


def _run_operation(name: str, signature: Signature, schemas: dict[str, Any]) -> dict[str, Any]:
    """`operationId` holds the name as it is: `a-b` and `a_b` stay two."""
    arguments = _hoist(f"{name}.", signature.schema, schemas)
    result = _hoist(f"{name}.result.", signature.result_schema, schemas)
    if signature.result_kind == "json":
        result = _object({"result": result})
    elif signature.media_type.startswith("text/"):
        result = TEXT
    component = f"{name}.run.arguments"  # a model's key has one dot, or `result` between its two
    schemas[component] = arguments
    examples = _fitting(signature.schema, signature.schema.get("$defs", {}))
    shown = next(({"example": value} for value in examples), {})
    success = _reply(SUCCESS[signature.result_kind], result, signature.media_type)
    own = {"default": success} if signature.result_kind == "response" else {}
    return {
        "operationId": f"run_{name}",
        "tags": ["wrappers"],
        "summary": signature.summary or f"Run {name}.",
        **({"description": signature.description} if signature.description else {}),
        "parameters": [{"$ref": "#/components/parameters/RequestID"}],
        "requestBody": {
            "required": signature.is_body_required,
            "content": {
                media_type: {"schema": schema, **shown}
                for media_type, schema in _bodies(component, arguments, signature.files).items()
            },
        },
        "responses": {"200": success, **_errors(ERRORS), **own},
    }


def _bodies(component: str, arguments: Schema, files: Mapping[str, FileParameter]) -> dict[str, Any]:
    """The schema of each media type that the run takes: only multipart can bring a file that is required."""
    reference = {"$ref": f"#/components/schemas/{component}"}
    if not files:
        return {JSON: reference, MULTIPART: reference, URLENCODED: reference}
    properties = {name: _file_schema(file.is_list, file.description) for name, file in files.items()}
    multipart = {**arguments, "properties": {**arguments["properties"], **properties}}
    required = [name for name, file in files.items() if file.is_required]
    if required:
        return {MULTIPART: {**multipart, "required": [*arguments.get("required", []), *required]}}
    return {JSON: reference, MULTIPART: multipart, URLENCODED: reference}


def _file_schema(is_list: bool, description: str) -> dict[str, Any]:
    file = {"type": "string", "contentMediaType": "application/octet-stream"}
    schema: dict[str, Any] = {"type": "array", "items": file} if is_list else file
    return {**schema, "description": description} if description else schema


HOLD_SCHEMAS = frozenset(
    {"additionalProperties", "allOf", "anyOf", "contains", "contentSchema", "else", "if", "items", "not", "oneOf"}
    | {"prefixItems", "propertyNames", "then", "unevaluatedItems", "unevaluatedProperties"}
)
NAME_SCHEMAS = frozenset({"dependentSchemas", "patternProperties", "properties"})


def _hoist(prefix: str, schema: Schema, schemas: dict[str, Any]) -> dict[str, Any]:
    """The schema with its `$defs` moved to the document's components, each under `prefix` and its name.

    Walks from keyword to keyword: a property may be called `$ref`, and a default may hold anything.
    """
    definitions: Schema = schema.get("$defs", {})

    def point(reference: str) -> str:
        return f"#/components/schemas/{prefix}{reference.removeprefix(DEFINITIONS)}"

    def move(node: Any) -> Any:
        if isinstance(node, list):
            return [move(item) for item in node]
        if not isinstance(node, Mapping):
            return node
        moved: dict[str, Any] = {key: node[key] for key in node if _is_shown(key, node, definitions)}
        moved |= {key: move(node[key]) for key in node.keys() & HOLD_SCHEMAS}
        moved |= {key: {name: move(node[key][name]) for name in node[key]} for key in node.keys() & NAME_SCHEMAS}
        if "$ref" in moved:
            moved["$ref"] = point(moved["$ref"])
        if "discriminator" in moved:
            mapping = {tag: point(target) for tag, target in moved["discriminator"]["mapping"].items()}
            moved["discriminator"] = {**moved["discriminator"], "mapping": mapping}
        return moved

    for name, model in definitions.items():
        schemas[f"{prefix}{name}"] = move(model)
    hoisted: dict[str, Any] = move(schema)
    return hoisted


def _is_shown(key: str, node: Schema, definitions: Schema) -> bool:
    if key in HOLD_SCHEMAS or key in NAME_SCHEMAS:
        return True
    if key == "discriminator":  # that of a union in a union maps to schemas, which OpenAPI does not know
        return all(isinstance(target, str) for target in node[key].get("mapping", {0: 0}).values())
    if key == "default" and not _admits(node, node[key], definitions):  # `query: str = None`: nobody can send it
        return False
    return key != "$defs" and _is_json(node[key])


def _is_json(value: Any) -> bool:
    """An infinite default has no JSON, and none is shown."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


Fits = Callable[[Any, Any], bool]
KIND = {
    NoneType: "null",
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}
CHECKS: Mapping[str, Callable[[Any, Any, Fits], bool]] = {
    "type": lambda kinds, value, _: any(_is_a(kind, value) for kind in ([kinds] if isinstance(kinds, str) else kinds)),
    "const": lambda const, value, _: bool(value == const),
    "enum": lambda choices, value, _: value in choices,
    "anyOf": lambda choices, value, fits: any(fits(choice, value) for choice in choices),
    "oneOf": lambda choices, value, fits: any(fits(choice, value) for choice in choices),
    "allOf": lambda choices, value, fits: all(fits(choice, value) for choice in choices),
    "minimum": lambda bound, value, _: not _is_a("number", value) or value >= bound,
    "maximum": lambda bound, value, _: not _is_a("number", value) or value <= bound,
    "exclusiveMinimum": lambda bound, value, _: not _is_a("number", value) or value > bound,
    "exclusiveMaximum": lambda bound, value, _: not _is_a("number", value) or value < bound,
    "multipleOf": lambda step, value, _: not _is_a("number", value) or value % step == 0,
    "minLength": lambda bound, value, _: not isinstance(value, str) or len(value) >= bound,
    "maxLength": lambda bound, value, _: not isinstance(value, str) or len(value) <= bound,
    "minItems": lambda bound, value, _: not isinstance(value, list) or len(value) >= bound,
    "maxItems": lambda bound, value, _: not isinstance(value, list) or len(value) <= bound,
    "items": lambda items, value, fits: not isinstance(value, list) or all(fits(items, item) for item in value),
    "required": lambda names, value, _: not isinstance(value, dict) or all(name in value for name in names),
    "properties": lambda properties, value, fits: (
        not isinstance(value, dict) or all(fits(properties[name], value[name]) for name in properties.keys() & value)
    ),
}


def _is_a(kind: str, value: Any) -> bool:
    found = KIND.get(type(value))
    return found == kind or (found, kind) == ("integer", "number")


def _admits(schema: Any, value: Any, definitions: Schema) -> bool:
    """Whether the value has the schema's types and bounds; formats and patterns are not looked at."""

    def fits(inner: Any, part: Any) -> bool:
        return _admits(inner, part, definitions)

    if not isinstance(schema, Mapping):
        return schema is not False
    if "$ref" in schema and not fits(_resolve(schema, definitions), value):
        return False
    return all(check(schema[key], value, fits) for key, check in CHECKS.items() if key in schema)


def _resolve(schema: Schema, definitions: Schema) -> Schema:
    found: Schema = definitions.get(schema["$ref"].removeprefix(DEFINITIONS), {})
    return found


MAX_DEPTH = 8
EXAMPLES = {
    None: "text",
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "duration": "PT1H",
    "email": "name@example.com",
    "time": "12:00:00Z",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def _fitting(schema: Any, definitions: Schema, depth: int = 0) -> Iterator[Any]:
    """Examples that have the schema's types and bounds, the author's own first. Formats and patterns may yield none."""
    if depth < MAX_DEPTH and isinstance(schema, Mapping):
        for candidate in _candidates(schema, definitions, depth + 1):
            if _is_json(candidate) and _admits(schema, candidate, definitions):
                yield candidate


def _candidates(schema: Schema, definitions: Schema, depth: int) -> Iterator[Any]:
    yield from schema.get("examples", ())
    yield from (schema[key] for key in ("example", "default", "const") if key in schema)
    yield from schema.get("enum", ())
    choices = [choice for key in ("anyOf", "oneOf", "allOf") for choice in schema.get(key, ())]
    for choice in [_resolve(schema, definitions)] if "$ref" in schema else choices:
        yield from _fitting(choice, definitions, depth)
    if "type" in schema:
        yield from _of_type(schema, definitions, depth)
    elif not schema.keys() & {"const", "enum", "$ref", "anyOf", "oneOf", "allOf"}:
        yield "text"


def _of_type(schema: Schema, definitions: Schema, depth: int) -> Iterator[Any]:
    def first(inner: Any) -> list[Any]:
        return list(islice(_fitting(inner, definitions, depth), 1))

    kind = schema["type"]
    if kind == "string" and schema.get("format") in EXAMPLES and not schema.keys() & {"pattern", "contentMediaType"}:
        text = EXAMPLES[schema.get("format")]
        yield text.ljust(schema.get("minLength", 0), "x")[: schema.get("maxLength")]
    elif kind in ("integer", "number"):
        low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
        high = schema.get("maximum", schema.get("exclusiveMaximum", low + 2))
        step = schema.get("multipleOf", 1)
        yield from (1, low, low + 1, high, high - 1, (low + high) / 2, low // step * step + step)
    elif kind == "array":
        parts = [part for inner in schema.get("prefixItems", ()) for part in first(inner)]
        yield parts + first(schema.get("items", {})) * max(schema.get("minItems", 1) - len(parts), 0)
        yield []
    elif kind == "object":
        properties = schema.get("properties", {})
        yield {name: part for name in schema.get("required", ()) for part in first(properties.get(name, {}))}
    elif kind in ("boolean", "null"):
        yield True if kind == "boolean" else None
