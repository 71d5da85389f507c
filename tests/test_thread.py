import asyncio
import gc
import threading
import weakref
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import pytest

from gateway import thread
from gateway.thread import ThreadPool
from tests.probe import eventually

WAIT_S = 10.0
colour: ContextVar[str] = ContextVar("colour", default="none")


def play(scene: Callable[[], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with asyncio.timeout(WAIT_S):
            return await scene()

    return asyncio.run(run())


def test_call_gives_the_result_of_a_daemon_thread() -> None:
    pool = ThreadPool("pool")

    async def scene() -> threading.Thread:
        return await pool.call(threading.current_thread)

    worker = play(scene)
    assert (worker.daemon, worker.name, worker is threading.main_thread()) == (True, "pool-1", False)


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
def test_call_raises_what_the_function_raises(error: BaseException) -> None:
    pool = ThreadPool("pool")

    def fail() -> None:
        raise error

    async def scene() -> None:
        await pool.call(fail)

    caught = None
    try:
        play(scene)
    except BaseException as raised:  # a KeyboardInterrupt would end the suite
        caught = raised
    # In a task, SystemExit and its like end the event loop, and a CancelledError looks like a cancellation.
    assert (type(caught), str(caught)) == (
        (ValueError, "x") if type(error) is ValueError else (RuntimeError, repr(error))
    )


def test_call_turns_stop_iteration_into_a_runtime_error() -> None:
    pool = ThreadPool("pool")

    def fail() -> None:
        raise StopIteration

    async def scene() -> None:
        await pool.call(fail)

    with pytest.raises(RuntimeError, match=r"StopIteration\(\)"):
        play(scene)


def test_call_runs_in_a_copy_of_the_context() -> None:
    pool = ThreadPool("pool")

    def paint() -> str:
        seen = colour.get()
        colour.set("green")
        return seen

    async def scene() -> tuple[str, str, str]:
        colour.set("red")
        first = await pool.call(paint)
        return first, colour.get(), await pool.call(colour.get)

    assert play(scene) == ("red", "red", "red")


def test_call_leaves_the_thread_to_its_work_when_it_is_cancelled() -> None:
    pool = ThreadPool("pool")
    entered, gate, left = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        entered.set()
        assert gate.wait(WAIT_S)
        left.set()

    async def scene() -> bool:
        task = asyncio.create_task(pool.call(work))
        while not entered.is_set():
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return left.is_set()

    assert play(scene) is False
    gate.set()  # the loop is closed by now: nobody hears the result
    assert left.wait(WAIT_S)


def test_call_runs_as_many_at_once_as_are_asked_for() -> None:
    pool = ThreadPool("pool")
    barrier = threading.Barrier(50)

    async def scene() -> set[int]:
        return set(await asyncio.gather(*(pool.call(lambda: barrier.wait(WAIT_S)) for _ in range(50))))

    assert play(scene) == set(range(50))


def test_start_takes_an_idle_thread_again() -> None:
    pool = ThreadPool("pool")
    used: set[int] = set()
    done = threading.Semaphore(0)

    def work() -> None:
        used.add(threading.get_ident())
        done.release()

    for _ in range(20):
        eventually(lambda: pool._idle == min(len(used), 1))
        pool.start(work)
        assert done.acquire(timeout=WAIT_S)
    assert len(used) == 1


def test_start_lets_go_of_what_it_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread, "IDLE_S", 60)  # the thread lives on

    class Held:
        pass

    pool = ThreadPool("pool")
    held = Held()
    reference = weakref.ref(held)
    pool.start(lambda held=held: None)  # type: ignore[misc]
    del held
    eventually(lambda: gc.collect() is not None and reference() is None)


def test_idle_threads_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread, "IDLE_S", 0.01)
    pool = ThreadPool("ending")
    barrier = threading.Barrier(5)
    for _ in range(5):
        pool.start(barrier.wait)
    eventually(lambda: not [one for one in threading.enumerate() if one.name.startswith("ending-")])
    assert pool._idle == 0


def test_start_loses_nothing_while_idle_threads_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread, "IDLE_S", 0.0001)
    pool = ThreadPool("ending")
    done = threading.Semaphore(0)
    for _ in range(500):
        pool.start(done.release)
        assert done.acquire(timeout=WAIT_S)
