"""`Invoker`, `Limiter` and `ThreadPool` by themselves on a loop; no server."""

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from time import monotonic, time
from typing import Any

import pytest
from starlette.exceptions import HTTPException

from gateway import thread as thread_module
from gateway.errors import (
    CallerGone,
    DeadlineExceeded,
    Draining,
    NotFound,
    Overloaded,
    QueueTimeout,
    WrapperRaised,
)
from gateway.invoke import Invoker
from gateway.limiter import Limiter
from gateway.registry import Deployment, Method
from gateway.run import Run, RunCancelled, current_run
from gateway.stream import Stream
from gateway.thread import ThreadPool
from gateway.wrapper import Limits, SSEStream
from tests.probe import Probe, eventually

WAIT_S = 10.0


def run_on_loop(main: Callable[[], Awaitable[Any]]) -> Any:
    async def limited() -> Any:
        async with asyncio.timeout(WAIT_S):
            return await main()

    return asyncio.run(limited())


class House:
    """An invoker with one deployment, whose only method is `call`. To be made on a loop."""

    def __init__(self, call: Callable[..., Any], *, places: int = 4, queue: int = 4, **limits: Any) -> None:
        self.pool = ThreadPool("test")
        self.finish: Callable[[Any], Any] = lambda value: value
        self.invoker = Invoker(self.pool, buffer_chunks=8, buffer_bytes=10**6)
        is_async = asyncio.iscoroutinefunction(call) or hasattr(call, "is_async")
        self.method = Method("run_api", call, is_async, None)
        self.limiter = Limiter(places, queue, limits.get("queue_timeout_s", WAIT_S))
        self.deployment = Deployment(
            name="w",
            generation=1,
            package="none",
            path=Path(),
            instance=None,
            methods={"run_api": self.method},
            limits=Limits(**limits),
            loaded_at=time(),
            threads=self.limiter,
            tasks=self.limiter,
        )

    def start(self, **arguments: Any) -> tuple[Run, "asyncio.Task[Any]"]:
        run = Run("id", "w")

        async def invoke() -> Any:
            run.activate()
            return await self.invoker.invoke(run, self.deployment, self.method, arguments, self.finish)

        return run, asyncio.create_task(invoke())

    async def call(self, **arguments: Any) -> Any:
        return await self.start(**arguments)[1]

    async def wait_until_free(self) -> None:
        while self.limiter.in_flight:
            await asyncio.sleep(0.001)


both = pytest.mark.parametrize("kind", ["sync", "async"])


def of_kind(kind: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """`call` as a sync or as an async method."""
    if kind == "sync":
        return call

    async def call_async(**arguments: Any) -> Any:
        return call(**arguments)

    return call_async


async def read(stream: Stream) -> list[Any]:
    return [chunk async for batch in stream for chunk in batch]


@both
def test_value_is_given_and_the_place_freed(kind: str) -> None:
    async def main() -> Any:
        house = House(of_kind(kind, lambda a, b: {"sum": a + b}))
        return await house.call(a=1, b=2), house.limiter.in_flight

    assert run_on_loop(main) == ({"sum": 3}, 0)


@both
@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(2), KeyboardInterrupt(), RunCancelled("timeout")])
def test_error_of_the_wrapper_is_wrapped_and_the_place_freed(kind: str, error: BaseException) -> None:
    def fail() -> None:
        raise error

    async def main() -> Any:
        house = House(of_kind(kind, fail))
        with pytest.raises(WrapperRaised) as caught:
            await house.call()
        return caught.value.__cause__, house.limiter.in_flight

    assert run_on_loop(main) == (error, 0)


@both
@pytest.mark.parametrize("error", [NotFound("page"), HTTPException(402, "pay")])
def test_error_for_the_caller_passes(kind: str, error: Exception) -> None:
    def fail() -> None:
        raise error

    async def main() -> Any:
        house = House(of_kind(kind, fail))
        with pytest.raises(type(error)) as caught:
            await house.call()
        return caught.value is error, house.limiter.in_flight

    assert run_on_loop(main) == (True, 0)


def test_stop_iteration_out_of_a_sync_method_is_an_error() -> None:
    async def main() -> Any:
        with pytest.raises(WrapperRaised) as caught:
            await House(lambda: next(iter(()))).call()
        return type(caught.value.__cause__)

    assert run_on_loop(main) is StopIteration


