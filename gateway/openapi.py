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
    "503": ("Unavailable", "No place in time, or the wrapper is loading or failed to load, or the end is near.", True),
    "504": ("DeadlineExceeded", "The run took too long.", False),
    "default": ("Other", "Any other status that the wrapper answers with.", False),
}
SUCCESS = {
    "json": "The result.",
    "text": "The text as it is made. When the run fails on its way the connection ends before the reply does.",
    "events": "One event for each chunk. When the run fails on its way, the last event is `error`, its data an `Error`.",
    "response": "The wrapper's own reply, which may have another status.",
}

ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["error", "detail"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["type", "message", "code"],
            "properties": {
                "type": {"type": "string"},
                "message": {"type": "string", "description": "One sentence: what went wrong, and where."},
                "code": {"type": "string", "description": "A stable word for programs."},
                "details": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["loc", "message", "type"],
                        "properties": {
                            "loc": {"type": "string", "examples": ["body.top_k"]},
                            "message": {"type": "string"},
                            "type": {"type": "string"},
                        },
                    },
                },
                "error_id": {"type": "string", "description": "Under this id the log says more."},
            },
        },
        "detail": {"type": "string", "description": "The message again."},
    },
}
WRAPPER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "A wrapper that was found. What follows `reason` is there while it serves.",
    "required": ["state", "reason"],
    "properties": {
        "state": {"enum": list(get_args(State))},
        "reason": {"type": ["string", "null"], "description": "Why it failed to load."},
        "generation": {"type": "integer", "description": "Counts its deploys."},
        "loaded_at": {"type": "number", "description": "Unix time in seconds."},
        "methods": {"type": "array", "items": {"type": "string"}},
        "limits": {"type": "object", "properties": {one.name: {"type": ["number", "null"]} for one in fields(Limits)}},
        "in_flight": {"type": "integer"},
        "queued": {"type": "integer"},
    },
}
STATUS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["status", "pipelines", "version", "ready", "wrappers"],
    "properties": {
        "status": {"const": "Up!"},
        "pipelines": {"type": "array", "items": {"type": "string"}, "description": "Those that serve."},
        "version": {"type": "string"},
        "ready": {"type": "boolean"},
        "wrappers": {"type": "object", "additionalProperties": {"$ref": "#/components/schemas/Wrapper"}},
    },
}
SCHEMA_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["name", "description", "arguments", "files", "media_type", "result"],
    "properties": {
        "name": {"type": "string"},
        "description": {"type": "string"},
        "arguments": {"type": "object", "description": "JSON Schema of the arguments that are not files."},
        "files": {"type": "array", "items": {"type": "string"}, "description": "The arguments that are files."},
        "media_type": {"type": "string", "description": "Of the reply."},
        "result": {"type": "object", "description": "JSON Schema of `result`."},
    },
}


def describe(deployments: Iterable[Deployment], *, root_path: str = "") -> dict[str, Any]:
    """The document for what serves now. `root_path`: the prefix under which clients reach the server."""
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {"Error": ERROR_SCHEMA, "Status": STATUS_SCHEMA, "Wrapper": WRAPPER_SCHEMA}
    for deployment in sorted(deployments, key=lambda deployment: deployment.name):
        method = deployment.methods.get("run_api")
        if method is not None and method.signature is not None:
            paths[f"/{deployment.name}/run"] = {"post": _run_operation(deployment.name, method.signature, schemas)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Haystack Gateway", "version": __version__, "description": ABOUT},
        "servers": [{"url": f"/{root_path.strip('/')}"}],
        "tags": [
            {"name": "wrappers", "description": "What is deployed now."},
            {"name": "gateway", "description": "The gateway itself."},
        ],
        "paths": {**paths, **_gateway_paths()},
        "components": {
            "schemas": schemas,
            "responses": {component: _error(text, is_later) for component, text, is_later in ERRORS.values()},
            "parameters": {
                "Name": {
                    "name": "name",
                    "in": "path",
                    "required": True,
                    "description": "The wrapper's name.",
                    "schema": {"type": "string", "pattern": NAME_PATTERN},
                },
                "RequestID": {
                    "name": "X-Request-ID",
                    "in": "header",
                    "description": "Names the request in the log and the reply; without one the gateway makes it.",
                    "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
                },
            },
            "headers": {
                "RequestID": {"description": "Names the request in the log.", "schema": {"type": "string"}},
                "RetryAfter": {"description": "Seconds to wait.", "schema": {"type": "integer"}},
            },
        },
    }


def _gateway_paths() -> dict[str, Any]:
    wrapper = {"$ref": "#/components/schemas/Wrapper"}
    own = {"type": "object", "required": ["status", "pipeline"], "properties": {"pipeline": {"type": "string"}}}
    later = _reply("Not yet, or no longer: it loads, or it drains.", _state("loading", "draining"), is_later=True)
    name = ["Name"]
    return {
        "/{name}/schema": _get(
            "get_schema", "What a wrapper takes and gives, as JSON Schema.", SCHEMA_SCHEMA, name, "404", "503"
        ),
        "/status": _get("get_status", "Every wrapper that was found.", {"$ref": "#/components/schemas/Status"}),
        "/status/{name}": _get("get_wrapper_status", "One wrapper.", {"allOf": [own, wrapper]}, name, "404"),
        "/livez": _get("get_liveness", "Answers while the process lives.", _state("alive")),
        "/readyz": _get(
            "get_readiness", "Whether every wrapper serves or has failed, and the server stays.", _state("ready"),
            replies={"503": later},
        ),
        "/openapi.json": _get("get_openapi_json", "This document.", {"type": "object"}),
        "/openapi.yaml": _get("get_openapi_yaml", "This document.", {"type": "object"}, media_type="application/yaml"),
        "/docs": _get("get_docs", "This document to read and try.", {"type": "string"}, media_type="text/html"),
    }  # fmt: skip


