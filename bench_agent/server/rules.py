# ruff: noqa: D102 - the rules' methods are described once, in Rule
"""What has to become of the frames of one message, one after another: pure decisions on timestamps.

A rule is told of each frame, in order, with its timestamp and whether it meets the conditions, and answers True (met),
False (cannot be met any more) or None (undecided).
"""

from dataclasses import dataclass
from typing import Protocol

GAP_CYCLES = 5
"""A message that stays away for more than so many of its cycle times has not gone on holding its value."""
_LATE_NS = 20_000_000
"""How much later than its time a frame may reach the agent before it counts as missing at the end of a window."""


class Rule(Protocol):
    """How it is decided."""

    wake_ns: int | None
    """When it decides without a frame, if none comes before; None: never."""

    def take(self, stamp_ns: int, holds: bool) -> bool | None:
        """A frame."""
        ...

    def end(self, now_ns: int) -> bool:
        """The time is over, or ``wake_ns`` has come."""
        ...

    def why(self) -> str:
        """Why it is not met, in words; empty when the conditions say it all."""
        ...


@dataclass(slots=True)
class First:
    """One frame meets the conditions."""

    wake_ns: int | None = None

    def take(self, stamp_ns: int, holds: bool) -> bool | None:
        return True if holds else None

    def end(self, now_ns: int) -> bool:
        return False

    def why(self) -> str:
        return ""


@dataclass(slots=True)
class AtLeast:
    """So many frames meet the conditions."""

    count: int
    met: int = 0
    wake_ns: int | None = None

    def take(self, stamp_ns: int, holds: bool) -> bool | None:
        self.met += holds
        return True if self.met >= self.count else None

    def end(self, now_ns: int) -> bool:
        return False

    def why(self) -> str:
        return f"{self.met} of {self.count} frames met the conditions"


@dataclass(slots=True)
class Exactly:
    """So many frames meet the conditions until the end, and none more."""

    count: int
    met: int = 0
    wake_ns: int | None = None

    def take(self, stamp_ns: int, holds: bool) -> bool | None:
        self.met += holds
        return False if self.met > self.count else None

    def end(self, now_ns: int) -> bool:
        return self.met == self.count

    def why(self) -> str:
        wanted = "none" if self.count == 0 else f"exactly {self.count}"
        return f"{self.met} frames met the conditions, expected {wanted}"


@dataclass(slots=True)
class Held:
    """Every frame meets the conditions for so long, with no gap longer than ``gap_ns``.

    Without ``gap_ns`` (a message sent on events) the last frame's word holds until another one comes.
    """

    hold_ns: int
    gap_ns: int | None
    wake_ns: int | None = None
    longest_ns: int = 0
    since_ns: int | None = None
    last_ns: int = 0

    def take(self, stamp_ns: int, holds: bool) -> bool | None:
        gap = self.gap_ns is not None and self.since_ns is not None and stamp_ns - self.last_ns > self.gap_ns
        self.last_ns = stamp_ns
        if self.since_ns is not None and self.gap_ns is None and stamp_ns - self.since_ns >= self.hold_ns:
            return True  # the time was over before this frame came
        if not holds:
            self.since_ns = self.wake_ns = None
            return None
        if self.since_ns is None or gap:
            self.since_ns = stamp_ns
        self.longest_ns = max(self.longest_ns, stamp_ns - self.since_ns)
        if self.gap_ns is None:
            self.wake_ns = self.since_ns + self.hold_ns
        return True if stamp_ns - self.since_ns >= self.hold_ns else None

    def end(self, now_ns: int) -> bool:
        return self.gap_ns is None and self.since_ns is not None and now_ns - self.since_ns >= self.hold_ns

    def why(self) -> str:
        return f"held for {self.longest_ns / 1e6:.0f} ms at most, expected {self.hold_ns / 1e6:.0f} ms"


@dataclass(slots=True)
class Cycle:
    """Every interval between two frames is within limits, until the end."""

    low_ns: int
    high_ns: int
    wake_ns: int | None = None
    last_ns: int | None = None
    intervals: int = 0
    wrong_ns: int | None = None

    def take(self, stamp_ns: int, holds: bool) -> bool | None:
        last_ns, self.last_ns = self.last_ns, stamp_ns
        if last_ns is None:
            return None
        self.intervals += 1
        if not self.low_ns <= stamp_ns - last_ns <= self.high_ns:
            self.wrong_ns = stamp_ns - last_ns
            return False
        return None

    def end(self, now_ns: int) -> bool:
        if self.last_ns is not None and now_ns - self.last_ns > self.high_ns + _LATE_NS:
            self.wrong_ns = now_ns - self.last_ns
        return self.intervals > 0 and self.wrong_ns is None

    def why(self) -> str:
        limits = f"{self.low_ns / 1e6:g} .. {self.high_ns / 1e6:g} ms"
        if self.wrong_ns is None:
            return f"fewer than two frames, expected one every {limits}"
        return f"an interval of {self.wrong_ns / 1e6:.4g} ms, expected {limits}"


@dataclass(slots=True)
class Intervals:
    """How regularly frames come. Times in ns; 0 until there are two frames."""

    frames: int = 0
    shortest_ns: int = 0
    longest_ns: int = 0
    first_ns: int = 0
    last_ns: int = 0

    def take(self, stamp_ns: int) -> None:
        """Another frame."""
        if self.frames == 0:
            self.first_ns = stamp_ns
        else:
            interval = stamp_ns - self.last_ns
            self.shortest_ns = interval if self.frames == 1 else min(self.shortest_ns, interval)
            self.longest_ns = max(self.longest_ns, interval)
        self.last_ns = stamp_ns
        self.frames += 1

    @property
    def mean_ns(self) -> float:
        """Mean interval."""
        return (self.last_ns - self.first_ns) / (self.frames - 1) if self.frames > 1 else 0.0
