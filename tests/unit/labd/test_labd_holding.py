"""What becomes of leases while they are held, and of those that are promised for later."""

from dataclasses import replace
from typing import Any

import pytest

from labd.api.answers import why_answer
from labd.model.identity import ANONYMOUS, Actor, ActorKind, Role
from labd.model.lease import Lease, LeaseEnd, LeaseState, Share, ShareMode, Wanted
from labd.model.policy import Policy, PriorityClass, TeamPolicy
from labd.services import holding
from labd.services.attachment import Session
from labd.services.calendar import Taken
from labd.services.errors import Conflict, Invalid, NotFound
from labd.services.lab import Lab
from labd.services.ledger import ExtendOrder, UnshareOrder
from labd.store.units.audit import AuditFilter
from tests.unit.labd.fakes import FakeClock, attach, report, settle

DAY_S = 86400.0


def ask(lab: Lab, **changes: Any) -> Lease:
    wish: dict[str, Any] = {"holder": "ada", "duration_s": 600.0, "ttl_s": 3600.0}
    return lab.leasing.create(ANONYMOUS, **{**wish, **changes}).lease


def state(lab: Lab, lease: Lease) -> Lease:
    settle(lab)
    return lab.leasing.get(lease.id).lease


def allow(lab: Lab, **changes: Any) -> None:
    lab.policing.replace(ANONYMOUS, replace(lab.policing.policy(), **changes))


def fence(lab: Lab, session: Session, lease: Lease) -> None:
    for one in lease.benches:
        lab.hearing.fenced(session, one.bench, one.epoch)


def test_an_extension_goes_as_far_as_the_policy_and_no_farther(lab: Lab) -> None:
    attach(lab, report("bench-1"))
    allow(lab, longest_lease_s=1000.0)
    lease = ask(lab)
    longer = lab.holding.extend(ANONYMOUS, lease.id, 400.0).lease
    assert (longer.expires_at, longer.duration_s) == ((lease.expires_at or 0) + 400.0, 1000.0)
    with pytest.raises(Invalid, match="lasts at most 1000 s") as caught:
        lab.holding.extend(ANONYMOUS, lease.id, 1.0)
    assert caught.value.errors[0].field == "by_s"
    lab.leasing.release(ANONYMOUS, lease.id)
    with pytest.raises(Conflict, match="is ENDING: nobody holds it"):
        lab.holding.extend(ANONYMOUS, lease.id, 1.0)


def test_agents_are_told_of_an_extension_also_when_they_come_back(lab: Lab) -> None:
    _, link = attach(lab, report("bench-1"), report("bench-2"))
    lease = ask(lab, benches=[Wanted("", 2)])
    longer = lab.holding.extend(ANONYMOUS, lease.id, 400.0).lease
    told = [ExtendOrder(one.bench, one.epoch, longer.expires_at or 0) for one in longer.benches]
    assert link.extensions == told
    _, again = attach(lab, report("bench-1"), report("bench-2"))
    assert again.extensions == told


def test_an_extension_does_not_take_what_somebody_has_booked(lab: Lab, clock: FakeClock) -> None:
    attach(lab, report("bench-1"))
    lease = ask(lab)
    booking = ask(lab, holder="bob", starts_at=clock.now() + 1200.0)
    assert (booking.state, booking.reserved) == (LeaseState.QUEUED, ("bench-1",))
    lab.holding.extend(ANONYMOUS, lease.id, 300.0)
    with pytest.raises(Conflict, match=f"cannot last until .*lease {booking.id} has bench-1"):
        lab.holding.extend(ANONYMOUS, lease.id, 600.0)


def test_a_booking_is_granted_when_its_time_comes_and_ends_as_booked(lab: Lab, clock: FakeClock) -> None:
    attach(lab, report("bench-1"))
    start = clock.now() + 1000.0
    booking = ask(lab, holder="bob", starts_at=start, duration_s=500.0)
    too_long = ask(lab, duration_s=2000.0)
    short = ask(lab, duration_s=100.0)
    assert (too_long.state, short.state) == (LeaseState.QUEUED, LeaseState.GRANTED), "only who ends in time goes first"
    assert lab.leasing.get(booking.id).position is None
    clock.advance(1000.0)
    settle(lab)
    session, _ = attach(lab, report("bench-1", fenced=1))
    granted = state(lab, booking)
    assert (granted.state, granted.expires_at) == (LeaseState.GRANTED, start + 500.0)
    assert session is not None


