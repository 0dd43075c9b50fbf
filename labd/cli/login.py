"""``labctl login``: become somebody to a labd."""

import sys
import webbrowser
from pathlib import Path

import click

from labd.cli.exits import ExitCode, Failure
from labd.cli.session import Session, pass_session
from labd.client import LabClient, ProblemError
from labd.client.credentials import Credential, credentials_path, store
from labd.client.trust import trust
from labd.client.types import LoginProvider


@click.command()
@click.argument("url", required=False)
@click.option("--token", envvar="LABD_TOKEN", help="An API token, instead of signing in; '-' reads it from stdin.")
@click.option(
    "--token-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A file with an API token in it."
)
@click.option(
    "--fingerprint",
    metavar="SHA256",
    help="Of labd's certificate authority, as whoever runs it has told you: know this labd by it from now on.",
)
@click.option("--provider", metavar="NAME", help="Which identity provider, where there are several.")
@click.option("--browser/--no-browser", default=True, show_default=True, help="Open the page to approve it on.")
@pass_session
def login(
    session: Session,
    url: str | None,
    token: str | None,
    token_file: Path | None,
    fingerprint: str | None,
    provider: str | None,
    browser: bool,
) -> None:
    """Sign in to the labd at URL, and stay signed in.

    Without a token it asks labd's identity provider: approve the sign-in on any device that has a browser. What comes
    of it is stored for you alone, in labd/credentials.json under XDG_CONFIG_HOME.
    """
    url = (url or session.url).rstrip("/")
    if fingerprint is not None:
        trust(url, fingerprint)
    if token_file is not None:
        token = token_file.read_text("utf-8").strip()
    elif token == "-":  # noqa: S105 - stands for stdin
        token = sys.stdin.readline().strip()
    if token:
        credential = Credential(token)
    else:
        with LabClient(url, token="") as lab:
            ways = lab.login_ways()
        if ways["insecure"]:
            raise Failure(f"labd at {url} asks nobody who they are: there is nothing to sign in to", ExitCode.REFUSED)
        credential = _device(_chosen(ways["providers"], provider, url), browser)
    with LabClient(url, token=credential.token) as lab:
        try:
            who = lab.whoami()
        except ProblemError as error:
            raise Failure(f"labd at {url} does not take that token: {error}", ExitCode.REFUSED) from error
    store(url, None)  # so that it is the latest
    store(url, credential)
    roles = ", ".join(f"{role} in {'the whole lab' if team == '*' else team}" for team, role in who["roles"].items())
    click.echo(f"signed in to {url} as {who['name']} ({roles or 'no role yet: ask an admin of the lab for one'})")
    click.echo(f"stored in {credentials_path()}", err=True)


def _chosen(providers: list[LoginProvider], name: str | None, url: str) -> LoginProvider:
    if not providers:
        raise Failure(
            f"labd at {url} knows no identity provider: sign in with --token or --token-file", ExitCode.REFUSED
        )
    names = ", ".join(one["name"] for one in providers)
    if name is None:
        if len(providers) > 1:
            raise click.UsageError(f"labd at {url} knows several identity providers: --provider is one of {names}")
        return providers[0]
    for one in providers:
        if one["name"] == name:
            return one
    raise click.UsageError(f"labd at {url} knows no identity provider {name!r}; there are {names}")


def _device(provider: LoginProvider, browser: bool) -> Credential:
    from labd.client.device_login import Prompt, sign_in

    def show(prompt: Prompt) -> None:
        click.echo(f"open {prompt.url} and enter the code {click.style(prompt.code, bold=True)}", err=True)
        if browser and prompt.complete_url and prompt.complete_url.startswith(("https://", "http://")):
            webbrowser.open(prompt.complete_url)

    return sign_in(provider["issuer"], provider["client_id"], provider["scope"], show)
