"""The rules that tie leases, runs and benches together, applied inside one transaction.

A run is PENDING while its lease is QUEUED, RUNNING while it is held, over once its end is decided: whichever of the
two ends takes the other along. A bench is granted only when its agent is attached, it is healthy, nobody has it, and
the agent has confirmed the end of every former lease.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from labd.model.audit import Deed
from labd.model.bench import Bench
from labd.model.identity import Actor
from labd.model.lease import Lease, LeasedBench, LeaseEnd, LeaseState, Share
from labd.model.policy import Policy
from labd.model.run import CaseCounts, Cause, ExecutorName, LogLevel, LogLine, Run, RunState
from labd.scheduling.decide import decide
from labd.scheduling.decisions import Grant, Notice
from labd.services.happenings import Granted, Happening, LeaseOver, Retried, RunOver
from labd.services.identifiers import new_lease_id
from labd.services.limits import RunLimits
from labd.services.planning import HOUR_S, lab_of, rules_of
from labd.store.unit import Unit

HERE = {"here": True}
"""Of an effect that is of no concern to other labds."""
CLOCK_MARGIN_S = 60.0
"""How much longer than it says a lost agent may take a token for valid."""


@dataclass(frozen=True, slots=True)
class FenceOrder:
    """An agent has to end what runs under this or a lower epoch."""

    bench: str
    epoch: int
    reason: str


@dataclass(frozen=True, slots=True)
class ClearOrder:
    """An operator wants the quarantine of a bench to end."""

    bench: str
    by: str


@dataclass(frozen=True, slots=True)
class UnshareOrder:
    """An agent has to refuse somebody with whom a lease was shared."""

    bench: str
    epoch: int
    holder: str
    number: int
    """Of their share: this and lower ones."""


@dataclass(frozen=True, slots=True)
class Expulsion:
    """An agent was revoked."""

    agent: str
    reason: str


@dataclass(frozen=True, slots=True)
class ExtendOrder:
    """An agent has to let the holders of a lease act for longer than their tokens say."""

    bench: str
    epoch: int
    expires_at: float
    """s since the Unix epoch."""


@dataclass(slots=True)
class Effects:
    """What the rest of labd has to do once the transaction is durable."""

    fences: list[FenceOrder] = field(default_factory=list)
    leases: set[str] = field(default_factory=set)
    """Leases that changed, for those who follow them."""
    queue: bool = False
    """A lease came to the queue, or left it."""
    runs: set[str] = field(default_factory=set)
    """Runs that changed their state: their runners have to follow."""
    logs: set[str] = field(default_factory=set)
    """Runs with new log lines."""
    due_at: float | None = None
    """When the first of what it has changed is due (s since the Unix epoch, labd's clock); None: nothing of it is."""
    unscheduled: bool = False
    """Somebody may be served who could not be in this transaction."""
    attachments: bool = False
    """Agents have come or gone."""
    identities: bool = False
    """Somebody has lost a right, or got one."""
    clears: list[ClearOrder] = field(default_factory=list)
    unshares: list[UnshareOrder] = field(default_factory=list)
    extensions: list[ExtendOrder] = field(default_factory=list)
    expelled: list[Expulsion] = field(default_factory=list)
    """Agents that were revoked."""
    hang_ups: set[str] = field(default_factory=set)
    """Agents that have to attach anew."""
    lenient_until: float = 0.0
    """No run is ended for its timeout before (s since the Unix epoch, labd's clock); 0 for no change."""
    happened: list[Happening] = field(default_factory=list, metadata=HERE)
    """What is measured of it, by this labd alone."""

    def is_due(self, at: float | None) -> None:
        """Something is due then, or never."""
        if at is not None:
            self.due_at = at if self.due_at is None else min(self.due_at, at)


class Ledger:
    """One transaction's view of the lab, and the transitions."""

    def __init__(
        self,
        unit: Unit,
        now: float,
        attached: Callable[[str], bool],
        limits: RunLimits,
        actor: Actor,
        *,
        granting: bool = True,
    ) -> None:
        self.unit = unit
        self.now = now
        self.actor = actor
        self.effects = Effects()
        self.replica: str | None = None
        """Of several labds, the one whose transaction this is."""
        self.lenient = False
        """labd was away until now: no run ends for its timeout yet."""
        self._attached = attached
        self._limits = limits
        self._granting = granting

    @property
    def policy(self) -> Policy:
        """As it is now."""
        return self.unit.policy()

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
        self.unit.record(
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

    def schedule(self) -> None:
        """Ends leases that are overdue, then hands free benches to those who wait, in the queue's order."""
        self._end_overdue_leases()
        queue = self.unit.queue() if self._granting else []
        if not queue:
            return
        leases = {lease.id: lease for lease in queue}
        lab = lab_of(self.unit, self.now, self._attached, queue)
        decision = decide(lab, rules_of(self.policy))
        for wish in decision.lapsed:
            self.end_lease(leases[wish], LeaseEnd.EXPIRED, "its time had passed before its benches were free")
        for move in decision.moves:
            moved = replace(leases[move.wish], reserved=move.benches)
            self._move("lease.booking_moved", leases[move.wish], moved)
            leases[move.wish] = moved
        for notice in decision.notices:
            self._give_notice(notice, leases[notice.wish])
        for grant in decision.grants:
            self._grant(leases[grant.wish], grant)

    def end_overdue_runs(self) -> None:
        """Ends every run whose timeout has passed."""
        if self.lenient:
            return
        for run in self.unit.runs_due(self.now - self._limits.grace_s):
            self.end_attempt(run, f"it ran for longer than its timeout of {run.timeout_s:g} s", Cause.TIMEOUT)

    def _end_overdue_leases(self) -> None:
        for lease in self.unit.leases_due(self.now):
            reason = lease.overdue(self.now)
            if reason is not None:
                self.end_lease(lease, reason)
        self._release_idle()
        for lease in self.unit.leases_ending(self.now - CLOCK_MARGIN_S):
            self._let_go(lease)

    def forgive(self) -> None:
        """Gives every live lease a whole TTL from now: its holder could not reach labd. Hard ends stay."""
        for lease in self.unit.live_leases():
            heartbeat_by = self.now + lease.ttl_s
            if lease.state is LeaseState.GRANTED:
                # Its holder may take the rest of its time to show up; all of it at most, if the clock was set back.
                allowed_until = self.now + self._start_s(lease)
                heartbeat_by = max(heartbeat_by, min(lease.heartbeat_by, allowed_until))
            self.unit.save_lease(replace(lease, heartbeat_by=heartbeat_by), lease)

    def add_lease(self, lease: Lease) -> None:
        """Queues a lease that has just arrived."""
        self.unit.add_lease(lease)
        wished = {"holder": lease.holder, "selector": lease.selector, "priority": lease.priority}
        self.audit("lease.queued", f"lease/{lease.id}", after=wished | {"state": lease.state.value}, team=lease.team)
        self.effects.leases.add(lease.id)
        self.effects.queue = True
        self._is_due(lease)

    def heartbeat(self, lease: Lease) -> Lease:
        """Keeps a lease alive for another TTL."""
        return self._shown_up(lease, lease.heartbeat(self.now))

    def activate(self, lease: Lease) -> Lease:
        """The holder has shown up at a bench."""
        return self._shown_up(lease, lease.activate(self.now))

    def extend(self, lease: Lease, ends_at: float) -> Lease:
        """Gives a held lease a later hard end."""
        after = lease.extend(ends_at, self.now)
        self.effects.extensions.extend(extend_orders(after))
        return self._move("lease.extended", lease, after)

    def transfer(self, lease: Lease, holder: str, team: str) -> Lease:
        """Puts a lease into other hands; the agents undo what the former holder did, and refuse their tokens."""
        self.effects.fences.extend(FenceOrder(one.bench, one.epoch, "transferred") for one in lease.benches)
        after = lease.transfer(holder, team, [self._next_epoch(one.bench) for one in lease.benches], self.now)
        if lease.granted_at is not None and team != lease.team:
            # At the end the new team is charged for all of it: what the former one has used is taken off now.
            self._charge(lease, lease.granted_at)
            self._charge(after, lease.granted_at, -1.0)
        self.unit.drop_shares(lease.id)
        self.effects.queue = True
        self.effects.unscheduled |= team != lease.team  # what it took of the former team's quota is free
        return self._move("lease.transferred", lease, after)

    def share(self, lease: Lease, share: Share) -> Share:
        """Lets somebody look on, or act, beside the holder. Tokens that let them do otherwise are refused from now on.

        Returns the share with its number.
        """
        known = {one.holder: (one, live) for one, live in self.unit.shares_ever(lease.id)}
        before, live = known.get(share.holder, (None, False))
        if before is not None:
            goes_on = live and before.mode is share.mode
            share = replace(share, number=before.number if goes_on else before.number + 1)
        self.unit.save_share(lease.id, share)
        self.effects.unshares.extend(unshare_orders(lease, [(share, True)]))
        self.effects.leases.add(lease.id)
        after = {"holder": share.holder, "mode": share.mode}
        self.audit("lease.shared", f"lease/{lease.id}", after=after, team=lease.team)
        return share

    def unshare(self, lease: Lease, share: Share, why: str) -> None:
        """Takes a share back; agents refuse its tokens from now on."""
        self.unit.save_share(lease.id, share, live=False)
        self.effects.unshares.extend(unshare_orders(lease, [(share, False)]))
        self.effects.leases.add(lease.id)
        before = {"holder": share.holder, "mode": share.mode}
        self.audit("lease.unshared", f"lease/{lease.id}", before=before, why=why, team=lease.team)

    def drain(self, bench: Bench, draining: bool, why: str) -> Bench:
        """Keeps new leases from a bench, or lets it be leased again."""
        after = replace(bench, draining=draining, drain_reason=why if draining else "")
        self.unit.save_bench(after)
        action = "bench.drained" if draining else "bench.undrained"
        self.audit(
            action,
            f"bench/{bench.name}",
            before={"draining": bench.draining},
            after={"draining": draining},
            why=why,
            team=bench.owner or "",
        )
        return after

    def drain_agent(self, agent: str, draining: bool, why: str) -> None:
        """The same for all benches that an agent has, and that it attaches later."""
        was = agent in self.unit.agent_drains()
        self.unit.save_agent_drain(agent, why if draining else None)
        for bench in self.unit.benches():
            if bench.agent == agent and not bench.removed:
                self.unit.save_bench(replace(bench, agent_drain=why if draining else None))
        action = "agent.drained" if draining else "agent.undrained"
        self.audit(action, f"agent/{agent}", before={"draining": was}, after={"draining": draining}, why=why)

    def end_lease(self, lease: Lease, reason: LeaseEnd, note: str = "") -> Lease:
        """Ends a live lease, and the run that it served."""
        ended = self._end_lease(lease, reason, note)
        run = self.unit.run(lease.run_id) if lease.run_id is not None else None
        if run is not None and not run.state.final:
            waiting = run.state is RunState.PENDING and reason is LeaseEnd.CANCELLED
            state = RunState.CANCELLED if waiting else RunState.ERROR
            if reason is LeaseEnd.HEARTBEAT_LOST and run.executor is ExecutorName.PROCESS and run.replica is not None:
                note = f"it ran beside labd {run.replica}"
            why = f"{_LOST[reason]}: {note}" if note else _LOST[reason]
            if reason is LeaseEnd.HEARTBEAT_LOST and run.executor is ExecutorName.KUBERNETES:
                self.end_attempt(run, why, Cause.POD_LOST)
            else:
                self._end_run(run, state, why)
        return ended

    def end_attempt(self, run: Run, reason: str, cause: Cause | None) -> Run:
        """Ends the present attempt of a live run whose runner will report nothing: the run gets another attempt where
        that may help and it has not had as many as the policy lets it, or else its verdict by the cause.
        """
        most = self.policy.runs.attempts
        if run.state is RunState.RUNNING and cause is not None and cause.transient and run.attempt < most:
            return self._retry(run, reason, cause, most)
        return self.end_run(run, RunState.ERROR if cause is None else cause.verdict, reason, cause=cause)

    def _retry(self, run: Run, reason: str, cause: Cause, most: int) -> Run:
        former = self.unit.lease(run.lease_id)
        if former is None:
            raise LookupError(f"run {run.id} has no lease {run.lease_id}")
        over = replace(run.present, ended_at=self.now, cause=cause, reason=reason)
        self.unit.add_attempt(run.id, over)
        if not former.state.over:
            self._end_lease(former, LeaseEnd.RELEASED, f"attempt {run.attempt} of run {run.id} is over: {cause}")
        lease = former.anew(new_lease_id(), self.now)
        self.add_lease(lease)
        text = f"attempt {run.attempt} of {most} is over ({cause}: {reason}); the next one waits for a bench"
        line = LogLine(run.log_lines + 1, self.now, LogLevel.WARNING, text)
        self.unit.add_lines(run.id, [line])
        size = run.log_bytes + len(text.encode("utf-8"))
        again = replace(run.retry(lease.id), log_lines=line.seq, log_bytes=size)
        self.unit.save_run(again)
        self.effects.happened.append(Retried(run, cause))
        before, after = {"attempt": run.attempt, "lease": former.id}, {"attempt": again.attempt, "lease": lease.id}
        self.audit("run.retried", f"run/{run.id}", before=before, after=after, why=f"{cause}: {reason}", team=run.team)
        self.effects.logs.add(run.id)
        self.effects.runs.add(run.id)
        self.effects.unscheduled = True
        return again

    def end_run(
        self,
        run: Run,
        state: RunState,
        reason: str,
        cases: CaseCounts | None = None,
        cause: Cause | None = None,
    ) -> Run:
        """Ends a live run, and the lease that served it."""
        ended = self._end_run(run, state, reason, cases, cause)
        lease = self.unit.lease(run.lease_id)
        if lease is not None and not lease.state.over:
            waiting = lease.state is LeaseState.QUEUED
            self._end_lease(lease, LeaseEnd.CANCELLED if waiting else LeaseEnd.RELEASED)
        return ended

    def bench_fenced(self, bench: str, epoch: int) -> None:
        """The agent refuses this and every lower epoch of the bench from now on."""
        lease = self.unit.live_on(bench)
        part = None if lease is None else lease.on(bench)
        if lease is None or part is None or part.epoch > epoch:
            return
        if lease.state.held:
            lease = self.end_lease(lease, LeaseEnd.CANCELLED, "the agent of its bench refuses it")
        if lease.state is LeaseState.ENDING:
            self._move("lease.ended", lease, lease.fenced(bench, self.now))

    def bench_gone(self, bench: str) -> None:
        """The bench left the lab, and whoever had it goes."""
        lease = self.unit.live_on(bench)
        if lease is None:
            return
        if lease.state.held:
            lease = self.end_lease(lease, LeaseEnd.BENCH_REMOVED)
        self._move("lease.ended", lease, lease.fenced(bench, self.now))

    def beyond_reach(self, bench: Bench) -> bool:
        """Whether nobody can act on the bench through an agent that is away: every token of it has expired."""
        if self._attached(bench.name):
            return False
        last = self.unit.last_expiry(bench.name)
        return bench.fenced or last is None or self.now >= last + CLOCK_MARGIN_S

    def _release_idle(self) -> None:
        """Ends what people hold and do not use. Where an agent is away, nobody knows: that counts as use."""
        policy = self.policy
        for lease in self.unit.held_unused_since(self.now - policy.idle_release_s + policy.idle_notice_s):
            if not all(self._attached(one.bench) for one in lease.benches):
                self.note_use(lease, self.now)
            elif self.now < policy.idle_ends_at(lease.used_at or 0.0):
                self.effects.leases.add(lease.id)  # those who follow it see that it has to end
            else:
                note = f"nothing went to or from its benches for {policy.idle_release_s:g} s"
                self.end_lease(lease, LeaseEnd.IDLE, note)

    def note_use(self, lease: Lease, used_at: float) -> None:
        """Something went between a held lease's people and a bench."""
        self._move("lease.used", lease, replace(lease, used_at=max(used_at, lease.used_at or 0.0)))

    def _let_go(self, lease: Lease) -> None:
        """Waits no longer for agents that are away and whose tokens have all expired."""
        for one in lease.benches:
            bench = self.unit.bench(one.bench) if one.live and not self._attached(one.bench) else None
            if bench is not None and self.beyond_reach(bench):
                lease = self._move("lease.ended", lease, lease.fenced(one.bench, self.now))

    def _give_notice(self, notice: Notice, wish: Lease) -> None:
        """Tells the holder when to be gone, and keeps the benches for who needs them."""
        lease = self.unit.lease(notice.lease)
        if lease is None or not lease.state.held:
            return
        reason = f"{wish.holder} needs the bench with priority {wish.priority} (lease {wish.id})"
        self._move("lease.notice_given", lease, lease.notify(notice.revoke_at, reason), why=reason)
        for name in notice.benches:
            bench = self.unit.bench(name)
            if bench is not None:
                self.unit.save_bench(replace(bench, promised_to=wish.id))

    def _start_s(self, lease: Lease) -> float:
        """How long whom a lease is for may take to show up, beyond its TTL."""
        run = self.unit.run(lease.run_id) if lease.run_id is not None else None
        return self._limits.start_s if run is not None and run.executor is ExecutorName.KUBERNETES else 0.0

    def _grant(self, lease: Lease, grant: Grant) -> None:
        epochs = [(name, self._next_epoch(name)) for name in grant.benches]
        run = self.unit.run(lease.run_id) if lease.run_id is not None else None
        start_s = self._start_s(lease)
        granted = self._move("lease.granted", lease, lease.grant(epochs, self.now, grant.ends_at, start_s))
        self.effects.happened.append(Granted(granted))
        if run is not None:
            started = run.start(self.now, self.replica, start_s)
            self._run_due(started)
            self.unit.save_run(started)
            self.effects.runs.add(run.id)

    def _shown_up(self, before: Lease, after: Lease) -> Lease:
        run = self.unit.run(before.run_id) if before.run_id is not None and before.state is LeaseState.GRANTED else None
        if run is not None and run.lease_id == before.id and run.executor is ExecutorName.KUBERNETES:
            begun = run.begin(self.now)
            self._run_due(begun)
            self.unit.save_run(begun)
        return self._move("lease.activated", before, after)

    def _run_due(self, run: Run) -> None:
        if run.due_at is not None:
            self.effects.is_due(run.due_at + self._limits.grace_s)

    def _next_epoch(self, name: str) -> int:
        """Takes the bench, which nobody is promised any more."""
        bench = self.unit.bench(name)
        if bench is None:
            raise LookupError(f"bench {name} was granted and is not there")
        self.unit.save_bench(replace(bench, epoch=bench.epoch + 1, promised_to=None))
        return bench.epoch + 1

    def _end_lease(self, lease: Lease, reason: LeaseEnd, note: str = "") -> Lease:
        self.effects.fences.extend(FenceOrder(one.bench, one.epoch, reason) for one in lease.benches if one.live)
        if lease.state.held and lease.cluster is not None and self.policy.runs.limits:
            self.effects.unscheduled = True  # a run that waits for a limit may not want this bench
        ended = lease.end(reason, self.now, note)
        self.effects.happened.append(LeaseOver(ended))
        action = "lease.ending" if ended.state is LeaseState.ENDING else "lease.ended"
        return self._move(action, lease, ended, why=note or reason.value)

    def _move(self, action: str, before: Lease, after: Lease, why: str = "") -> Lease:
        """The one place where a lease changes: stored, on record, and told to those who follow it.

        Heartbeats that change nothing else are not on record.
        """
        if after == before:
            return after
        self.unit.save_lease(after, before)
        self.effects.leases.add(after.id)
        self._is_due(after)
        self.effects.queue |= before.state is LeaseState.QUEUED and after.state is not LeaseState.QUEUED
        if after.state is LeaseState.ENDED and after.granted_at is not None:
            self._charge(after, after.granted_at)
        changed = {
            name: (_plain(getattr(before, name)), _plain(getattr(after, name)))
            for name in _ON_RECORD
            if getattr(before, name) != getattr(after, name)
        }
        if changed:
            self.audit(
                action,
                f"lease/{after.id}",
                before={name: values[0] for name, values in changed.items()},
                after={name: values[1] for name, values in changed.items()},
                why=why,
                team=after.team,
            )
        return after

    def _is_due(self, lease: Lease) -> None:
        """Notes when labd has to look at a lease that has changed."""
        self.effects.is_due(lease.due_at)
        match lease.state:
            case LeaseState.QUEUED if lease.starts_at is not None:
                self.effects.is_due(lease.starts_at)
            case LeaseState.ENDING if lease.expires_at is not None:
                self.effects.is_due(lease.expires_at + CLOCK_MARGIN_S)
            case _ if lease.state.held and lease.held and lease.used_at is not None:
                self.effects.is_due(self.policy.idle_told_at(lease.used_at))

    def _charge(self, lease: Lease, start: float, sign: float = 1.0) -> None:
        """Counts what the lease's benches were used against its team, hour by hour.

        What an agent takes past the hard end to confirm it is not the team's: its quota was for the time until then.
        """
        until = self.now if lease.expires_at is None else min(self.now, lease.expires_at)
        hour = int(start // HOUR_S)
        while hour * HOUR_S < until:
            spent = min(until, (hour + 1) * HOUR_S) - max(start, hour * HOUR_S)
            if spent > 0:
                self.unit.add_usage(lease.team, hour, sign * spent * len(lease.benches))
            hour += 1

    def _end_run(
        self,
        run: Run,
        state: RunState,
        reason: str,
        cases: CaseCounts | None = None,
        cause: Cause | None = None,
    ) -> Run:
        ended = run.finish(state, reason, self.now, cases, cause)
        self.unit.save_run(ended)
        self.effects.happened.append(RunOver(ended, self.unit.lease(run.lease_id)))
        after = {"state": state} | ({} if cause is None else {"cause": cause})
        self.audit("run.ended", f"run/{run.id}", before={"state": run.state}, after=after, team=run.team)
        self.effects.runs.add(run.id)
        return ended


def extend_orders(lease: Lease) -> list[ExtendOrder]:
    """Until when agents have to take the tokens of a held lease."""
    if not lease.state.held or lease.expires_at is None:
        return []
    return [ExtendOrder(part.bench, part.epoch, lease.expires_at) for part in lease.benches if part.live]


def unshare_orders(lease: Lease, shares: Iterable[tuple[Share, bool]]) -> list[UnshareOrder]:
    """What agents have to refuse, given with whom the lease is or was shared, and whether it still is."""
    refused = [(share.holder, share.number - 1 if live else share.number) for share, live in shares]
    return [
        UnshareOrder(part.bench, part.epoch, holder, number)
        for part in lease.benches
        for holder, number in refused
        if part.live and number >= 0
    ]


_ON_RECORD = (
    "state",
    "holder",
    "team",
    "benches",
    "reserved",
    "duration_s",
    "expires_at",
    "revoke_at",
    "end_reason",
)
"""What of a lease the audit log tells when it changes."""


def _plain(value: object) -> Any:
    """As JSON has it."""
    if isinstance(value, tuple):
        return [f"{one.bench} epoch {one.epoch}" if isinstance(one, LeasedBench) else one for one in value]
    return value


_LOST = {
    LeaseEnd.RELEASED: "its lease was released while it ran",
    LeaseEnd.EXPIRED: "its lease reached its hard end",
    LeaseEnd.HEARTBEAT_LOST: "its runner sent no heartbeat any more",
    LeaseEnd.IDLE: "its lease was not used",
    LeaseEnd.CANCELLED: "its lease was cancelled",
    LeaseEnd.PREEMPTED: "its bench was needed for something more urgent",
    LeaseEnd.REVOKED: "its lease was revoked",
    LeaseEnd.BENCH_REMOVED: "its bench was removed from the lab",
    LeaseEnd.RESTORED: "labd was restored from a backup",
}


def _stored(text: str) -> str:
    """What every database takes: NUL and halves of surrogate pairs are not text to PostgreSQL."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")
