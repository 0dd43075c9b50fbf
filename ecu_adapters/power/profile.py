"""Voltage over time: brown-outs and cranking, as points that are joined by straight lines.

The built-in profiles follow ISO 16750-2:2010, 4.6, for 12 V systems. The standard's text was not at hand; values are
as known from public reproductions of its tables, each with its clause, and are data: check them against your edition,
and give your own points where it differs. The 2 Hz ripple that the standard allows on the cranking plateau is left out.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

LONGEST_S = 3600.0
MOST_POINTS = 10_000
_CLOSE_ENOUGH_S = 1e-9


@dataclass(frozen=True, slots=True)
class Point:
    """A voltage that is reached at a time."""

    at_s: float
    voltage: float


@dataclass(frozen=True, slots=True)
class VoltageProfile:
    """Points in order of time, the first at 0."""

    name: str
    points: tuple[Point, ...]
    source: str = ""
    """The clause it follows; empty for a user's own."""

    @property
    def duration_s(self) -> float:
        """From the first point to the last."""
        return self.points[-1].at_s

    @property
    def highest(self) -> float:
        """V."""
        return max(point.voltage for point in self.points)


def profile(name: str, points: Sequence[tuple[float, float]], source: str = "") -> VoltageProfile:
    """A profile from (ms, V). Raises ValueError, naming the point, for one that cannot be played."""
    if not 2 <= len(points) <= MOST_POINTS:
        raise ValueError(f"profile {name} has {len(points)} points; it must have 2 .. {MOST_POINTS}")
    before = -1.0
    for number, (at_ms, voltage) in enumerate(points, 1):
        if not 0 <= at_ms <= LONGEST_S * 1000:
            raise ValueError(f"point {number} of profile {name} is at {at_ms} ms; it must be 0 .. {LONGEST_S * 1000:g}")
        if number == 1 and at_ms != 0:
            raise ValueError(f"profile {name} begins at {at_ms} ms; its first point must be at 0 ms")
        if at_ms <= before:
            raise ValueError(f"point {number} of profile {name} is at {at_ms} ms, not after the one before ({before})")
        if not 0 <= voltage < float("inf"):
            raise ValueError(f"point {number} of profile {name} has {voltage} V; it must be 0 or more")
        before = at_ms
    return VoltageProfile(name, tuple(Point(at / 1000, float(voltage)) for at, voltage in points), source)


def steps(wanted: VoltageProfile, step_s: float) -> list[Point]:
    """The voltages to set, and when: each point, and between two of them one every ``step_s`` where it changes."""
    planned = [wanted.points[0]]
    for start, end in zip(wanted.points, wanted.points[1:], strict=False):
        span, rise = end.at_s - start.at_s, end.voltage - start.voltage
        between = int((span - _CLOSE_ENOUGH_S) / step_s) if rise else 0
        planned += [
            Point(start.at_s + number * step_s, start.voltage + rise * number * step_s / span)
            for number in range(1, between + 1)
        ]
        planned.append(end)
    return planned


@dataclass(slots=True)
class Played:
    """How a profile went."""

    achieved: list[tuple[Point, float]] = field(default_factory=list)
    """Each voltage that was set, as planned, and when the supply had taken it (s from the start)."""
    skipped: int = 0
    """Steps that were overtaken by their successor because the supply took too long."""
    aborted: bool = False

    @property
    def worst_s(self) -> float:
        """The longest that a voltage was set after its time."""
        return max((at - point.at_s for point, at in self.achieved), default=0.0)


def play(
    planned: Sequence[Point],
    set_voltage: Callable[[float], None],
    stop: threading.Event,
    *,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], object] | None = None,
    on_step: Callable[[Point, float], None] | None = None,
) -> Played:
    """Sets each voltage at its time, counted from the start so that delays do not add up. Blocks; raises what
    ``set_voltage`` raises. ``stop`` ends it before the next step. ``wait`` sleeps (s) until a step is due.
    """
    wait = wait or stop.wait
    played, started = Played(), clock()
    for index, point in enumerate(planned):
        following = planned[index + 1] if index + 1 < len(planned) else None
        if following is not None and clock() - started >= following.at_s:
            played.skipped += 1
            continue
        while (left := started + point.at_s - clock()) > 0 and not stop.is_set():
            wait(left)
        if stop.is_set():
            played.aborted = True
            break
        set_voltage(point.voltage)
        at = clock() - started
        played.achieved.append((point, at))
        if on_step is not None:
            on_step(point, at)
    return played


def _starting(level: str, lowest: float, plateau: float, plateau_ms: float, rise_ms: float) -> VoltageProfile:
    """4.6.3: UB, fall in 5 ms to US6 for 15 ms, rise in 50 ms to US, plateau, rise back to UB."""
    battery, lead = 12.0, 100.0
    marks = [(0.0, battery), (lead, battery)]
    for after, voltage in ((5, lowest), (15, lowest), (50, plateau), (plateau_ms, plateau), (rise_ms, battery)):
        marks.append((marks[-1][0] + after, voltage))
    return profile(
        f"iso16750_cranking_{level}", marks, f"ISO 16750-2:2010, 4.6.3, starting profile, 12 V, level {level}"
    )


def _momentary_drop() -> VoltageProfile:
    """4.6.1: from USmin to 4.5 V for 0.1 s, edges of at most 10 ms."""
    low, lead = 9.0, 100.0
    marks = [(0.0, low), (lead, low), (lead + 10, 4.5), (lead + 110, 4.5), (lead + 120, low), (lead + 220, low)]
    return profile("iso16750_momentary_drop", marks, "ISO 16750-2:2010, 4.6.1, 12 V, USmin 9 V (code C)")


def _reset_steps() -> VoltageProfile:
    """4.6.2: drops from USmin, each 5 % deeper, for 5 s, back to USmin for 10 s, down to 0 V."""
    low, edge = 9.0, 10.0
    marks = [(0.0, low)]
    for percent in range(95, -1, -5):
        at = marks[-1][0]
        dropped = low * percent / 100
        marks += [
            (at + edge, dropped),
            (at + edge + 5000, dropped),
            (at + 2 * edge + 5000, low),
            (at + 2 * edge + 15_000, low),
        ]
    return profile("iso16750_reset", marks, "ISO 16750-2:2010, 4.6.2, 12 V, USmin 9 V (code C)")


BUILT_IN = {
    one.name: one
    for one in (
        _starting("I", 8.0, 9.5, 1000, 40),
        _starting("II", 4.5, 6.5, 10_000, 100),
        _starting("III", 3.0, 5.0, 1000, 100),
        _starting("IV", 6.0, 6.5, 10_000, 100),
        _momentary_drop(),
        _reset_steps(),
    )
}
"""By name."""