def _get(
    operation_id: str,
    summary: str,
    schema: Schema,
    parameters: Iterable[str] = (),
    *errors: str,
    media_type: str = JSON,
    replies: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    references = [{"$ref": f"#/components/parameters/{name}"} for name in parameters]
    return {
        "operationId": operation_id,
        "tags": ["gateway"],
        "summary": summary,
        **({"parameters": references} if references else {}),
        "responses": {"200": _reply("OK", schema, media_type), **(replies or {}), **_errors(errors)},
    }


def _state(*states: str) -> dict[str, Any]:
    return {"type": "object", "required": ["status"], "properties": {"status": {"enum": list(states)}}}


def _reply(text: str, schema: Schema, media_type: str = JSON, *, is_later: bool = False) -> dict[str, Any]:
    names = {"X-Request-ID": "RequestID", **({"Retry-After": "RetryAfter"} if is_later else {})}
    headers = {name: {"$ref": f"#/components/headers/{component}"} for name, component in names.items()}
    return {"description": text, "headers": headers, "content": {media_type: {"schema": schema} if schema else {}}}


def _error(text: str, is_later: bool) -> dict[str, Any]:
    return _reply(text, {"$ref": "#/components/schemas/Error"}, is_later=is_later)


def _errors(statuses: Iterable[str]) -> dict[str, Any]:
    return {status: {"$ref": f"#/components/responses/{ERRORS[status][0]}"} for status in statuses}


def _run_operation(name: str, signature: Signature, schemas: dict[str, Any]) -> dict[str, Any]:
    """`operationId` holds the name as it is: `a-b` and `a_b` stay two."""
    arguments = _hoist(f"{name}.", signature.schema, schemas)
    result = _hoist(f"{name}.result.", signature.result_schema, schemas)
    if signature.result_kind == "json":
        result = {"type": "object", "required": ["result"], "properties": {"result": result}}
    elif signature.media_type.startswith("text/"):
        result = {"type": "string"}
    component = f"{name}.run.arguments"  # a model's key has one dot, or `result` between its two
    schemas[component] = arguments
    shown = [{"example": value} for value in islice(_fitting(signature.schema, _definitions(signature.schema)), 1)]
    return {
        "operationId": f"run_{name}",
        "tags": ["wrappers"],
        "summary": signature.summary or f"Run {name}.",
        **({"description": signature.description} if signature.description else {}),
        "parameters": [{"$ref": "#/components/parameters/RequestID"}],
        "requestBody": {
            "required": True,
            "content": {
                media_type: {"schema": schema, **(shown[0] if shown else {})}
                for media_type, schema in _bodies(component, arguments, signature.files).items()
            },
        },
        "responses": {
            "200": _reply(SUCCESS[signature.result_kind], result, signature.media_type),
            **_errors(ERRORS),
        },
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


def _definitions(schema: Schema) -> Schema:
    definitions: Schema = schema.get("$defs", {})
    return definitions


Move = Callable[[Any], Any]
INSIDE: Mapping[str, Callable[[Any, Move], Any]] = {  # the keywords that hold schemas
    **dict.fromkeys(
        ("additionalProperties", "contains", "contentSchema", "if", "then", "else"), lambda v, move: move(v)
    ),
    **dict.fromkeys(("items", "not", "propertyNames", "unevaluatedItems"), lambda value, move: move(value)),
    **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems"), lambda value, move: [move(item) for item in value]),
    **dict.fromkeys(
        ("dependentSchemas", "patternProperties", "properties"),
        lambda value, move: {name: move(item) for name, item in value.items()},
    ),
}


def _hoist(prefix: str, schema: Schema, schemas: dict[str, Any]) -> dict[str, Any]:
    """The schema with its `$defs` moved to the document's components, each under `prefix` and its name.

    Walks from keyword to keyword: a property may be called `$ref`, and a default may hold anything.
    """
    definitions = _definitions(schema)

    def point(reference: str) -> str:
        return f"#/components/schemas/{prefix}{reference.removeprefix(DEFINITIONS)}"

    def move(node: Any) -> Any:
        if not isinstance(node, Mapping):
            return node
        shown = [(key, value) for key, value in node.items() if _is_shown(key, node, definitions)]
        moved = {key: INSIDE[key](value, move) if key in INSIDE else value for key, value in shown}
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
    if key in INSIDE:
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
TYPES: Mapping[str, Any] = {"null": NoneType, "integer": int, "number": (int, float), "string": str}
HOLDERS: Mapping[str, type] = {"array": list, "object": dict}
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
    if isinstance(value, bool):
        return kind == "boolean"
    return kind in TYPES and isinstance(value, TYPES[kind])


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
    "binary": "text",
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "duration": "PT1H",
    "email": "name@example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "password": "text",
    "path": "text",
    "time": "12:00:00Z",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "uuid4": "00000000-0000-4000-8000-000000000000",
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
    if kind == "string" and not schema.keys() & {"pattern", "contentMediaType", "contentEncoding"}:
        text = EXAMPLES.get(schema.get("format"), "")
        yield from [text.ljust(schema.get("minLength", 0), "x")[: schema.get("maxLength")]] if text else []
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
