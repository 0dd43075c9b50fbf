"""What a decision pass does, case by case."""

from collections.abc import Iterable
from typing import Any

import pytest

from labd.scheduling.booking import Booked, InTheWay, Refused, book, extend
from labd.scheduling.decide import decide
from labd.scheduling.decisions import Decision, Grant, Move, Notice, Reservation
from labd.scheduling.explain import Matching, Why, explain
from labd.scheduling.forecast import Recent
from labd.scheduling.lab import Bench, Held, Lab, Used
from labd.scheduling.matching import NEED, Fleet, Preference, rendezvous
from labd.scheduling.ordering import in_order
from labd.scheduling.possible import impossible
from labd.scheduling.rules import WEEK_S, Rules, TeamRules
from labd.scheduling.wish import Part, Wish

HOUR = 3600.0
NOW = 1_000_000.0


def bench(name: str, promised_to: str | None = None, **labels: str) -> Bench:
    return Bench(name, {**labels, "name": name}, promised_to=promised_to)


def wish(seq: int, *selectors: str | Part, **more: Any) -> Wish:
    parts = tuple(Part(selector) if isinstance(selector, str) else selector for selector in selectors or ("",))
    return Wish(**{"id": f"l-{seq}", "seq": seq, "parts": parts, "duration_s": 600.0, "asked_at": NOW, **more})


def granted(decision: Decision) -> dict[str, tuple[str, ...]]:
    return {grant.wish: grant.benches for grant in decision.grants}


def grants(
    benches: Iterable[Bench], wishes: Iterable[Wish], held: Iterable[Held] = (), **more: Any
) -> dict[str, tuple[str, ...]]:
    rules = Rules(**{name: more.pop(name) for name in list(more) if name in Rules.__dataclass_fields__})
    return granted(decide(Lab(NOW, tuple(benches), tuple(wishes), tuple(held), **more), rules))


def order(*wishes: Wish, use: dict[str, float] | None = None, **rules: Any) -> list[int]:
    return [wish.seq for wish in in_order(wishes, Rules(**rules), NOW, use or {})]


def test_the_higher_class_goes_first_and_arrival_counts_inside_a_class() -> None:
    assert order(wish(1, priority="low"), wish(3), wish(2), wish(4, priority="urgent")) == [4, 2, 3, 1]


def test_waiting_lifts_a_wish_above_every_class_within_the_bound() -> None:
    old = wish(1, priority="low", asked_at=NOW - 999, team="heavy")
    urgent = wish(2, priority="urgent", team="light")
    assert order(old, urgent, ageing_s=1000.0, use={"heavy": 1.0}) == [2, 1]
    assert order(old, urgent, ageing_s=999.0, use={"heavy": 1.0}) == [1, 2]


def test_on_its_way_up_a_wish_passes_one_class_after_the_other() -> None:
    old = wish(1, priority="low", asked_at=NOW - 600)
    others = [wish(2, priority="normal"), wish(3, priority="high"), wish(4, priority="urgent")]
    assert order(old, *others, ageing_s=1000.0) == [4, 1, 3, 2]


def test_teams_take_turns_inside_a_class() -> None:
    wishes = [wish(seq, team="a") for seq in (1, 2, 3)] + [wish(seq, team="b") for seq in (4, 5)]
    assert order(*wishes) == [1, 4, 2, 5, 3]


def test_the_team_that_used_less_of_its_share_goes_first() -> None:
    wishes = [wish(1, team="a"), wish(2, team="a"), wish(3, team="b")]
    assert order(*wishes, use={"a": 2000.0, "b": 1000.0}) == [3, 1, 2]
    weights = {"a": TeamRules(weight=4.0)}
    assert order(*wishes, use={"a": 2000.0, "b": 1000.0}, teams=weights) == [1, 2, 3]


def test_what_a_team_holds_and_used_lately_counts_against_it() -> None:
    benches = [bench("hil-1"), bench("hil-2")]
    held = [Held("l-0", ("hil-2",), NOW - HOUR, NOW + HOUR, "a")]
    assert grants(benches, [wish(1, team="a"), wish(2, team="b")], held) == {"l-2": ("hil-1",)}
    used = {"b": (Used(NOW - 4 * HOUR, NOW - HOUR, 3 * HOUR),)}
    assert grants(benches, [wish(1, team="a"), wish(2, team="b")], held, used=used) == {"l-1": ("hil-1",)}


