"""The lab as a whole, and several labds on one database: who is there, who leads, which agent is attached where."""

from sqlalchemy import JSON, Column, Float, Integer, String, Table, Text

from labd.store.tables.metadata import BIG, metadata

# One row: what is true of the lab as a whole. On SQLite, only the IDs of its keys.
lab = Table(
    "lab",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("term", BIG, nullable=False),
    Column("leader", String(64)),
    Column("leader_backend", Integer),
    Column("alive_at", Float),
    Column("alive_at_server", Float),
    Column("stalls", BIG, nullable=False),
    Column("forgiven", BIG, nullable=False),
    Column("key_id", String(64)),
    Column("authority_id", String(64)),
    Column("secrets_key_id", String(64)),
)

replicas = Table(
    "replicas",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("url", Text, nullable=False),
    Column("beats", BIG, nullable=False),
    Column("beat_at", Float, nullable=False),
)

attachments = Table(
    "attachments",
    metadata,
    Column("agent", String(253), primary_key=True),
    Column("replica", String(64), nullable=False, index=True),
    Column("session", String(64), nullable=False),
    Column("last_seen", Float, nullable=False),
    Column("power", JSON, nullable=False, server_default="{}"),
)
