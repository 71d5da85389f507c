"""The registry's snapshot as an OpenAPI 3.1 document (spec 3.1.1, read November 2026).

A run is one path for each wrapper, because its arguments are its own; the gateway's own paths stand once. A status is
listed where the server sends it. 405, and 404 for a path that does not exist, belong to no operation: `info` tells.
"""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, get_args

from gateway.registry import Deployment, State
from gateway.schema import Schema, fitting, hoist
from gateway.signature import FileParameter, Signature
from gateway.version import __version__
from gateway.wrapper import Limits

JSON = "application/json"
MULTIPART = "multipart/form-data"
URLENCODED = "application/x-www-form-urlencoded"
NAME_PATTERN = "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
ABOUT = (
    "Haystack pipelines and agents, each a wrapper that is run with `POST /{name}/run`. "
    "An error of any path, 404 and 405 too, has the body `Error`, and every reply has an `X-Request-ID`. "
    "The paths of OpenAI's API take what its SDKs send, and answer errors with `OpenAIError`. They exist without `/v1` "
    "too, and `POST /{name}/chat` names the model in its path."
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
OPENAI_ERROR = _object(
    {
        "error": _object(
            {"message": TEXT, "type": TEXT, "param": {"type": ["string", "null"]}, "code": {"type": ["string", "null"]}}
        )
    }
)
MODEL = {**TEXT, "description": "The wrapper."}
STREAM = {"type": ["boolean", "null"], "description": "Answer with events as it is made."}
OBJECT = {"type": "object"}
MESSAGES = {"type": "array", "minItems": 1, "items": _object({"role": TEXT}, {"content": {}})}
CHAT = _object({"model": MODEL, "messages": MESSAGES}, {"stream": STREAM, "n": {"type": ["integer", "null"]}})
RESPONSE = _object({"model": MODEL, "input": {"type": ["string", "array"]}}, {"stream": STREAM})
EMBEDDING = _object(
    {"model": MODEL, "input": {"anyOf": [TEXT, {**TEXTS, "minItems": 1, "maxItems": 2048}]}},
    {"encoding_format": {"enum": ["float", "base64", None]}, "dimensions": {"type": ["integer", "null"]}},
)
FILE = {**TEXT, "contentMediaType": "application/octet-stream"}
UPLOAD = _object(
    {"file": FILE, "purpose": TEXT},
    {
        "model": {
            **TEXT,
            "description": "The wrapper that is to take the file; the gateway keeps it where none is named.",
        }
    },
)
OPENAI_ERRORS = {
    "400": "A field does not fit; `param` names it.",
    "404": "There is no such model or file.",
    "413": "The body is too large.",
    "415": "The body has another format.",
    "default": "As for a run: 429, 500, 503, 504, and what the wrapper raises.",
}
OPENAI_PATHS = (  # method, path, operation, summary, request (media type, schema), reply
    ("post", "/v1/chat/completions", "create_chat_completion", "Chat with a wrapper.", (JSON, CHAT), JSON),
    (
        "post",
        "/v1/responses",
        "create_response",
        "Ask a wrapper, in the form of the Responses API.",
        (JSON, RESPONSE),
        JSON,
    ),
    ("post", "/v1/embeddings", "create_embedding", "Texts as vectors.", (JSON, EMBEDDING), JSON),
    ("get", "/v1/models", "list_models", "The wrappers that answer these paths.", None, JSON),
    ("get", "/v1/models/{name}", "get_model", "One of them.", None, JSON),
    ("post", "/v1/files", "create_file", "Upload a file.", (MULTIPART, UPLOAD), JSON),
    ("get", "/v1/files", "list_files", "The files that were uploaded.", None, JSON),
    ("get", "/v1/files/{file_id}", "get_file", "What is known of a file.", None, JSON),
    ("delete", "/v1/files/{file_id}", "delete_file", "Delete a file.", None, JSON),
    ("get", "/v1/files/{file_id}/content", "get_file_content", "A file's bytes.", None, "application/octet-stream"),
)
STREAMED = ("create_chat_completion", "create_response")
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
FILE_ID = {"name": "file_id", "in": "path", "required": True, "schema": TEXT}
REQUEST_ID = {
    "name": "X-Request-ID",
    "in": "header",
    "description": "Names the request in the log and in its reply; the gateway makes one where none comes.",
    "schema": {**TEXT, "pattern": "^[!-~]{1,128}$"},
}


def describe(deployments: Iterable[Deployment], *, root_path: str = "") -> dict[str, Any]:
    """The document for what serves now. `root_path`: the prefix under which clients reach the server."""
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {"Error": ERROR, "OpenAIError": OPENAI_ERROR, "Status": STATUS, "Wrapper": WRAPPER}
    for deployment in sorted(deployments, key=lambda deployment: deployment.name):
        method = deployment.methods.get("run_api")
        if method is not None and method.signature is not None:
            paths[f"/{deployment.name}/run"] = {"post": _run_operation(deployment.name, method.signature, schemas)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Haystack Gateway", "version": __version__, "description": ABOUT},
        "servers": [{"url": f"/{root_path.strip('/')}"}],
        "tags": [{"name": "wrappers"}, {"name": "openai"}, {"name": "gateway"}],
        "paths": {**paths, **_openai_paths(), **_gateway_paths()},
        "components": {
            "schemas": schemas,
            "responses": {
                component: _reply(text, {"$ref": "#/components/schemas/Error"}, is_later=is_later)
                for component, text, is_later in ERRORS.values()
            },
            "parameters": {"Name": NAME, "FileID": FILE_ID, "RequestID": REQUEST_ID},
            "headers": {
                "RequestID": {"description": "Names the request in the log.", "schema": TEXT},
                "RetryAfter": {"description": "Seconds to wait.", "schema": {"type": "integer"}},
            },
        },
    }


def _openai_paths() -> dict[str, Any]:
    paths: dict[str, Any] = {}
    error = {"$ref": "#/components/schemas/OpenAIError"}
    for method, path, operation_id, summary, request, media_type in OPENAI_PATHS:
        success = _reply("OK", OBJECT if media_type == JSON else FILE, media_type)
        if operation_id in STREAMED:
            success["content"]["text/event-stream"] = {"schema": TEXT}
        operation: dict[str, Any] = {
            "operationId": operation_id,
            "tags": ["openai"],
            "summary": summary,
            "responses": {
                "200": success,
                **{status: _reply(text, error) for status, text in OPENAI_ERRORS.items()},
            },
        }
        if request is not None:
            operation["requestBody"] = {"required": True, "content": {request[0]: {"schema": request[1]}}}
        named = [name for key, name in (("{name}", "Name"), ("{file_id}", "FileID")) if key in path]
        if named:
            operation["parameters"] = [{"$ref": f"#/components/parameters/{name}"} for name in named]
        paths.setdefault(path, {})[method] = operation
    return paths


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
    arguments = hoist(f"{name}.", signature.schema, schemas)
    result = hoist(f"{name}.result.", signature.result_schema, schemas)
    if signature.result_kind == "json":
        result = _object({"result": result})
    elif signature.media_type.startswith("text/"):
        result = TEXT
    component = f"{name}.run.arguments"  # a model's key has one dot, or `result` between its two
    schemas[component] = arguments
    examples = fitting(signature.schema, signature.schema.get("$defs", {}))
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
    schema: dict[str, Any] = {"type": "array", "items": FILE} if is_list else {**FILE}
    return {**schema, "description": description} if description else schema
