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
    waited_s = now - wish.asked_at
    reached = rules.levels[wish.priority] + (int(waited_s * rules.top / rules.ageing_s) if waited_s > 0 else 0)
    return reached if reached < rules.top else rules.top


def aged(wish: Wish, rules: Rules, now: float) -> bool:
    """Whether it has waited itself above all classes."""
    return level(wish, rules, now) == rules.top


def recent_use(lab: Lab, rules: Rules) -> dict[str, int]:
    """Whole bench-seconds of the teams that wait; what lies ``fair_half_life_s`` back counts half, and so on.

    Empty where only one team waits: there is nobody to be fair to.
    """
    if len(lab.teams) < 2:
        return {}
    now, half_life_s = lab.now, rules.fair_half_life_s
    use: dict[str, float] = defaultdict(float)
    for team in lab.teams:
        for span in lab.used.get(team, ()):
            ago_s = now - (span.starts_at + span.ends_at) / 2
            use[team] += span.bench_s * 0.5 ** (ago_s / half_life_s) if ago_s > 0 else span.bench_s
    for held in lab.held:
        use[held.team] += len(held.benches) * max(now - held.granted_at, 0.0)
    return {team: round(used) for team, used in use.items()}


def in_order(wishes: Iterable[Wish], rules: Rules, now: float, use: Mapping[str, float]) -> list[Wish]:
    """All wishes whose time has come, first the first to be served. ``use`` is each team's in bench-seconds.

    A wish counts with what it will use against those of its team behind it: of two teams with equal use and weight,
    each gets every other turn.
    """
    due: list[tuple[float, int, str, Wish]] = []
    over: list[Wish] = []
    waiting: list[dict[str, list[Wish]]] = [defaultdict(list) for _ in range(rules.top)]
    levels, top, ageing_s = rules.levels, rules.top, rules.ageing_s
    for wish in wishes:
        if wish.starts_at is not None:
            if wish.starts_at <= now:
                due.append((wish.starts_at, wish.seq, wish.id, wish))
            continue
        waited_s = now - wish.asked_at  # as in ``level``, without five thousand calls of it
        reached = levels[wish.priority] + (int(waited_s * top / ageing_s) if waited_s > 0 else 0)
        if reached < top:
            waiting[reached][wish.team].append(wish)
        else:
            over.append(wish)
    due.sort()
    over.sort(key=_ARRIVAL)
    order = [turn[-1] for turn in due] + over
    for teams in reversed(waiting):
        turns: list[tuple[float, int, str, Wish]] = []
        for team, own in teams.items():
            spent = use.get(team, 0.0)
            weight = rules.team(team).weight
            own.sort(key=_ARRIVAL)
            for wish in own:
                turns.append((spent / weight, wish.seq, wish.id, wish))
                spent += wish.count * wish.duration_s
        turns.sort()
        order += [turn[-1] for turn in turns]
    return order
