"""A point of a time series: what was measured, of what, when."""

from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

Value = float | int | bool | str


@dataclass(frozen=True, slots=True)
class Point:
    """Values of one measurement at one moment; ``docs/reference/metrics.md`` has the names and units."""

    measurement: str
    tags: Mapping[str, str]
    """What was measured; of few values each, as every combination is a series."""
    fields: Mapping[str, Value]
    time: float
    """s since the Unix epoch."""


class PointSink(Protocol):
    """Takes points. Never waits, and never raises: what it cannot keep, it counts."""

    def write(self, points: Iterable[Point]) -> None:
        """Takes the points, in their order."""


class Marks(Protocol):
    """Notes up to where the points of somebody were taken, so that none is lost and none is taken twice."""

    def mark(self, name: str, mark: str) -> "Future[None]":
        """Done once the mark is on the disk, and with it whatever this thread has written before."""

    def marked(self, name: str) -> str | None:
        """The latest mark on the disk, a former labd's included."""


class Nowhere:
    """Where points go when nobody wants them."""

    def write(self, points: Iterable[Point]) -> None:
        """Keeps none of them."""
