"""An agent with a calculator: driven by a model when the environment names one, else by a few rules."""

from haystack.components.agents import Agent
from haystack.components.generators.chat import MockChatGenerator
from haystack.dataclasses import ChatMessage, ToolCall
from haystack.tools import ToolsType, create_tool_from_function, flatten_tools_or_toolsets

from gateway import BasePipelineWrapper

from .calculator import calculate, read_sum
from .model import chat_generator


class PipelineWrapper(BasePipelineWrapper):
    def setup(self) -> None:
        self.agent = Agent(
            chat_generator=chat_generator() or MockChatGenerator(response_fn=stand_in),
            tools=[create_tool_from_function(calculate)],
            system_prompt="Use the tool for every calculation. Answer with its result.",
            max_agent_steps=8,
        )
        self.agent.warm_up()

    def run_api(self, question: str) -> str:
        """Answer a question about two numbers.

        Args:
            question: For example: What is 6 * 7?
        """
        result = self.agent.run(messages=[ChatMessage.from_user(question)])
        return result["last_message"].text or ""

    def close(self) -> None:
        self.agent.close()


def stand_in(messages: list[ChatMessage], tools: ToolsType | None) -> str | ChatMessage:
    """Does what a model would: calls the tool for a question, and repeats the tool's result."""
    last = messages[-1]
    if last.tool_call_result is not None:
        return str(last.tool_call_result.result)
    arguments = read_sum(last.text or "")
    names = [tool.name for tool in flatten_tools_or_toolsets(tools)]
    if arguments is None or calculate.__name__ not in names:
        return "I can only calculate with two numbers: ask me what 6 * 7 is."
    return ChatMessage.from_assistant(tool_calls=[ToolCall(calculate.__name__, arguments)])
