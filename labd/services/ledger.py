"""The rules that tie leases, runs and benches together, applied inside one transaction.

A run is PENDING while its lease is QUEUED, RUNNING while it is GRANTED, over once it has ENDED: whichever of the two
ends takes the other along. A bench is granted only when its agent is attached, it is healthy, nobody has it, and the
agent has confirmed the end of every former lease.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from labd.model.audit import Deed, link
from labd.model.bench import Bench, BenchState
from labd.model.identity import Actor
from labd.model.lease import Lease, LeaseEnd, LeaseState
from labd.model.run import CaseCounts, Run, RunState
from labd.scheduling.queue import FreeBench, decide
from labd.services.limits import RunLimits
from labd.store.unit import Unit


@dataclass(frozen=True, slots=True)
class FenceOrder:
    """An agent has to end what runs under this or a lower epoch."""

    bench: str
    epoch: int
    reason: str


@dataclass(slots=True)
class Effects:
    """What the rest of labd has to do once the transaction is durable."""

    fences: list[FenceOrder] = field(default_factory=list)
    runs: set[str] = field(default_factory=set)
    """Runs that changed their state: their runners have to follow."""
    logs: set[str] = field(default_factory=set)
    """Runs with new log lines."""
    deadlines: bool = False
    """Something may be due earlier than was known."""


class Ledger:
    """One transaction's view of the lab, and the transitions."""

    def __init__(
        self, unit: Unit, now: float, attached: Callable[[str], bool], limits: RunLimits, actor: Actor
    ) -> None:
        self.unit = unit
        self.now = now
        self.actor = actor
        self.effects = Effects()
        self.lenient = False
        """labd was away until now: no run ends for its timeout yet."""
        self._attached = attached
        self._limits = limits
        self._deeds: list[Deed] = []

    def audit(
        self,
        action: str,
        subject: str,
        *,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
        why: str = "",
        team: str = "",
    ) -> None:
        """Puts on record what the actor does: ``noun.verb`` to ``kind/name``, in this transaction.

        ``before`` and ``after`` hold JSON values, of what changes only; never a secret. ``team`` is whose thing it is;
        empty where it concerns the whole lab.
        """
        actor = self.actor
        self._deeds.append(
            Deed(
                self.now,
                _stored(actor.name),
                actor.kind,
                _stored(team),
                action,
                _stored(subject),
                before,
                after,
                _stored(why),
            )
        )

    def close(self) -> None:
        """Writes the audit log: at the end of the transaction, so that its one writer keeps others waiting briefly."""
        if self._deeds:
            self.unit.add_audit(link(self.unit.lock_audit(), self._deeds))
            self._deeds.clear()

    def schedule(self) -> None:
        """Ends what is overdue, then hands free benches to those who wait, in the queue's order."""
        self.expire()
        queue = self.unit.queue()
        if not queue:
            return
        granted = self.unit.granted()
        benches = {
            bench.name: bench
            for bench in self.unit.benches()
            if bench.state(self._attached(bench.name), bench.name in granted) is BenchState.AVAILABLE
        }
        leases = {lease.id: lease for lease in queue}
        free = [FreeBench(bench.name, bench.selectable_labels) for bench in benches.values()]
        for grant in decide(queue, free):
            self._grant(leases[grant.lease_id], benches[grant.bench])

    def expire(self) -> None:
        """Ends every lease and run whose time is over."""
        for lease in self.unit.leases_due(self.now):
            reason = lease.overdue(self.now)
            if reason is not None:
                self.end_lease(lease, reason)
        if self.lenient:
            return
        for run in self.unit.runs_due(self.now - self._limits.grace_s):
            self.end_run(run, RunState.ERROR, f"it ran for longer than its timeout of {run.timeout_s:g} s")

    def forgive(self) -> None:
        """Gives every live lease a whole TTL from now: its holder could not reach labd. Hard ends stay."""
        for lease in self.unit.live_leases():
            self.unit.save_lease(replace(lease, heartbeat_by=self.now + lease.ttl_s))

    def end_lease(self, lease: Lease, reason: LeaseEnd) -> Lease:
        """Ends a live lease, and the run that it served."""
        ended = self._end_lease(lease, reason)
        run = self.unit.run(lease.run_id) if lease.run_id is not None else None
        if run is not None and not run.state.final:
            waiting = run.state is RunState.PENDING and reason is LeaseEnd.CANCELLED
            state = RunState.CANCELLED if waiting else RunState.ERROR
            self._end_run(run, state, _LOST[reason])
        return ended

    def end_run(self, run: Run, state: RunState, reason: str, cases: CaseCounts | None = None) -> Run:
        """Ends a live run, and the lease that served it."""
        ended = self._end_run(run, state, reason, cases)
        lease = self.unit.lease(run.lease_id)
        if lease is not None and lease.state is not LeaseState.ENDED:
            waiting = lease.state is LeaseState.QUEUED
            self._end_lease(lease, LeaseEnd.CANCELLED if waiting else LeaseEnd.RELEASED)
        return ended

    def _grant(self, lease: Lease, bench: Bench) -> None:
        epoch = bench.epoch + 1
        self.unit.save_bench(replace(bench, epoch=epoch))
        self.unit.save_lease(lease.grant(bench.name, epoch, self.now))
        self.effects.deadlines = True
        run = self.unit.run(lease.run_id) if lease.run_id is not None else None
        if run is not None:
            self.unit.save_run(run.start(self.now))
            self.effects.runs.add(run.id)

    def _end_lease(self, lease: Lease, reason: LeaseEnd) -> Lease:
        ended = lease.end(reason, self.now)
        self.unit.save_lease(ended)
        if lease.bench is not None and lease.epoch is not None:
            self.effects.fences.append(FenceOrder(lease.bench, lease.epoch, reason))
        return ended

    def _end_run(self, run: Run, state: RunState, reason: str, cases: CaseCounts | None = None) -> Run:
        ended = run.finish(state, reason, self.now, cases)
        self.unit.save_run(ended)
        self.audit("run.ended", f"run/{run.id}", before={"state": run.state}, after={"state": state})
        self.effects.runs.add(run.id)
        return ended


_LOST = {
    LeaseEnd.RELEASED: "its lease was released while it ran",
    LeaseEnd.EXPIRED: "its lease reached its hard end",
    LeaseEnd.HEARTBEAT_LOST: "its runner sent no heartbeat any more",
    LeaseEnd.CANCELLED: "its lease was cancelled",
    LeaseEnd.BENCH_REMOVED: "its bench was removed from the lab",
}


def _stored(text: str) -> str:
    """What every database takes: NUL and halves of surrogate pairs are not text to PostgreSQL."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")
