"""The whole agent: benches, guard, gRPC door, and the stream to labd."""

import asyncio
import socket
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]

from bench_agent.protocol import bench_pb2, lab_pb2
from bench_agent.protocol.identity import CONTROLLER_NAME
from bench_agent.protocol.metrics_door import PATH, MetricsDoor
from bench_agent.protocol.release import VERSION
from bench_agent.protocol.transport import PINGS, server_credentials
from bench_agent.server import holder_log
from bench_agent.server.attach import Attachment, report
from bench_agent.server.bench import Bench
from bench_agent.server.certificate import AgentCertificate
from bench_agent.server.config import AgentConfig, split_address
from bench_agent.server.door import LeaseDoor
from bench_agent.server.epochs import EpochStore
from bench_agent.server.guard import Guard
from bench_agent.server.holder_log import HolderLog
from bench_agent.server.hooks import BenchHooks
from bench_agent.server.keys import KeyRing
from bench_agent.server.lab_clock import LabClock
from bench_agent.server.measuring import Measuring, Way
from bench_agent.server.point_feed import PointFeed
from bench_agent.server.point_spool import PointSpool
from bench_agent.server.quarantine import QuarantineStore
from bench_agent.server.runners import Runners
from bench_agent.server.services import GUARDED, OFFERED
from bench_agent.server.trace_keeping import TraceKeeping
from bench_agent.server.unix_socket import UnixSocket
from runners import launch
from runners.keeper import RunnerKeeper

_STOP_S = 1.0
_BENCH_SERVICE = bench_pb2.DESCRIPTOR.services_by_name["Bench"].full_name

_OPTIONS = (
    # Without it, a second agent on the same port would start and take half of the calls.
    ("grpc.so_reuseport", 0),
    *PINGS,
)

_log = structlog.get_logger()


class ListenError(Exception):
    """The agent cannot listen where it should; names the address and the reason."""


