"""Leases: asked for, granted, kept alive, given back."""

from dataclasses import dataclass

from labd.model.filters import Filter
from labd.model.lease import Lease, LeaseEnd, LeaseState
from labd.services.core import Core
from labd.services.errors import Conflict, NotFound
from labd.services.identifiers import new_lease_id
from labd.services.wishes import benches_wanted, obstacle_now, parse_selector, require_possible
from labd.store.unit import Unit


@dataclass(frozen=True, slots=True)
class LeaseView:
    """A lease as its holder sees it."""

    lease: Lease
    position: int | None
    """1 is next; None unless QUEUED."""
    address: str | None
    """host:port of the bench, while GRANTED."""
    token: str | None
    """While GRANTED."""
    obstacle: str | None
    """While QUEUED: why no bench can come as things are, other than that all are in use."""


class Leasing:
    """The use cases of leases."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def create(self, *, selector: str, holder: str, duration_s: float, ttl_s: float, priority: int = 0) -> LeaseView:
        """Queues a lease, and grants it at once when a bench is free. Raises Invalid."""
        parsed = parse_selector(selector)
        with self._core.transaction() as ledger:
            require_possible(ledger.unit, parsed)
            lease = new_lease(ledger.now, str(parsed), holder, duration_s, ttl_s, priority, run_id=None)
            ledger.unit.add_lease(lease)
            ledger.effects.deadlines = True
            ledger.schedule()
            return self._view(ledger.unit, _require(ledger.unit, lease.id))

    def get(self, lease_id: str) -> LeaseView:
        """One lease. Raises NotFound."""
        with self._core.view() as unit:
            return self._view(unit, _require(unit, lease_id))

    def newest(self, where: Filter, limit: int, before: int | None = None) -> list[LeaseView]:
        """Leases without their tokens that arrived before number ``before``, newest first. Raises Invalid."""
        with self._core.view() as unit:
            queue = unit.queue()
            positions = {lease.id: number for number, lease in enumerate(queue, start=1)}
            leases = unit.newest_leases(where, limit, before, benches_wanted(unit, where.selector))
            addresses = {bench.name: bench.address for bench in unit.benches()}
            return [
                LeaseView(
                    lease,
                    positions.get(lease.id),
                    _address(lease, addresses.get(lease.bench or "")),
                    None,
                    self._obstacle(unit, lease),
                )
                for lease in leases
            ]

    def heartbeat(self, lease_id: str) -> LeaseView:
        """Keeps a lease alive for another TTL. Raises NotFound, and Conflict once it has ended."""
        with self._core.transaction() as ledger:
            lease = _require(ledger.unit, lease_id)
            overdue = lease.overdue(ledger.now)
            if overdue is not None:
                lease = ledger.end_lease(lease, overdue)
            elif lease.state is not LeaseState.ENDED:
                lease = lease.heartbeat(ledger.now)
                ledger.unit.save_lease(lease)
            view = self._view(ledger.unit, lease)
        if lease.state is LeaseState.ENDED:
            raise Conflict(f"lease {lease.id} has ended: {lease.end_reason}")
        return view

    def release(self, lease_id: str) -> LeaseView:
        """Gives the bench back, or leaves the queue; an ended lease stays as it is. Raises NotFound."""
        with self._core.transaction() as ledger:
            lease = _require(ledger.unit, lease_id)
            if lease.state is not LeaseState.ENDED:
                waiting = lease.state is LeaseState.QUEUED
                lease = ledger.end_lease(lease, LeaseEnd.CANCELLED if waiting else LeaseEnd.RELEASED)
            return self._view(ledger.unit, lease)

    def _view(self, unit: Unit, lease: Lease) -> LeaseView:
        if lease.state is not LeaseState.GRANTED or lease.bench is None:
            return LeaseView(lease, unit.position(lease), None, None, self._obstacle(unit, lease))
        bench = unit.bench(lease.bench)
        address = None if bench is None else bench.address
        return LeaseView(lease, None, address, self._core.signer.lease_token(lease), None)

    def _obstacle(self, unit: Unit, lease: Lease) -> str | None:
        return obstacle_now(unit, lease, self._core.presence.attached)


def new_lease(
    now: float, selector: str, holder: str, duration_s: float, ttl_s: float, priority: int, run_id: str | None
) -> Lease:
    """A lease that has just arrived; the store gives it its number."""
    return Lease(
        id=new_lease_id(),
        seq=0,
        state=LeaseState.QUEUED,
        selector=selector,
        holder=holder,
        priority=priority,
        duration_s=duration_s,
        ttl_s=ttl_s,
        run_id=run_id,
        created_at=now,
        heartbeat_by=now + ttl_s,
    )


def _require(unit: Unit, lease_id: str) -> Lease:
    lease = unit.lease(lease_id)
    if lease is None:
        raise NotFound(f"there is no lease {lease_id!r}")
    return lease


def _address(lease: Lease, address: str | None) -> str | None:
    return address if lease.state is LeaseState.GRANTED else None