def test_a_modest_wish_leaves_the_bench_that_somebody_else_needs() -> None:
    benches = [bench("hil-1", lin="yes"), bench("hil-2")]
    assert grants(benches, [wish(1), wish(2, "lin")]) == {"l-1": ("hil-2",), "l-2": ("hil-1",)}


def test_with_nobody_waiting_the_richest_bench_stays_free() -> None:
    benches = [bench("hil-1", can="2", lin="yes"), bench("hil-2", can="2"), bench("hil-3", can="2", flexray="yes")]
    assert grants(benches, [wish(1, "can=2")]) == {"l-1": ("hil-2",)}


def test_a_wish_moves_aside_for_one_that_has_no_choice() -> None:
    """Neither need nor labels tell that hil-1 should stay free; the matching is exact all the same."""
    benches = [bench("hil-1", a="x"), bench("hil-2", b="x"), bench("hil-3", c="x")]
    wishes = [wish(1, "!c"), wish(2, "!b"), wish(3, "a"), *(wish(seq, "name in (hil-2,hil-3)") for seq in (4, 5, 6))]
    assert set(grants(benches, wishes)) == {"l-1", "l-2", "l-3"}


def test_wishes_with_one_affinity_prefer_one_bench() -> None:
    benches = [bench(f"hil-{number}") for number in range(8)]
    [chosen] = grants(benches, [wish(1, affinity="firmware-4711")]).values()
    assert grants(benches, [wish(2, affinity="firmware-4711")]) == {"l-2": chosen}
    without = [bench for bench in benches if bench.name not in chosen]
    [second] = grants(without, [wish(1, affinity="firmware-4711")]).values()
    assert second != chosen


def test_keys_spread_over_benches_and_stay_when_another_bench_goes() -> None:
    names = [f"hil-{number}" for number in range(10)]
    keys = [f"firmware-{number}" for number in range(500)]

    def favourite(key: str, among: list[str]) -> str:
        return max(among, key=lambda name: rendezvous(key, name))

    before = {key: favourite(key, names) for key in keys}
    assert all(25 <= list(before.values()).count(name) <= 80 for name in names)
    after = {key: favourite(key, names[1:]) for key in keys}
    assert {key for key in keys if before[key] != after[key]} == {key for key in keys if before[key] == names[0]}


def test_a_bench_that_failed_the_request_is_left_to_others_as_long_as_another_could_come() -> None:
    benches = [bench("hil-1", a="x"), bench("hil-2", a="x")]
    failed = wish(1, "a", avoid=frozenset({"hil-1"}))
    assert grants(benches, [failed]) == {"l-1": ("hil-2",)}
    busy = [Held("l-0", ("hil-2",), NOW - 10, NOW + 10)]
    assert grants(benches, [failed], busy) == {}
    ill = [benches[0], Bench("hil-2", {"a": "x", "name": "hil-2"}, obstacle="offline")]
    assert grants(ill, [failed]) == {"l-1": ("hil-1",)}


def test_several_benches_come_at_once_or_not_at_all() -> None:
    benches = [bench("hil-1", can="yes"), bench("hil-2", can="yes", lin="yes"), bench("hil-3")]
    pair = wish(1, Part("can", 2), Part("lin"))
    assert grants(benches, [pair, wish(2, "can")]) == {"l-2": ("hil-1",)}
    assert grants([*benches, bench("hil-4", lin="yes")], [pair]) == {"l-1": ("hil-1", "hil-2", "hil-4")}


def test_the_benches_of_a_lease_stand_at_one_site_when_asked() -> None:
    benches = [bench("hil-1", site="graz"), bench("hil-2", site="wob"), bench("hil-3", site="wob")]
    together = wish(1, Part("", 2), same_site=True)
    assert grants(benches, [together]) == {"l-1": ("hil-2", "hil-3")}
    assert grants(benches[:2], [together]) == {}
    assert grants([bench("hil-1"), bench("hil-2")], [together]) == {"l-1": ("hil-1", "hil-2")}


