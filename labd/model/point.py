"""A point of a time series: what was measured, of what, when."""

from collections.abc import Iterable, Mapping
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


class Nowhere:
    """Where points go when nobody wants them."""

    def write(self, points: Iterable[Point]) -> None:
        """Keeps none of them."""
