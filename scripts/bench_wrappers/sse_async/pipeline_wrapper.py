import asyncio
import os
import time
from collections.abc import AsyncGenerator
from pathlib import Path

from hayhooks import BasePipelineWrapper, SSEStream


class PipelineWrapper(BasePipelineWrapper):
    def setup(self) -> None:
        pass

    async def run_api_async(self, chunks: int = 100, pause_s: float = 0.0) -> AsyncGenerator:
        """Stream numbered tokens.

        Args:
            chunks: How many.
            pause_s: Seconds before each of them; 0 is a burst.
        """
        return SSEStream(paced(chunks, pause_s) if pause_s else burst(chunks))


async def burst(chunks: int) -> AsyncGenerator[str, None]:
    for number in range(chunks):
        yield f"token {number}"


async def paced(chunks: int, pause_s: float) -> AsyncGenerator[str, None]:
    """Writes the time of its end to the file that the benchmark names."""
    try:
        for number in range(chunks):
            await asyncio.sleep(pause_s)
            yield f"token {number}"
    finally:
        with Path(os.environ["BENCH_CLOSED_FILE"]).open("a", encoding="utf-8") as file:  # noqa: ASYNC230
            file.write(f"{time.monotonic()}\n")
