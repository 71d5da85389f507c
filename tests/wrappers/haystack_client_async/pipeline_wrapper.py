"""As `haystack_client`, on the event loop."""

import asyncio
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
    async_streaming_generator,
    chat_messages_from_openai,
    chat_messages_from_openai_response,
)

GENERATORS = {"chat": OpenAIChatGenerator, "responses": OpenAIResponsesChatGenerator}


class PipelineWrapper(BasePipelineWrapper):
    loop: asyncio.AbstractEventLoop | None = None

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
        """On the loop that the clients belong to."""
        for pipeline in (*self.pipelines.values(), self.texts, self.documents) if self.loop is not None else ():
            asyncio.run_coroutine_threadsafe(pipeline.close_async(), self.loop).result()

    async def run_chat_completion_async(self, model: str, messages: list[dict], body: dict) -> Any:
        return await self._reply("chat", chat_messages_from_openai(messages), body)

    async def run_response_async(self, model: str, input_items: list[dict], body: dict) -> Any:
        return await self._reply("responses", chat_messages_from_openai_response(input_items), body)

    async def _reply(self, kind: str, messages: list[ChatMessage], body: dict) -> Any:
        self.loop = asyncio.get_running_loop()
        pipeline, settings = self.pipelines[kind], pick(body)
        if body["metadata"]["inside"] == "streamed":
            if kind == "chat":
                settings["stream_options"] = {"include_usage": True}
            data = {"llm": {"messages": messages, "generation_kwargs": settings}}
            return async_streaming_generator(pipeline, pipeline_run_args=data)
        try:
            return await pipeline.run_async({"llm": {"messages": messages, "generation_kwargs": settings}})
        except PipelineRuntimeError as error:
            if isinstance(error.__cause__, openai.APIStatusError):
                raise HTTPException(error.__cause__.status_code, error.__cause__.body["message"]) from error
            raise

    async def run_embedding_async(self, model: str, inputs: list[str], body: dict) -> Any:
        self.loop = asyncio.get_running_loop()
        if len(inputs) == 1:
            return await self.texts.run_async({"text": inputs[0]})
        return await self.documents.run_async({"documents": [Document(content=text) for text in inputs]})

    async def run_api_async(self, kind: str, query: str, is_streamed: bool = False) -> dict[str, Any]:
        self.loop = asyncio.get_running_loop()
        chunks: list[str] = []

        async def keep(chunk: Any) -> None:
            chunks.append(chunk.content)

        data: dict[str, Any] = {"messages": [ChatMessage.from_user(query)]}
        if is_streamed:
            data["streaming_callback"] = keep
            data["generation_kwargs"] = {"stream_options": {"include_usage": True}} if kind == "chat" else {}
        result = await self.pipelines[kind].run_async({"llm": data})
        (reply,) = result["llm"]["replies"]
        return {"reply": reply, "chunks": [chunk for chunk in chunks if chunk]}


def one(name: str, component: Any) -> Pipeline:
    pipeline = Pipeline()
    pipeline.add_component(name, component)
    return pipeline


def pick(body: dict) -> dict[str, Any]:
    return {key: body[key] for key in ("tools", "temperature", "reasoning") if key in body}