def make_generator() -> Iterator[int]:
    yield from range(5)


async def make_async_generator() -> AsyncIterator[int]:
    for number in range(5):
        yield number


@both
@pytest.mark.parametrize("generator", [make_generator, make_async_generator])
@pytest.mark.parametrize("is_events", [False, True])
def test_generator_of_either_kind_streams_from_either_method(kind: str, generator: Any, is_events: bool) -> None:
    async def main() -> Any:
        house = House(of_kind(kind, lambda: SSEStream(generator()) if is_events else generator()))
        stream = await house.call()
        assert isinstance(stream, Stream)
        chunks = await read(stream)
        await house.wait_until_free()
        return chunks, stream.is_events

    assert run_on_loop(main) == ([0, 1, 2, 3, 4], is_events)


def test_async_generator_method_streams() -> None:
    # `async def run_api_async(self): yield …`: its call gives the generator, there is nothing to await.
    async def main() -> Any:
        house = House(make_async_generator)
        house.method = Method("run_api", make_async_generator, True, None)
        return await read(await house.call())

    assert run_on_loop(main) == [0, 1, 2, 3, 4]


@both
@pytest.mark.parametrize("stream", [None, [1, 2]])
def test_sse_stream_of_no_generator_is_an_error_of_the_wrapper(kind: str, stream: Any) -> None:
    async def main() -> Any:
        house = House(of_kind(kind, lambda: SSEStream(stream)))
        with pytest.raises(WrapperRaised) as caught:
            await house.call()
        return str(caught.value.__cause__), house.limiter.in_flight

    said = f"SSEStream takes a generator, sync or async, not {type(stream).__name__}"
    assert run_on_loop(main) == (said, 0)


def test_place_is_held_until_the_thread_has_ended() -> None:
    probe = Probe()

    def slow() -> str:
        probe.set("began")
        probe.wait("go")
        return "done"

    async def main() -> Any:
        house = House(slow)
        run, task = house.start()
        await probe.until("began")
        run.cancel("disconnect")
        with pytest.raises(CallerGone):
            await task
        held = house.limiter.in_flight
        probe.set("go")
        await house.wait_until_free()
        return held, run.cause

    assert run_on_loop(main) == (1, "disconnect")


def test_sync_method_sees_that_it_is_cancelled() -> None:
    probe = Probe()

    def slow() -> str:
        probe.set("began")
        probe.wait("cancelled")
        probe.note(current_run().is_cancelled)
        try:
            current_run().raise_if_cancelled()
        except RunCancelled as error:
            probe.note(error.cause)
            raise
        return "never"

    async def main() -> None:
        house = House(slow)
        run, task = house.start()
        await probe.until("began")
        run.cancel("disconnect")
        probe.set("cancelled")
        with pytest.raises(CallerGone):
            await task
        await house.wait_until_free()

    run_on_loop(main)
    assert probe.notes == [True, "disconnect"]


def test_async_method_is_cancelled_and_its_finally_runs_to_its_end() -> None:
    probe = Probe()

    async def slow() -> str:
        try:
            probe.set("began")
            await probe.until("never")
        except asyncio.CancelledError:
            probe.note("cancelled")
            raise
        finally:
            await asyncio.sleep(0)
            await asyncio.sleep(0.001)
            probe.note("cleaned up")
        return "never"

    async def main() -> Any:
        house = House(slow)
        run, task = house.start()
        await probe.until("began")
        run.cancel("disconnect")
        with pytest.raises(CallerGone):
            await task
        return house.limiter.in_flight

    assert run_on_loop(main) == 0
    assert probe.notes == ["cancelled", "cleaned up"]


def test_async_method_that_swallows_its_cancellation_has_no_reader() -> None:
    probe = Probe()

    async def stubborn() -> str:
        try:
            probe.set("began")
            await probe.until("never")
        except asyncio.CancelledError:
            pass
        return "too late"

    async def main() -> Any:
        house = House(stubborn)
        run, task = house.start()
        await probe.until("began")
        run.cancel("timeout")
        with pytest.raises(DeadlineExceeded):
            await task
        assert task.cancelling() == 0
        return house.limiter.in_flight

    assert run_on_loop(main) == 0


