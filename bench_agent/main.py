"""The console script ``bench-agent``."""

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import click
import structlog
from pydantic import ValidationError

from bench_agent.protocol import tracing
from bench_agent.protocol.json_log import set_up_json_log
from bench_agent.server import config as config_file
from bench_agent.server.agent import Agent, ListenError
from bench_agent.server.certificate import AgentCertificate, CertificateError
from bench_agent.server.config import AgentConfig, split_address
from bench_agent.server.epochs import EpochError
from bench_agent.server.instance import InstanceError, only_instance
from bench_agent.server.quarantine import QuarantineError
from bench_agent.server.tuning import settle
from ecu_adapters.bus import BusError, BusHub, BusNode, CanConfig
from ecu_adapters.dbc import Database, DatabaseError
from ecu_adapters.description import load_ecu
from ecu_adapters.doip import discovery
from ecu_adapters.doip.settings import PORT
from ecu_adapters.simulator import SimulatedEcu
from ecu_adapters.simulator.doip_network import DoIpNetwork
from ecu_adapters.simulator.nvm import NvmError
from ecu_adapters.simulator.pty_port import PtyPort
from ecu_adapters.yaml_file import ConfigError, scalar

FILE = click.Path(exists=False, dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)


class _Address(click.ParamType[str]):
    name = "host:port"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            split_address(value)
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)
        return value


class _Addresses(click.ParamType[tuple[str, ...]]):
    name = "host:port,..."

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        return tuple(ADDRESS.convert(address.strip(), param, ctx) for address in value.split(","))


class _Setting(click.ParamType[tuple[str, object]]):
    name = "key=value"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, object]:
        key, equals, text = value.partition("=")
        if not equals or not key.isidentifier():
            self.fail(f"{value!r}: expected KEY=VALUE, for example port=29536", param, ctx)
        return key, scalar(text)


ADDRESS = _Address()
SETTING = _Setting()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="labd")
def main() -> None:
    """Serve ECU benches to those who hold their leases."""


@main.command()
@click.argument("file", type=FILE)
@click.option("--listen", type=ADDRESS, help="Where lease holders connect; overrides agent.listen.")
@click.option("--advertise", type=ADDRESS, help="How lease holders reach it; overrides agent.advertise.")
@click.option(
    "--labd",
    type=_Addresses(),
    multiple=True,
    help="labd's door for agents; overrides agent.labd. Several labds of one lab with commas, or repeated: the agent "
    "attaches to one that answers.",
)
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), help="Overrides agent.data_dir.")
@click.option(
    "--metrics",
    type=ADDRESS,
    help="Where Prometheus fetches figures, by plain HTTP at /metrics; overrides agent.metrics.listen.",
)
@click.option(
    "--insecure",
    is_flag=True,
    help="No TLS: neither labd nor lease holders prove who they are, and everybody on the way reads along. For a labd "
    "that runs with --insecure; listens on loopback only.",
)
@click.option("--insecure-on-network", is_flag=True, help="The same, on any address.")
@click.option(
    "--log-format",
    type=click.Choice(("text", "json")),
    default="text",
    envvar="BENCH_AGENT_LOG_FORMAT",
    show_envvar=True,
    show_default=True,
    help="Of the log: for people, or a JSON object a line.",
)
def serve(
    file: Path,
    listen: str | None,
    advertise: str | None,
    labd: tuple[tuple[str, ...], ...],
    data: Path | None,
    metrics: str | None,
    insecure: bool,
    insecure_on_network: bool,
    log_format: str,
) -> None:
    """Serve the benches of FILE until stopped (SIGTERM or Ctrl-C).

    The agent has to be enrolled first. A bench that does not work is reported as unhealthy, with the reason; the others
    are served.
    """
    if log_format == "json":
        set_up_json_log(logging.DEBUG)
    else:
        _log_to_stderr()
    try:
        config = config_file.load(file)
    except ConfigError as error:
        raise click.ClickException(f"{file} is not usable:\n{error}") from error
    _override(config, listen, advertise, tuple(address for several in labd for address in several), data)
    if metrics is not None:
        config.agent.metrics.listen = metrics
    certificate = None
    if insecure or insecure_on_network:
        _warn_insecure(config.agent.listen, on_network=insecure_on_network)
    else:
        certificate = _certificate(config)
    try:
        with only_instance(config.agent.data_dir):
            tracing.set_up("bench-agent")
            revoked = asyncio.run(_serve(config, certificate))
    except (ListenError, EpochError, QuarantineError, InstanceError) as error:
        raise click.ClickException(str(error)) from error
    finally:
        tracing.close()
    if revoked is not None:
        raise click.ClickException(f"{revoked}. Enrol the agent anew before it is started again")


