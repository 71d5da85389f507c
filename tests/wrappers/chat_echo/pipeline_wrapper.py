"""Answers with what it was asked, as JSON, as often as it was asked for."""

import json
from typing import Any

from starlette.datastructures import Headers

from gateway import BasePipelineWrapper


def echo(model: str, messages: list[dict[str, Any]], body: dict[str, Any], headers: Headers) -> str:
    return json.dumps({"model": model, "messages": messages, "body": body, "caller": headers.get("x-caller")})


class PipelineWrapper(BasePipelineWrapper):
    max_choices = 2

    def run_chat_completion(
        self, model: str, messages: list[dict[str, Any]], body: dict[str, Any], headers: Headers
    ) -> list[str]:
        return [echo(model, messages, body, headers)] * body.get("n", 1)