def test_a_wish_goes_to_another_site_for_one_that_has_no_choice() -> None:
    benches = [bench("hil-1", site="graz", b="x"), bench("hil-2", site="graz", b="x")]
    benches += [bench("hil-3", site="wob", a="x"), bench("hil-4", site="wob", a="x")]
    many = [wish(seq, "b") for seq in range(3, 9)]
    together = wish(1, Part("", 2), same_site=True)
    assert grants(benches, [together, *many])["l-1"] == ("hil-3", "hil-4"), "where need is less"
    assert grants(benches, [together, wish(2, Part("a", 2)), *many]) == {
        "l-1": ("hil-1", "hil-2"),
        "l-2": ("hil-3", "hil-4"),
    }


@pytest.mark.parametrize(
    "unfit",
    [
        Bench("hil-1", {"name": "hil-1"}, obstacle="offline"),
        Bench("hil-1", {"name": "hil-1"}, draining=True),
        Bench("hil-1", {"name": "hil-1"}, clean=False),
        bench("hil-1", promised_to="l-2"),
    ],
)
def test_benches_that_nobody_gets_now(unfit: Bench) -> None:
    assert grants([unfit], [wish(1), wish(2, "nothing")]) == {}


def test_a_promised_bench_goes_to_whom_it_was_promised_and_is_free_once_that_one_has_gone() -> None:
    promised = bench("hil-1", promised_to="l-2")
    assert grants([promised], [wish(1), wish(2)]) == {"l-2": ("hil-1",)}
    assert grants([promised], [wish(1)]) == {"l-1": ("hil-1",)}


def test_a_promise_to_who_may_have_no_more_keeps_nobody_out() -> None:
    held = (Held("l-0", ("hil-2",), NOW - 10, NOW + 10, "a"),)
    benches = [bench("hil-1", promised_to="l-2"), bench("hil-2")]
    wishes = [wish(1), wish(2, team="a")]
    assert grants(benches, wishes, held, teams={"a": TeamRules(benches_at_once=1)}) == {"l-1": ("hil-1",)}


def test_a_team_gets_no_more_benches_than_its_quota_and_holds_up_nobody() -> None:
    benches = [bench("hil-1"), bench("hil-2"), bench("hil-3")]
    lab = Lab(
        NOW,
        tuple(benches),
        (wish(1, team="a"), wish(2, team="a"), wish(3, team="b")),
        (Held("l-0", ("hil-1",), NOW - 10, NOW + 10, "a"),),
    )
    decision = decide(lab, Rules(teams={"a": TeamRules(benches_at_once=2)}))
    assert set(granted(decision)) == {"l-1", "l-3"}
    assert str(decision.over_quota["l-2"]) == ("team a may have 2 benches at once: 2 are taken, this asks for 1 more")


def test_bench_hours_count_what_was_used_in_the_week_and_what_present_leases_may_still_use() -> None:
    rules = Rules(teams={"a": TeamRules(bench_hours_per_week=10)})
    held = (Held("l-0", ("hil-1",), NOW - HOUR, NOW + 2 * HOUR, "a"),)
    benches = (bench("hil-1"), bench("hil-2"))

    def decision(used_h: float, ago_h: float) -> Decision:
        used = {"a": (Used(NOW - ago_h * HOUR - HOUR, NOW - ago_h * HOUR, used_h * HOUR),)}
        return decide(Lab(NOW, benches, (wish(1, team="a", duration_s=HOUR),), held, used), rules)

    assert set(granted(decision(6, 24))) == {"l-1"}
    assert str(decision(7, 24).over_quota["l-1"]) == (
        "team a may have 10 bench-hours per week: 10 are taken, this asks for 1 more"
    )
    assert set(granted(decision(7, 7 * 24))) == {"l-1"}, "older than a week"


def test_need_is_shared_out_among_the_benches_that_match() -> None:
    fleet = Fleet([bench("hil-1", a="x"), bench("hil-2", a="x"), bench("hil-3", b="x")])
    preference = Preference(fleet, {"a": 3, "b": 2, "": 1}, fleet.everything)
    assert [preference.need(number) / NEED for number in range(3)] == [1.5, 1.5, 2.0]


QUICK = Rules(clean_up_s=10.0, grace_s=100.0, ageing_s=1000.0)


def booking(seq: int, starts_in: float, *selectors: str | Part, booked: tuple[str, ...] = (), **more: Any) -> Wish:
    return wish(seq, *selectors, starts_at=NOW + starts_in, booked=booked, **more)


