from dataclasses import replace

import pytest

from labd.model.identity import ANONYMOUS
from labd.model.lease import LeaseEnd, LeaseState
from labd.services import sessions
from labd.services.attachment import Traffic
from labd.services.errors import Conflict, NotFound
from labd.services.lab import Lab
from labd.services.leasing import LeaseView
from labd.services.ledger import ClearOrder
from tests.unit.labd.fakes import FakeClock, FakeLink, attach, report


def _ask(lab: Lab, selector: str = "") -> LeaseView:
    return lab.leasing.create(ANONYMOUS, selector=selector, holder="ada", duration_s=600.0, ttl_s=30.0)


def _states(lab: Lab) -> dict[str, tuple[str, str]]:
    return {view.bench.name: (view.health.value, view.state.value) for view in lab.fleet.benches("")}


def test_a_bench_is_known_with_its_health_and_survives_its_agent(lab: Lab) -> None:
    session, _ = attach(lab, report("bench-1"), report("bench-2", healthy=False, reason="no interface can9"))
    assert _states(lab) == {"bench-1": ("healthy", "available"), "bench-2": ("unhealthy", "unavailable")}
    lab.hearing.detach(session, "the cable was pulled")
    assert _states(lab) == {"bench-1": ("offline", "unavailable"), "bench-2": ("offline", "unavailable")}
    with pytest.raises(NotFound, match="knows bench-1, bench-2"):
        lab.fleet.bench("bench-9")


def test_a_quarantined_bench_is_nobodys_until_its_agent_says_otherwise(lab: Lab) -> None:
    steps = [{"name": "power to the safe state", "elapsed_ms": 12, "fault": "the supply does not answer"}]
    shut = replace(
        report("bench-1", healthy=False, reason="the supply does not answer"), quarantined=True, last_clean_up=steps
    )
    session, link = attach(lab, shut, report("bench-2"))
    assert _states(lab)["bench-1"] == ("quarantined", "unavailable")
    assert lab.fleet.bench("bench-1").bench.last_clean_up == steps
    waiting = _ask(lab, "name=bench-1")
    assert waiting.lease.state is LeaseState.QUEUED
    assert "quarantined (the supply does not answer)" in (waiting.obstacle or "")
    with pytest.raises(Conflict, match="bench-2 is in no quarantine"):
        lab.fleet.clear_quarantine(ANONYMOUS, "bench-2")
    lab.fleet.clear_quarantine(ANONYMOUS, "bench-1")
    assert link.clears == [ClearOrder("bench-1", "anonymous")]
    assert _states(lab)["bench-1"] == ("quarantined", "unavailable")  # the agent has the word
    lab.hearing.report(session, report("bench-1"))
    assert lab.leasing.get(waiting.lease.id).lease.state is LeaseState.GRANTED


def test_the_quarantine_of_an_offline_bench_cannot_be_cleared(lab: Lab) -> None:
    session, _ = attach(lab, replace(report("bench-1", healthy=False), quarantined=True))
    lab.hearing.detach(session, "test")
    with pytest.raises(Conflict, match="agent-1 of bench bench-1 is offline"):
        lab.fleet.clear_quarantine(ANONYMOUS, "bench-1")


def test_a_live_lease_outlasts_the_loss_of_the_agent(lab: Lab) -> None:
    session, _ = attach(lab, report("bench-1"))
    lease = _ask(lab).lease
    lab.hearing.detach(session, "test")
    assert lab.leasing.heartbeat(ANONYMOUS, lease.id).lease.state is LeaseState.ACTIVE
    assert _states(lab)["bench-1"] == ("offline", "leased")


def test_a_fence_that_was_missed_is_ordered_again_when_the_agent_is_back(lab: Lab) -> None:
    session, _ = attach(lab, report("bench-1"))
    lease = _ask(lab).lease
    lab.hearing.detach(session, "test")
    lab.leasing.release(ANONYMOUS, lease.id)
    session, orders = lab.hearing.attach("agent-1", "x:1", [report("bench-1")], FakeLink())
    assert [(order.bench, order.epoch) for order in orders] == [("bench-1", 1)]
    assert _states(lab)["bench-1"][1] == "recovering"
    lab.hearing.fenced(session, "bench-1", 1)
    assert _states(lab)["bench-1"][1] == "available"


def test_an_agent_that_lost_its_memory_is_fenced_again_before_anybody_gets_the_bench(lab: Lab) -> None:
    session, _ = attach(lab, report("bench-1"))
    lab.leasing.release(ANONYMOUS, _ask(lab).lease.id)
    lab.hearing.fenced(session, "bench-1", 1)
    assert _states(lab)["bench-1"][1] == "available"
    session, orders = lab.hearing.attach("agent-1", "x:1", [report("bench-1", fenced=0)], FakeLink())
    assert _ask(lab).lease.state is LeaseState.QUEUED
    assert [order.epoch for order in orders] == [1]
    lab.hearing.fenced(session, "bench-1", 1)
    assert lab.fleet.bench("bench-1").bench.epoch == 2


def test_a_labd_that_lost_its_memory_goes_on_above_the_agents_epochs(lab: Lab) -> None:
    attach(lab, report("bench-1", fenced=41))
    assert _ask(lab).lease.epoch == 43, "somebody may hold 42 by the memory that was lost"


