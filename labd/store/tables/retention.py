"""What is kept for how long: one row."""

from sqlalchemy import JSON, Column, Integer, Table

from labd.store.tables.metadata import metadata

retention = Table(
    "retention",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("document", JSON, nullable=False),
)
