"""A run from admission to its result: choose the place, wait for one, call the method where it belongs."""

import asyncio
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from time import monotonic
from types import TracebackType
from typing import Any

from gateway.errors import Draining, GatewayError, Unavailable
from gateway.registry import Deployment, Method
from gateway.run import Run
from gateway.stream import Stream, StreamBounds, cancellation_error, find_stream, wrapper_error
from gateway.telemetry.log import log
from gateway.thread import ThreadPool

Call = Callable[[], Any]
Finish = Callable[[Any], Any]


class Invoker:
    """Runs methods of wrappers. `buffer_chunks`, `buffer_bytes`: what a stream may hold for its reader."""

    def __init__(self, pool: ThreadPool, *, buffer_chunks: int, buffer_bytes: int) -> None:
        self._pool = pool
        self._buffer_chunks = buffer_chunks
        self._buffer_bytes = buffer_bytes
        self._runs: set[Run] = set()
        self._replies = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self.draining = asyncio.Event()

    @property
    def is_draining(self) -> bool:
        return self.draining.is_set()

    async def drain(self, timeout_s: float) -> None:
        """Refuse new runs; return when those in hand have ended and their replies been sent.

        After `timeout_s` the rest is cancelled.
        """
        self.draining.set()
        await self.finish(timeout_s)
        for run in list(self._runs):
            run.cancel("shutdown")

    async def finish(self, timeout_s: float) -> None:
        """Return when no run is in hand any more and all replies have been sent, or after `timeout_s`."""
        if self._runs or self._replies:
            log.info("waiting for runs in hand", runs=len(self._runs), replies=self._replies, timeout_s=timeout_s)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_idle.wait(), timeout_s)

    def _enter(self, run: Run) -> None:
        if self.is_draining:
            run.end()
            raise Draining("the server is shutting down")
        self._runs.add(run)
        self._is_idle.clear()
        run.on_end(lambda: self._leave(run))

    def _leave(self, run: Run) -> None:
        self._runs.discard(run)
        self._heed_idleness()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Work that is no run, and that the end of the process waits for. Raises `Draining`."""
        if self.is_draining:
            raise Draining("the server is shutting down")
        with self.replying():
            yield

    @contextmanager
    def replying(self) -> Iterator[None]:
        """A reply is in hand for as long as this is entered: a slow reader may still be at a run that has ended."""
        self._replies += 1
        self._is_idle.clear()
        try:
            yield
        finally:
            self._replies -= 1
            self._heed_idleness()

    def _heed_idleness(self) -> None:
        if not (self._runs or self._replies):
            self._is_idle.set()

    async def invoke(
        self, run: Run, deployment: Deployment, method: Method, arguments: Mapping[str, Any], finish: Finish
    ) -> Any:
        """What `finish` makes of the method's value, where the method ran; or a `Stream` when it gives one.

        From here on the run ends by itself: with the thread or task that works for it, or when it gets no place. Only
        a reply with a true `holds_run` still needs what the run holds: whoever gets it ends the run.
        Raises what `Limiter.acquire` raises, `DeadlineExceeded`, `CallerGone`, `Draining`, what the wrapper raises
        for its caller (`GatewayError`, `HTTPException`), and `WrapperRaised` for all else.
        """
        self._enter(run)
        loop = asyncio.get_running_loop()
        if deployment.limits.timeout_s is not None:
            run.deadline = monotonic() + deployment.limits.timeout_s
            run.on_end(loop.call_later(deployment.limits.timeout_s, run.cancel, "timeout").cancel)
        limiter = deployment.limiter(method)
        bounds = StreamBounds(
            self._buffer_chunks,
            self._buffer_bytes,
            deployment.limits.first_chunk_timeout_s,
            deployment.limits.idle_chunk_timeout_s,
        )
        with _Cancellable(run):
            try:
                await limiter.acquire(run.wrapper)
            except BaseException:
                run.end()
                raise
            run.on_end(limiter.release)
            if method.is_async:
                return await self._call_on_loop(run, partial(method.call, **arguments), finish, bounds)
            return await self._call_on_thread(run, partial(method.call, **arguments), finish, bounds)

    async def _call_on_loop(self, run: Run, call: Call, finish: Finish, bounds: StreamBounds) -> Any:
        loop = asyncio.get_running_loop()
        try:
            result = call()
            if inspect.isawaitable(result):
                result = await result
            if run.is_cancelled:  # the method has swallowed its CancelledError
                raise cancellation_error(run)
            found = find_stream(result)
            if found is None:
                result = finish(result)
        except BaseException as error:
            run.end()
            if isinstance(error, asyncio.CancelledError) and (task := asyncio.current_task()) and task.cancelling():
                raise
            failure = wrapper_error(run, error)
            raise failure from failure.__cause__
        if found is None:
            if not _holds_run(result):
                run.end()
            return result
        source, is_async, is_events = found
        stream = _make_stream(run, bounds, loop, source, is_events=is_events)
        if is_async:
            self._produce_in_task(stream, source, loop)
        else:
            self._pool.start(lambda: self._produce_and_end(stream, source, loop))
        return stream

    async def _call_on_thread(self, run: Run, call: Call, finish: Finish, bounds: StreamBounds) -> Any:
        loop = asyncio.get_running_loop()
        outcome = _Outcome(run, loop)

        def work() -> None:
            try:
                run.raise_if_cancelled()
                result = call()
                found = find_stream(result)
                if found is None:
                    result = finish(result)
            except BaseException as error:
                outcome.tell(error=wrapper_error(run, error))
                return
            if found is None:
                outcome.tell(result)
                return
            source, is_async, is_events = found
            stream = _make_stream(run, bounds, loop, source, is_events=is_events)
            outcome.tell(stream, is_over=False)
            if is_async:
                _call_loop(loop, self._produce_in_task, stream, source, loop)
            else:
                self._produce_and_end(stream, source, loop)

        try:
            self._pool.start(work)
        except RuntimeError as error:  # the machine has no thread left
            run.end()
            raise Unavailable(f"wrapper {run.wrapper}: {error}; try again later") from error
        return await outcome.wait()

    @staticmethod
    def _produce_and_end(stream: Stream, source: Any, loop: asyncio.AbstractEventLoop) -> None:
        stream.produce(source)
        _call_loop(loop, stream.run.end)

    @staticmethod
    def _produce_in_task(stream: Stream, source: Any, loop: asyncio.AbstractEventLoop) -> None:
        task = loop.create_task(stream.produce_async(source))
        task.add_done_callback(lambda _: stream.run.end())
        stream.run.on_cancel(task.cancel)


class _Outcome:
    """What a run's thread tells the task that waits for it."""

    def __init__(self, run: Run, loop: asyncio.AbstractEventLoop) -> None:
        self._run = run
        self._loop = loop
        self._future: asyncio.Future[Any] = loop.create_future()

    def tell(self, result: Any = None, error: BaseException | None = None, *, is_over: bool = True) -> None:
        """From the thread. `is_over`: it is through with the run."""
        _call_loop(self._loop, self._settle, result, error, is_over)

    def _settle(self, result: Any, error: BaseException | None, is_over: bool) -> None:
        is_left = self._future.done()  # the caller has gone
        if is_over and (is_left or not _holds_run(result)):
            self._run.end()
        if is_left:
            return
        if error is None:
            self._future.set_result(result)
        else:
            self._future.set_exception(error)

    async def wait(self) -> Any:
        try:
            return await self._future
        except asyncio.CancelledError:
            future = self._future
            if not future.cancelled() and future.exception() is None and _holds_run(future.result()):
                self._run.end()  # the reply came in the moment in which the caller left
            raise


