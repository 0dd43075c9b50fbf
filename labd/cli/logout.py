"""``labctl logout``: be nobody again."""

import click

from labd.cli.session import Session, pass_session
from labd.client.credentials import store, stored


@click.command()
@click.argument("url", required=False)
@pass_session
def logout(session: Session, url: str | None) -> None:
    """Forget what signs you in to the labd at URL.

    An API token stays good for whoever else has it: end it with 'labctl token revoke'.
    """
    url = (url or session.url).rstrip("/")
    if stored(url) is None:
        click.echo(f"you are not signed in to {url}", err=True)
        return
    store(url, None)
    click.echo(f"signed out of {url}")
