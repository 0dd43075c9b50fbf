"""What the store asks of a database, and which one it is given."""

from pathlib import Path
from typing import Protocol

from sqlalchemy import Engine
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from labd.store.errors import StoreError
from labd.store.sqlite import SQLite

DATABASE_NAME = "labd.sqlite3"
"""Of the SQLite file in the data directory."""


class Database(Protocol):
    """SQLite or PostgreSQL. A writing transaction (`WRITE`) has the write lock from its beginning."""

    name: str
    """How messages call it; never with a password."""
    engine: Engine

    def open(self) -> None:
        """Checks that it is sound and has the present schema. Raises StoreError."""

    def claim(self, connection: Connection) -> None:
        """Has the database for this transaction alone. Raises DatabaseInUse when a labd uses it."""

    def snapshot(self) -> Connection:
        """A connection whose transactions read one consistent state, and never wait for writers."""

    def explain(self, error: DBAPIError) -> StoreError | None:
        """What a driver's error means for those who ask labd; None when labd made a mistake."""


def database_at(directory: Path, url: str | None) -> Database:
    """The database of a URL, or else the SQLite file in the data directory. Raises DatabaseUrlInvalid."""
    if url is None:
        return SQLite(directory / DATABASE_NAME)
    from labd.store.postgresql import PostgreSQL

    return PostgreSQL(url)
