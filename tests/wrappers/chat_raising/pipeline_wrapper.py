"""Raises what the request's metadata say, where they say: in the method, or from a generator, at first or later."""

from collections.abc import Iterator
from typing import Any

from gateway import BasePipelineWrapper
from tests.openai.faults import FAULTS


class PipelineWrapper(BasePipelineWrapper):
    def run_chat_completion(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> Any:
        what, where = body["metadata"]["what"], body["metadata"]["where"]
        if where == "method":
            raise FAULTS[what]
        return stream(what, where)


def stream(what: str, where: str) -> Iterator[Any]:
    if where == "later":
        yield "one "
        yield "two "
    if what == "object":
        yield object()
    raise FAULTS[what]
