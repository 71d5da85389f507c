"""Raises what it is told to, in code that is not async: from the method itself, or from a generator."""

import asyncio
from collections.abc import Iterator
from typing import Any

from starlette.exceptions import HTTPException

from gateway import BasePipelineWrapper, SSEStream
from gateway.errors import GatewayError, InvalidArguments, Unavailable

ERRORS: dict[str, BaseException] = {
    "value": ValueError("the password is hunter2"),
    "exit": SystemExit(3),
    "interrupt": KeyboardInterrupt(),
    "stop": StopIteration(),
    "stop async": StopAsyncIteration(),
    "generator exit": GeneratorExit(),
    "cancelled": asyncio.CancelledError(),
    "timeout": TimeoutError(),
    "base": BaseException("odd"),
    "arguments": InvalidArguments("top_k must be smaller than 10"),
    "unavailable": Unavailable("the index is being built", retry_after_s=7),
    "gateway": GatewayError("the index is broken"),
    "teapot": HTTPException(418, "I am a teapot", headers={"X-Tea": "green"}),
    "unknown status": HTTPException(460, "an odd status"),
}


class PipelineWrapper(BasePipelineWrapper):
    def run_api(self, what: str, where: str = "method"):
        if where == "method":
            raise ERRORS[what]
        return SSEStream(self.stream(what, where)) if where.startswith("events") else self.stream(what, where)

    def stream(self, what: str, where: str) -> Iterator[Any]:
        if where.endswith("later"):
            yield "first"
        raise ERRORS[what]