def test_a_booking_that_conflicts_is_refused_with_what_is_in_the_way_and_the_next_slot(
    lab: Lab, clock: FakeClock
) -> None:
    attach(lab, report("bench-1"))
    first = ask(lab, holder="bob", starts_at=clock.now() + 1000.0)
    with pytest.raises(
        Conflict, match=rf"lease {first.id} has bench-1 from .* the next free slot starts at 2027-01-15T"
    ):
        ask(lab, starts_at=clock.now() + 1300.0)
    with pytest.raises(Invalid, match="between now and 14 days from now"):
        ask(lab, starts_at=clock.now() + 15 * DAY_S)
    with pytest.raises(Invalid, match="between now"):
        ask(lab, starts_at=clock.now() - 1.0)


def test_a_calendar_shows_who_has_a_bench_when_and_the_next_slot(lab: Lab, clock: FakeClock) -> None:
    attach(lab, report("bench-1"), report("bench-2"))
    now, clean_up_s = clock.now(), lab.policing.policy().clean_up_s
    ask(lab, selector="name=bench-2")
    present = ask(lab, selector="name=bench-1", duration_s=600.0)
    booked = ask(lab, selector="name=bench-1", holder="bob", starts_at=now + 2000.0, duration_s=500.0)
    found = lab.calendar.of("bench-1", 1000.0)
    assert [(one.lease.id, one.taken, one.starts_at, one.ends_at) for one in found.entries] == [
        (present.id, Taken.LEASED, now, now + 600.0),
        (booked.id, Taken.BOOKED, now + 2000.0, now + 2500.0),
    ]
    assert found.next_free == now + 600.0 + clean_up_s
    assert lab.calendar.of("bench-1", 1500.0).next_free == now + 2500.0 + clean_up_s, "not before the booking"
    assert ask(lab, selector="name=bench-1", starts_at=found.next_free, duration_s=1000.0).reserved == ("bench-1",)
    with pytest.raises(NotFound, match="there is no bench 'bench-9'; the lab knows bench-1, bench-2"):
        lab.calendar.of("bench-9", 60.0)


def test_a_bench_that_nobody_can_have_has_no_next_slot(lab: Lab) -> None:
    attach(lab, report("bench-1"))
    lab.fleet.drain(ANONYMOUS, "bench-1", True, "new cables")
    assert lab.calendar.of("bench-1", 60.0).next_free is None


def test_a_booking_whose_bench_falls_ill_is_placed_anew(lab: Lab, clock: FakeClock) -> None:
    session, _ = attach(lab, report("bench-1"), report("bench-2"))
    booking = ask(lab, starts_at=clock.now() + 1000.0)
    (name,) = booking.reserved
    lab.hearing.report(session, report(name, healthy=False))
    assert set(state(lab, booking).reserved) == {"bench-1", "bench-2"} - {name}


def test_a_transfer_gives_the_new_holder_new_tokens_and_fences_the_old_ones(lab: Lab) -> None:
    _, link = attach(lab, report("bench-1"))
    lease = ask(lab)
    view = lab.holding.transfer(ANONYMOUS, lease.id, "bob", None)
    assert (view.lease.holder, view.lease.epoch, view.lease.expires_at) == ("bob", 2, lease.expires_at)
    assert [(order.bench, order.epoch, order.reason) for order in link.orders] == [("bench-1", 1, "transferred")]
    lab.hearing.fenced(lab.fleet.sessions()["agent-1"], "bench-1", 1)
    assert state(lab, lease).state is LeaseState.GRANTED, "the confirmation is for the former holder"


def test_a_team_is_given_only_what_its_quota_holds(lab: Lab) -> None:
    attach(lab, report("bench-1"), report("bench-2"), report("blue-1", {"team": "blue"}))
    allow(lab, teams=(TeamPolicy("red", benches=1), TeamPolicy("low-only", classes=("low",))))
    ask(lab, team="red", selector="name=bench-1")
    lease = ask(lab, selector="name=bench-2")
    with pytest.raises(Conflict, match="team red may have 1 benches at once"):
        lab.holding.transfer(ANONYMOUS, lease.id, "bob", "red")
    with pytest.raises(Invalid, match="it may ask for low"):
        lab.holding.transfer(ANONYMOUS, lease.id, "bob", "low-only")
    blue = ask(lab, team="blue", selector="name=blue-1")
    with pytest.raises(Invalid, match="blue-1 is not open to this team"):
        lab.holding.transfer(ANONYMOUS, blue.id, "bob", "red")
    waiting = ask(lab, team="red", selector="!team-does-not-matter")
    assert waiting.state is LeaseState.QUEUED


