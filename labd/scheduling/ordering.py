"""The order in which wishes are looked at: bookings that are due, then by class and age, shared fairly between teams.

Waiting lifts a wish: from the lowest class it rises above the highest within ``ageing_s``, a class at a time, and from
a higher class sooner. Above all classes only arrival counts, so that nobody who comes later gets ahead of it any more.
Below, the teams of a level take turns by what they use relative to their weight, each with its own wishes first come,
first served.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from operator import attrgetter

from labd.scheduling.lab import Lab
from labd.scheduling.rules import Rules
from labd.scheduling.wish import Wish

_ARRIVAL = attrgetter("seq")


def level(wish: Wish, rules: Rules, now: float) -> int:
    """The class's level and what waiting has added; ``rules.top`` once above all classes."""
    reached = rules.levels[wish.priority] + int((now - wish.asked_at) * rules.top / rules.ageing_s)
    return reached if reached < rules.top else rules.top


def aged(wish: Wish, rules: Rules, now: float) -> bool:
    """Whether it has waited itself above all classes."""
    return level(wish, rules, now) == rules.top


def recent_use(lab: Lab, rules: Rules) -> dict[str, float]:
    """Bench-seconds by team; what lies ``fair_half_life_s`` back counts half, and so on."""
    use: dict[str, float] = defaultdict(float)
    for team, spans in lab.used.items():
        use[team] += sum(
            span.bench_s * 0.5 ** (max(lab.now - (span.starts_at + span.ends_at) / 2, 0.0) / rules.fair_half_life_s)
            for span in spans
        )
    for held in lab.held:
        use[held.team] += len(held.benches) * max(lab.now - held.granted_at, 0.0)
    return use


def in_order(wishes: Iterable[Wish], rules: Rules, now: float, use: Mapping[str, float]) -> list[Wish]:
    """All wishes whose time has come, first the first to be served. ``use`` is each team's in bench-seconds.

    A wish counts with what it will use against those of its team behind it: of two teams with equal use and weight,
    each gets every other turn.
    """
    due: list[tuple[float, int, str, Wish]] = []
    over: list[Wish] = []
    waiting: dict[tuple[int, str], list[Wish]] = defaultdict(list)
    for wish in wishes:
        if wish.starts_at is not None:
            if wish.starts_at <= now:
                due.append((wish.starts_at, wish.seq, wish.id, wish))
            continue
        reached = level(wish, rules, now)
        if reached == rules.top:
            over.append(wish)
        else:
            waiting[reached, wish.team].append(wish)
    turns: list[tuple[int, float, int, str, Wish]] = []
    for (reached, team), own in waiting.items():
        spent = use.get(team, 0.0)
        weight = rules.team(team).weight
        own.sort(key=_ARRIVAL)
        for wish in own:
            turns.append((-reached, spent / weight, wish.seq, wish.id, wish))
            spent += wish.count * wish.duration_s
    due.sort()
    over.sort(key=_ARRIVAL)
    turns.sort()
    return [turn[-1] for turn in due] + over + [turn[-1] for turn in turns]
