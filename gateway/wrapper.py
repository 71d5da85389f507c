"""What a wrapper's author subclasses and sees."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, fields
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds for one wrapper in one worker. None = the server's setting of the same name.

    `max_concurrency`: runs at once. `max_queue`: runs that wait for a place; one more is refused with 429.
    `queue_timeout_s`: how long one waits. `timeout_s`: from the call until the wrapper is through.
    `first_chunk_timeout_s`, `idle_chunk_timeout_s`: how long a stream may be silent at its start and later on.
    Raises ValueError for a bound that is not positive; `max_queue` may be 0.
    """

    max_concurrency: int | None = None
    max_queue: int | None = None
    queue_timeout_s: float | None = None
    timeout_s: float | None = None
    first_chunk_timeout_s: float | None = None
    idle_chunk_timeout_s: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and (value < 0 or (value == 0 and field.name != "max_queue")):
                raise ValueError(f"Limits: {field.name} = {value!r} must be greater than 0")


class BasePipelineWrapper:
    """Base of a wrapper: a class `PipelineWrapper` in `<wrappers dir>/<name>/pipeline_wrapper.py`.

    Define at least one run method. `run_api(self, …)` serves `POST /<name>/run`: its annotated parameters are the
    request's fields, its docstring describes them. Every run method may be written as `<method>_async` instead,
    which is preferred when both are there. `max_choices`: how many choices (`n`) a chat completion may ask for.
    """

    limits: ClassVar[Limits] = Limits()
    max_choices: ClassVar[int] = 1
    pipeline: Any = None

    def setup(self) -> None:
        """Called once per generation, off the event loop, before the first run."""

    def close(self) -> None:
        """Called when the last run of this generation has ended."""


@dataclass(frozen=True, slots=True)
class SSEStream:
    """Marks a generator, sync or async, whose chunks go out as server-sent events."""

    stream: Iterator[Any] | AsyncIterator[Any]
