"""Answers to requests that carried an Idempotency-Key."""

from sqlalchemy import Column, Float, Index, LargeBinary, String, Table

from labd.store.tables.metadata import metadata

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("request", String(64), nullable=False),
    Column("answer", LargeBinary, nullable=False),
    Column("created_at", Float, nullable=False),
    Index("ix_idempotency_keys_created_at", "created_at"),
)
"""``id``: hash of who sent which key; ``request``: hash of what; ``answer``: encrypted with the key itself."""
