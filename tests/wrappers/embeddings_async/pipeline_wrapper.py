"""As `embeddings_kinds`, with the async method and async generators."""

import asyncio
from inspect import isgenerator

from gateway import BasePipelineWrapper
from tests.wrappers.embeddings_kinds.kinds import KINDS


async def iterate(values):
    for value in values:
        await asyncio.sleep(0)
        yield value


class PipelineWrapper(BasePipelineWrapper):
    def run_embedding(self, model, inputs, body):
        raise AssertionError("the async method is preferred")

    async def run_embedding_async(self, model, inputs, body):
        value = KINDS[body.get("user", "lists")](inputs)
        return iterate(value) if isgenerator(value) else value
