"""`Stream` by itself on a loop, with a producer on a thread or in a task; no server."""

import asyncio
import gc
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from starlette.exceptions import HTTPException

from gateway.errors import (
    CallerGone,
    DeadlineExceeded,
    Draining,
    GatewayError,
    NotFound,
    Overloaded,
    WrapperRaised,
)
from gateway.run import Run, RunCancelled
from gateway.stream import Stream, StreamBounds, cancellation_error, find_stream, wrapper_error
from gateway.thread import ThreadPool
from gateway.wrapper import SSEStream
from tests.probe import Probe, eventually

WIDE = StreamBounds(1_000_000, 1_000_000_000)
WAIT_S = 5.0
POOL = ThreadPool("test")  # asyncio's own threads would keep the process waiting when one of them hangs
CHUNKS = ["a", "", "\n", "\r\n", b"\xff\x00", {"k": [1]}, None, "ü€😀\u2028\u0000", 3, ("t",)]


def run_on_loop(main: Callable[[], Awaitable[Any]]) -> Any:
    async def limited() -> Any:
        async with asyncio.timeout(WAIT_S):
            return await main()

    return asyncio.run(limited())


class Producer:
    """A stream over `source`, sync on a thread of its own or async in a task."""

    def __init__(self, source: Any, bounds: StreamBounds = WIDE) -> None:
        self.run = Run("id", "w")
        self.stream = Stream(self.run, bounds, asyncio.get_running_loop(), is_events=False)
        self.ended = threading.Event()
        if hasattr(source, "__anext__") or getattr(source, "is_async", False):
            self.task = asyncio.create_task(self.stream.produce_async(source))
            self.task.add_done_callback(lambda _: self.ended.set())
            self.run.on_cancel(self.task.cancel)
        else:
            threading.Thread(target=self._produce, args=(source,), daemon=True).start()

    def _produce(self, source: Any) -> None:
        self.stream.produce(source)
        self.ended.set()

    async def wait_until_ended(self) -> None:
        await POOL.call(lambda: self.ended.wait(WAIT_S))
        assert self.ended.is_set(), "the producer did not end"


async def to_async(iterator: Iterator[Any]) -> AsyncIterator[Any]:
    for chunk in iterator:
        yield chunk


def of_kind(kind: str, iterator: Iterator[Any]) -> Any:
    return to_async(iterator) if kind == "async" else iterator


async def collect(stream: Stream) -> tuple[list[Any], GatewayError | HTTPException | None]:
    """All chunks, and the error that ended the stream."""
    chunks: list[Any] = []
    try:
        async for batch in stream:
            assert batch
            chunks += batch
    except (GatewayError, HTTPException) as error:
        return chunks, error
    return chunks, None


both = pytest.mark.parametrize("kind", ["sync", "async"])


@both
def test_chunks_of_every_kind_arrive_in_order(kind: str) -> None:
    async def main() -> Any:
        return await collect(Producer(of_kind(kind, iter(CHUNKS))).stream)

    assert run_on_loop(main) == (CHUNKS, None)


@both
def test_burst_is_one_batch(kind: str) -> None:
    async def main() -> Any:
        producer = Producer(of_kind(kind, iter(range(1000))))
        await producer.wait_until_ended()
        return [batch async for batch in producer.stream]

    assert run_on_loop(main) == [list(range(1000))]


@both
def test_paced_chunks_come_one_by_one(kind: str) -> None:
    probe = Probe()

    def paced() -> Iterator[int]:
        for number in range(20):
            probe.wait("ask", number + 1)
            yield number

    async def paced_async() -> AsyncIterator[int]:
        for number in range(20):
            await probe.until("ask", number + 1)
            yield number

    async def main() -> Any:
        stream = Producer(paced_async() if kind == "async" else paced()).stream
        batches = []
        for _ in range(20):
            probe.set("ask")
            batches.append(await anext(stream))
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        return batches

    assert run_on_loop(main) == [[number] for number in range(20)]


