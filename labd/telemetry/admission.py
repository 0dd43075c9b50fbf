"""Which points are taken: those that the catalogue knows, of a bounded number of series."""

from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from labd.model.measurements import CATALOGUE, Source, fault
from labd.model.point import Point
from labd.telemetry.counters import Counters, Loss

SERIES_MAX = 10_000
"""Of one measurement. Each costs the database memory for as long as it keeps it."""
FORGET_S = 86_400.0
"""A series without a point for this long counts no more."""
_NS = 1_000_000_000
Series = tuple[str, ...]
"""A measurement and the values of its tags, in the catalogue's order."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Admitted:
    """A sound point."""

    series: Series
    point: Point
    time_ns: int
    """Since the Unix epoch; unlike that of every other event of the series."""


class Admission:
    """Keeps what would harm the database away from it. For one thread."""

    def __init__(self, counters: Counters, *, series_max: int = SERIES_MAX) -> None:
        self._counters = counters
        self._series_max = series_max
        self._latest: dict[str, dict[Series, int]] = {}
        self._faults: set[str] = set()

    def admit(self, points: Iterable[Point]) -> list[Admitted]:
        """The sound ones. The others are counted, each kind logged once.

        Two events of one series at the same moment would be one to InfluxDB, so that the second is put 1 ns later.
        """
        admitted = []
        for point in points:
            if (wrong := fault(point)) is not None:
                self._counters.lose(Loss.INVALID)
                self._say("a point is not as the catalogue says", wrong.split(":")[0], fault=wrong)
                continue
            measurement = CATALOGUE[point.measurement]
            series = (point.measurement, *(point.tags[tag.name] for tag in measurement.tags))
            known = self._latest.setdefault(point.measurement, {})
            time = round(point.time * _NS)
            latest = known.get(series)
            if latest is None:
                if len(known) >= self._series_max and not self._forget(known, time):
                    self._counters.lose(Loss.SERIES)
                    self._say(
                        "a measurement has too many series; its new ones are dropped", f"series {point.measurement}",
                        measurement=point.measurement, most=self._series_max,
                    )  # fmt: skip
                    continue
            elif measurement.source is Source.LABD and 0 <= latest - time < _NS // 1000:
                time = latest + 1
            known[series] = time if latest is None else max(time, latest)
            admitted.append(Admitted(series, point, time))
        return admitted

    def _forget(self, known: dict[Series, int], now: int) -> bool:
        old = [series for series, time in known.items() if time < now - FORGET_S * _NS]
        for series in old:
            del known[series]
        return bool(old)

    def _say(self, event: str, kind: str, **values: object) -> None:
        if kind not in self._faults and len(self._faults) < 1000:
            self._faults.add(kind)
            _log.warning(event, **values)
