"""A pipeline's graph as Mermaid text."""

from types import SimpleNamespace
from typing import Any

import pytest
from haystack import Pipeline, component
from haystack.components.builders import PromptBuilder

from gateway.haystack.graph import to_mermaid


@component
class Loop:
    """Gives back what it takes, as often as it is asked to."""

    @component.output_types(again=str, done=str)
    def run(self, text: str = "") -> dict[str, Any]:
        return {"done": text}


def make_pipeline(*components: tuple[str, Any], connections: list[tuple[str, str]] | None = None) -> Pipeline:
    pipeline = Pipeline()
    for name, instance in components:
        pipeline.add_component(name, instance)
    for sender, receiver in connections or []:
        pipeline.connect(sender, receiver)
    return pipeline


def prompt(variable: str = "text") -> PromptBuilder:
    return PromptBuilder(f"{{{{ {variable} }}}}", required_variables="*")


CASES = {
    "no components": (make_pipeline(), "flowchart TD\n"),
    "one component": (
        make_pipeline(("prompt", prompt())),
        'flowchart TD\n    c0["prompt<br><small>PromptBuilder</small>"]\n',
    ),
    "a connection": (
        make_pipeline(("a", prompt()), ("b", prompt("words")), connections=[("a.prompt", "b.words")]),
        "flowchart TD\n"
        '    c0["a<br><small>PromptBuilder</small>"]\n'
        '    c1["b<br><small>PromptBuilder</small>"]\n'
        '    c0 -- "prompt → words" --> c1\n',
    ),
    "a loop": (
        make_pipeline(
            ("there", Loop()),
            ("back", Loop()),
            connections=[("there.again", "back.text"), ("back.again", "there.text")],
        ),
        "flowchart TD\n"
        '    c0["there<br><small>Loop</small>"]\n'
        '    c1["back<br><small>Loop</small>"]\n'
        '    c0 -- "again → text" --> c1\n'
        '    c1 -- "again → text" --> c0\n',
    ),
    "names that Mermaid would read": (
        make_pipeline(
            ('end"];click x "javascript:alert(1)', prompt()), ("<b>`#quot;</b>\n%%{init}%%", prompt("größe"))
        ),
        "flowchart TD\n"
        '    c0["end#34;#93;#59;click x #34;javascript:alert#40;1#41;<br><small>PromptBuilder</small>"]\n'
        '    c1["#60;b#62;#96;#35;quot#59;#60;#47;b#62;#10;#37;#37;#123;init#125;#37;#37;'
        '<br><small>PromptBuilder</small>"]\n',
    ),
    "letters of all languages": (
        make_pipeline(("größe 問い", prompt())),
        'flowchart TD\n    c0["größe 問い<br><small>PromptBuilder</small>"]\n',
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_graph_is_mermaid_text(case: str) -> None:
    pipeline, expected = CASES[case]
    assert to_mermaid(pipeline) == expected


@pytest.mark.parametrize(
    ("thing", "kind"), [(None, "NoneType"), ("a pipeline", "str"), (SimpleNamespace(graph={}), "SimpleNamespace")]
)
def test_what_has_no_graph_is_refused(thing: Any, kind: str) -> None:
    with pytest.raises(TypeError, match=f"{kind} has no graph"):
        to_mermaid(thing)
