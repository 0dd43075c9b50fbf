"""What makes a simulated ECU's trouble codes come by themselves: messages that stay away, signals out of range."""

import can

from ecu_adapters.bus import BusPort, Subscription
from ecu_adapters.dbc import Database, DatabaseError
from ecu_adapters.dtcs import Dtc, Monitor
from ecu_adapters.simulator.clock import Clock, Timer
from ecu_adapters.simulator.dtc_engine import DtcEngine

_STEP_S = 0.05
"""How often the test runs, at most; a shorter timeout is looked at more often."""


class SignalMonitor:
    """The test of one trouble code, repeated on the ECU's clock."""

    def __init__(self, dtc: Dtc, monitor: Monitor, database: Database, hub: BusPort) -> None:
        """Raises DatabaseError when message or signal are not in the database."""
        self.paused = False
        """Without power, or while booting, nothing is tested, and time starts anew afterwards."""
        self._number = dtc.number
        self._monitor = monitor
        self._database = database
        self._hub = hub
        self._can_id = database.can_id(monitor.message)
        if monitor.signal is not None and database.signal(monitor.message, monitor.signal).choices:
            raise DatabaseError(f"{monitor.message}.{monitor.signal} has names, no range that could be monitored")
        self._heard: can.Message | None = None
        self._last = 0.0
        self._engine: DtcEngine | None = None
        self._clock: Clock | None = None
        self._timer: Timer | None = None
        self._subscription: Subscription | None = None

    def start(self, clock: Clock, engine: DtcEngine) -> None:
        """Time runs from here."""
        self._clock, self._engine, self._last = clock, engine, clock.now()
        self._subscription = self._hub.subscribe(self._hear, ids={self._can_id})
        self._tick()

    def stop(self) -> None:
        """Nothing is tested any more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._subscription is not None:
            self._subscription.close()

    def _hear(self, frame: can.Message) -> None:
        """Runs on the bus' reader thread: only remembers."""
        self._heard = frame

    def _tick(self) -> None:
        if self._clock is None or self._engine is None:
            return
        frame, self._heard = self._heard, None
        now, timeout_s = self._clock.now(), self._monitor.timeout_ms / 1000
        if self.paused:
            self._last = now
        elif frame is not None:
            self._last = now
            (self._engine.passed if self._is_good(frame) else self._engine.failed)(self._number)
        elif now - self._last >= timeout_s:
            self._engine.failed(self._number)
        self._timer = self._clock.call_later(min(_STEP_S, timeout_s / 2), self._tick)

    def _is_good(self, frame: can.Message) -> bool:
        if self._monitor.signal is None:
            return True
        decoded = self._database.decode(frame)
        value = decoded[1].get(self._monitor.signal) if decoded else None
        if not isinstance(value, int | float):
            return False
        low = -float("inf") if self._monitor.min is None else self._monitor.min
        high = float("inf") if self._monitor.max is None else self._monitor.max
        return low <= value <= high
