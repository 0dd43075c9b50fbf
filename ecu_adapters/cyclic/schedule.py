"""When what is due: an absolute grid for each entry, and a heap over all of them. Pure: no clock, no thread."""

import heapq
import itertools
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class Grid:
    """Points in time ``period_s`` apart, in seconds on whatever clock the caller uses."""

    start_s: float
    period_s: float
    index: int = 0

    @property
    def due_s(self) -> float:
        """The next point. A product, not a sum: nothing adds up."""
        return self.start_s + self.index * self.period_s

    def advance(self, now_s: float) -> int:
        """Goes on to the next point. Returns how many were left out because they were over by half a period or more."""
        self.index += 1
        missed = max(0, int((now_s - self.due_s) / self.period_s + 0.5))
        self.index += missed
        return missed

    def with_period(self, period_s: float) -> "Grid":
        """Another period from the next point on."""
        return Grid(self.due_s, period_s)


class Schedule(Generic[T]):
    """What is due next. An entry has one appointment at a time: a new one replaces it."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._valid: dict[T, int] = {}
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._valid)

    def put(self, entry: T, due_s: float) -> None:
        """Makes or replaces the entry's appointment."""
        number = next(self._numbers)  # equal times come in the order in which they were put
        self._valid[entry] = number
        heapq.heappush(self._heap, (due_s, number, entry))

    def drop(self, entry: T) -> None:
        """The entry is due no more. Dropping an unknown one does nothing."""
        self._valid.pop(entry, None)

    def next_s(self) -> float | None:
        """When the next entry is due; None when there is none."""
        heap = self._heap
        while heap and self._valid.get(heap[0][2]) != heap[0][1]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def take(self, now_s: float) -> T | None:
        """Takes the most overdue entry out; None when nothing is due yet."""
        due_s = self.next_s()
        if due_s is None or due_s > now_s:
            return None
        entry = heapq.heappop(self._heap)[2]
        del self._valid[entry]
        return entry
