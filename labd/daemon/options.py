"""What several commands of ``labd`` take: where the lab's data and keys are."""

from pathlib import Path

import click

CA_FOLDER = "ca"
"""In the directory of keys."""
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

data_option = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("labd-data"),
    envvar="LABD_DATA",
    show_envvar=True,
    show_default=True,
    help="Directory for the database, the signing key and running scenarios; made when missing.",
)

database_option = click.option(
    "--database",
    default=None,
    envvar="LABD_DATABASE",
    show_envvar=True,
    metavar="URL",
    help="PostgreSQL database to use instead of an SQLite file in --data: postgresql://USER@HOST:PORT/NAME; several "
    "servers with commas, HOST:PORT,HOST:PORT, of which the one is used that takes writes. Give a "
    "password in the environment or in libpq's password file: others can read command lines.",
)

secrets_key_option = click.option(
    "--secrets-key",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    envvar="LABD_SECRETS_KEY",
    show_envvar=True,
    help="File with the key that secrets are sealed with: 32 bytes in Base64, one key a line, the first one seals. "
    "Default: secrets-key in the data directory, made on first use.",
)

keys_option = click.option(
    "--keys",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    envvar="LABD_KEYS",
    show_envvar=True,
    help="Directory of the signing key and the certificate authority (`ca`), made when missing; several labds on one "
    "database share it. Default: --data.",
)


def key_files(keys: Path, secrets_key: Path | None, *, authority: bool = True) -> dict[str, Path]:
    """By the names that they have in a backup; without the ``authority`` where there is no TLS."""
    from labd.services.own_keys import AUTHORITY_KEY
    from labd.services.signing import KEY_NAME
    from labd.services.vault import KEY_FILE

    files = {KEY_NAME: keys / KEY_NAME, AUTHORITY_KEY: keys / AUTHORITY_KEY, KEY_FILE: secrets_key or keys / KEY_FILE}
    return files if authority else {name: path for name, path in files.items() if name != AUTHORITY_KEY}
