"""A lease: the exclusive right to one bench for a bounded time. ``QUEUED → GRANTED → ENDED``.

All times are seconds since the Unix epoch on labd's clock.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from labd.model.errors import IllegalTransition


class LeaseState(StrEnum):
    """Where a lease is in its life."""

    QUEUED = "QUEUED"
    GRANTED = "GRANTED"
    ENDED = "ENDED"


class LeaseEnd(StrEnum):
    """Why a lease ended."""

    RELEASED = "released"
    EXPIRED = "expired"
    HEARTBEAT_LOST = "heartbeat_lost"
    CANCELLED = "cancelled"
    BENCH_REMOVED = "bench_removed"


@dataclass(frozen=True, slots=True)
class Lease:
    """One request for a bench and what became of it."""

    id: str
    seq: int
    """Order of arrival."""
    state: LeaseState
    selector: str
    holder: str
    priority: int
    duration_s: float
    ttl_s: float
    run_id: str | None
    """The run that the lease serves; None when a person or a program holds it."""
    created_at: float
    heartbeat_by: float
    bench: str | None = None
    epoch: int | None = None
    granted_at: float | None = None
    expires_at: float | None = None
    ended_at: float | None = None
    end_reason: LeaseEnd | None = None

    def grant(self, bench: str, epoch: int, now: float) -> "Lease":
        """The lease with its bench; the heartbeat starts anew. Raises IllegalTransition unless QUEUED."""
        if self.state is not LeaseState.QUEUED:
            raise IllegalTransition(f"lease {self.id} is {self.state}, only a QUEUED one can be granted")
        return replace(
            self,
            state=LeaseState.GRANTED,
            bench=bench,
            epoch=epoch,
            granted_at=now,
            expires_at=now + self.duration_s,
            heartbeat_by=now + self.ttl_s,
        )

    def heartbeat(self, now: float) -> "Lease":
        """The lease, alive for another TTL. Raises IllegalTransition once it has ended."""
        if self.state is LeaseState.ENDED:
            raise IllegalTransition(f"lease {self.id} has ended ({self.end_reason})")
        return replace(self, heartbeat_by=max(self.heartbeat_by, now + self.ttl_s))

    def end(self, reason: LeaseEnd, now: float) -> "Lease":
        """The ended lease. Raises IllegalTransition when it has ended before."""
        if self.state is LeaseState.ENDED:
            raise IllegalTransition(f"lease {self.id} has ended ({self.end_reason})")
        return replace(self, state=LeaseState.ENDED, ended_at=now, end_reason=reason)

    def overdue(self, now: float) -> LeaseEnd | None:
        """Why the lease has to end by now, if it has to.

        A waiting lease of a run needs no heartbeat: labd itself waits, and the runner that will beat does not exist.
        """
        if self.state is LeaseState.GRANTED and self.expires_at is not None and now >= self.expires_at:
            return LeaseEnd.EXPIRED
        if self.state is LeaseState.ENDED or (self.state is LeaseState.QUEUED and self.run_id is not None):
            return None
        return LeaseEnd.HEARTBEAT_LOST if now >= self.heartbeat_by else None
