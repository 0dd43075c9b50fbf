"""The leases of a unit of work."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Select, delete, func, insert, select, update

from labd.model.filters import Filter
from labd.model.lease import Lease, LeasedBench, LeaseState, Share, ShareMode
from labd.store import tables
from labd.store.rows import lease_of, leased_bench_of
from labd.store.units.lists import newest
from labd.store.units.part import Part

_IDS_AT_ONCE = 10_000
"""In one statement; databases bound the number of parameters."""


class Leases(Part):
    """The leases of a unit of work."""

    def stored_lease(self, lease_id: str) -> Lease | None:
        """One lease."""
        found = self._leases(select(tables.leases).where(tables.leases.c.id == lease_id))
        return found[0] if found else None

    def stored_leases(self, states: Collection[LeaseState]) -> list[Lease]:
        """All leases in these states, in order of arrival."""
        return self._leases(select(tables.leases).where(tables.leases.c.state.in_(states)))

    def recent_durations(self, limit: int) -> list[tuple[float, float]]:
        """Of the last leases that ended: the duration that was asked for, and how long they lasted, in s."""
        columns = tables.leases.c
        rows = self._connection.execute(
            select(columns.duration_s, columns.ending_at - columns.granted_at)
            .where(columns.state == LeaseState.ENDED, columns.granted_at.is_not(None))
            .order_by(columns.seq.desc())
            .limit(limit)
        )
        return [(float(asked), float(lasted)) for asked, lasted in rows if lasted is not None]

    def store_share(self, lease_id: str, share: Share, live: bool) -> None:
        """Shares a lease with somebody, changes how, or remembers that it is shared with them no more."""
        columns = tables.lease_shares.c
        same = (columns.lease_id == lease_id) & (columns.holder == share.holder)
        values = {"mode": share.mode, "number": share.number, "live": live}
        done = self._connection.execute(update(tables.lease_shares).where(same).values(values))
        if done.rowcount == 0:
            known = {"lease_id": lease_id, "holder": share.holder}
            self._connection.execute(insert(tables.lease_shares).values({**known, **values}))

    def stored_shares(self, states: Collection[LeaseState]) -> list[tuple[str, Share, bool]]:
        """With whom leases in these states are or were shared, and whether they still are."""
        columns = tables.lease_shares.c
        rows = self._connection.execute(
            select(tables.lease_shares)
            .join(tables.leases, columns.lease_id == tables.leases.c.id)
            .where(tables.leases.c.state.in_(states))
        )
        return [(row.lease_id, Share(row.holder, ShareMode(row.mode), row.number), row.live) for row in rows]

    def remove_shares(self, lease_id: str) -> None:
        """Shares a lease with nobody any more."""
        self._connection.execute(delete(tables.lease_shares).where(tables.lease_shares.c.lease_id == lease_id))

    def last_expiry(self, bench: str) -> float | None:
        """When the last token that was ever issued for the bench expires."""
        columns = tables.lease_benches.c
        value = self._connection.scalar(
            select(func.max(tables.leases.c.expires_at))
            .join(tables.lease_benches, columns.lease_id == tables.leases.c.id)
            .where(columns.bench == bench)
        )
        return None if value is None else float(value)

    def newest_leases(
        self, where: Filter, limit: int, before: int | None = None, benches: Collection[str] | None = None
    ) -> list[Lease]:
        """The last ``limit`` leases that arrived before number ``before``, newest first; on one of ``benches``."""
        query = newest(tables.leases, tables.leases.c.id, where, limit, before, benches)
        return self._with_benches(self._connection.execute(query).mappings().all())

    def _leases(self, query: Select[Any]) -> list[Lease]:
        return self._with_benches(self._connection.execute(query.order_by(tables.leases.c.seq)).mappings().all())

    def _with_benches(self, rows: Sequence[Any]) -> list[Lease]:
        """The leases of these rows; those that were never granted need no second look."""
        ids = [row["id"] for row in rows if row["granted_at"] is not None]
        benches: dict[str, list[LeasedBench]] = defaultdict(list)
        columns = tables.lease_benches.c
        for start in range(0, len(ids), _IDS_AT_ONCE):
            found = self._connection.execute(
                select(tables.lease_benches)
                .where(columns.lease_id.in_(ids[start : start + _IDS_AT_ONCE]))
                .order_by(columns.lease_id, columns.part)
            )
            for row in found.mappings():
                benches[row["lease_id"]].append(leased_bench_of(row))
        return [lease_of(row, benches[row["id"]]) for row in rows]
