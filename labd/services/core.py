"""What the use cases share: the store, the clock, and what happens after a transaction."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from labd.services.changes import Changes
from labd.services.clock import Clock
from labd.services.ledger import Effects, Ledger
from labd.services.limits import RunLimits
from labd.services.signing import Signer
from labd.store.store import Store
from labd.store.unit import Unit

Follower = Callable[[Effects], None]


class Presence:
    """Which benches an attached agent speaks for. Changed only inside a transaction, so that grants see it whole."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._benches: dict[str, frozenset[str]] = {}

    def put(self, agent: str, benches: frozenset[str]) -> None:
        """The agent is attached, with these benches."""
        with self._lock:
            self._benches[agent] = benches

    def drop(self, agent: str) -> None:
        """The agent is gone."""
        with self._lock:
            self._benches.pop(agent, None)

    def attached(self, bench: str) -> bool:
        """Whether an attached agent speaks for the bench."""
        with self._lock:
            return any(bench in benches for benches in self._benches.values())


class Core:
    """Opens transactions, and tells the followers what each has caused once it is durable."""

    def __init__(self, store: Store, clock: Clock, signer: Signer, limits: RunLimits) -> None:
        self.store = store
        self.clock = clock
        self.signer = signer
        self.limits = limits
        self.presence = Presence()
        self.changes = Changes()
        self.granting = True
        """Cleared when labd stops: what was granted then would wait for the next labd with its time running."""
        self._followers: list[Follower] = []

    def follow(self, follower: Follower) -> None:
        """Has `follower` called after each transaction that had effects, on the thread that made it."""
        self._followers.append(follower)

    @contextmanager
    def transaction(self) -> Iterator[Ledger]:
        """A writing transaction; an exception undoes it. Raises DatabaseBusy."""
        with self.store.write() as unit:
            ledger = Ledger(unit, self.clock.now(), self._available, self.limits)
            yield ledger
        self._tell(ledger.effects)

    @contextmanager
    def view(self) -> Iterator[Unit]:
        """A reading transaction."""
        with self.store.read() as unit:
            yield unit

    def _available(self, bench: str) -> bool:
        return self.granting and self.presence.attached(bench)

    def _tell(self, effects: Effects) -> None:
        for follower in self._followers:
            follower(effects)
        self.changes.publish(effects.runs | effects.logs)
