"""YAML → a wrapper: what it takes, what it gives, and what is refused in one sentence when it is made."""

import asyncio
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from haystack import component
from haystack.core.serialization_security import DESERIALIZATION_ALLOWLIST_ENV_VAR
from haystack.dataclasses import ChatMessage, Document

from gateway.errors import InvalidRequest, LoadError
from gateway.haystack.yaml_pipeline import YAMLPipelineWrapper
from gateway.loader import load
from gateway.signature import read_signature
from gateway.source import Found
from tests import probe as probes
from tests.probe import Probe

PIPELINES = Path(__file__).parent.parent / "pipelines"
ALL = sorted(PIPELINES.iterdir())
SECRET = "sk-hunter2"


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Probe]:
    """Of components of this module, which the operator's allow-list holds."""
    monkeypatch.setenv(DESERIALIZATION_ALLOWLIST_ENV_VAR, __name__)
    yield probes.renew()
    probes.renew()


@component
class Noted:
    """Tells the probe what happens to it."""

    def __init__(self, api_key: str = "") -> None:
        self.api_key = api_key

    def warm_up(self) -> None:
        probes.current.note("warm_up")

    def close(self) -> None:
        probes.current.note("close")
        probes.current.set("closed")

    @component.output_types(thread=str)
    def run(self) -> dict[str, str]:
        probes.current.note("run")
        return {"thread": threading.current_thread().name}


@component
class Leaving:
    def __init__(self) -> None:
        sys.exit("for good")

    @component.output_types(value=str)
    def run(self) -> dict[str, str]:
        return {}


@component
class Telling:
    """Its fault has two lines, and the second repeats what it was given."""

    def __init__(self, api_key: str) -> None:
        raise ValueError(f"the key is not one\nit was {api_key}")

    @component.output_types(value=str)
    def run(self) -> dict[str, str]:
        return {}


def read(name: str) -> YAMLPipelineWrapper:
    path = next(path for path in ALL if path.stem == name)
    return YAMLPipelineWrapper(path.read_text(encoding="utf-8"))


def run(name: str, **arguments: Any) -> Any:
    return asyncio.run(read(name).run_api_async(**arguments))


# What it takes and gives


OBJECT = {"additionalProperties": True, "type": "object"}
SCHEMAS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "single_input": ({"topic": {"title": "Topic"}}, ["topic"]),
    "list_target": ({"query": {"title": "Query"}}, ["query"]),
    "renamed_outputs": ({"what": {"title": "What"}}, ["what"]),
    "optional_input": (
        {
            "query": {"title": "Query"},
            "style": {"default": "", "title": "Style"},
            "documents": {"items": OBJECT, "title": "Documents", "type": "array"},
            "top_k": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None, "title": "Top K"},
        },
        ["query", "documents"],
    ),
    "file_upload": (
        {
            "meta": {
                "anyOf": [OBJECT, {"items": OBJECT, "type": "array"}, {"type": "null"}],
                "default": None,
                "title": "Meta",
            }
        },
        [],
    ),
    "variadic": ({"strings": {"title": "Strings", "type": "string"}}, ["strings"]),
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_inputs_are_arguments_with_the_types_of_their_sockets(name: str) -> None:
    properties, required = SCHEMAS[name]
    schema = dict(read_signature(name, read(name).run_api_async).schema)
    assert schema.pop("title") == f"Arguments of {name}"
    assert schema == {"type": "object", "properties": properties, **({"required": required} if required else {})}


@pytest.mark.parametrize(("name", "field"), [("file_upload", "sources"), ("file_upload_files", "files")])
def test_file_inputs_take_uploads(name: str, field: str) -> None:
    files = read_signature(name, read(name).run_api_async).files
    assert {key: (file.is_list, file.is_required) for key, file in files.items()} == {field: (True, True)}


