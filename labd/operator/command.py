"""``labd operator``: puts the operator together, starts it, and stops it."""

import re
import signal
import socket
import sys
import threading
import uuid
from pathlib import Path

import click

from labd.log import log_options, set_up_logging

EXECUTORS = ("kubernetes", "process", "bench")
LONGEST_NAME = 63
"""Of a pod, as its host name; an identity is not much longer."""
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_DURATION = click.FloatRange(min=0, min_open=True)


@click.command()
@click.option(
    "--print-crd",
    is_flag=True,
    help="Print the definition of TestRuns, for kubectl apply -f -, and do nothing else.",
)
@click.option(
    "--labd",
    "url",
    metavar="URL",
    default="http://127.0.0.1:8470",
    envvar="LABD_URL",
    show_envvar=True,
    show_default=True,
    help="Where labd is. Several labds of one lab with commas. LABD_CA and LABD_SERVER_NAME say whom to trust.",
)
@click.option(
    "--public-url",
    metavar="URL",
    envvar="LABD_PUBLIC_URL",
    show_envvar=True,
    help="Where people reach labd, for the address of the log in the status. Default: --labd.",
)
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="LABD_TOKEN_FILE",
    show_envvar=True,
    help="File with the token to show to labd, such as a projected one of a service account; read for each request. "
    "Default: LABD_TOKEN, or who is signed in by labctl login.",
)
@click.option(
    "--kubeconfig",
    type=click.Path(exists=True, dir_okay=False),
    help="Default: KUBECONFIG, ~/.kube/config, or the cluster around this pod.",
)
@click.option("--context", metavar="NAME", help="Of the kubeconfig; default: its current one.")
@click.option(
    "-n",
    "--namespace",
    "namespaces",
    metavar="NAME[=TEAM]",
    multiple=True,
    envvar="LABD_OPERATOR_NAMESPACES",
    show_envvar=True,
    help="Only TestRuns of this namespace; TEAM pays for them. Repeatable. Without it: all namespaces.",
)
@click.option("--team", envvar="LABD_TEAM", show_envvar=True, help="Who pays for the others: a team of labd.")
@click.option(
    "--executor",
    type=click.Choice(EXECUTORS),
    envvar="LABD_OPERATOR_EXECUTOR",
    show_envvar=True,
    help="Where scripts run: in a pod, beside labd, at the bench. Default: as labd has it for the team.",
)
@click.option(
    "--cluster",
    metavar="NAME",
    envvar="LABD_OPERATOR_CLUSTER",
    show_envvar=True,
    help="What labd calls the cluster for the pods (its --clusters). Default: labd's default.",
)
@click.option(
    "--ttl",
    "ttl_s",
    type=_DURATION,
    default=86400.0,
    show_default=True,
    metavar="SECONDS",
    envvar="LABD_OPERATOR_TTL",
    show_envvar=True,
    help="How long a finished TestRun stays. Its result stays in labd.",
)
@click.option(
    "--patience",
    "patience_s",
    type=_DURATION,
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    envvar="LABD_OPERATOR_PATIENCE",
    show_envvar=True,
    help="How long a deleted TestRun stays while labd is away and its run cannot be cancelled.",
)
@click.option(
    "--lease-namespace",
    metavar="NAME",
    envvar="POD_NAMESPACE",
    show_envvar=True,
    help="Where the Lease is by which one of several replicas leads. Default: the pod's, or the kubeconfig's.",
)
@click.option(
    "--lease-duration",
    "lease_s",
    type=click.IntRange(3, 3600),
    default=15,
    show_default=True,
    metavar="SECONDS",
    envvar="LABD_OPERATOR_LEASE_DURATION",
    show_envvar=True,
    help="How long the others wait for a leader that is not heard of before one of them takes over.",
)
@click.option(
    "--health",
    metavar="HOST:PORT",
    default="127.0.0.1:8472",
    envvar="LABD_OPERATOR_HEALTH",
    show_envvar=True,
    show_default=True,
    help="Where /healthz, /readyz and Prometheus' /metrics answer; port 0 lets the system choose.",
)
@log_options
def operator(
    print_crd: bool,
    url: str,
    public_url: str | None,
    token_file: Path | None,
    kubeconfig: str | None,
    context: str | None,
    namespaces: tuple[str, ...],
    team: str | None,
    executor: str | None,
    cluster: str | None,
    ttl_s: float,
    patience_s: float,
    lease_namespace: str | None,
    lease_s: int,
    health: str,
    log_level: str,
    log_format: str,
) -> None:
    """Make a run of labd of each TestRun in a cluster, and tell there how it goes, until SIGTERM or SIGINT.

    Several replicas may run: one of them acts. It may be killed and started again at any moment.
    """
    if print_crd:
        click.echo(Path(__file__).with_name("testruns.labd.dev.yaml").read_text("utf-8"), nl=False)
        return
    set_up_logging(log_level, log_format)
    host, port = _address(health)
    teams = dict(_namespace(one) for one in namespaces)
    if cluster is not None and executor in ("process", "bench"):
        raise click.UsageError(f"--cluster is where pods are; with --executor {executor} there are none")

    # Imported here, so that --help and refusals are quick.
    import structlog

    from labd.client import LabClient, LabError
    from labd.operator.cluster import ClusterError, connect
    from labd.operator.election import Times
    from labd.operator.reconciler import Rules
    from labd.operator.runs import RunOptions, Runs
    from labd.operator.service import Operator, serve_health

    log = structlog.get_logger()
    try:
        place = connect(kubeconfig, context)
        lab = LabClient(url, token=None if token_file is None else lambda: _token(token_file), timeout_s=5)
        options = RunOptions(executor, cluster, team, {name: whose for name, whose in teams.items() if whose})
        running = Operator(
            place,
            Runs(lab, options, public_url),
            Rules(ttl_s, patience_s),
            identity=_identity(),
            lease_namespace=lease_namespace or place.namespace,
            namespaces=tuple(teams) or (None,),
            times=Times.of(lease_s),
        )
        try:
            server = serve_health(host, port, running)
        except OSError as error:
            raise OSError(f"--health {health}: {error.strerror or error}") from error
    except (ClusterError, LabError, OSError) as error:
        click.echo(f"labd operator: cannot start: {error}", err=True)
        sys.exit(1)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    address = f"{host}:{server.server_port}"
    log.info("the operator runs", cluster=place.where, labd=lab.url, health=address)
    running.run(stop)
    server.shutdown()
    lab.close()
    log.info("the operator stops")


def _namespace(text: str) -> tuple[str, str]:
    name, _, team = text.partition("=")
    if not _NAMESPACE.fullmatch(name):
        wanted = "expected NAME or NAME=TEAM, with a name of lower-case letters, digits and '-'"
        raise click.BadParameter(f"{text!r}: {wanted}", param_hint="--namespace")
    return name, team


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise click.BadParameter(f"{text!r}: expected HOST:PORT, such as 127.0.0.1:8472", param_hint="--health")
    return host.strip("[]"), int(port)


def _identity() -> str:
    """Of this process alone: a container that starts again in its pod is another candidate."""
    return f"{socket.gethostname()[:LONGEST_NAME]}_{uuid.uuid4()}"


def _token(file: Path) -> str:
    from labd.client.credentials import SignInError

    try:
        return file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SignInError(f"the token for labd cannot be read: {error}") from error