def test_a_shared_lease_has_tokens_of_its_own_for_each(lab: Lab) -> None:
    attach(lab, report("bench-1"))
    lease = ask(lab)
    shared = lab.holding.share(ANONYMOUS, lease.id, Share("bob", ShareMode.CO_DRIVER))
    assert shared.token is not None
    assert shared.token != lab.leasing.get(lease.id).token
    assert lab.leasing.get(lease.id).shares == (Share("bob", ShareMode.CO_DRIVER),)
    own = lab.holding.shared_with(lease.id, "bob")
    assert own is not None
    assert lab.holding.shared_with(lease.id, "eve") is None
    lab.holding.transfer(ANONYMOUS, lease.id, "bob", None)
    assert lab.leasing.get(lease.id).shares == ()
    with pytest.raises(Invalid, match="this is the holder"):
        lab.holding.share(ANONYMOUS, lease.id, Share("bob", ShareMode.OBSERVER))


def test_a_share_that_is_taken_back_is_refused_by_the_agents(lab: Lab) -> None:
    _, link = attach(lab, report("bench-1"), report("bench-2"))
    lease = ask(lab, benches=[Wanted("", 2)])
    lab.holding.share(ANONYMOUS, lease.id, Share("bob", ShareMode.OBSERVER))
    lab.holding.share(ANONYMOUS, lease.id, Share("carol", ShareMode.CO_DRIVER))
    left = lab.holding.unshare(ANONYMOUS, lease.id, "bob", "he has seen it")
    assert left.shares == (Share("carol", ShareMode.CO_DRIVER),)
    assert lab.holding.shared_with(lease.id, "bob") is None
    told = [UnshareOrder(one.bench, one.epoch, "bob", 0) for one in left.lease.benches]
    assert link.unshares == told
    assert left.lease.epoch == lease.epoch, "the lease goes on under the same epochs"
    _, again = attach(lab, report("bench-1"), report("bench-2"))
    assert again.unshares == told, "an agent that was away hears of it when it comes back"
    with pytest.raises(NotFound, match="not shared with 'bob': it is shared with carol"):
        lab.holding.unshare(ANONYMOUS, lease.id, "bob")
    (entry,) = lab.auditing.page(AuditFilter(action="lease.unshared"), after=None, limit=10, newest_first=True)
    assert (entry.deed.before, entry.deed.why) == ({"holder": "bob", "mode": "observer"}, "he has seen it")


def test_a_lease_that_is_shared_anew_takes_new_tokens_only(lab: Lab) -> None:
    _, link = attach(lab, report("bench-1"))
    lease = ask(lab)
    bob = Share("bob", ShareMode.CO_DRIVER)
    first = lab.holding.share(ANONYMOUS, lease.id, bob)
    assert lab.holding.share(ANONYMOUS, lease.id, bob).token == first.token
    assert link.unshares == [], "the same share again takes nothing away"
    lab.holding.unshare(ANONYMOUS, lease.id, "bob")
    lab.holding.share(ANONYMOUS, lease.id, bob)
    assert lab.leasing.get(lease.id).shares == (replace(bob, number=1),)
    lab.holding.share(ANONYMOUS, lease.id, Share("bob", ShareMode.OBSERVER))
    assert [order.number for order in link.unshares] == [0, 0, 1], "a co-driver who only looks on now cannot act"


def test_a_lease_that_the_policy_would_not_grant_any_more_is_not_shared(lab: Lab) -> None:
    attach(lab, report("bench-1"))
    lease = ask(lab, team="red")
    allow(lab, teams=(TeamPolicy("red", classes=("low",)),))
    with pytest.raises(Invalid, match="team 'red' may not ask for it; it may ask for low"):
        lab.holding.share(ANONYMOUS, lease.id, Share("bob", ShareMode.OBSERVER))


def test_a_lease_is_shared_with_so_many_people_and_no_more(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "SHARES_MAX", 1)
    attach(lab, report("bench-1"))
    lease = ask(lab)
    lab.holding.share(ANONYMOUS, lease.id, Share("bob", ShareMode.OBSERVER))
    with pytest.raises(Conflict, match="was shared with 1 people"):
        lab.holding.share(ANONYMOUS, lease.id, Share("carol", ShareMode.OBSERVER))


