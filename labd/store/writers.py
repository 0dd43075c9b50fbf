"""Writing transactions, one after another, made durable by one commit for as many as came together.

A disk takes as long for many as for one. So who finds others waiting leaves the commit to the last of them, and who
writes alone commits at once. A transaction that fails is undone alone, and none is over before it is durable.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import Engine
from sqlalchemy.engine import Connection, NestedTransaction
from sqlalchemy.exc import SQLAlchemyError

from labd.store.errors import DatabaseBusy, DatabaseUnwritable
from labd.store.schema import WRITE
from labd.store.standing import Standing, Standings
from labd.store.turns import Turns
from labd.store.unit import Unit
from labd.store.units.present import tell
from labd.store.untold import Untold

WRITE_WAIT_S = 10.0
"""How long a write waits for its turn before it gives up."""
MOST = 64
"""Transactions that one commit makes durable."""
LONGEST_S = 0.05
"""From the beginning of the first of them until nobody is let in any more: other labds want to write too."""
COMMIT_WAIT_S = 60.0
"""A commit takes less, or fails: each statement of the others has a shorter limit."""


class Writers:
    """All who write to one database from this process. Threads share it."""

    def __init__(self, engine: Engine, name: str, standings: Standings) -> None:
        self._engine = engine
        self._name = name
        self._standings = standings
        # Waiters of SQLite's own lock poll, and stall for up to a second; those of this one are woken.
        # On PostgreSQL it keeps the waiters of one labd from holding a connection each.
        self._turns = Turns()
        self._group: _Group | None = None
        """Changed only by whose turn it is."""

    @contextmanager
    def write(self) -> Iterator[Unit]:
        """A transaction that holds the write lock from its first statement; durable once the block is left.

        An exception undoes it. Raises DatabaseBusy when its turn did not come in time.
        """
        if not self._turns.take(WRITE_WAIT_S):
            raise DatabaseBusy(f"other writers kept the database {self._name} busy for {WRITE_WAIT_S:g} s")
        try:
            group = self._group = self._group or _Group(self._engine)
            with group.member(self._standings) as unit:
                yield unit
        finally:
            self._end_turn()
        group.wait()

    def _end_turn(self) -> None:
        group = self._group
        if group is not None and group.open and not group.full and self._turns.hand_over():
            return
        self._group = None
        try:
            if group is not None and group.open:
                group.commit(self._standings)
        finally:
            self._turns.end()


class _Group:
    """Transactions that are durable together."""

    def __init__(self, engine: Engine) -> None:
        self._connection: Connection = engine.connect().execution_options(**{WRITE: True})
        try:
            self._transaction = self._connection.begin()
        except BaseException:
            self._connection.close()
            raise
        self._standing: Standing | None = None
        """After the last member that changed it."""
        self._untold = Untold()
        self._savepoint: NestedTransaction | None = None
        """Of the present member, once it has asked the database for something."""
        self._size = 0
        self._full_at = time.monotonic() + LONGEST_S
        self._settled = threading.Event()
        self._error: BaseException | None = None

    @property
    def open(self) -> bool:
        """Whether it may yet become durable."""
        return not self._settled.is_set()

    @property
    def full(self) -> bool:
        return self._size >= MOST or time.monotonic() >= self._full_at

    @contextmanager
    def member(self, standings: Standings) -> Iterator[Unit]:
        """One transaction of the group; an exception undoes it, and the others only if it cannot be undone alone."""
        self._savepoint = None
        unit = Unit(self._connection, standings, self._standing, self._set_apart, writes=True)
        try:
            yield unit
            standing, untold = unit.change(), unit.untold
            if self._savepoint is not None:
                self._savepoint.commit()
        except BaseException as error:
            if not self._undone():
                self._fail(error)
            raise
        self._untold.add(untold)
        self._standing = standing or self._standing
        self._size += 1

    def commit(self, standings: Standings) -> None:
        """Makes all durable; who waits is told when that fails."""
        try:
            tell(self._connection, self._untold, self._standing)
            self._transaction.commit()
        except BaseException as error:
            self._fail(error)
            return
        if self._standing is not None:
            standings.keep(self._standing)
        self._connection.close()
        self._settled.set()

    def wait(self) -> None:
        """Returns once all are durable. Raises what kept them from it."""
        if not self._settled.wait(COMMIT_WAIT_S):
            raise DatabaseUnwritable(f"the database has not committed for {COMMIT_WAIT_S:g} s")
        if self._error is not None:
            raise self._error

    def _set_apart(self) -> None:
        """A member is about to ask the database: it knows what the members before did, and can be undone alone."""
        try:
            self._untold.tell(self._connection)
        except BaseException as error:
            self._fail(error)
            raise
        self._untold = Untold()
        if self._size:
            self._savepoint = self._connection.begin_nested()

    def _undone(self) -> bool:
        """Whether the member could be undone alone: SQLite undoes all when the disk is full, say."""
        if self._size == 0 or not self.open:
            return False
        try:
            if self._savepoint is not None:
                self._savepoint.rollback()
        except SQLAlchemyError:
            return False
        return not self._connection.invalidated

    def _fail(self, error: BaseException) -> None:
        """Undoes all."""
        if not self.open:
            return
        self._error = error
        # What was not committed is undone without our saying so, too.
        with suppress(SQLAlchemyError):
            self._transaction.rollback()
        self._connection.close()
        self._settled.set()
