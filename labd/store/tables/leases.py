"""Leases."""

from sqlalchemy import Column, Float, ForeignKey, Index, Integer, String, Table, Text, text

from labd.store.tables.metadata import metadata

leases = Table(
    "leases",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("selector", Text, nullable=False),
    Column("holder", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("duration_s", Float, nullable=False),
    Column("ttl_s", Float, nullable=False),
    Column("run_id", String(32)),
    Column("created_at", Float, nullable=False),
    Column("heartbeat_by", Float, nullable=False),
    Column("bench", String(253), ForeignKey("benches.name")),
    Column("epoch", Integer),
    Column("granted_at", Float),
    Column("expires_at", Float),
    Column("ended_at", Float),
    Column("end_reason", String(32)),
    Index("ix_leases_state_priority_seq", "state", "priority", "seq"),
    # Exclusivity, whatever the code above believes: one live lease a bench, and no epoch twice.
    Index(
        "uq_leases_granted_bench",
        "bench",
        unique=True,
        sqlite_where=text("state = 'GRANTED'"),
        postgresql_where=text("state = 'GRANTED'"),
    ),
    Index("uq_leases_bench_epoch", "bench", "epoch", unique=True),
    sqlite_autoincrement=True,
)
