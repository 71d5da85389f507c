"""A chat only: no `run_api`."""

from collections.abc import Generator

from hayhooks import BasePipelineWrapper, get_last_user_message, streaming_generator
from haystack import Pipeline
from haystack.components.builders import ChatPromptBuilder
from haystack.components.generators.chat import MockChatGenerator
from haystack.dataclasses import ChatMessage


class PipelineWrapper(BasePipelineWrapper):
    def setup(self) -> None:
        self.pipeline = Pipeline()
        template = [ChatMessage.from_user("You asked: {{ query }}")]
        self.pipeline.add_component("prompt", ChatPromptBuilder(template=template, required_variables="*"))
        self.pipeline.add_component("llm", MockChatGenerator())
        self.pipeline.connect("prompt", "llm")

    def run_chat_completion(self, model: str, messages: list[dict], body: dict) -> str | Generator:
        return streaming_generator(
            pipeline=self.pipeline,
            pipeline_run_args={"prompt": {"query": get_last_user_message(messages)}},
        )
