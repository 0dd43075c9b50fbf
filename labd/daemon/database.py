"""The commands of ``labd`` on its database."""

import os
import sys
from pathlib import Path

import click

from labd.daemon.options import data_option, database_option, keys_option
from labd.log import set_up_logging


@click.command()
@data_option
@database_option
@click.option(
    "--to",
    "target",
    default=None,
    metavar="REVISION",
    help="Schema to bring the database to, such as 0004, up or down; `base` removes everything. Default: this labd's.",
)
def migrate(data: Path, database: str | None, target: str | None) -> None:
    """Bring the database to this version's schema, or to another.

    Stop every labd that uses the database first, and make a backup: on the way down, what only the newer schema can
    hold is lost.
    """
    from labd.store.errors import StoreError
    from labd.store.migrate import migrate_database

    set_up_logging("warning")
    try:
        done = migrate_database(data, database, target)
    except (OSError, StoreError) as error:
        click.echo(f"labd: cannot migrate: {error}", err=True)
        sys.exit(1)
    click.echo(str(done))


@click.command("admin-token")
@data_option
@database_option
@click.option("--user", default="admin", show_default=True, help="Whose token; made when labd does not know them yet.")
@click.option("--reason", required=True, help="Why: kept in the audit log.")
@click.option("--revoke-others", is_flag=True, help="End all other tokens of the user: they may be in wrong hands.")
def admin_token(data: Path, database: str | None, user: str, reason: str, revoke_others: bool) -> None:
    """Print a token for an admin of the whole lab, once, when every admin's own is lost.

    For whoever may read and write labd's database, as the user that labd runs as; labd may serve meanwhile. The token
    is good for 30 days. The audit log notes it as done by the "local operator".
    """
    from labd.services.admin_recovery import admin_token as recover
    from labd.services.errors import ServiceError
    from labd.store.errors import StoreError

    set_up_logging("warning")
    os.umask(0o077)
    try:
        click.echo(recover(data, database, user, reason, revoke_others=revoke_others))
    except (OSError, StoreError, ServiceError) as error:
        click.echo(f"labd: cannot make a token: {error}", err=True)
        sys.exit(1)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@data_option
@database_option
@keys_option
@click.option(
    "--passphrase-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Its first line opens the keys in the backup.",
)
def restore(file: Path, data: Path, database: str | None, keys: Path | None, passphrase_file: Path | None) -> None:
    """Restore a backup into an empty data directory, or an empty PostgreSQL database.

    Leases that were live in the backup end, those who waited still wait. Agents end whatever they serve before labd
    hands out their benches again.
    """
    from labd.backup_file import BackupDamaged
    from labd.services.restoring import restore as restore_backup
    from labd.store.errors import StoreError

    set_up_logging("warning")
    os.umask(0o077)
    try:
        passphrase = None if passphrase_file is None else passphrase_file.read_text("utf-8").split("\n")[0]
        for line in restore_backup(file, data, database, keys=keys, passphrase=passphrase):
            click.echo(line)
    except (OSError, StoreError, BackupDamaged) as error:
        click.echo(f"labd: cannot restore: {error}", err=True)
        sys.exit(1)
