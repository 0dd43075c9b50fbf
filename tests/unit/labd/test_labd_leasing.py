import pytest

from labd.model.filters import Filter
from labd.model.identity import ANONYMOUS
from labd.model.lease import LeaseEnd, LeaseState, Wanted
from labd.services.errors import Conflict, Invalid, NotFound
from labd.services.lab import Lab
from labd.services.leasing import LeaseView
from tests.unit.labd.fakes import FakeClock, attach, report, settle


def _ask(
    lab: Lab, selector: str = "", *, priority: str = "normal", ttl_s: float = 30.0, duration_s: float = 600.0
) -> LeaseView:
    return lab.leasing.create(
        ANONYMOUS, selector=selector, holder="ada", duration_s=duration_s, ttl_s=ttl_s, priority=priority
    )


def test_a_free_bench_is_granted_in_the_answer_with_its_token(lab: Lab) -> None:
    attach(lab, report("bench-1"))
    view = _ask(lab)
    assert view.lease.state is LeaseState.GRANTED
    assert (view.lease.bench, view.lease.epoch, view.address) == ("bench-1", 1, "agent-1.test:8472")
    assert view.token == lab.leasing.get(view.lease.id).token


def test_waiters_are_served_by_priority_then_arrival_once_the_former_lease_is_fenced(lab: Lab) -> None:
    session, link = attach(lab, report("bench-1"))
    holder, first, urgent = _ask(lab), _ask(lab), _ask(lab, priority="high")
    assert (lab.leasing.get(urgent.lease.id).position, lab.leasing.get(first.lease.id).position) == (1, 2)
    lab.leasing.release(ANONYMOUS, holder.lease.id)
    assert [(order.bench, order.epoch, order.reason) for order in link.orders] == [("bench-1", 1, "released")]
    assert lab.fleet.bench("bench-1").state == "recovering"
    assert lab.leasing.get(urgent.lease.id).lease.state is LeaseState.QUEUED
    lab.hearing.fenced(session, "bench-1", 1)
    assert lab.leasing.get(urgent.lease.id).lease.epoch == 2
    assert lab.leasing.get(first.lease.id).position == 1


def test_a_holder_that_falls_silent_loses_the_bench_after_its_ttl(lab: Lab, clock: FakeClock) -> None:
    attach(lab, report("bench-1"))
    lease = _ask(lab, ttl_s=10.0).lease
    clock.advance(9.0)
    lab.leasing.heartbeat(ANONYMOUS, lease.id)
    clock.advance(9.0)
    settle(lab)
    assert lab.leasing.get(lease.id).lease.state is LeaseState.ACTIVE
    clock.advance(1.0)
    settle(lab)
    assert lab.leasing.get(lease.id).lease.end_reason is LeaseEnd.HEARTBEAT_LOST
    with pytest.raises(Conflict, match="has ended: heartbeat_lost"):
        lab.leasing.heartbeat(ANONYMOUS, lease.id)


def test_a_heartbeat_that_comes_too_late_does_not_revive_the_lease(lab: Lab, clock: FakeClock) -> None:
    attach(lab, report("bench-1"))
    lease = _ask(lab, ttl_s=10.0).lease
    clock.advance(11.0)  # the conductor has not noticed yet
    with pytest.raises(Conflict):
        lab.leasing.heartbeat(ANONYMOUS, lease.id)
    assert lab.leasing.get(lease.id).lease.state is LeaseState.ENDING


def test_heartbeats_do_not_prolong_the_hard_end(lab: Lab, clock: FakeClock) -> None:
    attach(lab, report("bench-1"))
    lease = _ask(lab, ttl_s=10.0, duration_s=15.0).lease
    clock.advance(8.0)
    lab.leasing.heartbeat(ANONYMOUS, lease.id)
    clock.advance(7.0)
    settle(lab)
    assert lab.leasing.get(lease.id).lease.end_reason is LeaseEnd.EXPIRED


def test_a_waiter_that_falls_silent_leaves_the_queue_and_is_never_granted(lab: Lab, clock: FakeClock) -> None:
    session, _ = attach(lab, report("bench-1"))
    holder, silent = _ask(lab, ttl_s=300.0), _ask(lab, ttl_s=5.0)
    clock.advance(6.0)
    lab.leasing.release(ANONYMOUS, holder.lease.id)
    lab.hearing.fenced(session, "bench-1", 1)
    assert lab.leasing.get(silent.lease.id).lease.end_reason is LeaseEnd.HEARTBEAT_LOST
    assert lab.fleet.bench("bench-1").state == "available"


