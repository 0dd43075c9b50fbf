"""A lab that lives for weeks on a fake clock, driven at random: what must hold holds after every single decision."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import count
from typing import Any, ClassVar

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from labd.model.selector import parse
from labd.scheduling.booking import Booked, Refused, book, extend
from labd.scheduling.decide import decide
from labd.scheduling.decisions import Decision
from labd.scheduling.explain import explain
from labd.scheduling.lab import Bench, Held, Lab, Used
from labd.scheduling.rules import WEEK_S, Rules, TeamRules
from labd.scheduling.wish import Part, Wish
from tests.unit.labd.written_rules import (
    busiest_week_s,
    fair_use,
    most_at_once,
    placings,
    queue,
    risen_to,
)

HOUR = 3600.0
CLEAN_UP_S = 0.25 * HOUR
LONGEST_S = 12 * HOUR
AHEAD_S = 24 * HOUR
"""How long before its start a booking is made at most."""
MOST_WAITING = 10
RULES = Rules(
    ageing_s=24 * HOUR,
    clean_up_s=CLEAN_UP_S,
    grace_s=0.5 * HOUR,
    teams={
        "a": TeamRules(weight=2.0),
        "b": TeamRules(benches_at_once=2),
        "c": TeamRules(bench_hours_per_week=40.0),
    },
)
LABELS: dict[str, dict[str, str]] = {
    "hil-1": {"site": "graz", "can": "1"},
    "hil-2": {"site": "graz", "can": "2", "lin": "yes"},
    "hil-3": {"site": "graz", "can": "2"},
    "hil-4": {"site": "wob", "can": "2", "lin": "yes"},
    "hil-5": {"site": "wob", "can": "1"},
}
SELECTORS = ("", "can=1", "can=2", "lin", "!lin", "site=wob", "name=hil-3")
MATCHING = {
    selector: {name for name, labels in LABELS.items() if parse(selector).matches({**labels, "name": name})}
    for selector in (*SELECTORS, *(f"name={name}" for name in LABELS), "can=2")
}
SITE: dict[str, str | None] = {name: labels["site"] for name, labels in LABELS.items()}
BOUND_S = RULES.ageing_s + AHEAD_S + LONGEST_S + (MOST_WAITING + 1) * (LONGEST_S + CLEAN_UP_S)
"""After this a wish that could be served has been: it came above all classes, the bookings made until then have passed,
and everybody ahead had a turn."""

durations = st.sampled_from([0.5 * HOUR, 0.9 * HOUR, 5 * HOUR, LONGEST_S])
priorities = st.sampled_from(["low", "low", "low", "normal", "high", "urgent"])
afters = st.sampled_from([0.0, 0.1, 1.0, 3.0])
teams = st.sampled_from("abcd")
parts = st.lists(st.builds(Part, st.sampled_from(SELECTORS), st.sampled_from([1, 1, 2])), min_size=1, max_size=2).map(
    tuple
)
names = st.sampled_from(sorted(LABELS))


def could_be_served(wish: Wish, among: Iterable[str]) -> bool:
    return next(placings(wish, among, MATCHING, SITE), None) is not None


class SchedulingMachine(RuleBasedStateMachine):
    steps = 0
    seen: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000_000.0
        self.seq = 0
        self.wishes: dict[str, Wish] = {}
        self.held: dict[str, Held] = {}
        self.clean_at: dict[str, float] = {}
        """Leases that are ending, and when their benches will be clean."""
        self.promised: dict[str, str] = {}
        self.faults: dict[str, dict[str, Any]] = {}
        self.spent: list[tuple[str, int, float, float]] = []
        """By leases that are over: team, benches, from, until."""
        self.waits_since: dict[str, float] = {}

    # What people do

    @initialize(asked=st.lists(st.tuples(parts, durations, teams, priorities), min_size=5, max_size=8))
    def a_lab_at_work(self, asked: list[tuple[tuple[Part, ...], float, str, str]]) -> None:
        for number, (parts, duration_s, team, priority) in enumerate(asked):
            self.ask(parts, 0.1 * number, duration_s=duration_s, team=team, priority=priority)

    @precondition(lambda self: len(self.wishes) < MOST_WAITING)
    @rule(parts=parts, after_h=afters, duration_s=durations, team=teams, priority=priorities)
    def ask_simply(self, **wanted: Any) -> None:
        self.ask(**wanted)

    @precondition(lambda self: len(self.wishes) < MOST_WAITING)
    @rule(
        parts=parts,
        after_h=afters,
        duration_s=durations,
        team=teams,
        priority=priorities,
        same_site=st.booleans(),
        avoid=st.frozensets(names, max_size=1),
        affinity=st.sampled_from([None, "firmware"]),
    )
    def ask(self, parts: tuple[Part, ...], after_h: float = 0.0, **more: Any) -> None:
        if after_h:
            self.time_passes(after_h)
        wish = self.new_wish(parts, **more)
        if not could_be_served(wish, sorted(LABELS)):
            return
        self.wishes[wish.id] = wish
        self.waits_since[wish.id] = self.now
        self.schedule()

    @precondition(lambda self: len(self.wishes) < MOST_WAITING)
    @rule(parts=parts, duration_s=durations, team=teams, starts_in_s=st.sampled_from([0.0, HOUR, 7 * HOUR, AHEAD_S]))
    def book(self, parts: tuple[Part, ...], starts_in_s: float, **more: Any) -> None:
        wish = self.new_wish(parts, starts_at=self.now + starts_in_s, **more)
        answer = book(wish, self.lab(), RULES)
        if isinstance(answer, Booked):
            self.wishes[wish.id] = replace(wish, booked=answer.benches)
            self.schedule()
        else:
            self.check_refusal(wish, answer)

    @precondition(lambda self: self.wishes)
    @rule(number=st.integers(0, MOST_WAITING))
    def cancel(self, number: int) -> None:
        del self.wishes[sorted(self.wishes)[number % len(self.wishes)]]
        self.schedule()

    @precondition(lambda self: self.held)
    @rule(number=st.integers(0, 5))
    def release(self, number: int) -> None:
        self.end(sorted(self.held)[number % len(self.held)])
        self.schedule()

    @precondition(lambda self: self.held)
    @rule(number=st.integers(0, 5), more_s=durations)
    def extend(self, number: int, more_s: float) -> None:
        held = self.held[sorted(self.held)[number % len(self.held)]]
        if not held.ending and held.revoke_at is None and held.ends_at + more_s - held.granted_at <= LONGEST_S:
            refused = extend(held.id, held.ends_at + more_s, self.lab(), RULES)
            if refused is None:
                self.held[held.id] = replace(held, ends_at=held.ends_at + more_s)
                self.seen["extended"] += 1

    @precondition(lambda self: self.wishes)
    @rule(number=st.integers(0, MOST_WAITING))
    def ask_why(self, number: int) -> None:
        wish = self.wishes[sorted(self.wishes)[number % len(self.wishes)]]
        explanation = explain(wish.id, self.lab(), RULES)
        assert explanation.expected_start is None or explanation.expected_start >= min(
            self.now, wish.starts_at or self.now
        )
        if wish.starts_at is not None:
            assert explanation.position is None
            return
        order = self.queue()
        place = order.index(wish)
        assert explanation.position == place + 1

        def wants(one: Wish) -> set[str]:
            """The benches that might serve it."""
            found = {name for part in one.parts for name in MATCHING[part.selector]} - self.faults.keys()
            return found if one.avoid else {*self.rightful(one, Decision(), found)}

        rivals = [one.id for one in order[:place] if wants(one) & wants(wish)]
        if not self.promised and not any(one.avoid for one in order):
            assert list(explanation.ahead) == rivals

    # What happens

    @precondition(lambda self: not self.faults)
    @rule(name=names, fault=st.sampled_from([{"obstacle": "offline"}, {"draining": True}]))
    def fall_ill(self, name: str, fault: dict[str, Any]) -> None:
        self.faults[name] = fault
        self.schedule()

    @precondition(lambda self: not self.faults and any(wish.booked for wish in self.wishes.values()))
    @rule(number=st.integers(0, MOST_WAITING))
    def a_booked_bench_falls_ill(self, number: int) -> None:
        booked = sorted({name for wish in self.wishes.values() for name in wish.booked})
        self.faults[booked[number % len(booked)]] = {"obstacle": "quarantined"}
        self.schedule()

    @precondition(lambda self: self.faults)
    @rule()
    def get_well(self) -> None:
        self.faults.clear()
        self.schedule()

    @rule()
    def a_while_passes(self) -> None:
        self.time_passes(2.0)

    @rule(hours=st.sampled_from([0.1, 1.0, 6.0, 30.0]))
    def time_passes(self, hours: float) -> None:
        until = self.now + hours * HOUR
        while self.now < until:
            coming = [until, *self.clean_at.values()]
            coming += [held.gone_at for held in self.held.values() if not held.ending]
            coming += [wish.starts_at for wish in self.wishes.values() if wish.starts_at is not None]
            coming += [wish.ends_at for wish in self.wishes.values() if wish.ends_at is not None]
            self.now = min(moment for moment in coming if moment > self.now)
            for held in list(self.held.values()):
                if not held.ending and held.gone_at <= self.now:
                    self.end(held.id)
            for lease, clean_at in list(self.clean_at.items()):
                if clean_at <= self.now:
                    self.clean(lease)
            self.schedule()

    @invariant()
    def count(self) -> None:
        type(self).steps += 1

    # The lab

    def new_wish(self, parts: tuple[Part, ...], **more: Any) -> Wish:
        self.seq += 1
        return Wish(f"l-{self.seq:04}", self.seq, parts, asked_at=self.now, **more)

    def end(self, lease: str) -> None:
        held = self.held[lease]
        if not held.ending:
            self.held[lease] = replace(held, ending=True)
            self.clean_at[lease] = self.now + CLEAN_UP_S * (1 if len(lease) % 2 else 0.5)

    def clean(self, lease: str) -> None:
        held = self.held.pop(lease)
        del self.clean_at[lease]
        self.spent.append((held.team, len(held.benches), held.granted_at, min(self.now, held.ends_at)))

    def lab(self) -> Lab:
        used: dict[str, list[Used]] = {team: [] for team in "abcd"}
        for team, benches, since, until in self.spent:
            if until > max(since, self.now - WEEK_S):
                used[team].append(Used(since, until, benches * (until - since)))
        return Lab(
            self.now,
            tuple(
                Bench(name, {**labels, "name": name}, promised_to=self.promised.get(name), **self.faults.get(name, {}))
                for name, labels in LABELS.items()
            ),
            tuple(reversed(self.wishes.values())),  # in whatever order they come
            tuple(self.held.values()),
            {team: tuple(spans) for team, spans in used.items()},
        )

    def schedule(self) -> None:
        lab = self.lab()
        decision = decide(lab, RULES)
        self.check(lab, decision)
        for move in decision.moves:
            self.wishes[move.wish] = replace(self.wishes[move.wish], booked=move.benches)
        for grant in decision.grants:
            wish = self.wishes.pop(grant.wish)
            self.held[wish.id] = Held(wish.id, grant.benches, self.now, grant.ends_at, wish.team, wish.priority)
        for notice in decision.notices:
            self.held[notice.lease] = replace(self.held[notice.lease], revoke_at=notice.revoke_at)
            self.promised.update(dict.fromkeys(notice.benches, notice.wish))
        for lapsed in decision.lapsed:
            del self.wishes[lapsed]
        for kind in ("grants", "notices", "moves", "stranded", "reservations", "over_quota"):
            self.seen[kind] += len(getattr(decision, kind))
        self.check_quotas()
        self.check_waits(decision)

    # What must hold

    def check(self, lab: Lab, decision: Decision) -> None:
        taken = {name for held in self.held.values() for name in held.benches}
        handed_out = [name for grant in decision.grants for name in grant.benches]
        assert len(handed_out) == len({*handed_out}) and not taken & {*handed_out}, "no bench has two holders"
        assert not self.faults.keys() & {*handed_out}
        bookings = self.bookings(decision)
        for grant in decision.grants:
            wish = self.wishes[grant.wish]
            assert grant.benches in placings(wish, grant.benches, MATCHING, SITE), "all that was asked for, or nothing"
            assert grant.ends_at == (wish.ends_at or self.now + wish.duration_s)
            assert self.ends_before(bookings, wish.id, grant.benches, grant.ends_at)
            if wish.starts_at is None:  # a booking was made around what is promised, and starts at its time
                assert {*self.rightful(wish, decision, grant.benches)} == {*grant.benches}, "it was promised to another"
        self.check_bookings(decision, taken, bookings)
        self.check_order(decision, taken, bookings)
        for notice in decision.notices:
            victim = self.held[notice.lease]
            assert self.wishes[notice.wish].priority == "urgent" and victim.priority == "low"
            assert victim.revoke_at is None and notice.revoke_at == self.now + RULES.grace_s

    def rightful(self, wish: Wish, decision: Decision, benches: Iterable[str]) -> list[str]:
        """Those of the benches that are not promised to another who waits, and not for its quota."""
        others = self.wishes.keys() - decision.over_quota.keys() - {wish.id}
        return [name for name in benches if self.promised.get(name) not in others]

    def bookings(self, decision: Decision) -> dict[str, tuple[float, tuple[str, ...]]]:
        moved = {move.wish: move.benches for move in decision.moves}
        return {
            wish.id: (wish.starts_at, moved.get(wish.id, wish.booked))
            for wish in self.wishes.values()
            if wish.starts_at is not None and wish.id not in decision.lapsed
        }

    @staticmethod
    def ends_before(
        starts: dict[str, tuple[float, tuple[str, ...]]], wish: str, benches: Sequence[str], ends_at: float
    ) -> bool:
        return all(
            ends_at + CLEAN_UP_S <= starts_at
            for other, (starts_at, theirs) in starts.items()
            if other != wish and {*theirs} & {*benches}
        )

    def check_bookings(
        self, decision: Decision, taken: set[str], bookings: dict[str, tuple[float, tuple[str, ...]]]
    ) -> None:
        granted = {grant.wish: grant for grant in decision.grants}
        for booking, (starts_at, benches) in bookings.items():
            if booking not in decision.stranded:
                assert not self.faults.keys() & {*benches}, "a booking is on benches that work"
                if starts_at <= self.now and booking not in granted:
                    assert taken & {*benches}
                    assert self.late(benches), "a booking starts at its time"
            if booking in granted:
                assert granted[booking].benches == benches
                self.seen["booked"] += 1
        for booking in decision.stranded:
            wish = self.wishes[booking]
            assert wish.starts_at is not None and wish.ends_at is not None
            start = max(wish.starts_at, self.now)
            free = self.free_between(start, wish.ends_at, bookings, besides=booking)
            rightful = self.rightful(wish, decision, free)
            assert not could_be_served(wish, rightful), "there are benches for a booking whose bench fell ill"
            self.check_nobody_makes_room(wish, start, decision, bookings)

    def check_nobody_makes_room(
        self, wish: Wish, start: float, decision: Decision, bookings: dict[str, tuple[float, tuple[str, ...]]]
    ) -> None:
        """Another booking of one bench that could be on another moves for a stranded one."""
        assert wish.ends_at is not None
        for other, (starts_at, benches) in bookings.items():
            one, rest = self.wishes[other], {name: bookings[name] for name in bookings.keys() - {other}}
            if starts_at <= self.now or other in decision.stranded or len(benches) > 1 or one.ends_at is None:
                continue
            free = self.free_between(start, wish.ends_at, rest, besides=wish.id)
            chosen = placings(wish, self.rightful(wish, decision, free), MATCHING, SITE)
            elsewhere = self.free_between(starts_at, one.ends_at, rest) - {*benches}
            elsewhere = {*self.rightful(one, decision, elsewhere)}
            assert len(wish.slots) > 1 or not any(could_be_served(one, elsewhere - {*mine}) for mine in chosen)

    def free_between(
        self, start: float, end: float, bookings: dict[str, tuple[float, tuple[str, ...]]], besides: str = ""
    ) -> set[str]:
        """The benches that nobody has then, nor in the clean-up before and after."""
        free = LABELS.keys() - self.faults.keys()
        for held in self.held.values():
            if (self.now if held.ending else held.gone_at) + CLEAN_UP_S > start:
                free -= {*held.benches}
        for other, (starts_at, benches) in bookings.items():
            ends_at = self.wishes[other].ends_at
            clash = ends_at is not None and starts_at < end + CLEAN_UP_S and ends_at + CLEAN_UP_S > start
            if other != besides and clash:
                free -= {*benches}
        return free

    def late(self, benches: Sequence[str]) -> bool:
        """Whether one of these could not be clean in time: the booking came to it just now."""
        return any(
            held.ending and {*held.benches} & {*benches} and self.clean_at[held.id] > self.now
            for held in self.held.values()
        )

    def queue(self) -> list[Wish]:
        """By the written rules."""
        held = [(one.team, len(one.benches), one.granted_at) for one in self.held.values()]
        spent = [one for one in self.spent if one[3] > max(one[2], self.now - WEEK_S)]
        waiting = [wish for wish in self.wishes.values() if wish.starts_at is None]
        return queue(waiting, RULES, self.now, fair_use(spent, held, self.now, RULES.fair_half_life_s))

    def check_order(
        self, decision: Decision, taken: set[str], bookings: dict[str, tuple[float, tuple[str, ...]]]
    ) -> None:
        """Who goes without could not have been served with what is left and what those behind it got."""
        got = {grant.wish: grant for grant in decision.grants}
        reserved = {held.wish: held for held in decision.reservations}
        left = LABELS.keys() - taken - self.faults.keys()
        for booking in bookings.keys() & got.keys():
            left -= {*got[booking].benches}
        starts = dict(bookings)
        for wish in self.queue():
            self.check_quota(wish, decision)
            if wish.id in got:
                grant = got[wish.id]
                assert self.ends_before(starts, wish.id, grant.benches, grant.ends_at), "it was held for one ahead"
                left -= {*grant.benches}
            elif wish.id not in decision.over_quota:
                among = [
                    name
                    for name in self.rightful(wish, decision, left - wish.avoid)
                    if self.ends_before(starts, wish.id, (name,), self.now + wish.duration_s)
                ]
                assert not could_be_served(wish, among), f"{wish.id} was passed over"
                self.seen["waited"] += 1
                risen = risen_to(wish, RULES, self.now) == len(RULES.classes)
                if wish.id in reserved:
                    held = reserved[wish.id]
                    assert risen or wish.id in self.promised.values()
                    assert held.benches in placings(wish, held.benches, MATCHING, SITE)
                    starts[wish.id] = (held.starts_at, held.benches)
                elif risen:
                    usable = LABELS.keys() - self.faults.keys()
                    assert not could_be_served(wish, self.rightful(wish, decision, usable)), "nothing is held for it"

    def check_quota(self, wish: Wish, decision: Decision) -> None:
        """Who waits for a quota would break it, and a quota alone keeps back whom it keeps."""
        if wish.id not in decision.over_quota:
            return
        start, end = self.now, self.now + wish.duration_s
        stays = [(len(wish.slots), start, end)]
        granted = {grant.wish: grant.ends_at for grant in decision.grants}
        for lease in self.held.values():
            if lease.team == wish.team:
                stays.append((len(lease.benches), lease.granted_at, self.now if lease.ending else lease.ends_at))
        for other in self.wishes.values():
            if other.team == wish.team and other.starts_at is not None and other.booked:
                stays.append((len(other.slots), other.starts_at, other.starts_at + other.duration_s))
            elif other.team == wish.team and other.id in granted:
                stays.append((len(other.slots), self.now, granted[other.id]))
        if wish.team == "b":
            assert most_at_once(stays, start, end) > 2, "its team may have more benches"
        else:
            assert wish.team == "c"
            stays += [one[1:] for one in self.spent if one[0] == "c" and one[3] > self.now - WEEK_S]
            assert busiest_week_s(stays, start, end, WEEK_S) > 40 * HOUR, "its team may have more hours"

    def check_quotas(self) -> None:
        at_once = sum(len(held.benches) for held in self.held.values() if held.team == "b" and not held.ending)
        assert at_once <= 2
        spans = [one[1:] for one in self.spent if one[0] == "c"]
        spans += [
            (len(held.benches), held.granted_at, min(self.now, held.ends_at))
            for held in self.held.values()
            if held.team == "c"
        ]
        week = self.now - WEEK_S
        used_s = sum(benches * max(until - max(since, week), 0.0) for benches, since, until in spans)
        assert used_s <= 40 * HOUR + 1

    def check_waits(self, decision: Decision) -> None:
        usable = LABELS.keys() - self.faults.keys()
        for wish in self.wishes.values():
            if wish.starts_at is None:
                hampered = wish.id in decision.over_quota or self.faults or not could_be_served(wish, usable)
                if hampered:
                    self.waits_since[wish.id] = self.now
                assert self.now - self.waits_since[wish.id] <= BOUND_S, f"{wish.id} waits for ever"

    def check_refusal(self, wish: Wish, answer: Refused) -> None:
        """Somebody is in the way of it, who is named, and the slot that is offered instead is the first."""
        if answer.shortfall is not None:
            self.seen["refused for quota"] += 1
            return
        assert wish.starts_at is not None and wish.ends_at is not None
        known = {one.id: one.benches for one in self.held.values()} | {
            one.id: one.booked for one in self.wishes.values()
        }
        for way in answer.in_the_way:
            assert known[way.lease] == () or way.bench in known[way.lease]
            assert any(way.bench in MATCHING[part.selector] for part in wish.parts)
            assert way.starts_at < wish.ends_at + CLEAN_UP_S and way.ends_at + CLEAN_UP_S > wish.starts_at
        bookings = {one.id: (one.starts_at, one.booked) for one in self.wishes.values() if one.starts_at is not None}
        reservations = decide(self.lab(), RULES).reservations

        def free(start: float) -> set[str]:
            benches = self.free_between(start, start + wish.duration_s, bookings)
            for held in reservations:
                if held.starts_at < start + wish.duration_s + CLEAN_UP_S:  # for how long, only the scheduler knows
                    benches -= {*held.benches}
            return benches

        assert not could_be_served(wish, free(wish.starts_at))
        if answer.next_free is None:
            return
        assert answer.in_the_way and answer.next_free > wish.starts_at
        ends = [held.gone_at for held in self.held.values()] + [one.ends_at or 0.0 for one in self.wishes.values()]
        for start in [wish.starts_at, *(end + CLEAN_UP_S for end in ends)]:
            if wish.starts_at <= start < answer.next_free:
                assert not could_be_served(wish, free(start)), "there is an earlier slot"
        later = book(replace(wish, starts_at=answer.next_free, team="d"), self.lab(), RULES)
        assert isinstance(later, Booked)
        self.seen["refused, with another slot"] += 1


@pytest.mark.timeout(600)
def test_a_lab_of_ten_thousand_steps() -> None:
    SchedulingMachine.steps = 0
    SchedulingMachine.seen.clear()
    fifty = settings(max_examples=50, stateful_step_count=100)
    for number in count():
        # Other labs each time; the same ones in every run of this test, unless it explores.
        machine = seed(number)(SchedulingMachine) if fifty.derandomize else SchedulingMachine
        run_state_machine_as_test(machine, settings=fifty)
        if SchedulingMachine.steps >= 10_000:
            break
    rare = ("grants", "notices", "reservations", "over_quota", "booked", "extended")
    assert all(SchedulingMachine.seen[kind] for kind in rare), SchedulingMachine.seen


class Flood(SchedulingMachine):
    """A lab in which more is asked for than there ever is."""

    def check(self, lab: Lab, decision: Decision) -> None:
        """Left to the other machine: here the queue is too long to try everything."""

    def check_waits(self, decision: Decision) -> None:
        """Left to the test: the many may wait, this one not."""


@settings(max_examples=10)
@given(st.data())
def test_the_lowest_wish_for_most_benches_is_served_within_the_bound_whoever_comes_after(data: st.DataObject) -> None:
    lab = Flood()
    crowd = {"same_site": False, "avoid": frozenset(), "affinity": None}
    for name in LABELS:
        lab.ask((Part(f"name={name}"),), duration_s=LONGEST_S, team="a", priority="normal", **crowd)
    lab.ask((Part("can=2", 3), Part("")), duration_s=LONGEST_S, team="d", priority="low", **crowd)
    [patient] = lab.wishes
    latest = lab.now + RULES.ageing_s + AHEAD_S + HOUR + CLEAN_UP_S + 2 * HOUR
    """Above all classes, and behind the last booking that was there before; looked at every hour."""
    while patient in lab.wishes:
        assert lab.now <= latest
        while len(lab.wishes) < MOST_WAITING:
            part = Part(data.draw(st.sampled_from(SELECTORS)))
            priority = data.draw(st.sampled_from(["normal", "high", "urgent"]))
            lab.ask((part,), duration_s=data.draw(durations), team="a", priority=priority, **crowd)
        part = Part(data.draw(st.sampled_from(SELECTORS)))
        lab.book((part,), data.draw(st.sampled_from([0.0, 7 * HOUR, AHEAD_S])), duration_s=HOUR, team="a")
        lab.time_passes(1.0)
