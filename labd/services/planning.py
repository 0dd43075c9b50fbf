"""What labd remembers, as the scheduler takes it."""

from collections import defaultdict
from collections.abc import Callable, Iterable

from labd.model.bench import Bench, BenchState
from labd.model.lease import HELD, Lease, LeaseState
from labd.model.policy import Policy
from labd.scheduling import lab as scheduling
from labd.scheduling.limits import LimitReached, Limits
from labd.scheduling.rules import PriorityClass, Rules, TeamRules
from labd.scheduling.wish import Part, Wish
from labd.services.tenancy import within
from labd.store.unit import Unit

HOUR_S = 3600.0
"""The use of teams is remembered by the hour."""


def rules_of(policy: Policy) -> Rules:
    """The part of the policy that decisions follow."""
    return Rules(
        classes=tuple(PriorityClass(one.name, one.rank, one.may_preempt, one.preemptible) for one in policy.classes),
        ageing_s=policy.ageing_bound_s,
        teams={one.name: TeamRules(one.weight, one.benches, one.bench_hours_per_week) for one in policy.teams},
        clean_up_s=policy.clean_up_s,
        grace_s=policy.preemption_grace_s,
        limits={str(one): one.runs for one in policy.runs.limits},
    )


def limits_of(lease: Lease, policy: Policy) -> tuple[str, ...]:
    """The limits of the policy that a lease counts for: only those of runs in clusters do."""
    if lease.cluster is None or not policy.runs.limits:
        return ()
    selectors = {one.selector for one in lease.wanted}
    return tuple(str(one) for one in policy.runs.limits if one.covers(lease.cluster, lease.team, selectors))


def limit_reached(unit: Unit, lease: Lease) -> LimitReached | None:
    """What keeps a waiting lease from any bench at present."""
    policy = unit.policy()
    limits = limits_of(lease, policy)
    if not limits:
        return None
    return Limits(rules_of(policy).limits, (limits_of(one, policy) for one in unit.leases_in(HELD))).reached(limits)


def wish_of(lease: Lease, policy: Policy) -> Wish:
    """A lease that waits. One whose class the policy does not have any more is of the lowest."""
    known = policy.priority_class(lease.priority)
    lowest = min(policy.classes, key=lambda one: one.rank)
    return Wish(
        id=lease.id,
        seq=lease.seq,
        parts=tuple(Part(within(one.selector, lease.team), one.count) for one in lease.wanted),
        duration_s=lease.duration_s,
        asked_at=lease.created_at,
        team=lease.team,
        priority=(known or lowest).name,
        same_site=lease.same_site,
        affinity=lease.affinity or None,
        avoid=frozenset(lease.avoid),
        limits=limits_of(lease, policy),
        starts_at=lease.starts_at,
        booked=lease.reserved,
    )


def lab_of(
    unit: Unit, now: float, attached: Callable[[str], bool], queue: Iterable[Lease] | None = None
) -> scheduling.Lab:
    """The lab at this moment; ``queue`` are the QUEUED leases, if they have been read already."""
    policy = unit.policy()
    holding = unit.leases_in((*HELD, LeaseState.ENDING))
    held = {one.bench for lease in holding for one in lease.benches if one.live}
    return scheduling.Lab(
        now=now,
        benches=tuple(
            _bench(bench, attached(bench.name), bench.name in held) for bench in unit.benches() if not bench.removed
        ),
        wishes=tuple(wish_of(lease, policy) for lease in (unit.queue() if queue is None else queue)),
        held=tuple(_held(lease, policy, now) for lease in holding),
        used=_used(unit),
    )


def _bench(bench: Bench, attached: bool, held: bool) -> scheduling.Bench:
    obstacle = None
    if bench.state(attached, leased=False) is BenchState.UNAVAILABLE:
        why = f" ({bench.health_reason})" if attached and bench.health_reason else ""
        obstacle = f"{bench.health(attached)}{why}"
    return scheduling.Bench(
        name=bench.name,
        labels=bench.selectable_labels,
        obstacle=obstacle,
        draining=bench.drained_for is not None,
        clean=bench.fenced or held,  # while it is held, its last epoch is nobody's to confirm
        promised_to=bench.promised_to,
    )


def _held(lease: Lease, policy: Policy, now: float) -> scheduling.Held:
    known = policy.priority_class(lease.priority)
    return scheduling.Held(
        id=lease.id,
        benches=tuple(one.bench for one in lease.benches if one.live),
        granted_at=lease.granted_at or now,
        ends_at=lease.expires_at or now,
        team=lease.team,
        priority=(known or min(policy.classes, key=lambda one: one.rank)).name,
        revoke_at=lease.revoke_at,
        ending=lease.state.over,
        limits=limits_of(lease, policy),
    )


def _used(unit: Unit) -> dict[str, tuple[scheduling.Used, ...]]:
    used: dict[str, list[scheduling.Used]] = defaultdict(list)
    for team, hour, bench_s in unit.usage():
        used[team].append(scheduling.Used(hour * HOUR_S, (hour + 1) * HOUR_S, bench_s))
    return {team: tuple(spans) for team, spans in used.items()}
