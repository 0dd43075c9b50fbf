"""What agents say, taken in: as much as has come together in one transaction.

A report that says nothing new is a sign of life and costs no transaction. What is new is durable before `hear` returns.
"""

import time
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

import structlog

from labd.executors.bench import BenchExecutor, RunnerReport
from labd.model.run import ExecutorName, RunState
from labd.services.attachment import (
    AgentLink,
    BenchReport,
    Fenced,
    Gone,
    Hello,
    Reported,
    RunnerChanged,
    Said,
    Session,
    Traffic,
)
from labd.services.core import Core
from labd.services.ledger import ExtendOrder, FenceOrder, Ledger, UnshareOrder
from labd.services.reported_benches import remove_bench, standing_on, standing_order, take_report
from labd.services.sessions import Sessions
from labd.store.errors import StoreError
from labd.store.unit import Unit

USE_STORED_S = 60.0
"""How often labd stores that a lease of a person's is in use."""
IDLE_FROM_S = 5.0
"""Without traffic for this long, it is idle."""
LONGEST_S = 0.025
"""One transaction takes in no more once it has lasted this long: others want to write, too."""

_log = structlog.get_logger()


class Hearing:
    """The use cases of agents. Called by one thread at a time, so that each agent's word is taken in its order."""

    def __init__(self, core: Core, sessions: Sessions, at_bench: BenchExecutor) -> None:
        self._core = core
        self._sessions = sessions
        self._at_bench = at_bench

    def hear(self, said: Iterable[Said]) -> list[Exception | None]:
        """Takes it all in, in this order; returns for each piece what went wrong with it."""
        outcomes: list[Exception | None] = []
        rest = deque(said)
        while rest:
            if self._is_news(rest[0]):
                outcomes += self._take_in(rest)
            else:
                self._note(rest.popleft())
                outcomes.append(None)
        return outcomes

    def attach(
        self,
        agent: str,
        address: str,
        reports: Sequence[BenchReport],
        link: AgentLink,
        runners: Collection[RunnerReport] = (),
    ) -> tuple[Session, list[FenceOrder]]:
        """Takes the agent's benches in; returns what is no longer live on each. A former stream of it is ended.

        ``runners`` are all that the agent knows of.
        """
        session = self.session(agent, address, link)
        self._hear_one(Hello(session, reports, runners))
        return session, session.welcome

    def report(self, session: Session, report: BenchReport) -> None:
        """Takes in how a bench stands now."""
        self._hear_one(Reported(session, report))

    def fenced(self, session: Session, bench: str, epoch: int) -> None:
        """The agent has ended all that ran under this or a lower epoch."""
        self._hear_one(Fenced(session, bench, epoch))

    def runner_changed(self, session: Session, report: RunnerReport) -> None:
        """Something has become of a runner at one of the agent's benches."""
        self._hear_one(RunnerChanged(session, report))

    def detach(self, session: Session, reason: str) -> None:
        """The agent's stream is gone. Its live leases go on: the agent serves them until they expire."""
        self._hear_one(Gone(session, reason))

    def session(self, agent: str, address: str, link: AgentLink) -> Session:
        """For an agent that is about to attach."""
        return Session(agent, address, link, self._core.clock.now())

    # Inside

    def _hear_one(self, said: Said) -> None:
        for error in self.hear((said,)):
            if error is not None:
                raise error

    def _take_in(self, rest: deque[Said], *, alone: bool = False) -> list[Exception | None]:
        """Takes in what comes first as one transaction. When that fails for one agent's sake, each is tried alone;
        when the database takes nothing, all fails.
        """
        done = _Done()
        done.begin(rest.popleft())
        try:
            with self._core.transaction() as ledger:
                until = time.monotonic() + LONGEST_S
                self._say(ledger, done, alone=alone)
                while rest and not isinstance(rest[0], RunnerChanged) and time.monotonic() < until:
                    done.begin(rest.popleft())
                    self._say(ledger, done)
                if done.frees:
                    ledger.schedule()
        except StoreError as error:
            self._undo(done)
            failed = [*done.said, *rest]
            rest.clear()
            for one in failed:
                if isinstance(one, Gone):
                    self._sessions.forget(one.session)
            return [error] * len(failed)
        except Exception as error:
            self._undo(done)
            if len(done.said) == 1:
                return [error]
            return [outcome for one in done.said for outcome in self._take_in(deque((one,)), alone=True)]
        for one in done.said:
            self._follow_up(one, done)
        return [None] * len(done.said)

    def _say(self, ledger: Ledger, done: "_Done", *, alone: bool = False) -> None:
        said = done.said[-1]
        self._note(said)
        if self._is_news(said) or (alone and isinstance(said, Gone)):
            done.frees |= self._apply(ledger, said, done)

    def _note(self, said: Said) -> None:
        """What is kept in memory only."""
        now = self._core.clock.now()
        match said:
            case Reported(session, report) if self._sessions.touch(session, now):
                session.latest[report.name] = report
                _note_traffic(session, report, now)
            case Fenced(session, bench, _):
                self._sessions.touch(session, now)
                if bench not in session.benches:
                    _log.warning("fence confirmed for a bench of another agent", agent=session.agent, bench=bench)
            case RunnerChanged(session, runner) if self._sessions.touch(session, now):
                for order in self._at_bench.report(session.benches, runner):
                    session.link.send(order)

    def _is_news(self, said: Said) -> bool:
        session = said.session
        if isinstance(said, Hello):
            return True
        if self._sessions.of(session.agent) is not session:
            return False  # overtaken by a newer stream of the same agent
        match said:
            case Reported(_, report):
                return session.benches.get(report.name) != report or _use_to_store(session, report) is not None
            case Fenced(_, bench, epoch):
                return bench in session.benches and session.benches[bench].fenced_epoch < epoch
            case Gone():
                return True
        return False

    def _apply(self, ledger: Ledger, said: Said, done: "_Done") -> bool:
        """Whether somebody may be served now who could not be before."""
        match said:
            case Hello():
                self._attach(ledger, said, done)
                return True
            case Gone(session, reason):
                self._detach(ledger, session, reason)
                return True
            case Reported(session, report):
                freed = self._accept(ledger, session, report)
                _store_use(ledger, session, report)
                return freed
            case Fenced(session, bench, epoch):
                return self._accept(ledger, session, replace(session.benches[bench], fenced_epoch=epoch))
        return False

    def _follow_up(self, said: Said, done: "_Done") -> None:
        """What is done once all is durable."""
        match said:
            case Hello(session, _, runners):
                session.settled = True
                for order in session.welcome:
                    if session.benches[order.bench].fenced_epoch < order.epoch:
                        self._sessions.order(session, order, again=False)
                former = done.overtaken.get(session)
                if former is not None:
                    former.link.close(f"agent {session.agent} attached anew")
                for told in (*done.standing[session], *self._at_bench.attached(session.benches, runners)):
                    session.link.send(told)
                benches = sorted(session.benches)
                _log.info("agent attached", agent=session.agent, address=session.address, benches=benches)
            case Reported(session, report):
                self._sessions.confirmed(session, report.name, report.fenced_epoch)
            case Fenced(session, bench, epoch):
                self._sessions.confirmed(session, bench, epoch)

    def _undo(self, done: "_Done") -> None:
        for session, benches in done.before.items():
            session.benches = benches
        for said in done.said:
            if isinstance(said, Hello):
                self._sessions.forget(said.session)

    def _attach(self, ledger: Ledger, hello: Hello, done: "_Done") -> None:
        session, unit = hello.session, ledger.unit
        for report in hello.reports:
            session.latest[report.name] = report
            _note_traffic(session, report, ledger.now)
            take_report(ledger, session, report, attaching=True)
        for bench in unit.benches_of(session.agent):
            if bench.name not in session.benches and not bench.removed:
                remove_bench(ledger, bench, "its agent does not report it any more")
        # Before the agent counts as attached here: the conductor would start what runs there already.
        self._at_bench.adopt(self._running_at(unit, session.benches))
        former = self._sessions.put(session)
        if former is not None:
            done.overtaken[session] = former
        self._core.peers.attach(unit, session.agent, session.key, session.last_seen)
        ledger.effects.attachments = True
        session.welcome = [order for name in session.benches if (order := standing_order(unit, name)).epoch > 0]
        done.standing[session] = [order for name in session.benches for order in standing_on(unit, name)]

    def _detach(self, ledger: Ledger, session: Session, reason: str) -> None:
        self._sessions.forget(session)
        _log.warning("agent detached", agent=session.agent, reason=reason)
        self._core.peers.detach(ledger.unit, session.agent, session.key)
        ledger.effects.attachments = True
        ledger.effects.is_due(ledger.now)  # a lease that has ended waits for an agent only while one is there
        for name, report in session.latest.items():
            bench = ledger.unit.bench(name)
            if bench is not None and name in session.benches:
                ledger.unit.save_bench(replace(bench, last_seen=session.last_seen, buses=report.counted_buses))

    def _accept(self, ledger: Ledger, session: Session, report: BenchReport) -> bool:
        if session.benches.get(report.name) == report:
            return False
        if not self._core.peers.has(ledger.unit, session.agent, session.key):
            return False  # overtaken by a stream to another labd
        new = report.name not in session.benches
        freed = take_report(ledger, session, report, attaching=False)
        if new:
            self._sessions.put(session)
        return freed

    def _running_at(self, unit: Unit, benches: Collection[str]) -> dict[str, str]:
        """The RUNNING runs whose processes are at these benches; those of other labds' are not known here yet."""
        runs = unit.runs_in(RunState.RUNNING) if self._core.peers.replica is not None else []
        leases = {run.id: unit.lease(run.lease_id) for run in runs if run.executor is ExecutorName.BENCH}
        return {
            run_id: lease.benches[0].bench
            for run_id, lease in leases.items()
            if lease is not None and lease.benches and lease.benches[0].bench in benches
        }


