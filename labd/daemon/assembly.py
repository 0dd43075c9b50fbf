"""Puts the lab together from what `labd serve` was told."""

import contextlib
import hashlib
import shlex
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click
import structlog

from bench_agent.protocol.identity import CONTROLLER_NAME
from labd.daemon.addresses import join
from labd.daemon.errors import StartError
from labd.daemon.options import key_files
from labd.daemon.settings import Metrics, Settings, Tls
from labd.telemetry.options import InfluxOptions

if TYPE_CHECKING:
    import ssl

    from labd.executors.kubernetes.executor import KubernetesExecutor
    from labd.executors.kubernetes.settings import Clusters
    from labd.services.authority import Authority
    from labd.services.lab import Lab
    from labd.services.replicas import Replicas
    from labd.store.database import Database
    from labd.telemetry.writer import Writer


@contextlib.contextmanager
def assembled(settings: Settings, url: str, points: "Writer | None") -> "Iterator[Lab]":
    """The lab, not started yet; ``url`` is its REST API as this machine reaches it. Raises StartError."""
    from labd.daemon.checks import configuration_checks
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
    from labd.services.signing import KeyUnusable, Signer
    from labd.services.time_sync import wait_until_set
    from labd.services.vault import KEY_FILE, Vault
    from labd.store.errors import StoreError
    from labd.store.store import Store
    from runners import launch

    data, tls, clusters = settings.data.resolve(), settings.tls, settings.clusters
    public_url = settings.public_url or url
    files = key_files(settings.keys, settings.secrets_key, authority=tls is not None)
    with contextlib.ExitStack() as opened:
        try:
            store = Store(data, settings.database)
            opened.callback(store.close)
            with store.read() as unit:
                OwnKeys(files).require(unit.key_ids())  # before others are made in their place
            signer = Signer(settings.keys)
            vault = Vault(files[KEY_FILE])
            authority = None if tls is None else Authority(tls.authority, lifetime_s=tls.lifetime_s)
            OwnKeys(files).settle(store)
        except (StoreError, KeyUnusable, AuthorityUnusable, KeysDiffer) as error:
            raise StartError(str(error)) from error
        opened.pop_all()
    replicas = None if settings.database is None else _replicas(store.database, data, public_url, signer.key_id)
    command = None if settings.runner is None else shlex.split(settings.runner)
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
        lab = Lab(
            store,
            clock,
            signer,
            executors,
            clusters=places,
            url=url,
            public_url=public_url,
            limits=RunLimits(output_bytes=settings.door.limits.run_log_bytes),
            secure=tls is not None,
            providers=settings.providers,
            replicas=replicas,
            anchor=Anchor(data / ANCHOR_NAME),
            writer=points,
            vault=vault,
            authority=authority,
            keys=key_files(settings.keys, settings.secrets_key),
        )
        lab.doctor.add("configuration", lambda: configuration_checks(settings))
        yield lab
    finally:
        store.close()


def _replicas(database: "Database", data: Path, url: str, key_id: str) -> "Replicas":
    """The other labds on a PostgreSQL server, whose driver takes its time to load."""
    from labd.services.replicas import Replicas, replica_name
    from labd.store.postgresql import PostgreSQL

    if not isinstance(database, PostgreSQL):
        raise TypeError(f"{database.name} cannot be shared by several labds")
    return Replicas(database, replica_name(data), url, key_id)


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


@contextlib.contextmanager
def points_writer(folder: Path, influx: InfluxOptions) -> "Iterator[Writer]":
    """Takes points for as long as there are any: until the lab has stopped. Raises StartError."""
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


@contextlib.contextmanager
def tell_prometheus(lab: "Lab", metrics: Metrics) -> "Iterator[None]":
    """Answers Prometheus for as long as the block lasts. Raises StartError."""
    from bench_agent.protocol.metrics_door import PATH, MetricsDoor
    from labd.telemetry.prometheus import Both, Figures

    figures = Figures(lambda: lab.core.peers.leads, topas=metrics.topas)
    lab.core.points = Both(lab.core.points, figures)
    try:
        door = MetricsDoor(metrics.host, metrics.port, figures.registry)
    except OSError as error:
        where = join(metrics.host, metrics.port)
        raise StartError(f"cannot listen on {where} for Prometheus: {error.strerror or error} (--metrics)") from error
    click.echo(f"labd tells Prometheus at http://{join(metrics.host, door.port)}{PATH}")
    try:
        yield
    finally:
        door.stop()


def https_context(lab: "Lab", tls: Tls, hosts: list[str]) -> "ssl.SSLContext":
    """What labd shows to those who reach it by one of ``hosts``, or on this machine. Raises StartError."""
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


def bootstrap(lab: "Lab", data: Path, url: str) -> None:
    """Lets the first admin in. Raises StartError."""
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
