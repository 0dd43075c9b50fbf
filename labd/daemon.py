"""``labd serve``: puts the daemon together, starts it, and stops it."""

import asyncio
import contextlib
import hashlib
import json
import os
import resource
import shlex
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click
import structlog

from bench_agent.protocol import tracing
from bench_agent.protocol.identity import CONTROLLER_NAME
from labd.cli.lazy import LazyGroup
from labd.log import LEVELS, set_up_logging
from labd.telemetry.options import InfluxOptions, check_influx, influx_options

if TYPE_CHECKING:
    import ssl

    import uvicorn

    from labd.agents.server import AgentsServer
    from labd.api.limits import Limits
    from labd.api.proxies import Proxies
    from labd.executors.kubernetes.executor import KubernetesExecutor
    from labd.executors.kubernetes.settings import Clusters
    from labd.services.authority import Authority
    from labd.services.lab import Lab
    from labd.services.sign_in import Provider
    from labd.telemetry.writer import Writer

MARKS_FOLDER = "agent-points"
"""In the data directory: up to where the points of each agent were taken."""
ADDRESS_FILE = "labd.json"
"""In the data directory while labd serves: where it listens, and its process ID."""
CA_FOLDER = "ca"
"""In the directory of keys."""
DRAIN_S = 3
"""How long open requests may go on once labd stops."""
KEEP_ALIVE_S = 30
"""How long an idle connection stays: longer than holders pause between heartbeats, as another handshake costs both."""
PEER_GONE_S = 30
"""A client whose machine has vanished without a word loses its connections by then, as one does that reads nothing."""
_BACKLOG = 256


class StartError(Exception):
    """labd cannot start; the message says why and what would help."""


@click.group(cls=LazyGroup, lazy={"operator": "labd.operator.command:operator"})
@click.version_option(package_name="labd")
def main() -> None:
    """The lab daemon."""


_data = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("labd-data"),
    envvar="LABD_DATA",
    show_envvar=True,
    show_default=True,
    help="Directory for the database, the signing key and running scenarios; made when missing.",
)
_database = click.option(
    "--database",
    default=None,
    envvar="LABD_DATABASE",
    show_envvar=True,
    metavar="URL",
    help="PostgreSQL database to use instead of an SQLite file in --data: postgresql://USER@HOST:PORT/NAME; several "
    "servers with commas, HOST:PORT,HOST:PORT, of which the one is used that takes writes. Give a "
    "password in the environment or in libpq's password file: others can read command lines.",
)

_secrets_key = click.option(
    "--secrets-key",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    envvar="LABD_SECRETS_KEY",
    show_envvar=True,
    help="File with the key that secrets are sealed with: 32 bytes in Base64, one key a line, the first one seals. "
    "Default: secrets-key in the data directory, made on first use.",
)
_keys = click.option(
    "--keys",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    envvar="LABD_KEYS",
    show_envvar=True,
    help="Directory of the signing key and the certificate authority (`ca`), made when missing; several labds on one "
    "database share it. Default: --data.",
)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@dataclass(frozen=True, slots=True)
class _Tls:
    """How labd proves who it is."""

    authority: Path
    names: tuple[str, ...]
    certificate: Path | None
    key: Path | None
    lifetime_s: float


@dataclass(frozen=True, slots=True)
class _Metrics:
    """Where Prometheus comes to."""

    host: str
    port: int
    topas: bool


@dataclass(frozen=True, slots=True)
class _Door:
    """Who comes in by HTTP, and how much of it."""

    limits: "Limits"
    proxies: "Proxies"