def test_cancel_from_outside_passes_through() -> None:
    probe = Probe()

    async def slow() -> None:
        probe.set("began")
        await probe.until("never")

    async def main() -> Any:
        house = House(slow)
        run, task = house.start()
        await probe.until("began")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return house.limiter.in_flight, run.cause

    assert run_on_loop(main) == (0, None)


@both
def test_run_cancelled_before_it_began_never_calls_the_wrapper(kind: str) -> None:
    calls = []

    async def wait() -> None:
        await asyncio.sleep(0)
        calls.append(1)

    async def main() -> Any:
        house = House(wait if kind == "async" else lambda: calls.append(1))
        run, task = house.start()
        run.cancel("disconnect")
        with pytest.raises(CallerGone):
            await task
        await house.wait_until_free()
        return house.limiter.queued

    assert run_on_loop(main) == 0
    assert calls == []


@both
def test_timeout_ends_a_whole_run(kind: str) -> None:
    probe = Probe()

    async def wait() -> None:
        await probe.until("go")

    async def main() -> Any:
        house = House(wait if kind == "async" else lambda: probe.wait("go"), timeout_s=0.02)
        run, task = house.start()
        with pytest.raises(DeadlineExceeded) as caught:
            await task
        probe.set("go")
        await house.wait_until_free()
        return run.cause, str(caught.value)

    assert run_on_loop(main) == ("timeout", "wrapper w: the run took too long and was stopped")


