"""Places for the runs of one wrapper, and the bounded queue before them."""

import asyncio
from collections import deque

from gateway.errors import Overloaded, QueueTimeout


class Limiter:
    """At most `places` runs at once, `max_queue` more that wait at most `queue_timeout_s` each.

    First come, first served. For the event loop's thread only.
    """

    def __init__(self, places: int, max_queue: int, queue_timeout_s: float) -> None:
        self.places = places
        self.in_flight = 0
        self._max_queue = max_queue
        self._queue_timeout_s = queue_timeout_s
        self._queue: deque[asyncio.Future[None]] = deque()

    @property
    def queued(self) -> int:
        return len(self._queue)

    async def acquire(self, wrapper: str) -> None:
        """Take a place. Raises `Overloaded` (429) when the queue is full, `QueueTimeout` (503) after the wait."""
        if self.in_flight < self.places:
            self.in_flight += 1
            return
        if len(self._queue) >= self._max_queue:
            message = f"wrapper {wrapper}: {self.in_flight} runs in hand and {self.queued} waiting; try again later"
            raise Overloaded(message, headers={"Retry-After": "1"})
        place = asyncio.get_running_loop().create_future()
        self._queue.append(place)
        try:
            async with asyncio.timeout(self._queue_timeout_s):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled():
                self.release()  # it was given a place in the moment it left
            elif place in self._queue:
                self._queue.remove(place)
            if isinstance(error, TimeoutError):
                message = f"wrapper {wrapper}: no place within {self._queue_timeout_s:g} s; try again later"
                raise QueueTimeout(message) from None
            raise

    def release(self) -> None:
        """Give the place to the next in the queue, or back."""
        while self._queue:
            place = self._queue.popleft()
            if not place.done():
                place.set_result(None)
                return
        self.in_flight -= 1