def test_who_may_preempt_gets_the_bench_after_notice_and_grace(lab: Lab, clock: FakeClock) -> None:
    session, _ = attach(lab, report("bench-1"))
    low = ask(lab, priority="low", duration_s=5000.0)
    urgent = ask(lab, holder="fire brigade", priority="urgent")
    told = state(lab, low)
    assert told.state is LeaseState.GRANTED
    assert told.revoke_at == clock.now() + 300.0
    assert "fire brigade needs the bench with priority urgent" in told.revoke_reason
    later = ask(lab, priority="high")
    with pytest.raises(Conflict, match="has to end by"):
        lab.holding.extend(ANONYMOUS, low.id, 60.0)
    clock.advance(300.0)
    ended = state(lab, low)
    assert (ended.state, ended.end_reason) == (LeaseState.ENDING, LeaseEnd.PREEMPTED)
    fence(lab, session, ended)
    assert state(lab, urgent).state is LeaseState.GRANTED
    assert state(lab, later).state is LeaseState.QUEUED


def test_a_class_is_for_those_whom_the_policy_names(lab: Lab) -> None:
    attach(lab, report("bench-1"))
    engineer = Actor("ada", ActorKind.PERSON, {"blue": Role.ENGINEER})
    with pytest.raises(Invalid, match="takes the role 'operator' in team 'blue'"):
        lab.leasing.create(engineer, holder="ada", team="blue", duration_s=60.0, ttl_s=30.0, priority="urgent")
    allow(lab, classes=(PriorityClass("normal", 1), PriorityClass("red-only", 2, teams=("red",))))
    with pytest.raises(Invalid, match="it may ask for normal"):
        ask(lab, team="blue", priority="red-only")
    assert ask(lab, team="red", priority="red-only").state is LeaseState.GRANTED


def test_a_drained_bench_gets_no_new_lease_and_keeps_the_present_one(lab: Lab) -> None:
    session, _ = attach(lab, report("bench-1"), report("bench-2"))
    lease = ask(lab, selector="name=bench-1")
    lab.fleet.drain(ANONYMOUS, "bench-1", True, "new cables")
    assert state(lab, lease).state is LeaseState.GRANTED
    waiting = ask(lab, selector="name=bench-1")
    lab.leasing.release(ANONYMOUS, lease.id)
    fence(lab, session, lease)
    assert state(lab, waiting).state is LeaseState.QUEUED
    assert lab.leasing.get(waiting.id).obstacle == "bench-1 is drained (new cables)"
    assert lab.fleet.bench("bench-1").state == "drained"
    lab.hearing.report(session, report("bench-1", {"platform": "meb"}, fenced=1))
    assert lab.fleet.bench("bench-1").bench.draining, "its agent's reports change nothing about it"
    lab.fleet.drain(ANONYMOUS, "bench-1", False, "")
    assert state(lab, waiting).state is LeaseState.GRANTED


def test_a_drained_agent_is_drained_with_the_benches_that_it_attaches_later(lab: Lab) -> None:
    attach(lab, report("bench-1"), report("bench-2"))
    lease = ask(lab, selector="name=bench-1")
    lab.fleet.drain(ANONYMOUS, "bench-2", True, "new cables")
    lab.fleet.drain_agent(ANONYMOUS, "agent-1", True, "moving")
    attach(lab, report("bench-1"), report("bench-2"), report("bench-3"))
    attach(lab, report("other"), agent="agent-2")
    states = {view.bench.name: (view.state, view.bench.drained_for) for view in lab.fleet.benches("")}
    agents = "its agent agent-1 is drained: moving"
    assert states == {
        "bench-1": ("leased", agents),
        "bench-2": ("drained", f"new cables; {agents}"),
        "bench-3": ("drained", agents),
        "other": ("available", None),
    }
    assert lab.enrolment.agent("agent-1").drain == "moving"
    waiting = ask(lab, selector="name=bench-3")
    assert lab.leasing.get(waiting.id).obstacle == f"bench-3 is drained ({agents})"
    lab.fleet.drain_agent(ANONYMOUS, "agent-1", False, "")
    assert state(lab, waiting).state is LeaseState.GRANTED
    assert lab.fleet.bench("bench-2").bench.drained_for == "new cables", "it is drained by itself"
    assert state(lab, lease).state is LeaseState.GRANTED
    assert lab.enrolment.agent("agent-1").drain is None
    with pytest.raises(NotFound, match="there is no agent 'agent-9'; the lab knows agent-1, agent-2"):
        lab.fleet.drain_agent(ANONYMOUS, "agent-9", True, "")


