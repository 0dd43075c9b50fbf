"""PostgreSQL: a server, which may serve several labds at once.

Writing transactions take one advisory lock when they begin. So they are serial, as on SQLite: whoever decides sees all
decisions before, the order of arrival (``seq``) is the order of commits, and nothing has to be tried again because of
somebody else. The server drops the lock when the transaction ends, whatever becomes of the labd that made it.
"""

import re
import socket
from typing import Any

import psycopg
from psycopg.types.string import StrDumper
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from labd.store.errors import (
    DatabaseBusy,
    DatabaseInUse,
    DatabaseOlder,
    DatabaseUnwritable,
    DatabaseUrlInvalid,
    StoreError,
)
from labd.store.schema import SCHEMA_HEAD, WRITE, migrate, newer, revision_of

WRITE_LOCK = 0x6C616264_0001
"""Key of the advisory lock of writing transactions: "labd", 1."""
USE_LOCK = 0x6C616264_0003
"""Key of the advisory lock that every serving labd shares, and that a migration has alone: "labd", 3."""
LOCK_TIMEOUT_S = 8.0
"""How long a transaction waits for those of other labds."""
STATEMENT_TIMEOUT_S = 15.0
"""Longest statement."""
IDLE_TIMEOUT_S = 3.0
"""The server ends a write whose labd does nothing for this long: one that was paused must not stop the others."""
READ_IDLE_TIMEOUT_S = 300.0
"""The same for a read, which keeps nobody waiting: a backup may be slow to write down what it has read."""
CONNECT_TIMEOUT_S = 3
"""How long a server may take to answer; libpq knows whole seconds only, from 2 up."""
DEFAULT_PORT = 5432
ANSWER_S = 1.0
GONE_S = 4
"""After this long without a sign of life either side takes the other for dead."""

# Both ends have to notice: the client's in libpq's own words, the server's as settings of the session.
_SETTINGS = {
    "lock_timeout": f"{LOCK_TIMEOUT_S:g}s",
    "statement_timeout": f"{STATEMENT_TIMEOUT_S:g}s",
    "idle_in_transaction_session_timeout": f"{READ_IDLE_TIMEOUT_S:g}s",
    "tcp_keepalives_idle": "2",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "2",
    "tcp_user_timeout": f"{GONE_S}s",
    "client_min_messages": "warning",
}
CONNECT = {
    "connect_timeout": CONNECT_TIMEOUT_S,
    "application_name": "labd",
    "options": " ".join(f"-c {name}={value}" for name, value in _SETTINGS.items()),
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 2,
    "tcp_user_timeout": GONE_S * 1000,
}
"""How every connection is made, in libpq's words."""

_BEGIN_WRITE = text(
    "SELECT pg_advisory_xact_lock(:key), set_config('idle_in_transaction_session_timeout', :idle, true)"
)
_HOST = re.compile(r"[A-Za-z0-9.-]+(:\d{1,5})?")
_SEVERAL_HOSTS = re.compile(r"([^:/?#]+://(?:[^/?#]*@)?)([^/?#@]*,[^/?#@]*)(.*)", re.DOTALL)
_GAVE_UP_WAITING = "SyncRepWaitForLSN"
"""The server's function that warns of a commit for whose standby it has not waited to the end."""
_BUSY = ("40001", "40P01", "53300", "55P03", "57014", "25P03")
_GONE = ("53200", "57P01", "57P02", "57P03", "57P05", "58000")
_UNWRITABLE = {
    "25006": "the server is a standby that takes no writes",
    "53100": "look at the space on the server's disk",
    "58030": "look at the server's disk",
}