@main.command()
@_data
@_database
@_keys
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
@_secrets_key
@click.option(
    "--log-level",
    type=click.Choice(LEVELS),
    default="info",
    envvar="LABD_LOG_LEVEL",
    show_envvar=True,
    show_default=True,
    help="Least important log lines to write to standard error.",
)
@click.option(
    "--log-format",
    type=click.Choice(("logfmt", "json")),
    default="logfmt",
    envvar="LABD_LOG_FORMAT",
    show_envvar=True,
    show_default=True,
    help="Of the log: key=value, or a JSON object a line.",
)
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
    type=_FILE,
    envvar="LABD_TLS_CERT",
    show_envvar=True,
    help="Certificate chain (PEM) for the REST API, such as a public one, instead of one by labd's own authority. Read "
    "again when it changes.",
)
@click.option(
    "--tls-key", type=_FILE, envvar="LABD_TLS_KEY", show_envvar=True, help="Its key, if in a file of its own."
)
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
    type=_FILE,
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
            tls = _Tls((keys or data) / CA_FOLDER, names, tls_cert, tls_key, certificate_lifetime)
        door = _door(limits, proxies)
        pods = None if clusters is None else _read_clusters(clusters)
        told = None if metrics is None else _Metrics(*_address(metrics, "--metrics"), metrics_topas)
        _serve(
            data,
            database,
            keys or data,
            http,
            agents,
            url,
            runner,
            secrets_key,
            tls,
            providers,
            door,
            influx,
            pods,
            told,
        )
    except StartError as error:
        click.echo(f"labd: cannot start: {error}", err=True)
        sys.exit(1)
    finally:
        tracing.close()


@main.command("rotate-ca")
@_data
@_keys
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


@main.command("make-keys")
@_data
@_keys
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


@main.command()
@_data
@_database
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


@main.command("admin-token")
@_data
@_database
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


@main.command("accept-keys")
@_data
@_database
@_keys
@_secrets_key
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
            for line in accept(store, OwnKeys(_key_files(keys or data, secrets_key)), reason, time.time()):
                click.echo(line)
    except (OSError, StoreError, ServiceError, KeysDiffer) as error:
        click.echo(f"labd: cannot accept the keys: {error}", err=True)
        sys.exit(1)


@main.group()
def secrets() -> None:
    """Look after the key that secrets are sealed with."""


@secrets.command()
@_data
@_database
@_keys
@_secrets_key
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


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_data
@_database
@_keys
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


def _serve(
    data: Path,
    database: str | None,
    keys: Path,
    http: str,
    agents: str,
    public_url: str | None,
    runner: str | None,
    secrets_key: Path | None,
    tls: _Tls | None,
    providers: "Sequence[Provider]",
    door: _Door,
    influx: InfluxOptions,
    clusters: "Clusters | None",
    metrics: _Metrics | None,
) -> None:
    # Imported here, so that --help and refusals are quick.
    from labd.store.errors import StoreError
    from labd.store.lock import DataLock

    http_address = _address(http, "--http")
    agents_address = _address(agents, "--agents")
    for one in [] if public_url is None else public_url.split(","):
        if urlsplit(one).scheme not in ("http", "https"):
            raise StartError(f"--url is {one!r}: expected a URL such as https://lab.example.com:8470")
        if tls is not None and urlsplit(one).scheme != "https":
            raise StartError(f"--url is {one!r}, but this labd speaks TLS: its URL begins with https://")
    if tls is not None and tls.key is not None and tls.certificate is None:
        raise StartError("--tls-key goes with --tls-cert: whose key is it?")
    try:
        check_influx(influx)
    except ValueError as error:
        raise StartError(str(error)) from error
    os.umask(0o077)  # what is in the data directory is nobody else's business
    allow_many_files()
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = DataLock(data)
    except OSError as error:
        raise StartError(f"the data directory {data} cannot be used: {error}") from error
    except StoreError as error:
        raise StartError(str(error)) from error
    with lock, _listen(*http_address) as listener:
        host, port = listener.getsockname()[:2]
        local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - recognised, not bound
        url = f"{'http' if tls is None else 'https'}://{_join(local, port)}"
        public_url = public_url or url
        with contextlib.ExitStack() as opened:
            points = opened.enter_context(_points(data.resolve() / "points", influx))
            lab = opened.enter_context(
                _lab(
                    data.resolve(),
                    database,
                    keys,
                    url,
                    public_url,
                    runner,
                    secrets_key,
                    tls,
                    providers,
                    door,
                    points,
                    clusters,
                )
            )
            if metrics is not None:
                opened.enter_context(_tell_prometheus(lab, metrics))
            loop = opened.enter_context(_event_loop())
            context = None if tls is None else _https(lab, tls, [host, *_hosts(public_url)])
            _bootstrap(lab, data, url)
            loop.run(_run(lab, listener, agents_address, data, url, context, door))


