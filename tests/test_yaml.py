"""YAML pipelines through a real server: over HTTP, from the command line, and with OpenAI's SDK."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import requests
import yaml
from haystack.core.serialization_security import DESERIALIZATION_ALLOWLIST_ENV_VAR
from openai import NotFoundError, OpenAI

from gateway.cli.main import main
from gateway.haystack.yaml_source import MAX_DEPTH, MAX_NODES
from tests import probe as probes
from tests.gateways import Gateway, serve, spawn, write_wrapper
from tests.probe import eventually

PIPELINES = Path(__file__).parent / "pipelines"
WAIT_S = 20.0
SECRET = "sk-hunter2"
GOOD = (PIPELINES / "single_input.yml").read_text(encoding="utf-8")
BETTER = GOOD.replace("Tell me", "Tell me more")
HELLO = """
    class PipelineWrapper:
        def run_api(self) -> str:
            return "a folder"
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """All of `tests/pipelines`; the tests deploy others beside them."""
    wrappers_dir = tmp_path_factory.mktemp("yaml") / "wrappers"
    copytree(PIPELINES, wrappers_dir)
    with serve(wrappers_dir, watch=True) as gateway:
        yield gateway


@pytest.fixture
def folder(gateway: Gateway) -> Path:
    wrappers_dir: Path = gateway.app.state.tracker._wrappers_dir
    return wrappers_dir


@pytest.fixture
def client(gateway: Gateway) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0, timeout=WAIT_S) as client:
        yield client


def post(gateway: Gateway, path: str, body: Any = None, **options: Any) -> requests.Response:
    return requests.post(gateway.url + path, json=body, timeout=WAIT_S, **options)


def get(gateway: Gateway, path: str) -> Any:
    return requests.get(gateway.url + path, timeout=WAIT_S).json()


def deploy(gateway: Gateway, name: str, source: str, **options: Any) -> requests.Response:
    return post(gateway, "/deploy-yaml", {"name": name, "source_code": source, **options})


def ask(gateway: Gateway, name: str, topic: str = "fire") -> Any:
    return post(gateway, f"/{name}/run", {"topic": topic}).json()


def told(text: str) -> dict[str, Any]:
    return {"result": {"prompt": text}}


def error(status: int, code: str, message: str) -> tuple[int, dict[str, Any]]:
    return status, {"error": {"type": "invalid_request_error", "message": message, "code": code}, "detail": message}


def drop(gateway: Gateway, folder: Path, name: str) -> None:
    """A wrapper into the folder; it serves."""
    write_wrapper(folder, name, HELLO)
    eventually(lambda: get(gateway, "/status")["wrappers"].get(name, {}).get("state") == "serving", f"{name} serving")


def follow(gateway: Gateway, folder: Path, name: str) -> None:
    """Until all changes so far have been followed: those seen with the first wrapper are through before the second."""
    drop(gateway, folder, f"{name}_1")
    drop(gateway, folder, f"{name}_2")


# Runs, over HTTP and from the command line


DOCUMENTS = [{"content": text} for text in "abc"]
RUNS: dict[str, tuple[str, dict[str, Any], list[str], Any]] = {
    "single input": ("single_input", {"topic": "fire"}, ["topic=fire"], {"prompt": "Tell me about fire."}),
    "list target": (
        "list_target",
        {"query": "fire"},
        ["query=fire"],
        {"question": "What is fire?", "search": "find: fire"},
    ),
    "renamed outputs": ("renamed_outputs", {"what": "x"}, ["what=x"], {"end": "[<x>]", "middle": "<x>"}),
    "optional left out": (
        "optional_input",
        {"query": "q", "documents": DOCUMENTS},
        ["query=q", f"documents={json.dumps(DOCUMENTS)}"],
        {"prompt": "q", "documents": ["a", "b"]},
    ),
    "optional given": (
        "optional_input",
        {"query": "q", "documents": DOCUMENTS, "style": "short", "top_k": 1},
        ["query=q", *(f"documents={json.dumps(each)}" for each in DOCUMENTS), "style=short", "top_k=1"],
        {"prompt": "q, short", "documents": ["a"]},
    ),
    "messages": (
        "chat_messages",
        {"messages": [{"role": "user", "content": "hi"}]},
        ['messages=[{"role": "user", "content": "hi"}]'],
        {"replies": ["hi"]},
    ),
    "a question": ("chat_question", {"question": "who?"}, ["question=who?"], {"replies": ["You asked: who?"]}),
    "a chat section": (
        "chat_section",
        {"topic": "fire", "tone": "!"},
        ["topic=fire", "tone=!"],
        {"replies": ["You asked: fire!"]},
    ),
    "no chat": ("chat_false", {"query": "who?"}, ["query=who?"], {"replies": ["You asked: who?"]}),
    "two streams": (
        "two_streams_all",
        {"messages": [{"role": "user", "content": "hi"}]},
        ['messages=[{"role": "user", "content": "hi"}]'],
        {"first": ["hi"], "second": [" And again: hi"]},
    ),
}


