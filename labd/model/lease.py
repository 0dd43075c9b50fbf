"""A lease: the exclusive right to one or more benches for a bounded time.

``QUEUED → GRANTED → ACTIVE → ENDING → ENDED``. GRANTED: it has its benches, and nobody has used them yet. ACTIVE: its
holder has shown up. ENDING: its end is decided, the holder may not act any more, and not every agent has confirmed
that yet. ENDED: all have. A waiting lease goes to ENDED at once: nothing of it is left anywhere.

All times are seconds since the Unix epoch on labd's clock.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from labd.model.errors import IllegalTransition
from labd.model.identity import DEFAULT_TEAM, Role

DEFAULT_PRIORITY = "normal"
"""The class of whoever names none."""


class LeaseState(StrEnum):
    """Where a lease is in its life."""

    QUEUED = "QUEUED"
    GRANTED = "GRANTED"
    ACTIVE = "ACTIVE"
    ENDING = "ENDING"
    ENDED = "ENDED"

    @property
    def held(self) -> bool:
        """Whether the holder may act on the benches."""
        return self in HELD

    @property
    def over(self) -> bool:
        """Whether the end is decided."""
        return self in (LeaseState.ENDING, LeaseState.ENDED)


HELD = (LeaseState.GRANTED, LeaseState.ACTIVE)
"""The holder may act."""
LIVE = (LeaseState.QUEUED, *HELD)
"""The end is not decided."""


class ShareMode(StrEnum):
    """What somebody may do with whom a lease is shared: look on, or act beside the holder."""

    OBSERVER = "observer"
    CO_DRIVER = "co-driver"

    @property
    def role(self) -> Role:
        """The least that they have to be in the lease's team."""
        return Role.ENGINEER if self is ShareMode.CO_DRIVER else Role.VIEWER


@dataclass(frozen=True, slots=True)
class Share:
    """Somebody with whom a lease is shared."""

    holder: str
    mode: ShareMode
    number: int = 0
    """Counts how often it was shared with them anew; tokens of former numbers are refused."""