def test_a_booking_gets_the_bench_that_is_free_for_all_of_it() -> None:
    held = (Held("l-0", ("hil-1",), NOW - 10, NOW + 500),)
    lab = Lab(NOW, (bench("hil-1"), bench("hil-2", rare="x")), held=held)
    assert book(booking(1, 509), lab, QUICK) == Booked(("hil-2",)), "until 510 hil-1 may need its clean-up"
    assert book(booking(1, 510), lab, QUICK) == Booked(("hil-1",))


def test_a_conflict_names_the_lease_in_the_way_and_the_next_free_slot() -> None:
    lab = Lab(
        NOW,
        (bench("hil-1", a="x"), bench("hil-2")),
        (booking(7, 1500, "a", booked=("hil-1",), duration_s=100.0),),
        (Held("l-0", ("hil-1",), NOW - 10, NOW + 700), Held("l-1", ("hil-2",), NOW - 10, NOW + 9000)),
    )
    assert book(booking(8, 400, "a"), lab, QUICK) == Refused(
        (InTheWay("l-0", "hil-1", NOW - 10, NOW + 700),), next_free=NOW + 710
    )
    refused = book(booking(8, 400, "a", duration_s=781.0), lab, QUICK)
    assert isinstance(refused, Refused) and refused.next_free == NOW + 1610, "the gap from 710 to 1490 is too short"


def test_between_two_bookings_there_is_time_to_clean_up() -> None:
    lab = Lab(NOW, (bench("hil-1"),), (booking(1, 1000, booked=("hil-1",)),))
    assert [isinstance(book(booking(2, at), lab, QUICK), Booked) for at in (390, 391, 1609, 1610)] == [
        True,
        False,
        False,
        True,
    ]


def test_a_booking_over_its_teams_quota_is_refused() -> None:
    rules = Rules(teams={"a": TeamRules(benches_at_once=1)})
    lab = Lab(NOW, (bench("hil-1"), bench("hil-2")), (booking(1, 5000, booked=("hil-1",), team="a"),))
    refused = book(booking(2, 5300, team="a"), lab, rules)
    assert isinstance(refused, Refused) and refused.shortfall is not None and refused.shortfall.taken == 1
    assert book(booking(2, 5600, team="a"), lab, rules) == Booked(("hil-2",))


def test_who_surely_ends_before_a_booking_may_run_before_it() -> None:
    lab = Lab(NOW, (bench("hil-1"),), (booking(1, 500, booked=("hil-1",)), wish(2), wish(3, duration_s=490.0)))
    assert decide(lab, QUICK).grants == (Grant("l-3", ("hil-1",), NOW + 490),)


def test_a_booking_starts_at_its_time_on_its_bench_and_ends_as_booked() -> None:
    early = (wish(1, asked_at=NOW - 5000), booking(2, -5, booked=("hil-1",)))
    decision = decide(Lab(NOW, (bench("hil-1"),), early), QUICK)
    assert decision.grants == (Grant("l-2", ("hil-1",), NOW + 595),)
    dirty = Bench("hil-1", {"name": "hil-1"}, clean=False)
    assert decide(Lab(NOW, (dirty, bench("hil-2")), (early[1],)), QUICK).grants == (), "it is coming"
    assert decide(Lab(NOW + 600, (bench("hil-1"),), (early[1],)), QUICK).lapsed == ("l-2",)


@pytest.mark.parametrize("fault", [{"obstacle": "offline"}, {"draining": True}])
def test_a_booking_whose_bench_falls_ill_is_placed_anew(fault: dict[str, Any]) -> None:
    ill = Bench("hil-1", {"name": "hil-1"}, **fault)
    booked = booking(1, 300, booked=("hil-1",))
    decision = decide(Lab(NOW, (ill, bench("hil-2")), (booked, wish(2))), QUICK)
    assert decision.moves == (Move("l-1", ("hil-2",)),)
    assert decision.grants == (), "the wish would not end before the booking"
    assert decide(Lab(NOW, (ill,), (booked,)), QUICK).stranded == ("l-1",)
    late = decide(Lab(NOW + 400, (ill, bench("hil-2")), (booked,)), QUICK)
    assert late.grants == (Grant("l-1", ("hil-2",), NOW + 900),)


