"""Leases, and the benches that they have."""

from sqlalchemy import JSON, Boolean, Column, Float, ForeignKey, Index, Integer, String, Table, Text, false, text, true

from labd.store.tables.metadata import BIG, metadata

leases = Table(
    "leases",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("wanted", JSON, nullable=False),
    Column("holder", Text, nullable=False),
    Column("team", String(63), nullable=False, server_default="default"),
    Column("priority", String(63), nullable=False),
    Column("duration_s", Float, nullable=False),
    Column("ttl_s", Float, nullable=False),
    Column("run_id", String(32)),
    Column("cluster", String(63)),
    Column("same_site", Boolean, nullable=False, server_default=false()),
    Column("affinity", Text, nullable=False, server_default=""),
    Column("held", Boolean, nullable=False, server_default=false()),
    Column("avoid", JSON, nullable=False, server_default="[]"),
    Column("starts_at", Float),
    Column("reserved", JSON, nullable=False, server_default="[]"),
    Column("created_at", Float, nullable=False),
    Column("heartbeat_by", Float, nullable=False),
    Column("granted_at", Float),
    Column("active_at", Float),
    Column("expires_at", Float),
    Column("used_at", Float),
    Column("revoke_at", Float),
    Column("revoke_reason", Text, nullable=False, server_default=""),
    Column("ending_at", Float),
    Column("ended_at", Float),
    Column("end_reason", String(32)),
    Column("end_note", Text, nullable=False, server_default=""),
    Index("ix_leases_state_seq", "state", "seq"),
    sqlite_autoincrement=True,
)

lease_benches = Table(
    "lease_benches",
    metadata,
    Column("lease_id", String(32), ForeignKey("leases.id"), primary_key=True),
    Column("part", Integer, primary_key=True, autoincrement=False),
    Column("selector", Text, nullable=False),
    Column("bench", String(253), ForeignKey("benches.name"), nullable=False),
    Column("epoch", BIG, nullable=False),
    Column("live", Boolean, nullable=False),
    # Exclusivity, whatever the code above believes: one live lease a bench, and no epoch twice.
    Index(
        "uq_lease_benches_live_bench", "bench", unique=True, sqlite_where=text("live"), postgresql_where=text("live")
    ),
    Index("uq_lease_benches_bench_epoch", "bench", "epoch", unique=True),
)

lease_shares = Table(
    "lease_shares",
    metadata,
    Column("lease_id", String(32), ForeignKey("leases.id"), primary_key=True),
    Column("holder", String(200), primary_key=True),
    Column("mode", String(16), nullable=False),
    Column("number", Integer, nullable=False, server_default="0"),
    # Cleared when it was taken back; the row stays for its number, below which agents refuse tokens.
    Column("live", Boolean, nullable=False, server_default=true()),
)
