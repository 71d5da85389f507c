"""One gateway over the sample wrappers, and OpenAI's SDK in front of it, both kinds behind one face."""

import asyncio
import inspect
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from openai import AsyncOpenAI, OpenAI

from tests.gateways import WRAPPERS, Gateway, serve, write_wrapper

WAIT_S = 20.0
MAX_BODY_BYTES = 1024 * 1024
BROKEN = "raise RuntimeError('the password is hunter2')"


@pytest.fixture(scope="package")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """All of `tests/wrappers`, and `broken`, which does not load."""
    wrappers_dir = tmp_path_factory.mktemp("wrappers")
    for folder in WRAPPERS.iterdir():
        (wrappers_dir / folder.name).symlink_to(folder)
    write_wrapper(wrappers_dir, "broken", BROKEN)
    with serve(wrappers_dir, max_body_bytes=MAX_BODY_BYTES) as gateway:
        yield gateway


def make_client(gateway: Gateway, prefix: str = "/v1") -> OpenAI:
    return OpenAI(base_url=gateway.url + prefix, api_key="none", max_retries=0, timeout=WAIT_S)


def make_async_client(gateway: Gateway) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0, timeout=WAIT_S)


@pytest.fixture(scope="package")
def client(gateway: Gateway) -> Iterator[OpenAI]:
    with make_client(gateway) as client:
        yield client


@pytest.fixture(scope="package")
def loop() -> Iterator[asyncio.Runner]:
    """Where `async_client` lives: its connections belong to one event loop."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="package")
def async_client(gateway: Gateway, loop: asyncio.Runner) -> Iterator[AsyncOpenAI]:
    client = make_async_client(gateway)
    yield client
    loop.run(client.close())


class SDK:
    """`client`: of either kind. What its calls give is had with `get`, `read` and `body`, whichever it is."""

    def __init__(self, kind: Literal["sync", "async"], client: Any, loop: asyncio.Runner) -> None:
        self.kind = kind
        self.client = client
        self._loop = loop

    def get(self, call: Any) -> Any:
        """The result of a call."""

        async def wait() -> Any:
            return await call

        return self._loop.run(wait()) if inspect.isawaitable(call) else call

    def read(self, call: Any, into: list[Any] | None = None) -> list[Any]:
        """All that a stream gives. `into`: where it is put as it comes, for a stream that breaks."""
        items = [] if into is None else into
        stream = self.get(call)

        async def read() -> None:
            async with stream:
                async for item in stream:
                    items.append(item)

        if hasattr(stream, "__aiter__"):
            self._loop.run(read())
        else:
            with stream:
                for item in stream:
                    items.append(item)
        return items

    def body(self, manager: Any) -> bytes:
        """The bytes of a reply: `manager` is what `with_streaming_response` gives."""

        async def read() -> bytes:
            async with manager as response:
                return await response.read()

        if hasattr(manager, "__aenter__"):
            return self._loop.run(read())
        with manager as response:
            return response.read()

    def follow(self, manager: Any, ending: str) -> tuple[list[Any], Any]:
        """The events of a `stream` helper, and what its method `ending` gives after them."""

        async def follow() -> tuple[list[Any], Any]:
            async with manager as stream:
                return [event async for event in stream], await getattr(stream, ending)()

        if hasattr(manager, "__aenter__"):
            return self._loop.run(follow())
        with manager as stream:
            return list(stream), getattr(stream, ending)()


@pytest.fixture(scope="package", params=["sync", "async"])
def sdk(request: pytest.FixtureRequest, client: OpenAI, async_client: AsyncOpenAI, loop: asyncio.Runner) -> SDK:
    return SDK(request.param, client if request.param == "sync" else async_client, loop)
