"""From a bus' reader thread into an asyncio loop, waking the loop once per burst.

``call_soon_threadsafe`` writes to a pipe and costs tens of microseconds; at thousands of frames a second it must not be
paid for each, and what the loop's own thread puts does not pay it at all.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    """A bounded queue whose consumer runs on a loop. Made on the loop; `put` may be called from any thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        consume: Callable[[T], None],
        *,
        bound: int = 4096,
        on_drop: Callable[[], None] = lambda: None,
    ) -> None:
        """``on_drop`` is called on the thread of the `put` that found no room."""
        self.dropped = 0
        """Items refused because ``bound`` were waiting already."""
        self._loop = loop
        self._thread = threading.get_ident()
        self._consume = consume
        self._bound = bound
        self._on_drop = on_drop
        self._items: deque[T] = deque()
        self._scheduled = False
        self._closed = False

    def put(self, item: T) -> None:
        """Hands over ``item``; drops and counts it when the loop is too far behind."""
        if len(self._items) >= self._bound:
            self.dropped += 1
            self._on_drop()
            return
        self._items.append(item)
        if self._scheduled or self._closed:
            return
        self._scheduled = True
        try:
            if threading.get_ident() == self._thread:
                self._loop.call_soon(self.drain)
            else:
                self._loop.call_soon_threadsafe(self.drain)
        except RuntimeError:
            # The loop is closed: nobody is left to take anything.
            self._closed = True

    def close(self) -> None:
        """Drops what waits and delivers nothing more."""
        self._closed = True
        self._items.clear()

    def drain(self) -> None:
        """Consumes what is here; runs on the loop."""
        # Cleared before the queue is read: an item that comes in between wakes the loop once more, and none is lost.
        self._scheduled = False
        # Only what is here now, so that a steady stream does not keep the loop from its other work.
        for _ in range(len(self._items)):
            if self._closed or not self._items:
                return
            item = self._items.popleft()
            try:
                self._consume(item)
            except Exception as error:
                self._loop.call_exception_handler({"message": "inbox consumer failed", "exception": error})
