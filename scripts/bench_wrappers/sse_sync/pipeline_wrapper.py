import os
import time
from collections.abc import Generator
from pathlib import Path

from hayhooks import BasePipelineWrapper, SSEStream


class PipelineWrapper(BasePipelineWrapper):
    def setup(self) -> None:
        pass

    def run_api(self, chunks: int = 100, pause_s: float = 0.0) -> Generator:
        """Stream numbered tokens.

        Args:
            chunks: How many.
            pause_s: Seconds before each of them; 0 is a burst.
        """
        return SSEStream(paced(chunks, pause_s) if pause_s else burst(chunks))


def burst(chunks: int) -> Generator[str, None, None]:
    for number in range(chunks):
        yield f"token {number}"


def paced(chunks: int, pause_s: float) -> Generator[str, None, None]:
    """Writes the time of its end to the file that the benchmark names."""
    try:
        for number in range(chunks):
            time.sleep(pause_s)
            yield f"token {number}"
    finally:
        with Path(os.environ["BENCH_CLOSED_FILE"]).open("a", encoding="utf-8") as file:
            file.write(f"{time.monotonic()}\n")
