"""The audit log of a unit of work."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import RowMapping, Select, select

from labd.model.audit import PRUNED, Deed, Entry, Gap, Head, gaps_told
from labd.store import tables
from labd.store.units.part import Part
from labd.store.untold import lock_audit


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries are wanted; None and empty: all. Times in seconds since the Unix epoch."""

    action: str = ""
    """``noun.verb``, or a noun alone for all its verbs."""
    subject: str = ""
    actor: str = ""
    team: str = ""
    since: float | None = None
    until: float | None = None
    teams: frozenset[str] | None = None
    """Only what was done to things of one of these; None: all."""


class Audit(Part):
    """The audit log of a unit of work."""

    def record(self, deed: Deed) -> None:
        """Puts a deed on record, as the next in the chain once the transaction ends."""
        self._telling.deeds.append(deed)

    def lock_audit(self) -> Head:
        """The end of the chain, kept from other writers until the transaction ends. Raises DatabaseCorrupt."""
        return lock_audit(self._connection)

    def audit_head(self) -> Head | None:
        """The end of the chain; None when somebody removed it."""
        return self._head(select(tables.audit_head))

    def audit_page(self, wanted: AuditFilter, *, after: int | None, limit: int, newest_first: bool) -> list[Entry]:
        """Up to ``limit`` entries beyond number ``after``, in the order asked for."""
        columns = tables.audit.c
        query = select(tables.audit).order_by(columns.seq.desc() if newest_first else columns.seq).limit(limit)
        if after is not None:
            query = query.where(columns.seq < after if newest_first else columns.seq > after)
        if wanted.action:
            exact = "." in wanted.action
            query = query.where(
                columns.action == wanted.action
                if exact
                else columns.action.startswith(f"{wanted.action}.", autoescape=True)
            )
        for column, value in (
            (columns.subject, wanted.subject),
            (columns.actor, wanted.actor),
            (columns.team, wanted.team),
        ):
            if value:
                query = query.where(column == value)
        if wanted.teams is not None:
            query = query.where(columns.team.in_(wanted.teams))
        if wanted.since is not None:
            query = query.where(columns.time >= wanted.since)
        if wanted.until is not None:
            query = query.where(columns.time < wanted.until)
        return [entry_of(row) for row in self._connection.execute(query).mappings()]

    def audit_entries(self) -> Iterator[Entry]:
        """All entries in their order, a few at a time."""
        after: int | None = None
        while page := self.audit_page(AuditFilter(), after=after, limit=500, newest_first=False):
            yield from page
            after = page[-1].seq

    def audit_checkpoint(self) -> Head | None:
        """The last that retention left."""
        columns = tables.audit_checkpoints.c
        return self._head(select(columns.seq, columns.hash).order_by(columns.seq.desc()).limit(1))

    def audit_gaps(self) -> Iterator[Gap]:
        """Those that the log says retention has left."""
        query = select(tables.audit).where(tables.audit.c.action == PRUNED).order_by(tables.audit.c.seq)
        for row in self._connection.execute(query).mappings():
            yield from gaps_told(entry_of(row).deed)

    def _head(self, query: Select[Any]) -> Head | None:
        row = self._connection.execute(query).first()
        return None if row is None else Head(row.seq, row.hash)


def entry_of(row: RowMapping) -> Entry:
    """A row of the table as an entry."""
    deed = Deed(
        time=row["time"],
        actor=row["actor"],
        kind=row["kind"],
        team=row["team"],
        action=row["action"],
        subject=row["subject"],
        before=_object(row["before"]),
        after=_object(row["after"]),
        why=row["why"],
    )
    return Entry(row["seq"], deed, row["previous"], row["hash"])


def _object(text: str | None) -> dict[str, Any] | None:
    """What is no JSON object any more was altered, and is shown as it is: its hash will not fit."""
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return {"unreadable": text}
    return value if isinstance(value, dict) else {"unreadable": text}
