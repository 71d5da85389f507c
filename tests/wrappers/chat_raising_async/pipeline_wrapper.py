"""As `chat_raising`, on the event loop."""

from collections.abc import AsyncIterator
from typing import Any

from gateway import BasePipelineWrapper
from tests.openai.faults import FAULTS


class PipelineWrapper(BasePipelineWrapper):
    async def run_chat_completion_async(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> Any:
        what, where = body["metadata"]["what"], body["metadata"]["where"]
        if where == "method":
            raise FAULTS[what]
        return stream(what, where)


async def stream(what: str, where: str) -> AsyncIterator[Any]:
    if where == "later":
        yield "one "
        yield "two "
    if what == "object":
        yield object()
    raise FAULTS[what]
