"""On small labs a decision agrees with a scheduler that tries everything."""

from collections.abc import Iterator, Sequence
from itertools import combinations, permutations

from hypothesis import event, given, settings
from hypothesis import strategies as st

from labd.model.selector import parse
from labd.scheduling.decide import decide
from labd.scheduling.lab import Bench, Held, Lab, Used
from labd.scheduling.ordering import in_order, recent_use
from labd.scheduling.preemption import preemptible
from labd.scheduling.rules import Rules, TeamRules
from labd.scheduling.wish import Part, Wish
from tests.unit.labd import written_rules

NOW = 1_000_000.0
RULES = Rules(clean_up_s=10.0, grace_s=50.0, teams={"b": TeamRules(benches_at_once=3)})
SELECTORS = ("", "a", "b", "!a", "a,b", "c in (x,y)", "c!=x", "name=hil-1")


def serves(wish: Wish, benches: Sequence[Bench]) -> bool:
    """Whether these benches, in this order, are what the wish asks for."""
    selectors = [parse(wish.parts[part].selector) for part in wish.slots]
    if not all(selector.matches(bench.labels) for selector, bench in zip(selectors, benches, strict=True)):
        return False
    return not wish.same_site or len({bench.labels.get("site") for bench in benches}) == 1


def assignments(wish: Wish, free: Sequence[Bench]) -> Iterator[tuple[Bench, ...]]:
    return (chosen for chosen in permutations(free, len(wish.slots)) if serves(wish, chosen))


def servable(wishes: Sequence[Wish], free: Sequence[Bench]) -> bool:
    """Whether all of these can be served at once."""
    if not wishes:
        return True
    return any(
        servable(wishes[1:], [bench for bench in free if bench not in chosen])
        for chosen in {
            frozenset(bench.name for bench in chosen): chosen for chosen in assignments(wishes[0], free)
        }.values()
    )


@st.composite
def benches(draw: st.DrawFn, most: int = 5) -> tuple[Bench, ...]:
    labels = st.fixed_dictionaries(
        {}, optional={"a": st.just("x"), "b": st.just("x"), "c": st.sampled_from("xyz"), "site": st.sampled_from("gw")}
    )
    found = draw(st.lists(labels, max_size=most))
    return tuple(Bench(f"hil-{number}", {**one, "name": f"hil-{number}"}) for number, one in enumerate(found))


@st.composite
def wishes(draw: st.DrawFn, most: int = 5, priorities: Sequence[str] = ("low", "normal", "high")) -> tuple[Wish, ...]:
    parts = st.lists(st.builds(Part, st.sampled_from(SELECTORS), st.integers(1, 2)), min_size=1, max_size=2)
    return tuple(
        Wish(
            f"l-{seq}",
            seq,
            tuple(draw(parts)),
            100.0,
            NOW - seq,
            team=draw(st.sampled_from("ab")),
            priority=draw(st.sampled_from(priorities)),
            same_site=draw(st.booleans()),
            affinity=draw(st.sampled_from([None, "firmware"])),
        )
        for seq in range(draw(st.integers(0, most)))
    )


HOUR = 3600
FAIR = Rules(ageing_s=8 * HOUR, teams={"a": TeamRules(weight=2.0)})
spans = st.tuples(st.sampled_from("abc"), st.integers(1, 3), st.integers(1, 100), st.integers(1, 24))


