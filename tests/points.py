"""Where tests look at the points that were written."""

from collections.abc import Iterable

from labd.model.measurements import fault
from labd.model.point import Point


class Collected:
    """A sink that keeps all, and takes nothing that the catalogue does not know."""

    def __init__(self) -> None:
        self.points: list[Point] = []

    def write(self, points: Iterable[Point]) -> None:
        for point in points:
            assert fault(point) is None
            self.points.append(point)

    def of(self, measurement: str) -> list[Point]:
        return [point for point in self.points if point.measurement == measurement]
