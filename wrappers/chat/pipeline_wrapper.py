"""A streamed chat: from a model when the environment names one, else from a stand-in that repeats the question."""

from collections.abc import Iterator
from typing import Any

from haystack import Pipeline
from haystack.components.builders import ChatPromptBuilder
from haystack.components.generators.chat import MockChatGenerator
from haystack.dataclasses import ChatMessage, StreamingChunk

from gateway import BasePipelineWrapper, get_last_user_message, streaming_generator

from .model import chat_generator


class PipelineWrapper(BasePipelineWrapper):
    def setup(self) -> None:
        template = [ChatMessage.from_system("You answer in one short paragraph."), ChatMessage.from_user("{{ query }}")]
        pipeline = Pipeline()
        pipeline.add_component("prompt", ChatPromptBuilder(template=template, required_variables="*"))
        pipeline.add_component("llm", chat_generator() or MockChatGenerator(response_fn=stand_in))
        pipeline.connect("prompt", "llm")
        pipeline.warm_up()
        self.pipeline = pipeline

    def run_api(self, query: str) -> Iterator[StreamingChunk]:
        """Answer a question, word by word.

        Args:
            query: The question.
        """
        return self.reply(query)

    def run_chat_completion(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> Any:
        """Answer the last message of the user."""
        return self.reply(get_last_user_message(messages) or "")

    def reply(self, query: str) -> Any:
        return streaming_generator(pipeline=self.pipeline, pipeline_run_args={"prompt": {"query": query}})

    def close(self) -> None:
        self.pipeline.close()


def stand_in(messages: list[ChatMessage]) -> str:
    """What is said without a model."""
    return f"You asked: {messages[-1].text}"