def test_a_bench_that_moves_to_another_agent_is_drained_with_that_one(lab: Lab) -> None:
    session, _ = attach(lab, report("bench-1"), report("bench-2"))
    lab.fleet.drain_agent(ANONYMOUS, "agent-1", True, "moving")
    lab.hearing.detach(session, "it is off")
    attach(lab, report("bench-1"), agent="agent-2")
    assert lab.fleet.bench("bench-1").bench.drained_for is None
    attach(lab, report("bench-2"))
    lab.fleet.drain_agent(ANONYMOUS, "agent-1", False, "")
    assert lab.fleet.bench("bench-2").state == "available"


def test_a_held_lease_ends_when_it_is_not_used_and_says_when_that_will_be(lab: Lab, clock: FakeClock) -> None:
    session, _ = attach(lab, report("bench-1"))
    lease = ask(lab, held=True, duration_s=9000.0, ttl_s=30.0)
    assert lab.leasing.get(lease.id).idle_release_at == clock.now() + 1800.0
    clock.advance(1000.0)
    lab.hearing.report(session, replace(report("bench-1"), active_epoch=1, idle_s=100.0))
    assert lab.leasing.get(lease.id).idle_release_at == clock.now() - 100.0 + 1800.0
    clock.advance(1699.0)
    assert state(lab, lease).state is LeaseState.ACTIVE, "it needs no heartbeat"
    clock.advance(1.0)
    ended = state(lab, lease)
    assert (ended.end_reason, ended.end_note) == (LeaseEnd.IDLE, "nothing went to or from its benches for 1800 s")


def test_a_lease_in_use_is_not_taken_for_idle_where_that_comes_soon(lab: Lab, clock: FakeClock) -> None:
    session, _ = attach(lab, report("bench-1"))
    allow(lab, idle_release_s=20.0, idle_notice_s=5.0)
    lease = ask(lab, held=True, duration_s=9000.0)
    for _ in range(30):
        clock.advance(3.0)
        lab.hearing.report(session, replace(report("bench-1"), active_epoch=1, idle_s=0.5))
        assert state(lab, lease).state is LeaseState.ACTIVE
        assert lab.leasing.get(lease.id).lease.revoke_at is None


def test_a_person_is_told_before_their_lease_ends_for_want_of_use(lab: Lab, clock: FakeClock) -> None:
    session, _ = attach(lab, report("bench-1"))
    lease = ask(lab, held=True, duration_s=9000.0)
    clock.advance(1490.0)
    assert lab.leasing.get(lease.id).lease.revoke_at is None
    clock.advance(20.0)
    told = lab.leasing.heartbeat(ANONYMOUS, lease.id).lease
    assert told.revoke_at == clock.now() - 1510.0 + 1800.0
    assert told.revoke_reason == "nobody uses its bench: a held lease ends 30 min after its last traffic"
    lab.hearing.report(session, replace(report("bench-1"), active_epoch=1, idle_s=0.0))
    assert lab.leasing.get(lease.id).lease.revoke_at is None
    clock.advance(400.0)
    assert lab.leasing.get(lease.id).lease.state is LeaseState.ACTIVE


def test_who_extends_a_held_lease_uses_it(lab: Lab, clock: FakeClock) -> None:
    attach(lab, report("bench-1"))
    lease = ask(lab, held=True, duration_s=9000.0)
    clock.advance(1700.0)
    settle(lab)
    assert lab.leasing.get(lease.id).lease.revoke_at is not None
    assert lab.holding.extend(ANONYMOUS, lease.id, 60.0).lease.revoke_at is None
    clock.advance(1700.0)
    assert state(lab, lease).state is LeaseState.GRANTED


def test_nobody_is_idle_whose_agent_cannot_tell(lab: Lab, clock: FakeClock) -> None:
    session, _ = attach(lab, report("bench-1"))
    lease = ask(lab, held=True, duration_s=9000.0)
    lab.hearing.detach(session, "the cable was pulled")
    clock.advance(3000.0)
    assert state(lab, lease).state is LeaseState.GRANTED


