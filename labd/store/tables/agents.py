"""Agents."""

from sqlalchemy import Column, Float, Integer, String, Table, Text

from labd.store.tables.metadata import metadata

agents = Table(
    "agents",
    metadata,
    Column("name", String(253), primary_key=True),
    Column("enrolment", Integer, nullable=False),
    Column("token_hash", String(64), unique=True),
    Column("token_expires_at", Float),
    Column("enrolled_at", Float),
    Column("certificate_expires_at", Float),
    Column("revoked_at", Float),
    Column("revoked_by", String(253)),
    Column("revoked_reason", Text),
)

# Of its own: agents that were never invited, in a lab without certificates, can be drained as well.
agent_drains = Table(
    "agent_drains",
    metadata,
    Column("agent", String(253), primary_key=True),
    Column("reason", Text, nullable=False),
)