@both
@pytest.mark.parametrize(("bounds", "most"), [(StreamBounds(10, 10**9), 10), (StreamBounds(10**6, 100), 5)])
def test_producer_waits_at_the_bound_and_loses_nothing(kind: str, bounds: StreamBounds, most: int) -> None:
    made = 0

    def make() -> Iterator[str]:
        nonlocal made
        for number in range(500):
            made += 1
            yield f"{number:020}"  # 20 characters: five of them are 100 bytes

    async def main() -> Any:
        producer = Producer(of_kind(kind, make()), bounds)
        batches = []
        async for batch in producer.stream:
            batches.append(batch)
            await asyncio.sleep(0)
        return batches

    batches = run_on_loop(main)
    assert [chunk for batch in batches for chunk in batch] == [f"{number:020}" for number in range(500)]
    # With the reader's batch out of the buffer the producer may be that far ahead, plus the one in its hand.
    assert max(map(len, batches)) <= most
    assert made == 500


@both
def test_producer_makes_no_more_than_the_bound_for_a_stalled_reader(kind: str) -> None:
    probe = Probe()

    def endless() -> Iterator[int]:
        number = 0
        while True:
            probe.set("made")
            yield number
            number += 1

    async def main() -> Any:
        producer = Producer(of_kind(kind, endless()), StreamBounds(10, 10**9))
        await probe.until("made", 10)
        first = await anext(producer.stream)
        await probe.until("made", 20)
        stalled = probe.count("made")
        producer.stream.close()
        await producer.wait_until_ended()
        return len(first), stalled, probe.count("made")

    first, stalled, made = run_on_loop(main)
    assert (first, stalled, made) == (10, 20, 20)


@both
def test_fast_producer_with_slow_reader_is_exact(kind: str) -> None:
    async def main() -> Any:
        stream, chunks = Producer(of_kind(kind, iter(range(20_000))), StreamBounds(16, 10**9)).stream, []
        async for batch in stream:
            chunks += batch
            for _ in range(len(batch) % 3):
                await asyncio.sleep(0)
        return chunks

    assert run_on_loop(main) == list(range(20_000))


@both
def test_hundred_thousand_chunks_are_exact(kind: str) -> None:
    async def main() -> Any:
        return await collect(Producer(of_kind(kind, iter(range(100_000))), StreamBounds(256, 256 * 1024)).stream)

    assert run_on_loop(main) == (list(range(100_000)), None)


@both
def test_nothing_at_all_ends_the_stream(kind: str) -> None:
    async def main() -> Any:
        producer = Producer(of_kind(kind, iter(())))
        await producer.stream.wait_for_first(WAIT_S)
        return await collect(producer.stream)

    assert run_on_loop(main) == ([], None)


class Odd(BaseException):
    pass


@both
@pytest.mark.parametrize(
    "error",
    [
        *(ValueError("no"), Odd("odd"), SystemExit(3), KeyboardInterrupt(), RunCancelled("timeout"), GeneratorExit()),
        *(asyncio.CancelledError(), MemoryError(), TimeoutError(), OSError(5, "x")),
    ],
    ids=lambda error: type(error).__name__,
)
def test_error_comes_after_the_chunks(kind: str, error: BaseException) -> None:
    def fail() -> Iterator[str]:
        yield "a"
        yield "b"
        raise error

    async def main() -> Any:
        return await collect(Producer(of_kind(kind, fail())).stream)

    chunks, raised = run_on_loop(main)
    assert chunks == ["a", "b"]
    assert type(raised) is WrapperRaised
    assert (raised.message, raised.__cause__) == ("wrapper w failed", error)


@both
def test_stop_iteration_inside_of_a_generator_is_an_error(kind: str) -> None:
    def fail() -> Iterator[str]:
        yield "a"
        raise StopIteration

    async def fail_async() -> AsyncIterator[str]:
        yield "a"
        raise StopAsyncIteration

    async def main() -> Any:
        return await collect(Producer(fail_async() if kind == "async" else fail()).stream)

    chunks, raised = run_on_loop(main)
    assert (chunks, type(raised), type(raised.__cause__)) == (["a"], WrapperRaised, RuntimeError)


