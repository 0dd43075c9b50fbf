"""The commands of ``labd`` on the lab's own keys."""

import contextlib
import os
import sys
from pathlib import Path

import click

from labd.daemon.options import (
    CA_FOLDER,
    data_option,
    database_option,
    key_files,
    keys_option,
    secrets_key_option,
)
from labd.log import set_up_logging


@click.command("rotate-ca")
@data_option
@keys_option
@click.option(
    "--distrust-former",
    is_flag=True,
    help="Trust the former authority no more, because its key is known to others: every agent has to enrol anew.",
)
def rotate_ca(data: Path, keys: Path | None, distrust_former: bool) -> None:
    """Put a new certificate authority in the place of labd's present one.

    It takes effect when labd is started the next time. Agents and clients that trust the former one go on: it vouches
    for the new one, which agents take over when they attach.
    """
    from labd.services.authority import AuthorityUnusable, rotate

    os.umask(0o077)
    try:
        fingerprint = rotate((keys or data) / CA_FOLDER, distrust_former=distrust_former)
    except AuthorityUnusable as error:
        click.echo(f"labd: {error}", err=True)
        sys.exit(1)
    click.echo(f"the new authority's certificate has SHA-256 {fingerprint}; restart labd")


@click.command("make-keys")
@data_option
@keys_option
@click.option("--secret", metavar="NAMESPACE/NAME", help="Put them into this Secret of the cluster around, instead.")
def make_keys(data: Path, keys: Path | None, secret: str | None) -> None:
    """Make the keys of a new lab: signing key, certificate authority, key of the secrets.

    labd does that itself at its first start, where it may write to --keys. This is for a directory that will be
    read-only, such as a Kubernetes Secret. What is there already stays.
    """
    from labd import new_keys
    from labd.services.authority import AuthorityUnusable
    from labd.services.signing import KeyUnusable

    os.umask(0o077)
    try:
        if secret is None:
            fingerprint = new_keys.make_keys(keys or data)
            click.echo(f"the authority's certificate has SHA-256 {fingerprint}")
            return
        namespace, slash, name = secret.partition("/")
        if not slash or not namespace or not name:
            raise click.BadParameter(
                f"{secret!r}: expected NAMESPACE/NAME, such as lab/labd-keys", param_hint="--secret"
            )
        made = new_keys.make_secret(name, namespace)
    except (OSError, AuthorityUnusable, KeyUnusable, new_keys.SecretNotMade) as error:
        click.echo(f"labd: cannot make the keys: {error}", err=True)
        sys.exit(1)
    click.echo(f"Secret {secret} {'is made' if made else 'is there already'}")


@click.command("accept-keys")
@data_option
@database_option
@keys_option
@secrets_key_option
@click.option("--reason", required=True, help="Why: kept in the audit log.")
def accept_keys(data: Path, database: str | None, keys: Path | None, secrets_key: Path | None, reason: str) -> None:
    """Take the keys that are there for the lab's own, because the former ones are lost for good.

    Stop every labd that uses the database first. The lab knows its signing key, its certificate authority and the key
    of its secrets, and labd does not start with others: with those of another lab, or without. Better than this is to
    put the right files back. Keys that are not there are made when labd starts.
    """
    import time

    from labd.services.admin_recovery import require_present_schema
    from labd.services.errors import ServiceError
    from labd.services.own_keys import KeysDiffer, OwnKeys, accept
    from labd.store.errors import StoreError
    from labd.store.lock import DataLock
    from labd.store.store import Store

    set_up_logging("warning")
    try:
        with DataLock(data), contextlib.ExitStack() as opened:
            require_present_schema(data, database)
            store = Store(data, database)
            opened.callback(store.close)
            for line in accept(store, OwnKeys(key_files(keys or data, secrets_key)), reason, time.time()):
                click.echo(line)
    except (OSError, StoreError, ServiceError, KeysDiffer) as error:
        click.echo(f"labd: cannot accept the keys: {error}", err=True)
        sys.exit(1)


@click.group()
def secrets() -> None:
    """Look after the key that secrets are sealed with."""


@secrets.command()
@data_option
@database_option
@keys_option
@secrets_key_option
def rotate(data: Path, database: str | None, keys: Path | None, secrets_key: Path | None) -> None:
    """Seal all secrets with a new key, and forget the old one.

    Stop every labd that uses the database first. The file must be writable; where it is not, write a new line of
    `openssl rand -base64 32` at its beginning by other means, and restart labd: what is set from then on is sealed with
    that, and the other lines go on opening what they sealed.
    """
    from labd.services.rotation import rotate as rotate_key
    from labd.services.signing import KeyUnusable
    from labd.services.vault import KEY_FILE, SecretUnreadable
    from labd.store.errors import StoreError

    set_up_logging("warning")
    try:
        click.echo(rotate_key(data, database, secrets_key or (keys or data) / KEY_FILE))
    except (OSError, StoreError, KeyUnusable, SecretUnreadable) as error:
        click.echo(f"labd: cannot rotate: {error}", err=True)
        sys.exit(1)
