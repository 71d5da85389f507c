"""What a wrapper may give for texts, by the request's `user`. A text's vector is its length, a half and -2."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from haystack import Document, Pipeline
from haystack.components.embedders import MockDocumentEmbedder, MockTextEmbedder
from openai.types import CreateEmbeddingResponse
from starlette.exceptions import HTTPException

USAGE = {"prompt_tokens": 6, "total_tokens": 6}


def embed(text: str) -> list[float]:
    return [len(text), 0.5, -2.0]


def embed_all(inputs: list[str]) -> list[list[float]]:
    return [embed(text) for text in inputs]


def give_parts(inputs: list[str]) -> Iterator[Any]:
    """One input at a time, each with its own tokens."""
    for text in inputs:
        yield {"embedding": embed(text), "meta": {"usage": {"prompt_tokens": 2, "total_tokens": 2}}}


def break_off(inputs: list[str]) -> Iterator[Any]:
    yield embed_all(inputs[:1])
    raise RuntimeError("the password is 1234")


def answer(inputs: list[str]) -> dict[str, Any]:
    """OpenAI's own form."""
    data = [
        {"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(embed_all(inputs))
    ]
    return {"object": "list", "model": "mine", "data": data, "usage": USAGE}


def embed_documents(inputs: list[str]) -> dict[str, Any]:
    """As the embedders of Haystack's integrations report their tokens."""
    documents = [Document(content=text, embedding=embed(text)) for text in inputs]
    return {"documents": documents, "meta": {"model": "mine", "usage": USAGE}}


def run_pipeline(inputs: list[str]) -> dict[str, Any]:
    pipeline = Pipeline()
    pipeline.add_component("embedder", MockDocumentEmbedder(embedding_fn=embed, meta={"usage": USAGE}))
    return pipeline.run({"documents": [Document(content=text) for text in inputs]})


def run_text_embedder(inputs: list[str]) -> dict[str, Any]:
    return MockTextEmbedder(embedding_fn=embed, meta={"usage": USAGE}).run(inputs[0])


def refuse(inputs: list[str]) -> None:
    raise HTTPException(409, "the index is being built")


KINDS = {
    "lists": embed_all,
    "tuples": lambda inputs: tuple(map(tuple, embed_all(inputs))),
    "array": lambda inputs: np.array(embed_all(inputs), dtype=np.float32),
    "arrays": lambda inputs: [np.array(vector, dtype=np.float64) for vector in embed_all(inputs)],
    "embeddings": lambda inputs: {"embeddings": embed_all(inputs)},
    "answer": answer,
    "SDK answer": lambda inputs: CreateEmbeddingResponse.model_validate(answer(inputs)),
    "document embedder": embed_documents,
    "documents": lambda inputs: embed_documents(inputs)["documents"],
    "pipeline": run_pipeline,
    "pipeline with others": lambda inputs: {"counter": {"count": len(inputs)}, "embedder": embed_documents(inputs)},
    "generator": give_parts,
    "text embedder": run_text_embedder,
    "text pipeline": lambda inputs: {"embedder": run_text_embedder(inputs)},
    "too few": lambda inputs: embed_all(inputs)[1:],
    "too many": lambda inputs: [*embed_all(inputs), [0.0]],
    "flat": lambda inputs: embed(inputs[0]),
    "nothing": lambda inputs: None,
    "text": lambda inputs: "vectors",
    "words": lambda inputs: [["one", "two"] for _ in inputs],
    "other": lambda inputs: {"answer": 42},
    "documents without": lambda inputs: [Document(content=text) for text in inputs],
    "raises": lambda inputs: [inputs[0][0], inputs[99]],
    "breaks off": break_off,
    "conflict": refuse,
}
