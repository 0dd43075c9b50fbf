"""How long one decision pass takes in a lab of 1,000 benches with 5,000 waiting."""

import random
import time
from dataclasses import replace
from pathlib import Path

from labd.scheduling.decide import decide
from labd.scheduling.lab import Bench, Held, Lab, Used
from labd.scheduling.rules import Rules, TeamRules
from labd.scheduling.wish import Part, Wish
from tests.benchmarks.figures import Figure

BENCHES = 1_000
WAITING = 5_000
ROUNDS = 15
HOUR = 3600.0
PLATFORMS = [f"platform-{number}" for number in range(12)]
TEAMS = [f"team-{number}" for number in range(20)]
RULES = Rules(
    ageing_s=4 * HOUR,
    teams={"team-0": TeamRules(benches_at_once=20), "team-1": TeamRules(2.0, bench_hours_per_week=100.0)},
)


def busy_lab(seed: int, busy: float) -> Lab:
    """A lab of which this share is held, with bookings, wishes for several benches, aged ones and quotas."""
    choose = random.Random(seed)  # noqa: S311 - a made-up lab, not a secret
    benches = tuple(_bench(choose, number) for number in range(BENCHES))
    names = [bench.name for bench in benches]
    held = tuple(
        Held(f"h-{name}", (name,), -choose.random() * HOUR, choose.random() * 4 * HOUR, choose.choice(TEAMS), "low")
        for name in names
        if choose.random() < busy
    )
    wishes = [_wish(choose, names, number) for number in range(WAITING)]
    wishes += [
        Wish(f"b-{name}", WAITING, (Part(""),), 2 * HOUR, 0.0, starts_at=choose.uniform(4, 24) * HOUR, booked=(name,))
        for name in choose.sample(names, BENCHES // 10)
    ]
    used = {
        team: tuple(Used(-hour * HOUR, (1 - hour) * HOUR, choose.random() * HOUR) for hour in range(1, 169))
        for team in TEAMS
    }
    return Lab(0.0, benches, tuple(wishes), held, used)


def _bench(choose: random.Random, number: int) -> Bench:
    labels = {
        "name": f"hil-{number:04}",
        "platform": choose.choice(PLATFORMS),
        "site": choose.choice(("graz", "ingolstadt", "wolfsburg")),
        "generation": str(choose.randrange(4)),
        "buses": str(choose.randrange(1, 5)),
    }
    return Bench(labels["name"], labels | ({"power": "yes"} if choose.random() < 0.4 else {}))


def _selector(choose: random.Random, names: list[str]) -> str:
    if choose.random() < 0.05:
        return f"name={choose.choice(names)}"
    terms = []
    if choose.random() < 0.9:
        terms.append(f"platform={choose.choice(PLATFORMS)}")
    if choose.random() < 0.3:
        terms.append(f"generation in ({choose.randrange(4)},{choose.randrange(4)})")
    if choose.random() < 0.3:
        terms.append("power")
    if choose.random() < 0.1:
        terms.append(f"buses!={choose.randrange(1, 5)}")
    return ",".join(terms)


def _wish(choose: random.Random, names: list[str], number: int) -> Wish:
    several = choose.random() < 0.05
    parts = (Part(_selector(choose, names), 2 if several else 1), Part(_selector(choose, names)))
    return Wish(
        f"l-{number}",
        number,
        parts if several else parts[:1],
        choose.choice((600.0, HOUR, 3 * HOUR)),
        -5 * HOUR * (1 - number / WAITING),
        team=choose.choice(TEAMS),
        priority=choose.choice(("low", "normal", "high", "urgent") if number % 50 == 0 else ("low", "normal", "high")),
        same_site=several and choose.random() < 0.5,
        affinity=choose.choice((None, None, "firmware-1", "firmware-2", "firmware-3")),
    )


def one_pass(lab: Lab) -> list[float]:
    """One sample, in ms."""
    started = time.perf_counter()
    decide(lab, RULES)
    return [(time.perf_counter() - started) * 1e3]


def sort_alone(lab: Lab) -> list[float]:
    """One sample, in ms, of the least that a scheduler could do: sort the wishes by class and arrival."""
    started = time.perf_counter()
    sorted(lab.wishes, key=lambda wish: (RULES.levels[wish.priority], wish.seq))
    return [(time.perf_counter() - started) * 1e3]


def measure(folder: Path) -> list[Figure]:
    """Once with almost every bench held, as it is day by day, and once with every bench free, as after a holiday."""
    figures = []
    for name, busy, target_ms in (("held", 0.98, 50), ("free", 0.0, 150)):
        lab = busy_lab(1, busy)
        one_pass(lab)
        labs = [replace(lab, wishes=tuple(replace(wish) for wish in lab.wishes)) for _ in range(ROUNDS)]
        rounds = [(one_pass(lab), sort_alone(lab)) for lab in labs]
        samples, baseline = ([sample for pair in rounds for sample in pair[which]] for which in (0, 1))
        figures.append(
            Figure(
                f"decision pass, {BENCHES:,} benches {name}, {WAITING:,} waiting", "ms", samples,
                "sorting the wishes", baseline, of="value", sense="at most", target=target_ms,
            )
        )  # fmt: skip
    return figures