@main.command("enrol")
@click.argument("file", type=FILE)
@click.option(
    "--labd",
    "url",
    required=True,
    metavar="URL",
    help="labd's REST API, such as https://lab.example:8470; of several labds with commas.",
)
@click.option(
    "--token",
    required=True,
    envvar="LABD_ENROL_TOKEN",
    show_envvar=True,
    help="From 'labctl agent enrol NAME'; for one use. '-' reads it from standard input.",
)
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), help="Overrides agent.data_dir.")
def enrol_agent(file: Path, url: str, token: str, data: Path | None) -> None:
    """Get a certificate for the agent of FILE, with a one-time token.

    The key is made here and stays here. The certificate renews itself while the agent is attached. An agent that was
    enrolled before gets a new one, and the former one is void.
    """
    from bench_agent.server.enrol import EnrolError, enrol

    try:
        config = config_file.load(file)
    except ConfigError as error:
        raise click.ClickException(f"{file} is not usable:\n{error}") from error
    _override(config, None, None, (), data)
    if token == "-":  # noqa: S105 - says where it is
        token = sys.stdin.readline().strip()
    try:
        config.agent.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        enrol(url, token, config.agent.name, config.agent.data_dir)
    except (EnrolError, CertificateError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"agent {config.agent.name} is enrolled; its key is in {config.agent.data_dir}")


@main.command()
@click.argument("file", type=FILE)
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), help="Overrides agent.data_dir.")
def health(file: Path, data: Path | None) -> None:
    """Say whether the agent of FILE serves on this machine: for container engines and service managers.

    Exit code 1 if it does not answer within 3 s. Benches that do not work are no fault of the agent: labd shows them.
    """
    from bench_agent.server.health_check import NotServing, ask

    try:
        config = config_file.load(file)
        _override(config, None, None, (), data)
        ask(config.agent.data_dir)
    except (ConfigError, NotServing) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"agent {config.agent.name} serves")


@main.command()
@click.argument("file", type=FILE)
def check(file: Path) -> None:
    """Name every mistake in FILE, and in the DBC and ECU files that it refers to.

    One line each: file, line, field, message. Exit code 1 if there is any. Needs no hardware. What an ECU's ODX or CDD
    file says and the agent cannot use is named too, as a note.
    """
    mistakes = config_file.check(file)
    for mistake in mistakes:
        click.echo(str(mistake))
    if mistakes:
        sys.exit(1)
    config = config_file.load(file)
    for note in config_file.notes(config):
        click.echo(f"note: {note}")
    click.echo(f"{file}: {len(config.benches)} benches, no mistakes")


