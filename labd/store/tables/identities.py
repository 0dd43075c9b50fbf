"""Users, teams, who belongs to which, and API tokens."""

from sqlalchemy import JSON, Column, Float, ForeignKey, Index, String, Table

from labd.store.tables.metadata import metadata

users = Table(
    "users",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("created_at", Float, nullable=False),
    # A removed user stays, so that nobody takes over their name and what it held.
    Column("removed_at", Float),
)

teams = Table(
    "teams",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("created_at", Float, nullable=False),
)

# Members need not be users of labd's own: who comes from an identity provider is one by name.
memberships = Table(
    "memberships",
    metadata,
    Column("team", String(63), primary_key=True),
    Column("member", String(200), primary_key=True, index=True),
    Column("role", String(16), nullable=False),
)

# Whom identity providers have vouched for of late: what labd knows of them while they are not there.
vouched = Table(
    "vouched",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("roles", JSON, nullable=False),
    Column("scopes", JSON),
    Column("seen_at", Float, nullable=False, index=True),
)

api_tokens = Table(
    "api_tokens",
    metadata,
    Column("prefix", String(16), primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("owner", String(200), ForeignKey("users.name"), nullable=False),
    Column("name", String(200), nullable=False),
    Column("scopes", JSON),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("revoked_at", Float),
    Column("last_used_at", Float),
    Index("ix_api_tokens_owner", "owner"),
)
