import contextvars
import threading
from time import monotonic

import pytest

from gateway.run import Run, RunCancelled, current_run, get_run
from gateway.stream import find_stream


def test_current_run_outside_of_a_run() -> None:
    assert get_run() is None
    with pytest.raises(LookupError, match=r"current_run\(\) was called outside of a run"):
        current_run()


def test_activate_reaches_copies_of_its_context_only() -> None:
    run = Run("id", "w")
    inside = contextvars.copy_context()
    inside.run(run.activate)
    assert (inside.run(current_run), inside.run(get_run), inside.copy().run(current_run)) == (run, run, run)
    assert get_run() is None


def test_run_begins_with_what_it_was_given() -> None:
    run = Run("id", "w", headers={"a": "b"}, caller="127.0.0.1")
    assert (run.id, run.wrapper, run.headers, run.caller) == ("id", "w", {"a": "b"}, "127.0.0.1")
    assert (run.deadline, run.remaining_s, run.cause, run.is_cancelled) == (None, None, None, False)
    assert (Run("id", "w").headers, Run("id", "w").caller) == ({}, None)


def test_remaining_s_is_never_negative() -> None:
    run = Run("id", "w")
    run.deadline = monotonic() - 1
    assert run.remaining_s == 0.0
    run.deadline = monotonic() + 1000
    assert 900 < run.remaining_s <= 1000


def test_raise_if_cancelled_before_and_after() -> None:
    run = Run("id", "w")
    run.raise_if_cancelled()
    run.cancel("timeout")
    with pytest.raises(RunCancelled) as caught:
        run.raise_if_cancelled()
    assert (caught.value.cause, caught.value.args, run.is_cancelled) == ("timeout", ("timeout",), True)


def test_run_cancelled_passes_except_exception() -> None:
    assert not issubclass(RunCancelled, Exception)


def test_cancel_twice_keeps_the_first_cause_and_calls_back_once() -> None:
    run, calls = Run("id", "w"), []
    run.on_cancel(lambda: calls.append("a"))
    run.on_cancel(lambda: calls.append(run.cause))
    run.cancel("disconnect")
    run.cancel("timeout")
    assert (run.cause, calls) == ("disconnect", ["a", "disconnect"])


def test_on_cancel_when_already_cancelled() -> None:
    run, calls = Run("id", "w"), []
    run.cancel("shutdown")
    run.on_cancel(lambda: calls.append("late"))
    assert calls == ["late"]


def test_on_cancel_from_inside_of_a_callback() -> None:
    run, calls = Run("id", "w"), []
    run.on_cancel(lambda: (calls.append("outer"), run.on_cancel(lambda: calls.append("inner"))))
    run.cancel("disconnect")
    assert calls == ["outer", "inner"]


def test_on_cancel_from_a_thread_leaves_the_other_callbacks_to_the_loop() -> None:
    # They cancel tasks and settle futures, which is allowed on the loop's own thread only.
    run, threads = Run("id", "w"), []
    is_late_in = threading.Event()

    def late() -> None:
        run.on_cancel(lambda: threads.append(("late", threading.current_thread())))
        is_late_in.set()

    thread = threading.Thread(target=late)

    def first() -> None:
        thread.start()
        assert is_late_in.wait(20)

    run.on_cancel(first)
    run.on_cancel(lambda: threads.append(("second", threading.current_thread())))
    run.cancel("disconnect")
    thread.join()
    assert sorted(name for name, _ in threads) == ["late", "second"]
    assert dict(threads)["second"] is threading.current_thread()


def test_on_cancel_and_cancel_at_the_same_time_call_each_callback_once() -> None:
    for _ in range(200):
        run, calls = Run("id", "w"), []
        barrier = threading.Barrier(5)

        def register(run: Run = run, calls: list[int] = calls, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            for number in range(20):
                run.on_cancel(lambda number=number: calls.append(number))

        threads = [threading.Thread(target=register) for _ in range(4)]
        for thread in threads:
            thread.start()
        barrier.wait()
        run.cancel("disconnect")
        for thread in threads:
            thread.join()
        assert sorted(calls) == sorted(list(range(20)) * 4)


def test_end_releases_once_and_last_first() -> None:
    run, calls = Run("id", "w"), []
    run.on_end(lambda: calls.append("first"))
    run.on_end(lambda: calls.append("second"))
    run.end()
    run.end()
    assert calls == ["second", "first"]


def test_stream_source_is_recognised_by_its_shape() -> None:
    class Source:
        is_async = False

        def feed(self, sink: object) -> None: ...

    class Parser:
        def feed(self, text: str) -> None: ...

    source, chunks = Source(), iter([1])
    assert find_stream(source) == (source, False, False)
    assert find_stream(chunks) == (chunks, False, False)
    assert find_stream(Parser()) is None
