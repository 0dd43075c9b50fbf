"""The order in which wishes are looked at: bookings that are due, then by class and age, shared fairly between teams.

Waiting lifts a wish: from the lowest class it rises above the highest within ``ageing_s``, a class at a time, and from
a higher class sooner. Above all classes only arrival counts, so that nobody who comes later gets ahead of it any more.
Below, the teams of a level take turns by what they use relative to their weight, each with its own wishes first come,
first served.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from labd.scheduling.lab import Lab
from labd.scheduling.rules import Rules
from labd.scheduling.wish import Wish


def level(wish: Wish, rules: Rules, now: float) -> int:
    """The class's level and what waiting has added; ``rules.top`` once above all classes."""
    climbed = int(max(now - wish.asked_at, 0.0) * rules.top / rules.ageing_s)
    return min(rules.levels[wish.priority] + climbed, rules.top)


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
    due: list[tuple[float, int, Wish]] = []
    over: list[tuple[int, Wish]] = []
    waiting: dict[tuple[int, str], list[tuple[int, Wish]]] = defaultdict(list)
    for wish in wishes:
        if wish.starts_at is not None:
            if wish.starts_at <= now:
                due.append((wish.starts_at, wish.seq, wish))
            continue
        reached = level(wish, rules, now)
        if reached == rules.top:
            over.append((wish.seq, wish))
        else:
            waiting[reached, wish.team].append((wish.seq, wish))
    turns: list[tuple[int, float, int, Wish]] = []
    for (reached, team), own in waiting.items():
        spent = use.get(team, 0.0)
        weight = rules.team(team).weight
        own.sort(key=_arrival)
        for seq, wish in own:
            turns.append((-reached, spent / weight, seq, wish))
            spent += len(wish.slots) * wish.duration_s
    due.sort(key=lambda turn: turn[:2])
    over.sort(key=_arrival)
    turns.sort(key=lambda turn: turn[:3])
    return [turn[-1] for turn in due] + [wish for _, wish in over] + [turn[-1] for turn in turns]


def _arrival(turn: tuple[int, Wish]) -> int:
    return turn[0]