@both
@pytest.mark.parametrize("error", [NotFound("no such page"), HTTPException(418, "teapot")])
def test_error_meant_for_the_caller_is_his(kind: str, error: Exception) -> None:
    def fail() -> Iterator[str]:
        yield "a"
        raise error

    async def main() -> Any:
        return await collect(Producer(of_kind(kind, fail())).stream)

    assert run_on_loop(main) == (["a"], error)


@both
def test_wait_for_first_raises_an_error_before_any_chunk(kind: str) -> None:
    def fail() -> Iterator[str]:
        raise ValueError("early")
        yield "never"

    async def main() -> None:
        await Producer(of_kind(kind, fail())).stream.wait_for_first(WAIT_S)

    with pytest.raises(WrapperRaised) as caught:
        run_on_loop(main)
    assert repr(caught.value.__cause__) == "ValueError('early')"


@both
def test_wait_for_first_leaves_a_late_error_to_the_reader(kind: str) -> None:
    def fail() -> Iterator[str]:
        yield "a"
        raise ValueError("late")

    async def main() -> Any:
        producer = Producer(of_kind(kind, fail()))
        await producer.wait_until_ended()
        await producer.stream.wait_for_first(WAIT_S)
        return await collect(producer.stream)

    chunks, raised = run_on_loop(main)
    assert (chunks, type(raised)) == (["a"], WrapperRaised)


@both
def test_wait_for_first_gives_up_and_the_chunk_comes_later(kind: str) -> None:
    probe = Probe()

    def late() -> Iterator[str]:
        probe.wait("go")
        yield "late"

    async def late_async() -> AsyncIterator[str]:
        await probe.until("go")
        yield "late"

    async def main() -> Any:
        stream = Producer(late_async() if kind == "async" else late()).stream
        await stream.wait_for_first(0.01)
        probe.set("go")
        return await collect(stream)

    assert run_on_loop(main) == (["late"], None)


@both
@pytest.mark.parametrize(
    ("before", "bounds"),
    [
        (0, StreamBounds(10, 1000, first_chunk_timeout_s=0.02, idle_chunk_timeout_s=WAIT_S)),
        (1, StreamBounds(10, 1000, first_chunk_timeout_s=WAIT_S, idle_chunk_timeout_s=0.02)),
    ],
)
def test_silence_ends_the_stream(kind: str, before: int, bounds: StreamBounds) -> None:
    probe = Probe()

    def silent() -> Iterator[str]:
        try:
            for _ in range(before):
                yield "a"
            probe.wait("go")
            yield "too late"
        finally:
            probe.set("closed")

    async def silent_async() -> AsyncIterator[str]:
        try:
            for _ in range(before):
                yield "a"
            await probe.until("go")
            yield "never"
        finally:
            probe.set("closed")

    async def main() -> Any:
        producer = Producer(silent_async() if kind == "async" else silent(), bounds)
        result = await collect(producer.stream)
        probe.set("go")
        await producer.wait_until_ended()
        return result, producer.run.cause

    (chunks, raised), cause = run_on_loop(main)
    assert (chunks, type(raised), raised.status, cause) == (["a"] * before, DeadlineExceeded, 504, "timeout")
    assert probe.count("closed") == 1


@both
def test_silence_is_not_counted_while_the_reader_is_slow(kind: str) -> None:
    async def main() -> Any:
        bounds = StreamBounds(2, 10**9, first_chunk_timeout_s=0.05, idle_chunk_timeout_s=0.05)
        stream = Producer(of_kind(kind, iter("abcdef")), bounds).stream
        chunks = list(await anext(stream))
        await asyncio.sleep(0.15)  # three times the limit, on the reader's side
        rest, error = await collect(stream)
        return chunks + rest, error

    assert run_on_loop(main) == (list("abcdef"), None)