class LeaseEnd(StrEnum):
    """Why a lease ended."""

    RELEASED = "released"
    EXPIRED = "expired"
    HEARTBEAT_LOST = "heartbeat_lost"
    IDLE = "idle"
    CANCELLED = "cancelled"
    PREEMPTED = "preempted"
    REVOKED = "revoked"
    BENCH_REMOVED = "bench_removed"
    RESTORED = "restored"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Benches that a lease asks for: ``count`` different ones that match."""

    selector: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class LeasedBench:
    """A bench that a lease was granted."""

    part: int
    """Which of the benches asked for it is, counted through from 0."""
    selector: str
    """What it was asked for by."""
    bench: str
    epoch: int
    live: bool = True
    """Somebody may act on the bench by this lease: cleared once its agent has confirmed that nobody can any more."""


@dataclass(frozen=True, slots=True)
class Lease:
    """One request for benches and what became of it."""

    id: str
    seq: int
    """Order of arrival."""
    state: LeaseState
    wanted: tuple[Wanted, ...]
    holder: str
    duration_s: float
    ttl_s: float
    created_at: float
    heartbeat_by: float
    run_id: str | None = None
    """The run that the lease serves; None when a person or a program holds it."""
    cluster: str | None = None
    """Where the run that it serves lives, of one in a cluster."""
    team: str = DEFAULT_TEAM
    """Whose quota pays."""
    priority: str = DEFAULT_PRIORITY
    """Name of a class of the policy."""
    same_site: bool = False
    """All benches have the same label ``site``."""
    affinity: str = ""
    """Requests with the same key like to get the same bench."""
    held: bool = False
    """A person holds it: it needs no heartbeats, and ends when it is not used."""
    avoid: tuple[str, ...] = ()
    """Benches that have failed this request before."""
    starts_at: float | None = None
    """A booking: not granted before."""
    reserved: tuple[str, ...] = ()
    """Of a booking that waits: the benches it is to get, in the order of the parts."""
    benches: tuple[LeasedBench, ...] = ()
    """In the order of the parts; none while QUEUED."""
    granted_at: float | None = None
    active_at: float | None = None
    expires_at: float | None = None
    """Hard end."""
    used_at: float | None = None
    """When anything last went between the holder and a bench, as far as the agents have told."""
    revoke_at: float | None = None
    """The holder was told that the lease ends then."""
    revoke_reason: str = ""
    ending_at: float | None = None
    """When the end was decided."""
    ended_at: float | None = None
    end_reason: LeaseEnd | None = None
    end_note: str = ""
    """What whoever ended it said of why."""

    @property
    def selector(self) -> str:
        """What it asks for, as text: the selector of a single bench, or a list."""
        if len(self.wanted) == 1 and self.wanted[0].count == 1:
            return self.wanted[0].selector
        return " + ".join(f"{one.count} × {one.selector or 'any'}" for one in self.wanted)

    @property
    def parts(self) -> tuple[str, ...]:
        """The selector of each bench asked for, one after the other."""
        return tuple(one.selector for one in self.wanted for _ in range(one.count))

    @property
    def bench(self) -> str | None:
        """The bench, when it is a lease of a single one."""
        return self.benches[0].bench if len(self.benches) == 1 else None

    @property
    def epoch(self) -> int | None:
        """The epoch of the single bench."""
        return self.benches[0].epoch if len(self.benches) == 1 else None

    def on(self, bench: str) -> LeasedBench | None:
        """The part of it that is this bench."""
        return next((one for one in self.benches if one.bench == bench), None)

    def anew(self, lease_id: str, now: float) -> "Lease":
        """A lease that has just arrived, and asks for the same."""
        return Lease(
            id=lease_id,
            seq=0,
            state=LeaseState.QUEUED,
            wanted=self.wanted,
            holder=self.holder,
            duration_s=self.duration_s,
            ttl_s=self.ttl_s,
            created_at=now,
            heartbeat_by=now + self.ttl_s,
            run_id=self.run_id,
            cluster=self.cluster,
            team=self.team,
            priority=self.priority,
            same_site=self.same_site,
            affinity=self.affinity,
            avoid=self.avoid,
        )

    def grant(
        self, benches: Iterable[tuple[str, int]], now: float, ends_at: float | None = None, start_s: float = 0.0
    ) -> "Lease":
        """The lease with its benches (name and epoch of each part); the heartbeat starts anew.

        ``ends_at`` is its hard end, ``duration_s`` from now unless given; ``start_s`` is what its holder may take, at
        least, until the first heartbeat. Raises IllegalTransition unless QUEUED, and ValueError unless there is one
        bench for each part.
        """
        if self.state is not LeaseState.QUEUED:
            raise IllegalTransition(f"lease {self.id} is {self.state}, only a QUEUED one can be granted")
        granted = tuple(
            LeasedBench(part, selector, bench, epoch)
            for part, (selector, (bench, epoch)) in enumerate(zip(self.parts, benches, strict=True))
        )
        return replace(
            self,
            state=LeaseState.GRANTED,
            benches=granted,
            reserved=(),
            granted_at=now,
            used_at=now,
            expires_at=now + self.duration_s if ends_at is None else ends_at,
            heartbeat_by=now + max(self.ttl_s, start_s),
        )

    def activate(self, now: float) -> "Lease":
        """The lease whose holder has shown up; an ACTIVE one as it is. Raises IllegalTransition in other states."""
        if self.state is LeaseState.ACTIVE:
            return self
        if self.state is not LeaseState.GRANTED:
            raise IllegalTransition(f"lease {self.id} is {self.state}, only a GRANTED one becomes active")
        heartbeat_by = min(self.heartbeat_by, now + self.ttl_s)
        return replace(self, state=LeaseState.ACTIVE, active_at=now, heartbeat_by=heartbeat_by)

    def heartbeat(self, now: float) -> "Lease":
        """The lease, alive for another TTL; a GRANTED one is ACTIVE then. Raises IllegalTransition once it is over."""
        if self.state.over:
            raise IllegalTransition(f"lease {self.id} has ended ({self.end_reason})")
        alive = replace(self, heartbeat_by=max(self.heartbeat_by, now + self.ttl_s))
        return alive if self.state is LeaseState.QUEUED else alive.activate(now)

    def notify(self, revoke_at: float, reason: str) -> "Lease":
        """The lease whose holder is told that it ends; an earlier end that was told of stays.

        Raises IllegalTransition unless it is held.
        """
        if not self.state.held:
            raise IllegalTransition(f"lease {self.id} is {self.state}, only a held one is revoked")
        if self.revoke_at is not None and self.revoke_at <= revoke_at:
            return self
        return replace(self, revoke_at=revoke_at, revoke_reason=reason)

    def extend(self, ends_at: float, now: float) -> "Lease":
        """The lease with a later hard end; who extends it uses it. Raises IllegalTransition unless it is held."""
        if not self.state.held or self.granted_at is None:
            raise IllegalTransition(f"lease {self.id} is {self.state}, only a held one is extended")
        return replace(self, expires_at=ends_at, duration_s=ends_at - self.granted_at, used_at=now)

    def transfer(self, holder: str, team: str, epochs: Iterable[int], now: float) -> "Lease":
        """The lease in other hands, with new epochs for its benches: tokens of the former holder are no good any more.

        Raises IllegalTransition once it is over.
        """
        if self.state.over:
            raise IllegalTransition(f"lease {self.id} has ended ({self.end_reason})")
        benches = tuple(replace(one, epoch=epoch) for one, epoch in zip(self.benches, epochs, strict=True))
        return replace(self, holder=holder, team=team, benches=benches, used_at=now, heartbeat_by=now + self.ttl_s)

    def end(self, reason: LeaseEnd, now: float, note: str = "") -> "Lease":
        """The lease whose end is decided: ENDING, or ENDED when it had no bench. Raises IllegalTransition when it was
        decided before.
        """
        if self.state.over:
            raise IllegalTransition(f"lease {self.id} has ended ({self.end_reason})")
        ending = replace(
            self, state=LeaseState.ENDING, reserved=(), ending_at=now, end_reason=reason, end_note=note or self.end_note
        )
        return ending._ended_if_fenced(now)

    def fenced(self, bench: str, now: float) -> "Lease":
        """Nobody can act on this bench by the lease any more; ENDED when that holds for all of them.

        Raises IllegalTransition unless ENDING.
        """
        if self.state is not LeaseState.ENDING:
            raise IllegalTransition(f"lease {self.id} is {self.state}: its benches are fenced while it is ENDING")
        benches = tuple(replace(one, live=False) if one.bench == bench else one for one in self.benches)
        return replace(self, benches=benches)._ended_if_fenced(now)

    def overdue(self, now: float) -> LeaseEnd | None:
        """Why the lease has to end by now, if it has to.

        A waiting lease of a run needs no heartbeat: labd itself waits, and the runner that will beat does not exist.
        Neither does what a person holds or has booked.
        """
        if self.state.over:
            return None
        if self.state.held:
            if self.expires_at is not None and now >= self.expires_at:
                return LeaseEnd.EXPIRED
            if self.revoke_at is not None and now >= self.revoke_at:
                return LeaseEnd.PREEMPTED
        return LeaseEnd.HEARTBEAT_LOST if self.beats and now >= self.heartbeat_by else None

    @property
    def due_at(self) -> float | None:
        """When it has to end, unless something prolongs it before; None while nothing ends it by itself."""
        ends = [self.expires_at, self.revoke_at] if self.state.held else []
        if self.beats:
            ends.append(self.heartbeat_by)
        return min((end for end in ends if end is not None), default=None)

    @property
    def beats(self) -> bool:
        """Whether it ends without heartbeats."""
        if self.state is LeaseState.QUEUED and (self.run_id is not None or self.starts_at is not None):
            return False
        return not self.held and not self.state.over

    def _ended_if_fenced(self, now: float) -> "Lease":
        if any(one.live for one in self.benches):
            return self
        return replace(self, state=LeaseState.ENDED, ended_at=now)
