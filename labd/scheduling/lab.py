"""What there is at the moment of a decision: benches, leases that hold them, wishes, and what teams have used."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from labd.scheduling.wish import Wish

SITE_LABEL = "site"
"""The label that says where a bench stands."""


@dataclass(frozen=True, slots=True)
class Bench:
    """A bench, held or not."""

    name: str
    labels: Mapping[str, str]
    """As selectors see them: with the reserved ``name``."""
    obstacle: str | None = None
    """Why nobody can use it at all: offline, unhealthy, quarantined. None while it works."""
    draining: bool = False
    """It or its agent is being drained: nobody new gets it, who holds it keeps it."""
    clean: bool = True
    """The agent has confirmed that the former lease cannot act any more and that the bench is in its safe state."""
    promised_to: str | None = None
    """The wish for which its lease was given notice (``Notice.wish``). Nobody else gets it while that wish waits,
    unless it is over its team's quota."""

    @property
    def usable(self) -> bool:
        """Whether it can be counted on for new leases, now or later."""
        return self.obstacle is None and not self.draining


@dataclass(frozen=True, slots=True)
class Held:
    """A lease that has benches: GRANTED, ACTIVE or ENDING."""

    id: str
    benches: tuple[str, ...]
    granted_at: float
    ends_at: float
    """The hard end: nothing prolongs the lease by itself."""
    team: str = "default"
    priority: str = "normal"
    revoke_at: float | None = None
    """It has been given notice and ends then at the latest."""
    ending: bool = False
    """Its holder may not act any more; the agents have not confirmed that yet."""
    limits: tuple[str, ...] = ()
    """Those of the rules that it counts for, until its end."""

    @property
    def gone_at(self) -> float:
        """When it ends at the latest."""
        return self.ends_at if self.revoke_at is None else min(self.ends_at, self.revoke_at)


@dataclass(frozen=True, slots=True)
class Used:
    """Bench-seconds that a team has spent, evenly between two times: one ended lease, or the sum of an hour."""

    starts_at: float
    ends_at: float
    bench_s: float


@dataclass(frozen=True)
class Lab:
    """Everything a decision depends on, apart from the rules."""

    now: float
    benches: tuple[Bench, ...]
    wishes: tuple[Wish, ...] = ()
    """Those that wait and the bookings, in any order."""
    held: tuple[Held, ...] = ()
    used: Mapping[str, tuple[Used, ...]] = field(default_factory=dict)
    """By team, at least a week back, without the leases in ``held``."""

    @cached_property
    def waiting(self) -> tuple[Wish, ...]:
        """The wishes without a start of their own."""
        return tuple(wish for wish in self.wishes if wish.starts_at is None)

    @cached_property
    def bookings(self) -> tuple[Wish, ...]:
        """The wishes with one."""
        return tuple(wish for wish in self.wishes if wish.starts_at is not None)

    @cached_property
    def teams(self) -> set[str]:
        """Those who wait."""
        return {wish.team for wish in self.waiting}

    @cached_property
    def demand(self) -> dict[str, int]:
        """How many benches those who wait ask for, by selector."""
        demand: dict[str, int] = defaultdict(int)
        for wish in self.waiting:
            for part in wish.parts:
                demand[part.selector] += part.count
        return demand

    @cached_property
    def holders(self) -> dict[str, Held]:
        """The lease on each bench that has one."""
        return {bench: held for held in self.held for bench in held.benches}
