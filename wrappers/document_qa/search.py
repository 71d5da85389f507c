"""The pipeline's two own steps: search in the passages that the request brought, and pick a sentence of them."""

from typing import Any

from haystack import Document, component
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
from haystack.document_stores.in_memory import InMemoryDocumentStore

from .answer import best_sentence, is_complete, key_terms, sentences, squeeze, stem, words


@component
class PassageSearch:
    """BM25 over the passages of one request."""

    @component.output_types(documents=list[Document], found_nothing=bool)
    def run(self, passages: list[Document], query: str, top_k: int) -> dict[str, Any]:
        """The best `top_k` passages. When none matches there are no `documents`, so that no later step runs.

        A query of stop words only ("What is this?") gets the beginning of each file.
        """
        terms = key_terms(query)
        passages = sorted(passages, key=lambda passage: passage.meta["number"])  # equal scores: the first file
        if not terms:
            found = [passage for passage in passages if passage.meta["split_id"] == 0][:top_k]
        else:
            found = _search(passages, terms, top_k)
        return {"documents": found} if found else {"found_nothing": True}


def _search(passages: list[Document], terms: frozenset[str], top_k: int) -> list[Document]:
    # A shared store would stay in the process for good; this one goes with the request.
    store = InMemoryDocumentStore(shared=False)
    try:
        store.write_documents(passages)
        # BM25 compares whole words: ask for every word of these files that has a stem of the query. Names out of code
        # (`stream_buffer`) are rare, and so would outweigh all words.
        vocabulary = {token for passage in passages for token in store.tokenizer((passage.content or "").lower())}
        asked = (token for token in vocabulary if "_" not in token and terms.intersection(map(stem, words(token))))
        query = " ".join(sorted(asked))
        if not query:
            return []
        found: list[Document] = InMemoryBM25Retriever(store, top_k=len(passages)).run(query=query)["documents"]
        # First what speaks of all that is asked about, in BM25's order.
        return sorted(found, key=lambda passage: -len(terms.intersection(map(stem, words(passage.content or "")))))[
            :top_k
        ]
    finally:
        store.shutdown()


@component
class SentencePicker:
    """Answers without a model: with a sentence of the found passages, word for word as it stands in its file."""

    @component.output_types(sentence=str | None, name=str | None)
    def run(
        self, passages: list[Document], documents: list[Document], query: str, markdown: dict[int, str]
    ) -> dict[str, Any]:
        """The best sentence and its file's name; None when the files hold code or tables only.

        `documents`: the files as converted. `markdown`: by file number, what the converter has taken the markup from.
        """
        sources = {file.meta["number"]: file.content or "" for file in documents} | markdown
        squeezed = {
            number: {sentence: squeeze(sentence) for sentence in sentences(sources[number])}
            for number in {passage.meta["number"] for passage in passages}
        }
        terms = key_terms(query)
        names: dict[str, str] = {}  # sentence -> file, sentences of better passages first
        for passage in passages:
            content = squeeze(passage.content or "")
            for sentence, letters in squeezed[passage.meta["number"]].items():
                if letters and letters in content:
                    names.setdefault(sentence, passage.meta["name"])
        picked = best_sentence(terms, names)
        if picked is None or not is_complete(picked):
            # The passages are code, or cut the sentence in two: look in their whole files.
            for passage in passages:
                for sentence in squeezed[passage.meta["number"]]:
                    names.setdefault(sentence, passage.meta["name"])
            picked = best_sentence(terms, names)
        return {"sentence": picked, "name": None if picked is None else names[picked]}
