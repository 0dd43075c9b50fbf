"""What teams have used: bench-seconds of ended leases by hour."""

from sqlalchemy import Column, Float, Integer, String, Table

from labd.store.tables.metadata import metadata

usage = Table(
    "usage",
    metadata,
    Column("team", String(63), primary_key=True),
    Column("hour", Integer, primary_key=True, autoincrement=False),  # since the Unix epoch
    Column("bench_s", Float, nullable=False),
)
