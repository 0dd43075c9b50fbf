"""The places of those who wait, which many ask for and few change."""

import threading
from collections.abc import Mapping

from labd.model.lease import Lease, LeaseState
from labd.scheduling.ordering import in_order, recent_use
from labd.services.clock import Clock
from labd.services.planning import lab_of, rules_of
from labd.store.unit import Unit

KEPT_S = 5.0
"""How long places are shown that time alone may have changed."""


class Places:
    """Remembers the order of the queue until somebody comes or goes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._generation = 0
        self._known: Mapping[str, int] | None = None
        self._known_at = 0.0

    def forget(self) -> None:
        """Somebody came, or went."""
        with self._lock:
            self._generation += 1
            self._known = None

    def now(self, unit: Unit) -> Mapping[str, int]:
        """The place of each waiting lease, 1 is next. Bookings are in no queue."""
        now = self._clock.now()
        with self._lock:
            generation, known = self._generation, self._known
            if known is not None and 0 <= now - self._known_at < KEPT_S:
                return known
        known = _places(unit, now)
        with self._lock:
            # What was read before somebody came is not what is asked for after.
            if generation == self._generation:
                self._known, self._known_at = known, now
        return known

    def of(self, unit: Unit, lease: Lease, fresh: bool = False) -> int | None:
        """The place of a lease; None unless it is in the queue. ``fresh``: as this transaction has it."""
        if lease.state is not LeaseState.QUEUED or lease.starts_at is not None:
            return None
        places = _places(unit, self._clock.now()) if fresh else self.now(unit)
        return places.get(lease.id)


def _places(unit: Unit, now: float) -> dict[str, int]:
    rules = rules_of(unit.policy())
    lab = lab_of(unit, now, lambda _: True)
    waiting = [wish for wish in lab.wishes if wish.starts_at is None]
    order = in_order(waiting, rules, now, recent_use(lab, rules))
    return {wish.id: number for number, wish in enumerate(order, start=1)}