class PostgreSQL:
    """See `Database`."""

    def __init__(self, url: str) -> None:
        """Raises DatabaseUrlInvalid."""
        self.url, hosts = _parse(url)
        shown, several = self.url, ",".join(hosts)
        name = URL.create("postgresql", shown.username, None, several or shown.host, shown.port, shown.database)
        # Not an IPv6 address, as SQLAlchemy thinks.
        self.name = name.render_as_string().replace(f"[{several}]", several)
        self._hosts = hosts
        self.engine = create_engine(
            self.url,
            pool_size=8,
            max_overflow=40,
            pool_timeout=10,
            pool_pre_ping=True,  # so that a restart of the server costs no request
            connect_args=CONNECT,
        )
        event.listen(self.engine, "do_connect", _connect)
        event.listen(self.engine, "connect", _set_up)
        event.listen(self.engine, "begin", _begin)

    def open(self) -> None:
        """See `Database.open`. Others may use it: only an empty database is migrated.

        Raises DatabaseOlder when ``labd migrate`` has to be run.
        """
        try:
            with self.engine.connect() as connection:
                revision = revision_of(connection, self.name)
            if revision is None:
                migrate(self.engine, self.name, claim=_unhurried)
            elif revision > SCHEMA_HEAD:
                raise newer(self.name, revision)
            elif revision < SCHEMA_HEAD:
                raise DatabaseOlder(
                    f"the database {self.name} has the schema {revision!r}, this labd needs {SCHEMA_HEAD!r}: "
                    "stop every labd that uses it, then run `labd migrate`"
                )
        except DBAPIError as error:
            raise self.explain(error) or DatabaseUnwritable(
                f"the database {self.name} cannot be used: {_words(error)}"
            ) from error

    def claim(self, connection: Connection) -> None:
        """See `Database.claim`."""
        if not connection.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": USE_LOCK}):
            raise DatabaseInUse(f"the database {self.name} is in use by a labd: stop every labd that serves with it")
        _unhurried(connection)

    def snapshot(self) -> Connection:
        """See `Database.snapshot`."""
        return self.engine.connect().execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    def answers(self) -> bool:
        """Whether the server's machine does, be it to say that no server runs there: then no cut network is in the way.

        Of several servers, whether one does. Takes ANSWER_S for each at most.
        """
        if self._hosts:
            return any(_answers(*_host_and_port(host)) for host in self._hosts)
        host = self.url.host or self.url.query.get("hostaddr") or self.url.query.get("host")
        if not isinstance(host, str) or host.startswith("/"):
            return True  # a unix socket, or several servers, of which libpq finds one
        return _answers(host, self.url.port or DEFAULT_PORT)

    def explain(self, error: DBAPIError) -> StoreError | None:
        """See `Database.explain`."""
        state = error.orig.sqlstate if isinstance(error.orig, psycopg.Error) else None
        if state in _BUSY:
            return DatabaseBusy(f"the database {self.name} was busy for too long ({_words(error)})")
        if state in _UNWRITABLE:
            return DatabaseUnwritable(
                f"the database {self.name} cannot be written ({_words(error)}): {_UNWRITABLE[state]}"
            )
        # Without a state the server has said nothing: it is not there, or does not let labd in.
        lost = isinstance(error.orig, psycopg.OperationalError) and state is None
        if error.connection_invalidated or lost or state in _GONE or (state or "").startswith(("08", "28", "3D")):
            return DatabaseUnwritable(f"the database {self.name} cannot be reached ({_words(error)})")
        return None


def _parse(text: str) -> tuple[URL, list[str]]:
    """The URL, and HOST or HOST:PORT of each server if there are several."""
    hosts: list[str] = []
    if several := _SEVERAL_HOSTS.fullmatch(text):
        # libpq's way to name them; SQLAlchemy takes them in the query only.
        hosts = several[2].split(",")
        text = several[1] + several[3]
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        url = None
    # The text is not repeated: there may be a password in it.
    if url is None or url.drivername not in ("postgresql", "postgres", "postgresql+psycopg") or not url.database:
        raise DatabaseUrlInvalid("the database URL must look like postgresql://USER@HOST:PORT/NAME")
    if not all(_HOST.fullmatch(host) for host in hosts):
        raise DatabaseUrlInvalid("several hosts of the database URL must look like HOST:PORT,HOST:PORT")
    if hosts:
        url = url.update_query_dict({"host": [host if ":" in host else f"{host}:{DEFAULT_PORT}" for host in hosts]})
        if "target_session_attrs" not in url.query:
            url = url.update_query_dict({"target_session_attrs": "read-write"})
    return url.set(drivername="postgresql+psycopg"), hosts


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.partition(":")
    return host, int(port or DEFAULT_PORT)


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), ANSWER_S).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return True


def _words(error: DBAPIError) -> str:
    lines = str(error.orig).strip().splitlines()
    return lines[0] if lines else type(error.orig).__name__


def _unhurried(connection: Connection) -> None:
    """For a migration: a big table takes its time, and so does the machine between two statements of many."""
    connection.execute(text("SET LOCAL statement_timeout = 0"))
    connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = '60s'"))


class _Connection(psycopg.Connection[Any]):
    """One on which a commit counts only when the standby has confirmed it, where the server is to wait for one.

    A server whose waiting is cancelled (pg_cancel_backend) says that all went well, and warns only. What it has
    committed is lost if the standby takes over, so labd must not acknowledge it.
    """

    _alone = False

    def commit(self) -> None:
        """Raises OperationalError when the server has not waited to the end; whether it is durable is not known."""
        super().commit()
        if self._alone:
            self.close()
            raise psycopg.OperationalError("no standby has confirmed the commit")

    def hear(self, notice: psycopg.errors.Diagnostic) -> None:
        """The server warns of something."""
        self._alone = self._alone or notice.source_function == _GAVE_UP_WAITING


def _connect(_dialect: Any, _record: Any, arguments: list[Any], options: dict[str, Any]) -> _Connection:
    connection = _Connection.connect(*arguments, **options)
    connection.add_notice_handler(connection.hear)
    return connection


def _set_up(connection: psycopg.Connection[tuple[object, ...]], _record: object) -> None:
    connection.adapters.register_dumper(str, _Text)


class _Text(StrDumper):
    """PostgreSQL's text has no NUL, a scenario's log may: it becomes the symbol for it."""

    def dump(self, obj: str) -> bytes | bytearray | memoryview | None:
        return super().dump(obj.replace("\0", "\u2400") if "\0" in obj else obj)


def _begin(connection: Connection) -> None:
    if connection.get_execution_options().get(WRITE, False):
        connection.execute(_BEGIN_WRITE, {"key": WRITE_LOCK, "idle": f"{IDLE_TIMEOUT_S:g}s"})
