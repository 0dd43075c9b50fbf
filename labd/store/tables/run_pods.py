"""Which pods of a cluster have proved themselves to be an attempt of a run."""

from sqlalchemy import Column, ForeignKey, Integer, String, Table

from labd.store.tables.metadata import metadata

run_pods = Table(
    "run_pods",
    metadata,
    Column("run_id", String(32), ForeignKey("runs.id"), primary_key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("uid", String(64), nullable=False),
)
