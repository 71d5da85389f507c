"""Says what it was called with."""

import json

from gateway import BasePipelineWrapper


class PipelineWrapper(BasePipelineWrapper):
    async def run_response_async(self, model, input_items, body, headers):
        return json.dumps({"model": model, "input_items": input_items, "body": body, "mine": headers.get("x-mine")})
