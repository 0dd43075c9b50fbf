"""A labd's line to the others on its PostgreSQL database: one connection that beats, listens, and holds the lead.

The lead is a session's advisory lock: the server drops it with the connection, whatever has become of the leader. A
leader that is stopped but not dead keeps its connection: it is the standstill of its beats by which the others know.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from sqlalchemy.exc import DBAPIError

from labd.store.errors import DatabaseInUse
from labd.store.postgresql import USE_LOCK, PostgreSQL
from labd.store.untold import CHANNEL

LEAD_LOCK = 0x6C616264_0002
"""Key of the advisory lock of the leader: "labd", 2."""


@dataclass(frozen=True, slots=True)
class LabTime:
    """When the lab was last known to live."""

    alive_at: float | None
    """On the lab's clock, in seconds since the Unix epoch; None for a new lab."""
    ago_s: float
    """By the server's clock."""


class Line:
    """Made by `open_line`; used by one thread."""

    def __init__(self, connection: psycopg.Connection[Any], replica: str) -> None:
        self._connection = connection
        self._replica = replica

    def lab_time(self) -> LabTime:
        """When the lab was last known to live."""
        alive_at, ago = self._row(
            "SELECT alive_at, extract(epoch FROM clock_timestamp())::float8 - alive_at_server FROM lab"
        )
        return LabTime(alive_at, 0.0 if ago is None else ago)

    def join(self, url: str, key_id: str) -> str:
        """Makes the replica known; returns the ID of the lab's signing key: of the first replica that ever came.

        Raises DatabaseInUse while the database is migrated.
        """
        (shared,) = self._row("SELECT pg_try_advisory_lock_shared(%s)", USE_LOCK)
        if not shared:
            raise DatabaseInUse("the database is being migrated: start labd once that is done")
        (key,) = self._row("UPDATE lab SET key_id = coalesce(key_id, %s) RETURNING key_id", key_id)
        self._connection.execute(
            "INSERT INTO replicas (id, url, beats, beat_at) VALUES (%s, %s, 0, 0) "
            "ON CONFLICT (id) DO UPDATE SET url = excluded.url",
            (self._replica, url),
        )
        self._connection.execute(f"LISTEN {CHANNEL}")
        return str(key)

    def leave(self) -> None:
        """The replica is gone; the others are told, so that one of them takes the lead at once."""
        self._connection.execute("DELETE FROM attachments WHERE replica = %s", (self._replica,))
        self._connection.execute("DELETE FROM replicas WHERE id = %s", (self._replica,))
        self._connection.execute("SELECT pg_advisory_unlock_all()")
        self._connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, "{}"))

    def beat(self, now: float, stall_s: float) -> tuple[float, dict[str, int]]:
        """The replica lives at ``now`` on the lab's clock; returns the latest time of all, and each one's beats so far.

        Notes it when no replica has beaten for ``stall_s``; nobody's time counts for longer.
        """
        (latest,) = self._row(
            "UPDATE lab SET stalls = stalls + CASE WHEN %s - alive_at > %s THEN 1 ELSE 0 END, alive_at = "
            "CASE WHEN extract(epoch FROM clock_timestamp()) - alive_at_server < %s THEN greatest(alive_at, %s) "
            "ELSE %s END, alive_at_server = extract(epoch FROM clock_timestamp()) RETURNING alive_at",
            now,
            stall_s,
            stall_s,
            now,
            now,
        )
        beaten = self._connection.execute(
            "UPDATE replicas SET beats = beats + 1, beat_at = %s WHERE id = %s", (now, self._replica)
        )
        if beaten.rowcount == 0:
            raise psycopg.OperationalError("this replica was taken out of the list")
        return float(latest), dict(self._connection.execute("SELECT id, beats FROM replicas").fetchall())

    def lead(self, gone: set[str]) -> int | None:
        """The term of this replica's lead; None when another leads. One among ``gone`` is shut out first."""
        leader, backend = self._row("SELECT leader, leader_backend FROM lab")
        if leader in gone and leader != self._replica:
            self._connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid = %s "
                "AND classid = %s AND objid = %s AND objsubid = 1",
                (backend, LEAD_LOCK >> 32, LEAD_LOCK & 0xFFFFFFFF),
            )
        (locked,) = self._row("SELECT pg_try_advisory_lock(%s)", LEAD_LOCK)
        if not locked:
            return None
        (term,) = self._row(
            "UPDATE lab SET term = term + 1, leader = %s, leader_backend = pg_backend_pid() RETURNING term",
            self._replica,
        )
        return int(term)

    def messages(self, seconds: float) -> list[str]:
        """What the others have said; waits for the first for so long."""
        first = [notify.payload for notify in self._connection.notifies(timeout=max(seconds, 0.0), stop_after=1)]
        if first:
            first += [notify.payload for notify in self._connection.notifies(timeout=0)]
        return first

    def _row(self, statement: str, *values: object) -> Any:
        row = self._connection.execute(statement.encode(), values).fetchone()
        if row is None:
            raise psycopg.OperationalError("the table of the lab is empty")
        return row


@contextmanager
def open_line(database: PostgreSQL, replica: str) -> Iterator[Line]:
    """A connection of its own. Raises StoreError, also in the block when the connection breaks."""
    try:
        with database.engine.connect() as pooled:
            pooled.detach()
            driver = pooled.connection.dbapi_connection
            if not isinstance(driver, psycopg.Connection):
                raise TypeError(f"{driver!r} is no connection of psycopg's")
            driver.autocommit = True
            yield Line(driver, replica)
    except psycopg.Error as error:
        wrapped = DBAPIError("", None, error)
        raise database.explain(wrapped) or error from error
    except DBAPIError as error:
        raise database.explain(error) or error from error
