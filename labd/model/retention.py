"""How long the lab keeps what it has recorded: by age and size, per team. None: for ever, and as much as there is."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

DAY_S = 86400.0
LEASES_KEPT_S = 8 * DAY_S
"""Ended leases are kept for this long at least: quotas count the hours of the last week."""


AUDIT_KEPT_S = DAY_S
"""Entries of the audit log are kept for this long at least: nobody can push out what they have just done."""


@dataclass(frozen=True, slots=True)
class TeamRetention:
    """What is kept of a team's."""

    runs_days: float | None = None
    """Runs with all that belongs to them, and leases, after their end."""
    runs_mb: float | None = None
    """Runs with all that belongs to them, together; those that ended first go first. MB are 10^6 bytes."""
    logs_days: float | None = None
    """Logs of runs, after the end of the run; result and verdict stay."""
    logs_mb: float | None = None
    """Logs together; those of the runs that ended first go first."""
    traces_days: float | None = None
    """Traces of leases, after the last frame."""
    traces_mb: float | None = None
    """Traces together at each agent; the oldest go first."""
    audit_days: float | None = None
    """Entries of the audit log on what is the team's."""
    audit_mb: float | None = None
    """Those together; the oldest go first."""


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept of everything."""

    default: TeamRetention = field(default_factory=TeamRetention)
    """Of teams that have no rules of their own."""
    teams: Mapping[str, TeamRetention] = field(default_factory=dict)
    """Rules of single teams, in place of the default as a whole."""
    audit_days: float | None = None
    """All entries of the audit log, whomever they concern."""
    audit_mb: float | None = None
    """Those together; the oldest go first."""

    def of(self, team: str) -> TeamRetention:
        """The rules of a team."""
        return self.teams.get(team, self.default)

    def mistakes(self) -> Iterator[tuple[str, float, str]]:
        """What makes no sense: field, value, and what would be right."""
        rules = {"default": self.default, **{f"teams.{name}": one for name, one in self.teams.items()}}
        for name, one in rules.items():
            if one.runs_days is not None and one.logs_days is not None and one.logs_days > one.runs_days:
                yield f"{name}.logs_days", one.logs_days, f"a log goes with its run, after {one.runs_days:g} days"
            if one.runs_mb is not None and one.logs_mb is not None and one.logs_mb > one.runs_mb:
                yield f"{name}.logs_mb", one.logs_mb, f"a log goes with its run, of which {one.runs_mb:g} MB are kept"
            if one.audit_days is not None and self.audit_days is not None and one.audit_days > self.audit_days:
                message = f"no entry of the log is kept for longer than audit_days, {self.audit_days:g} days"
                yield f"{name}.audit_days", one.audit_days, message
            if one.audit_mb is not None and self.audit_mb is not None and one.audit_mb > self.audit_mb:
                message = f"no more of the log is kept than audit_mb, {self.audit_mb:g} MB"
                yield f"{name}.audit_mb", one.audit_mb, message


def retention_of(document: Mapping[str, Any]) -> Retention:
    """The retention of a document as `dataclasses.asdict` made it."""
    return Retention(
        default=TeamRetention(**document.get("default", {})),
        teams={name: TeamRetention(**one) for name, one in document.get("teams", {}).items()},
        audit_days=document.get("audit_days"),
        audit_mb=document.get("audit_mb"),
    )


@dataclass(frozen=True, slots=True)
class Swept:
    """What was removed, or would be."""

    runs: int = 0
    leases: int = 0
    logs: int = 0
    """Of runs that stay."""
    log_bytes: int = 0
    files: int = 0
    """Contents that no run refers to any more."""
    audit_entries: int = 0

    def __add__(self, other: "Swept") -> "Swept":
        return Swept(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))
