"""Environments, and the secrets in them; what a run was given."""

from sqlalchemy import JSON, Column, Float, ForeignKey, LargeBinary, String, Table, Text

from labd.store.tables.metadata import metadata

secrets = Table(
    "secrets",
    metadata,
    Column("team", String(63), primary_key=True),
    Column("name", String(63), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("updated_by", Text, nullable=False),
)

environments = Table(
    "environments",
    metadata,
    Column("team", String(63), primary_key=True),
    Column("name", String(63), primary_key=True),
    Column("variables", JSON, nullable=False),
    Column("secrets", JSON, nullable=False),
)

# ``sealed`` is what the runner got when it asked first: it gets the same again, and that is what is masked.
run_environments = Table(
    "run_environments",
    metadata,
    Column("run_id", String(32), ForeignKey("runs.id"), primary_key=True),
    Column("team", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("sealed", LargeBinary),
)