def test_leaving_the_queue_and_releasing_twice_are_no_errors(lab: Lab) -> None:
    _, link = attach(lab, report("bench-1"))
    holder, waiter = _ask(lab), _ask(lab)
    assert lab.leasing.release(ANONYMOUS, waiter.lease.id).lease.end_reason is LeaseEnd.CANCELLED
    for _ in range(2):
        assert lab.leasing.release(ANONYMOUS, holder.lease.id).lease.end_reason is LeaseEnd.RELEASED
    assert len(link.orders) == 1


def test_what_can_never_be_granted_is_refused_at_once_and_names_the_term(lab: Lab) -> None:
    attach(lab, report("bench-1", {"platform": "meb"}))
    with pytest.raises(Invalid, match="can never be granted: no bench meets 'platform=mqb'"):
        _ask(lab, "platform=mqb")
    with pytest.raises(Invalid) as caught:
        _ask(lab, "platform=")
        _ask(lab, "platform in meb")
    assert caught.value.errors[0].field == "selector"
    assert lab.leasing.newest(Filter(), 10) == []


def test_an_offline_or_sick_bench_can_be_waited_for(lab: Lab) -> None:
    session, _ = attach(lab, report("bench-1", healthy=False, reason="no such interface can9"))
    lease = _ask(lab).lease
    assert lease.state is LeaseState.QUEUED
    lab.hearing.detach(session, "test")
    assert _ask(lab, "name=bench-1").position == 2
    attach(lab, report("bench-1"))
    assert lab.leasing.get(lease.id).lease.state is LeaseState.GRANTED


def test_an_unknown_lease_is_not_found(lab: Lab) -> None:
    with pytest.raises(NotFound, match="'l-0'"):
        lab.leasing.get("l-0")
    for use in (lab.leasing.heartbeat, lab.leasing.release):
        with pytest.raises(NotFound, match="'l-0'"):
            use(ANONYMOUS, "l-0")


def test_a_labd_that_stood_still_gives_holders_time_before_it_ends_their_leases(lab: Lab, clock: FakeClock) -> None:
    attach(lab, report("bench-1"))
    lease = _ask(lab).lease
    lab.core.pulse()
    clock.advance(40.0)
    lab.core.pulse()
    assert lab.leasing.heartbeat(ANONYMOUS, lease.id).lease.state is LeaseState.ACTIVE
    for _ in range(29):
        clock.advance(1.0)
        lab.core.pulse()
    settle(lab)
    assert lab.leasing.get(lease.id).lease.state is LeaseState.ACTIVE
    clock.advance(1.0)
    settle(lab)
    assert lab.leasing.get(lease.id).lease.end_reason is LeaseEnd.HEARTBEAT_LOST


def test_a_wall_clock_set_back_while_labd_was_down_keeps_no_dead_holder_alive(lab: Lab, clock: FakeClock) -> None:
    attach(lab, report("bench-1"))
    lease = _ask(lab).lease
    clock.advance(-86400.0)
    lab.core.forgive()
    clock.advance(31.0)
    settle(lab)
    assert lab.leasing.get(lease.id).lease.end_reason is LeaseEnd.HEARTBEAT_LOST


def test_the_longest_selector_may_grow_when_it_is_put_in_its_normal_form(lab: Lab) -> None:
    attach(lab, report("bench-1"))
    selector = ",".join(["a notin(b,c)"] * 76)
    assert len(selector) <= 1000 < len(selector) + 76
    assert _ask(lab, selector).lease.state is LeaseState.GRANTED
    with pytest.raises(Invalid, match=r"column 1001: .*at most 1000 characters, this one has 1001"):
        _ask(lab, "x" * 1001)


