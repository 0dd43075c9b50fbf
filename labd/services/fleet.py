"""The fleet: what people ask of benches and agents, and what agents are told. What they say is for `hearing`."""

from dataclasses import asdict, dataclass, field, replace

import structlog

from labd.executors.bench import BenchExecutor, RunnerOrder
from labd.model.bench import Bench, BenchState, Health
from labd.model.identity import Actor
from labd.model.lease import Lease
from labd.services.attachment import AgentLink, PowerReading, Session, Traffic
from labd.services.core import Core
from labd.services.errors import Conflict, NotFound
from labd.services.ledger import ClearOrder, Effects, Expulsion, ExtendOrder, Ledger, UnshareOrder
from labd.services.reported_benches import remove_bench, standing_on, standing_order
from labd.services.sessions import Sessions
from labd.services.wishes import parse_selector
from labd.store.units.replicas import Attachment

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

    def __init__(self, core: Core, at_bench: BenchExecutor, sessions: Sessions) -> None:
        self._core = core
        self._at_bench = at_bench
        self._sessions = sessions
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
        session = self._sessions.at(bench)
        return session.traffic.get(bench) if session is not None else None

    # Orders to agents

    def repeat_orders(self, session: Session) -> None:
        """Gives orders again that went unconfirmed for too long."""
        for order in self._sessions.overdue(session):
            _log.warning("agent has not confirmed the end of a lease", agent=session.agent, bench=order.bench)
            session.link.send(order)

    def order(self, bench: str, order: RunnerOrder) -> bool:
        """Passes an order on to the bench's agent; False when it is not attached."""
        session = self._sessions.at(bench)
        if session is None:
            return False
        session.link.send(order)
        return True

    def sessions(self) -> dict[str, Session]:
        """The attached agents, by name."""
        return self._sessions.all()

    def hang_up(self, agent: str, reason: str) -> None:
        """Ends the agent's stream, if it has one."""
        session = self._sessions.of(agent)
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
                remove_bench(ledger, bench, "its agent was revoked")
        ledger.effects.expelled.append(Expulsion(agent, reason))
        session = self._sessions.of(agent)
        if session is None or not self._sessions.forget(session):
            return None
        return session.link

    # Among several labds

    def moved(self, agents: frozenset[str]) -> None:
        """These agents are attached to other labds: what is left of their streams here is over."""
        for agent, session in self._sessions.all().items():
            if agent not in agents or not session.settled:
                continue
            with self._core.view() as unit:
                here = self._core.peers.has(unit, agent, session.key)
            if not here and self._sessions.forget(session):
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
                    bench: {name: asdict(reading) for name, reading in report.power.items()}
                    for bench, report in list(session.latest.items())
                },
            )
            for session in self._sessions.all().values()
        ]

    def catch_up(self) -> None:
        """Tells the other labds and the agents what they may have missed while this labd was cut off."""
        sessions = [session for session in self._sessions.all().values() if session.settled]
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
            orders = [(session, standing_order(ledger.unit, name)) for session in here for name in session.benches]
            standing = [
                (session, order)
                for session in here
                for name in session.benches
                for order in standing_on(ledger.unit, name)
            ]
        self.moved(frozenset(elsewhere))
        for session, order in orders:
            report = session.benches.get(order.bench)
            if report is not None and report.fenced_epoch < order.epoch:
                self._sessions.order(session, order, again=False)
                session.link.send(order)
        for session, told in standing:
            session.link.send(told)

    # Inside

    def _pass_on(self, effects: Effects) -> None:
        for order in effects.fences:
            session = self._sessions.at(order.bench)
            if session is not None:
                self._sessions.order(session, order)
                session.link.send(order)
        orders: list[ClearOrder | UnshareOrder | ExtendOrder] = [
            *effects.clears,
            *effects.unshares,
            *effects.extensions,
        ]
        for told in orders:
            session = self._sessions.at(told.bench)
            if session is not None:
                session.link.send(told)
        for agent in effects.hang_ups:
            self.hang_up(agent, f"agent {agent} was enrolled anew")
        for one in effects.expelled:
            session = self._sessions.of(one.agent)
            if session is not None and self._sessions.forget(session):
                session.link.close(one.reason, revoked=True)

    def _view(self, bench: Bench, lease: Lease | None) -> BenchView:
        attached = self._core.presence.attached(bench.name)
        session = self._sessions.of(bench.agent)
        last_seen, power = bench.last_seen, dict[str, PowerReading]()
        if session is not None and attached:
            last_seen, latest = session.last_seen, session.latest.get(bench.name)
            if latest is not None:
                bench, power = replace(bench, buses=latest.counted_buses), latest.power
        elif attached and (seen := self._core.presence.elsewhere(bench.agent)) is not None:
            last_seen = seen.last_seen
            power = {name: PowerReading(**reading) for name, reading in seen.power.get(bench.name, {}).items()}
        lease = lease if lease is not None and lease.state.held else None
        state = bench.state(attached, lease is not None)
        return BenchView(bench, bench.health(attached), state, lease, last_seen, power)