@both
def test_close_stops_a_blocked_producer_and_runs_its_finally(kind: str) -> None:
    probe = Probe()

    def endless() -> Iterator[str]:
        try:
            while True:
                probe.set("made")
                yield "a"
        except GeneratorExit:
            probe.set("exit")
            raise
        finally:
            probe.set("closed")

    async def endless_async() -> AsyncIterator[str]:
        try:
            while True:
                probe.set("made")
                yield "a"
        finally:
            await asyncio.sleep(0)
            await asyncio.sleep(0.001)
            probe.set("closed")

    async def main() -> Any:
        producer = Producer(endless_async() if kind == "async" else endless(), StreamBounds(4, 10**9))
        await anext(producer.stream)
        await probe.until("made", 4)
        producer.stream.close()
        await producer.wait_until_ended()
        return producer.run.cause, probe.count("closed")

    assert run_on_loop(main) == ("disconnect", 1)


@both
def test_close_after_the_end_cancels_nothing(kind: str) -> None:
    async def main() -> Any:
        producer = Producer(of_kind(kind, iter("ab")))
        result = await collect(producer.stream)
        producer.stream.close()
        return result, producer.run.cause

    assert run_on_loop(main) == ((["a", "b"], None), None)


@both
@pytest.mark.parametrize("cause", ["disconnect", "timeout", "shutdown"])
def test_cancel_wakes_a_waiting_reader(kind: str, cause: Any) -> None:
    probe = Probe()

    def silent() -> Iterator[str]:
        probe.wait("go")
        yield "too late"

    async def silent_async() -> AsyncIterator[str]:
        await probe.until("go")
        yield "never"

    async def main() -> Any:
        producer = Producer(silent_async() if kind == "async" else silent())
        reading = asyncio.create_task(collect(producer.stream))
        await asyncio.sleep(0)
        producer.run.cancel(cause)
        chunks, raised = await reading
        probe.set("go")
        await producer.wait_until_ended()
        return chunks, type(raised)

    expected = {"disconnect": CallerGone, "timeout": DeadlineExceeded, "shutdown": Draining}
    assert run_on_loop(main) == ([], expected[cause])


@both
def test_producer_does_not_start_when_the_run_is_cancelled_already(kind: str) -> None:
    started = []

    def make() -> Iterator[str]:
        started.append(1)
        yield "a"

    async def main() -> Any:
        run = Run("id", "w")
        run.cancel("disconnect")
        stream = Stream(run, WIDE, asyncio.get_running_loop(), is_events=False)
        source = of_kind(kind, make())
        if kind == "async":
            await stream.produce_async(source)
        else:
            await POOL.call(lambda: stream.produce(source))
        return await collect(stream)

    chunks, raised = run_on_loop(main)
    assert (chunks, type(raised), started) == ([], CallerGone, [])


@both
def test_generator_that_swallows_generator_exit_is_left_after_the_next_chunk(kind: str) -> None:
    probe = Probe()

    def stubborn() -> Iterator[str]:
        try:
            while True:
                probe.set("made")
                yield "a"
        except GeneratorExit:
            yield "still here"

    async def stubborn_async() -> AsyncIterator[str]:
        try:
            while True:
                probe.set("made")
                yield "a"
        except GeneratorExit:
            yield "still here"

    async def main() -> Any:
        producer = Producer(stubborn_async() if kind == "async" else stubborn(), StreamBounds(4, 10**9))
        await probe.until("made", 4)
        producer.stream.close()
        await producer.wait_until_ended()
        return producer.run.cause

    assert run_on_loop(main) == "disconnect"


@both
def test_error_in_close_of_a_cancelled_stream_stays_inside(kind: str) -> None:
    probe = Probe()

    def broken() -> Iterator[str]:
        try:
            while True:
                probe.set("made")
                yield "a"
        finally:
            raise ValueError("in close")

    async def broken_async() -> AsyncIterator[str]:
        try:
            while True:
                probe.set("made")
                yield "a"
        finally:
            raise ValueError("in close")

    async def main() -> Any:
        producer = Producer(broken_async() if kind == "async" else broken(), StreamBounds(4, 10**9))
        await probe.until("made", 4)
        producer.stream.close()
        await producer.wait_until_ended()
        return type((await collect(producer.stream))[1])

    assert run_on_loop(main) is CallerGone