def test_a_lease_that_the_agent_refuses_ends(lab: Lab) -> None:
    session, _ = attach(lab, report("bench-1"))
    lease = _ask(lab).lease
    lab.hearing.report(session, report("bench-1", fenced=7))
    assert lab.leasing.get(lease.id).lease.end_reason is LeaseEnd.CANCELLED
    assert _ask(lab).lease.epoch == 8


def test_the_newest_stream_of_an_agent_wins(lab: Lab) -> None:
    old, old_link = attach(lab, report("bench-1"))
    _, new_link = attach(lab, report("bench-1"))
    assert old_link.closed is not None
    lab.hearing.report(old, report("bench-1", healthy=False))
    lab.hearing.detach(old, "late news")
    assert _states(lab)["bench-1"] == ("healthy", "available")
    lab.leasing.release(ANONYMOUS, _ask(lab).lease.id)
    assert (len(old_link.orders), len(new_link.orders)) == (0, 1)


def test_a_bench_that_its_agent_reports_no_more_is_gone_and_its_lease_with_it(lab: Lab) -> None:
    attach(lab, report("bench-1"), report("bench-2"))
    lease = _ask(lab, "name=bench-2").lease
    attach(lab, report("bench-1"))
    assert list(_states(lab)) == ["bench-1"]
    assert lab.leasing.get(lease.id).lease.end_reason is LeaseEnd.BENCH_REMOVED
    attach(lab, report("bench-1"), report("bench-2", fenced=1))
    assert _ask(lab, "name=bench-2").lease.epoch == 2


def test_a_bench_does_not_move_to_another_agent_while_the_first_could_still_act(lab: Lab, clock: FakeClock) -> None:
    first, _ = attach(lab, report("bench-1"), agent="one")
    attach(lab, report("bench-1"), agent="two")
    assert lab.fleet.bench("bench-1").bench.agent == "one"
    lease = _ask(lab).lease
    lab.hearing.detach(first, "test")
    lab.leasing.release(ANONYMOUS, lease.id)
    attach(lab, report("bench-1"), agent="two")
    assert lab.fleet.bench("bench-1").bench.agent == "one", "its former holder's token is still good at agent one"
    clock.advance(600.0 + 61.0)
    attach(lab, report("bench-1"), agent="two")
    assert lab.fleet.bench("bench-1").bench.agent == "two"
    assert _ask(lab).lease.epoch == 2


def test_labels_can_change_and_waiters_follow(lab: Lab) -> None:
    session, _ = attach(lab, report("bench-1", {"platform": "meb"}), report("bench-2", {"platform": "mqb"}))
    _ask(lab, "platform=mqb")
    waiter = _ask(lab, "platform=mqb")
    lab.hearing.report(session, report("bench-1", {"platform": "mqb"}))
    assert lab.leasing.get(waiter.lease.id).lease.bench == "bench-1"


def test_a_fence_that_is_not_confirmed_is_ordered_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    session, link = attach(lab, report("bench-1"))
    lab.leasing.release(ANONYMOUS, _ask(lab).lease.id)
    lab.fleet.repeat_orders(session)
    assert [order.epoch for order in link.orders] == [1], "not before its time"
    monkeypatch.setattr(sessions, "FENCE_REPEAT_S", -1.0)
    lab.fleet.repeat_orders(session)
    assert [order.epoch for order in link.orders] == [1, 1]
    lab.hearing.fenced(session, "bench-1", 1)
    lab.fleet.repeat_orders(session)
    assert len(link.orders) == 2


def test_a_fence_of_the_welcome_is_ordered_again_too(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    attach(lab, report("bench-1"))
    lab.leasing.release(ANONYMOUS, _ask(lab).lease.id)
    link = FakeLink()
    session, _ = lab.hearing.attach("agent-1", "x:1", [report("bench-1")], link)
    monkeypatch.setattr(sessions, "FENCE_REPEAT_S", -1.0)
    lab.fleet.repeat_orders(session)
    assert [(order.bench, order.epoch) for order in link.orders] == [("bench-1", 1)]


def test_the_first_call_that_an_agent_has_accepted_makes_the_lease_active(lab: Lab) -> None:
    session, _ = attach(lab, report("bench-1"))
    lease = _ask(lab).lease
    assert lease.state is LeaseState.GRANTED
    lab.hearing.report(session, replace(report("bench-1"), active_epoch=(lease.epoch or 0) - 1))  # of the former holder
    assert lab.leasing.get(lease.id).lease.state is LeaseState.GRANTED
    lab.hearing.report(session, replace(report("bench-1"), active_epoch=lease.epoch or 0))
    assert lab.leasing.get(lease.id).lease.state is LeaseState.ACTIVE


def test_labd_knows_since_when_a_bench_is_not_used(lab: Lab, clock: FakeClock) -> None:
    session, _ = attach(lab, report("bench-1"))
    assert lab.fleet.traffic("bench-1") is None
    lab.hearing.report(session, replace(report("bench-1"), active_epoch=3, idle_s=20.0))
    clock.advance(100)
    assert lab.fleet.traffic("bench-1") == Traffic(3, clock.now() - 120)
    lab.hearing.fenced(session, "bench-1", 3)  # is no traffic
    assert lab.fleet.traffic("bench-1") == Traffic(3, clock.now() - 120)
    lab.hearing.report(session, replace(report("bench-1", fenced=3), active_epoch=4, idle_s=0.0))
    assert lab.fleet.traffic("bench-1") == Traffic(4, clock.now())
    lab.hearing.detach(session, "test")
    assert lab.fleet.traffic("bench-1") is None