def test_why_names_who_is_ahead_which_term_excludes_which_bench_and_who_has_the_others(lab: Lab) -> None:
    attach(lab, report("bench-1", {"platform": "meb"}), report("bench-2", {"platform": "mqb"}))
    holder = ask(lab, selector="platform=meb")
    ahead = ask(lab, selector="name=bench-1")
    view = lab.explaining.why(ask(lab, selector="platform=meb").id).explanation
    assert (view.position, view.ahead) == (2, (ahead.id,))
    (part,) = view.parts
    assert part.excluded == {"platform=meb": ("bench-2",)}
    (bench,) = part.matching
    assert (bench.bench, bench.why, bench.by, bench.until) == ("bench-1", "held", holder.id, holder.expires_at)
    assert view.expected_start is not None
    with pytest.raises(Conflict, match="it waits for no bench"):
        lab.explaining.why(holder.id)


def test_why_tells_what_a_bench_is_drained_for_and_which_site_lacks_what(lab: Lab) -> None:
    attach(lab, report("bench-1", {"site": "ulm", "can": "2"}), report("bench-2", {"site": "ulm"}))
    lab.fleet.drain(ANONYMOUS, "bench-2", True, "new cables")
    both = ask(lab, benches=[Wanted("can=2"), Wanted("!can")], same_site=True)
    answer = why_answer(lab.explaining.why(both.id))
    assert [(one.why, one.detail) for one in answer.parts[1].matching] == [("draining", "new cables")]
    assert (answer.short_of, answer.expected_start) == ({"ulm": ["!can"]}, None)


def test_what_no_site_and_no_quota_can_ever_grant_is_refused_at_once(lab: Lab) -> None:
    attach(lab, report("bench-1", {"site": "ulm", "can": "2"}), report("bench-2", {"site": "bonn"}))
    with pytest.raises(Invalid, match="no site has the 2 benches together"):
        ask(lab, benches=[Wanted("", 2)], same_site=True)
    with pytest.raises(Invalid, match="2 different benches are wanted"):
        ask(lab, benches=[Wanted("can"), Wanted("can=2")])
    allow(lab, teams=(TeamPolicy("default", bench_hours_per_week=3),))
    with pytest.raises(Invalid, match="team 'default' has 3 bench-hours a week, this asks for 4") as caught:
        ask(lab, benches=[Wanted("", 2)], duration_s=2 * 3600)
    assert caught.value.errors[0].field == "duration_s"
    assert ask(lab, benches=[Wanted("", 2)], duration_s=1.5 * 3600).state is LeaseState.GRANTED


def test_benches_that_failed_the_request_are_avoided(lab: Lab) -> None:
    attach(lab, report("bench-1"), report("bench-2"))
    assert ask(lab, avoid=["bench-1"]).bench == "bench-2"
    assert ask(lab, avoid=["bench-1"]).bench is None, "the other one will come free"
    assert ask(lab, selector="name=bench-1", avoid=["bench-1"]).bench == "bench-1", "no other could do"


def test_benches_of_a_lease_can_be_asked_for_at_one_site(lab: Lab) -> None:
    attach(
        lab, *(report(f"bench-{n}", {"site": site}) for n, site in enumerate(("ulm", "bonn", "kiel", "bonn"), start=1))
    )
    pair = ask(lab, benches=[Wanted("", 2)], same_site=True)
    assert {one.bench for one in pair.benches} == {"bench-2", "bench-4"}


def test_a_policy_that_does_not_fit_together_is_refused_as_a_whole(lab: Lab) -> None:
    policy = Policy(
        classes=(PriorityClass("high", 1), PriorityClass("high", 1)),
        teams=(TeamPolicy("red", classes=("hihg",)),),
        idle_notice_s=10.0,
        idle_release_s=10.0,
    )
    with pytest.raises(Invalid) as caught:
        lab.policing.replace(ANONYMOUS, policy)
    assert [error.field for error in caught.value.errors] == [
        "classes.1.name",
        "classes.1.rank",
        "teams.0.classes",
        "idle_notice_s",
    ]
    assert "did you mean 'high'" in str(caught.value)
    assert lab.policing.policy() == Policy()


def test_every_transition_is_on_record(lab: Lab) -> None:
    session, _ = attach(lab, report("bench-1"))
    lease = ask(lab)
    lab.leasing.heartbeat(ANONYMOUS, lease.id)
    lab.leasing.release(ANONYMOUS, lease.id)
    fence(lab, session, lease)
    with lab.core.view() as unit:
        entries = unit.audit_page(AuditFilter(subject=f"lease/{lease.id}"), after=None, limit=50, newest_first=False)
    assert [entry.deed.action for entry in entries] == [
        "lease.queued",
        "lease.granted",
        "lease.activated",
        "lease.ending",
        "lease.ended",
    ]
