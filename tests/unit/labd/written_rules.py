"""The rules of docs/explanation/scheduling.md a second time: slow, plain, and without a line of the scheduler's."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from labd.scheduling.rules import Rules
from labd.scheduling.wish import Wish


def risen_to(wish: Wish, rules: Rules, now: float) -> int:
    """The class that the wish stands in by now, 0 for the lowest; the number of classes once it is above all."""
    names = [one.name for one in sorted(rules.classes, key=lambda one: one.rank)]
    stands, waited_s = names.index(wish.priority), now - wish.asked_at
    step_s = rules.ageing_s / len(names)
    while stands < len(names) and waited_s >= step_s:
        stands += 1
        waited_s -= step_s
    return stands


def fair_use(spent: Iterable[tuple[str, float, float, float]], held: Iterable[tuple[str, int, float]], now: float,
             half_life_s: float) -> dict[str, int]:  # fmt: skip
    """What counts against each team, in whole bench-seconds.

    ``spent``: team, benches, from, until. What lies a half-life back, from the middle of its time, counts half.
    ``held``: team, benches, since when. That counts in full.
    """
    use: dict[str, float] = {}
    for team, benches, since, until in spent:
        halvings = max((now - (since + until) / 2) / half_life_s, 0)
        use[team] = use.get(team, 0) + benches * (until - since) / 2**halvings
    for team, benches, since in held:
        use[team] = use.get(team, 0) + benches * (now - since)
    return {team: round(used) for team, used in use.items()}


def queue(waiting: Iterable[Wish], rules: Rules, now: float, use: Mapping[str, int]) -> list[Wish]:
    """Who is served first, and then next: nobody may be overtaken by somebody behind who takes what he could have."""
    rest = sorted(waiting, key=lambda wish: wish.seq)
    ordered = [wish for wish in rest if risen_to(wish, rules, now) == len(rules.classes)]
    for stands in reversed(range(len(rules.classes))):
        lined_up = [wish for wish in rest if risen_to(wish, rules, now) == stands]
        tally: dict[str, float] = dict(use)
        while lined_up:
            firsts = {wish.team: wish for wish in reversed(lined_up)}.values()
            turn = min(firsts, key=lambda wish: (tally.get(wish.team, 0) / rules.team(wish.team).weight, wish.seq))
            tally[turn.team] = tally.get(turn.team, 0) + len(turn.slots) * turn.duration_s
            lined_up.remove(turn)
            ordered.append(turn)
    return ordered


def placings(
    wish: Wish, among: Iterable[str], matching: Mapping[str, set[str]], site: Mapping[str, str | None]
) -> Iterator[tuple[str, ...]]:
    """Every way to give the wish all of its benches. ``matching``: the benches by selector."""
    choices = [sorted({*among} & matching[wish.parts[part].selector]) for part in wish.slots]

    def rest(chosen: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if len(chosen) == len(choices):
            yield chosen
            return
        for name in choices[len(chosen)]:
            if name not in chosen and not (wish.same_site and chosen and site[name] != site[chosen[0]]):
                yield from rest((*chosen, name))

    return rest(())


def most_at_once(stays: Sequence[tuple[int, float, float]], start: float, end: float) -> int:
    """The most benches together at any moment from start until end. ``stays``: benches, from, until."""
    moments = {start, *(since for _, since, _ in stays if start <= since < end)}
    return max(sum(benches for benches, since, until in stays if since <= at < until) for at in moments)


def busiest_week_s(stays: Sequence[tuple[int, float, float]], start: float, end: float, week_s: float) -> float:
    """The most bench-seconds in any week that overlaps the time from start until end."""

    def in_week_until(last: float) -> float:
        return sum(benches * max(min(until, last) - max(since, last - week_s), 0.0) for benches, since, until in stays)

    lasts = {until for *_, until in stays} | {since + week_s for _, since, _ in stays}
    return max((in_week_until(last) for last in lasts if start < last <= end + week_s), default=0.0)
