"""Notices that the caller leaves. Hypercorn tells it only through `receive()`."""

import asyncio
from types import TracebackType

from starlette.types import Message, Receive

from gateway.run import Run


class Disconnect:
    """`async with Disconnect(receive, run):` cancels the run when the caller leaves.

    To be entered when the body has been read. A half-close counts as leaving.
    `receive` is for what wants to listen as well: only one may await the server's.
    """

    def __init__(self, receive: Receive, run: Run) -> None:
        self._receive = receive
        self._run = run
        self._gone = asyncio.Event()

    async def __aenter__(self) -> "Disconnect":
        self._watch_task = asyncio.get_running_loop().create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._watch_task.cancel()

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone.set()
        self._run.cancel("disconnect")

    async def receive(self) -> Message:
        await self._gone.wait()
        return {"type": "http.disconnect"}
