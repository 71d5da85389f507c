"""Questions about uploaded files: text, Markdown and PDF, each request with its own, nothing is kept."""

from typing import Any

from haystack import Pipeline
from haystack.components.builders import ChatPromptBuilder
from haystack.components.converters import MarkdownToDocument, PyPDFToDocument, TextFileToDocument
from haystack.components.joiners import DocumentJoiner
from haystack.components.preprocessors import DocumentSplitter
from haystack.components.routers import FileTypeRouter
from haystack.dataclasses import ChatMessage

from gateway import BasePipelineWrapper, UploadFile

from .model import chat_generator
from .search import PassageSearch, SentencePicker
from .upload import MARKDOWN, PDF, TEXT, read_uploads

PROMPT = """Answer the question in one or two sentences, from these passages only.

{% for passage in documents %}{{ passage.meta.name }}:
{{ passage.content }}

{% endfor %}Question: {{ query }}"""


class PipelineWrapper(BasePipelineWrapper):
    def setup(self) -> None:
        pipeline = Pipeline()
        pipeline.add_component("router", FileTypeRouter(mime_types=[TEXT, MARKDOWN, PDF]))
        pipeline.add_component("text", TextFileToDocument())
        pipeline.add_component("markdown", MarkdownToDocument(progress_bar=False))
        pipeline.add_component("pdf", PyPDFToDocument())
        pipeline.add_component("documents", DocumentJoiner(sort_by_score=False))
        pipeline.add_component("splitter", DocumentSplitter(split_by="word", split_length=50, split_overlap=15))
        pipeline.add_component("search", PassageSearch())
        for mime_type, converter in ((TEXT, "text"), (MARKDOWN, "markdown"), (PDF, "pdf")):
            pipeline.connect(f"router.{mime_type}", f"{converter}.sources")
            pipeline.connect(f"{converter}.documents", "documents.documents")
        pipeline.connect("documents", "splitter")
        pipeline.connect("splitter", "search")

        llm = chat_generator()
        if llm is None:
            pipeline.add_component("picker", SentencePicker())
            pipeline.connect("search.documents", "picker.passages")
            pipeline.connect("documents.documents", "picker.documents")
        else:
            template = [ChatMessage.from_user(PROMPT)]
            pipeline.add_component("prompt", ChatPromptBuilder(template=template, required_variables="*"))
            pipeline.add_component("llm", llm)
            pipeline.connect("search.documents", "prompt.documents")
            pipeline.connect("prompt", "llm")
        pipeline.warm_up()
        self.pipeline = pipeline
        self.has_model = llm is not None

    def run_api(self, files: list[UploadFile], query: str, top_k: int = 3) -> str:
        """Answer a question from the uploaded files.

        Args:
            files: Text, Markdown or PDF files.
            query: The question.
            top_k: How many passages to read for the answer.

        Returns:
            The answer, and in brackets the file it comes from.
        """
        if not files:
            return "There is no file to search: upload at least one."
        uploads = read_uploads(files)
        inputs: dict[str, Any] = {
            "router": {"sources": uploads},
            "search": {"query": query, "top_k": max(1, top_k)},
        }
        if self.has_model:
            inputs["prompt"] = {"query": query}
        else:
            markdown = {file.meta["number"]: file.data.decode() for file in uploads if file.mime_type == MARKDOWN}
            inputs["picker"] = {"query": query, "markdown": markdown}
        result = self.pipeline.run(inputs, include_outputs_from={"documents", "search"})

        if "llm" in result:
            names = dict.fromkeys(passage.meta["name"] for passage in result["search"]["documents"])
            return f"{result['llm']['replies'][0].text} ({', '.join(names)})"
        if "picker" in result and result["picker"]["sentence"]:
            return f"{result['picker']['sentence']} ({result['picker']['name']})"
        return _no_answer(uploads, result)

    def close(self) -> None:
        self.pipeline.close()


def _no_answer(uploads: list[Any], result: dict[str, Any]) -> str:
    """Says which files were searched in vain, or why there was nothing to search in."""
    texts = {file.meta["number"]: file.content for file in result.get("documents", {}).get("documents", [])}
    searched, reasons = [], []
    for upload in uploads:
        name, number = upload.meta["name"], upload.meta["number"]
        if upload.mime_type not in (TEXT, MARKDOWN, PDF):
            reasons.append(f"{name} is not a text, Markdown or PDF file")
        elif number not in texts:
            reasons.append(f"{name} cannot be read")
        elif not (texts[number] or "").strip():
            reasons.append(f"{name} holds no text")
        else:
            searched.append(name)
    if searched:
        return f"Nothing about this in {_shorten(searched, ', ')}."
    return f"There is no text to search: {_shorten(reasons, '; ')}."


def _shorten(items: list[str], separator: str, most: int = 5) -> str:
    more = len(items) - most
    return separator.join(items[:most]) + (f" and {more} more" if more > 0 else "")
