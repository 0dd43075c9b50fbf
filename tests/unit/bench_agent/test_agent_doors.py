"""Which labd an agent dials, and when: without a clock."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from bench_agent.server.doors import FIRST_PATIENCE_S, LAST_PATIENCE_S, LAST_RETRY_S, SPREAD_S, Doors

ADDRESSES = ["a:1", "b:1", "c:1"]
Chance = random.Random


@given(st.integers(1, 5), st.integers(0, 2**32))
def test_each_labd_is_asked_once_in_a_round(count: int, seed: int) -> None:
    addresses = [f"labd-{number}:8471" for number in range(count)]
    doors = Doors(addresses, Chance(seed))
    for _ in range(4):
        asked = []
        for _ in range(count):
            asked.append(doors.current)
            doors.move_on(welcomed=False)
        assert sorted(asked) == sorted(addresses)


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 4), st.integers(0, 2**32))
def test_pauses_are_bounded_and_short_after_a_welcome(story: list[bool], count: int, seed: int) -> None:
    doors = Doors(ADDRESSES[:count], Chance(seed))
    for welcomed in story:
        assert FIRST_PATIENCE_S <= doors.patience_s <= LAST_PATIENCE_S
        left = doors.current
        pause = doors.move_on(welcomed=welcomed)
        assert 0 <= pause <= (SPREAD_S if welcomed else LAST_RETRY_S)
        assert doors.current != left or count == 1


def test_one_that_nobody_answers_asks_ever_more_rarely() -> None:
    doors = Doors(ADDRESSES, Chance(1))
    pauses = [doors.move_on(welcomed=False) for _ in range(60)]
    assert sum(pauses[:3]) < 1.0
    assert min(pauses[-3:]) >= LAST_RETRY_S / 2
    assert doors.patience_s == LAST_PATIENCE_S


def test_the_agents_of_a_labd_that_is_gone_spread_over_the_others_and_over_time() -> None:
    chance = Chance(2)
    fleet = [Doors(ADDRESSES, chance) for _ in range(900)]
    begun = Counter(doors.current for doors in fleet)
    assert all(240 < count < 360 for count in begun.values())
    orphans = [doors for doors in fleet if doors.current == "a:1"]
    arrivals = Counter(round(doors.move_on(welcomed=True), 1) for doors in orphans)
    assert max(arrivals.values()) < len(orphans) / 4
    assert all(count > len(orphans) / 3 for count in Counter(doors.current for doors in orphans).values())
