"""The leases of a unit of work."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Select, func, insert, select, update

from labd.model.filters import Filter
from labd.model.lease import Lease, LeaseState
from labd.store import tables
from labd.store.rows import lease_of, lease_values
from labd.store.units.part import Part

_LIVE_LEASES = (LeaseState.QUEUED, LeaseState.GRANTED)


class Leases(Part):
    """The leases of a unit of work."""

    def add_lease(self, lease: Lease) -> int:
        """Stores a new lease; returns its place in the order of arrival."""
        statement = insert(tables.leases).values(lease_values(lease)).returning(tables.leases.c.seq)
        return int(self._connection.execute(statement).scalar_one())

    def save_lease(self, lease: Lease) -> None:
        """Stores the new state of a known lease."""
        self._connection.execute(
            update(tables.leases).where(tables.leases.c.seq == lease.seq).values(lease_values(lease))
        )

    def lease(self, lease_id: str) -> Lease | None:
        """One lease."""
        row = self._connection.execute(select(tables.leases).where(tables.leases.c.id == lease_id)).mappings().first()
        return None if row is None else lease_of(row)

    def live_leases(self) -> list[Lease]:
        """QUEUED and GRANTED leases in order of arrival."""
        return self._leases(select(tables.leases).where(tables.leases.c.state.in_(_LIVE_LEASES)))

    def leases_due(self, now: float) -> list[Lease]:
        """Live leases of which a deadline has passed, in order of arrival."""
        columns = tables.leases.c
        return self._leases(
            select(tables.leases).where(
                columns.state.in_(_LIVE_LEASES), (columns.heartbeat_by <= now) | (columns.expires_at <= now)
            )
        )

    def next_lease_deadline(self) -> float | None:
        """When the next live lease has to be looked at."""
        columns = tables.leases.c
        # A run's waiting lease needs no heartbeat (Lease.overdue).
        beating = select(func.min(columns.heartbeat_by)).where(
            columns.state.in_(_LIVE_LEASES), (columns.state == LeaseState.GRANTED) | columns.run_id.is_(None)
        )
        ending = select(func.min(columns.expires_at)).where(columns.state == LeaseState.GRANTED)
        found = [value for query in (beating, ending) if (value := self._connection.scalar(query)) is not None]
        return min(found, default=None)

    def queue(self) -> list[Lease]:
        """QUEUED leases in the order in which they are served."""
        columns = tables.leases.c
        rows = self._connection.execute(
            select(tables.leases)
            .where(columns.state == LeaseState.QUEUED)
            .order_by(columns.priority.desc(), columns.seq.asc())
        )
        return [lease_of(row) for row in rows.mappings()]

    def granted(self) -> dict[str, Lease]:
        """The GRANTED leases by bench."""
        leases = self._leases(select(tables.leases).where(tables.leases.c.state == LeaseState.GRANTED))
        return {lease.bench: lease for lease in leases if lease.bench is not None}

    def granted_on(self, bench: str) -> Lease | None:
        """The GRANTED lease of a bench."""
        columns = tables.leases.c
        rows = self._leases(select(tables.leases).where(columns.state == LeaseState.GRANTED, columns.bench == bench))
        return rows[0] if rows else None

    def last_expiry(self, bench: str) -> float | None:
        """When the last token that was ever issued for the bench expires."""
        columns = tables.leases.c
        value = self._connection.scalar(select(func.max(columns.expires_at)).where(columns.bench == bench))
        return None if value is None else float(value)

    def newest_leases(
        self, where: Filter, limit: int, before: int | None = None, benches: Collection[str] | None = None
    ) -> list[Lease]:
        """The last ``limit`` leases that arrived before number ``before``, newest first; on one of ``benches``."""
        columns = tables.leases.c
        query = select(tables.leases).order_by(columns.seq.desc()).limit(limit)
        if where.states:
            query = query.where(columns.state.in_(where.states))
        if where.holder is not None:
            query = query.where(columns.holder == where.holder)
        if where.since is not None:
            query = query.where(columns.created_at >= where.since)
        if benches is not None:
            query = query.where(columns.bench.in_(benches))
        if before is not None:
            query = query.where(columns.seq < before)
        return [lease_of(row) for row in self._connection.execute(query).mappings()]

    def position(self, lease: Lease) -> int | None:
        """1 for the next in the queue; None unless QUEUED."""
        if lease.state is not LeaseState.QUEUED:
            return None
        columns = tables.leases.c
        ahead = self._connection.scalar(
            select(func.count())
            .select_from(tables.leases)
            .where(
                columns.state == LeaseState.QUEUED,
                (columns.priority > lease.priority)
                | ((columns.priority == lease.priority) & (columns.seq < lease.seq)),
            )
        )
        return 1 + (ahead or 0)

    def _leases(self, query: Select[Any]) -> list[Lease]:
        rows = self._connection.execute(query.order_by(tables.leases.c.seq))
        return [lease_of(row) for row in rows.mappings()]
