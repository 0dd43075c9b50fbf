"""Leases: asked for, granted, kept alive, given back."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from labd.model.filters import Filter
from labd.model.identity import DEFAULT_TEAM, Actor
from labd.model.lease import DEFAULT_PRIORITY, Lease, LeasedBench, LeaseEnd, LeaseState, Share, Wanted
from labd.model.policy import Mistake
from labd.services.booking import booked
from labd.services.core import Core
from labd.services.errors import Conflict, FieldError, Invalid, NotFound
from labd.services.identifiers import new_lease_id
from labd.services.ledger import Ledger
from labd.services.rights import require_holder, require_team
from labd.services.wishes import benches_wanted, obstacle_now, parse_wanted, require_possible
from labd.store.unit import Unit


@dataclass(frozen=True, slots=True)
class BenchAccess:
    """One bench of a lease, and the way to it."""

    part: LeasedBench
    address: str | None
    """host:port of its agent, while the lease is held."""
    token: str | None
    """While the lease is held; only in answers about one lease."""


@dataclass(frozen=True, slots=True)
class LeaseView:
    """A lease as its holder sees it."""

    lease: Lease
    position: int | None
    """1 is next; None unless QUEUED."""
    benches: tuple[BenchAccess, ...]
    obstacle: str | None
    """While QUEUED: why no bench can come as things are, other than that all are in use."""
    idle_release_at: float | None = None
    """A held lease ends then, unless something goes to or from its benches."""
    shares: tuple[Share, ...] = ()
    """With whom it is shared; only in answers about one lease."""

    @property
    def address(self) -> str | None:
        """host:port of the single bench, while it is held."""
        return self.benches[0].address if len(self.benches) == 1 else None

    @property
    def token(self) -> str | None:
        """Of the single bench."""
        return self.benches[0].token if len(self.benches) == 1 else None


class Leasing:
    """The use cases of leases."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def create(
        self,
        actor: Actor,
        *,
        selector: str = "",
        benches: Sequence[Wanted] = (),
        same_site: bool = False,
        affinity: str = "",
        holder: str,
        team: str = DEFAULT_TEAM,
        duration_s: float,
        ttl_s: float,
        priority: str = DEFAULT_PRIORITY,
        held: bool = False,
        avoid: Sequence[str] = (),
        starts_at: float | None = None,
    ) -> LeaseView:
        """Queues a lease, and grants it at once when its benches are free. Raises Invalid.

        ``selector`` asks for one bench, ``benches`` for as many as they say, all or none of them. With ``starts_at``
        (seconds since the Unix epoch) it books them from then on, or raises Conflict, naming what is in the way.
        """
        wanted = parse_wanted(selector, benches)
        with self._core.transaction(actor) as ledger:
            require_team(ledger, team)
            if holder != actor.name:
                require_holder(ledger, holder, team, priority)
            lease = new_lease(
                ledger,
                wanted=wanted,
                same_site=same_site,
                affinity=affinity,
                holder=holder,
                team=team,
                duration_s=duration_s,
                ttl_s=ttl_s,
                priority=priority,
                held=held,
                avoid=avoid,
                starts_at=starts_at,
            )
            if starts_at is not None:
                lease = booked(ledger, lease, self._core.presence.attached)
            ledger.add_lease(lease)
            ledger.schedule()
            return self.view(ledger.unit, require(ledger.unit, lease.id), fresh=True)

    def get(self, lease_id: str) -> LeaseView:
        """One lease. Raises NotFound."""
        with self._core.view() as unit:
            return self.view(unit, require(unit, lease_id))

    def newest(self, where: Filter, limit: int, before: int | None = None) -> list[LeaseView]:
        """Leases without their tokens that arrived before number ``before``, newest first. Raises Invalid."""
        with self._core.view() as unit:
            places = self._core.places.now(unit)
            leases = unit.newest_leases(where, limit, before, benches_wanted(unit, where.selector))
            addresses = {bench.name: bench.address for bench in unit.benches()}
            return [
                LeaseView(
                    lease,
                    places.get(lease.id),
                    tuple(
                        BenchAccess(one, addresses.get(one.bench) if lease.state.held else None, None)
                        for one in lease.benches
                    ),
                    self._obstacle(unit, lease),
                    _idle_release_at(unit, lease),
                )
                for lease in leases
            ]

    def heartbeat(self, actor: Actor, lease_id: str) -> LeaseView:
        """Keeps a lease alive for another TTL. Raises NotFound, and Conflict once it has ended."""
        with self._core.transaction(actor) as ledger:
            lease = require(ledger.unit, lease_id)
            overdue = lease.overdue(ledger.now)
            if overdue is not None:
                lease = ledger.end_lease(lease, overdue)
            elif not lease.state.over:
                lease = ledger.heartbeat(lease)
            view = self.view(ledger.unit, lease)
        if lease.state.over:
            raise Conflict(f"lease {lease.id} has ended: {lease.end_reason}")
        return view

    def release(self, actor: Actor, lease_id: str, why: str = "") -> LeaseView:
        """Gives the benches back, or leaves the queue; an ended lease stays as it is. Raises NotFound.

        Somebody else than the holder revokes it, and says why.
        """
        with self._core.transaction(actor) as ledger:
            lease = require(ledger.unit, lease_id)
            if not lease.state.over:
                waiting = lease.state is LeaseState.QUEUED
                reason = LeaseEnd.CANCELLED if waiting else LeaseEnd.RELEASED
                note = ""
                if not actor.is_holder(lease.holder, lease.run_id):
                    reason, note = LeaseEnd.REVOKED, f"{actor.name}: {why}"
                    before = {"holder": lease.holder}
                    ledger.audit("lease.forced", f"lease/{lease.id}", before=before, why=why, team=lease.team)
                lease = ledger.end_lease(lease, reason, note)
            return self.view(ledger.unit, lease)

    def view(self, unit: Unit, lease: Lease, *, share: Share | None = None, fresh: bool = False) -> LeaseView:
        """The lease as its holder sees it, or somebody with whom it is shared."""
        access = []
        for one in lease.benches:
            bench = unit.bench(one.bench) if lease.state.held else None
            if bench is None:
                access.append(BenchAccess(one, None, None))
            else:
                access.append(BenchAccess(one, bench.address, self._core.signer.lease_token(lease, one, share)))
        return LeaseView(
            _told(unit, lease, self._core.clock.now()),
            self._core.places.of(unit, lease, fresh),
            tuple(access),
            self._obstacle(unit, lease),
            _idle_release_at(unit, lease),
            tuple(unit.shares(lease.id)) if lease.state.held else (),
        )

    def _obstacle(self, unit: Unit, lease: Lease) -> str | None:
        return obstacle_now(unit, lease, self._core.presence.attached)


