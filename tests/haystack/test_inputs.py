from dataclasses import dataclass
from typing import Any

import pytest
from haystack import Document, Pipeline, component
from haystack.components.builders import ChatPromptBuilder
from haystack.components.generators.chat import MockChatGenerator
from haystack.dataclasses import ChatMessage, ExtractedAnswer, GeneratedAnswer
from pydantic import BaseModel, ValidationError

from gateway.haystack.inputs import coerce_pipeline_inputs


class Options(BaseModel):
    top_k: int = 3


@dataclass
class Point:
    x: int
    y: int = 0


@component
class Takes:
    """One socket of each type that is told apart. It gives back what it got."""

    @component.output_types(got=dict)
    def run(
        self,
        one: Document | None = None,
        many: list[Document] | None = None,
        any_of: str | list[ChatMessage] | None = None,
        options: Options | None = None,
        point: Point | None = None,
        points: list[Point] | None = None,
        answer: GeneratedAnswer | ExtractedAnswer | None = None,
        meta: dict[str, Any] | None = None,
        metas: list[dict[str, Any]] | None = None,
        text: str | None = None,
    ) -> dict[str, Any]:
        return {"got": {key: value for key, value in locals().items() if key != "self" and value is not None}}


def pipeline() -> Pipeline:
    made = Pipeline()
    made.add_component("takes", Takes())
    made.add_component("llm", MockChatGenerator())
    return made


DOCUMENT, OTHER = Document(content="a", meta={"page": 1}), Document(content="b", score=0.5)
USER, SYSTEM = ChatMessage.from_user("hi"), ChatMessage.from_system("be brief")
CASES: dict[str, tuple[str, Any, Any]] = {
    "an object of one class": ("one", DOCUMENT.to_dict(), DOCUMENT),
    "a list of them": ("many", [DOCUMENT.to_dict(), OTHER.to_dict()], [DOCUMENT, OTHER]),
    "a list in which some are made": ("many", [DOCUMENT, OTHER.to_dict()], [DOCUMENT, OTHER]),
    "an empty list": ("many", [], []),
    "objects stay": ("many", [DOCUMENT], [DOCUMENT]),
    "null stays": ("one", None, None),
    "a list in a union": ("any_of", [USER.to_dict(), SYSTEM.to_dict()], [USER, SYSTEM]),
    "a text in the same union": ("any_of", "hi", "hi"),
    "a pydantic model": ("options", {"top_k": 5}, Options(top_k=5)),
    "its defaults": ("options", {}, Options()),
    "a dataclass": ("point", {"x": 1}, Point(1)),
    "a list of dataclasses": ("points", [{"x": 1, "y": 2}, Point(3)], [Point(1, 2), Point(3)]),
    "a mapping is meant": ("meta", {"x": 1}, {"x": 1}),
    "mappings are meant": ("metas", [{"x": 1}, {}], [{"x": 1}, {}]),
    "a mapping that fits nothing": ("text", {"x": 1}, {"x": 1}),
    "an answer of known class": ("answer", GeneratedAnswer("a", "q", []), GeneratedAnswer("a", "q", [])),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("is_nested", [True, False], ids=["nested", "flat"])
def test_coerce(case: str, is_nested: bool) -> None:
    name, given, expected = CASES[case]
    if is_nested:
        assert coerce_pipeline_inputs(pipeline(), {"takes": {name: given}}) == {"takes": {name: expected}}
    else:  # with a text beside it: where every value is a mapping the form is the nested one
        flat = {name: given, "other": "text"}
        assert coerce_pipeline_inputs(pipeline(), flat) == {name: expected, "other": "text"}


def test_data_of_the_caller_stays_untouched() -> None:
    data = {"takes": {"many": [DOCUMENT.to_dict()]}}
    coerce_pipeline_inputs(pipeline(), data)
    assert data == {"takes": {"many": [DOCUMENT.to_dict()]}}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({}, {}),
        ({"takes": {}}, {"takes": {}}),
        ({"nobody": {"one": {"content": "a"}}}, {"nobody": {"one": {"content": "a"}}}),
        ({"takes": {"nothing": {"content": "a"}}}, {"takes": {"nothing": {"content": "a"}}}),
        ({"nothing": {"content": "a"}, "text": "t"}, {"nothing": {"content": "a"}, "text": "t"}),
    ],
)
def test_what_the_pipeline_does_not_know_is_left_to_it(data: Any, expected: Any) -> None:
    assert coerce_pipeline_inputs(pipeline(), data) == expected


@pytest.mark.parametrize("given", [{"data": "a"}, [{"data": "a"}]])
@pytest.mark.parametrize("is_nested", [True, False], ids=["nested", "flat"])
def test_mapping_that_may_be_one_of_several_is_refused(given: Any, is_nested: bool) -> None:
    data = {"takes": {"answer": given}} if is_nested else {"answer": given, "text": "t"}
    with pytest.raises(ValueError, match=r"^an input of .* may be one of ExtractedAnswer, GeneratedAnswer: give"):
        coerce_pipeline_inputs(pipeline(), data)


@pytest.mark.parametrize(("name", "given"), [("options", {"top_k": "many"}), ("point", {"y": 1})])
def test_mapping_that_does_not_fit_its_class_is_refused(name: str, given: Any) -> None:
    with pytest.raises(ValidationError):
        coerce_pipeline_inputs(pipeline(), {"takes": {name: given}})


@pytest.mark.parametrize("is_nested", [True, False], ids=["nested", "flat"])
def test_coerced_inputs_run(is_nested: bool) -> None:
    inputs = {"many": [DOCUMENT.to_dict()], "point": {"x": 1}, "text": "t"}
    sent: dict[str, Any] = {"messages": [USER.to_dict()]}
    data = {"takes": inputs, "llm": sent} if is_nested else {**inputs, **sent}
    result = pipeline().run(coerce_pipeline_inputs(pipeline(), data))
    assert result["takes"]["got"] == {"many": [DOCUMENT], "point": Point(1), "text": "t"}
    assert result["llm"]["replies"][0].text == "hi"


def test_nested_inputs_of_connected_sockets_are_coerced() -> None:
    # `Pipeline.inputs()` leaves them out, but `Pipeline.run` takes them where they are variadic or have a default.
    joined = Pipeline()
    template = [ChatMessage.from_user("{{ query }}")]
    joined.add_component("prompt", ChatPromptBuilder(template=template, required_variables="*"))
    joined.add_component("llm", MockChatGenerator())
    joined.connect("prompt.prompt", "llm.messages")
    data = {"prompt": {"query": "q"}, "llm": {"messages": [USER.to_dict()]}}
    coerced = coerce_pipeline_inputs(joined, data)
    assert coerced == {"prompt": {"query": "q"}, "llm": {"messages": [USER]}}
