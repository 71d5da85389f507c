"""`gateway chat`: piped, and in a terminal."""

import json
import os
import signal
import termios
from collections.abc import Callable, Iterator
from contextlib import suppress
from subprocess import Popen
from threading import Event
from typing import Any

import pytest

from tests.cli.double import Double, Reply, as_json

WAIT_S = 20.0
Start = Callable[..., "Popen[bytes]"]
PATH = "/v1/chat/completions"


def stream(*deltas: dict[str, Any], done: bool = True, is_cut: bool = False) -> Reply:
    events = [f"data: {json.dumps({'choices': [{'index': 0, 'delta': delta}]})}\n\n" for delta in deltas]
    body = "".join([*events, "data: [DONE]\n\n" if done else ""]).encode()
    return Reply([body], media_type="text/event-stream", is_cut=is_cut)


def ask(server: Double, start: Start, question: str, *argv: str) -> tuple[int, str, str]:
    process = start("chat", "w", "--url", server.url, *argv, stdin=-1)
    out, err = process.communicate(question.encode(), timeout=WAIT_S)
    return process.returncode, out.decode(), err.decode()


ANSWERS: dict[str, tuple[Reply, tuple[int, str, str]]] = {
    "text": (stream({"role": "assistant", "content": "a"}, {"content": "b ü"}, {}), (0, "a" + "b ü\n", "")),
    "its own line end": (stream({"content": "a\n"}), (0, "a\n", "")),
    "an event of a user interface": (
        Reply([b'data: {"event": {"type": "status"}}\n\ndata: [DONE]\n\n'], media_type="text/event-stream"),
        (0, "", ""),
    ),
    "a tool call": (
        stream({"tool_calls": [{"function": {"name": "f"}}]}),
        (0, "", "the wrapper asks its client to call f, which this one cannot\n"),
    ),
    "an error event": (
        Reply(
            [b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n', b'data: {"error": {"message": "it broke"}}\n\n'],
            media_type="text/event-stream",
        ),
        (1, "a\n", "gateway: it broke\n"),
    ),
    "no end": (
        stream({"content": "a"}, done=False),
        (1, "a\n", "gateway: the reply is incomplete: the connection broke\n"),
    ),
    "a refusal": (
        as_json({"error": {"message": "there is no wrapper 'w'"}}, 404),
        (1, "", "gateway: there is no wrapper 'w'\n"),
    ),
    "no stream": (
        Reply([b"data: hello\n\n"], media_type="text/event-stream"),
        (1, "", "gateway: the reply is no chat stream; is that a gateway?\n"),
    ),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_chat_answers_what_is_piped_in(server: Double, start: Start, case: str) -> None:
    reply, expected = ANSWERS[case]
    server.on("POST", PATH, reply)
    assert ask(server, start, "what?\nand why?\n") == expected
    (request,) = server.requests
    assert request.json() == {
        "model": "w",
        "messages": [{"role": "user", "content": "what?\nand why?"}],
        "stream": True,
    }


def test_chat_sends_the_system_message_and_the_key(server: Double, start: Start) -> None:
    server.on("POST", PATH, stream({"content": "a"}))
    assert ask(server, start, "q", "--system", "be brief", "--api-key", "k") == (0, "a\n", "")
    (request,) = server.requests
    assert request.json()["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "q"},
    ]
    assert request.headers["Authorization"] == "Bearer k"


@pytest.mark.parametrize("question", ["", "\n \n"])
def test_chat_with_nothing_piped_in(server: Double, start: Start, question: str) -> None:
    code, out, err = ask(server, start, question)
    message = "gateway: there is nothing to answer: pipe a question in, or start it in a terminal\n"
    assert (code, out, err) == (1, "", message)
    assert server.requests == []


def test_chat_with_something_piped_in_that_is_no_text(server: Double, start: Start) -> None:
    process = start("chat", "w", "--url", server.url, stdin=-1)
    out, err = process.communicate(b"caf\xe9", timeout=WAIT_S)
    message = b"gateway: the question is not UTF-8: unexpected end of data at byte 3\n"
    assert (process.returncode, out, err) == (1, b"", message)
    assert server.requests == []


class Terminal:
    """`gateway chat` with a terminal of its own. `until`: type nothing before this has been shown."""

    def __init__(self, server: Double, start: Start) -> None:
        self.master, terminal = os.openpty()
        termios.tcsetwinsize(terminal, (24, 200))
        pipes = {"stdin": terminal, "stdout": terminal, "stderr": terminal, "start_new_session": True}
        environment = {**os.environ, "TERM": "dumb"}
        self.process = start("chat", "w", "--url", server.url, env=environment, **pipes)
        os.close(terminal)
        self.shown = ""

    def until(self, text: str) -> str:
        """What has been shown since the last call, to the end of `text`."""
        while text not in self.shown:
            piece = os.read(self.master, 4096)
            assert piece, f"{text!r} did not come: {self.shown!r}"
            self.shown += piece.decode().replace("\r\n", "\n")
        before, _, self.shown = self.shown.partition(text)
        return before + text

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def end(self) -> int:
        with suppress(OSError):  # nobody holds the other side any more
            while os.read(self.master, 4096):
                pass
        return self.process.wait(WAIT_S)


@pytest.fixture
def terminal(server: Double, start: Start) -> Iterator[Terminal]:
    terminal = Terminal(server, start)
    yield terminal
    os.close(terminal.master)


def contents(server: Double) -> list[list[str]]:
    return [[message["content"] for message in request.json()["messages"]] for request in server.requests]


def test_chat_keeps_the_conversation_until_it_is_reset(server: Double, terminal: Terminal) -> None:
    server.on("POST", PATH, stream({"content": "one"}), stream({"content": "two"}), stream({"content": "three"}))
    assert "talking to w; /reset forgets the conversation" in terminal.until("> ")
    terminal.type("first\n")
    assert "one\n" in terminal.until("> ")
    terminal.type("second\n")
    assert "two\n" in terminal.until("> ")
    terminal.type("/reset\n")
    assert "the conversation is forgotten\n" in terminal.until("> ")
    terminal.type("third\n")
    assert "three\n" in terminal.until("> ")
    terminal.type("/quit\n")
    assert terminal.end() == 0
    assert contents(server) == [["first"], ["first", "one", "second"], ["third"]]


def test_chat_goes_on_after_a_turn_that_failed(server: Double, terminal: Terminal) -> None:
    server.on("POST", PATH, as_json({"error": {"message": "it broke"}}, 500), stream({"content": "one"}))
    terminal.until("> ")
    terminal.type("first\n")
    assert "it broke\n" in terminal.until("> ")
    terminal.type("second\n")
    assert "one\n" in terminal.until("> ")
    terminal.type("\x04")  # Ctrl-D
    assert terminal.end() == 0
    assert contents(server) == [["first"], ["second"]]


def test_chat_interrupted_in_an_answer_leaves_the_turn_out(server: Double, terminal: Terminal) -> None:
    released = Event()

    def pieces() -> Iterator[bytes]:
        yield b'data: {"choices":[{"delta":{"content":"begun"}}]}\n\n'
        released.wait(WAIT_S)

    server.on("POST", PATH, Reply(pieces(), media_type="text/event-stream"), stream({"content": "one"}))
    terminal.until("> ")
    terminal.type("first\n")
    terminal.until("begun")
    os.kill(terminal.process.pid, signal.SIGINT)
    assert "stopped\n" in terminal.until("> ")
    released.set()
    terminal.type("second\n")
    assert "one\n" in terminal.until("> ")
    terminal.type("/quit\n")
    assert terminal.end() == 0
    assert contents(server) == [["first"], ["second"]]
