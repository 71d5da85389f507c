"""Three hundred streams at once through one worker: none broken, each exactly its own."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import probe as probes
from tests.gateways import WRAPPERS, Gateway, serve
from tests.openai.strict import DONE, record
from tests.probe import Probe

STREAMS = 300
TOKENS = 25
WAIT_S = 60.0


@pytest.fixture
def probe() -> Probe:
    return probes.renew()


@pytest.fixture
def gateway(probe: Probe, tmp_path: Path) -> Iterator[Gateway]:
    for name in ("fan_out", "fan_out_sync"):
        (tmp_path / name).symlink_to(WRAPPERS / name)
    with serve(tmp_path) as gateway:
        yield gateway


class Caller:
    """One connection with one question. `pieces`: the chunks of the reply's body, as the server wrote them."""

    def __init__(self, port: int, model: str, question: str) -> None:
        self.head = b""
        self.pieces: list[bytes] = []
        self._port = port
        message = {"role": "user", "content": question}
        body = json.dumps({"model": model, "messages": [message], "stream": True, "tokens": TOKENS}).encode()
        lines = ["POST /v1/chat/completions HTTP/1.1", "Host: test", "Content-Type: application/json"]
        self._request = "\r\n".join([*lines, f"Content-Length: {len(body)}\r\n\r\n"]).encode() + body

    async def begin(self) -> None:
        """Ask, and read the head and the first chunk."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(self._request)
        self.head = await self._reader.readuntil(b"\r\n\r\n")
        await self._read_piece()

    async def end(self) -> None:
        """Read all that is left, up to the closing chunk."""
        while await self._read_piece():
            pass
        self._writer.close()
        await self._writer.wait_closed()

    async def _read_piece(self) -> bool:
        size = int(await self._reader.readline(), 16)
        piece = await self._reader.readexactly(size + 2)
        assert piece.endswith(b"\r\n")
        if size:
            self.pieces.append(piece[:-2])
        return bool(size)


async def ask_all(port: int, model: str, probe: Probe) -> list[Caller]:
    callers = [Caller(port, model, question(number)) for number in range(STREAMS)]
    async with asyncio.timeout(WAIT_S):
        await asyncio.gather(*(caller.begin() for caller in callers))
        probe.set("all are reading")
        await asyncio.gather(*(caller.end() for caller in callers))
    return callers


def question(number: int) -> str:
    return f"what is {number} times {number}?"


def chunks(model: str, number: int, one: dict[str, Any]) -> list[Any]:
    """The events of the answer to a question, with the id and the time of `one` of them."""
    texts = [f"{question(number)} {token};" for token in range(TOKENS)]
    deltas = [{"role": "assistant", "content": texts[0]}, *({"content": text} for text in texts[1:]), {}]
    head = {"id": one["id"], "object": "chat.completion.chunk", "created": one["created"], "model": model}
    last = len(deltas) - 1
    return [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": "stop" if place == last else None}]}
        for place, delta in enumerate(deltas)
    ] + [DONE]


@pytest.mark.parametrize("model", ["fan_out", "fan_out_sync"])
def test_paced_streams_at_once_are_each_exactly_their_own(gateway: Gateway, probe: Probe, model: str) -> None:
    callers = asyncio.run(ask_all(gateway.port, model, probe))
    assert {caller.head.split(b"\r\n")[0] for caller in callers} == {b"HTTP/1.1 200 "}
    streams = [[event.data for event in record(b"".join(caller.pieces))] for caller in callers]
    assert streams == [chunks(model, number, stream[0]) for number, stream in enumerate(streams)]
    assert len({stream[0]["id"] for stream in streams}) == STREAMS
