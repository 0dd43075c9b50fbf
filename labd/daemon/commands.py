"""The commands of ``labd``, each imported when it is used."""

import click

from labd.cli.lazy import LazyGroup

_COMMANDS = {
    "accept-keys": "labd.daemon.keys:accept_keys",
    "admin-token": "labd.daemon.database:admin_token",
    "make-keys": "labd.daemon.keys:make_keys",
    "migrate": "labd.daemon.database:migrate",
    "operator": "labd.operator.command:operator",
    "restore": "labd.daemon.database:restore",
    "rotate-ca": "labd.daemon.keys:rotate_ca",
    "secrets": "labd.daemon.keys:secrets",
    "serve": "labd.daemon.serve:serve",
}


@click.group(cls=LazyGroup, lazy=_COMMANDS)
@click.version_option(package_name="labd")
def main() -> None:
    """The lab daemon."""
