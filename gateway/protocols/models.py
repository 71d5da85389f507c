"""Models (OpenAI's OpenAPI document 2.3.0, read November 2026): the wrappers that answer an OpenAI endpoint."""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

OWNER = "haystack"
CAPABILITIES: Mapping[str, AbstractSet[str]] = {  # by the methods of which one is enough
    "chat": {"run_chat_completion"},
    "responses": {"run_response", "run_chat_completion"},
    "embeddings": {"run_embedding"},
}


def capabilities(methods: AbstractSet[str]) -> list[str]:
    return [name for name, enough in CAPABILITIES.items() if not enough.isdisjoint(methods)]


def model(name: str, created: float, methods: AbstractSet[str]) -> dict[str, Any]:
    """`capabilities` is ours. `created`: Unix time in seconds of the load."""
    return {
        "id": name,
        "object": "model",
        "created": int(created),
        "owned_by": OWNER,
        "capabilities": capabilities(methods),
    }


def models(each: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {"object": "list", "data": list(each)}
