"""Lists of leases and runs: what both are filtered by."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, select

from labd.model.filters import Filter
from labd.store import tables


def newest(
    table: Table,
    lease_id: ColumnElement[str],
    where: Filter,
    limit: int,
    before: int | None,
    on: Collection[str] | None,
) -> Select[Any]:
    """The last ``limit`` rows that arrived before number ``before``, newest first.

    ``on`` are names of benches, one of which the row's lease (``lease_id``) has or had; None: any or none.
    """
    columns = table.c
    query = select(table).order_by(columns.seq.desc()).limit(limit)
    if where.states:
        query = query.where(columns.state.in_(where.states))
    if where.ids is not None:
        query = query.where(columns.id.in_(where.ids))
    if where.holder is not None:
        query = query.where(columns.holder == where.holder)
    if where.teams is not None:
        query = query.where(columns.team.in_(where.teams))
    if where.team is not None:
        query = query.where(columns.team == where.team)
    if where.created.since is not None:
        query = query.where(columns.created_at >= where.created.since)
    if where.created.until is not None:
        query = query.where(columns.created_at < where.created.until)
    if on is not None:
        there = tables.lease_benches.c
        query = query.where(lease_id.in_(select(there.lease_id).where(there.bench.in_(on))))
    return query if before is None else query.where(columns.seq < before)
