"""The agent's tool, and the reading of a question that a model would do."""

import re
from typing import Annotated, Literal

Operation = Literal["add", "subtract", "multiply", "divide"]

SIGNS: dict[str, Operation] = {
    "+": "add", "plus": "add",
    "-": "subtract", "\u2212": "subtract", "minus": "subtract",
    "*": "multiply", "\u00d7": "multiply", "x": "multiply", "times": "multiply",
    "/": "divide", "\u00f7": "divide", "divided by": "divide", "over": "divide",
}  # fmt: skip
SYMBOLS: dict[Operation, str] = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}

_NUMBER = r"(-?\d+(?:\.\d+)?)"
_SUM = re.compile(rf"{_NUMBER}\s*({'|'.join(map(re.escape, SIGNS))})\s*{_NUMBER}", re.IGNORECASE)


def calculate(
    operation: Annotated[Operation, "What to do with the numbers"],
    a: Annotated[float, "The first number"],
    b: Annotated[float, "The second number"],
) -> str:
    """Add, subtract, multiply or divide two numbers. The result is a line like `6 * 7 = 42`."""
    if operation == "divide" and b == 0:
        return f"{show(a)} / 0 is not defined"
    result = {
        "add": lambda: a + b,
        "subtract": lambda: a - b,
        "multiply": lambda: a * b,
        "divide": lambda: a / b,
    }[operation]()
    return f"{show(a)} {SYMBOLS[operation]} {show(b)} = {show(result)}"


def show(number: float) -> str:
    """Without the `.0` of whole numbers and the noise in the last digits: 0.1 + 0.2 is 0.3."""
    return f"{number:.15g}"


def read_sum(text: str) -> dict[str, str | float] | None:
    """The tool's arguments for the first sum in a text, None when there is none."""
    found = _SUM.search(text)
    if found is None:
        return None
    a, sign, b = found.groups()
    return {"operation": SIGNS[sign.lower()], "a": float(a), "b": float(b)}
