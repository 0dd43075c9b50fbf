"""The audit log."""

import re
from typing import Annotated

from fastapi import Query

from labd.api import schemas
from labd.api.context import ActorOf, LabOf, SpanOf, TeamFilter
from labd.api.paging import Page, PagingOf
from labd.api.problems import responses
from labd.api.routing import Router
from labd.api.times import to_text
from labd.model.audit import Head
from labd.model.identity import Role
from labd.services.errors import FieldError, Invalid
from labd.store.units.audit import AuditFilter

router = Router(prefix="/audit", tags=["audit"])


@router.get("", responses=responses(), summary="Read the audit log")
def list_audit(
    lab: LabOf,
    actor_: ActorOf,
    paging: PagingOf,
    span: SpanOf,
    team: TeamFilter = None,
    *,
    action: Annotated[
        str, Query(max_length=64, description="`noun.verb`, or a noun for all its verbs.", examples=["lease"])
    ] = "",
    subject: Annotated[str, Query(max_length=300, description="`kind/name`.", examples=["lease/l-5f3a9c01d2e4"])] = "",
    actor: Annotated[str, Query(max_length=300, description="Who did it.", examples=["ada"])] = "",
    oldest_first: Annotated[bool, Query(description="Instead of newest first.")] = False,
) -> Page[schemas.AuditEntry]:
    """Newest first, unless asked otherwise. An operator of teams reads what was done to things of these."""
    readable = actor_.teams(Role.OPERATOR)
    wanted = AuditFilter(action, subject, actor, team or "", span.since, span.until, readable)
    entries = lab.auditing.page(
        wanted, after=paging.after_number, limit=paging.limit + 1, newest_first=not oldest_first
    )
    return paging.page(entries, lambda entry: entry.seq, lambda entry: schemas.AuditEntry(**entry.record))


@router.get("/verify", responses=responses(), summary="Verify the audit log")
def verify_audit(
    lab: LabOf,
    expected: Annotated[
        str | None, Query(max_length=80, description="SEQ:HASH, the `head` of an earlier verification.")
    ] = None,
) -> schemas.AuditVerdict:
    """Reads the whole log and names the first entry that was altered, removed, inserted or cut off."""
    verdict = lab.auditing.verify(None if expected is None else _head(expected))
    head = verdict.head
    return schemas.AuditVerdict(
        sound=verdict.fault is None,
        checked=verdict.checked,
        head=None if head is None else f"{head.seq}:{head.hash}",
        fault=verdict.fault,
        seq=verdict.seq,
        detail=verdict.detail,
        verified_at=to_text(lab.core.clock.now()),
    )


def _head(text: str) -> Head:
    match = re.fullmatch(r"([0-9]{1,10}):([0-9a-f]{64})", text)
    if match is None:
        message = "expected SEQ:HASH, the head of an earlier verification"
        raise Invalid(f"expected is {text!r}: {message}", FieldError("expected", text, message))
    return Head(int(match[1]), match[2])
