"""Agents whose model is another wrapper, at `REMOTE_URL`. Their tool runs here."""

import os
from typing import Annotated, Any

from haystack.components.agents import Agent
from haystack.components.generators.chat import OpenAIChatGenerator, OpenAIResponsesChatGenerator
from haystack.tools import tool
from haystack.utils import Secret

from gateway import (
    BasePipelineWrapper,
    chat_messages_from_openai,
    chat_messages_from_openai_response,
    current_run,
    streaming_generator,
)
from tests import probe

GENERATORS = {"chat": OpenAIChatGenerator, "responses": OpenAIResponsesChatGenerator}


@tool
def add(a: Annotated[int, "one number"], b: Annotated[int, "another"]) -> str:
    """Add two numbers."""
    probe.current.note((current_run().wrapper, a, b))
    return str(a + b)


class PipelineWrapper(BasePipelineWrapper):
    def setup(self) -> None:
        remote: dict[str, Any] = {
            "model": "haystack_model",
            "api_base_url": os.environ.get("REMOTE_URL", "http://127.0.0.1:1416/v1"),
            "api_key": Secret.from_token("none"),
            "max_retries": 0,
        }
        self.agents = {
            kind: Agent(chat_generator=generator(**remote), tools=[add]) for kind, generator in GENERATORS.items()
        }

    def close(self) -> None:
        for agent in self.agents.values():
            agent.close()

    def run_chat_completion(self, model: str, messages: list[dict], body: dict) -> Any:
        counting = {"stream_options": {"include_usage": True}}
        arguments = {"messages": chat_messages_from_openai(messages), "generation_kwargs": counting}
        return self._reply("chat", arguments, body)

    def run_response(self, model: str, input_items: list[dict], body: dict) -> Any:
        return self._reply("responses", {"messages": chat_messages_from_openai_response(input_items)}, body)

    def _reply(self, kind: str, arguments: dict[str, Any], body: dict) -> Any:
        if body.get("stream"):
            return streaming_generator(self.agents[kind], pipeline_run_args=arguments)
        return self.agents[kind].run(**arguments)