class Agent:
    """One agent process. `start`, then `stop`."""

    def __init__(
        self,
        config: AgentConfig,
        certificate: AgentCertificate | None = None,
        on_revoked: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        """Reads epochs and quarantines. Raises EpochError or QuarantineError when the files are not sound.

        Without a certificate there is no TLS, neither to labd nor for lease holders. ``on_revoked`` is called with the
        reason when labd has revoked it: all calls are cut by then, and the agent is to be stopped.
        """
        self.config = config
        self._certificate = certificate
        self._on_revoked = on_revoked
        data = config.agent.data_dir
        self._clock = LabClock(data / "lab-clock.json")
        self._keys = KeyRing(data / "labd-keys.json")
        quarantines = QuarantineStore(data / "quarantine.json")
        self.benches: Mapping[str, Bench] = {
            bench.name: Bench(bench, data / "traces", config.agent.traces, quarantines) for bench in config.benches
        }
        traces = config.agent.traces
        self.trace_keeping = TraceKeeping(
            data / "traces",
            traces.max_total_mb << 20,
            None if traces.max_age_days is None else traces.max_age_days * 86_400,
            self._traces_in_use,
        )
        self._epochs = EpochStore(data / "epochs.json")
        self._witness = HolderLog(data / holder_log.NAME)
        self.guard = Guard(self.benches.values(), self._keys, self._epochs, self._clock, self._witness)
        for bench in self.benches.values():
            bench.hooks = BenchHooks(bench.name, bench.config.labels, bench.config.hooks, self.guard.gates[bench.name])
        metrics, way = config.agent.metrics, Way()
        spool = PointSpool(data / "points", metrics.spool_mb << 20)
        self._feed = PointFeed(spool, way)
        self.measuring = Measuring(self.benches, spool, way, data, self._clock.now, metrics.interval_s)
        self.measuring.on_put = self._feed.more
        self._health = health.aio.HealthServicer()
        self._server: grpc.aio.Server | None = None
        self._socket: UnixSocket | None = None
        self._runners: Runners | None = None
        self._attachment: Attachment | None = None
        self._attaching: asyncio.Task[None] | None = None
        self._pruning: asyncio.Task[None] | None = None
        self._measuring: asyncio.Task[None] | None = None
        self._metrics: MetricsDoor | None = None
        self.address = ""
        """host:port that it listens on, known after `start`."""
        self.advertised = ""
        """host:port that lease holders are told."""

    @property
    def attached(self) -> asyncio.Event:
        """Set while labd has welcomed the agent. Known after `start`."""
        if self._attachment is None:
            raise RuntimeError("the agent is not started")
        return self._attachment.attached

    async def start(self) -> None:
        """Listens, opens the buses, and begins to dial labd. Raises ListenError."""
        # The port first: when it is taken, nothing else has been touched.
        server = self._listen()
        self._metrics = self._tell_prometheus()
        self._witness.start()
        # Nobody is let in before the benches are safe: what a killed agent left behind is no holder's to meet.
        await asyncio.gather(
            *(bench.start(was_held=self._epochs.get(name).live) for name, bench in self.benches.items())
        )
        runners = await self._find_runners()
        await server.start()
        self._attachment = Attachment(
            self.config.agent.labd,
            self._hello,
            self.benches,
            self.guard,
            self._keys,
            self._clock,
            runners,
            self.trace_keeping,
            self._feed,
            self._certificate,
            self._revoked,
        )
        for bench in self.benches.values():
            bench.on_change = partial(self._attachment.report_soon, bench.name)
        for name, gate in self.guard.gates.items():
            gate.activity.on_first = gate.on_fenced = partial(self._attachment.report_soon, name)
        self._attaching = asyncio.create_task(self._attachment.run(), name="attach")
        self._pruning = asyncio.create_task(self.trace_keeping.run(), name="traces")
        self._measuring = asyncio.create_task(self.measuring.run(), name="measuring")
        await self._health.set(_BENCH_SERVICE, health_pb2.HealthCheckResponse.SERVING)
        for bench in self.benches.values():
            _log.info("bench", bench=bench.name, health=bench.health_reason or "healthy")
        _log.info("agent serves", agent=self.config.agent.name, address=self.address, advertised=self.advertised)

    async def stop(self) -> None:
        """Ends all calls, cleans the benches up, and closes the buses. Takes some seconds at most."""
        await self._health.enter_graceful_shutdown()
        if self._runners is not None:
            await self._runners.close()
        tasks = [task for task in (self._attaching, self._pruning, self._measuring) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._measuring is not None:
            await self.measuring.finish()
        await self.guard.close()
        if self._server is not None:
            await self._server.stop(_STOP_S)
        await asyncio.gather(*(bench.stop() for bench in self.benches.values()))
        if self._socket is not None:
            self._socket.close()
        if self._metrics is not None:
            await asyncio.to_thread(self._metrics.stop)

    def _tell_prometheus(self) -> MetricsDoor | None:
        listen = self.config.agent.metrics.listen
        if listen is None:
            return None
        from bench_agent.server.prometheus import Figures  # only who wants it pays for it

        figures = Figures()
        host, port = split_address(listen)
        try:
            door = MetricsDoor(host, port, figures.registry)
        except OSError as error:
            raise ListenError(f"cannot listen on {listen} for Prometheus: {error.strerror or error}") from error
        self.measuring.on_points = figures.take
        _log.info("tells Prometheus", url=f"http://{host}:{door.port}{PATH}")
        return door

    def _traces_in_use(self) -> list[Path]:
        tenancies = (bench.tenancy for bench in self.benches.values())
        return [one.traces for one in tenancies if one is not None and one.traces is not None]

    def _dialled(self) -> str:
        return self.config.agent.labd[0] if self._attachment is None else self._attachment.labd

    def _revoked(self, reason: str) -> None:
        self.guard.shut(reason)
        _log.error("labd has revoked this agent: it stops", reason=reason)
        if self._certificate is not None:
            try:
                self._certificate.put_aside()
            except OSError as error:
                _log.error("the revoked certificate is not put aside", reason=str(error))
        self._on_revoked(reason)

    async def _find_runners(self) -> Runners:
        """What a former agent has left is ended before anybody is let in."""
        keeper = RunnerKeeper(self.config.agent.data_dir / "runs", keeper="the agent", command=launch.COMMAND)
        runners = self._runners = Runners(keeper, self.guard, self.benches, self._dialled)
        if self._socket is not None:
            runners.address = self._socket.address
        if self._certificate is not None:
            runners.variables = launch.tls_variables(self._certificate.trust_file, CONTROLLER_NAME)
        await runners.recover()
        return runners

    def _listen(self) -> grpc.aio.Server:
        listen = self.config.agent.listen
        door = LeaseDoor(self.guard, GUARDED, certified=self._certificate is not None)
        server = grpc.aio.server(interceptors=[door], options=_OPTIONS)
        for service in OFFERED:
            service.add(service.make(self.benches), server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        offered = (service.definition.full_name for service in OFFERED)
        names = (*offered, "grpc.health.v1.Health", reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        host, port = split_address(listen)
        try:
            if self._certificate is None:
                bound = server.add_insecure_port(listen)
            else:
                bound = server.add_secure_port(listen, server_credentials(self._certificate.current))
        except RuntimeError as error:
            raise ListenError(f"cannot listen on {listen}: {_why(host, port) or error}") from error
        try:
            self._socket = UnixSocket(self.config.agent.data_dir)
            server.add_insecure_port(self._socket.address)
        except (OSError, RuntimeError) as error:
            raise ListenError(f"cannot listen on a unix socket in {self.config.agent.data_dir}: {error}") from error
        for bench in self.benches.values():
            if bench.hooks is not None:
                bench.hooks.address = self._socket.address
        self._server = server
        self.address = f"{host}:{bound}"
        reachable = socket.gethostname() if host in ("0.0.0.0", "[::]") else host  # noqa: S104 - recognised, not bound
        self.advertised = self.config.agent.advertise or f"{reachable}:{bound}"
        return server

    def _hello(self) -> lab_pb2.Hello:
        return lab_pb2.Hello(
            agent=self.config.agent.name,
            version=VERSION,
            address=self.advertised,
            benches=[report(bench, self.guard) for bench in self.benches.values()],
            runners=self._runners.reports() if self._runners is not None else [],
        )


def _why(host: str, port: int) -> str:
    """The operating system's reason why nothing can listen there; gRPC only says that it failed."""
    try:
        name = host.strip("[]")
        family = socket.AF_INET6 if ":" in name else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((name, port))
    except OSError as error:
        return error.strerror or str(error)
    return ""
