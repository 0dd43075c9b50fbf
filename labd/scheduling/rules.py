"""What the lab allows: classes of priority, ageing, shares and quotas of teams."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

WEEK_S = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class PriorityClass:
    """A class of wishes; the higher rank goes first."""

    name: str
    rank: int
    preempts: bool = False
    """Its wishes may end leases of lower, preemptible classes, with notice."""
    preemptible: bool = False


@dataclass(frozen=True, slots=True)
class TeamRules:
    """What one team may have."""

    weight: float = 1.0
    """Its share inside a class, relative to the others'. More than 0."""
    benches_at_once: int | None = None
    bench_hours_per_week: float | None = None
    """In any seven days in a row."""

    @property
    def limited(self) -> bool:
        """Whether it has a quota at all."""
        return self.benches_at_once is not None or self.bench_hours_per_week is not None


DEFAULT_CLASSES = (
    PriorityClass("low", 0, preemptible=True),
    PriorityClass("normal", 10),
    PriorityClass("high", 20),
    PriorityClass("urgent", 30, preempts=True),
)


@dataclass(frozen=True)
class Rules:
    """The part of the policy that decisions follow."""

    classes: tuple[PriorityClass, ...] = DEFAULT_CLASSES
    ageing_s: float = 3600.0
    """After this time at the latest a wish stands ahead of all that came after it, whatever their class, and what it
    needs is held for it."""
    teams: Mapping[str, TeamRules] = field(default_factory=dict)
    others: TeamRules = TeamRules()
    """For teams not in ``teams``."""
    clean_up_s: float = 60.0
    """What a bench may take from the end of a lease to the start of the next: kept free before a booking."""
    grace_s: float = 120.0
    """From the notice of a preemption to the end of the lease."""
    limits: Mapping[str, int] = field(default_factory=dict)
    """By name, how many leases there may be at once that count for it."""
    fair_half_life_s: float = 24 * 3600.0
    """What a team used this long ago counts half against its share."""

    @cached_property
    def by_name(self) -> dict[str, PriorityClass]:
        """The classes by name."""
        return {cls.name: cls for cls in self.classes}

    @cached_property
    def levels(self) -> dict[str, int]:
        """The level of each class: 0 for the lowest rank, counting up without gaps."""
        ranks = sorted({cls.rank for cls in self.classes})
        return {cls.name: ranks.index(cls.rank) for cls in self.classes}

    @cached_property
    def top(self) -> int:
        """The level above all classes, that wishes reach by waiting."""
        return max(self.levels.values()) + 1

    def team(self, name: str) -> TeamRules:
        """What this team may have."""
        return self.teams.get(name, self.others)
