"""Counts the changes of benches, live leases, policy and usage, and the leases that ever came."""

from sqlalchemy import Column, Integer, Table

from labd.store.tables.metadata import metadata

standing = Table(
    "standing",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
    Column("last_seq", Integer, nullable=False, server_default="0"),
)