def test_a_booking_that_never_began_leaves_its_benches_at_once() -> None:
    ill = Bench("hil-1", {"name": "hil-1"}, obstacle="offline")
    decision = decide(
        Lab(NOW, (ill, bench("hil-2")), (booking(1, -600, Part("", 2), booked=("hil-1", "hil-2")), wish(2))), QUICK
    )
    assert (decision.lapsed, granted(decision)) == (("l-1",), {"l-2": ("hil-2",)})


def test_others_that_have_not_begun_make_room_for_a_booking_whose_bench_fell_ill() -> None:
    ill = Bench("hil-1", {"name": "hil-1", "lin": "yes"}, obstacle="offline")
    benches = (ill, bench("hil-2", lin="yes"), bench("hil-3"))
    rare = booking(1, 300, "lin", booked=("hil-1",))
    modest = booking(2, 500, booked=("hil-2",))
    decision = decide(Lab(NOW, benches, (rare, modest)), QUICK)
    assert set(decision.moves) == {Move("l-1", ("hil-2",)), Move("l-2", ("hil-3",))}
    assert decision.stranded == ()

    insists = booking(2, 500, "name=hil-2", booked=("hil-2",))
    begun = booking(2, -10, booked=("hil-2",))
    elsewhere = booking(3, 1000, booked=("hil-3",))
    for wishes in ((rare, insists), (rare, begun), (rare, modest, elsewhere)):
        decision = decide(Lab(NOW, benches, wishes), QUICK)
        assert (decision.moves, decision.stranded) == ((), ("l-1",)), "nobody loses a bench for it without another"
    after = booking(3, 1200, booked=("hil-3",))
    assert len(decide(Lab(NOW, benches, (rare, modest, after)), QUICK).moves) == 2


def test_a_new_booking_moves_nobody() -> None:
    benches = (bench("hil-1", lin="yes"), bench("hil-2"))
    lab = Lab(NOW, benches, (booking(1, 300, booked=("hil-1",)),))
    assert book(booking(2, 300, "lin"), lab, QUICK) == Refused(
        (InTheWay("l-1", "hil-1", NOW + 300, NOW + 900),), NOW + 910
    )


def test_a_bench_promised_to_somebody_now_can_be_booked_for_when_that_one_is_gone() -> None:
    promised = Bench("hil-1", {"name": "hil-1"}, promised_to="l-1")
    held = (Held("l-0", ("hil-1",), NOW - 10, NOW + 900, priority="low", revoke_at=NOW + 100),)
    lab = Lab(NOW, (promised,), (wish(1, priority="urgent"),), held)
    assert book(booking(2, 720), lab, QUICK) == Booked(("hil-1",))
    refused = book(booking(2, 719), lab, QUICK)
    assert refused == Refused((InTheWay("l-1", "hil-1", NOW + 110, NOW + 710),), NOW + 720)


def test_a_lease_can_be_extended_until_somebody_has_its_bench() -> None:
    held = (Held("l-0", ("hil-1",), NOW - 10, NOW + 100), Held("l-9", ("hil-2",), NOW - 10, NOW + 100))
    lab = Lab(NOW, (bench("hil-1"), bench("hil-2")), (booking(1, 500, booked=("hil-1",)),), held)
    assert extend("l-0", NOW + 490, lab, QUICK) is None
    assert extend("l-0", NOW + 491, lab, QUICK) == Refused((InTheWay("l-1", "hil-1", NOW + 500, NOW + 1100),))
    assert extend("l-9", NOW + 9999, lab, QUICK) is None
    scarce = Rules(others=TeamRules(bench_hours_per_week=1.0))
    refused = extend("l-9", NOW + 2 * HOUR, Lab(NOW, lab.benches, held=held), scarce)
    assert refused is not None and refused.shortfall is not None


def test_benches_are_held_for_who_has_waited_long_enough_and_short_leases_run_meanwhile() -> None:
    pair = wish(1, Part("", 2), asked_at=NOW - 1000)
    held = (Held("l-0", ("hil-1",), NOW - 10, NOW + 300),)
    lab = Lab(NOW, (bench("hil-1"), bench("hil-2")), (pair, wish(2), wish(3, duration_s=300.0)), held)
    decision = decide(lab, QUICK)
    assert decision.reservations == (Reservation("l-1", ("hil-1", "hil-2"), NOW + 310),)
    assert decision.grants == (Grant("l-3", ("hil-2",), NOW + 300),)
    assert isinstance(book(booking(9, 350, "name=hil-2"), lab, QUICK), Refused), "nor may a booking get ahead of it"


