"""``labctl backup``: all that labd knows, in one file."""

import os
from datetime import UTC, datetime
from pathlib import Path

import click

from labd.cli.exits import ExitCode, Failure
from labd.cli.session import Session, pass_session


@click.group()
def backup() -> None:
    """Make and verify backups. 'labd restore' brings one back."""


@backup.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--passphrase-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Seals labd's keys into the backup with the first line of this file (12 characters at least). Without it the "
    "keys are not in the backup: keep them elsewhere, as labd does not start without.",
)
@click.option("--force", is_flag=True, help="Overwrite a file that exists.")
@pass_session
def make(session: Session, file: Path, passphrase_file: Path | None, force: bool) -> None:
    """Make a backup while labd works, and verify it.

    It is the database as of one moment: leases, queue, runs with logs, results and files, audit log, policy, users.
    """
    if file.exists() and not force:
        raise Failure(f"{file} exists; choose another name, or --force", ExitCode.USAGE)
    part = file.with_name(f"{file.name}.part")
    passphrase = None if passphrase_file is None else passphrase_file.read_text("utf-8").split("\n")[0]
    try:
        opened = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(opened, "wb") as target:
            session.lab.backup(target, passphrase)
            target.flush()
            os.fsync(target.fileno())
        said = _verified(part)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    click.echo(f"{file}: {said}")


@backup.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def verify(file: Path) -> None:
    """Verify that a backup is whole and as it was written. Needs no labd."""
    click.echo(f"{file}: {_verified(file)}")


def _verified(file: Path) -> str:
    from labd.backup_file import BackupDamaged, BackupFile

    try:
        with BackupFile(file) as opened:
            rows = opened.verify()
            made = datetime.fromtimestamp(opened.created_at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            keys = "keys sealed in it" if opened.has_keys else "without keys"
            return f"{rows} rows, schema {opened.schema}, of {made}, {keys}"
    except BackupDamaged as error:
        raise Failure(str(error), ExitCode.FAILED) from error