def test_a_waiter_learns_why_no_bench_can_come_and_waits_on(lab: Lab) -> None:
    session, _ = attach(lab, report("bench-1", {"platform": "meb"}), report("bench-2"))
    holder, waiter = (_ask(lab, "platform=meb").lease.id for _ in range(2))
    assert lab.leasing.get(waiter).obstacle is None, "it is merely in use"
    lab.leasing.release(ANONYMOUS, holder)
    assert lab.leasing.get(waiter).obstacle is None, "it is merely cleaned up"
    lab.hearing.report(session, report("bench-1", {"platform": "meb"}, healthy=False, reason="no interface can9"))
    assert lab.leasing.get(waiter).obstacle == "bench-1 is unhealthy (no interface can9)"
    lab.hearing.detach(session, "test")
    assert lab.leasing.newest(Filter([LeaseState.QUEUED]), 10)[0].obstacle == "bench-1 is offline"
    session, _ = attach(lab, report("bench-1", {"platform": "mqb"}), report("bench-2"))
    assert lab.leasing.get(waiter).obstacle == "no bench meets 'platform=meb': label 'platform' has 'mqb'"
    attach(lab, report("bench-1", {"platform": "meb"}), report("bench-2"))
    granted = lab.leasing.get(waiter)
    assert (granted.lease.state, granted.obstacle) == (LeaseState.GRANTED, None)


def test_several_benches_are_granted_together_or_not_at_all(lab: Lab) -> None:
    session, link = attach(lab, *(report(f"bench-{n}", {"platform": "meb"}) for n in (1, 2, 3)))
    one = _ask(lab, "name=bench-2").lease
    pair = lab.leasing.create(
        ANONYMOUS,
        benches=[Wanted("platform=meb", 2), Wanted("name=bench-2")],
        holder="bob",
        duration_s=60.0,
        ttl_s=30.0,
    )
    assert (pair.lease.state, pair.lease.benches, pair.lease.bench) == (LeaseState.QUEUED, (), None)
    lab.leasing.release(ANONYMOUS, one.id)
    lab.hearing.fenced(session, "bench-2", 1)
    pair = lab.leasing.get(pair.lease.id)
    assert [one.part.bench for one in pair.benches] == ["bench-1", "bench-3", "bench-2"]
    assert len({one.token for one in pair.benches}) == 3
    assert (pair.lease.bench, pair.token) == (None, None), "there is no single one"
    lab.leasing.release(ANONYMOUS, pair.lease.id)
    assert [order.bench for order in link.orders[1:]] == ["bench-1", "bench-3", "bench-2"]


def test_a_lease_is_ending_until_every_agent_has_confirmed(lab: Lab) -> None:
    session, _ = attach(lab, report("bench-1"), report("bench-2"))
    pair = lab.leasing.create(ANONYMOUS, benches=[Wanted("", 2)], holder="bob", duration_s=60.0, ttl_s=30.0).lease
    assert lab.leasing.release(ANONYMOUS, pair.id).lease.state is LeaseState.ENDING
    lab.hearing.fenced(session, "bench-2", 1)
    half = lab.leasing.get(pair.id).lease
    assert (half.state, [one.bench for one in half.benches if one.live]) == (LeaseState.ENDING, ["bench-1"])
    assert _ask(lab).lease.bench == "bench-2", "the bench that is clean is nobody's any more"
    lab.hearing.fenced(session, "bench-1", 1)
    ended = lab.leasing.get(pair.id).lease
    assert (ended.state, ended.end_reason) == (LeaseState.ENDED, LeaseEnd.RELEASED)


def test_an_agent_that_never_comes_back_keeps_no_lease_ending_for_ever(lab: Lab, clock: FakeClock) -> None:
    session, _ = attach(lab, report("bench-1"))
    lease = _ask(lab, duration_s=600.0).lease
    lab.hearing.detach(session, "the building burnt down")
    lab.leasing.release(ANONYMOUS, lease.id)
    clock.advance(600.0 + 59.0)
    settle(lab)
    assert lab.leasing.get(lease.id).lease.state is LeaseState.ENDING, "its token may still be good over there"
    clock.advance(1.5)
    settle(lab)
    assert lab.leasing.get(lease.id).lease.state is LeaseState.ENDED


def test_more_benches_than_there_are_can_never_be_granted(lab: Lab) -> None:
    attach(lab, report("bench-1", {"platform": "meb"}), report("bench-2"))
    with pytest.raises(Invalid, match="2 are wanted, the lab has 1 such benches"):
        lab.leasing.create(ANONYMOUS, benches=[Wanted("platform=meb", 2)], holder="bob", duration_s=60.0, ttl_s=30.0)


def test_a_class_that_is_not_there_is_refused_with_the_nearest(lab: Lab) -> None:
    attach(lab, report("bench-1"))
    with pytest.raises(Invalid, match="no class of priority; did you mean 'high'"):
        _ask(lab, priority="hihg")
