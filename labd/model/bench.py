"""A bench as labd knows it, and when it may be handed out."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from labd.model.selector import NAME_LABEL

TEAM_LABEL = "team"
"""Names the one team that may see and lease the bench. Of others it is ``shared``, for selectors to see."""
SHARED = "shared"


_YEAR_2020 = 1_577_836_800


class Health(StrEnum):
    """What the agent says of the bench; offline when no agent speaks for it.

    QUARANTINED: it could not be brought to its safe state, or somebody said that nobody may have it.
    """

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    QUARANTINED = "quarantined"
    OFFLINE = "offline"


class BenchState(StrEnum):
    """Whether the bench can be leased now.

    RECOVERING: the former lease is ENDING, or the agent has forgotten its end: it has not confirmed the clean-up yet.
    DRAINED: an operator keeps new leases from it, and nobody has it.
    """

    AVAILABLE = "available"
    LEASED = "leased"
    RECOVERING = "recovering"
    DRAINED = "drained"
    UNAVAILABLE = "unavailable"


def epoch_floor(now: float) -> int:
    """An epoch above all that any labd has given out by ``now`` (s since the Unix epoch): one a second since 2020.

    No bench is granted more often than once a second in the long run, so a later moment always has a higher floor.
    """
    return max(1, int(now - _YEAR_2020))


@dataclass(frozen=True, slots=True)
class Bench:
    """A named rig. ``last_seen`` is in seconds since the Unix epoch."""

    name: str
    agent: str
    address: str
    """host:port at which lease holders reach it."""
    labels: dict[str, str]
    healthy: bool
    health_reason: str
    buses: list[dict[str, Any]] = field(default_factory=list)
    ecus: list[dict[str, Any]] = field(default_factory=list)
    quarantined: bool = False
    """Never while ``healthy``."""
    last_clean_up: list[dict[str, Any]] = field(default_factory=list)
    """What was undone at the end of the latest lease, in order: name, elapsed_ms, fault (None when it worked)."""
    equipment: dict[str, Any] = field(default_factory=dict)
    """What else the bench carries, by kind: consoles, power (its channels), adapters."""
    epoch: int = 0
    """Of the latest lease; only grows."""
    fenced_epoch: int = 0
    """The agent has confirmed: no lease of this or a lower epoch can act on the bench."""
    removed: bool = False
    """Its agent does not report it any more. Kept for the epoch's sake."""
    last_seen: float | None = None
    draining: bool = False
    """It gets no new lease; a present one ends as planned."""
    drain_reason: str = ""
    agent_drain: str | None = None
    """The same for all benches of its agent, and why; None: it is not drained."""
    promised_to: str | None = None
    """The waiting lease for which the former holder was given notice."""

    @property
    def selectable_labels(self) -> dict[str, str]:
        """The labels that selectors see: the declared ones, and the reserved ``name`` and ``team``."""
        return {**self.labels, NAME_LABEL: self.name, TEAM_LABEL: self.owner or SHARED}

    @property
    def owner(self) -> str | None:
        """The team whose bench it is, by the label ``team``; None: every team may lease it."""
        team = self.labels.get(TEAM_LABEL)
        return None if team in (None, "", SHARED) else team

    def open_to(self, team: str) -> bool:
        """Whether the team may lease it."""
        return self.owner in (None, team)

    @property
    def drained_for(self) -> str | None:
        """Why an operator keeps new leases from it, or from its agent; None: nobody does."""
        reasons = [self.drain_reason] if self.draining else []
        if self.agent_drain is not None:
            why = f": {self.agent_drain}" if self.agent_drain else ""
            reasons.append(f"its agent {self.agent} is drained{why}")
        return "; ".join(filter(None, reasons)) if reasons else None

    @property
    def fenced(self) -> bool:
        """Whether the agent has confirmed the end of every lease so far."""
        return self.fenced_epoch >= self.epoch

    def health(self, attached: bool) -> Health:
        """The health to show, given whether its agent is attached."""
        if not attached:
            return Health.OFFLINE
        if self.quarantined:
            return Health.QUARANTINED
        return Health.HEALTHY if self.healthy else Health.UNHEALTHY

    def state(self, attached: bool, leased: bool) -> BenchState:
        """Whether it can be handed out, given whether its agent is attached and somebody holds it."""
        if leased:
            return BenchState.LEASED
        if self.removed or not attached or not self.healthy:
            return BenchState.UNAVAILABLE
        if not self.fenced:
            return BenchState.RECOVERING
        return BenchState.AVAILABLE if self.drained_for is None else BenchState.DRAINED
