import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway.errors import Overloaded, QueueTimeout
from gateway.limiter import Limiter

Scene = Callable[[], Awaitable[None]]


def play(scene: Scene) -> None:
    async def run() -> None:
        async with asyncio.timeout(10):
            await scene()

    asyncio.run(run())


async def settle() -> None:
    """Let every task that can go on do so."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_acquire_gives_places_and_release_takes_them_back() -> None:
    async def scene() -> None:
        limiter = Limiter(2, 0, 10)
        await limiter.acquire("w")
        await limiter.acquire("w")
        assert (limiter.in_flight, limiter.queued) == (2, 0)
        limiter.release()
        await limiter.acquire("w")
        limiter.release()
        limiter.release()
        assert limiter.in_flight == 0

    play(scene)


def test_acquire_refuses_when_the_queue_is_full() -> None:
    async def scene() -> None:
        limiter = Limiter(1, 1, 10)
        await limiter.acquire("w")
        waiting = asyncio.create_task(limiter.acquire("w"))
        await settle()
        with pytest.raises(Overloaded) as caught:
            await limiter.acquire("w")
        assert caught.value.message == "wrapper w: 1 runs in hand and 1 waiting; try again later"
        assert caught.value.headers == {"Retry-After": "1"}
        limiter.release()
        await waiting
        assert (limiter.in_flight, limiter.queued) == (1, 0)

    play(scene)


def test_acquire_serves_who_came_first() -> None:
    async def scene() -> None:
        limiter = Limiter(1, 10, 10)
        order: list[int] = []

        async def run(number: int) -> None:
            await limiter.acquire("w")
            order.append(number)
            await settle()
            limiter.release()

        await asyncio.gather(*(run(number) for number in range(5)))
        assert (order, limiter.in_flight) == ([0, 1, 2, 3, 4], 0)

    play(scene)


def test_acquire_gives_up_after_its_wait() -> None:
    async def scene() -> None:
        limiter = Limiter(1, 1, 0.01)
        await limiter.acquire("w")
        with pytest.raises(QueueTimeout) as caught:
            await limiter.acquire("w")
        assert caught.value.message == "wrapper w: no place within 0.01 s; try again later"
        assert (limiter.in_flight, limiter.queued) == (1, 0)
        limiter.release()
        assert limiter.in_flight == 0

    play(scene)


def test_acquire_leaves_the_queue_when_it_is_cancelled() -> None:
    async def scene() -> None:
        limiter = Limiter(1, 2, 10)
        await limiter.acquire("w")
        first, second = (asyncio.create_task(limiter.acquire("w")) for _ in range(2))
        await settle()
        first.cancel()
        await settle()
        assert limiter.queued == 1
        limiter.release()
        await second
        assert (limiter.in_flight, limiter.queued) == (1, 0)

    play(scene)


def test_acquire_passes_on_a_place_that_came_when_it_was_cancelled() -> None:
    async def scene() -> None:
        limiter = Limiter(1, 2, 10)
        await limiter.acquire("w")
        first, second = (asyncio.create_task(limiter.acquire("w")) for _ in range(2))
        await settle()
        limiter.release()  # the place is given to `first` …
        first.cancel()  # … who leaves before it can see it
        await second
        assert (first.cancelled() or first.done(), limiter.in_flight, limiter.queued) == (True, 1, 0)
        limiter.release()
        assert limiter.in_flight == 0

    play(scene)