@settings(max_examples=200)
@given(
    st.lists(
        st.builds(
            Wish,
            id=st.uuids().map(str),
            seq=st.integers(0, 1000),
            parts=st.integers(1, 3).map(lambda count: (Part("", count),)),
            duration_s=st.integers(1, 12).map(lambda hours: hours * HOUR),
            asked_at=st.integers(0, 9).map(lambda hours: NOW - hours * HOUR),
            team=st.sampled_from("abc"),
            priority=st.sampled_from(["low", "normal", "high", "urgent"]),
        ),
        min_size=2,
        max_size=9,
        unique_by=lambda wish: wish.seq,
    ),
    st.lists(spans, max_size=6),
    st.lists(spans, max_size=4),
)
def test_the_order_is_that_of_the_written_rules(
    waiting: list[Wish], over: list[tuple[str, int, int, int]], present: list[tuple[str, int, int, int]]
) -> None:
    spent = [(team, count, NOW - (ago + hours) * HOUR, NOW - ago * HOUR) for team, count, ago, hours in over]
    held = [
        Held(f"h-{number}", tuple(f"hil-{number}-{one}" for one in range(count)), NOW - ago * HOUR, NOW + HOUR, team)
        for number, (team, count, ago, _) in enumerate(present)
    ]
    used = {
        team: tuple(Used(since, until, count * (until - since)) for by, count, since, until in spent if by == team)
        for team in "abc"
    }
    lab = Lab(NOW, (), tuple(waiting), tuple(held), used)
    use = written_rules.fair_use(
        spent, [(one.team, len(one.benches), one.granted_at) for one in held], NOW, FAIR.fair_half_life_s
    )
    order = in_order(waiting, FAIR, NOW, recent_use(lab, FAIR))
    assert [wish.seq for wish in order] == [wish.seq for wish in written_rules.queue(waiting, FAIR, NOW, use)]


@settings(max_examples=300)
@given(benches(), wishes(), st.randoms())
def test_a_wish_goes_without_only_if_it_cannot_be_served_together_with_all_served_before_it(
    free: tuple[Bench, ...], queue: tuple[Wish, ...], random: st.DataObject
) -> None:
    held_by_b = 0
    expected: list[Wish] = []
    for wish in written_rules.queue(queue, RULES, NOW, {}):
        over = wish.team == "b" and held_by_b + len(wish.slots) > 3
        if not over and servable([*expected, wish], free):
            expected.append(wish)
            held_by_b += len(wish.slots) if wish.team == "b" else 0
    shuffled = list(queue)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    decision = decide(Lab(NOW, free, tuple(shuffled)), RULES)
    assert [grant.wish for grant in decision.grants] == [wish.id for wish in expected]
    by_name = {bench.name: bench for bench in free}
    asked = {wish.id: wish for wish in queue}
    assert all(serves(asked[grant.wish], [by_name[name] for name in grant.benches]) for grant in decision.grants)
    given_out = [name for grant in decision.grants for name in grant.benches]
    assert len(set(given_out)) == len(given_out)
    assert decision == decide(Lab(NOW, free[::-1], queue), RULES), "the order of arguments makes no difference"
    event(f"{len(expected)} of {len(queue)} served")


@settings(max_examples=150)
@given(benches(), st.data())
def test_no_smaller_set_of_leases_would_be_enough_for_a_preemption(
    all_: tuple[Bench, ...], data: st.DataObject
) -> None:
    names: list[str] = [bench.name for bench in all_]
    held: list[Held] = []
    while data.draw(st.booleans()) and names:
        own = tuple(names.pop() for _ in range(min(len(names), data.draw(st.integers(1, 2)))))
        priority = data.draw(st.sampled_from(["low", "normal"]))
        held.append(Held(f"h-{len(held)}", own, NOW - len(held), NOW + 1000, priority=priority))
    queue = data.draw(wishes(1, ("urgent",)))
    lab = Lab(NOW, all_, queue, tuple(held))
    decision = decide(lab, RULES)
    free = [bench for bench in all_ if bench.name in names]
    if not queue or decision.grants or decision.over_quota:
        assert not decision.notices
        return
    victims = preemptible(lab, RULES, "urgent")
    assert all(one.priority == "low" for one in victims)
    enough = [
        size
        for size in range(len(victims) + 1)
        for chosen in combinations(victims, size)
        if servable(queue, [*free, *(bench for bench in all_ for one in chosen if bench.name in one.benches)])
    ]
    assert len(decision.notices) == min(enough, default=0)
    event(f"{len(decision.notices)} notices")
