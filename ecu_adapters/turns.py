"""One row for what several threads have to deliver, so that all listeners get it in one order."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """Delivers the items of several threads in one row, each by the thread that finds nobody else doing so.

    A thread that adds while another delivers leaves its item to that one and never waits, so that buses whose
    listeners send on each other cannot lock up, and a listener that sends is not called from within itself.
    """

    def __init__(self, deliver: Callable[[T], None]) -> None:
        self._deliver = deliver
        self._free = threading.Condition()
        self._busy = False
        self._row: deque[T] = deque()

    def add(self, item: T) -> None:
        """Gives ``item`` its place in the row; `run` must follow."""
        self._row.append(item)

    def run(self, *, wait: bool = False) -> None:
        """Delivers what is in the row, unless another thread does; with ``wait``, returns when that one is done."""
        with self._free:
            if self._busy:
                if wait:
                    self._free.wait_for(lambda: not self._busy)
                return
            self._busy = True
        while True:
            while self._row:
                self._deliver(self._row.popleft())
            with self._free:
                if not self._row:
                    self._busy = False
                    self._free.notify_all()
                    return