@contextlib.contextmanager
def _lab(
    data: Path,
    database: str | None,
    keys: Path,
    url: str,
    public_url: str,
    runner: str | None,
    secrets_key: Path | None,
    tls: _Tls | None,
    providers: "Sequence[Provider]",
    door: _Door,
    points: "Writer | None" = None,
    clusters: "Clusters | None" = None,
) -> "Iterator[Lab]":
    from labd.executors.base import Executor
    from labd.executors.process import ProcessExecutor
    from labd.model.run import ExecutorName
    from labd.services.anchor import ANCHOR_NAME, Anchor
    from labd.services.attempt_tokens import PodCluster
    from labd.services.authority import Authority, AuthorityUnusable
    from labd.services.clock import CLOCK_NAME, LabClock
    from labd.services.lab import Lab
    from labd.services.limits import RunLimits
    from labd.services.own_keys import KeysDiffer, OwnKeys
    from labd.services.replicas import Replicas, replica_name
    from labd.services.signing import KeyUnusable, Signer
    from labd.services.time_sync import wait_until_set
    from labd.services.vault import KEY_FILE, Vault
    from labd.store.errors import StoreError
    from labd.store.postgresql import PostgreSQL
    from labd.store.store import Store
    from runners import launch

    files = _key_files(keys, secrets_key, authority=tls is not None)
    with contextlib.ExitStack() as opened:
        try:
            store = Store(data, database)
            opened.callback(store.close)
            with store.read() as unit:
                OwnKeys(files).require(unit.key_ids())  # before others are made in their place
            signer = Signer(keys)
            vault = Vault(files[KEY_FILE])
            authority = None if tls is None else Authority(tls.authority, lifetime_s=tls.lifetime_s)
            OwnKeys(files).settle(store)
        except (StoreError, KeyUnusable, AuthorityUnusable, KeysDiffer) as error:
            raise StartError(str(error)) from error
        opened.pop_all()
    replicas = None
    if isinstance(store.database, PostgreSQL):
        replicas = Replicas(store.database, replica_name(data), public_url, signer.key_id)
    command = launch.COMMAND if runner is None else shlex.split(runner)
    try:
        with store.read() as unit:
            live = bool(unit.live_leases())
        clock = LabClock(data / CLOCK_NAME, settle=wait_until_set if live else lambda: None)
        if not live:
            clock.take_wall_clock()
        variables = {} if authority is None else launch.tls_variables(authority.trust_file, CONTROLLER_NAME)
        executors: dict[ExecutorName, Executor] = {
            ExecutorName.PROCESS: ProcessExecutor(data / "runs", command=command, variables=variables)
        }
        places: dict[str, PodCluster] = {}
        if clusters is not None:
            pods = _pods(clusters, signer.key_id, public_url, authority)
            executors[ExecutorName.KUBERNETES] = pods
            places = {cluster.name: PodCluster(cluster, pods.api(cluster.name)) for cluster in clusters.clusters}
        yield Lab(
            store,
            clock,
            signer,
            executors,
            clusters=places,
            url=url,
            public_url=public_url,
            limits=RunLimits(output_bytes=door.limits.run_log_bytes),
            secure=tls is not None,
            providers=providers,
            replicas=replicas,
            anchor=Anchor(data / ANCHOR_NAME),
            marks=data / MARKS_FOLDER,
            writer=points,
            vault=vault,
            authority=authority,
            keys=_key_files(keys, secrets_key),
        )
    finally:
        store.close()


@contextlib.contextmanager
def _tell_prometheus(lab: "Lab", metrics: _Metrics) -> "Iterator[None]":
    from bench_agent.protocol.metrics_door import PATH, MetricsDoor
    from labd.telemetry.prometheus import Both, Figures

    figures = Figures(lambda: lab.core.peers.leads, topas=metrics.topas)
    lab.core.points = Both(lab.core.points, figures)
    try:
        door = MetricsDoor(metrics.host, metrics.port, figures.registry)
    except OSError as error:
        where = _join(metrics.host, metrics.port)
        raise StartError(f"cannot listen on {where} for Prometheus: {error.strerror or error} (--metrics)") from error
    click.echo(f"labd tells Prometheus at http://{_join(metrics.host, door.port)}{PATH}")
    try:
        yield
    finally:
        door.stop()


