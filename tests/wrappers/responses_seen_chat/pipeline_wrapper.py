"""Says what its chat method was called with."""

import json

from gateway import BasePipelineWrapper


class PipelineWrapper(BasePipelineWrapper):
    async def run_chat_completion_async(self, model, messages, body):
        return json.dumps({"model": model, "messages": messages, "body": body})