def new_lease(
    ledger: Ledger,
    *,
    wanted: tuple[Wanted, ...],
    holder: str,
    duration_s: float,
    ttl_s: float,
    run_id: str | None = None,
    cluster: str | None = None,
    same_site: bool = False,
    affinity: str = "",
    team: str = DEFAULT_TEAM,
    priority: str = DEFAULT_PRIORITY,
    held: bool = False,
    avoid: Sequence[str] = (),
    starts_at: float | None = None,
) -> Lease:
    """A lease that has just arrived, and that the policy lets its actor have; the store gives it its number.

    Raises Invalid.
    """
    require_possible(ledger.unit, wanted, team, same_site)
    benches = sum(one.count for one in wanted)
    require_allowed(
        ledger.policy.objections(ledger.actor, team=team, priority=priority, duration_s=duration_s, benches=benches)
    )
    return Lease(
        id=new_lease_id(),
        seq=0,
        state=LeaseState.QUEUED,
        wanted=wanted,
        holder=holder,
        duration_s=duration_s,
        ttl_s=ttl_s,
        created_at=ledger.now,
        heartbeat_by=ledger.now + ttl_s,
        run_id=run_id,
        cluster=cluster,
        team=team,
        priority=priority,
        same_site=same_site,
        affinity=affinity,
        held=held,
        avoid=tuple(avoid),
        starts_at=starts_at,
    )


def _told(unit: Unit, lease: Lease, now: float) -> Lease:
    """As its holder is told of it: with notice, too, of the end that it comes to because nobody uses it."""
    idle_at, policy = _idle_release_at(unit, lease), unit.policy()
    if idle_at is None or now < idle_at - policy.idle_notice_s or (lease.revoke_at or idle_at) < idle_at:
        return lease
    unused = f"nobody uses its bench: a held lease ends {policy.idle_release_s / 60:g} min after its last traffic"
    return replace(lease, revoke_at=idle_at, revoke_reason=unused)


def _idle_release_at(unit: Unit, lease: Lease) -> float | None:
    if not lease.held or not lease.state.held or lease.used_at is None:
        return None
    return unit.policy().idle_ends_at(lease.used_at)


def require_allowed(objections: Iterable[Mistake]) -> None:
    """Raises Invalid when the policy has any."""
    errors = [FieldError(one.field, one.value, one.message) for one in objections]
    if errors:
        detail = "; ".join(f"{one.field} {one.value!r}: {one.message}" for one in errors)
        raise Invalid(f"the policy does not allow this: {detail}", *errors)


def require(unit: Unit, lease_id: str) -> Lease:
    """The lease. Raises NotFound."""
    lease = unit.lease(lease_id)
    if lease is None:
        raise NotFound(f"there is no lease {lease_id!r}")
    return lease
