"""The one form between what a wrapper gives and what an OpenAI dialect sends: both are written against it alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


class Text(NamedTuple):
    text: str
    choice: int = 0


class Reasoning(NamedTuple):
    text: str
    choice: int = 0


class Refusal(NamedTuple):
    text: str
    choice: int = 0


class Item(NamedTuple):
    """An output item of the Responses API, whole, for which nothing else here has a word: a search, a custom call."""

    data: Mapping[str, Any]
    choice: int = 0


class ToolCall(NamedTuple):
    """A call, or a piece of one: `id` and `name` come with its first, `arguments` are a piece of a JSON text."""

    number: int
    id: str | None
    name: str | None
    arguments: str
    choice: int = 0
    source: str | None = None
    is_first: bool = True


class ToolResult(NamedTuple):
    """The tool calls before it have been answered here: they are not for the client."""


class Event(NamedTuple):
    """An event for a user interface (Open WebUI): no part of the reply."""

    data: Mapping[str, Any]


class Finish(NamedTuple):
    reason: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens: what went in (of it from and into a cache) and what came out (of it reasoning)."""

    input: int = 0
    output: int = 0
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.input + other.input,
            self.output + other.output,
            self.cached + other.cached,
            self.cache_write + other.cache_write,
            self.reasoning + other.reasoning,
        )

    @property
    def total(self) -> int:
        return self.input + self.output


class Spent(NamedTuple):
    """Tokens that a call of a model took. `source`: the component that called it."""

    usage: Usage
    source: str | None = None


Delta = Text | Reasoning | Refusal | Item | ToolCall | ToolResult | Event | Finish | Spent
Content = Text | Reasoning | Refusal | Item | ToolCall | Event  # what a client gets to see
