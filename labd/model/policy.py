"""The lab's policy: who may ask for what, how much of it, and for how long. One document for the whole lab."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from labd.model.identity import Actor, Role
from labd.model.nearest import nearest
from labd.model.run import ExecutorName
from labd.model.selector import SelectorError, parse

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong with a policy, or with a wish under it."""

    field: str
    value: Any
    message: str


@dataclass(frozen=True, slots=True)
class PriorityClass:
    """A class of priority, and who may ask for it."""

    name: str
    rank: int
    """Higher is served first."""
    role: Role = Role.ENGINEER
    """The least role, in the team that pays, that may ask for it."""
    teams: tuple[str, ...] | None = None
    """Only these teams; None: all."""
    may_preempt: bool = False
    """It may take benches from those who hold them by a preemptible class of a lower rank."""
    preemptible: bool = False


@dataclass(frozen=True, slots=True)
class TeamPolicy:
    """What a team may have. None: no bound, or the lab's."""

    name: str
    weight: float = 1.0
    """Its share of the lab against those of other teams."""
    benches: int | None = None
    """At once."""
    bench_hours_per_week: float | None = None
    classes: tuple[str, ...] | None = None
    """Of priority, that it may ask for."""
    longest_lease_s: float | None = None
    executor: ExecutorName = ExecutorName.PROCESS
    """Of runs that name none."""


@dataclass(frozen=True, slots=True)
class RunLimit:
    """How many runs in clusters there may be at once, of those to which all applies that it says."""

    runs: int
    cluster: str | None = None
    """Only those in this one."""
    team: str | None = None
    """Only this one's."""
    selector: str | None = None
    """Only those that ask for benches by this selector."""

    def covers(self, cluster: str, team: str, selectors: Collection[str]) -> bool:
        """Whether such a run counts. Selectors are in their normal form."""
        return (
            self.cluster in (None, cluster)
            and self.team in (None, team)
            and (self.selector is None or _normal(self.selector) in selectors)
        )

    def __str__(self) -> str:
        selector = None if self.selector is None else _normal(self.selector)
        named = (("cluster", self.cluster), ("team", self.team), ("selector", selector))
        return ", ".join(f"{what} {name}" for what, name in named if name is not None) or "the lab"


@dataclass(frozen=True, slots=True)
class RunPolicy:
    """What holds for runs."""

    attempts: int = 3
    """Of a run whose runner is lost through no fault of its own, the first one included."""
    limits: tuple[RunLimit, ...] = ()
    """A run that would be one too many for any of them waits, without a bench."""


