"""Migrating a database that no labd uses at the moment."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from labd.store.database import DATABASE_NAME, database_at
from labd.store.errors import DatabaseMissing
from labd.store.lock import DataLock
from labd.store.schema import SCHEMA_HEAD, migrate


@dataclass(frozen=True, slots=True)
class Migrated:
    """What was done."""

    database: str
    before: str
    now: str

    def __str__(self) -> str:
        if self.before == self.now:
            return f"{self.database} has the schema {self.now} already"
        return f"{self.database}: schema {self.before} -> {self.now}"


def migrate_database(data: Path, url: str | None, target: str | None) -> Migrated:
    """Brings the database of the URL, or else the file in the data directory, to a revision; None is this labd's.

    Raises StoreError: DatabaseInUse when a labd uses it, DatabaseMissing, SchemaUnknown and others.
    """
    with ExitStack() as stack:
        if url is None:
            if not (data / DATABASE_NAME).exists():
                raise DatabaseMissing(f"there is no database {data / DATABASE_NAME}: is --data right?")
            stack.enter_context(DataLock(data))
        database = database_at(data, url)
        stack.callback(database.engine.dispose)
        try:
            before = migrate(database.engine, database.name, target or SCHEMA_HEAD, database.claim)
        except DBAPIError as error:
            meaning = database.explain(error)
            if meaning is None:
                raise
            raise meaning from error
        return Migrated(database.name, before or "base", target or SCHEMA_HEAD)