DOCUMENTS = [{"content": text} for text in "abc"]
RUNS: dict[str, tuple[str, dict[str, Any], Any]] = {
    "single input": ("single_input", {"topic": "fire"}, {"prompt": "Tell me about fire."}),
    "list target": ("list_target", {"query": "fire"}, {"question": "What is fire?", "search": "find: fire"}),
    "renamed outputs": ("renamed_outputs", {"what": "x"}, {"end": "[<x>]", "middle": "<x>"}),
    "variadic": ("variadic", {"strings": "x"}, {"joined": ["x"]}),
    "optional left out": (
        "optional_input",
        {"query": "q", "documents": DOCUMENTS},
        {"prompt": "q", "documents": [Document(content="a"), Document(content="b")]},
    ),
    "optional given": (
        "optional_input",
        {"query": "q", "documents": DOCUMENTS, "style": "short", "top_k": 1},
        {"prompt": "q, short", "documents": [Document(content="a")]},
    ),
}


@pytest.mark.parametrize("case", RUNS)
def test_run_gives_the_declared_outputs(case: str) -> None:
    name, arguments, expected = RUNS[case]
    result = run(name, **arguments)
    assert (result, list(result)) == (expected, list(expected))


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": "hi"},
        {"role": "user", "content": [{"text": "hi"}]},
        ChatMessage.from_user("hi"),
    ],
)
def test_run_makes_messages_of_what_json_says(message: Any) -> None:
    (reply,) = run("chat_messages", messages=[message])["replies"]
    assert (reply.role.value, reply.text) == ("assistant", "hi")


def test_run_without_outputs_gives_what_leaves_the_pipeline() -> None:
    source = (PIPELINES / "renamed_outputs.yaml").read_text(encoding="utf-8").partition("outputs:")[0]
    result = asyncio.run(YAMLPipelineWrapper(source).run_api_async(what="x"))
    assert result == {"second": {"prompt": "[<x>]"}}


def test_run_refuses_a_mapping_that_is_no_message() -> None:
    with pytest.raises(InvalidRequest, match="an input does not fit: Missing 'content'"):
        run("chat_messages", messages=[{"role": "user"}])


NO_CHAT = (None, False)
CHATS = {
    "chat_messages": ("messages", True),
    "chat_query": ("query", False),
    "chat_question": ("question", False),
    "chat_section": ("topic", False),
    "chat_section_messages": ("conversation", True),
    "two_streams_all": ("messages", True),
    "chat_false": NO_CHAT,
    "single_input": NO_CHAT,
    "list_target": NO_CHAT,  # an input `query`, and nothing that streams
    "optional_input": NO_CHAT,
}


@pytest.mark.parametrize("name", CHATS)
def test_chat_goes_into_an_input(name: str) -> None:
    wrapper = read(name)
    assert (wrapper._chat_input, wrapper._takes_messages) == CHATS[name]
    methods = load(Found(name, next(path for path in ALL if path.stem == name)), None).methods
    assert ("run_chat_completion" in methods) == (CHATS[name] != NO_CHAT)
    assert {method.call.__name__ for method in methods.values()} <= {"run_api_async", "run_chat_completion_async"}


def test_chat_by_convention_needs_no_other_input() -> None:
    source = (PIPELINES / "chat_query.yml").read_text(encoding="utf-8")
    wrapper = YAMLPipelineWrapper(source.replace("[query]", "[query, tone]"))
    assert (wrapper._chat_input, wrapper._takes_messages) == NO_CHAT


def test_components_are_warmed_up_and_closed(probe: Probe) -> None:
    source = (
        f"components: {{noted: {{type: {__name__}.Noted, init_parameters: {{}}}}}}\noutputs: {{thread: noted.thread}}"
    )
    wrapper = YAMLPipelineWrapper(source)
    assert probe.notes == []
    wrapper.setup()
    assert probe.notes == ["warm_up"]
    assert list(asyncio.run(wrapper.run_api_async())) == ["thread"]
    wrapper.close()
    assert probe.notes[-2:] == ["run", "close"]


# What is refused