@dataclass(slots=True)
class _Done:
    """What one transaction has taken in."""

    said: list[Said] = field(default_factory=list)
    before: dict[Session, dict[str, BenchReport]] = field(default_factory=dict)
    """The benches of each session, before."""
    overtaken: dict[Session, Session] = field(default_factory=dict)
    """The former stream of an agent that has attached anew."""
    standing: dict[Session, list[UnshareOrder | ExtendOrder]] = field(default_factory=dict)
    frees: bool = False
    """Somebody may be served who could not be before."""

    def begin(self, said: Said) -> None:
        """This comes next."""
        self.said.append(said)
        self.before.setdefault(said.session, dict(said.session.benches))


def _note_traffic(session: Session, report: BenchReport, now: float) -> None:
    if report.active_epoch > 0:
        session.traffic[report.name] = Traffic(report.active_epoch, now - report.idle_s)


def _use_to_store(session: Session, report: BenchReport) -> Traffic | None:
    """What is to be stored of the use of a lease: now and then while it lasts, at once when it stops."""
    traffic = session.traffic.get(report.name)
    if traffic is None or report.name not in session.stored:
        return traffic
    stored, busy_s = session.stored[report.name]
    later_s = traffic.last_at - stored.last_at
    known = stored.epoch == traffic.epoch and later_s < (busy_s if report.idle_s < IDLE_FROM_S else 1.0)
    return None if known else traffic


def _store_use(ledger: Ledger, session: Session, report: BenchReport) -> None:
    traffic = _use_to_store(session, report)
    if traffic is None:
        return
    # Often enough that nobody is told that a lease ends which is in use.
    policy = ledger.policy
    busy_s = min(USE_STORED_S, (policy.idle_release_s - policy.idle_notice_s) / 4)
    session.stored[report.name] = traffic, busy_s
    lease = ledger.unit.live_on(report.name)
    part = lease.on(report.name) if lease is not None and lease.held and lease.state.held else None
    if lease is not None and part is not None and part.epoch == traffic.epoch:
        ledger.note_use(lease, traffic.last_at)
