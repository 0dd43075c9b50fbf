"""What many agents say together becomes durable together, each in its order, and nobody suffers for another."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from labd.model.identity import ANONYMOUS
from labd.model.lease import LeaseState
from labd.services import hearing
from labd.services.attachment import Fenced, Gone, Hello, Reported, Said, Session
from labd.services.lab import Lab
from labd.services.leasing import LeaseView
from labd.services.ledger import Ledger
from labd.store.errors import DatabaseUnwritable
from labd.store.unit import Unit
from tests.unit.labd.fakes import FakeLink, attach, report


def _ask(lab: Lab, selector: str = "") -> LeaseView:
    return lab.leasing.create(ANONYMOUS, selector=selector, holder="ada", duration_s=600.0, ttl_s=30.0)


def _agents(lab: Lab, count: int) -> list[Session]:
    return [attach(lab, report(f"bench-{number}"), agent=f"agent-{number}")[0] for number in range(count)]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is: what came together stays together."""
    monkeypatch.setattr(hearing, "LONGEST_S", 60.0)


@pytest.fixture
def writes(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by one with each transaction."""
    done, write = list[str](), lab.core.store.write

    @contextmanager
    def counted() -> Iterator[Unit]:
        done.append("write")
        with write() as unit:
            yield unit

    monkeypatch.setattr(lab.core.store, "write", counted)
    return done


def test_agents_that_come_together_are_attached_by_one_transaction(lab: Lab, writes: list[str]) -> None:
    waiting = [Hello(lab.hearing.session(f"agent-{n}", "x:1", FakeLink()), [report(f"bench-{n}")]) for n in range(5)]
    assert lab.hearing.hear(waiting) == [None] * 5
    assert len(writes) == 1
    assert len(lab.fleet.benches("")) == 5
    assert _ask(lab).lease.state is LeaseState.GRANTED


def test_confirmations_that_come_together_are_one_transaction(lab: Lab, writes: list[str]) -> None:
    sessions = _agents(lab, 3)
    leases = [_ask(lab, f"name=bench-{number}").lease for number in range(3)]
    for lease in leases:
        lab.leasing.release(ANONYMOUS, lease.id)
    writes.clear()
    said: list[Said] = [Fenced(session, f"bench-{number}", 1) for number, session in enumerate(sessions)]
    # The report that follows the confirmation says the same.
    said += [Reported(session, report(f"bench-{number}", fenced=1)) for number, session in enumerate(sessions)]
    assert lab.hearing.hear(said) == [None] * 6
    assert len(writes) <= 2
    assert {lab.leasing.get(lease.id).lease.state for lease in leases} == {LeaseState.ENDED}


def test_signs_of_life_and_counters_are_shown_and_cost_no_transaction(lab: Lab, writes: list[str]) -> None:
    (session,) = _agents(lab, 1)
    writes.clear()
    lost = replace(report("bench-0"), counters={"powertrain": {"lost": 7, "error_frames": 2}})
    for _ in range(3):
        lab.hearing.report(session, lost)
    assert writes == []
    assert lab.fleet.bench("bench-0").bench.buses[0]["lost"] == 7
    lab.hearing.detach(session, "test")
    assert lab.fleet.bench("bench-0").bench.buses[0]["lost"] == 7, "the last is kept"


def test_who_waits_is_served_when_a_bench_comes_free_or_fit(lab: Lab) -> None:
    session, _ = attach(lab, report("bench-1", healthy=False, reason="no interface"), agent="one")
    waiting = _ask(lab).lease
    assert waiting.state is LeaseState.QUEUED
    lab.hearing.report(session, report("bench-1", healthy=False, reason="another reason"))
    assert lab.leasing.get(waiting.id).lease.state is LeaseState.QUEUED
    lab.hearing.report(session, report("bench-1"))
    assert lab.leasing.get(waiting.id).lease.state is LeaseState.GRANTED


def test_what_fails_for_one_agent_fails_for_nobody_else(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = _agents(lab, 3)
    bench_fenced: Callable[[Ledger, str, int], None] = Ledger.bench_fenced

    def fails(ledger: Ledger, bench: str, epoch: int) -> None:
        if bench == "bench-1":
            raise LookupError("a mistake in the rules")
        bench_fenced(ledger, bench, epoch)

    monkeypatch.setattr(Ledger, "bench_fenced", fails)
    said = [Reported(session, report(f"bench-{n}", {"rack": "a"})) for n, session in enumerate(sessions)]
    first, second, third = lab.hearing.hear(said)
    assert (first, third) == (None, None)
    assert isinstance(second, LookupError)
    racks = {view.bench.name: view.bench.labels.get("rack") for view in lab.fleet.benches("")}
    assert racks == {"bench-0": "a", "bench-1": None, "bench-2": "a"}
    monkeypatch.undo()
    lab.hearing.report(sessions[1], report("bench-1", {"rack": "a"}))  # is still news
    assert lab.fleet.bench("bench-1").bench.labels == {"rack": "a"}


def test_without_a_database_who_leaves_has_left_and_the_rest_is_still_news(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = _agents(lab, 3)

    def refuse() -> None:
        raise DatabaseUnwritable("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(lab.core.store, "write", refuse)
        new = lab.hearing.session("agent-9", "x:1", FakeLink())
        said: list[Said] = [
            Reported(sessions[0], report("bench-0", {"rack": "a"})),
            Gone(sessions[1], "test"),
            Hello(new, [report("bench-9")]),
            Reported(sessions[2], report("bench-2", {"rack": "a"})),
        ]
        assert [type(error) for error in lab.hearing.hear(said)] == [DatabaseUnwritable] * 4
        assert set(lab.fleet.sessions()) == {"agent-0", "agent-2"}
    assert lab.hearing.hear([said[0], said[3]]) == [None, None]
    assert {view.bench.labels.get("rack") for view in lab.fleet.benches("name!=bench-1")} == {"a"}
