"""Every command and program of Hayhooks' guide "Running Pipelines" runs against this gateway, as it stands there.

`snippets/` holds them word for word, one a file. Only the port is replaced; `hayhooks` commands run as `gateway` too.
"""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from shutil import copytree
from time import time
from typing import Any

import pytest

from tests.running_pipelines.conftest import HERE, RunningServer

SNIPPETS = HERE / "snippets"
TIMEOUT_S = 60

HAYSTACK = "You asked: What is Haystack?"
DOCUMENT = "document.pdf 1423 bytes 'Haystack is a framework for pipelines and agents.'"
DOC1 = "doc1.pdf 1373 bytes 'The first document is a PDF.'"
DOC2 = "doc2.txt 35 bytes 'The second document is plain text.'"
ONE = "one.txt 33 bytes 'One stands in the folder itself.'"
TWO = "two.md 24 bytes '# Two'"
NOTES = "one.txt 67 bytes 'This one stands in a sub-folder, under a name that is there twice.'"
HIDDEN = ".hidden.txt 15 bytes 'A hidden file.'"
ALL = "Analyze all documents [temperature 1.0]: "

# What the CLI prints: the result. `--dir` leaves hidden files out and keeps the path inside the folder.
COMMANDS = {
    "01-quick-cli": HAYSTACK,
    "05-cli-json-param": HAYSTACK,
    "06-cli-two-params": f"{HAYSTACK}, at temperature 0.7",
    "07-cli-complex-json": "You asked: What is this about?, about https://example.com",
    "08-cli-file": f"Summarize this document [temperature 1.0]: {DOCUMENT}",
    "09-cli-dir": f"{ALL}notes/{NOTES}, {ONE}, {TWO}",
    "10-cli-two-files": f"Compare these documents [temperature 1.0]: {DOC1}, {DOC2}",
    "11-cli-file-and-param": f"Analyze [temperature 0.5]: {DOCUMENT}",
}
# What curl and the programs get: the result in JSON. requests sends the last part of a file's path only.
CURL = {
    "02-quick-curl": HAYSTACK,
    "12-curl-json": HAYSTACK,
    "13-curl-headers": HAYSTACK,
    "14-curl-multipart": "You asked: Summarize this document, with document.pdf (1423 bytes)",
    "15-curl-multipart-two-files": (
        "You asked: Compare these documents, with doc1.pdf (1373 bytes) and doc2.txt (35 bytes)"
    ),
}
PROGRAMS = {
    "03-quick-requests": HAYSTACK,
    "04-quick-httpx": HAYSTACK,
    "18-retry": HAYSTACK,
    "19-upload-requests": f"Summarize this document [temperature 1.0]: {DOCUMENT}",
    "20-upload-directory": f"{ALL}{HIDDEN}, {ONE}, {NOTES}, {TWO}",
}
# Commands and programs that ask for a chat completion. The programs run the wrapper `my_pipeline` before.
CHAT_COMMANDS = ("22-quick-chat-curl", "23-curl-chat")
CHAT_STREAM = "24-curl-chat-stream"
CHAT_PROGRAMS = ("16-program-requests", "17-program-httpx")
# `my_pipeline` counts no tokens; the pipeline of `chat_pipeline` counts words.
TOKENS = {"my_pipeline": (0, 0), "chat_pipeline": (5, 5)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files that the commands name."""
    return copytree(HERE / "data", tmp_path / "data")


def run(command: list[str], text: str, folder: Path, server: RunningServer) -> str:
    """What a script prints to stdout. It stands in a file, runs in `folder`, and has to end with exit code 0."""
    script = folder / "script"
    script.write_text(text.replace("localhost:1416", f"localhost:{server.port}"), encoding="utf-8")
    done = subprocess.run(
        [*command, "script"], cwd=folder, env=server.environment, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def read(name: str) -> str:
    [path] = SNIPPETS.glob(f"{name}.*")
    return path.read_text(encoding="utf-8")


def printed(result: str) -> str:
    """What `print(resp.json())` writes."""
    return str({"result": result}) + "\n"


def test_every_snippet_has_its_test() -> None:
    tested = {*COMMANDS, *CURL, *PROGRAMS, *CHAT_COMMANDS, CHAT_STREAM, *CHAT_PROGRAMS, "21-logging"}
    assert {path.stem for path in SNIPPETS.iterdir()} == tested


@pytest.mark.parametrize("program", ["hayhooks", "gateway"])
@pytest.mark.parametrize("name", COMMANDS)
def test_cli_command(name: str, program: str, folder: Path, running_server: RunningServer) -> None:
    command = read(name).replace("hayhooks pipeline run", f"{program} pipeline run")
    assert run(["bash", "-e"], command, folder, running_server) == f"{COMMANDS[name]}\n"


@pytest.mark.parametrize("name", CURL)
def test_curl_command(name: str, folder: Path, running_server: RunningServer) -> None:
    expected = json.dumps({"result": CURL[name]}, separators=(",", ":"))
    assert run(["bash", "-e"], read(name), folder, running_server) == expected


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name: str, folder: Path, running_server: RunningServer) -> None:
    assert run([sys.executable], read(name), folder, running_server) == printed(PROGRAMS[name])


@pytest.mark.parametrize("name", CHAT_COMMANDS)
def test_curl_chat_completion(name: str, folder: Path, running_server: RunningServer) -> None:
    began = int(time())
    completion = json.loads(run(["bash", "-e"], read(name), folder, running_server))
    assert completion == {**take_head(completion, began), **whole("my_pipeline")}


def test_curl_streamed_chat_completion(folder: Path, running_server: RunningServer) -> None:
    began = int(time())
    stream = run(["bash", "-e"], read(CHAT_STREAM), folder, running_server)
    *events, done, after = stream.split("\n\n")
    assert (done, after) == ("data: [DONE]", "")
    assert all(event.startswith("data: ") for event in events)
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    fixed = {**take_head(chunks[0], began), "object": "chat.completion.chunk", "model": "my_pipeline"}
    delta = {"role": "assistant", "content": HAYSTACK}
    assert chunks == [
        {**fixed, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
        {**fixed, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    ]


@pytest.mark.parametrize("name", CHAT_PROGRAMS)
def test_program_with_a_chat_completion(name: str, folder: Path, running_server: RunningServer) -> None:
    began = int(time())
    result, completion = map(ast.literal_eval, run([sys.executable], read(name), folder, running_server).splitlines())
    assert result == {"result": HAYSTACK}
    assert completion == {**take_head(completion, began), **whole("chat_pipeline")}


def take_head(body: dict[str, Any], began: int) -> dict[str, Any]:
    """What differs from reply to reply, once its form is checked."""
    assert re.fullmatch(r"chatcmpl-[0-9a-f]{24}", body["id"])
    assert began <= body["created"] <= time()
    return {"id": body["id"], "created": body["created"]}


def whole(model: str) -> dict[str, Any]:
    """The completion without its head."""
    asked, answered = TOKENS[model]
    usage = {
        "prompt_tokens": asked,
        "completion_tokens": answered,
        "total_tokens": asked + answered,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
    message = {"role": "assistant", "content": HAYSTACK, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {"object": "chat.completion", "model": model, "choices": [choice], "usage": usage}


def test_retry_gives_up_on_an_unknown_wrapper(folder: Path, running_server: RunningServer) -> None:
    program = read("18-retry").replace("my_pipeline", "no_pipeline").replace("time.sleep(2 ** attempt)", "pass")
    lines = run([sys.executable], program, folder, running_server).splitlines()
    url = f"http://localhost:{running_server.port}/no_pipeline/run"
    assert lines == [
        "Attempt 1 failed, retrying...",
        "Attempt 2 failed, retrying...",
        f"Pipeline execution failed: Failed after 3 attempts: 404 Client Error:  for url: {url}",
    ]


def test_logging_wrapper_is_the_guides() -> None:
    wrapper = HERE / "wrappers" / "logged_pipeline" / "pipeline_wrapper.py"
    assert read("21-logging") in wrapper.read_text(encoding="utf-8")


def test_logging_wrapper_logs_fields(folder: Path, running_server: RunningServer) -> None:
    command = "gateway pipeline run logged_pipeline --param 'query=What is Haystack?'"
    assert run(["bash", "-e"], command, folder, running_server) == f"{HAYSTACK}\n"
    start = json.loads(running_server.wait_for_log("pipeline_start"))
    complete = json.loads(running_server.wait_for_log("pipeline_complete"))
    assert (start["pipeline"], start["query_len"], start["level"]) == ("my_pipeline", 17, "info")
    assert complete["pipeline"] == "my_pipeline"
    assert 0 <= complete["duration_s"] < TIMEOUT_S
    assert start["wrapper"] == complete["wrapper"] == "logged_pipeline"
    assert start["request_id"] == complete["request_id"]


def test_logging_wrapper_logs_an_error(folder: Path, running_server: RunningServer) -> None:
    command = "! gateway pipeline run logged_pipeline --param query=unanswerable"
    assert run(["bash", "-e"], command, folder, running_server) == ""
    error = json.loads(running_server.wait_for_log("pipeline_error"))
    assert (error["level"], error["pipeline"], error["wrapper"]) == ("error", "my_pipeline", "logged_pipeline")
    assert "this has no answer" in error["error"]
