"""What the use cases share: the store, the clock, and what happens after a transaction."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from bench_agent.protocol.samples import Samples
from labd.model.identity import SYSTEM, Actor
from labd.model.point import Nowhere, PointSink
from labd.services.changes import Changes
from labd.services.clock import Clock
from labd.services.ledger import Effects, Ledger
from labd.services.limits import RunLimits
from labd.services.peers import Alone, Peers
from labd.services.places import Places
from labd.services.signing import Signer
from labd.services.together import Together
from labd.store.store import Store
from labd.store.unit import Unit
from labd.store.units.replicas import Attachment

_log = structlog.get_logger()
Follower = Callable[[Effects], None]

PULSE_S = 1.0
"""How often labd notes that it lives."""
STALL_S = 5.0
"""A labd without a pulse for this long could not take heartbeats: it was stopped, starved, or kept from its disk."""


class Presence:
    """Which benches an attached agent speaks for. Changed only inside a transaction, so that grants see it whole."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._benches: dict[str, frozenset[str]] = {}
        self._elsewhere: dict[str, frozenset[str]] = {}
        self._seen: dict[str, Attachment] = {}
        self._attached: frozenset[str] = frozenset()

    def put(self, agent: str, benches: frozenset[str]) -> None:
        """The agent is attached, with these benches."""
        with self._lock:
            self._benches[agent] = benches
            self._count()

    def drop(self, agent: str) -> None:
        """The agent is gone."""
        with self._lock:
            self._benches.pop(agent, None)
            self._count()

    def put_elsewhere(self, agents: dict[str, frozenset[str]], seen: dict[str, Attachment]) -> bool:
        """All that are attached to other labds, with their benches; whether there is a bench that was not before."""
        with self._lock:
            before = self._attached
            self._elsewhere, self._seen = agents, seen
            self._count()
            return not self._attached <= before

    def attached(self, bench: str) -> bool:
        """Whether an attached agent speaks for the bench."""
        return bench in self._attached

    def elsewhere(self, agent: str) -> Attachment | None:
        """What another labd says of the agent that is attached to it."""
        return self._seen.get(agent)

    def is_elsewhere(self, bench: str) -> bool:
        """Whether the agent that speaks for the bench is attached to another labd."""
        with self._lock:
            here, elsewhere = [*self._benches.values()], [*self._elsewhere.values()]
        return not any(bench in benches for benches in here) and any(bench in benches for benches in elsewhere)

    def _count(self) -> None:
        self._attached = frozenset().union(*self._benches.values(), *self._elsewhere.values())


class Core:
    """Opens transactions, and tells the followers what each has caused once it is durable."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        signer: Signer,
        limits: RunLimits,
        peers: Peers | None = None,
        points: PointSink | None = None,
    ) -> None:
        """``points`` takes what is measured; None: nobody wants it."""
        self.store = store
        self.peers: Peers = peers or Alone()
        self.clock = clock
        self.signer = signer
        self.limits = limits
        self.points: PointSink = points or Nowhere()
        self.commits = Samples()
        """How long writing transactions took, their wait for others included (s)."""
        self.presence = Presence()
        self.changes = Changes()
        self.together = Together()
        self.places = Places(clock)
        self.granting = True
        """Cleared when labd stops: what was granted then would wait for the next labd with its time running."""
        self._followers: list[Follower] = []
        self.lenient_until = 0.0
        """No run is ended for its timeout before: its runner may be on its way with the result."""
        self._pulse: float | None = None
        self._stood_still = False
        self._pulse_lock = threading.Lock()

    def follow(self, follower: Follower) -> None:
        """Has `follower` called after each transaction that had effects, on the thread that made it."""
        self._followers.append(follower)

    @contextmanager
    def transaction(self, actor: Actor = SYSTEM) -> Iterator[Ledger]:
        """A writing transaction of the actor's; an exception undoes it. Raises DatabaseBusy.

        Within `together` it is a share of the one that is there.
        """
        opened = self.together.part(self._transaction, actor) if self.together.wanted else self._transaction(actor)
        with opened as ledger:
            yield ledger

    @contextmanager
    def _transaction(self, actor: Actor) -> Iterator[Ledger]:
        began = time.monotonic()
        with self.store.write() as unit:
            ledger = Ledger(unit, self.clock.now(), self.presence.attached, self.limits, actor, granting=self.granting)
            ledger.replica = self.peers.replica
            stalled = self._has_stood_still()
            if stalled and self.peers.take_stall(unit, ledger.now):
                self._forgive(ledger)
            ledger.lenient = ledger.now < self.lenient_until
            yield ledger
            if not self.granting:
                ledger.effects.unscheduled = True
            self.peers.announce(unit, ledger.effects)
        self.commits.add(time.monotonic() - began)
        if stalled:
            self._stood_still = False
        self._tell(ledger.effects)

    def pulse(self) -> None:
        """labd lives; once called, it has to be called every `PULSE_S`."""
        self._has_stood_still()
        with self._pulse_lock:
            self._pulse = self.clock.now()
        self.clock.keep()

    def forgive(self) -> None:
        """Gives every holder a whole TTL from now, and every runner time to report, if no labd lived until now."""
        with self.transaction() as ledger:
            if self.peers.take_stall(ledger.unit, ledger.now):
                self._forgive(ledger)

    def hear(self, effects: Effects) -> None:
        """Takes in what a transaction of another labd has caused."""
        self.lenient_until = max(self.lenient_until, effects.lenient_until)
        self._tell(effects)

    def _forgive(self, ledger: Ledger) -> None:
        ledger.forgive()
        self.lenient_until = ledger.effects.lenient_until = ledger.now + self.limits.grace_s
        ledger.effects.is_due(ledger.now)

    def _has_stood_still(self) -> bool:
        """Whether the pulse stopped for a while, and nobody was forgiven yet what they missed meanwhile."""
        now = self.clock.now()
        with self._pulse_lock:
            if self._pulse is not None and now - self._pulse > STALL_S:
                _log.warning("labd stood still: lease holders get a new TTL", seconds=round(now - self._pulse, 1))
                self._pulse, self._stood_still = now, True
            return self._stood_still

    @contextmanager
    def view(self) -> Iterator[Unit]:
        """A reading transaction; within `together`, once something was written, the writing one."""
        if self.together.ledger is not None:
            yield self.together.ledger.unit
            return
        with self.store.read() as unit:
            yield unit

    def _tell(self, effects: Effects) -> None:
        if effects.queue:
            self.places.forget()
        for follower in self._followers:
            follower(effects)
        self.changes.publish(effects.runs | effects.logs | effects.leases)