@main.command()
@click.argument("ecu", type=FILE)
@click.option("--interface", help="python-can interface: socketcan, udp_multicast, ...")
@click.option("--channel", help="For example vcan0.")
@click.option("--fd", is_flag=True, help="The bus speaks CAN FD.")
@click.option("--bitrate", type=click.IntRange(1, 8_000_000), help="bit/s, if the interface does not bring it.")
@click.option("--data-bitrate", type=click.IntRange(1, 16_000_000), help="bit/s of the CAN FD data phase.")
@click.option("--option", "options", type=SETTING, multiple=True, help="KEY=VALUE for python-can's class; repeatable.")
@click.option("--dbc", type=FILE, help="CAN database of the messages that the ECU sends.")
@click.option("--nvm", type=FOLDER, help="Folder for the memory of an ECU with nvm: keep; without it, nothing is kept.")
def simulate(
    ecu: Path,
    interface: str | None,
    channel: str | None,
    fd: bool,
    bitrate: int | None,
    data_bitrate: int | None,
    options: tuple[tuple[str, object], ...],
    dbc: Path | None,
    nvm: Path | None,
) -> None:
    """Play the ECU that the file ECU describes until stopped: on any CAN bus, or behind a DoIP entity of its own.

    With a section doip in the file, it listens on the host and port given there, and needs a bus only for the messages
    that it sends.

    \b
      bench-agent simulate zonal.yaml
      bench-agent simulate ecm.yaml --interface socketcan --channel vcan0 --dbc powertrain.dbc
      bench-agent simulate ecm.yaml --interface socketcand --channel can0 --option host=192.168.7.20 --option port=29536
    """
    _log_to_stderr()
    if (interface is None) != (channel is None):
        raise click.UsageError("--interface and --channel go together")
    try:
        can_config = _can_config(interface, channel, fd, bitrate, data_bitrate, dict(options))
        asyncio.run(_simulate(ecu, can_config, dbc, nvm))
    except (ConfigError, DatabaseError, BusError, NvmError, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error


@main.command("find-doip")
@click.argument("host", default=discovery.BROADCAST)
@click.option("--port", type=click.IntRange(1, 65_535), default=PORT, show_default=True, help="UDP.")
@click.option("--wait", type=click.FloatRange(0.1, 60), default=2.0, show_default=True, help="Seconds to listen.")
def find_doip(host: str, port: int, wait: float) -> None:
    """Ask who speaks DoIP: at HOST, or at everybody whom a broadcast reaches.

    For each entity: its IP address, its logical address, VIN and EID.

    \b
      bench-agent find-doip
      bench-agent find-doip 192.168.7.255
    """
    try:
        found = asyncio.run(discovery.find(host, port, wait_s=wait))
    except OSError as error:
        raise click.ClickException(f"{host}: {error}") from error
    for entity in found:
        click.echo(f"{entity.host}  0x{entity.logical_address:04X}  {entity.vin or '-'}  {entity.eid}")
    if not found:
        raise click.ClickException(f"no DoIP entity has answered at {host} within {wait:g} s")


def _certificate(config: AgentConfig) -> AgentCertificate:
    """Raises ClickException."""
    try:
        certificate = AgentCertificate(config.agent.data_dir)
    except CertificateError as error:
        raise click.ClickException(str(error)) from error
    if certificate.identity.name != config.agent.name:
        raise click.ClickException(
            f"the certificate in {config.agent.data_dir} is of agent {certificate.identity.name!r}, but agent.name is "
            f"{config.agent.name!r}; enrol this agent too"
        )
    if (expired := certificate.expired) is not None:
        raise click.ClickException(f"the agent's certificate ran out at {expired}; enrol it anew")
    return certificate


def _warn_insecure(listen: str, *, on_network: bool) -> None:
    """Raises ClickException when it would listen where others are."""
    host, _ = split_address(listen)
    if host.strip("[]") not in ("127.0.0.1", "::1", "localhost") and not on_network:
        raise click.ClickException(
            f"--insecure listens on loopback only, not on {listen}; if everybody who reaches that address may read "
            "along, say --insecure-on-network"
        )
    click.echo(
        "WARNING: INSECURE. No TLS: whoever is on the way to labd or to a lease holder reads and alters what passes, "
        "and steals lease tokens.",
        err=True,
    )


async def _serve(config: AgentConfig, certificate: AgentCertificate | None) -> str | None:
    """Returns why labd has revoked the agent; None when it was stopped."""
    stopped, revoked = asyncio.Event(), ""

    def on_revoked(reason: str) -> None:
        nonlocal revoked
        revoked = reason
        stopped.set()

    agent = Agent(config, certificate, on_revoked)

    async def ready() -> None:
        await agent.start()
        settle()
        click.echo(f"bench-agent {config.agent.name} serves {len(agent.benches)} benches on {agent.address}")

    await _until_stopped(ready, agent.stop, stopped)
    return revoked or None


def _can_config(
    interface: str | None,
    channel: str | None,
    fd: bool,
    bitrate: int | None,
    data_bitrate: int | None,
    options: dict[str, object],
) -> CanConfig | None:
    """Raises ClickException that names the option."""
    if interface is None or channel is None:
        return None
    try:
        return CanConfig(
            interface=interface, channel=channel, fd=fd, bitrate=bitrate, data_bitrate=data_bitrate, options=options
        )
    except ValidationError as error:
        wrong = [f"--{'-'.join(map(str, one['loc'])).replace('_', '-')} {one['msg']}" for one in error.errors()]
        raise click.ClickException("; ".join(wrong)) from error


async def _simulate(path: Path, can_config: CanConfig | None, dbc: Path | None, nvm: Path | None) -> None:
    description = load_ecu(path)
    if nvm is not None and description.simulation.nvm != "keep":
        raise click.UsageError(f"--nvm is for ECUs with simulation.nvm: keep; that of {description.name} is lease")
    if can_config is None and description.doip is None:
        raise click.UsageError(f"{description.name} is reached over CAN: give --interface and --channel")
    database = Database.load(dbc) if dbc is not None else None
    hub = await asyncio.to_thread(BusHub.open, description.name, can_config) if can_config is not None else None
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_error(_reason: str) -> None:
        loop.call_soon_threadsafe(stopped.set)

    if hub is not None:
        hub.on_error = on_error
    network = DoIpNetwork()
    network.add(description)
    doip = description.doip
    port = PtyPort() if description.simulation.console is not None else None
    try:
        entity = await network.entity(doip) if doip is not None else None
        node = hub or BusNode.alone(description.name)
        ecu = SimulatedEcu(description, node, database, doip=entity, nvm=nvm, port=port)

        async def ready() -> None:
            await ecu.start()
            place = f"{can_config.interface} {can_config.channel}" if can_config is not None else ""
            if port is not None:
                click.echo(f"{description.name} has its serial console at {port.path}")
            click.echo(f"{description.name} answers on {place if doip is None else f'doip {doip.place}'}")

        await _until_stopped(ready, ecu.stop, stopped)
        if hub is not None and hub.error is not None:
            raise BusError(hub.error)
    finally:
        await network.stop()
        if port is not None:
            port.close()
        if hub is not None:
            await asyncio.to_thread(hub.close)


async def _until_stopped(
    start: Callable[[], Awaitable[None]], stop: Callable[[], Awaitable[None]], stopped: asyncio.Event | None = None
) -> None:
    """Starts, waits for SIGTERM, SIGINT or ``stopped``, and stops, also when the start has failed halfway."""
    stopped = stopped or asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    try:
        await start()
        await stopped.wait()
    finally:
        await stop()


def _override(
    config: AgentConfig, listen: str | None, advertise: str | None, labd: tuple[str, ...], data: Path | None
) -> None:
    if listen is not None:
        config.agent.listen = listen
    if advertise is not None:
        config.agent.advertise = advertise
    if labd:
        config.agent.labd = tuple(dict.fromkeys(labd))
    if data is not None:
        config.agent.data_dir = data.resolve()


def _log_to_stderr() -> None:
    """Tracebacks without variables: those hold tokens, and take seconds to write."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            tracing.into_log,
            structlog.dev.set_exc_info,
            structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


if __name__ == "__main__":
    main()
