"""The audit log."""

from typing import Any

from pydantic import BaseModel, Field

from labd.api.schemas.common import Time
from labd.model.audit import Fault


class AuditEntry(BaseModel):
    """Something that somebody did. `hash` is the SHA-256 of the RFC 8785 text of all other members."""

    seq: int = Field(description="From 1, without gaps.")
    time: float = Field(description="Seconds since the Unix epoch, as it was hashed.")
    actor: str
    kind: str = Field(description="Of the actor: person, program, run, agent, system.")
    team: str = Field(description="Whose thing it was done to; empty where it concerns the whole lab.")
    action: str = Field(examples=["lease.granted"])
    subject: str = Field(examples=["lease/l-5f3a9c01d2e4"])
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    why: str
    previous: str = Field(description="Hash of the entry before; zeros before the first.")
    hash: str


class AuditVerdict(BaseModel):
    """Whether the log is what was written."""

    sound: bool
    checked: int = Field(description="Entries that are sound, up to the fault if there is one.")
    head: str | None = Field(
        description="SEQ:HASH of the last entry of a sound log. Kept elsewhere, it shows later that the log was not "
        "written anew: pass it as `expected`."
    )
    fault: Fault | None
    seq: int | None = Field(description="The first entry that the fault concerns.")
    detail: str
    verified_at: Time
