from dataclasses import dataclass, field
from typing import Any

import pytest
from haystack.dataclasses import ChatMessage, ToolCall
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.delta import Content, Event, Reasoning, Refusal, Text, Usage
from gateway.protocols.delta import ToolCall as Call
from gateway.protocols.reader import Reader
from tests.protocols.sample import call, call_result, choice, completion, message, reasoning, spent, text, usage
from tests.protocols.split import split

ADD = ToolCall(tool_name="add", arguments={"a": 1}, id="call_1")
FIRST = call(0, "call_1", "add", '{"a"', "llm")
REST = call(0, None, None, ":1}", "llm", finish_reason="tool_calls")
ADDED: list[Content] = [
    Call(0, "call_1", "add", '{"a"', 0, "llm"),
    Call(0, None, None, ":1}", 0, "llm", False),
]


@dataclass
class Case:
    """`held`: of `content`, what comes only at the end."""

    chunks: list[Any]
    content: list[Content]
    held: list[Content] = field(default_factory=list)
    reason: str = "stop"
    usage: Usage = Usage()  # noqa: RUF009 (frozen)
    result: Any = None
    passes: bool = False
    choices: int = 1


CASES: dict[str, Case] = {
    "nothing": Case([], []),
    "none": Case([None], []),
    "empty text": Case([""], []),
    "texts": Case(["a", text("b"), {"content": "c"}], [Text("a"), Text("b"), Text("c")]),
    "empty pieces": Case([text(""), {"content": ""}, reasoning(""), "a"], [Text("a")]),
    "each kind": Case(
        [reasoning("why"), "a", {"refusal": "no"}, {"type": "status", "data": {}}],
        [Reasoning("why"), Text("a"), Refusal("no"), Event({"type": "status", "data": {}})],
    ),
    "reason": Case([text("a", finish_reason="length")], [Text("a")], reason="length"),
    "reason of the last": Case(
        [text("a", finish_reason="length"), text("b", finish_reason="stop")],
        [
            Text("a"),
            Text("b"),
        ],
    ),
    "reason of calls without a call": Case([text("a", finish_reason="tool_calls")], [Text("a")]),
    "call held": Case([FIRST, REST], [], ADDED, reason="tool_calls"),
    "call held while text goes on": Case([FIRST, "a", REST], [Text("a")], ADDED, reason="tool_calls"),
    "call that is cut off": Case([FIRST, text("", finish_reason="length")], [], ADDED[:1], reason="length"),
    "call answered here": Case([FIRST, REST, call_result(), text("a", finish_reason="stop")], [Text("a")]),
    "call answered here, then one that is not": Case(
        [FIRST, REST, call_result(), call(0, "call_2", "now", "{}", "llm")],
        [],
        [Call(0, "call_2", "now", "{}", 0, "llm")],
        reason="tool_calls",
    ),
    "call passed": Case([FIRST, REST], ADDED, reason="tool_calls", passes=True),
    "call passed though it was answered here": Case(
        [FIRST, REST, call_result(), text("a", finish_reason="stop")],
        [*ADDED, Text("a")],
        reason="tool_calls",
        passes=True,
    ),
    "calls in turns": Case(
        [
            call(0, "call_1", "add", None),
            call(1, "call_2", "now", None),
            call(0, None, None, "{"),
            call(1, None, None, "{"),
            call(0, None, None, "}"),
            call(1, None, None, "}"),
        ],
        [
            Call(0, "call_1", "add", ""),
            Call(1, "call_2", "now", ""),
            Call(0, None, None, "{", is_first=False),
            Call(1, None, None, "{", is_first=False),
            Call(0, None, None, "}", is_first=False),
            Call(1, None, None, "}", is_first=False),
        ],
        reason="tool_calls",
        passes=True,
    ),
    "calls that do not count from 0": Case(
        [call(5, "call_1", "add", "{}"), call(7, "call_2", "now", "{"), call(7, None, None, "}")],
        [],
        [
            Call(0, "call_1", "add", "{}"),
            Call(1, "call_2", "now", "{"),
            Call(1, None, None, "}", is_first=False),
        ],
        reason="tool_calls",
    ),
    "calls of two components": Case(
        [call(0, "call_1", "add", "{}", "one"), call(0, "call_2", "now", "{", "two"), call(0, None, None, "}", "two")],
        [],
        [
            Call(0, "call_1", "add", "{}", 0, "one"),
            Call(1, "call_2", "now", "{", 0, "two"),
            Call(1, None, None, "}", 0, "two", False),
        ],
        reason="tool_calls",
    ),
    "calls of one component that ran twice": Case(
        [FIRST, REST, call_result(), call(0, "call_2", "now", "{", "llm"), call(0, None, None, "}", "llm")],
        [
            *ADDED,
            Call(1, "call_2", "now", "{", 0, "llm"),
            Call(1, None, None, "}", 0, "llm", False),
        ],
        reason="tool_calls",
        passes=True,
    ),
    "calls that say id and name with every piece": Case(
        [call(0, "call_1", "add", "{"), call(0, "call_1", "add", "}")],
        [],
        [Call(0, "call_1", "add", "{"), Call(0, None, None, "}", is_first=False)],
        reason="tool_calls",
    ),
    "calls without an id": Case(
        [call(0, None, "add", "{}"), call(1, None, "now", "{}")],
        [],
        [Call(0, None, "add", "{}"), Call(1, None, "now", "{}")],
        reason="tool_calls",
    ),
    "calls whose name comes late": Case(
        [call(0, "call_1", None, None), call(0, None, "add", None), call(0, None, None, "{}")],
        [],
        [
            Call(0, "call_1", None, ""),
            Call(0, None, "add", "", is_first=False),
            Call(0, None, None, "{}", is_first=False),
        ],
        reason="tool_calls",
    ),
    "calls of several choices": Case(
        [[message(None, [ADD]), message(None, [ADD])]],
        [],
        [Call(0, "call_1", "add", '{"a":1}'), Call(0, "call_1", "add", '{"a":1}', 1)],
        reason="tool_calls",
        choices=2,
    ),
    "choices that were asked for": Case(
        [completion(choice("a"), choice("b", "length", 1))], [Text("a"), Text("b", 1)], choices=2
    ),
    "choices that were not": Case([{"replies": ["a", "b", "c"]}], [Text("a"), Text("b", 1)], choices=2),
    "usage of one call": Case(["a", spent(3, 4)], [Text("a")], usage=Usage(3, 4)),
    "usage of an agent's calls": Case(
        ["a", spent(3, 4, "llm"), "b", spent(30, 40, "llm")], [Text("a"), Text("b")], usage=Usage(33, 44)
    ),
    "usage of two components": Case(
        ["a", spent(3, 4, "one"), "b", spent(3, 4, "two")], [Text("a"), Text("b")], usage=Usage(6, 8)
    ),
    "usage that is counted as it goes": Case(
        [spent(3, 1), "a", spent(3, 2), "b", spent(3, 5)], [Text("a"), Text("b")], usage=Usage(3, 5)
    ),
    "usage that is counted as it goes, twice": Case(
        [spent(3, 1), "a", spent(3, 2), spent(9, 1), "b", spent(9, 5)], [Text("a"), Text("b")], usage=Usage(12, 7)
    ),
    "usage of the result": Case(
        ["a"], [Text("a")], usage=Usage(3, 4), result={"replies": [message("a", usage=usage(3, 4))]}
    ),
    "usage of the result beside that of the chunks": Case(
        ["a", spent(3, 4, "llm")],
        [Text("a")],
        usage=Usage(3, 4),
        result={"llm": {"replies": [message("a", usage=usage(3, 4))]}},
    ),
    "usage of the result, which holds more": Case(
        ["a", spent(3, 4, "llm")],
        [Text("a")],
        usage=Usage(13, 24),
        result={
            "plan": {"replies": [message("p", usage=usage(10, 20))]},
            "llm": {"replies": [message("a", usage=usage(3, 4))]},
        },
    ),
    "usage of the chunks, which hold more": Case(
        ["p", spent(10, 20, "plan"), "a", spent(3, 4, "llm")],
        [Text("p"), Text("a")],
        usage=Usage(13, 24),
        result={"llm": {"replies": [message("a", usage=usage(3, 4))]}},
    ),
    "result when the chunks were silent": Case(
        [None, text("")],
        [],
        [Text("a")],
        reason="length",
        usage=Usage(3, 4),
        result={"llm": {"replies": [message("a", usage=usage(3, 4), finish_reason="length")]}},
    ),
    "result when there was only an event": Case(
        [{"type": "status", "data": {}}],
        [Event({"type": "status", "data": {}})],
        [Text("a")],
        result={"replies": ["a"]},
    ),
    "result with a call": Case(
        [],
        [],
        [Call(0, "call_1", "add", '{"a":1}')],
        reason="tool_calls",
        result={"messages": [ChatMessage.from_user("q"), message(None, [ADD])], "last_message": message(None, [ADD])},
    ),
    "result that repeats the text": Case(["a"], [Text("a")], result={"replies": [message("a")]}),
    "result that repeats a held call": Case(
        [FIRST, REST], [], ADDED, reason="tool_calls", result={"replies": [message(None, [ADD])]}
    ),
    "result after a call that was answered here": Case(
        [FIRST, REST, call_result()], [], [Text("a")], result={"last_message": message("a")}
    ),
    "result without a reply": Case(["a"], [Text("a")], result={"retriever": {"documents": []}}),
    "result after a passed call": Case(
        [FIRST, REST], ADDED, reason="tool_calls", result={"replies": [message(None, [ADD])]}, passes=True
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_reader(case: str) -> None:
    given = CASES[case]
    reader = Reader(choices=given.choices, passes_tool_calls=given.passes)
    content = [delta for chunk in given.chunks for delta in reader.read(chunk)]
    held = reader.end(given.result)
    assert (content, held) == (given.content, given.held)
    assert [type(delta) for delta in content + held] == [type(delta) for delta in given.content + given.held]
    assert (reader.finish_reason(), reader.usage) == (given.reason, given.usage)


def add_up(content: list[Content]) -> list[Content]:
    """Neighbours of one kind and choice, and all pieces of a call, as one."""
    whole: list[Content] = []
    for delta in content:
        for position, known in enumerate(whole):
            if (
                isinstance(delta, Call)
                and isinstance(known, Call)
                and (known.choice, known.number) == (delta.choice, delta.number)
            ):
                name = (known.name or "") + (delta.name or "")
                whole[position] = known._replace(name=name, arguments=known.arguments + delta.arguments)
                break
        else:
            last = whole[-1] if whole else None
            if isinstance(delta, Text) and isinstance(last, Text) and last.choice == delta.choice:
                whole[-1] = last._replace(text=last.text + delta.text)
            else:
                whole.append(delta)
    return whole


@pytest.mark.parametrize("case", CASES)
def test_reader_gives_the_same_when_the_chunks_are_split(case: str) -> None:
    given = CASES[case]
    reader = Reader(choices=given.choices, passes_tool_calls=given.passes)
    content = [delta for chunk in split(given.chunks) for delta in reader.read(chunk)] + reader.end(given.result)
    assert add_up(content) == add_up(given.content + given.held)
    assert (reader.finish_reason(), reader.usage) == (given.reason, given.usage)


def test_finish_reason_of_each_choice() -> None:
    reader = Reader(choices=3)
    reader.read(completion(choice("a", "length"), choice(None, "stop", 1, tool_calls=[]), choice("c", "tool_calls", 2)))
    reader.read([message("a"), message(None, [ADD])])
    assert reader.end() == [Call(0, "call_1", "add", '{"a":1}', 1)]
    assert [reader.finish_reason(index) for index in range(3)] == ["length", "tool_calls", "stop"]


def test_reader_raises_when_no_reply_can_be_made_of_a_chunk() -> None:
    with pytest.raises(TypeError, match=r"^a reply cannot be made of int: "):
        Reader().read(1)


def test_result_of_which_no_reply_can_be_made_fails_no_stream_that_has_said_something() -> None:
    odd = {"llm": {"replies": [{"role": "assistant"}]}}
    reader = Reader()
    assert reader.read("said") == [Text("said")]
    assert (reader.end(odd), reader.usage) == ([], Usage())
    with pytest.raises(TypeError, match="a reply cannot be made of a list of dict"):
        Reader().end(odd)


@given(st.lists(st.text()))
def test_reader_gives_every_text_that_is_not_empty(texts: list[str]) -> None:
    reader = Reader()
    content = [delta for piece in texts for delta in reader.read(piece)]
    assert content == [Text(piece) for piece in texts if piece]
    assert reader.is_empty == (not texts)
    assert reader.end({"replies": ["unheard"]}) == ([] if texts else [Text("unheard")])


@given(st.lists(st.tuples(st.integers(0, 3), st.text(max_size=3))), st.booleans())
def test_reader_keeps_the_pieces_of_each_call_together(pieces: list[tuple[int, str]], passes: bool) -> None:
    expected: dict[str, str] = {}
    reader = Reader(passes_tool_calls=passes)
    content: list[Content] = []
    for number, piece in pieces:
        call_id = f"call_{number}"
        content += reader.read(call(number, None if call_id in expected else call_id, None, piece))
        expected[call_id] = expected.get(call_id, "") + piece
    calls = add_up(content + reader.end())
    assert [(one.number, one.id, one.arguments) for one in calls if isinstance(one, Call)] == [
        (position, call_id, arguments) for position, (call_id, arguments) in enumerate(expected.items())
    ]
