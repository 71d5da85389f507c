"""As `responses_kinds`, with the async method and async generators."""

import asyncio
from inspect import isgenerator

from gateway import BasePipelineWrapper, async_streaming_generator, get_last_user_input_text
from tests.wrappers.responses_kinds.kinds import make


async def iterate(values):
    for value in values:
        await asyncio.sleep(0)
        yield value


class PipelineWrapper(BasePipelineWrapper):
    def run_response(self, model, input_items, body):
        raise AssertionError("the async method is preferred")

    async def run_response_async(self, model, input_items, body):
        value = make(get_last_user_input_text(input_items), async_streaming_generator)
        return iterate(value) if isgenerator(value) else value
