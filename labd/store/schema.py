"""The version of the schema, and the way from one to another: Alembic's migrations, run on labd's own connection."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import Engine, event, inspect, text
from sqlalchemy.engine import Connection

from labd.store.errors import DatabaseCorrupt, DatabaseNewer, SchemaUnknown

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"
SCHEMA_HEAD = max(path.name[:4] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))
"""Latest revision in ``migrations/versions``; Alembic (0.6 s to import) is loaded only when a database has another."""
WRITE = "labd_write"
"""Execution option that makes a transaction take the write lock when it begins, not in the middle of its work."""

_log = structlog.get_logger()


def revision_of(connection: Connection, name: str) -> str | None:
    """The schema's revision; None when the database is empty.

    Raises DatabaseCorrupt when there are tables of something else in it.
    """
    tables = set(inspect(connection).get_table_names())
    revision = (
        connection.scalar(text("SELECT version_num FROM alembic_version")) if "alembic_version" in tables else None
    )
    others = sorted(tables - {"alembic_version"})
    if revision is None and others:
        raise DatabaseCorrupt(
            f"{name} is not a database of labd: it has the tables {', '.join(others)} but no schema version"
        )
    return None if revision is None else str(revision)


def migrate(
    engine: Engine, name: str, target: str = SCHEMA_HEAD, claim: Callable[[Connection], None] | None = None
) -> str | None:
    """Brings the schema to revision ``target``, up or down, in one transaction; returns the revision before.

    ``claim`` is called before anything is changed, and may refuse. Downwards, what only the newer schema can hold is
    lost. Raises DatabaseNewer when this labd does not know the present revision, SchemaUnknown when it does not know
    the target, and DatabaseCorrupt.
    """
    from alembic import command
    from alembic.script import ScriptDirectory

    config = alembic_config()
    known = sorted(script.revision for script in ScriptDirectory.from_config(config).walk_revisions())
    if target not in (*known, "base"):
        raise SchemaUnknown(f"this labd knows no schema {target!r}; it knows {', '.join(known)}, and base: nothing")
    with (
        engine.connect().execution_options(**{WRITE: True}) as connection,
        _tables_may_be_made_anew(connection, name),
        connection.begin(),
    ):
        before = revision_of(connection, name)
        if before is not None and before not in known:
            raise newer(name, before)
        if claim is not None and before != target:
            claim(connection)
        config.attributes["connection"] = connection
        if target == "base" or (before is not None and target < before):
            command.downgrade(config, target)
        else:
            command.upgrade(config, target)
    _log.info("database migrated", database=name, before=before, now=target)
    return before


@contextmanager
def _tables_may_be_made_anew(connection: Connection, name: str) -> Iterator[None]:
    """SQLite changes a table by making it anew, which the rows that refer to it would forbid: they are checked after.

    Raises DatabaseCorrupt, which undoes the transaction, when rows have been left without what they refer to.
    """
    if connection.dialect.name != "sqlite":
        yield
        return

    def check(connection: Connection) -> None:
        lost = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
        if lost:
            raise DatabaseCorrupt(f"the migration of {name} is undone: rows of {lost[0][0]} would refer to nothing")

    driver = connection.connection.driver_connection
    assert driver is not None  # noqa: S101 - it has just been connected
    driver.execute("PRAGMA foreign_keys = OFF")
    event.listen(connection, "commit", check)
    try:
        yield
    finally:
        event.remove(connection, "commit", check)
        connection.invalidate()  # the next one has them on


def newer(name: str, revision: str) -> DatabaseNewer:
    """The refusal of a schema that a newer labd has made."""
    return DatabaseNewer(
        f"a newer labd wrote the database {name}: its schema is {revision!r}, this labd knows {SCHEMA_HEAD!r}; "
        "start that labd, or restore a backup from before the upgrade"
    )


def alembic_config() -> "Config":
    """What Alembic has to be told; ``attributes["connection"]`` is still to be set."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config
