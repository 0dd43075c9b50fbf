"""The lab's policy: one row."""

from sqlalchemy import JSON, Column, Integer, Table

from labd.store.tables.metadata import metadata

policy = Table(
    "policy",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("document", JSON, nullable=False),
)
