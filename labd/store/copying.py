"""Copies whole tables out of one database and into another, whichever of the two kinds they are."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import Integer, LargeBinary, MetaData, Table, delete, func, insert, select, text
from sqlalchemy.engine import Connection

from labd.store.tables import metadata

_AT_ONCE = 500
_LARGE_AT_ONCE = 4
"""Of rows with files in them, which may have 16 MiB each."""


def tables() -> list[Table]:
    """labd's tables, those that others refer to first."""
    return metadata.sorted_tables


def rows_of(connection: Connection, table: Table) -> Iterator[dict[str, Any]]:
    """All rows, as values that JSON knows, or bytes; in the order of the primary key."""
    at_once = _LARGE_AT_ONCE if any(isinstance(column.type, LargeBinary) for column in table.columns) else _AT_ONCE
    query = select(table).order_by(*table.primary_key.columns)
    with connection.execute(query, execution_options={"yield_per": at_once}) as result:
        for row in result.mappings():
            yield dict(row)


def fill(connection: Connection, rows: Mapping[str, Iterable[dict[str, Any]]]) -> None:
    """Puts the rows into the tables of a fresh database, in place of those that its migrations have put there.

    The schema is that of the rows: tables are taken as they are in the database.
    """
    there = MetaData()
    there.reflect(connection)
    ordered = [table for table in there.sorted_tables if table.name in rows]
    for table in reversed(ordered):
        connection.execute(delete(table))
    for table in ordered:
        batch: list[dict[str, Any]] = []
        most = _LARGE_AT_ONCE if any(isinstance(column.type, LargeBinary) for column in table.columns) else _AT_ONCE
        for row in rows[table.name]:
            batch.append(row)
            if len(batch) == most:
                connection.execute(insert(table), batch)
                batch = []
        if batch:
            connection.execute(insert(table), batch)
        _count_on(connection, table)


def _count_on(connection: Connection, table: Table) -> None:
    """Has PostgreSQL number new rows from the last one on; SQLite does by itself."""
    if connection.dialect.name != "postgresql":
        return
    for column in table.primary_key.columns:
        sequence = (
            connection.scalar(
                text("SELECT pg_get_serial_sequence(:table, :column)"), {"table": table.name, "column": column.name}
            )
            if isinstance(column.type, Integer)
            else None
        )
        last = connection.scalar(select(func.max(column))) if sequence is not None else None
        if last is not None:
            said = {"sequence": sequence, "last": last}
            connection.execute(text("SELECT setval(CAST(:sequence AS regclass), :last)"), said)
