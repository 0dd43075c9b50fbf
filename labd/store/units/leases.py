"""The leases of a unit of work."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Select, delete, func, insert, or_, select, update

from labd.model.filters import Filter
from labd.model.lease import HELD, LIVE, Lease, LeasedBench, LeaseState, Share, ShareMode
from labd.store import tables
from labd.store.rows import lease_bench_values, lease_of, lease_values, leased_bench_of
from labd.store.units.part import Part

_IDS_AT_ONCE = 10_000
"""In one statement; databases bound the number of parameters."""


class Leases(Part):
    """The leases of a unit of work."""

    def add_lease(self, lease: Lease) -> int:
        """Stores a new lease; returns its place in the order of arrival."""
        statement = insert(tables.leases).values(lease_values(lease)).returning(tables.leases.c.seq)
        seq = int(self._connection.execute(statement).scalar_one())
        self._add_benches(lease)
        return seq

    def save_lease(self, lease: Lease, before: Lease) -> None:
        """Stores the new state of a known lease, which was `before`."""
        values, known = lease_values(lease), lease_values(before)
        changed = {name: value for name, value in values.items() if value != known[name]}
        if changed:
            self._connection.execute(update(tables.leases).where(tables.leases.c.id == lease.id).values(changed))
        if not before.benches:
            self._add_benches(lease)
            return
        columns = tables.lease_benches.c
        for one, former in zip(lease.benches, before.benches, strict=True):
            if one != former:
                self._connection.execute(
                    update(tables.lease_benches)
                    .where(columns.lease_id == lease.id, columns.part == one.part)
                    .values(live=one.live, epoch=one.epoch)
                )

    def lease(self, lease_id: str) -> Lease | None:
        """One lease."""
        found = self._leases(select(tables.leases).where(tables.leases.c.id == lease_id))
        return found[0] if found else None

    def leases_in(self, states: Collection[LeaseState]) -> list[Lease]:
        """All leases in these states, in order of arrival."""
        return self._leases(select(tables.leases).where(tables.leases.c.state.in_(states)))

    def live_leases(self) -> list[Lease]:
        """Leases whose end is not decided, in order of arrival."""
        return self.leases_in(LIVE)

    def queue(self) -> list[Lease]:
        """QUEUED leases in order of arrival."""
        return self.leases_in((LeaseState.QUEUED,))

    def leases_due(self, now: float) -> list[Lease]:
        """Live leases of which a deadline has passed, in order of arrival."""
        columns = tables.leases.c
        return self._leases(
            select(tables.leases).where(
                columns.state.in_(LIVE),
                (columns.heartbeat_by <= now) | (columns.expires_at <= now) | (columns.revoke_at <= now),
            )
        )

    def next_lease_deadline(self) -> float | None:
        """When the next live lease has to be looked at."""
        columns = tables.leases.c
        # The same as Lease.beats.
        beating = select(func.min(columns.heartbeat_by)).where(
            columns.held.is_(False),
            or_(
                columns.state.in_(HELD),
                (columns.state == LeaseState.QUEUED) & columns.run_id.is_(None) & columns.starts_at.is_(None),
            ),
        )
        ending = select(func.min(columns.expires_at)).where(columns.state.in_(HELD))
        revoked = select(func.min(columns.revoke_at)).where(columns.state.in_(HELD))
        found = [value for query in (beating, ending, revoked) if (value := self._connection.scalar(query)) is not None]
        return min(found, default=None)

    def next_booking_deadline(self, now: float) -> float | None:
        """When the next booking that waits starts, or, if its start is past, ends."""
        columns = tables.leases.c
        waiting = (columns.state == LeaseState.QUEUED) & columns.starts_at.is_not(None)
        start = select(func.min(columns.starts_at)).where(waiting, columns.starts_at > now)
        end = select(func.min(columns.starts_at + columns.duration_s)).where(waiting)
        found = [value for query in (start, end) if (value := self._connection.scalar(query)) is not None]
        return min(found, default=None)

    def somebody_waits(self) -> bool:
        """Whether there is a queue."""
        columns = tables.leases.c
        return (
            self._connection.scalar(select(columns.id).where(columns.state == LeaseState.QUEUED).limit(1)) is not None
        )

    def held_unused_since(self, moment: float) -> list[Lease]:
        """Leases that people hold and that were last known to be used then, or before."""
        columns = tables.leases.c
        return self._leases(
            select(tables.leases).where(columns.held, columns.state.in_(HELD), columns.used_at <= moment)
        )

    def longest_unused(self) -> float | None:
        """When the lease that a person holds and has not used for longest was used, as far as is known."""
        columns = tables.leases.c
        value = self._connection.scalar(select(func.min(columns.used_at)).where(columns.held, columns.state.in_(HELD)))
        return None if value is None else float(value)

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

    def save_share(self, lease_id: str, share: Share) -> None:
        """Shares a lease with somebody, or changes how."""
        columns = tables.lease_shares.c
        same = (columns.lease_id == lease_id) & (columns.holder == share.holder)
        done = self._connection.execute(update(tables.lease_shares).where(same).values(mode=share.mode))
        if done.rowcount == 0:
            values = {"lease_id": lease_id, "holder": share.holder, "mode": share.mode}
            self._connection.execute(insert(tables.lease_shares).values(values))

    def shares(self, lease_id: str) -> list[Share]:
        """With whom a lease is shared, by name."""
        columns = tables.lease_shares.c
        rows = self._connection.execute(
            select(columns.holder, columns.mode).where(columns.lease_id == lease_id).order_by(columns.holder)
        )
        return [Share(row.holder, ShareMode(row.mode)) for row in rows]

    def drop_shares(self, lease_id: str) -> None:
        """Shares a lease with nobody any more."""
        self._connection.execute(delete(tables.lease_shares).where(tables.lease_shares.c.lease_id == lease_id))

    def leases_ending(self, expired_by: float) -> list[Lease]:
        """ENDING leases whose tokens had all expired by then."""
        columns = tables.leases.c
        return self._leases(
            select(tables.leases).where(columns.state == LeaseState.ENDING, columns.expires_at <= expired_by)
        )

    def next_expiry_of_ending(self, after: float) -> float | None:
        """When the tokens of the next ENDING lease expire, after this time."""
        columns = tables.leases.c
        value = self._connection.scalar(
            select(func.min(columns.expires_at)).where(columns.state == LeaseState.ENDING, columns.expires_at > after)
        )
        return None if value is None else float(value)

    def held(self) -> dict[str, Lease]:
        """The GRANTED and ACTIVE leases by bench."""
        return {one.bench: lease for lease in self.leases_in(HELD) for one in lease.benches}

    def taken(self) -> set[str]:
        """The benches on which somebody may act by a lease, or may still."""
        columns = tables.lease_benches.c
        return set(self._connection.scalars(select(columns.bench).where(columns.live)))

    def live_on(self, bench: str) -> Lease | None:
        """The lease by which somebody may act on a bench, or may still: GRANTED, ACTIVE or ENDING."""
        columns = tables.lease_benches.c
        found = self._leases(
            select(tables.leases).where(
                tables.leases.c.id.in_(select(columns.lease_id).where(columns.bench == bench, columns.live))
            )
        )
        return found[0] if found else None

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
        columns = tables.leases.c
        query = select(tables.leases).order_by(columns.seq.desc()).limit(limit)
        if where.states:
            query = query.where(columns.state.in_(where.states))
        if where.ids is not None:
            query = query.where(columns.id.in_(where.ids))
        if where.holder is not None:
            query = query.where(columns.holder == where.holder)
        if where.teams is not None:
            query = query.where(columns.team.in_(where.teams))
        if where.since is not None:
            query = query.where(columns.created_at >= where.since)
        if benches is not None:
            query = query.where(columns.id.in_(leases_on(benches)))
        if before is not None:
            query = query.where(columns.seq < before)
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

    def _add_benches(self, lease: Lease) -> None:
        if lease.benches:
            values = [lease_bench_values(lease.id, one) for one in lease.benches]
            self._connection.execute(insert(tables.lease_benches), values)


def leases_on(benches: Collection[str]) -> Select[tuple[str]]:
    """The IDs of the leases that have, or had, one of these benches."""
    columns = tables.lease_benches.c
    return select(columns.lease_id).where(columns.bench.in_(benches))