@dataclass(frozen=True, slots=True)
class Policy:
    """All of it. The defaults let everybody who may lease have what is free, first come, first served."""

    classes: tuple[PriorityClass, ...] = (
        PriorityClass("low", 0, preemptible=True),
        PriorityClass("normal", 10),
        PriorityClass("high", 20),
        PriorityClass("urgent", 30, role=Role.OPERATOR, may_preempt=True),
    )
    teams: tuple[TeamPolicy, ...] = ()
    ageing_bound_s: float = 4 * HOUR_S
    """Who has waited for this long stands before all who came later, whatever their class."""
    longest_lease_s: float = 30 * DAY_S
    """From the grant to the end, extensions included."""
    idle_release_s: float = 30 * 60.0
    """A held lease ends when nothing went to or from its benches for this long."""
    idle_notice_s: float = 5 * 60.0
    """How long before that its holder is told."""
    preemption_grace_s: float = 5 * 60.0
    """From the notice until the bench is taken."""
    clean_up_s: float = 60.0
    """What a bench may take from the end of a lease to the next: kept free before a booking."""
    booking_horizon_s: float = 14 * DAY_S
    """How far ahead a booking may start."""
    runs: RunPolicy = RunPolicy()

    def priority_class(self, name: str) -> PriorityClass | None:
        """The class of that name."""
        return next((one for one in self.classes if one.name == name), None)

    def team(self, name: str) -> TeamPolicy:
        """What this team may have."""
        return next((one for one in self.teams if one.name == name), TeamPolicy(name))

    def longest(self, team: str) -> float:
        """The longest lease of a team, in s."""
        own = self.team(team).longest_lease_s
        return self.longest_lease_s if own is None else min(own, self.longest_lease_s)

    def idle_ends_at(self, used_at: float) -> float:
        """When a held lease that was last used then ends for that."""
        return used_at + self.idle_release_s

    def idle_told_at(self, used_at: float) -> float:
        """When the holder of a lease that was last used then is told that it is to end for that."""
        return self.idle_ends_at(used_at) - self.idle_notice_s

    def objections(
        self, actor: Actor, *, team: str, priority: str, duration_s: float, benches: int
    ) -> Iterator[Mistake]:
        """Why this actor may not have such a lease; creation, extension and transfer all ask here."""
        rules = self.team(team)
        found = self.priority_class(priority)
        if found is None:
            names = [one.name for one in self.classes]
            yield Mistake("priority", priority, f"no class of priority{nearest(priority, names)}")
        elif not self._open_to(found, rules):
            allowed = [one.name for one in self.classes if self._open_to(one, rules)]
            yield Mistake(
                "priority", priority, f"team {team!r} may not ask for it; it may ask for {', '.join(allowed) or 'none'}"
            )
        elif not actor.may(found.role, team):
            yield Mistake("priority", priority, f"it takes the role {str(found.role)!r} in team {team!r}")
        longest = self.longest(team)
        if duration_s > longest:
            yield Mistake("duration_s", duration_s, f"a lease of team {team!r} lasts at most {longest:g} s")
        if rules.benches is not None and benches > rules.benches:
            yield Mistake("benches", benches, f"team {team!r} may have at most {rules.benches} benches at once")
        hours = benches * min(duration_s, 7 * DAY_S) / HOUR_S
        if rules.bench_hours_per_week is not None and hours > rules.bench_hours_per_week:
            has = f"team {team!r} has {rules.bench_hours_per_week:g} bench-hours a week, this asks for {hours:.4g}"
            yield Mistake("duration_s", duration_s, has)

    def mistakes(self) -> Iterator[Mistake]:
        """What does not fit together."""
        if not self.classes:
            yield Mistake("classes", [], "there must be one at least")
        names = [one.name for one in self.classes]
        for number, one in enumerate(self.classes):
            if one.name in names[:number]:
                yield Mistake(f"classes.{number}.name", one.name, "there is another class of this name")
            if one.rank in [other.rank for other in self.classes[:number]]:
                yield Mistake(f"classes.{number}.rank", one.rank, "another class has this rank")
        teams = [one.name for one in self.teams]
        for number, team in enumerate(self.teams):
            if team.name in teams[:number]:
                yield Mistake(f"teams.{number}.name", team.name, "there is another team of this name")
            for name in team.classes or ():
                if name not in names:
                    yield Mistake(f"teams.{number}.classes", name, f"no class of priority{nearest(name, names)}")
        for number, limit in enumerate(self.runs.limits):
            try:
                parse(limit.selector or "")
            except SelectorError as error:
                message = f"column {error.column}: {error.message}"
                yield Mistake(f"runs.limits.{number}.selector", limit.selector, message)
            if str(limit) in [str(other) for other in self.runs.limits[:number]]:
                yield Mistake(f"runs.limits.{number}", str(limit), "there is another limit for the same runs")
        if self.idle_notice_s >= self.idle_release_s:
            yield Mistake(
                "idle_notice_s", self.idle_notice_s, f"it must be below idle_release_s ({self.idle_release_s:g})"
            )

    def _open_to(self, found: PriorityClass, rules: TeamPolicy) -> bool:
        by_class = found.teams is None or rules.name in found.teams
        return by_class and (rules.classes is None or found.name in rules.classes)


def policy_of(document: Mapping[str, Any]) -> Policy:
    """The policy of a document as `dataclasses.asdict` made it. Fields that it lacks have their defaults."""
    values = dict(document)
    if "classes" in values:
        values["classes"] = tuple(_class_of(one) for one in values["classes"])
    if "teams" in values:
        values["teams"] = tuple(_team_of(one) for one in values["teams"])
    if "runs" in values:
        runs = dict(values["runs"])
        runs["limits"] = tuple(RunLimit(**one) for one in runs.get("limits", ()))
        values["runs"] = RunPolicy(**runs)
    return Policy(**values)


@lru_cache(1000)
def _normal(selector: str) -> str:
    """The selector as leases have it; what is none stays as it is."""
    try:
        return str(parse(selector))
    except SelectorError:
        return selector


def _class_of(values: Mapping[str, Any]) -> PriorityClass:
    found = PriorityClass(**values)
    teams = None if found.teams is None else tuple(found.teams)
    return replace(found, role=Role(found.role), teams=teams)


def _team_of(values: Mapping[str, Any]) -> TeamPolicy:
    found = TeamPolicy(**values)
    classes = None if found.classes is None else tuple(found.classes)
    return replace(found, classes=classes, executor=ExecutorName(found.executor))
