"""What went wrong, as every dialect's body and last event are made from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Problem:
    """`message`: one sentence. `code`: a stable word for programs. `type`: one of OpenAI's.

    `param`: the field at fault. `details`: one mapping for each fault of the arguments. `error_id`: with it
    the log says more.
    """

    message: str
    type: str
    code: str
    param: str | None = None
    details: Sequence[Mapping[str, Any]] | None = None
    error_id: str | None = None


def native_body(problem: Problem) -> dict[str, Any]:
    """`{"error": {"type", "message", "code", "details"?, "error_id"?}, "detail"}`; Hayhooks' clients read `detail`."""
    fields: dict[str, Any] = {"type": problem.type, "message": problem.message, "code": problem.code}
    if problem.details is not None:
        fields["details"] = list(problem.details)
    if problem.error_id is not None:
        fields["error_id"] = problem.error_id
    return {"error": fields, "detail": problem.message}