@pytest.mark.parametrize(("first", "second"), [("hil-1", "hil-2"), ("hil-2", "hil-1")])
def test_a_short_lease_shares_out_benches_that_are_held_for_later_as_it_needs_them(first: str, second: str) -> None:
    benches = [bench(first, can="2", site="wob"), bench(second, can="2", site="muc"), bench("hil-3")]
    waiting = wish(1, f"name={second}", "name=hil-3", asked_at=NOW - 86_400)
    short = wish(2, "can=2", "site=wob", duration_s=HOUR / 2)
    held = [Held("l-0", ("hil-3",), NOW - HOUR, NOW + HOUR)]
    assert grants(benches, [waiting, short], held, ageing_s=86_400.0) == {"l-2": (second, first)}


def test_one_who_has_waited_in_vain_for_what_there_is_not_holds_up_nobody() -> None:
    impossible = wish(1, Part("", 3), asked_at=NOW - 5000)
    assert grants([bench("hil-1"), bench("hil-2")], [impossible, wish(2)]) == {"l-2": ("hil-1",)}


def low(name: str, benches: tuple[str, ...], granted_ago: float = 10.0, **more: Any) -> Held:
    return Held(name, benches, NOW - granted_ago, NOW + 5000, priority="low", **more)


def test_who_has_the_right_gives_notice_to_the_lower_lease_that_began_last() -> None:
    benches = (bench("hil-1"), bench("hil-2"), bench("hil-3"))
    held = (low("l-0", ("hil-1",), 50), low("l-1", ("hil-2",)), Held("l-2", ("hil-3",), NOW - 1, NOW + 5000))
    lab = Lab(NOW, benches, (wish(5, priority="urgent"), wish(6, priority="high")), held)
    assert decide(lab, QUICK).notices == (Notice("l-1", "l-5", NOW + 100, ("hil-2",)),)


def test_as_few_leases_as_possible_are_ended() -> None:
    benches = tuple(bench(f"hil-{number}") for number in range(1, 6))
    held = (low("l-0", ("hil-1",), 3), low("l-1", ("hil-2",), 2), low("l-2", ("hil-3", "hil-4", "hil-5"), 9))
    decision = decide(Lab(NOW, benches, (wish(9, Part("", 2), priority="urgent"),), held), QUICK)
    assert [notice.lease for notice in decision.notices] == ["l-2"]


def test_nobody_is_ended_who_need_not_be_where_there_are_too_many_to_try_all() -> None:
    benches = tuple(bench(f"hil-{number:02}", **({"a": "x"} if number % 20 == 0 else {})) for number in range(40))
    held = tuple(low(f"l-{one.name}", (one.name,), number) for number, one in enumerate(benches))
    decision = decide(Lab(NOW, benches, (wish(9, Part("a", 2), Part("!a", 3), priority="urgent"),), held), QUICK)
    assert {notice.lease for notice in decision.notices} == {"l-hil-00", "l-hil-20", "l-hil-01", "l-hil-02", "l-hil-03"}


def test_nobody_is_sent_away_where_a_bench_comes_free_within_the_grace_or_notice_was_given() -> None:
    benches = (bench("hil-1"), Bench("hil-2", {"name": "hil-2"}, promised_to="l-5"))
    noticed = low("l-1", ("hil-2",), revoke_at=NOW + 50)
    lab = Lab(NOW, benches, (wish(5, priority="urgent"),), (low("l-0", ("hil-1",)), noticed))
    assert decide(lab, QUICK).notices == ()
    second = Lab(NOW, benches, (wish(5, priority="urgent"), wish(6, priority="urgent")), lab.held)
    assert decide(second, QUICK).notices == (Notice("l-0", "l-6", NOW + 100, ("hil-1",)),)


def test_a_free_bench_is_held_for_who_was_promised_the_other() -> None:
    benches = (bench("hil-1"), Bench("hil-2", {"name": "hil-2"}, promised_to="l-5"))
    held = (low("l-1", ("hil-2",), revoke_at=NOW + 50),)
    lab = Lab(NOW, benches, (wish(5, Part("", 2), priority="urgent"), wish(6, priority="high")), held)
    decision = decide(lab, QUICK)
    assert decision.grants == () and decision.notices == ()
    assert decision.reservations == (Reservation("l-5", ("hil-1", "hil-2"), NOW + 60),)