def _make_stream(
    run: Run, bounds: StreamBounds, loop: asyncio.AbstractEventLoop, source: Any, *, is_events: bool
) -> Stream:
    passes_tool_calls = getattr(source, "passes_tool_calls", False)
    return Stream(run, bounds, loop, is_events=is_events, passes_tool_calls=passes_tool_calls)


def _holds_run(reply: Any) -> bool:
    return getattr(reply, "holds_run", False)


class _Cancellable:
    """Inside of it, cancelling the run cancels the task, once, as `asyncio.timeout` does; then its error is raised."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._task = asyncio.current_task()
        self._is_active = True
        self._is_hit = False

    def __enter__(self) -> None:
        self._run.on_cancel(self._cancel)

    def _cancel(self) -> None:
        if self._is_active and self._task is not None:
            self._is_hit = True
            self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_active = False
        if not self._is_hit or self._task is None or self._task.uncancel() > 0:
            return
        if isinstance(error, asyncio.CancelledError | GatewayError):
            raise cancellation_error(self._run) from None


def _call_loop(loop: asyncio.AbstractEventLoop, callback: Any, *arguments: Any) -> None:
    with suppress(RuntimeError):  # the loop was closed under a thread that was stuck: nobody waits
        loop.call_soon_threadsafe(callback, *arguments)