PROMPT = """
components:
  prompt:
    type: haystack.components.builders.prompt_builder.PromptBuilder
    init_parameters: {template: "{{ q }}", required_variables: [q]}
"""
CHAT = """
components:
  llm:
    type: haystack.components.generators.chat.mock.MockChatGenerator
    init_parameters: {}
inputs: {m: llm.messages}
"""
TYPED = "components: {{a: {{type: {}, init_parameters: {{}}}}}}"
MADE = "the pipeline cannot be made: "
NO_COMPONENTS = "the YAML has no components: it must be a mapping with components and connections"
CHAT_SECTION = "chat must name one input: {input: NAME} for the question, or {messages: NAME}"
STREAMING = "streaming_components must be all, or a list of components that stream; there are "
FAULTS = {
    "no components": ("connections: []", NO_COMPONENTS),
    "components as a list": ("components: [a]", NO_COMPONENTS),
    "nothing in components": ("components: {}", NO_COMPONENTS),
    "a module that is not there": (
        TYPED.format("haystack.nope.Nope"),
        MADE
        + "Component 'haystack.nope.Nope' (name: 'a') not imported. Please check that the package is installed and "
        "the component path is correct.: No module named 'haystack.nope'",
    ),
    "a class that is not allowed": (
        TYPED.format("subprocess.Popen"),
        MADE + "Refusing to deserialize a class from module 'subprocess': the module is not on the trusted-module "
        "allowlist.",
    ),
    "a parameter that is not there": (
        TYPED.format("haystack.components.joiners.string_joiner.StringJoiner").replace("{}}", "{key: 1}}"),
        MADE + "Couldn't deserialize component 'a' of class 'StringJoiner': StringJoiner() takes no arguments",
    ),
    "a connection to nothing": (
        PROMPT + "connections: [{sender: prompt.prompt, receiver: llm.messages}]",
        MADE + "Component named llm not found in the pipeline.: 'llm'",
    ),
    "a connection without an end": (
        PROMPT + "connections: [{sender: prompt.prompt}]",
        MADE + "Missing receiver in connection: {'sender': 'prompt.prompt'}",
    ),
    "inputs as a list": (PROMPT + "inputs: [prompt.q]", "inputs must be a mapping of names to component.socket"),
    "inputs as an empty list": (PROMPT + "inputs: []", "inputs must be a mapping of names to component.socket"),
    "inputs as false": (PROMPT + "inputs: false", "inputs must be a mapping of names to component.socket"),
    "inputs as a text": (PROMPT + "inputs: q", "inputs must be a mapping of names to component.socket"),
    "an input with a number for a name": (
        PROMPT + "inputs: {1: prompt.q}",
        "inputs must be a mapping of names to component.socket",
    ),
    "an input of no component": (
        PROMPT + "inputs: {q: promt.q}",
        "inputs.q: there is no component 'promt'; there are prompt",
    ),
    "an input of no socket": (
        PROMPT + "inputs: {q: prompt.query}",
        "inputs.q: prompt has no socket 'query' that is free; it has q, template, template_variables",
    ),
    "an input without a socket": (
        PROMPT + "inputs: {q: prompt}",
        "inputs.q must be component.socket, or a list of those, not 'prompt'",
    ),
    "an input of nothing": (
        PROMPT + "inputs: {q: }",
        "inputs.q must be component.socket, or a list of those, not None",
    ),
    "an input of an empty list": (
        PROMPT + "inputs: {q: []}",
        "inputs.q must be component.socket, or a list of those, not []",
    ),
    "an input of mappings": (
        PROMPT + "inputs: {q: [{prompt: q}]}",
        "inputs.q must be component.socket, or a list of those, not [{'prompt': 'q'}]",
    ),
    "a target twice": (
        PROMPT + "inputs: {one: prompt.q, two: [prompt.template, prompt.q]}",
        "inputs.two: prompt.q is taken by inputs.one already",
    ),
    "outputs as a text": (PROMPT + "outputs: prompt", "outputs must be a mapping of names to component.socket"),
    "an output of no socket": (
        PROMPT + "outputs: {text: prompt.text}",
        "outputs.text: prompt has no socket 'text' that is free; it has prompt",
    ),
    "an output of a list": (
        PROMPT + "outputs: {text: [prompt.prompt, prompt.q]}",
        "outputs.text must be one component.socket, not 2",
    ),
    "streaming of a component that cannot": (
        CHAT.replace("inputs", PROMPT.strip("\n").partition("\n")[2] + "\ninputs") + "streaming_components: [prompt]",
        STREAMING + "llm",
    ),
    "streaming of no component": (CHAT + "streaming_components: [nobody]", STREAMING + "llm"),
    "streaming of a number": (CHAT + "streaming_components: [[1]]", STREAMING + "llm"),
    "streaming of some": (CHAT + "streaming_components: some", STREAMING + "llm"),
    "a chat of nothing": (CHAT + "chat: {}", CHAT_SECTION),
    "a chat that is true": (CHAT + "chat: true", CHAT_SECTION),
    "a chat of both": (CHAT + "chat: {input: m, messages: m}", CHAT_SECTION),
    "a chat with more": (CHAT + "chat: {messages: m, model: x}", CHAT_SECTION),
    "a chat of no input": (
        CHAT + "chat: {messages: n}",
        "chat.messages names 'n', which is no declared input: ['m']",
    ),
    "a chat of a list": (
        CHAT + "chat: {messages: [m]}",
        "chat.messages names ['m'], which is no declared input: ['m']",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_fault_is_one_sentence(case: str) -> None:
    source, expected = FAULTS[case]
    with pytest.raises(LoadError) as caught:
        YAMLPipelineWrapper(source)
    assert caught.value.message == expected


@pytest.mark.parametrize(
    "source",
    [
        PROMPT + "inputs: {my-query: prompt.q}",
        PROMPT + "inputs: {from: prompt.q}",
        PROMPT + "inputs: {'': prompt.q}",
        PROMPT + "inputs: {'two words': prompt.q}",
    ],
)
def test_input_that_is_no_name_is_refused(source: str) -> None:
    with pytest.raises(LoadError, match=r"^inputs\..*"):
        YAMLPipelineWrapper(source)


@pytest.mark.parametrize(
    "source",
    [
        "components: {a: 1}",
        "components: {a: {type: 1}}",
        "components: {1: {type: x.Y}}",
        "components: &a {a: *a}",
        PROMPT + "connections: 1",
        PROMPT + "connections: [1]",
        PROMPT + "connections: {a: b}",
        PROMPT + "inputs: &a {q: [*a]}",
        PROMPT + "outputs: &a {q: *a}",
        PROMPT + "chat: &a {input: *a}",
        PROMPT + "streaming_components: &a [*a]",
        PROMPT + "metadata: 1",
    ],
)
def test_nonsense_is_one_sentence_at_the_most(source: str) -> None:
    said = ""
    try:
        YAMLPipelineWrapper(source)
    except LoadError as error:
        said = error.message
    assert "\n" not in said


def test_component_that_ends_the_process_fails_to_load(probe: Probe, tmp_path: Path) -> None:
    path = tmp_path / "leaving.yml"
    path.write_text(TYPED.format(f"{__name__}.Leaving"), encoding="utf-8")
    with pytest.raises(LoadError, match=r"^leaving\.yml: .*for good$"):
        load(Found("leaving", path), None)


@pytest.mark.parametrize("kind", ["Noted", "Telling"])
def test_fault_does_not_repeat_the_parameters(probe: Probe, kind: str) -> None:
    parameters = f"{{api_key: {SECRET}, nope: 1}}" if kind == "Noted" else f"{{api_key: {SECRET}}}"
    with pytest.raises(LoadError) as caught:
        YAMLPipelineWrapper(f"components: {{a: {{type: {__name__}.{kind}, init_parameters: {parameters}}}}}")
    assert caught.value.message.startswith(f"{MADE}Couldn't deserialize component 'a' of class '{kind}': ")
    assert SECRET not in caught.value.message


def test_allow_list_stays_the_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    source = f"components: {{noted: {{type: {__name__}.Noted, init_parameters: {{}}}}}}"
    refused = f"Refusing to deserialize a class from module '{__name__}'"
    with pytest.raises(LoadError, match=refused):
        YAMLPipelineWrapper(source)
    with monkeypatch.context() as context:
        context.setenv(DESERIALIZATION_ALLOWLIST_ENV_VAR, __name__)
        YAMLPipelineWrapper(source)
    with pytest.raises(LoadError, match=refused):
        YAMLPipelineWrapper(source)
