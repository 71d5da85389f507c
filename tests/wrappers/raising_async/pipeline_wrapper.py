"""Raises what it is told to, in async code: from the method itself, or from a generator."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from gateway import BasePipelineWrapper, SSEStream

ERRORS: dict[str, type[BaseException]] = {
    "value": ValueError,
    "exit": SystemExit,
    "interrupt": KeyboardInterrupt,
    "stop": StopIteration,
    "stop async": StopAsyncIteration,
    "generator exit": GeneratorExit,
    "cancelled": asyncio.CancelledError,
    "timeout": TimeoutError,
}


class PipelineWrapper(BasePipelineWrapper):
    async def run_api_async(self, what: str, where: str = "method"):
        if where == "method":
            raise ERRORS[what]
        return SSEStream(self.stream(what, where)) if where.startswith("events") else self.stream(what, where)

    def run_api(self, what: str, where: str = "method") -> str:
        return "the async method is preferred"

    async def stream(self, what: str, where: str) -> AsyncIterator[Any]:
        if where.endswith("later"):
            yield "first"
        raise ERRORS[what]
