"""One reply's chunks, down to what its client is to see."""

from collections.abc import Iterable
from typing import Any

from gateway.protocols.delta import Content, Delta, Event, Finish, Item, Spent, Text, ToolCall, ToolResult, Usage
from gateway.protocols.result import read, read_result


class Reader:
    """Reads the chunks of one reply, or its whole result, down to what a client is to see.

    `choices`: as many as the request asked for; others are left out. `passes_tool_calls`: a call goes on as it comes.
    Else it is held back until the end, because a result may still follow: then it was answered here, and is dropped.
    """

    def __init__(self, *, choices: int = 1, passes_tool_calls: bool = False) -> None:
        self.passes_tool_calls = passes_tool_calls
        self.is_empty = True
        self.choices = choices
        self._usages: dict[str | None, list[Usage]] = {}
        self._reasons: dict[int, str] = {}
        self._calls: dict[tuple[int, str | None, int], ToolCall] = {}
        self._called: dict[int, int] = {}
        self._held: list[ToolCall] = []

    @property
    def usage(self) -> Usage:
        return sum((usage for usages in self._usages.values() for usage in usages), Usage())

    def finish_reason(self, choice: int = 0) -> str:
        """`tool_calls` says that the client is to do something: it stands where there are calls, and only there."""
        reason = self._reasons.get(choice, "stop")
        if choice in self._called and reason == "stop":
            return "tool_calls"
        return "stop" if reason == "tool_calls" and choice not in self._called else reason

    def read(self, value: Any) -> list[Content]:
        """Raises TypeError for what no reply can be made of."""
        if type(value) is str:
            self.is_empty = False
            return [Text(value)] if value else []
        return self._take(read(value))

    def end(self, result: Any = None) -> list[Content]:
        """What was held back. `result`: of the run, heard when no chunk said anything, and for its token counts.

        Raises TypeError when no reply can be made of it, and nothing else has been said.
        """
        is_silent = self.is_empty and not self._held
        try:
            deltas = list(read_result(result))
        except TypeError:
            if is_silent:
                raise
            deltas = []
        content = self._take(delta for delta in deltas if not isinstance(delta, Spent)) if is_silent else []
        spent = sum((delta.usage for delta in deltas if isinstance(delta, Spent)), Usage())
        if spent.total >= self.usage.total:  # else it does not hold every call that the chunks have shown
            self._usages = {None: [spent]}
        content += [self._number(call) for call in self._held]
        self._held = []
        return content

    def _take(self, deltas: Iterable[Delta]) -> list[Content]:
        content: list[Content] = []
        for delta in deltas:
            if isinstance(delta, Spent):
                self._count(delta)
            elif isinstance(delta, ToolResult):
                self._held = []
            elif isinstance(delta, Event):
                content.append(delta)
            elif delta.choice >= self.choices:
                pass
            elif isinstance(delta, Finish):
                self._reasons[delta.choice] = delta.reason
            elif not isinstance(delta, ToolCall):
                self.is_empty = False
                if isinstance(delta, Item) or delta.text:
                    content.append(delta)
            elif self.passes_tool_calls:
                self.is_empty = False
                content.append(self._number(delta))
            else:
                self._held.append(delta)
        return content

    def _count(self, spent: Spent) -> None:
        """A provider that counts as it goes repeats what went in: its last count is the one that holds."""
        usages = self._usages.setdefault(spent.source, [])
        if usages and usages[-1].input == spent.usage.input:
            usages.pop()
        usages.append(spent.usage)

    def _number(self, call: ToolCall) -> ToolCall:
        """Several components, or one that ran twice, count their calls from 0 each."""
        key = (call.choice, call.source, call.number)
        known = self._calls.get(key)
        if known is None or (call.id and known.id and call.id != known.id):
            number = self._called.get(call.choice, 0)
            self._called[call.choice] = number + 1
            self._calls[key] = call._replace(number=number)
            return self._calls[key]
        name = None if known.name else call.name  # some say it again with every piece
        self._calls[key] = known._replace(name=known.name or name)
        return call._replace(number=known.number, id=None, name=name, is_first=False)
