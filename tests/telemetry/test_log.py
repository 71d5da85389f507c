"""The log as a process writes it: `configure_logging` is for the owner of a process, so each of these is one."""

import json
import subprocess
import sys
from collections.abc import Iterator
from textwrap import dedent
from typing import Any

import pytest
import requests

from tests.gateways import Process, spawn, write_wrapper

WAIT_S = 10.0


def run_python(source: str) -> list[str]:
    """The lines that this program writes to stderr."""
    done = subprocess.run([sys.executable, "-c", dedent(source)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    return done.stderr.splitlines()


def run_json(source: str) -> list[dict[str, Any]]:
    head = "from gateway.telemetry.log import configure_logging, log\nconfigure_logging(format='json', level='debug')\n"
    lines = [json.loads(line) for line in run_python(head + dedent(source))]
    for line in lines:
        assert line.pop("timestamp").endswith("Z")
    return lines


def test_log_takes_messages_of_every_form() -> None:
    assert run_json(
        """
        log.info("plain {not a field}")
        log.info("{} of {}", 1, 2)
        log.info("{name} is {age}", name="n", age=3)
        log.warning("fields", seconds=1.5, path=1)
        log.info({"event": "pipeline_start", "query_len": 3})
        log.info({"no": "event"}, more=1)
        log.info("too few {} {}", 1)
        log.info("unknown {field}", other=1)
        log.info("{0[a]} {0.b}", 1)
        log.info("taken", event="e", level="l", logger="g")
        log.debug("d")
        log.critical(3)
        """
    ) == [
        {"event": "plain {not a field}", "level": "info"},
        {"event": "1 of 2", "level": "info"},
        {"event": "n is 3", "level": "info", "name": "n", "age": 3},
        {"event": "fields", "level": "warning", "seconds": 1.5, "path": 1},
        {"event": "pipeline_start", "level": "info", "query_len": 3},
        {"event": "", "level": "info", "no": "event", "more": 1},
        {"event": "too few {} {}", "level": "info", "args": [1]},
        {"event": "unknown {field}", "level": "info", "other": 1},
        {"event": "{0[a]} {0.b}", "level": "info", "args": [1]},
        {"event": "taken", "level": "info", "event_": "e", "level_": "l", "logger": "g"},
        {"event": "d", "level": "debug"},
        {"event": "3", "level": "critical"},
    ]


NEVER_RAISES = {
    "a field called message": 'log.info("x", message="m")',
    "a field called self": 'log.info("x", self="m")',
    "a key that is no text": "log.info({1: 2})",
    "a nested key that is no text": 'log.info("x", data={(1, 2): 3})',
    "a circle": 'circle = []; circle.append(circle); log.info("x", data=circle)',
    "a lone surrogate": 'log.info("x", data="\\ud800")',
    "an object that cannot be shown": (
        'Odd = type("Odd", (), {"__repr__": lambda self: 1 / 0}); log.info("x", data=Odd()); log.info("{!r}", Odd())'
    ),
    "an object as message": 'log.info(type("Odd", (), {"__str__": lambda self: 1 / 0})())',
    "exception outside of one": 'log.exception("x")',
}


@pytest.mark.parametrize("case", NEVER_RAISES)
def test_log_never_raises(case: str) -> None:
    for style in ("json", "console"):
        head = f"from gateway.telemetry.log import configure_logging, log\nconfigure_logging(format={style!r})\n"
        assert run_python(head + NEVER_RAISES[case])


def test_log_shows_the_traceback() -> None:
    (line,) = run_json(
        """
        try:
            1 / 0
        except ZeroDivisionError:
            log.exception("failed", step=1)
        """
    )
    assert (line["event"], line["level"], line["step"]) == ("failed", "error", 1)
    assert line["exception"].endswith("ZeroDivisionError: division by zero")


def test_log_has_other_libraries_lines_and_haystacks() -> None:
    haystack = {"event": "from Haystack: value", "level": "warning"}
    lines = run_json(
        """
        import logging
        from gateway.cli.environment import prepare_haystack
        prepare_haystack()
        logging.getLogger("some.library").info("from %s", "a library", extra={"extra": 1})
        from haystack import logging as haystack_logging
        haystack_logging.getLogger("haystack.mine").warning("from Haystack: {field}", field="value")
        """
    )
    lines = [line for line in lines if "from" in line["event"]]
    assert lines[0] == {"event": "from a library", "level": "info", "extra": 1}
    assert haystack.items() <= lines[1].items()
    assert len(lines) == 2


def test_log_is_readable_on_a_console() -> None:
    (line,) = run_python(
        """
        from gateway.telemetry.log import configure_logging, log
        configure_logging(format="console")
        log.debug("not shown")
        log.info("shown", seconds=1, text="two\\nlines")
        """
    )
    assert "[info     ] shown" in line
    assert "seconds=1" in line
    assert r"'two\nlines'" in line


SECRET = "hunter2-is-the-payload"
WRAPPER = """
    import logging
    from haystack import Pipeline
    from haystack import logging as haystack_logging
    from haystack.components.builders import ChatPromptBuilder
    from haystack.components.generators.chat import MockChatGenerator
    from haystack.dataclasses import ChatMessage
    from gateway import BasePipelineWrapper, SSEStream, UploadFile, log, streaming_generator

    theirs = haystack_logging.getLogger(__name__)

    class PipelineWrapper(BasePipelineWrapper):
        def setup(self) -> None:
            self.pipeline = Pipeline()
            template = [ChatMessage.from_user("{{ query }}")]
            self.pipeline.add_component("prompt", ChatPromptBuilder(template, required_variables=["query"]))
            self.pipeline.add_component("model", MockChatGenerator())
            self.pipeline.connect("prompt.prompt", "model.messages")

        def run_api(self, query: str, how: str = "whole", files: list[UploadFile] | None = None):
            log.info({"event": "ours", "query_len": len(query)})
            theirs.warning("theirs {length}", length=len(query))
            logging.getLogger("library").warning("library")
            arguments = {"prompt": {"query": query}}
            if how == "whole":
                return self.pipeline.run(arguments)["model"]["replies"][0].text
            return SSEStream(streaming_generator(self.pipeline, pipeline_run_args=arguments))
"""


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    wrappers_dir = tmp_path_factory.mktemp("wrappers")
    write_wrapper(wrappers_dir, "w", WRAPPER)
    environment = {"HAYSTACK_TELEMETRY_ENABLED": "False"}
    with spawn("--wrappers-dir", str(wrappers_dir), "--log-level", "debug", environment=environment) as process:
        process.wait_until_ready()
        yield process


def test_every_line_of_a_run_names_it(process: Process) -> None:
    reply = requests.post(f"{process.url}/w/run", json={"query": "q"}, headers={"X-Request-ID": "abc"}, timeout=WAIT_S)
    assert (reply.status_code, reply.headers["x-request-id"]) == (200, "abc")
    process.wait_for('"abc"')
    lines = {}
    for event in ('"ours"', '"theirs 1"', '"library"', '"request"'):
        found = next((line for line in process.lines if event in line and '"abc"' in line), None)
        lines[event] = json.loads(found or process.wait_for(event))
    named = {event: (line["request_id"], line["wrapper"]) for event, line in lines.items()}
    assert named == dict.fromkeys(lines, ("abc", "w"))
    assert lines['"ours"']["query_len"] == 1
    request = lines['"request"']
    assert (request["method"], request["path"], request["status"]) == ("POST", "/w/run", 200)
    assert request["duration_ms"] > 0


def test_payloads_are_not_logged_at_debug_level(process: Process) -> None:
    url = f"{process.url}/w/run"
    for how in ("whole", "stream"):
        reply = requests.post(url, json={"query": SECRET, "how": how}, timeout=WAIT_S)
        assert SECRET in reply.text.replace("\n\ndata: ", "").replace("data: ", "")
    files = {"files": (f"{SECRET}.txt", SECRET.encode()), "query": (None, SECRET)}
    requests.post(url, files=files, headers={"Authorization": f"Bearer {SECRET}"}, timeout=WAIT_S)
    requests.post(f"{url}?key={SECRET}", json={"query": [SECRET]}, timeout=WAIT_S)
    requests.post(url, data=f"not JSON {SECRET}", headers={"Content-Type": "application/json"}, timeout=WAIT_S)
    body = f"--c\r\n{SECRET}: {SECRET}\r\n\r\n{SECRET}"
    requests.post(url, data=body, headers={"Content-Type": "multipart/form-data; boundary=b"}, timeout=WAIT_S)
    requests.post(url, json={}, headers={"X-Request-ID": "the-last"}, timeout=WAIT_S)
    process.wait_for('"the-last"')
    assert [line for line in process.lines if SECRET in line] == []
