"""The messages that a simulated ECU sends by itself, some of their signals following those of others."""

from collections.abc import Callable
from dataclasses import dataclass

import can
import structlog

from ecu_adapters.bus import BusError, BusPort, Subscription
from ecu_adapters.dbc import Database, DatabaseError, SignalValue
from ecu_adapters.simulation import CyclicMessage, Follow
from ecu_adapters.simulator.clock import Clock, Timer

_SEND_TIMEOUT_S = 0.002
"""How long a full transmit queue of the driver may hold the loop; the next message comes anyway."""

_log = structlog.get_logger()


@dataclass(slots=True)
class CyclicStats:
    """Counters since the sender was made."""

    sent: int = 0
    failed: int = 0
    late: int = 0
    """Periods left out because the loop was busy."""


class CyclicSender:
    """Sends one message of the database with its period, until stopped.

    ``muted`` lets periods pass in silence, ``deaf`` takes no notice of the signals that others follow.
    """

    def __init__(self, ecu: str, cyclic: CyclicMessage, database: Database, hub: BusPort) -> None:
        """Raises DatabaseError when database and description do not fit together."""
        self.stats = CyclicStats()
        self.muted = False
        self.stopped = False
        """A test has stopped it, whatever the ECU does."""
        self.deaf = False
        self._ecu = ecu
        self._name = cyclic.message
        self._database = database
        self._hub = hub
        period_ms = cyclic.period_ms or database.cycle_ms(cyclic.message)
        if not period_ms:
            raise DatabaseError(f"{cyclic.message} has no cycle time in {database.path}; give period_ms")
        self._period_s = period_ms / 1000
        self._signals: dict[str, SignalValue] = dict(cyclic.signals)
        # Encoding once finds what is wrong with the signals before the bus is touched.
        frame = database.encode(cyclic.message, self._signals)
        if frame.is_fd and not hub.config.fd:
            raise DatabaseError(f"{cyclic.message} takes CAN FD, but bus {hub.name!r} is classic")
        decoded = database.decode(frame)
        self._followed = {
            signal: _Followed(cyclic.message, signal, follow, database, decoded[1] if decoded else {})
            for signal, follow in cyclic.follow.items()
        }
        self._subscriptions: list[Subscription] = []
        self._clock: Clock | None = None
        self._timer: Timer | None = None
        self._due = 0.0

    def start(self, clock: Clock) -> None:
        """The first message goes out at once."""
        self._clock = clock
        for followed in self._followed.values():
            self._subscriptions.append(self._hub.subscribe(self._hearing(followed), ids={followed.can_id}))
        self._due = clock.now()
        self._tick()

    def stop(self) -> None:
        """Nothing is sent from here on."""
        if self._timer is not None:
            self._timer.cancel()
        for subscription in self._subscriptions:
            subscription.close()
        self._subscriptions.clear()

    def set(self, signal: str, value: SignalValue) -> None:
        """From its next period on, the signal has this value and follows no other. Raises DatabaseError."""
        self._database.encode(self._name, {**self._signals, signal: value})
        self._signals[signal] = value
        self._followed.pop(signal, None)

    def _hearing(self, followed: "_Followed") -> Callable[[can.Message], None]:
        def hear(frame: can.Message) -> None:
            if not self.deaf:
                followed.hear(frame)

        return hear

    def _tick(self) -> None:
        clock = self._clock
        if clock is None:
            return
        if not (self.muted or self.stopped):
            self._send()
        # On a grid, so that lateness does not add up; periods that are over already are left out.
        self._due += self._period_s
        now = clock.now()
        if self._due < now:
            skipped = int((now - self._due) / self._period_s) + 1
            self.stats.late += skipped
            self._due += skipped * self._period_s
        self._timer = clock.call_later(max(self._due - now, 0.0), self._tick)

    def _send(self) -> None:
        for signal, followed in self._followed.items():
            self._signals[signal] = followed.step(self._period_s)
        try:
            self._hub.send(self._database.encode(self._name, self._signals), _SEND_TIMEOUT_S)
        except (BusError, DatabaseError) as error:
            self.stats.failed += 1
            if self.stats.failed == 1:
                _log.warning("cyclic message was not sent", ecu=self._ecu, message=self._name, reason=str(error))
        else:
            self.stats.sent += 1


class _Followed:
    """A signal on its way to the value of another message's signal."""

    def __init__(
        self, message: str, signal: str, follow: Follow, database: Database, start: dict[str, SignalValue]
    ) -> None:
        self.can_id = database.can_id(follow.message)
        own, source = database.signal(message, signal), database.signal(follow.message, follow.signal)
        if own.choices or source.choices:
            raise DatabaseError(f"{message}.{signal} cannot follow {follow.message}.{follow.signal}: names, no numbers")
        self._database = database
        self._signal = follow.signal
        self._rate = follow.rate_per_s
        value = start.get(signal, 0)
        self._value = float(value) if isinstance(value, int | float) else 0.0
        self._target = self._value
        self._low = -float("inf") if own.minimum is None else float(own.minimum)
        self._high = float("inf") if own.maximum is None else float(own.maximum)

    def hear(self, frame: can.Message) -> None:
        """Takes the target from a frame; runs on the bus' reader thread."""
        decoded = self._database.decode(frame)
        target = decoded[1].get(self._signal) if decoded else None
        if isinstance(target, int | float):
            self._target = min(max(float(target), self._low), self._high)

    def step(self, elapsed_s: float) -> float:
        """The value after another period."""
        way = self._target - self._value
        if self._rate is not None:
            most = self._rate * elapsed_s
            way = min(max(way, -most), most)
        self._value += way
        return self._value