def test_error_in_close_of_an_iterator_after_its_end_is_the_streams_error() -> None:
    class Numbers:
        def __iter__(self) -> Iterator[int]:
            return self

        def __init__(self) -> None:
            self._numbers = iter((1, 2))

        def __next__(self) -> int:
            return next(self._numbers)

        def close(self) -> None:
            raise ValueError("in close")

    async def main() -> Any:
        return await collect(Producer(Numbers()).stream)

    chunks, raised = run_on_loop(main)
    assert (chunks, repr(raised.__cause__)) == ([1, 2], "ValueError('in close')")


@both
def test_abandoned_generator_is_not_kept_alive(kind: str) -> None:
    class Token:
        pass

    async def main() -> Any:
        token = Token()
        reference = weakref.ref(token)

        def make(token: Token) -> Iterator[str]:
            yield "a"
            del token

        producer = Producer(of_kind(kind, make(token)))
        del token
        await collect(producer.stream)
        await producer.wait_until_ended()
        del producer
        await asyncio.sleep(0)
        gc.collect()
        return reference()

    assert run_on_loop(main) is None


# Sources that push: what the streaming helpers give.


class Pushing:
    """A sync `StreamSource` made of a function."""

    is_async = False

    def __init__(self, feed: Callable[[Any], Any]) -> None:
        self.feed = feed


class PushingAsync(Pushing):
    is_async = True


def test_push_source_sync() -> None:
    async def main() -> Any:
        return await collect(Producer(Pushing(lambda sink: [sink.push(chunk) for chunk in CHUNKS])).stream)

    assert run_on_loop(main) == (CHUNKS, None)


def test_push_source_async() -> None:
    async def feed(sink: Any) -> None:
        for chunk in CHUNKS:
            await sink.push_async(chunk)

    async def main() -> Any:
        return await collect(Producer(PushingAsync(feed)).stream)

    assert run_on_loop(main) == (CHUNKS, None)


def test_push_raises_run_cancelled_when_the_reader_has_left() -> None:
    caught: list[BaseException] = []
    probe = Probe()

    def feed(sink: Any) -> None:
        try:
            while True:
                sink.push("a")
                probe.set("made")
        except BaseException as error:
            caught.append(error)
            raise

    async def main() -> None:
        producer = Producer(Pushing(feed), StreamBounds(4, 10**9))
        await probe.until("made", 3)
        producer.stream.close()
        await producer.wait_until_ended()

    run_on_loop(main)
    assert [(type(error), error.args) for error in caught] == [(RunCancelled, ("disconnect",))]


def test_push_on_the_loop_below_the_bound() -> None:
    async def feed(sink: Any) -> None:
        for number in range(9):
            sink.push(number)

    async def main() -> Any:
        return await collect(Producer(PushingAsync(feed), StreamBounds(10, 10**9)).stream)

    assert run_on_loop(main) == (list(range(9)), None)


def test_push_on_the_loop_past_the_bound_cancels_the_run() -> None:
    pushed: list[int] = []

    async def feed(sink: Any) -> None:
        for number in range(1000):
            pushed.append(number)
            sink.push(number)

    async def main() -> Any:
        producer = Producer(PushingAsync(feed), StreamBounds(10, 10**9))
        _, raised = await collect(producer.stream)
        return producer.run.cause, type(raised), raised.message if raised else None

    message = "wrapper w: a callback on the event loop outran the stream's reader"
    assert run_on_loop(main) == ("overflow", WrapperRaised, message)
    assert pushed == list(range(10))


def test_two_threads_that_wait_for_room_both_go_on() -> None:
    # Two sync components of one async pipeline stream side by side, each on a thread of its own.
    async def feed(sink: Any) -> None:
        def work(name: str) -> None:
            for number in range(50):
                sink.push((name, number))

        await asyncio.gather(POOL.call(lambda: work("a")), POOL.call(lambda: work("b")))

    async def main() -> Any:
        return await collect(Producer(PushingAsync(feed), StreamBounds(1, 10**9)).stream)

    chunks, error = run_on_loop(main)
    assert error is None
    for name in ("a", "b"):
        assert [chunk for chunk in chunks if chunk[0] == name] == [(name, number) for number in range(50)]


