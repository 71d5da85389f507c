"""As `fan_out`, each stream on a thread."""

import time
from collections.abc import Iterator
from typing import Any

from gateway import BasePipelineWrapper, Limits, get_last_user_message
from tests import probe

current = probe.current
PACE_S = 0.02


class PipelineWrapper(BasePipelineWrapper):
    limits = Limits(max_concurrency=300)

    def run_chat_completion(self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> Iterator[str]:
        question = get_last_user_message(messages)
        for number in range(body["tokens"]):
            yield f"{question} {number};"
            if number == 0:
                current.wait("all are reading")
            else:
                time.sleep(PACE_S)
