"""The store: short transactions, one writer at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolExhausted

from labd.store.database import DATABASE_NAME, database_at
from labd.store.errors import DatabaseBusy
from labd.store.schema import revision_of
from labd.store.standing import Standings
from labd.store.unit import Unit
from labd.store.writers import Writers


class Store:
    """labd's memory, in an SQLite file or on a PostgreSQL server."""

    def __init__(self, directory: Path, url: str | None = None) -> None:
        """Opens the database of the URL, or else the file in the directory. Raises StoreError when that fails."""
        self.path = directory / DATABASE_NAME
        """The SQLite file, if there is no URL."""
        self.database = database_at(directory, url)
        self._standings = Standings()
        self._writers = Writers(self.database.engine, self.database.name, self._standings)
        try:
            self.database.open()
        except BaseException:
            self.close()
            raise

    @contextmanager
    def write(self) -> Iterator[Unit]:
        """A transaction that holds the write lock from its first statement; durable once the block is left.

        An exception rolls it back. Raises DatabaseBusy when the lock did not come free in time,
        and DatabaseUnwritable when the disk does not take it, or the server is not there.
        """
        with self._explained(), self._writers.write() as unit:
            yield unit

    @contextmanager
    def read(self) -> Iterator[Unit]:
        """A transaction on one consistent snapshot; never waits for writers.

        Raises DatabaseBusy and DatabaseUnwritable.
        """
        with self._explained(), self.database.snapshot() as connection, connection.begin():
            yield Unit(connection, self._standings)

    def revision(self) -> str | None:
        """The schema of the database as it is now: others may have changed it. Raises StoreError."""
        with self._explained(), self.database.snapshot() as connection:
            return revision_of(connection, self.database.name)

    def close(self) -> None:
        """Closes all connections."""
        self.database.engine.dispose()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            meaning = self.database.explain(error)
            if meaning is None:
                raise
            raise meaning from error
        except PoolExhausted as error:
            raise DatabaseBusy(f"too many requests wait for the database {self.database.name}") from error
