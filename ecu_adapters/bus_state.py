"""How a bus does besides its frames: the controller's state, its errors, and what was lost, kept from events."""

import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from ecu_adapters.error_frames import BusState, ErrorReport, state_of_counters

_REMEMBERED = 16
"""Errors that are kept with what they said."""


@dataclass(frozen=True, slots=True)
class ErrorSeen:
    """The controller, or its driver, has told of an error."""

    stamp_ns: int
    """Since the Unix epoch."""
    report: ErrorReport


@dataclass(frozen=True, slots=True)
class StateChange:
    """The controller is in another state than before."""

    stamp_ns: int
    state: BusState
    before: BusState


@dataclass(frozen=True, slots=True)
class FramesLost:
    """Frames were on the bus that the kernel or the driver dropped before anybody saw them."""

    stamp_ns: int
    lost: int
    total: int
    """Since the bus was opened."""


@dataclass(frozen=True, slots=True)
class RestartTried:
    """The agent has tried to bring the controller back from bus-off."""

    stamp_ns: int
    attempt: int
    fault: str | None
    """Why it did not work; None when it did."""


@dataclass(frozen=True, slots=True)
class StaysOff:
    """Nobody brings the controller back from bus-off any more."""

    stamp_ns: int
    reason: str


BusEvent = ErrorSeen | StateChange | FramesLost | RestartTried | StaysOff


@dataclass(frozen=True, slots=True)
class Condition:
    """How a bus does at one moment."""

    state: BusState = BusState.ERROR_ACTIVE
    since_ns: int = 0
    """When the state began; 0: when the bus was opened."""
    tx_errors: int = 0
    """The controller's counters, as far as it has told them."""
    rx_errors: int = 0
    bus_offs: int = 0
    """How often the controller went bus-off, and how often it came back."""
    recoveries: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    """How often each kind of error was told."""
    last_errors: tuple[ErrorSeen, ...] = ()
    """The latest, oldest first."""


class BusMonitor:
    """Follows the state of one open bus. Any thread may call it.

    A controller starts error-active, and is taken to be until it says otherwise: virtual buses have none that could.
    """

    def __init__(self) -> None:
        self.on_event: Callable[[BusEvent], None] | None = None
        """Called with every event, on the thread that brought it; must be quick."""
        self._lock = threading.Lock()
        self._state = BusState.ERROR_ACTIVE
        self._since_ns = 0
        self._counters = (0, 0)
        self._bus_offs = self._recoveries = 0
        self._kinds: Counter[str] = Counter()
        self._last: deque[ErrorSeen] = deque(maxlen=_REMEMBERED)

    @property
    def state(self) -> BusState:
        """The controller's, as far as it has told."""
        return self._state

    def condition(self) -> Condition:
        """All that is known now."""
        with self._lock:
            return Condition(
                self._state,
                self._since_ns,
                *self._counters,
                self._bus_offs,
                self._recoveries,
                dict(self._kinds),
                tuple(self._last),
            )

    def begin(self, state: BusState, tx_errors: int, rx_errors: int) -> None:
        """What the controller was in when the bus was opened, unless it has told since."""
        with self._lock:
            if not self._since_ns:
                self._state, self._counters = state, (tx_errors, rx_errors)

    def error(self, stamp_ns: int, report: ErrorReport) -> None:
        """An error frame has come."""
        seen = ErrorSeen(stamp_ns, report)
        with self._lock:
            self._kinds.update(report.kinds)
            self._last.append(seen)
            if report.tx_errors is not None and report.rx_errors is not None:
                self._counters = report.tx_errors, report.rx_errors
                counted = state_of_counters(report.tx_errors, report.rx_errors)
            else:
                counted = self._state
            # Counters that fall while it is bus-off do not bring it back.
            state = report.state or (self._state if self._state is BusState.BUS_OFF else counted)
        self.tell(seen)
        self.enter(stamp_ns, state)

    def enter(self, stamp_ns: int, state: BusState) -> None:
        """The controller is known to be in ``state``."""
        with self._lock:
            before, self._state = self._state, state
            if before is state:
                return
            self._since_ns = stamp_ns
            self._bus_offs += state is BusState.BUS_OFF
            self._recoveries += before is BusState.BUS_OFF
        self.tell(StateChange(stamp_ns, state, before))

    def tell(self, event: BusEvent) -> None:
        """Hands an event on."""
        if self.on_event is not None:
            self.on_event(event)
