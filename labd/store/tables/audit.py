"""The audit log. Triggers in the database refuse to change or remove rows, except what a checkpoint or gap covers."""

from sqlalchemy import Column, Float, Integer, String, Table, Text

from labd.store.tables.metadata import metadata

audit = Table(
    "audit",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("time", Float, nullable=False),
    Column("actor", Text, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("team", Text, nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", Text, nullable=False, index=True),
    # As text, so that what comes back is what was hashed, whatever a database makes of JSON.
    Column("before", Text),
    Column("after", Text),
    Column("why", Text, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
)

# One row: the last entry. Whoever writes entries takes its lock first.
audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", Integer, nullable=False),
    Column("hash", String(64), nullable=False),
)

# Entries up to and including this one may be removed.
audit_checkpoints = Table(
    "audit_checkpoints",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("hash", String(64), nullable=False),
    Column("time", Float, nullable=False),
)

# Entries of these numbers may be removed; an entry that stays lists them.
audit_gaps = Table(
    "audit_gaps",
    metadata,
    Column("first", Integer, primary_key=True, autoincrement=False),
    Column("last", Integer, nullable=False),
)