@contextlib.contextmanager
def _points(folder: Path, influx: InfluxOptions) -> "Iterator[Writer]":
    """Takes points for as long as there are any: until the lab has stopped."""
    from labd.telemetry.influx import InfluxSettings
    from labd.telemetry.writer import Writer

    settings = None
    if influx.url is not None:
        settings = InfluxSettings(influx.url, influx.org or "", influx.bucket or "", influx.token_file, influx.ca_file)
    try:
        writer = Writer(folder, settings, spool_bytes=influx.spool_bytes)
    except OSError as error:
        raise StartError(f"the spool of points in {folder} cannot be used: {error}") from error
    writer.start()
    try:
        yield writer
    finally:
        writer.stop()


def _key_files(keys: Path, secrets_key: Path | None, *, authority: bool = True) -> dict[str, Path]:
    """By the names that they have in a backup; without the ``authority`` where there is no TLS."""
    from labd.services.own_keys import AUTHORITY_KEY
    from labd.services.signing import KEY_NAME
    from labd.services.vault import KEY_FILE

    files = {KEY_NAME: keys / KEY_NAME, AUTHORITY_KEY: keys / AUTHORITY_KEY, KEY_FILE: secrets_key or keys / KEY_FILE}
    return files if authority else {name: path for name, path in files.items() if name != AUTHORITY_KEY}


def _https(lab: "Lab", tls: _Tls, hosts: list[str]) -> "ssl.SSLContext":
    from labd.api.https import CertificateUnusable, GivenContext, OwnContext, server_context
    from labd.services.doctor import certificate_checks
    from labd.services.own_certificate import OwnCertificate

    if lab.authority is None:
        raise RuntimeError("HTTPS takes an authority")
    here = ["localhost", "127.0.0.1", "::1", socket.gethostname()]
    try:
        own = OwnContext(OwnCertificate(lab.authority, [*tls.names, *hosts, *here]))
        given = None if tls.certificate is None else GivenContext(tls.certificate, tls.key)
    except CertificateUnusable as error:
        raise StartError(str(error)) from error
    except ValueError as error:
        raise StartError(f"one of --name {' '.join(tls.names)} is no name of a host: {error}") from error
    if tls.certificate is not None:
        path = tls.certificate
        remedy = "renew it; labd reads the file again when it changes"
        lab.doctor.add("certificate", lambda: certificate_checks("certificate", path, lab.core.clock.now(), remedy))
    return server_context(own, given)


def allow_many_files() -> None:
    """Opens as many files as this process may: each attached agent and each follower has a connection of its own."""
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _warn_insecure(http: str, agents: str, *, on_network: bool) -> None:
    """Raises StartError when labd would listen where others are."""
    for option, address in (("--http", http), ("--agents", agents)):
        if _address(address, option)[0] not in ("127.0.0.1", "::1", "localhost") and not on_network:
            raise StartError(
                f"--insecure listens on loopback only, not on {address} ({option}); if everybody who reaches that "
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


def _pods(clusters: "Clusters", key_id: str, url: str, authority: "Authority | None") -> "KubernetesExecutor":
    """Runners in clusters, which know this lab's objects there by its key."""
    from labd.executors.kubernetes.executor import KubernetesExecutor
    from labd.executors.kubernetes.pod import Door

    for cluster in clusters.clusters:
        if cluster.url is None and urlsplit(url.split(",")[0]).hostname in ("127.0.0.1", "::1", "localhost"):
            structlog.get_logger().warning(
                "pods do not reach labd at this URL: give --url, or url in the file of clusters", url=url
            )

    def door(name: str) -> Door:
        ca = clusters.choose(name).ca
        if ca is not None:
            return Door(url, ca.read_text("ascii"))
        return Door(url) if authority is None else Door(url, authority.trust.decode(), CONTROLLER_NAME)

    return KubernetesExecutor(clusters, hashlib.sha256(key_id.encode()).hexdigest()[:16], door)


def _door(limits: Sequence[str], proxies: Sequence[str]) -> _Door:
    from labd.api.limits import limits_of
    from labd.api.proxies import Proxies

    try:
        trusted = Proxies(proxies)
    except ValueError as error:
        raise StartError(f"--trusted-proxy {error}") from error
    try:
        return _Door(limits_of(limits), trusted)
    except ValueError as error:
        raise StartError(f"--limit {error}") from error


def _bootstrap(lab: "Lab", data: Path, url: str) -> None:
    if lab.sign_in is None:
        return
    try:
        path = lab.identities.bootstrap(data)
    except OSError as error:
        raise StartError(f"the first admin's token cannot be written into {data}: {error}") from error
    if path is not None:
        click.echo(f"labd knows nobody yet: a token for a first admin is in {path}", err=True)
        known_by = "" if lab.authority is None else f" --fingerprint {lab.authority.fingerprint}"
        click.echo(f"sign in with: labctl login {url}{known_by} --token-file {path}", err=True)


def _event_loop() -> asyncio.Runner:
    try:
        import uvloop
    except ImportError:  # not made for this platform
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


async def _run(
    lab: "Lab",
    listener: socket.socket,
    agents: tuple[str, int],
    data: Path,
    url: str,
    context: "ssl.SSLContext | None",
    door: _Door,
) -> None:
    from labd.agents.server import AddressInUse, AgentsServer
    from labd.services.replicas import KeyDiffers
    from labd.store.errors import StoreError

    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(16, thread_name_prefix="labd"))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    agents_server = AgentsServer(lab)
    try:
        agents_port = agents_server.bind(_join(*agents))
    except AddressInUse as error:
        await agents_server.stop()
        raise StartError(f"{error} (is another labd running? choose another --agents address)") from error
    server = _web_server(lab, context, door)
    web: asyncio.Task[None] | None = None
    try:
        # Before anybody is let in: a request must not find leases that ran out only because labd was down.
        await asyncio.to_thread(lab.start)
        web = asyncio.create_task(server._serve([listener]))  # serve() itself would take the signals
        await agents_server.start()
        while not server.started:
            if web.done():
                web.result()
                raise StartError("the web server ended at once")
            await asyncio.sleep(0.005)
        ca = None if lab.authority is None else str(lab.authority.trust_file.absolute())
        addresses = {"http": url, "agents": _join(agents[0], agents_port), "ca": ca, "pid": os.getpid()}
        _announce(data, addresses)
        await stop.wait()
    except (KeyDiffers, StoreError) as error:
        raise StartError(str(error)) from error
    finally:
        (data / ADDRESS_FILE).unlink(missing_ok=True)
        await _stop(lab, server, web, agents_server)