def test_explain_says_the_place_who_is_ahead_and_what_excludes_which_bench() -> None:
    benches = (
        bench("hil-1", can="2"),
        bench("hil-2", can="1"),
        bench("hil-3", can="2", lin="yes"),
        Bench("hil-4", {"name": "hil-4", "can": "2", "lin": "yes"}, obstacle="offline"),
    )
    held = (Held("l-0", ("hil-3",), NOW - 10, NOW + 500),)
    waiting = (wish(1, "name=hil-3"), wish(2, "name=hil-2", duration_s=100.0), wish(3, "can=2,lin"))
    explanation = explain("l-3", Lab(NOW, benches, waiting, held), QUICK)
    assert (explanation.position, explanation.ahead) == (3, ("l-1",))
    [part] = explanation.parts
    assert part.excluded == {"can=2": ("hil-2",), "lin": ("hil-1", "hil-2")}
    assert part.matching == (
        Matching("hil-3", Why.HELD, by="l-0", until=NOW + 500),
        Matching("hil-4", Why.UNUSABLE, detail="offline"),
    )
    assert explanation.expected_start == NOW + 500 + 10 + 600 + 10


def test_what_keeps_each_bench_from_a_wish() -> None:
    benches = (
        bench("hil-1", "l-8"),
        Bench("hil-2", {"name": "hil-2"}, draining=True),
        Bench("hil-3", {"name": "hil-3"}, clean=False),
        bench("hil-4"),
        bench("hil-5"),
    )
    lab = Lab(
        NOW,
        benches,
        (
            wish(1, avoid=frozenset({"hil-5"})),
            booking(7, 300, booked=("hil-4",)),
            wish(8, Part("", 9)),
        ),
    )
    [part] = explain("l-1", lab, QUICK).parts
    assert {matching.bench: (matching.why, matching.by) for matching in part.matching} == {
        "hil-1": (Why.PROMISED, "l-8"),
        "hil-2": (Why.DRAINING, None),
        "hil-3": (Why.CLEANING_UP, None),
        "hil-4": (Why.BOOKED, "l-7"),
        "hil-5": (Why.FAILED_BEFORE, None),
    }


def test_the_expected_start_follows_from_what_recent_leases_lasted() -> None:
    held = (Held("l-0", ("hil-1",), NOW - 100, NOW + 900),)
    lab = Lab(NOW, (bench("hil-1"),), (wish(1), wish(2)), held)
    recent = [Recent(1000.0, share * 1000) for share in (0.05, 0.2, 0.3, 0.4, 1.0)]
    assert explain("l-1", lab, QUICK).expected_start == NOW + 910
    assert explain("l-1", lab, QUICK, recent).expected_start == NOW + 310, "of those over 100 s the median is 400 s"
    assert explain("l-2", lab, QUICK, recent).expected_start == NOW + 310 + 0.3 * 600 + 10


def test_the_expected_start_of_several_benches_and_around_a_booking() -> None:
    held = (Held("l-0", ("hil-1",), NOW - 10, NOW + 100), Held("l-1", ("hil-2",), NOW - 10, NOW + 200))
    booked = booking(7, 400, booked=("hil-1",))
    lab = Lab(NOW, (bench("hil-1"), bench("hil-2"), bench("hil-3", a="x")), (booked, wish(2, Part("!a", 2))), held)
    assert explain("l-2", lab, QUICK).expected_start == NOW + 1010
    short = Lab(NOW, lab.benches, (booked, wish(2, Part("!a", 2), duration_s=180.0)), held)
    assert explain("l-2", short, QUICK).expected_start == NOW + 210
    never = Lab(NOW, lab.benches, (wish(2, Part("a", 2)),), held)
    assert explain("l-2", never, QUICK).expected_start is None


def test_explain_names_quota_reservation_and_a_stranded_booking() -> None:
    rules = Rules(teams={"a": TeamRules(benches_at_once=1)}, clean_up_s=10.0)
    lab = Lab(
        NOW,
        (bench("hil-1"), bench("hil-2")),
        (wish(1, Part("", 2), team="a"), wish(2, Part("", 2), asked_at=NOW - 9999), booking(3, 50, booked=("gone",))),
        (Held("l-0", ("hil-1",), NOW - 10, NOW + 90),),
    )
    over = explain("l-1", lab, rules)
    assert over.over_quota is not None and over.expected_start is None
    held_for = explain("l-2", lab, rules).reservation
    assert held_for is not None
    assert explain("l-3", Lab(NOW, (), lab.wishes), rules).stranded


