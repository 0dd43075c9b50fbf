"""``labd serve``: its options, and what may be wrong with them."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from bench_agent.protocol import tracing
from labd.daemon.addresses import address
from labd.daemon.errors import StartError
from labd.daemon.options import CA_FOLDER, FILE, data_option, database_option, keys_option, secrets_key_option
from labd.daemon.serving import serve_lab
from labd.daemon.settings import Door, Metrics, Settings, Tls
from labd.log import log_options, set_up_logging
from labd.telemetry.options import InfluxOptions, check_influx, influx_options

if TYPE_CHECKING:
    from labd.executors.kubernetes.settings import Clusters
    from labd.services.sign_in import Provider


@click.command()
@data_option
@database_option
@keys_option
@click.option(
    "--http",
    default="127.0.0.1:8470",
    envvar="LABD_HTTP",
    show_envvar=True,
    show_default=True,
    help="HOST:PORT of the REST API; port 0 lets the system choose.",
)
@click.option(
    "--agents",
    default="127.0.0.1:8471",
    envvar="LABD_AGENTS",
    show_envvar=True,
    show_default=True,
    help="HOST:PORT at which bench agents attach (gRPC); port 0 lets the system choose.",
)
@click.option(
    "--url",
    default=None,
    envvar="LABD_PUBLIC_URL",
    show_envvar=True,
    help="URL of the REST API as bench agents on other machines reach it, for runs at the bench. Without it: the port "
    "of --http, on the host at which the agent reaches labd. Several labds of one lab: all their URLs with commas.",
)
@click.option(
    "--runner",
    default=None,
    envvar="LABD_RUNNER",
    show_envvar=True,
    help="Command that executes a run, instead of this Python's `-P -m scenarios`.",
)
@secrets_key_option
@log_options
@click.option(
    "--name",
    "names",
    multiple=True,
    envvar="LABD_NAMES",
    show_envvar=True,
    metavar="HOST",
    help="Name or address by which people reach labd, for its certificate; repeatable. This machine's name, loopback "
    "and the hosts of --http and --url are in it anyway.",
)
@click.option(
    "--tls-cert",
    type=FILE,
    envvar="LABD_TLS_CERT",
    show_envvar=True,
    help="Certificate chain (PEM) for the REST API, such as a public one, instead of one by labd's own authority. Read "
    "again when it changes.",
)
@click.option("--tls-key", type=FILE, envvar="LABD_TLS_KEY", show_envvar=True, help="Its key, if in a file of its own.")
@click.option(
    "--certificate-lifetime",
    type=click.FloatRange(1, 31_536_000),
    default=2_592_000,
    envvar="LABD_CERTIFICATE_LIFETIME",
    show_envvar=True,
    show_default=True,
    metavar="SECONDS",
    help="Of the certificates of agents and of labd; they are renewed after two thirds of it.",
)
@click.option(
    "--access",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="LABD_ACCESS",
    show_envvar=True,
    help="YAML file with the identity providers to trust: OpenID Connect issuers of people and of CI systems, "
    "Kubernetes clusters.",
)
@click.option(
    "--clusters",
    type=FILE,
    envvar="LABD_CLUSTERS",
    show_envvar=True,
    help="YAML file with the Kubernetes clusters in which runs may be pods.",
)
@click.option(
    "--oidc-issuer",
    metavar="URL",
    envvar="LABD_OIDC_ISSUER",
    show_envvar=True,
    help="The one OpenID Connect issuer that people sign in at, named `oidc`, without a file.",
)
@click.option(
    "--oidc-client-id",
    metavar="ID",
    envvar="LABD_OIDC_CLIENT_ID",
    show_envvar=True,
    help="What labd is registered as there.",
)
@click.option(
    "--limit",
    "limits",
    multiple=True,
    envvar="LABD_LIMITS",
    show_envvar=True,
    metavar="NAME=NUMBER",
    help="How much one token, owner, address or run may ask of labd, such as token-rate=20; repeatable. The manual has "
    "the names (Authorisation, limits).",
)
@click.option(
    "--trusted-proxy",
    "proxies",
    multiple=True,
    envvar="LABD_TRUSTED_PROXIES",
    show_envvar=True,
    metavar="ADDRESS",
    help="Address or network (10.1.2.0/24) of a proxy before the REST API, which says by X-Forwarded-For who asks; "
    "repeatable. From others the header counts for nothing.",
)
@influx_options
@click.option(
    "--metrics",
    envvar="LABD_METRICS",
    show_envvar=True,
    metavar="HOST:PORT",
    help="Where Prometheus fetches figures, by plain HTTP at /metrics; nobody is asked who they are. Default: nowhere.",
)
@click.option(
    "--metrics-topas",
    is_flag=True,
    envvar="LABD_METRICS_TOPAS",
    show_envvar=True,
    help="Export queue depth, active runners and test durations under topas_ names too, for dashboards that ask so.",
)
@click.option(
    "--insecure",
    is_flag=True,
    envvar="LABD_INSECURE",
    show_envvar=True,
    help="No TLS, and nobody is asked who they are: everybody who reaches labd may do everything. For a demo on one "
    "machine; listens on loopback only.",
)
@click.option(
    "--insecure-on-network",
    is_flag=True,
    envvar="LABD_INSECURE_ON_NETWORK",
    show_envvar=True,
    help="The same, on any address.",
)
def serve(
    data: Path,
    database: str | None,
    keys: Path | None,
    http: str,
    agents: str,
    url: str | None,
    runner: str | None,
    secrets_key: Path | None,
    log_level: str,
    log_format: str,
    names: tuple[str, ...],
    tls_cert: Path | None,
    tls_key: Path | None,
    certificate_lifetime: float,
    access: Path | None,
    clusters: Path | None,
    oidc_issuer: str | None,
    oidc_client_id: str | None,
    limits: tuple[str, ...],
    proxies: tuple[str, ...],
    influx: InfluxOptions,
    metrics: str | None,
    metrics_topas: bool,
    insecure: bool,
    insecure_on_network: bool,
) -> None:
    """Serve the lab until SIGTERM or SIGINT.

    People and programs reach it by HTTPS, agents by mutually authenticated TLS. The certificates are by labd's own
    authority, whose own certificate is in DATA/ca/ca.pem: give that to clients as LABD_CA.

    The first start puts a token for a first admin into DATA/admin.token: labctl login URL --token-file DATA/admin.token
    """
    set_up_logging(log_level, log_format)
    tracing.set_up("labd")
    try:
        providers = _providers(access, oidc_issuer, oidc_client_id)
        tls = None
        if insecure or insecure_on_network:
            if providers:
                raise StartError("--insecure asks nobody who they are: identity providers do not go with it")
            _warn_insecure(http, agents, on_network=insecure_on_network)
        else:
            tls = Tls((keys or data) / CA_FOLDER, names, tls_cert, tls_key, certificate_lifetime)
        settings = Settings(
            data=data,
            database=database,
            keys=keys or data,
            http=address(http, "--http"),
            agents=address(agents, "--agents"),
            public_url=url,
            runner=runner,
            secrets_key=secrets_key,
            tls=tls,
            providers=providers,
            door=_door(limits, proxies),
            influx=influx,
            clusters=None if clusters is None else _read_clusters(clusters),
            metrics=None if metrics is None else Metrics(*address(metrics, "--metrics"), metrics_topas),
        )
        _require_sense(settings)
        serve_lab(settings)
    except StartError as error:
        click.echo(f"labd: cannot start: {error}", err=True)
        sys.exit(1)
    finally:
        tracing.close()


def _require_sense(settings: Settings) -> None:
    """Raises StartError for options that do not go together."""
    tls = settings.tls
    for one in [] if settings.public_url is None else settings.public_url.split(","):
        if urlsplit(one).scheme not in ("http", "https"):
            raise StartError(f"--url is {one!r}: expected a URL such as https://lab.example.com:8470")
        if tls is not None and urlsplit(one).scheme != "https":
            raise StartError(f"--url is {one!r}, but this labd speaks TLS: its URL begins with https://")
    if tls is not None and tls.key is not None and tls.certificate is None:
        raise StartError("--tls-key goes with --tls-cert: whose key is it?")
    try:
        check_influx(settings.influx)
    except ValueError as error:
        raise StartError(str(error)) from error


def _warn_insecure(http: str, agents: str, *, on_network: bool) -> None:
    """Raises StartError when labd would listen where others are."""
    for option, place in (("--http", http), ("--agents", agents)):
        if address(place, option)[0] not in ("127.0.0.1", "::1", "localhost") and not on_network:
            raise StartError(
                f"--insecure listens on loopback only, not on {place} ({option}); if everybody who reaches that "
                "address may control the lab, say --insecure-on-network"
            )
    here = "" if not on_network else " IT IS OPEN TO THE NETWORK."
    click.echo(
        f"WARNING: THIS LAB IS INSECURE.{here} labd asks nobody who they are, and nothing is encrypted: everybody who "
        "reaches it controls the lab, and whoever is on the way reads along.",
        err=True,
    )


def _providers(access: Path | None, issuer: str | None, client_id: str | None) -> "list[Provider]":
    if (issuer is None) != (client_id is None):
        raise StartError("--oidc-issuer and --oidc-client-id go together")
    if access is None and issuer is None:
        return []
    from pydantic import ValidationError

    from labd.services.oidc import OidcProvider
    from labd.services.providers import AccessFile, Oidc, read_access_file
    from labd.services.token_review import TokenReviewProvider
    from labd.settings_file import SettingsError

    try:
        trusted = AccessFile() if access is None else read_access_file(access)
        if issuer is not None:
            simple = Oidc(name="oidc", issuer=issuer, client_id=client_id)
            trusted = AccessFile(oidc=(*trusted.oidc, simple), kubernetes=trusted.kubernetes)
    except SettingsError as error:
        raise StartError(str(error)) from error
    except ValidationError as error:
        raise StartError(f"--oidc-issuer {issuer}: {error.errors()[0]['msg']}") from error
    return [*map(OidcProvider, trusted.oidc), *map(TokenReviewProvider, trusted.kubernetes)]


def _read_clusters(path: Path) -> "Clusters":
    from labd.executors.kubernetes.settings import read_clusters_file
    from labd.settings_file import SettingsError

    try:
        return read_clusters_file(path)
    except SettingsError as error:
        raise StartError(str(error)) from error


def _door(limits: Sequence[str], proxies: Sequence[str]) -> Door:
    from labd.api.limits import limits_of
    from labd.api.proxies import Proxies

    try:
        trusted = Proxies(proxies)
    except ValueError as error:
        raise StartError(f"--trusted-proxy {error}") from error
    try:
        return Door(limits_of(limits), trusted)
    except ValueError as error:
        raise StartError(f"--limit {error}") from error
