"""One parameter of every kind; the result shows, as `repr`, those that were given."""

from datetime import date
from enum import Enum
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel

from gateway import BasePipelineWrapper, Headers


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Item(BaseModel):
    name: str
    count: int = 1


class PipelineWrapper(BasePipelineWrapper):
    def run_api(
        self,
        text: str = "the default",
        maybe: str | None = "the default",
        number: int = 3,
        ratio: float = 0.5,
        flag: bool = False,
        either: int | str = 0,
        colour: Colour = Colour.RED,
        word: Literal["a", "b"] = "a",
        day: date | None = None,
        key: UUID | None = None,
        tags: list[str] | None = None,
        numbers: list[int] | None = None,
        options: dict[str, int] | None = None,
        item: Item | None = None,
        items: list[Item] | None = None,
        anything: Any = None,
        schema: str = "",
        copy: int = 0,
        model_config: str = "",
        *,
        headers: Headers,
    ) -> dict[str, str]:
        """Show what came.

        Args:
            text: Any text.
        """
        assert isinstance(headers, Headers)
        defaults = dict(zip(PipelineWrapper.run_api.__code__.co_varnames[1:], self.run_api.__defaults__, strict=False))
        given = {name: value for name, value in locals().items() if name in defaults and value != defaults[name]}
        return {name: repr(value) for name, value in given.items()} | {"x-test": repr(headers.get("x-test"))}
