"""Data identifiers that a simulated ECU sends by itself, periodically (ReadDataByPeriodicIdentifier, 0x2A)."""

from collections.abc import Callable

from ecu_adapters.simulator.clock import Clock, Timer

PAGE = 0xF200
"""A periodic identifier is the low byte of a data identifier of this page."""


class PeriodicReads:
    """The scheduler: each identifier has its own period. ``send`` is told which one is due."""

    def __init__(self, clock: Clock, send: Callable[[int], None]) -> None:
        self._clock = clock
        self._send = send
        self._timers: dict[int, Timer] = {}
        self._periods: dict[int, float] = {}

    @property
    def scheduled(self) -> dict[int, float]:
        """Periods in seconds by identifier."""
        return dict(self._periods)

    def start(self, identifier: int, period_s: float) -> None:
        """From now on; another period replaces the one before. The first comes as soon as the clock allows."""
        self.stop(identifier)
        self._periods[identifier] = period_s
        self._timers[identifier] = self._clock.call_later(0, lambda: self._due(identifier))

    def stop(self, identifier: int) -> None:
        """Not any more; does nothing for one that is not scheduled."""
        self._periods.pop(identifier, None)
        timer = self._timers.pop(identifier, None)
        if timer is not None:
            timer.cancel()

    def stop_all(self) -> None:
        """None any more."""
        for identifier in list(self._periods):
            self.stop(identifier)

    def _due(self, identifier: int) -> None:
        period_s = self._periods.get(identifier)
        if period_s is not None:
            self._timers[identifier] = self._clock.call_later(period_s, lambda: self._due(identifier))
            self._send(identifier)
