"""Pipelines whose model is another wrapper, at `REMOTE_URL`: with every client of OpenAI that Haystack has."""

import os
from typing import Any

import openai
from haystack import Pipeline
from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder
from haystack.components.generators.chat import OpenAIChatGenerator, OpenAIResponsesChatGenerator
from haystack.core.errors import PipelineRuntimeError
from haystack.dataclasses import ChatMessage, Document
from haystack.utils import Secret
from starlette.exceptions import HTTPException

from gateway import (
    BasePipelineWrapper,
    chat_messages_from_openai,
    chat_messages_from_openai_response,
    streaming_generator,
)

GENERATORS = {"chat": OpenAIChatGenerator, "responses": OpenAIResponsesChatGenerator}


class PipelineWrapper(BasePipelineWrapper):
    def setup(self) -> None:
        remote: dict[str, Any] = {
            "model": "haystack_model",
            "api_base_url": os.environ.get("REMOTE_URL", "http://127.0.0.1:1416/v1"),
            "api_key": Secret.from_token("none"),
            "max_retries": 0,
        }
        self.pipelines = {kind: one("llm", generator(**remote)) for kind, generator in GENERATORS.items()}
        self.texts = one("embedder", OpenAITextEmbedder(**remote))
        self.documents = one("embedder", OpenAIDocumentEmbedder(**remote, progress_bar=False, raise_on_failure=True))

    def close(self) -> None:
        for pipeline in (*self.pipelines.values(), self.texts, self.documents):
            pipeline.close()

    def run_chat_completion(self, model: str, messages: list[dict], body: dict) -> Any:
        return self._reply("chat", chat_messages_from_openai(messages), body)

    def run_response(self, model: str, input_items: list[dict], body: dict) -> Any:
        return self._reply("responses", chat_messages_from_openai_response(input_items), body)

    def _reply(self, kind: str, messages: list[ChatMessage], body: dict) -> Any:
        """`metadata.inside` says whether the model is to stream, whatever this wrapper's own caller wants."""
        pipeline, settings = self.pipelines[kind], pick(body)
        if body["metadata"]["inside"] == "streamed":
            if kind == "chat":
                settings["stream_options"] = {"include_usage": True}
            data = {"llm": {"messages": messages, "generation_kwargs": settings}}
            return streaming_generator(pipeline, pipeline_run_args=data)
        try:
            return pipeline.run({"llm": {"messages": messages, "generation_kwargs": settings}})
        except PipelineRuntimeError as error:
            if isinstance(error.__cause__, openai.APIStatusError):  # the model's own refusal is the caller's to see
                raise HTTPException(error.__cause__.status_code, error.__cause__.body["message"]) from error
            raise

    def run_embedding(self, model: str, inputs: list[str], body: dict) -> Any:
        if len(inputs) == 1:
            return self.texts.run({"text": inputs[0]})
        return self.documents.run({"documents": [Document(content=text) for text in inputs]})

    def run_api(self, kind: str, query: str, is_streamed: bool = False) -> dict[str, Any]:
        """The message as the pipeline gets it, and the chunks it came in."""
        chunks: list[str] = []
        data: dict[str, Any] = {"messages": [ChatMessage.from_user(query)]}
        if is_streamed:
            data["streaming_callback"] = lambda chunk: chunks.append(chunk.content)
            data["generation_kwargs"] = {"stream_options": {"include_usage": True}} if kind == "chat" else {}
        (reply,) = self.pipelines[kind].run({"llm": data})["llm"]["replies"]
        return {"reply": reply, "chunks": [chunk for chunk in chunks if chunk]}


def one(name: str, component: Any) -> Pipeline:
    pipeline = Pipeline()
    pipeline.add_component(name, component)
    return pipeline


def pick(body: dict) -> dict[str, Any]:
    """What of the caller's request is the model's to heed."""
    return {key: body[key] for key in ("tools", "temperature", "reasoning") if key in body}