@both
def test_deadline_is_set_from_the_limit_and_its_timer_ends_with_the_run(kind: str) -> None:
    def remaining() -> float:
        left_s = current_run().remaining_s
        assert left_s is not None
        return left_s

    async def main() -> Any:
        house = House(of_kind(kind, remaining), timeout_s=1000.0)
        run, task = house.start()
        left_s = await task
        timers = [timer for timer in asyncio.get_running_loop()._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
        return (
            left_s,
            run.deadline,
            [timer for timer in timers if timer.when() > asyncio.get_running_loop().time() + 500],
        )

    left_s, deadline, timers = run_on_loop(main)
    assert 900 < left_s <= 1000
    assert 900 < deadline - monotonic() <= 1000
    assert timers == []


@both
def test_context_of_the_caller_is_seen_by_method_and_generator(kind: str) -> None:
    own: contextvars.ContextVar[str] = contextvars.ContextVar("own")

    def method() -> Iterator[tuple[str, str]]:
        seen = current_run().id, own.get()
        own.set("by the method")
        return generate(seen)

    def generate(seen: tuple[str, str]) -> Iterator[tuple[str, str]]:
        yield seen
        yield current_run().id, own.get()

    async def generate_async(seen: tuple[str, str]) -> AsyncIterator[tuple[str, str]]:
        for chunk in generate(seen):
            yield chunk

    async def method_async() -> AsyncIterator[tuple[str, str]]:
        seen = current_run().id, own.get()
        own.set("by the method")
        return generate_async(seen)

    async def main() -> Any:
        own.set("by the caller")
        return await read(await House(method if kind == "sync" else method_async).call())

    assert run_on_loop(main) == [("id", "by the caller"), ("id", "by the method")]


@both
def test_two_runs_see_their_own(kind: str) -> None:
    async def main() -> Any:
        house = House(of_kind(kind, lambda: current_run()))
        first, first_task = house.start()
        second, second_task = house.start()
        return await first_task is first, await second_task is second

    assert run_on_loop(main) == (True, True)


@both
def test_finish_is_called_where_the_method_ran(kind: str) -> None:
    def where(value: Any = None) -> Any:
        return value, threading.current_thread().name, current_run().id

    async def main() -> Any:
        house = House(of_kind(kind, where))
        house.finish = where
        (value, of_finish, run_id) = await house.call()
        return value[1] == of_finish, of_finish == threading.current_thread().name, run_id

    assert run_on_loop(main) == (True, kind == "async", "id")


@both
def test_finish_that_raises_is_an_error_of_the_wrapper(kind: str) -> None:
    def refuse(value: Any) -> Any:
        raise TypeError(f"cannot encode {value}")

    async def main() -> Any:
        house = House(of_kind(kind, lambda: 7))
        house.finish = refuse
        with pytest.raises(WrapperRaised) as caught:
            await house.call()
        return repr(caught.value.__cause__), house.limiter.in_flight

    assert run_on_loop(main) == ("TypeError('cannot encode 7')", 0)


# Places and the queue before them.


def test_runs_beyond_the_queue_are_refused_at_once() -> None:
    probe = Probe()

    def slow() -> None:
        probe.set("began")
        probe.wait("go")

    async def main() -> Any:
        house = House(slow, places=2, queue=1)
        tasks = [house.start()[1] for _ in range(3)]
        await probe.until("began", 2)
        with pytest.raises(Overloaded) as caught:
            await house.call()
        state = house.limiter.in_flight, house.limiter.queued, probe.count("began")
        probe.set("go")
        await asyncio.gather(*tasks)
        await house.wait_until_free()
        return state, str(caught.value), caught.value.status, caught.value.headers, house.limiter.queued

    message = "wrapper w: 2 runs in hand and 1 waiting; try again later"
    assert run_on_loop(main) == ((2, 1, 2), message, 429, {"Retry-After": "1"}, 0)


def test_queue_wait_has_its_limit() -> None:
    probe = Probe()

    async def main() -> Any:
        house = House(lambda: probe.wait("go"), places=1, queue_timeout_s=0.02)
        _, first = house.start()
        with pytest.raises(QueueTimeout) as caught:
            await house.call()
        state = house.limiter.in_flight, house.limiter.queued
        probe.set("go")
        await first
        await house.wait_until_free()
        return state, str(caught.value), caught.value.headers

    message = "wrapper w: no place within 0.02 s; try again later"
    assert run_on_loop(main) == ((1, 0), message, {"Retry-After": "1"})


def test_cancel_in_the_queue_leaves_it() -> None:
    probe = Probe()

    async def main() -> Any:
        house = House(lambda: probe.wait("go"), places=1)
        _, first = house.start()
        run, second = house.start()
        await asyncio.sleep(0)
        waiting = house.limiter.queued
        run.cancel("disconnect")
        with pytest.raises(CallerGone):
            await second
        state = waiting, house.limiter.in_flight, house.limiter.queued
        probe.set("go")
        await first
        await house.wait_until_free()
        return state

    assert run_on_loop(main) == (1, 1, 0)


def test_queue_is_first_come_first_served() -> None:
    probe = Probe()

    def work(number: int) -> None:
        probe.note(number)
        probe.wait(f"go {number}")

    async def main() -> None:
        house = House(work, places=1, queue=10)
        tasks = [house.start(number=number)[1] for number in range(6)]
        for number, task in enumerate(tasks):
            probe.set(f"go {number}")
            await task

    run_on_loop(main)
    assert probe.notes == list(range(6))


def test_place_given_to_one_who_is_leaving_goes_to_the_next() -> None:
    async def main() -> Any:
        limiter = Limiter(1, 10, WAIT_S)
        await limiter.acquire("w")
        leaving, staying = (asyncio.create_task(limiter.acquire("w")) for _ in range(2))
        await asyncio.sleep(0)
        limiter.release()  # gives the place to the first of the two …
        leaving.cancel()  # … who leaves in that moment
        with pytest.raises(asyncio.CancelledError):
            await leaving
        await staying
        state = limiter.in_flight, limiter.queued
        limiter.release()
        return state, limiter.in_flight

    assert run_on_loop(main) == ((1, 0), 0)


@both
def test_places_are_right_after_a_storm_of_runs_and_cancellations(kind: str) -> None:
    async def brief() -> None:
        await asyncio.sleep(0)

    async def main() -> Any:
        house = House(brief if kind == "async" else lambda: None, places=3, queue=1000)
        started = [house.start() for _ in range(300)]
        for number, (run, _) in enumerate(started):
            if number % 3 == 0:
                run.cancel("disconnect")
            if number % 7 == 0:
                await asyncio.sleep(0)
        results = await asyncio.gather(*(task for _, task in started), return_exceptions=True)
        await house.wait_until_free()
        assert {type(result) for result in results} <= {type(None), CallerGone}
        return house.limiter.queued, house.limiter.in_flight

    assert run_on_loop(main) == (0, 0)


# Draining.


def test_drain_waits_for_runs_in_hand_and_refuses_new_ones() -> None:
    probe = Probe()

    def slow() -> str:
        probe.set("began")
        probe.wait("go")
        return "whole"

    async def main() -> Any:
        house = House(slow)
        run, task = house.start()
        await probe.until("began")
        draining = asyncio.create_task(house.invoker.drain(WAIT_S))
        await asyncio.sleep(0)
        with pytest.raises(Draining) as caught:
            await house.call()
        was_done = draining.done()
        probe.set("go")
        result = await task
        await draining
        return was_done, result, run.cause, caught.value.status, caught.value.headers, house.limiter.in_flight

    assert run_on_loop(main) == (False, "whole", None, 503, {"Retry-After": "1"}, 0)


@both
def test_drain_cancels_the_rest_after_its_time(kind: str) -> None:
    probe = Probe()

    async def wait() -> None:
        await probe.until("go")

    async def main() -> Any:
        house = House(wait if kind == "async" else lambda: probe.wait("go"))
        run, task = house.start()
        await asyncio.sleep(0)
        await house.invoker.drain(0.01)
        with pytest.raises(Draining):
            await task
        probe.set("go")
        await house.wait_until_free()
        return run.cause

    assert run_on_loop(main) == "shutdown"


def test_drain_without_runs_returns_at_once() -> None:
    async def main() -> Any:
        house = House(lambda: None)
        await house.invoker.drain(1000)
        return house.invoker.is_draining

    assert run_on_loop(main) is True


# The threads.


def test_threads_idle_are_reused() -> None:
    async def main() -> Any:
        pool = ThreadPool("reuse")
        names = []
        for _ in range(50):
            names.append(await pool.call(lambda: threading.current_thread().name))
            await asyncio.to_thread(eventually, lambda: pool._idle == 1)
        return set(names)

    assert run_on_loop(main) == {"reuse-1"}


def test_threads_are_as_many_as_calls_in_hand_and_daemonic() -> None:
    probe = Probe()

    def work() -> bool:
        probe.set("began")
        probe.wait("go")
        return threading.current_thread().daemon

    async def main() -> Any:
        pool = ThreadPool("many")
        calls = [asyncio.create_task(pool.call(work)) for _ in range(30)]
        await probe.until("began", 30)
        probe.set("go")
        return await asyncio.gather(*calls)

    assert run_on_loop(main) == [True] * 30


def test_threads_end_when_they_stay_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_module, "IDLE_S", 0.01)

    async def main() -> Any:
        pool = ThreadPool("brief")
        await asyncio.gather(*(pool.call(lambda: None) for _ in range(10)))
        await asyncio.to_thread(
            eventually, lambda: not any(thread.name.startswith("brief-") for thread in threading.enumerate())
        )
        return pool._idle, await pool.call(lambda: "again")

    assert run_on_loop(main) == (0, "again")


