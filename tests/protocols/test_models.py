import pytest
from openai.types import Model

from gateway.protocols.models import capabilities, model, models

CASES: dict[str, tuple[set[str], list[str]]] = {
    "nothing": (set(), []),
    "run": ({"run_api", "run_file_upload"}, []),
    "chat": ({"run_api", "run_chat_completion"}, ["chat", "responses"]),
    "responses": ({"run_response"}, ["responses"]),
    "embeddings": ({"run_embedding"}, ["embeddings"]),
    "all": (
        {"run_api", "run_chat_completion", "run_response", "run_embedding"},
        ["chat", "responses", "embeddings"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_model(case: str) -> None:
    methods, expected = CASES[case]
    assert capabilities(methods) == expected
    body = model("m", 7.9, methods)
    assert body == {"id": "m", "object": "model", "created": 7, "owned_by": "haystack", "capabilities": expected}
    assert Model.model_validate(body, strict=True).id == "m"


def test_models() -> None:
    one, two = model("one", 1, {"run_response"}), model("two", 2, {"run_embedding"})
    assert models(each for each in (one, two)) == {"object": "list", "data": [one, two]}
    assert models([]) == {"object": "list", "data": []}