def test_two_tasks_that_wait_for_room_both_go_on() -> None:
    # Two async components of one async pipeline stream side by side.
    async def feed(sink: Any) -> None:
        async def work(name: str) -> None:
            for number in range(50):
                await sink.push_async((name, number))

        await asyncio.gather(work("a"), work("b"))

    async def main() -> Any:
        return await collect(Producer(PushingAsync(feed), StreamBounds(1, 10**9)).stream)

    chunks, error = run_on_loop(main)
    assert error is None
    for name in ("a", "b"):
        assert [chunk for chunk in chunks if chunk[0] == name] == [(name, number) for number in range(50)]


def test_two_threads_that_wait_for_room_are_both_stopped() -> None:
    stopped: list[str] = []
    probe = Probe()

    def work(sink: Any, name: str) -> None:
        try:
            while True:
                probe.set("made")
                sink.push(name)
        except RunCancelled:
            stopped.append(name)

    async def feed(sink: Any) -> None:
        await asyncio.gather(POOL.call(lambda: work(sink, "a")), POOL.call(lambda: work(sink, "b")))

    async def main() -> None:
        producer = Producer(PushingAsync(feed), StreamBounds(1, 10**9))
        await probe.until("made", 2)
        await asyncio.sleep(0.05)  # so that both are likely to wait
        producer.stream.close()
        await POOL.call(lambda: eventually(lambda: len(stopped) == 2, "two stopped threads"))

    run_on_loop(main)
    assert sorted(stopped) == ["a", "b"]


def test_thread_that_outlives_its_source_is_stopped_at_its_next_push() -> None:
    # A sync component on its thread when another component of the pipeline fails.
    probe = Probe()

    def work(sink: Any) -> None:
        try:
            probe.wait("reader is gone")
            for number in range(1000):
                sink.push(number)
                probe.note(number)
        except RunCancelled:
            probe.set("stopped")

    async def feed(sink: Any) -> None:
        threading.Thread(target=work, args=(sink,), daemon=True).start()
        raise ValueError("another component failed")

    async def main() -> Any:
        producer = Producer(PushingAsync(feed), StreamBounds(4, 10**9))
        chunks, error = await collect(producer.stream)
        producer.stream.close()
        probe.set("reader is gone")
        await probe.until("stopped")
        return chunks, repr(error.__cause__ if error else None)

    assert run_on_loop(main) == ([], "ValueError('another component failed')")
    assert probe.notes == []


def test_push_after_the_loop_was_closed_ends_the_thread() -> None:
    probe = Probe()

    def feed(sink: Any) -> None:
        sink.push("a")
        probe.set("first")
        probe.wait("closed")
        try:
            while True:
                sink.push("b")
        except RunCancelled as error:
            probe.note(error.cause)
            raise

    async def main() -> Producer:
        producer = Producer(Pushing(feed), StreamBounds(4, 10**9))
        await anext(producer.stream)
        reading = asyncio.ensure_future(anext(producer.stream))  # type: ignore[arg-type]
        await probe.until("first")
        await asyncio.sleep(0)
        reading.cancel()
        return producer

    producer = run_on_loop(main)
    probe.set("closed")
    assert producer.ended.wait(WAIT_S)
    assert probe.notes == ["shutdown"]


# How the errors are told, and what streams at all.


def test_cancellation_error_for_each_cause() -> None:
    told = {}
    for cause in ("disconnect", "timeout", "shutdown", "overflow"):
        run = Run("id", "w")
        run.cancel(cause)  # type: ignore[arg-type]
        error = cancellation_error(run)
        told[cause] = (type(error), error.status, error.message)
    assert told == {
        "disconnect": (CallerGone, 499, "the caller has left"),
        "timeout": (DeadlineExceeded, 504, "wrapper w: the run took too long and was stopped"),
        "shutdown": (Draining, 503, "the server is shutting down"),
        "overflow": (WrapperRaised, 500, "wrapper w: a callback on the event loop outran the stream's reader"),
    }


@pytest.mark.parametrize("error", [Overloaded("later"), HTTPException(418)])
def test_wrapper_error_passes_what_is_meant_for_the_caller(error: Exception) -> None:
    assert wrapper_error(Run("id", "w"), error) is error