def test_work_is_never_lost_between_an_idle_thread_and_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_module, "IDLE_S", 0.0005)

    async def main() -> Any:
        pool = ThreadPool("race")
        results = []
        for number in range(1000):
            results.append(await pool.call(lambda number=number: number))
            if number % 10 == 0:
                await asyncio.sleep(0.0005)
        return results

    assert run_on_loop(main) == list(range(1000))


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("x"), "ValueError('x')"),
        (RunCancelled("timeout"), "RuntimeError(\"RunCancelled('timeout')\")"),
        (asyncio.CancelledError(), "RuntimeError('CancelledError()')"),
        (SystemExit(3), "RuntimeError('SystemExit(3)')"),
        (StopIteration(), "RuntimeError('StopIteration()')"),
    ],
)
def test_thread_call_raises_nothing_that_ends_the_loop(error: BaseException, text: str) -> None:
    def fail() -> None:
        raise error

    async def main() -> Any:
        pool = ThreadPool("raise")
        with pytest.raises(Exception) as caught:  # noqa: PT011
            await pool.call(fail)
        return repr(caught.value), await pool.call(lambda: "alive")

    assert run_on_loop(main) == (text, "alive")


def test_cancelled_thread_call_leaves_the_thread_to_its_work() -> None:
    probe = Probe()

    def work() -> None:
        probe.set("began")
        probe.wait("go")
        probe.set("done")

    async def main() -> None:
        task = asyncio.create_task(ThreadPool("left").call(work))
        await probe.until("began")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        probe.set("go")
        await probe.until("done")

    run_on_loop(main)
