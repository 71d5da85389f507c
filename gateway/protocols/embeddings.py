"""Embeddings (OpenAI's OpenAPI document 2.3.0, read November 2026)."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from struct import pack
from typing import Any

from gateway.errors import InvalidRequest
from gateway.protocols.delta import Usage
from gateway.protocols.openai import OpenAIEncoder, read_field, read_model, read_object
from gateway.protocols.result import read_usage
from gateway.protocols.run import encode_json

MAX_INPUTS = 2048  # OpenAI's own bound
_LISTS = ("embeddings", "documents", "data")  # plain, a document embedder's, OpenAI's
_VECTORS = frozenset({"embedding", *_LISTS})
EXPECTED = "a list of vectors, one for each input, or what Haystack's embedders give"


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    model: str
    inputs: list[str]
    body: dict[str, Any]
    is_base64: bool

    @property
    def arguments(self) -> dict[str, Any]:
        return {"model": self.model, "inputs": self.inputs, "body": self.body}


def parse(data: Any) -> EmbeddingRequest:
    """Raises `InvalidRequest` (400) with the field at fault."""
    body = read_object(data)
    model = read_model(body, None)
    given = read_field(body, "input", str, list, is_required=True)
    inputs = [given] if isinstance(given, str) else given
    if not 0 < len(inputs) <= MAX_INPUTS:
        message = f"input must hold from 1 to {MAX_INPUTS} texts, not {len(inputs)}"
        raise InvalidRequest(message, param="input", code="invalid_value")
    if not all(isinstance(text, str) for text in inputs):
        message = "input must be a string or an array of strings; arrays of tokens are not supported: send the text"
        raise InvalidRequest(message, param="input", code="invalid_type")
    encoding = read_field(body, "encoding_format", str, default="float")
    if encoding not in ("float", "base64"):
        message = f"encoding_format must be float or base64, not {encoding}"
        raise InvalidRequest(message, param="encoding_format", code="invalid_value")
    dimensions = read_field(body, "dimensions", int)
    if dimensions is not None and dimensions < 1:
        raise InvalidRequest("dimensions must be at least 1", param="dimensions", code="invalid_value")
    return EmbeddingRequest(model, inputs, body, encoding == "base64")


class EmbeddingWhole(OpenAIEncoder):
    """The one reply there is. Raises TypeError or ValueError for a result that is not one vector for each input."""

    def __init__(self, request: EmbeddingRequest) -> None:
        self._request = request
        self._vectors: list[Any] = []
        self._usage = Usage()

    def whole(self, value: Any) -> bytes:
        return self.feed(value) + self.finish()

    def feed(self, chunk: Any) -> bytes:
        """A generator may give them in parts."""
        vectors, usage = _read(chunk)
        self._vectors += vectors
        self._usage += usage
        return b""

    def finish(self, result: Any = None) -> bytes:
        expected = len(self._request.inputs)
        if len(self._vectors) != expected:
            raise ValueError(f"{len(self._vectors)} vectors were given for {expected} inputs: return {EXPECTED}")
        encode_one = _to_base64 if self._request.is_base64 else _to_floats
        data = [
            {"object": "embedding", "index": index, "embedding": encode_one(vector)}
            for index, vector in enumerate(self._vectors)
        ]
        usage = {"prompt_tokens": self._usage.input, "total_tokens": self._usage.total}
        return encode_json({"object": "list", "data": data, "model": self._request.model, "usage": usage})


def _read(result: Any) -> tuple[Sequence[Any], Usage]:
    if hasattr(result, "model_dump"):
        result = result.model_dump(mode="json")
    if not isinstance(result, Mapping):
        return _to_vectors(result), Usage()
    meta = result.get("meta")
    usage = read_usage(result.get("usage") or (meta.get("usage") if isinstance(meta, Mapping) else None))
    if result.get("embedding") is not None:  # a text embedder's
        return [result["embedding"]], usage
    for key in _LISTS:
        if result.get(key) is not None:
            return _to_vectors(result[key]), usage
    parts = [part for part in result.values() if isinstance(part, Mapping) and _VECTORS & part.keys()]
    if parts:  # a pipeline's: the last component that has vectors is heard
        return _read(parts[-1])
    raise TypeError(f"embeddings cannot be made of a mapping with the keys {', '.join(map(str, result))}: {EXPECTED}")


def _to_vectors(values: Any) -> list[Any]:
    if not isinstance(values, Sequence) and not hasattr(values, "__array__"):
        raise TypeError(f"embeddings cannot be made of {type(values).__name__}: return {EXPECTED}")
    return [_to_vector(value) for value in values]


def _to_vector(value: Any) -> Any:
    if isinstance(value, Mapping):
        return value["embedding"]
    return value.embedding if hasattr(value, "embedding") else value


def _to_floats(vector: Any) -> list[float]:
    """Raises TypeError or ValueError for what is no vector of finite numbers."""
    if isinstance(vector, str | bytes) or not hasattr(vector, "__iter__"):
        raise TypeError(f"a vector cannot be made of {type(vector).__name__}: return {EXPECTED}")
    numbers = [float(number) for number in vector]
    if not numbers or not all(map(isfinite, numbers)):
        raise ValueError(f"a vector must hold finite numbers, and some: return {EXPECTED}")
    return numbers


def _to_base64(vector: Any) -> str:
    """32-bit floats, the low byte first."""
    numbers = _to_floats(vector)
    return b64encode(pack(f"<{len(numbers)}f", *numbers)).decode()
