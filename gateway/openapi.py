"""The registry's snapshot as an OpenAPI 3.1 document."""

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.registry import Deployment
from gateway.signature import Signature
from gateway.version import __version__

JSON = "application/json"
ERROR_STATUSES = {
    "400": "The body cannot be read.",
    "404": "There is no such wrapper.",
    "413": "The body is too large.",
    "415": "The body is neither JSON nor a form.",
    "422": "The arguments do not fit.",
    "429": "Too many runs are waiting.",
    "500": "The wrapper failed.",
    "503": "The wrapper is loading, has failed to load, or the server is shutting down.",
    "504": "The run took too long.",
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


def describe(deployments: Iterable[Deployment], *, root_path: str = "") -> dict[str, Any]:
    """The document for what serves now. `root_path`: the prefix under which clients reach the server."""
    paths: dict[str, Any] = {path: {"get": _probe(path, summary)} for path, summary in PROBES.items()}
    schemas: dict[str, Any] = {"Error": ERROR_SCHEMA}
    for deployment in deployments:
        method = deployment.methods.get("run_api")
        if method is not None and method.signature is not None:
            paths[f"/{deployment.name}/run"] = {"post": _operation(deployment.name, method.signature, schemas)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Haystack Gateway", "version": __version__},
        "servers": [{"url": root_path or "/"}],
        "paths": paths,
        "components": {"schemas": schemas},
    }


PROBES = {
    "/status": "Every wrapper that was found, and its state.",
    "/livez": "Answers while the process lives.",
    "/readyz": "Answers 200 when every wrapper serves or has failed, 503 before.",
}


def _probe(path: str, summary: str) -> dict[str, Any]:
    content = {JSON: {"schema": {"type": "object"}}}
    responses = {"200": {"description": "OK", "content": content}}
    if path == "/readyz":
        responses["503"] = {"description": "Still loading.", "content": content}
    return {"operationId": path[1:], "tags": ["gateway"], "summary": summary, "responses": responses}


def _operation(name: str, signature: Signature, schemas: dict[str, Any]) -> dict[str, Any]:
    arguments = _hoist(name, signature.schema, schemas)
    is_required = bool(arguments.get("required")) or any(file.is_required for file in signature.files.values())
    return {
        "operationId": f"{name}_run",
        "tags": [name],
        "summary": signature.summary or f"Run {name}",
        "description": signature.description,
        "requestBody": {"required": is_required, "content": _request_content(arguments, signature)},
        "responses": {"200": _success(_hoist(name, signature.result_schema, schemas), signature), **_errors()},
    }


def _request_content(arguments: Mapping[str, Any], signature: Signature) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if not any(file.is_required for file in signature.files.values()):
        content[JSON] = {"schema": arguments}
    files = {name: _file_schema(file.is_list, file.description) for name, file in signature.files.items()}
    required = [name for name, file in signature.files.items() if file.is_required]
    form = {**arguments, "properties": {**arguments["properties"], **files}}
    if required:
        form["required"] = [*arguments.get("required", []), *required]
    content["multipart/form-data"] = {"schema": form}
    return content


def _file_schema(is_list: bool, description: str) -> dict[str, Any]:
    file = {"type": "string", "contentMediaType": "application/octet-stream"}
    schema: dict[str, Any] = {"type": "array", "items": file} if is_list else file
    return {**schema, "description": description} if description else schema


def _success(result: Mapping[str, Any], signature: Signature) -> dict[str, Any]:
    schema: Mapping[str, Any] = {"type": "string"}
    if signature.result_kind == "json":
        schema = {"type": "object", "required": ["result"], "properties": {"result": result}}
    return {"description": "The result.", "content": {signature.media_type: {"schema": schema}}}


def _errors() -> dict[str, Any]:
    content = {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {status: {"description": text, "content": content} for status, text in ERROR_STATUSES.items()}


def _hoist(owner: str, schema: Mapping[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """The schema with its `$defs` moved to the document's components, under the wrapper's name."""

    def rewrite(node: Any) -> Any:
        if isinstance(node, Mapping):
            moved = {key: rewrite(value) for key, value in node.items() if key != "$defs"}
            reference = node.get("$ref")
            if isinstance(reference, str) and reference.startswith("#/$defs/"):
                moved["$ref"] = f"#/components/schemas/{owner}.{reference.removeprefix('#/$defs/')}"
            return moved
        return [rewrite(item) for item in node] if isinstance(node, list) else node

    for name, model in schema.get("$defs", {}).items():
        schemas[f"{owner}.{name}"] = rewrite(model)
    hoisted: dict[str, Any] = rewrite(schema)
    return hoisted
