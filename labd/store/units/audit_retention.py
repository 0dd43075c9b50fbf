"""What of the audit log is old or too much, and its removal, a bounded number of rows at a time."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import reduce
from operator import add

from sqlalchemy import ColumnElement, and_, delete, func, insert, not_, or_, select

from labd.model.audit import Gap, Head, gaps_in
from labd.store import tables
from labd.store.octets import octets
from labd.store.units.audit import entry_of
from labd.store.units.part import Part

_columns = tables.audit.c
_TEXTS = (
    _columns.actor,
    _columns.kind,
    _columns.team,
    _columns.action,
    _columns.subject,
    _columns.before,
    _columns.after,
    _columns.why,
    _columns.previous,
    _columns.hash,
)
_NUMBERS = 16
"""Bytes of the number and the time of an entry."""


@dataclass(frozen=True, slots=True)
class Surplus:
    """Entries that are not to be kept: those before a time, and those up to a number; ``spared_since`` bounds both."""

    before: float
    """s since the Unix epoch."""
    upto: int
    spared_since: float
    """What is younger stays."""
    team: str | None = None
    """Its entries only; None: all, as long as none that stays comes before."""

    def covers(self) -> ColumnElement[bool]:
        """Which rows it is about."""
        surplus = and_(or_(_columns.time < self.before, _columns.seq <= self.upto), _columns.time < self.spared_since)
        return surplus if self.team is None else and_(_columns.team == self.team, surplus)


class AuditRetaining(Part):
    """The retention of the audit log."""

    def audit_teams(self) -> list[str]:
        """The teams whose things the log tells of."""
        return sorted(self._connection.scalars(select(_columns.team).where(_columns.team != "").distinct()))

    def audit_upto(
        self, size: float, spared_since: float, team: str | None = None, without: Collection[Surplus] = ()
    ) -> int:
        """The number of the newest entry that is too much for so many bytes, with those after it; 0: none is.

        Of a team's entries, or of all but those that go ``without``.
        """
        own = reduce(add, map(octets, _TEXTS)) + _NUMBERS
        total = func.sum(own).over(order_by=_columns.seq.desc())
        query = select(_columns.seq, _columns.time, total.label("total")).where(
            *(not_(one.covers()) for one in without)
        )
        known = (query if team is None else query.where(_columns.team == team)).subquery()
        newest = select(func.max(known.c.seq)).where(known.c.total > size, known.c.time < spared_since)
        return self._connection.scalar(newest) or 0

    def first_audit(self, surplus: Surplus, limit: int | None = None) -> tuple[int, Head | None]:
        """How many entries at the beginning of the log are surplus, up to ``limit``, and the last of them."""
        # The clock may have been set back: the log is cut before the first entry that stays.
        kept = self._connection.scalar(select(func.min(_columns.seq)).where(not_(surplus.covers())))
        query = select(_columns.seq, _columns.hash)
        if kept is not None:
            query = query.where(_columns.seq < kept)
        first = query.order_by(_columns.seq).limit(limit).subquery()
        count = self._connection.scalar(select(func.count()).select_from(first)) or 0
        last = self._connection.execute(select(first).order_by(first.c.seq.desc()).limit(1)).first()
        return count, None if last is None else Head(last.seq, last.hash)

    def prune_audit(self, checkpoint: Head, now: float) -> None:
        """Removes the entries up to the checkpoint, which vouches for them from now on."""
        self._connection.execute(
            insert(tables.audit_checkpoints).values(seq=checkpoint.seq, hash=checkpoint.hash, time=now)
        )
        self._connection.execute(delete(tables.audit).where(_columns.seq <= checkpoint.seq))
        self._connection.execute(delete(tables.audit_gaps).where(tables.audit_gaps.c.last <= checkpoint.seq))

    def surplus_audit(self, surplus: Surplus, limit: int | None = None) -> list[int]:
        """The numbers of the entries that are surplus, wherever they stand; the first ones first."""
        return list(
            self._connection.scalars(select(_columns.seq).where(surplus.covers()).order_by(_columns.seq).limit(limit))
        )

    def remove_audit(self, numbers: Collection[int]) -> tuple[int, list[Gap]]:
        """Removes these entries, as far as they are there; how many that was, and the gaps, for an entry to list."""
        query = select(tables.audit).where(_columns.seq.in_(numbers)).order_by(_columns.seq)
        found = [entry_of(row) for row in self._connection.execute(query).mappings()]
        gaps = gaps_in(found)
        if gaps:
            rows = [{"first": gap.first, "last": gap.last} for gap in gaps]
            self._connection.execute(insert(tables.audit_gaps), rows)
            self._connection.execute(delete(tables.audit).where(_columns.seq.in_([entry.seq for entry in found])))
        return len(found), gaps
