"""The agents that are attached here, and who speaks for which bench."""

import threading
import time

from labd.services.attachment import Session
from labd.services.core import Presence
from labd.services.ledger import FenceOrder

FENCE_REPEAT_S = 30.0
"""An order to fence that an attached agent has not confirmed for this long is given again, with a warning."""


class Sessions:
    """One attachment of each agent: its newest. Threads share it."""

    def __init__(self, presence: Presence) -> None:
        """``presence`` is told who comes and goes."""
        self._presence = presence
        self._lock = threading.Lock()
        self._of_agents: dict[str, Session] = {}
        self._of_benches: dict[str, Session] = {}

    def all(self) -> dict[str, Session]:
        """By agent."""
        with self._lock:
            return dict(self._of_agents)

    def of(self, agent: str) -> Session | None:
        """The agent's."""
        return self._of_agents.get(agent)

    def at(self, bench: str) -> Session | None:
        """Of the agent that speaks for the bench."""
        return self._of_benches.get(bench)

    def put(self, session: Session) -> Session | None:
        """Takes the session, with its benches, for the agent's; returns the one that was until now."""
        with self._lock:
            former = self._of_agents.get(session.agent)
            if former is not None and former is not session:
                self._drop(former)
            self._of_agents[session.agent] = session
            self._of_benches |= dict.fromkeys(session.benches, session)
            self._presence.put(session.agent, frozenset(session.benches))
            return former

    def forget(self, session: Session) -> bool:
        """Whether it was the agent's until now."""
        with self._lock:
            if self._of_agents.get(session.agent) is not session:
                return False
            self._drop(session)
            self._presence.drop(session.agent)
            return True

    def touch(self, session: Session, now: float) -> bool:
        """Notes a sign of life; False for a session that is not the agent's any more."""
        if self._of_agents.get(session.agent) is not session:
            return False
        session.last_seen = now
        return True

    def order(self, session: Session, order: FenceOrder, *, again: bool = True) -> None:
        """The agent is told, and has to confirm; ``again``: the time for it starts anew."""
        with self._lock:
            now = (order, time.monotonic())
            session.ordered[order.bench] = now if again else session.ordered.get(order.bench, now)

    def confirmed(self, session: Session, bench: str, epoch: int) -> None:
        """The agent refuses this and every lower epoch."""
        with self._lock:
            order, _ = session.ordered.get(bench, (None, 0.0))
            if order is not None and order.epoch <= epoch:
                del session.ordered[bench]

    def overdue(self, session: Session) -> list[FenceOrder]:
        """Orders that went unconfirmed for too long; they are given again now."""
        if not session.ordered:
            return []
        now = time.monotonic()
        with self._lock:
            late = [order for order, since in session.ordered.values() if now - since > FENCE_REPEAT_S]
            session.ordered.update({order.bench: (order, now) for order in late})
        return late

    def _drop(self, session: Session) -> None:
        del self._of_agents[session.agent]
        for bench in session.benches:
            if self._of_benches.get(bench) is session:
                del self._of_benches[bench]