def test_the_expected_start_of_who_is_over_quota_is_when_the_team_has_less() -> None:
    rules = Rules(teams={"a": TeamRules(benches_at_once=1)}, clean_up_s=10.0)
    held = (Held("l-0", ("hil-1",), NOW - 100, NOW + 900, team="a"),)
    waiting = (wish(1, team="a"), wish(2, team="a"), wish(3))
    lab = Lab(NOW, (bench("hil-1"), bench("hil-2"), bench("hil-3")), waiting, held)
    first, second = explain("l-1", lab, rules), explain("l-2", lab, rules)
    assert first.over_quota is not None and first.expected_start == NOW + 900
    assert second.expected_start == NOW + 900 + 600, "after the one of its team that is ahead"
    assert explain("l-3", lab, rules).expected_start == NOW, "others do not wait for the team"
    recent = [Recent(1000.0, 400.0)] * 3
    assert explain("l-1", lab, rules, recent).expected_start == NOW + 300


def test_bench_hours_come_back_when_they_leave_the_week() -> None:
    rules = Rules(teams={"a": TeamRules(bench_hours_per_week=1)}, clean_up_s=10.0)
    used = {"a": (Used(NOW - 7200, NOW - 3600, 3500.0),)}
    lab = Lab(NOW, (bench("hil-1"),), (wish(1, team="a", duration_s=600.0),), used=used)
    found = explain("l-1", lab, rules)
    assert found.over_quota is not None and found.expected_start == NOW - 3600 + WEEK_S


def test_a_booking_is_explained_by_its_own_time() -> None:
    held = (Held("l-0", ("hil-1",), NOW - 10, NOW + 90), Held("l-9", ("hil-3",), NOW - 10, NOW + 900))
    benches = (bench("hil-1"), bench("hil-2"), bench("hil-3"), bench("hil-4"))
    others = (booking(7, 50, booked=("hil-2",)), booking(8, 2000, booked=("hil-4",)))
    lab = Lab(NOW, benches, (booking(3, 300, booked=("hil-1",)), *others), held)
    found = explain("l-3", lab, QUICK)
    assert found.expected_start == NOW + 300
    assert {one.bench: (one.why, one.by) for one in found.parts[0].matching} == {
        "hil-1": (Why.PROMISED, "l-3"),
        "hil-2": (Why.BOOKED, "l-7"),
        "hil-3": (Why.HELD, "l-9"),
        "hil-4": (Why.FREE, None),
    }
    stranded = Lab(NOW, (Bench("hil-1", {"name": "hil-1"}, obstacle="offline"),), lab.wishes[:1])
    assert explain("l-3", stranded, QUICK).expected_start is None


def test_why_a_site_does_not_do() -> None:
    benches = (bench("hil-1", site="graz", can="2"), bench("hil-2", site="graz"), bench("hil-3", site="brno", can="2"))
    both = wish(1, Part("can=2"), Part("!can"), same_site=True)
    held = (Held("l-0", ("hil-1",), NOW - 10, NOW + 90),)
    assert explain("l-1", Lab(NOW, benches, (both,), held), QUICK).short_of == {"brno": (1,), "graz": ()}
    apart = wish(1, Part("can=2"), Part("!can"))
    assert explain("l-1", Lab(NOW, benches, (apart,), held), QUICK).short_of == {}


def test_what_can_never_be_served() -> None:
    labels = {one.name: one.labels for one in (bench("hil-1", site="graz", a="x"), bench("hil-2", site="brno"))}
    assert impossible([Part(""), Part("a=x")], False, labels) is None
    assert impossible([Part("a"), Part("a=x")], False, labels) == (
        "2 different benches are wanted, and not so many meet these selectors together"
    )
    assert impossible([Part(""), Part("a=x")], True, labels) == "no site has the 2 benches together"
    assert impossible([Part("", 2)], True, labels | {"hil-3": {"name": "hil-3", "site": "graz"}}) is None
