"""The fleet: agents come and go, benches are reported, fences are ordered and confirmed."""

import threading
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, replace

import structlog

from labd.executors.bench import BenchExecutor, RunnerOrder, RunnerReport
from labd.model.bench import Bench, BenchState, Health
from labd.model.identity import Actor
from labd.model.lease import Lease, LeaseState
from labd.model.run import ExecutorName, RunState
from labd.services.attachment import AgentLink, BenchReport, PowerReading, Session, Traffic
from labd.services.core import Core
from labd.services.errors import Conflict, NotFound
from labd.services.ledger import ClearOrder, Effects, Expulsion, FenceOrder, Ledger, UnshareOrder, unshare_orders
from labd.services.wishes import parse_selector
from labd.store.unit import Unit
from labd.store.units.replicas import Attachment

USE_STORED_S = 60.0
"""How often labd stores that a lease of a person's is in use."""
IDLE_FROM_S = 5.0
"""Without traffic for this long, it is idle."""
FENCE_REPEAT_S = 30.0
"""An order to fence that an attached agent has not confirmed for this long is given again, with a warning."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class BenchView:
    """A bench as people see it."""

    bench: Bench
    health: Health
    state: BenchState
    lease: Lease | None
    last_seen: float | None
    power: dict[str, PowerReading] = field(default_factory=dict)
    """By channel; empty while the agent is away."""


class Fleet:
    """The use cases of agents and benches."""

    def __init__(self, core: Core, at_bench: BenchExecutor) -> None:
        self._core = core
        self._at_bench = at_bench
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}
        core.follow(self._pass_on)

    # What people ask

    def benches(self, selector: str) -> list[BenchView]:
        """The benches that match, by name. Raises Invalid."""
        parsed = parse_selector(selector)
        with self._core.view() as unit:
            held = unit.held()
            return [
                self._view(bench, held.get(bench.name))
                for bench in unit.benches()
                if not bench.removed and parsed.matches(bench.selectable_labels)
            ]

    def bench(self, name: str) -> BenchView:
        """One bench. Raises NotFound, naming those there are."""
        with self._core.view() as unit:
            bench = unit.bench(name)
            if bench is None or bench.removed:
                known = ", ".join(bench.name for bench in unit.benches() if not bench.removed)
                raise NotFound(f"there is no bench {name!r}; the lab knows {known or 'none yet'}")
            return self._view(bench, unit.live_on(name))

    def clear_quarantine(self, actor: Actor, name: str, why: str = "") -> BenchView:
        """Has the agent bring the bench to its safe state again, and end the quarantine if that works.

        Raises NotFound; Conflict when the bench is in no quarantine, or its agent is away.
        """
        view = self.bench(name)
        if not view.bench.quarantined:
            raise Conflict(f"bench {name} is in no quarantine; it is {view.health}")
        if not self._core.presence.attached(name):
            raise Conflict(f"agent {view.bench.agent} of bench {name} is offline; only it can end the quarantine")
        with self._core.transaction(actor) as ledger:
            before = {"reason": view.bench.health_reason}
            ledger.audit("quarantine.cleared", f"bench/{name}", before=before, why=why, team=view.bench.owner or "")
            ledger.effects.clears.append(ClearOrder(name, actor.name))
        _log.info("quarantine to be cleared", bench=name, by=actor.name)
        return view

    def drain(self, actor: Actor, name: str, draining: bool, why: str) -> BenchView:
        """Keeps new leases from the bench, or lets it be leased again; present ones end as planned. Raises NotFound."""
        self.bench(name)
        with self._core.transaction(actor) as ledger:
            bench = ledger.unit.bench(name)
            if bench is not None:
                ledger.drain(bench, draining, why)
                ledger.schedule()
        return self.bench(name)

    def drain_agent(self, actor: Actor, agent: str, draining: bool, why: str) -> None:
        """The same for all benches of an agent, with those that it attaches later; one that is drained by itself stays
        so. Raises NotFound.
        """
        with self._core.transaction(actor) as ledger:
            unit = ledger.unit
            owners = {bench.agent for bench in unit.benches() if not bench.removed}
            known = {*owners, *self.sessions(), *(one.name for one in unit.agents()), *unit.agent_drains()}
            if agent not in known:
                raise NotFound(f"there is no agent {agent!r}; the lab knows {', '.join(sorted(known)) or 'none yet'}")
            ledger.drain_agent(agent, draining, why)
            ledger.schedule()

    def traffic(self, bench: str) -> Traffic | None:
        """When the lease that uses the bench last had traffic; None when its agent is away, or no lease has used it."""
        session = self._session_of(bench)
        return session.traffic.get(bench) if session is not None else None

    # What agents say

    def attach(
        self,
        agent: str,
        address: str,
        reports: list[BenchReport],
        link: AgentLink,
        runners: Collection[RunnerReport] = (),
    ) -> tuple[Session, list[FenceOrder]]:
        """Takes the agent's benches in; returns what is no longer live on each. A former stream of it is ended.

        ``runners`` are all that the agent knows of.
        """
        session = Session(agent, address, link, self._core.clock.now())
        try:
            for report in reports:
                self._note_traffic(session, report)
            with self._core.transaction() as ledger:
                former = self._take_over(ledger, session, reports)
                orders = [_standing_order(ledger.unit, name) for name in session.benches]
                unshares = [order for name in session.benches for order in _unshared_on(ledger.unit, name)]
                self._at_bench.adopt(self._running_at(ledger.unit, session.benches))
        except BaseException:
            self._forget(session)
            raise
        session.settled = True
        orders = [order for order in orders if order.epoch > 0]
        self._note_orders(session, orders)
        if former is not None:
            former.link.close(f"agent {agent} attached anew")
        for order in (*unshares, *self._at_bench.attached(session.benches, runners)):
            link.send(order)
        _log.info("agent attached", agent=agent, address=address, benches=sorted(session.benches))
        return session, orders

    def report(self, session: Session, report: BenchReport) -> None:
        """Takes in how a bench stands now."""
        if self._touch(session):
            self._note_traffic(session, report)
            self._accept(session, report)
            self._store_traffic(session, report)

    def fenced(self, session: Session, bench: str, epoch: int) -> None:
        """The agent has ended all that ran under this or a lower epoch."""
        report = session.benches.get(bench)
        if report is None:
            _log.warning("fence confirmed for a bench of another agent", agent=session.agent, bench=bench)
            return
        if self._touch(session):
            self._accept(session, replace(report, fenced_epoch=max(report.fenced_epoch, epoch)))

    def runner_changed(self, session: Session, report: RunnerReport) -> None:
        """Something has become of a runner at one of the agent's benches."""
        if self._touch(session):
            for order in self._at_bench.report(report):
                session.link.send(order)

    def detach(self, session: Session, reason: str) -> None:
        """The agent's stream is gone. Its live leases go on: the agent serves them until they expire."""
        if not self._forget(session):
            return
        _log.warning("agent detached", agent=session.agent, reason=reason)
        with self._core.transaction() as ledger:
            self._core.peers.detach(ledger.unit, session.agent, session.key)
            ledger.effects.attachments = True
            for name in session.benches:
                bench = ledger.unit.bench(name)
                if bench is not None:
                    ledger.unit.save_bench(replace(bench, last_seen=session.last_seen))
            ledger.schedule()

    def repeat_orders(self, session: Session) -> None:
        """Gives orders again that went unconfirmed for too long."""
        now = time.monotonic()
        with self._lock:
            late = [order for order, since in session.ordered.values() if now - since > FENCE_REPEAT_S]
            for order in late:
                session.ordered[order.bench] = (order, now)
        for order in late:
            _log.warning("agent has not confirmed the end of a lease", agent=session.agent, bench=order.bench)
            session.link.send(order)

    def order(self, bench: str, order: RunnerOrder) -> bool:
        """Passes an order on to the bench's agent; False when it is not attached."""
        with self._lock:
            session = next((one for one in self._sessions.values() if bench in one.benches), None)
        if session is None:
            return False
        session.link.send(order)
        return True

    def sessions(self) -> dict[str, Session]:
        """The attached agents, by name."""
        with self._lock:
            return dict(self._sessions)

    def hang_up(self, agent: str, reason: str) -> None:
        """Ends the agent's stream, if it has one."""
        session = self.sessions().get(agent)
        if session is not None:
            session.link.close(reason)

    def hang_up_all(self, reason: str) -> None:
        """Ends every agent's stream."""
        for session in self.sessions().values():
            session.link.close(reason)

    def expel(self, ledger: Ledger, agent: str, reason: str) -> AgentLink | None:
        """Takes the agent's benches out of the lab, and ends their leases; what it still says is not heard any more.

        Returns the way to it, which is for the caller to close.
        """
        for bench in ledger.unit.benches_of(agent):
            if not bench.removed:
                self._remove(ledger, bench, "its agent was revoked")
        ledger.effects.expelled.append(Expulsion(agent, reason))
        session = self.sessions().get(agent)
        if session is None or not self._forget(session):
            return None
        return session.link

    # Among several labds

    def moved(self, agents: frozenset[str]) -> None:
        """These agents are attached to other labds: what is left of their streams here is over."""
        for agent, session in self.sessions().items():
            if agent not in agents or not session.settled:
                continue
            with self._core.view() as unit:
                here = self._core.peers.has(unit, agent, session.key)
            if not here and self._forget(session):
                session.link.close(f"agent {agent} attached to another labd")
                self._at_bench.leave(session.benches)

    def seen(self) -> list[Attachment]:
        """What the other labds show of the agents that are attached here."""
        return [
            Attachment(
                session.agent,
                self._core.peers.replica or "",
                session.key,
                session.last_seen,
                {
                    bench: {name: asdict(reading) for name, reading in power.items()}
                    for bench, power in list(session.power.items())
                },
            )
            for session in self.sessions().values()
        ]

    def catch_up(self) -> None:
        """Tells the other labds and the agents what they may have missed while this labd was cut off."""
        sessions = [session for session in self.sessions().values() if session.settled]
        with self._core.transaction() as ledger:
            known = ledger.unit.attachments()
            elsewhere = {one.agent for one in known if one.replica != self._core.peers.replica}
            keys = {session.key for session in self.sessions().values()}
            for one in known:
                if one.agent not in elsewhere and one.session not in keys:  # it went when that could not be written
                    self._core.peers.detach(ledger.unit, one.agent, one.session)
            here = [session for session in sessions if session.agent not in elsewhere]
            for session in here:
                self._core.peers.attach(ledger.unit, session.agent, session.key, session.last_seen)
            ledger.effects.attachments = True
            orders = [(session, _standing_order(ledger.unit, name)) for session in here for name in session.benches]
            unshares = [
                (session, order)
                for session in here
                for name in session.benches
                for order in _unshared_on(ledger.unit, name)
            ]
        self.moved(frozenset(elsewhere))
        for session, order in orders:
            report = session.benches.get(order.bench)
            if report is not None and report.fenced_epoch < order.epoch:
                self._note_orders(session, [order])
                session.link.send(order)
        for session, unshare in unshares:
            session.link.send(unshare)

    # Inside

    def _accept(self, session: Session, report: BenchReport) -> None:
        if session.benches.get(report.name) == report:
            session.power[report.name] = report.power
            return
        with self._core.transaction() as ledger:
            if not (self._touch(session) and self._core.peers.has(ledger.unit, session.agent, session.key)):
                return  # overtaken by a newer stream of the same agent
            self._take(ledger, session, report, attaching=False)
            self._core.presence.put(session.agent, frozenset(session.benches))
            ledger.schedule()

    def _take_over(self, ledger: Ledger, session: Session, reports: list[BenchReport]) -> Session | None:
        for report in reports:
            self._take(ledger, session, report, attaching=True)
        for bench in ledger.unit.benches_of(session.agent):
            if bench.name not in session.benches and not bench.removed:
                self._remove(ledger, bench, "its agent does not report it any more")
        with self._lock:
            former = self._sessions.get(session.agent)
            self._sessions[session.agent] = session
        self._core.presence.put(session.agent, frozenset(session.benches))
        self._core.peers.attach(ledger.unit, session.agent, session.key, session.last_seen)
        ledger.effects.attachments = True
        ledger.schedule()
        return former

    def _running_at(self, unit: Unit, benches: Collection[str]) -> dict[str, str]:
        """The RUNNING runs whose processes are at these benches; those of other labds' are not known here yet."""
        runs = unit.runs_in(RunState.RUNNING) if self._core.peers.replica is not None else []
        leases = {run.id: unit.lease(run.lease_id) for run in runs if run.executor is ExecutorName.BENCH}
        return {
            run_id: lease.benches[0].bench
            for run_id, lease in leases.items()
            if lease is not None and lease.benches and lease.benches[0].bench in benches
        }

    def _note_orders(self, session: Session, orders: list[FenceOrder]) -> None:
        with self._lock:
            for order in orders:
                if session.benches[order.bench].fenced_epoch < order.epoch:
                    session.ordered.setdefault(order.bench, (order, time.monotonic()))

    def _forget(self, session: Session) -> bool:
        with self._lock:
            if self._sessions.get(session.agent) is not session:
                return False
            del self._sessions[session.agent]
            self._core.presence.drop(session.agent)
            return True

    def _touch(self, session: Session) -> bool:
        with self._lock:
            if self._sessions.get(session.agent) is not session:
                return False
            session.last_seen = self._core.clock.now()
            return True

    def _take(self, ledger: Ledger, session: Session, report: BenchReport, *, attaching: bool) -> None:
        known = ledger.unit.bench(report.name)
        if known is not None and known.agent != session.agent and not self._may_move(ledger, known):
            _log.error("bench refused: another agent has it", bench=report.name, agent=session.agent, other=known.agent)
            return
        epoch, fenced = report.fenced_epoch, report.fenced_epoch
        if known is None and attaching and max(report.fenced_epoch, report.active_epoch) > 0:
            # Another database has known the bench: whoever holds it by that, holds it no longer.
            epoch = max(report.fenced_epoch, report.active_epoch) + 1
        if known is not None:
            # A database older than the agent's memory: later epochs than the agent has seen, or it refuses them.
            epoch = max(known.epoch, report.fenced_epoch, report.active_epoch)
            # An agent that attaches may have lost its memory; one that is attached may be overtaken by its own answer.
            fenced = report.fenced_epoch if attaching else max(known.fenced_epoch, report.fenced_epoch)
        ledger.unit.save_bench(
            Bench(
                name=report.name,
                agent=session.agent,
                address=session.address,
                labels=report.labels,
                healthy=report.healthy,
                health_reason=report.health_reason,
                buses=report.buses,
                ecus=report.ecus,
                quarantined=report.quarantined,
                last_clean_up=report.last_clean_up,
                equipment=report.equipment,
                epoch=epoch,
                fenced_epoch=fenced,
                removed=False,
                last_seen=ledger.now,
                draining=known is not None and known.draining,
                drain_reason=known.drain_reason if known is not None else "",
                agent_drain=known.agent_drain
                if known is not None and known.agent == session.agent and not known.removed
                else ledger.unit.agent_drains().get(session.agent),
                promised_to=known.promised_to if known is not None else None,
            )
        )
        session.benches[report.name], session.power[report.name] = report, report.power
        lease = ledger.unit.live_on(report.name)
        part = lease.on(report.name) if lease is not None and lease.state.held else None
        if lease is not None and part is not None:
            if part.epoch <= fenced:
                _log.error("agent refuses the live lease of a bench: it ends", bench=report.name, lease=lease.id)
            elif part.epoch == report.active_epoch and lease.state is LeaseState.GRANTED:
                ledger.activate(lease)
        ledger.bench_fenced(report.name, fenced)
        with self._lock:
            order, _ = session.ordered.get(report.name, (None, 0.0))
            if order is not None and order.epoch <= fenced:
                del session.ordered[report.name]

    def _note_traffic(self, session: Session, report: BenchReport) -> None:
        if report.active_epoch > 0:
            session.traffic[report.name] = Traffic(report.active_epoch, self._core.clock.now() - report.idle_s)

    def _store_traffic(self, session: Session, report: BenchReport) -> None:
        """Remembers the use of a lease that a person holds: now and then while it lasts, at once when it stops."""
        traffic = session.traffic.get(report.name)
        since = session.stored.get(report.name, 0.0)
        if traffic is None or traffic.last_at - since < (USE_STORED_S if report.idle_s < IDLE_FROM_S else 1.0):
            return
        session.stored[report.name] = traffic.last_at
        with self._core.view() as unit:
            lease = unit.live_on(report.name)
        if lease is None or not lease.held:
            return
        with self._core.transaction() as ledger:
            lease = ledger.unit.live_on(report.name)
            part = lease.on(report.name) if lease is not None and lease.state.held else None
            if lease is not None and part is not None and part.epoch == traffic.epoch:
                ledger.note_use(lease, traffic.last_at)

    def _may_move(self, ledger: Ledger, bench: Bench) -> bool:
        """Whether nobody can act on the bench through its former agent any more."""
        lease = ledger.unit.live_on(bench.name)
        return ledger.beyond_reach(bench) and (lease is None or lease.state.over)

    def _remove(self, ledger: Ledger, bench: Bench, why: str) -> None:
        _log.warning("bench removed", why=why, bench=bench.name, agent=bench.agent)
        ledger.unit.save_bench(replace(bench, removed=True))
        ledger.bench_gone(bench.name)

    def _session_of(self, bench: str) -> Session | None:
        with self._lock:
            return next((one for one in self._sessions.values() if bench in one.benches), None)

    def _pass_on(self, effects: Effects) -> None:
        for order in effects.fences:
            session = self._session_of(order.bench)
            if session is not None:
                with self._lock:
                    session.ordered[order.bench] = (order, time.monotonic())
                session.link.send(order)
        orders: list[ClearOrder | UnshareOrder] = [*effects.clears, *effects.unshares]
        for told in orders:
            session = self._session_of(told.bench)
            if session is not None:
                session.link.send(told)
        for agent in effects.hang_ups:
            self.hang_up(agent, f"agent {agent} was enrolled anew")
        for one in effects.expelled:
            session = self.sessions().get(one.agent)
            if session is not None and self._forget(session):
                session.link.close(one.reason, revoked=True)

    def _view(self, bench: Bench, lease: Lease | None) -> BenchView:
        attached = self._core.presence.attached(bench.name)
        with self._lock:
            session = self._sessions.get(bench.agent)
        last_seen, power = bench.last_seen, dict[str, PowerReading]()
        if session is not None and attached:
            last_seen, power = session.last_seen, session.power.get(bench.name, power)
        elif attached and (seen := self._core.presence.elsewhere(bench.agent)) is not None:
            last_seen = seen.last_seen
            power = {name: PowerReading(**reading) for name, reading in seen.power.get(bench.name, {}).items()}
        lease = lease if lease is not None and lease.state.held else None
        state = bench.state(attached, lease is not None)
        return BenchView(bench, bench.health(attached), state, lease, last_seen, power)


def _standing_order(unit: Unit, name: str) -> FenceOrder:
    bench, lease = unit.bench(name), unit.live_on(name)
    epoch = bench.epoch if bench is not None else 0
    part = lease.on(name) if lease is not None and lease.state.held else None
    return FenceOrder(name, epoch if part is None else part.epoch - 1, "ended")


def _unshared_on(unit: Unit, name: str) -> list[UnshareOrder]:
    """Those whom the agent of a bench has to refuse although the lease goes on."""
    lease = unit.live_on(name)
    if lease is None or not lease.state.held:
        return []
    return [order for order in unshare_orders(lease, unit.shares_ever(lease.id)) if order.bench == name]
