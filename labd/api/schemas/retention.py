"""Retention."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from labd.api.schemas.common import Request, Word

_Days = Annotated[float | None, Field(ge=0, le=36500)]
_Megabytes = Annotated[float | None, Field(ge=0, le=1e9)]


class TeamRetention(Request):
    """What is kept of a team's; null: for ever, and all of it."""

    runs_days: Annotated[_Days, Field(description="Runs with all that belongs to them, and leases, after the end.")] = (
        None
    )
    runs_mb: Annotated[
        _Megabytes, Field(description="Runs together, in 10^6 bytes; those that ended first go first.")
    ] = None
    logs_days: Annotated[_Days, Field(description="Logs of runs, after the end of the run.")] = None
    logs_mb: Annotated[_Megabytes, Field(description="Logs together, in 10^6 bytes; the oldest go first.")] = None
    traces_days: Annotated[_Days, Field(description="Traces of leases, after the last frame.")] = None
    traces_mb: Annotated[_Megabytes, Field(description="Traces at each agent, in 10^6 bytes; the oldest go first.")] = (
        None
    )
    audit_days: Annotated[_Days, Field(description="Entries of the audit log on what is the team's.")] = None
    audit_mb: Annotated[_Megabytes, Field(description="Those together, in 10^6 bytes; the oldest go first.")] = None


class Retention(Request):
    """What is kept for how long."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "default": {"runs_days": 365, "runs_mb": 50000, "logs_days": 90, "logs_mb": 20000, "traces_days": 30},
                "teams": {"chassis": {"runs_days": 3650, "audit_days": 365}},
                "audit_days": 1095,
                "audit_mb": 10000,
            }
        }
    )
    default: TeamRetention = TeamRetention()
    teams: Annotated[
        dict[Word, TeamRetention], Field(max_length=10_000, description="In place of the default as a whole.")
    ] = Field(default={})
    audit_days: Annotated[
        _Days, Field(description="All entries of the audit log, whomever they concern. The last day stays anyway.")
    ] = None
    audit_mb: Annotated[_Megabytes, Field(description="Those together, in 10^6 bytes; the oldest go first.")] = None


class Swept(BaseModel):
    """What was removed, or would be."""

    runs: int
    leases: int
    logs: int = Field(description="Of runs that stay.")
    log_bytes: int
    files: int = Field(description="That came with runs, and that no run refers to any more; unknown in a preview.")
    audit_entries: int
