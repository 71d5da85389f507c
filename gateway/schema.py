"""JSON Schemas (2020-12) as pydantic writes them: moved into an OpenAPI document, and examples that fit them."""

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

Schema = Mapping[str, Any]

DEFINITIONS = "#/$defs/"
HOLD_SCHEMAS = frozenset(
    {"additionalProperties", "allOf", "anyOf", "contains", "contentSchema", "else", "if", "items", "not", "oneOf"}
    | {"prefixItems", "propertyNames", "then", "unevaluatedItems", "unevaluatedProperties"}
)
NAME_SCHEMAS = frozenset({"dependentSchemas", "patternProperties", "properties"})


def hoist(prefix: str, schema: Schema, schemas: dict[str, Any]) -> dict[str, Any]:
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


def _admits(schema: Any, value: Any, definitions: Schema) -> bool:
    from jsonschema import Draft202012Validator  # 70 ms at start, for whoever asks for the document

    whole = {**schema, "$defs": definitions} if isinstance(schema, Mapping) else schema
    return bool(Draft202012Validator(whole).is_valid(value))


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


def fitting(schema: Any, definitions: Schema, depth: int = 0) -> Iterator[Any]:
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
        yield from fitting(choice, definitions, depth)
    if "type" in schema:
        yield from _of_type(schema, definitions, depth)
    elif not schema.keys() & {"const", "enum", "$ref", "anyOf", "oneOf", "allOf"}:
        yield "text"


def _of_type(schema: Schema, definitions: Schema, depth: int) -> Iterator[Any]:
    def first(inner: Any) -> list[Any]:
        return list(islice(fitting(inner, definitions, depth), 1))

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