@pytest.mark.parametrize(
    "error",
    [
        ValueError("secret"),
        SystemExit(1),
        RunCancelled("timeout"),
        StopIteration(),
        *(HTTPException(status, "no error") for status in (0, 100, 200, 304, 399, 600)),
    ],
)
def test_wrapper_error_keeps_any_other_as_its_cause(error: BaseException) -> None:
    told = wrapper_error(Run("id", "w"), error)
    assert (type(told), str(told), told.__cause__) == (WrapperRaised, "wrapper w failed", error)


def test_find_stream_for_each_shape() -> None:
    def generator() -> Iterator[str]:
        yield "a"

    source, source_async = Pushing(lambda sink: None), PushingAsync(lambda sink: None)
    sync, asynchronous = generator(), to_async(iter(()))
    shapes = [source, source_async, sync, asynchronous, iter([1])]
    assert [find_stream(shape) for shape in shapes] == [
        (source, False, False),
        (source_async, True, False),
        (sync, False, False),
        (asynchronous, True, False),
        (shapes[4], False, False),
    ]
    assert [find_stream(SSEStream(shape)) for shape in (source_async, sync)] == [
        (source_async, True, True),
        (sync, False, True),
    ]
    assert [find_stream(value) for value in ("text", [1, 2], None, {"a": 1}, (1,), range(3))] == [None] * 6


@pytest.mark.parametrize(("stream", "kind"), [([1], "list"), (None, "NoneType"), ("ab", "str"), ({}, "dict")])
def test_find_stream_for_an_sse_stream_of_something_else(stream: Any, kind: str) -> None:
    with pytest.raises(TypeError) as caught:
        find_stream(SSEStream(stream))
    assert str(caught.value) == f"SSEStream takes a generator, sync or async, not {kind}"


# The hand-over itself: no lock, so every interleaving must do.


def hammer(kind: str, bounds: StreamBounds, chunks: int) -> Any:
    async def main() -> Any:
        return await collect(Producer(of_kind(kind, iter(range(chunks))), bounds).stream)

    return run_on_loop(main)


@pytest.fixture
def eager_switches() -> Iterator[None]:
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval_s)


@pytest.mark.usefixtures("eager_switches")
@pytest.mark.parametrize("bounds", [StreamBounds(1, 10**9), StreamBounds(2, 10**9), StreamBounds(256, 10**9)])
def test_hand_over_under_eager_thread_switches(bounds: StreamBounds) -> None:
    for _ in range(5):
        assert hammer("sync", bounds, 2000) == (list(range(2000)), None)


@pytest.mark.usefixtures("eager_switches")
@pytest.mark.parametrize("bounds", [StreamBounds(8, 10**9), WIDE], ids=["waiting", "not waiting"])
def test_several_pushing_threads_under_eager_thread_switches(bounds: StreamBounds) -> None:
    async def feed(sink: Any) -> None:
        def work(name: int) -> None:
            for number in range(5000):
                sink.push(f"{name} {number}")

        await asyncio.gather(*(POOL.call(lambda name=name: work(name)) for name in range(4)))

    async def main() -> Any:
        stream = Producer(PushingAsync(feed), bounds).stream
        chunks, error = await collect(stream)
        return chunks, error, stream._bytes_in - stream._bytes_out

    chunks, error, left_bytes = run_on_loop(main)
    assert error is None
    for name in range(4):
        own = [chunk for chunk in chunks if chunk.startswith(f"{name} ")]
        assert own == [f"{name} {number}" for number in range(5000)]
    assert left_bytes == 0  # else the bound in bytes would drift away


@pytest.mark.usefixtures("eager_switches")
def test_close_at_any_moment_under_eager_thread_switches() -> None:
    async def main() -> int:
        ended = 0
        for rounds in range(300):
            producer = Producer(iter(range(10**9)), StreamBounds(3, 10**9))
            for _ in range(rounds % 4):
                await anext(producer.stream)
            producer.stream.close()
            await producer.wait_until_ended()
            ended += producer.run.cause == "disconnect"
        return ended

    assert run_on_loop(main) == 300