def texts(result: dict[str, Any]) -> dict[str, Any]:
    """Messages and documents as their texts alone."""
    return {
        name: [_text(item) for item in value] if isinstance(value, list) else value for name, value in result.items()
    }


def _text(item: dict[str, Any]) -> str:
    text: str = item["content"] if isinstance(item["content"], str) else item["content"][0]["text"]
    return text


@pytest.mark.parametrize("case", RUNS)
def test_run_gives_the_declared_outputs(gateway: Gateway, case: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    name, arguments, params, expected = RUNS[case]
    reply = post(gateway, f"/{name}/run", arguments)
    assert (reply.status_code, list(reply.json())) == (200, ["result"])
    result = reply.json()["result"]
    assert (texts(result), list(result)) == (expected, list(expected))
    argv = [word for param in params for word in ("--param", param)]
    assert main(["pipeline", "run", name, "--url", gateway.url, *argv]) == 0
    assert texts(json.loads(capfdbinary.readouterr().out)) == expected


@pytest.mark.parametrize("meta", ['{"kind": "note"}', '[{"kind": "note"}, {"kind": "note"}]'])
def test_uploads_go_into_the_file_input(gateway: Gateway, meta: str) -> None:
    files = [("sources", (f"a/{name}.txt", io.BytesIO(name.encode()), "text/plain")) for name in "xy"]
    url = f"{gateway.url}/file_upload/run"
    reply = requests.post(url, files=files, data={"meta": meta}, timeout=WAIT_S)
    assert reply.status_code == 200
    documents = reply.json()["result"]["documents"]
    keys = ("content", "file_name", "file_path", "kind")
    assert [tuple(document[key] for key in keys) for document in documents] == [
        ("x", "a/x.txt", "x.txt", "note"),
        ("y", "a/y.txt", "y.txt", "note"),
    ]


@pytest.mark.parametrize("name", ["file_upload", "file_upload_files"])
def test_uploads_from_the_command_line(
    gateway: Gateway, name: str, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    (tmp_path / "a.txt").write_text("one", encoding="utf-8")
    (tmp_path / "b.txt").write_text("two", encoding="utf-8")
    assert main(["pipeline", "run", name, "--url", gateway.url, "--dir", str(tmp_path)]) == 0
    assert texts(json.loads(capfdbinary.readouterr().out)) == {"documents": ["one", "two"]}


def test_file_of_the_server_cannot_be_named(gateway: Gateway) -> None:
    reply = post(gateway, "/file_upload/run", {"sources": ["/etc/hostname"]})
    assert reply.status_code == 422
    assert reply.json()["error"]["message"] == "body.sources: files are sent as multipart/form-data, not in JSON"


WRONG: dict[str, tuple[str, dict[str, Any], tuple[int, str]]] = {
    "missing": ("single_input", {}, (422, "body.topic: Field required")),
    "not a number": ("optional_input", {"query": "", "documents": [], "top_k": "many"}, (422, "body.top_k")),
    "not documents": ("optional_input", {"query": "", "documents": "all of them"}, (422, "body.documents")),
    "a number among them": ("optional_input", {"query": "", "documents": [1]}, (422, "body.documents")),
    "no message": (
        "chat_messages",
        {"messages": [{"role": "user"}]},
        (400, "an input does not fit: Missing 'content'"),
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_gets_a_sentence(gateway: Gateway, case: str) -> None:
    name, body, (status, message) = WRONG[case]
    reply = post(gateway, f"/{name}/run", body)
    assert (reply.status_code, reply.json()["error"]["message"][: len(message)]) == (status, message)


def test_schema_and_openapi_show_the_inputs(gateway: Gateway) -> None:
    top_k = {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None, "title": "Top K"}
    schema = get(gateway, "/optional_input/schema")
    assert (schema["arguments"]["properties"]["top_k"], schema["arguments"]["required"]) == (
        top_k,
        ["query", "documents"],
    )
    assert (get(gateway, "/file_upload/schema")["files"], get(gateway, "/single_input/schema")["files"]) == (
        ["sources"],
        [],
    )
    document = get(gateway, "/openapi.json")
    bodies = {
        name: document["paths"][f"/{name}/run"]["post"]["requestBody"]["content"]
        for name in ("optional_input", "file_upload")
    }
    reference = bodies["optional_input"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    assert document["components"]["schemas"][reference]["properties"]["top_k"] == top_k
    assert "sources" in json.dumps(bodies["file_upload"]["multipart/form-data"]["schema"])
    assert list(bodies["file_upload"]) == ["multipart/form-data"]


def test_draw_shows_the_graph(gateway: Gateway) -> None:
    reply = requests.get(f"{gateway.url}/draw/renamed_outputs", timeout=WAIT_S)
    assert reply.headers["content-type"] == "text/vnd.mermaid; charset=utf-8"
    assert reply.text == (
        "flowchart TD\n"
        '    c0["first<br><small>PromptBuilder</small>"]\n'
        '    c1["second<br><small>PromptBuilder</small>"]\n'
        '    c0 -- "prompt → text" --> c1\n'
    )


def test_draw_of_a_wrapper_without_a_pipeline_answers_404(gateway: Gateway, folder: Path) -> None:
    drop(gateway, folder, "bare")
    reply = requests.get(f"{gateway.url}/draw/bare", timeout=WAIT_S)
    assert (reply.status_code, reply.json()) == error(
        404, "not_found", "wrapper bare has no pipeline that could be drawn"
    )


# Chats, with OpenAI's SDK


CONVERSATION: list[Any] = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "one two"},
]
CHATS = {
    "chat_messages": ["one ", "two"],
    "chat_query": ["You ", "asked: ", "one ", "two"],
    "chat_question": ["You ", "asked: ", "one ", "two"],
    "chat_section": ["You ", "asked: ", "one ", "two"],
    "chat_section_messages": ["one ", "two"],
    "two_streams_all": ["one ", "two", "And ", "again: ", "one ", "two"],
    "two_streams_list": ["one ", "two", "And ", "again: ", "one ", "two"],
    "two_streams_last": ["And ", "again: ", "one ", "two"],
    "two_streams_first": ["one ", "two"],
}


@pytest.mark.parametrize("name", CHATS)
def test_chat_whole(client: OpenAI, name: str) -> None:
    (choice,) = client.chat.completions.create(model=name, messages=CONVERSATION).choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == (
        "assistant",
        "".join(CHATS[name]),
        "stop",
    )


@pytest.mark.parametrize("name", CHATS)
def test_chat_streamed(client: OpenAI, name: str) -> None:
    chunks = list(client.chat.completions.create(model=name, messages=CONVERSATION, stream=True))
    assert [chunk.choices[0].delta.content for chunk in chunks] == [*CHATS[name], None]
    assert [chunk.choices[0].delta.role for chunk in chunks] == ["assistant", *[None] * len(CHATS[name])]
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [*[None] * len(CHATS[name]), "stop"]


@pytest.mark.parametrize("is_stream", [False, True])
def test_response_of_a_chat(client: OpenAI, is_stream: bool) -> None:
    reply: Any = client.responses.create(model="chat_query", input="one two", stream=is_stream)
    if is_stream:
        reply = next(event for event in reply if event.type == "response.completed").response
    assert reply.output_text == "You asked: one two"


@pytest.mark.parametrize("name", ["chat_false", "single_input", "file_upload"])
def test_pipeline_that_does_not_chat_is_no_model(client: OpenAI, name: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        client.chat.completions.create(model=name, messages=CONVERSATION)
    assert caught.value.code == "model_not_found"
    assert name not in [model.id for model in client.models.list()]


def test_pipelines_that_chat_are_models(client: OpenAI) -> None:
    assert set(CHATS) <= {model.id for model in client.models.list()}


# Deploying


def test_deploy_serves_at_once(gateway: Gateway, folder: Path) -> None:
    reply = deploy(gateway, "fresh", GOOD, description="the first")
    expected = {"name": "fresh", "success": True, "endpoint": "/fresh/run", "generation": 1}
    assert (reply.status_code, reply.json()) == (200, expected)
    assert ask(gateway, "fresh") == told("Tell me about fire.")
    assert (folder / "fresh.yml").read_text(encoding="utf-8") == GOOD
    reply = deploy(gateway, "fresh", BETTER)
    message = "wrapper fresh is deployed already; overwrite replaces it"
    assert (reply.status_code, reply.json()) == error(409, "conflict", message)
    assert deploy(gateway, "fresh", BETTER, overwrite=True).json() == {**expected, "generation": 2}
    assert ask(gateway, "fresh") == told("Tell me more about fire.")
    history = get(gateway, "/status/fresh")["history"]
    assert [(kept["number"], kept["origin"], kept["description"], kept["is_yaml"]) for kept in history] == [
        (2, "deploy", "", 1),
        (1, "deploy", "the first", 1),
    ]
    assert post(gateway, "/rollback/fresh").json() == {**expected, "generation": 3}
    assert ask(gateway, "fresh") == told("Tell me about fire.")
    assert post(gateway, "/undeploy/fresh").json() == {"success": True, "name": "fresh"}
    assert post(gateway, "/fresh/run", {"topic": "fire"}).status_code == 404
    assert (folder / "fresh.yml").read_text(encoding="utf-8") == GOOD
    assert post(gateway, "/restore/fresh").status_code == 200
    assert ask(gateway, "fresh") == told("Tell me about fire.")


def test_deploy_without_saving_leaves_the_folder_alone(gateway: Gateway, folder: Path) -> None:
    before = sorted(folder.iterdir())
    assert deploy(gateway, "unsaved", GOOD, save_file=False).status_code == 200
    assert ask(gateway, "unsaved") == told("Tell me about fire.")
    assert sorted(folder.iterdir()) == sorted({*before, folder / ".gateway"})


def test_deploy_from_the_command_line(gateway: Gateway, capfd: pytest.CaptureFixture[str]) -> None:
    path = str(PIPELINES / "single_input.yml")
    argv = ["pipeline", "deploy-yaml", path, "--url", gateway.url, "--name", "typed"]
    assert main(argv) == 0
    assert capfd.readouterr().out.endswith("typed serves (generation 1)\n")  # the server logs here too
    assert main(argv) == 1
    assert capfd.readouterr().err.endswith(": wrapper typed is deployed already; overwrite replaces it\n")
    assert main([*argv, "--overwrite"]) == 0
    assert capfd.readouterr().out.endswith("typed serves (generation 2)\n")
    assert ask(gateway, "typed") == told("Tell me about fire.")


def test_yaml_over_a_file_with_the_other_ending_stays(gateway: Gateway, folder: Path) -> None:
    (folder / "ending.yaml").write_text(GOOD, encoding="utf-8")
    follow(gateway, folder, "after_ending")
    assert ask(gateway, "ending") == told("Tell me about fire.")
    assert deploy(gateway, "ending", BETTER, overwrite=True).status_code == 200
    follow(gateway, folder, "still_after_ending")
    assert ask(gateway, "ending") == told("Tell me more about fire.")


def test_yaml_over_a_folder_is_refused_or_stays(gateway: Gateway, folder: Path) -> None:
    """A folder goes before a YAML file of its name: whichever it is, it must be so after the next look as well."""
    drop(gateway, folder, "both")
    status = deploy(gateway, "both", GOOD, overwrite=True).status_code
    assert status in (200, 409)
    follow(gateway, folder, "after_both")
    expected = told("Tell me about fire.") if status == 200 else {"result": "a folder"}
    assert ask(gateway, "both") == expected


TENS = "[{0},{0},{0},{0},{0},{0},{0},{0},{0},{0}]"
BOMB = "\n".join(
    f"{name}: &{name} {TENS.format(of)}" for name, of in zip("abcdef", ["x", *map("*{}".format, "abcde")], strict=True)
)
INVALID = "{}.yml: the YAML is not valid: "
NO_MAPPING = "{}.yml: the YAML must be a mapping with components and connections, not "
FAULTS = {
    "not YAML": ("a: 1\nb: c: d", INVALID + "line 2, column 5: mapping values are not allowed in this context"),
    "a list": ("- components", NO_MAPPING + "a list"),
    "nothing": ("", NO_MAPPING + "nothing"),
    "NUL": ("a\0", INVALID + "unacceptable character #x0000: control characters are not allowed"),
    "an anchor bomb": (BOMB, "{}.yml: the YAML stands for more than " + f"{MAX_NODES} values"),
    "deep nesting": ("[" * 500_000, "{}.yml: the YAML nests deeper than " + f"{MAX_DEPTH}"),
    "10 MB": ("a: " + "x" * 10_000_000, "{}.yml: the YAML is larger than 1048576 characters"),
    "an unknown component": (
        GOOD.replace("haystack.components.builders.prompt_builder.PromptBuilder", "haystack.nope.Nope"),
        "{}.yml: the pipeline cannot be made: Component 'haystack.nope.Nope' (name: 'prompt') not imported. Please "
        "check that the package is installed and the component path is correct.: No module named 'haystack.nope'",
    ),
    "a class that is not allowed": (
        GOOD.replace("haystack.components.builders.prompt_builder.PromptBuilder", "subprocess.Popen"),
        "{}.yml: the pipeline cannot be made: Refusing to deserialize a class from module 'subprocess': the module is "
        "not on the trusted-module allowlist.",
    ),
    "a bad connection": (
        GOOD.replace("connections: []", "connections: [{sender: prompt.prompt, receiver: llm.messages}]"),
        "{}.yml: the pipeline cannot be made: Component named llm not found in the pipeline.: 'llm'",
    ),
    "an unknown socket in inputs": (
        GOOD.replace("prompt.topic", "prompt.words"),
        "{}.yml: inputs.topic: prompt has no socket 'words' that is free; it has topic, template, template_variables",
    ),
    "an unknown socket in outputs": (
        GOOD.replace("prompt.prompt", "prompt.text"),
        "{}.yml: outputs.prompt: prompt has no socket 'text' that is free; it has prompt",
    ),
    "a target twice": (
        GOOD.replace("outputs:", "  again: prompt.topic\noutputs:"),
        "{}.yml: inputs.again: prompt.topic is taken by inputs.topic already",
    ),
    "a parameter that is not there": (
        GOOD.replace("{template:", f"{{api_key: {SECRET}, template:"),
        "{}.yml: the pipeline cannot be made: Couldn't deserialize component 'prompt' of class 'PromptBuilder': "
        "PromptBuilder.__init__() got an unexpected keyword argument 'api_key'",
    ),
    "a chat of a list": (
        GOOD + "chat: {input: [topic]}",
        "{}.yml: chat.input names ['topic'], which is no declared input: ['topic']",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_fault_is_told_and_the_old_generation_serves(gateway: Gateway, folder: Path, case: str) -> None:
    source, expected = FAULTS[case]
    name = f"bad_{list(FAULTS).index(case)}"
    assert deploy(gateway, name, GOOD).status_code == 200
    before = sorted((path, path.read_bytes()) for path in folder.glob(f"**/{name}*") if path.is_file())
    reply = deploy(gateway, name, source, overwrite=True)
    assert (reply.status_code, reply.json()) == error(422, "load_error", expected.format(name))
    after = sorted((path, path.read_bytes()) for path in folder.glob(f"**/{name}*") if path.is_file())
    assert after == before
    assert ask(gateway, name) == told("Tell me about fire.")
    status = get(gateway, f"/status/{name}")
    assert (status["generation"], status["reason"], len(status["history"])) == (1, None, 1)
    assert deploy(gateway, name, BETTER, overwrite=True).status_code == 200
    assert ask(gateway, name) == told("Tell me more about fire.")


def test_fault_of_a_new_name_leaves_nothing(gateway: Gateway, folder: Path) -> None:
    assert deploy(gateway, "stillborn", "- a").status_code == 422
    assert "stillborn" not in get(gateway, "/status")["wrappers"]
    assert list(folder.glob("**/stillborn*")) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a: \xff", "edited.yml: 'utf-8' codec can't decode byte 0xff in position 3: invalid start byte"),
        (b"a: b: c", INVALID.format("edited") + "line 1, column 5: mapping values are not allowed in this context"),
        (b"- a", NO_MAPPING.format("edited") + "a list"),
    ],
)
def test_broken_edit_keeps_the_old_generation_and_the_next_one_heals(
    gateway: Gateway, folder: Path, content: bytes, reason: str
) -> None:
    path = folder / "edited.yml"
    path.write_text(GOOD, encoding="utf-8")
    eventually(lambda: ask(gateway, "edited") == told("Tell me about fire."), "the first text")
    path.write_bytes(content)
    eventually(lambda: get(gateway, "/status/edited")["reason"] == reason, "the reason")
    assert get(gateway, "/status/edited")["state"] == "serving"
    assert ask(gateway, "edited") == told("Tell me about fire.")
    path.write_text(BETTER, encoding="utf-8")
    eventually(lambda: ask(gateway, "edited") == told("Tell me more about fire."), "the second text")
    assert get(gateway, "/status/edited")["reason"] is None
    path.unlink()
    eventually(lambda: "edited" not in get(gateway, "/status")["wrappers"], "its end")


def test_start_outlives_every_fault_and_logs_no_secret(tmp_path: Path) -> None:
    """Each is a file in the folder of a process that starts; one good pipeline stands among them."""
    wrappers_dir = tmp_path / "wrappers"
    wrappers_dir.mkdir()
    sources = {f"bad_{number}": source for number, (source, _) in enumerate(FAULTS.values())}
    sources["bad_name"] = GOOD.replace("  topic:", "  my-topic:")
    sources["bad_number"] = "a: " + "1:" * 50_000 + "1.5"
    for name, source in sources.items():
        (wrappers_dir / f"{name}.yml").write_text(source, encoding="utf-8")
    (wrappers_dir / "bad_text.yml").write_bytes(b"\xff\xfe")
    (wrappers_dir / "good.yml").write_text(GOOD, encoding="utf-8")
    with spawn(
        "-d", str(wrappers_dir), cwd=tmp_path, environment={"HAYSTACK_DESERIALIZATION_ALLOWLIST": ""}
    ) as process:
        process.wait_until_ready()
        wrappers = requests.get(f"{process.url}/status", timeout=WAIT_S).json()["wrappers"]
        states = {name: wrapper["state"] for name, wrapper in wrappers.items()}
        assert states == {**dict.fromkeys([*sources, "bad_text"], "failed"), "good": "serving"}
        assert [name for name, wrapper in wrappers.items() if "\n" in (wrapper["reason"] or "")] == []
        assert process.stop() == 0
        process.close()
        assert SECRET not in "".join(process.lines)


def test_class_that_the_operator_allows_is_served(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "shout.py").write_text(
        "from haystack import component\n\n"
        "@component\nclass Shout:\n"
        "    @component.output_types(text=str)\n"
        "    def run(self, text: str) -> dict[str, str]:\n"
        "        return {'text': text.upper()}\n",
        encoding="utf-8",
    )
    data = {
        "components": {"shout": {"type": "shout.Shout", "init_parameters": {}}},
        "inputs": {"text": "shout.text"},
        "outputs": {"text": "shout.text"},
    }
    (tmp_path / "wrappers").mkdir()
    (tmp_path / "wrappers" / "loud.yml").write_text(yaml.safe_dump(data), encoding="utf-8")
    with spawn(
        "-d",
        str(tmp_path / "wrappers"),
        "--additional-python-path",
        str(tmp_path / "code"),
        "--strict",
        environment={"HAYSTACK_DESERIALIZATION_ALLOWLIST": "shout"},
    ) as process:
        process.wait_until_ready()
        reply = requests.post(f"{process.url}/loud/run", json={"text": "hello"}, timeout=WAIT_S)
        assert reply.json() == {"result": {"text": "HELLO"}}


def test_pipeline_is_warmed_up_and_closed_once_each(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    module = "tests.haystack.test_yaml_pipeline"
    monkeypatch.setenv(DESERIALIZATION_ALLOWLIST_ENV_VAR, module)
    probe = probes.renew()
    source = (
        f"components: {{noted: {{type: {module}.Noted, init_parameters: {{}}}}}}\noutputs: {{thread: noted.thread}}"
    )
    assert deploy(gateway, "noted", source, save_file=False).status_code == 200
    assert probe.notes == ["warm_up"]
    assert post(gateway, "/noted/run").status_code == 200
    assert probe.count("closed") == 0
    assert deploy(gateway, "noted", GOOD, overwrite=True, save_file=False).status_code == 200
    probe.wait("closed")
    assert (probe.notes[-2:], probe.count("closed")) == (["run", "close"], 1)
