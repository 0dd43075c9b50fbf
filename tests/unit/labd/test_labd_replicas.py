"""Two labds on one database: what one is told has to be done by the other."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from labd.executors.base import Alive
from labd.executors.bench import RunnerReport, StartOrder, StopOrder
from labd.model.agent import Agent
from labd.model.identity import ANONYMOUS
from labd.model.lease import LeaseState
from labd.model.run import ExecutorName, Run, RunState
from labd.services import replicas
from labd.services.attachment import PowerReading
from labd.services.errors import Conflict
from labd.services.lab import Lab
from labd.services.leasing import LeaseView
from labd.services.ledger import ClearOrder
from labd.services.limits import RunLimits
from labd.services.peers import KeyDiffers
from tests.postgresql import PostgresServer
from tests.unit.labd.fakes import RESULT, FakeClock, FakeExecutor, FakeLink, attach, open_lab, report

DEADLINE_S = 30.0


@pytest.fixture
def url(postgresql: PostgresServer) -> str:
    return postgresql.fresh_labd_database()


@pytest.fixture
def executors() -> tuple[FakeExecutor, FakeExecutor]:
    return FakeExecutor(), FakeExecutor()


@pytest.fixture
def labs(
    tmp_path: Path, url: str, clock: FakeClock, executors: tuple[FakeExecutor, FakeExecutor]
) -> Iterator[tuple[Lab, Lab]]:
    one, two = (
        open_lab(tmp_path, clock, executor, database=url, replica=name)
        for name, executor in zip(("one", "two"), executors, strict=True)
    )
    one.start()
    two.start()
    yield one, two
    for lab in (one, two):
        lab.stop()
        lab.core.store.close()


def until(look: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not look():
        assert time.monotonic() < end
        time.sleep(0.01)


def _ask(lab: Lab) -> LeaseView:
    return lab.leasing.create(ANONYMOUS, selector="", holder="ada", duration_s=600.0, ttl_s=30.0)


def _submit(lab: Lab, executor: ExecutorName) -> Run:
    asked = lab.running.create(
        ANONYMOUS,
        script="return 1",
        name="x.lua",
        files={},
        selector="",
        holder="ci",
        timeout_s=60.0,
        executor=executor,
    )
    return asked.run


def _known(lab: Lab, bench: str = "bench-1") -> bool:
    return lab.core.presence.attached(bench)


def test_a_waiter_of_one_is_served_when_an_agent_attaches_to_the_other(labs: tuple[Lab, Lab]) -> None:
    one, two = labs
    _, link = attach(one, report("bench-1"))
    until(lambda: _known(two))
    held = _ask(two)
    waiting = _ask(two)
    assert (held.lease.state, waiting.lease.state) == (LeaseState.GRANTED, LeaseState.QUEUED)
    two.leasing.release(ANONYMOUS, held.lease.id)
    until(lambda: [(order.bench, order.epoch) for order in link.orders] == [("bench-1", 1)])
    attach(two, report("bench-2"), agent="agent-2")
    assert two.leasing.get(waiting.lease.id).lease.state is LeaseState.GRANTED


def test_an_agent_that_attaches_to_another_labd_is_heard_there_only(labs: tuple[Lab, Lab]) -> None:
    one, two = labs
    former, link = attach(one, report("bench-1"))
    until(lambda: _known(two))
    session, _ = attach(two, report("bench-1"))
    one.hearing.report(former, report("bench-1", healthy=False, reason="old news"))
    until(lambda: link.closed)
    assert link.closed == "agent agent-1 attached to another labd"
    one.hearing.detach(former, "the stream broke")
    assert one.fleet.bench("bench-1").health == two.fleet.bench("bench-1").health == "healthy"
    two.hearing.detach(session, "test")
    until(lambda: not _known(one))


def test_a_quarantine_is_ended_through_the_other_labd(labs: tuple[Lab, Lab]) -> None:
    one, two = labs
    bench = report("bench-1", healthy=False, reason="stuck")
    object.__setattr__(bench, "quarantined", True)
    session, link = attach(one, bench)
    until(lambda: _known(two))
    two.fleet.clear_quarantine(ANONYMOUS, "bench-1", "seen to")
    until(lambda: link.clears == [ClearOrder("bench-1", "anonymous")])
    one.hearing.detach(session, "test")
    until(lambda: not _known(two))
    with pytest.raises(Conflict, match="offline"):
        two.fleet.clear_quarantine(ANONYMOUS, "bench-1", "seen to")


def test_an_agent_is_revoked_through_the_other_labd(labs: tuple[Lab, Lab]) -> None:
    one, two = labs
    _, link = attach(one, report("bench-1"))
    with one.core.transaction() as ledger:
        ledger.unit.save_agent(Agent("agent-1"))
    two.enrolment.revoke(ANONYMOUS, "agent-1", "stolen")
    until(lambda: link.closed)
    assert link.revoked


def test_a_run_beside_a_labd_is_started_and_ended_by_that_one(
    labs: tuple[Lab, Lab], executors: tuple[FakeExecutor, FakeExecutor]
) -> None:
    one, two = labs
    attach(one, report("bench-1"))
    until(lambda: _known(two))
    run = _submit(two, ExecutorName.PROCESS)
    until(lambda: executors[1].runners)
    one.running.cancel(ANONYMOUS, run.id)
    until(lambda: not isinstance(executors[1].status(run.id), Alive))
    assert executors[0].jobs == []


def test_a_run_at_a_bench_goes_on_when_its_agent_attaches_to_another_labd(labs: tuple[Lab, Lab]) -> None:
    one, two = labs
    attach(one, report("bench-1"))
    until(lambda: _known(two))
    run = _submit(two, ExecutorName.BENCH)
    session, link = attach(one, report("bench-1"))
    until(lambda: any(isinstance(order, StartOrder) for order in link.runner_orders))
    one.hearing.runner_changed(session, RunnerReport(run.id, True, ""))
    moved = FakeLink()
    again, _ = two.hearing.attach(
        "agent-1", "a:1", [report("bench-1", fenced=0)], moved, [RunnerReport(run.id, True, "")]
    )
    until(lambda: link.closed)
    assert moved.runner_orders == [], "it is not started again, nor ended"
    assert one.running.get(run.id).run.state is RunState.RUNNING
    one.running.cancel(ANONYMOUS, run.id)
    until(lambda: StopOrder(run.id) in moved.runner_orders)
    two.hearing.runner_changed(again, RunnerReport(run.id, False, "stopped"))


def test_what_an_agent_measures_is_seen_through_the_other_labd(
    labs: tuple[Lab, Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "SHOW_S", 0.1)
    one, two = labs
    session, _ = attach(one, report("bench-1"))
    until(lambda: _known(two))
    measured = {"main": PowerReading(True, 12.1, 0.4, session.last_seen)}
    one.hearing.report(session, replace(report("bench-1"), power=measured))
    until(lambda: two.fleet.bench("bench-1").power == measured)
    assert two.fleet.bench("bench-1").last_seen == session.last_seen
    (agent,) = two.enrolment.agents()
    assert (agent.name, agent.address, agent.last_seen) == ("agent-1", "agent-1.test:8472", session.last_seen)


def test_who_follows_a_run_at_one_labd_hears_what_the_other_is_told(labs: tuple[Lab, Lab]) -> None:
    one, two = labs
    attach(one, report("bench-1"))
    run = _submit(one, ExecutorName.PROCESS)
    heard: list[None] = []
    with two.core.changes.listen(run.id, lambda: heard.append(None)):
        one.reporting.put_result(run.id, RESULT, "<testsuites/>")
        until(lambda: heard)


def test_what_a_labd_that_is_gone_had_is_cleared_up(
    tmp_path: Path, url: str, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = RunLimits(ttl_s=3.0)
    gone = open_lab(tmp_path, clock, FakeExecutor(), limits=limits, database=url, replica="gone")
    gone.start()
    attach(gone, report("bench-1"))
    run = _submit(gone, ExecutorName.PROCESS)
    lab = open_lab(tmp_path, clock, FakeExecutor(), limits=limits, database=url, replica="here")
    lab.start()
    until(lambda: _known(lab))
    assert gone.replicas is not None
    monkeypatch.setattr(gone.replicas._database.engine, "connect", lambda: 1 / 0)  # cut off
    monkeypatch.setattr(gone.replicas, "_beat", lambda line: 1 / 0)
    until(lambda: not _known(lab))
    assert lab.replicas is not None
    assert lab.replicas.leads
    # Its runner reports to the other one now; the run goes on for as long as it does.
    for _ in range(2):
        clock.advance(2.0)
        lab.leasing.heartbeat(ANONYMOUS, run.lease_id)
    assert lab.running.get(run.id).run.state is RunState.RUNNING

    def lost() -> bool:
        clock.advance(0.05)  # in steps: a lab that stood still would wait for everybody's next heartbeat
        return lab.running.get(run.id).run.state is RunState.ERROR

    until(lost)
    reason = "its runner sent no heartbeat any more: it ran beside labd gone"
    assert lab.running.get(run.id).run.reason == reason
    gone.replicas._stopping.set()
    gone.conductor.stop()
    gone.core.store.close()
    lab.stop()
    lab.core.store.close()


def test_a_labd_with_another_key_does_not_join(tmp_path: Path, labs: tuple[Lab, Lab], url: str) -> None:
    other = open_lab(tmp_path / "other", FakeClock(), database=url, replica="three")
    with pytest.raises(KeyDiffers, match="the same --keys directory"):
        other.start()
    other.core.store.close()


def test_a_labd_that_joins_takes_the_time_of_the_others(
    tmp_path: Path, labs: tuple[Lab, Lab], url: str, clock: FakeClock
) -> None:
    clock.advance(3600.0)

    def told() -> bool:
        with psycopg.connect(url) as connection:
            return connection.execute("SELECT alive_at FROM lab").fetchone() == (clock.now(),)

    until(told)
    late = FakeClock()
    joined = open_lab(tmp_path, late, database=url, replica="three")
    joined.start()
    assert 0 <= late.now() - clock.now() < DEADLINE_S
    joined.stop()
    joined.core.store.close()


def test_a_labd_whose_machine_was_halted_takes_the_time_of_the_others(
    tmp_path: Path, labs: tuple[Lab, Lab], url: str, clock: FakeClock
) -> None:
    halted = FakeClock()
    joined = open_lab(tmp_path, halted, database=url, replica="three")
    joined.start()
    clock.advance(30.0)
    until(lambda: halted.now() >= clock.now() - 1.0)
    joined.stop()
    joined.core.store.close()
