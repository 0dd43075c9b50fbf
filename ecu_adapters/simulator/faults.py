"""Faults of a simulated ECU: which of those that were injected strikes now. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count

from ecu_adapters.simulation import ANSWER_FAULTS, Fault

MOST = 100
"""Faults in force at once."""
_FIRST, _CONSECUTIVE = 0x1, 0x2
"""Types of frames (ISO 15765-2, 9.6.1)."""


class TooManyFaults(Exception):
    """Somebody injects without ever clearing."""


@dataclass(slots=True)
class ActiveFault:
    """A fault in force."""

    number: int
    fault: Fault
    struck: int = 0
    """Times that it has struck."""

    @property
    def spent(self) -> bool:
        """Whether it has struck as often as it was to."""
        return self.fault.times is not None and self.struck >= self.fault.times


class _FrameCounter:
    """Which frame of its PDU a frame is: 0 for a single or first one, n for the nth consecutive one."""

    def __init__(self, prefix_length: int) -> None:
        self._at = prefix_length
        self._number = 0

    def number(self, frame: bytes) -> int | None:
        """None for flow control and what is no frame at all."""
        if len(frame) <= self._at:
            return None
        kind = frame[self._at] >> 4
        if kind in (0x0, _FIRST):
            self._number = 0
        elif kind == _CONSECUTIVE:
            self._number += 1
        else:
            return None
        return self._number


class FaultInjector:
    """All faults of one ECU. ``prefix_length`` is the number of address bytes before a frame's type."""

    def __init__(self, faults: Iterable[Fault] = (), *, prefix_length: int = 0) -> None:
        self.on_change: Callable[[], None] | None = None
        """Told when one came, went, or is spent."""
        self._numbers = count(1)
        self._active: list[ActiveFault] = []
        self._prefix_length = prefix_length
        self._outgoing = _FrameCounter(prefix_length)
        self._incoming = _FrameCounter(prefix_length)
        for fault in faults:
            self.inject(fault)

    @property
    def active(self) -> list[ActiveFault]:
        """Those in force, oldest first."""
        return list(self._active)

    def inject(self, fault: Fault) -> int:
        """Puts a fault in force and returns its number. Raises TooManyFaults."""
        if len(self._active) >= MOST:
            raise TooManyFaults(f"{MOST} faults are in force already; clear some")
        number = next(self._numbers)
        self._active.append(ActiveFault(number, fault))
        self._changed()
        return number

    def clear(self, number: int | None = None) -> int:
        """Ends one fault, or all; returns how many."""
        before = len(self._active)
        self._active = [other for other in self._active if number is not None and other.number != number]
        self._changed()
        return before - len(self._active)

    def for_answer(self, service: int) -> Fault | None:
        """The fault of the answer to this request, if any; it has struck with this."""
        for active in self._active:
            if active.fault.kind in ANSWER_FAULTS and active.fault.service in (None, service):
                self._strike(active)
                return active.fault
        return None

    def outgoing(self, frame: bytes) -> list[tuple[float, bytes]]:
        """What becomes of a frame that the ECU sends: frames and their delays in s."""
        active = self._hit(self._outgoing.number(frame), ("drop_frame", "delay_frame", "wrong_sequence"))
        if active is None:
            return [(0.0, frame)]
        self._strike(active)
        if active.fault.kind == "drop_frame":
            return []
        if active.fault.kind == "delay_frame":
            return [(active.fault.delay_ms / 1000, frame)]
        at = self._prefix_length
        wrong = frame[at] & 0xF0 | (frame[at] + 1) & 0x0F
        return [(0.0, frame[:at] + bytes((wrong,)) + frame[at + 1 :])]

    def hears(self, frame: bytes) -> bool:
        """Whether the ECU takes notice of a frame from the tester."""
        active = self._hit(self._incoming.number(frame), ("lose_frame",))
        if active is not None:
            self._strike(active)
        return active is None

    def flow_control(self, kind: str) -> Fault | None:
        """The latest fault of flow control of this kind."""
        return next((active.fault for active in reversed(self._active) if active.fault.kind == kind), None)

    def _hit(self, number: int | None, kinds: tuple[str, ...]) -> ActiveFault | None:
        if number is None:
            return None
        return next((a for a in self._active if a.fault.kind in kinds and a.fault.frame == number), None)

    def _strike(self, active: ActiveFault) -> None:
        active.struck += 1
        if active.spent:
            self._active = [other for other in self._active if other is not active]
            self._changed()

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change()
