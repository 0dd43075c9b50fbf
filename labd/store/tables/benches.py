"""Benches."""

from sqlalchemy import JSON, Boolean, Column, Float, String, Table, Text, false

from labd.store.tables.metadata import BIG, metadata

benches = Table(
    "benches",
    metadata,
    Column("name", String(253), primary_key=True),
    Column("agent", String(253), nullable=False),
    Column("address", String(253), nullable=False),
    Column("labels", JSON, nullable=False),
    Column("healthy", Boolean, nullable=False),
    Column("health_reason", Text, nullable=False),
    Column("buses", JSON, nullable=False),
    Column("ecus", JSON, nullable=False),
    Column("quarantined", Boolean, nullable=False),
    Column("last_clean_up", JSON, nullable=False),
    Column("equipment", JSON, nullable=False),
    Column("epoch", BIG, nullable=False),
    Column("fenced_epoch", BIG, nullable=False),
    Column("removed", Boolean, nullable=False),
    Column("last_seen", Float),
    Column("draining", Boolean, nullable=False, server_default=false()),
    Column("drain_reason", Text, nullable=False, server_default=""),
    Column("agent_drain", Text),
    Column("promised_to", String(32)),
)