async def _stop(lab: "Lab", server: "uvicorn.Server", web: "asyncio.Task[None] | None", agents: "AgentsServer") -> None:
    structlog.get_logger().info("labd stops")
    # Runs first, so that their followers still hear of the end, and agents of the fences.
    try:
        await asyncio.to_thread(lab.stop)
    finally:
        lab.hang_up()
        server.should_exit = True
        await asyncio.gather(*([] if web is None else [web]), agents.stop(), return_exceptions=True)


def _web_server(lab: "Lab", context: "ssl.SSLContext | None", door: _Door) -> "uvicorn.Server":
    import uvicorn

    from labd.api.app import create_app

    http: Any = "auto"
    with contextlib.suppress(ImportError):  # httptools is not made for this platform
        from labd.api.connections import limited

        http = limited(door.limits.address_connections, door.proxies)

    return uvicorn.Server(
        uvicorn.Config(
            create_app(lab, door.limits),
            http=http,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            # By itself uvicorn believes whoever is on this machine.
            proxy_headers=bool(door.proxies.networks),
            forwarded_allow_ips=door.proxies.networks,
            server_header=False,
            ssl_context_factory=None if context is None else lambda *_: context,
            timeout_graceful_shutdown=DRAIN_S,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
    )


def _announce(data: Path, addresses: dict[str, Any]) -> None:
    part = data / f"{ADDRESS_FILE}.part"
    part.write_text(json.dumps(addresses) + "\n", "utf-8")
    part.replace(data / ADDRESS_FILE)
    click.echo(f"labd serves {addresses['http']}, agents attach at {addresses['agents']}, data in {data}")


def _listen(host: str, port: int) -> socket.socket:
    from labd.client.urls import silence_options

    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise StartError(
            f"cannot listen on {_join(host, port)}: {error.strerror} (is another labd running? "
            "choose another --http address)"
        ) from error
    for option in silence_options(PEER_GONE_S):
        listener.setsockopt(*option)  # those that it accepts have them too
    return listener


def _hosts(urls: str) -> list[str]:
    return [host for url in urls.split(",") if (host := urlsplit(url).hostname) is not None]


def _address(text: str, option: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise StartError(f"{option} is {text!r}: expected HOST:PORT, such as 127.0.0.1:8470")
    return host.strip("[]"), int(port)


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


if __name__ == "__main__":
    main()
