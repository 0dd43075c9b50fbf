"""The lab, put together: what the doors (REST and gRPC) are given."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from labd.executors.base import Executor
from labd.executors.bench import BenchExecutor
from labd.executors.kubernetes.executor import KubernetesExecutor
from labd.model.point import PointSink
from labd.model.run import ExecutorName
from labd.services.agent_points import AgentPoints
from labd.services.anchor import Anchor
from labd.services.attempt_tokens import AttemptTokens, PodCluster
from labd.services.auditing import Auditing
from labd.services.authority import Authority
from labd.services.backups import Backups
from labd.services.calendar import Calendar
from labd.services.clock import Clock
from labd.services.conductor import Conductor
from labd.services.core import Core
from labd.services.doctor import Doctor
from labd.services.enrolment import Enrolment
from labd.services.environments import Environments
from labd.services.event_log import log_events
from labd.services.explaining import Explaining
from labd.services.figures import LastDay
from labd.services.fleet import Fleet
from labd.services.hearing import Hearing
from labd.services.holding import Holding
from labd.services.idempotency import Idempotency
from labd.services.identities import Identities
from labd.services.lease_certificates import LeaseCertificates
from labd.services.leasing import Leasing
from labd.services.limits import RunLimits
from labd.services.measuring import Measuring
from labd.services.policing import Policing
from labd.services.reporting import Reporting
from labd.services.retaining import Retaining
from labd.services.running import Running
from labd.services.sessions import Sessions
from labd.services.sign_in import Provider, SignIn
from labd.services.signing import Signer
from labd.services.vault import Vault
from labd.store.store import Store
from labd.telemetry.writer import Writer

if TYPE_CHECKING:
    from labd.services.replicas import Replicas


class Lab:
    """All use cases on one store."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        signer: Signer,
        executors: Mapping[ExecutorName, Executor],
        *,
        url: str,
        public_url: str | None = None,
        limits: RunLimits,
        vault: Vault,
        keys: Mapping[str, Path] | None = None,
        authority: Authority | None = None,
        secure: bool = False,
        providers: Sequence[Provider] = (),
        replicas: "Replicas | None" = None,
        anchor: Anchor | None = None,
        points: PointSink | None = None,
        clusters: Mapping[str, PodCluster] | None = None,
        writer: Writer | None = None,
    ) -> None:
        """``replicas``: the other labds on the same database; None when there can be none.

        Without an ``authority``, there is no TLS: agents and holders prove nothing, and are promised nothing.

        ``writer`` keeps what is measured; ``points`` takes it in its place.

        ``url`` is the REST API as runners on this machine reach it, ``public_url`` as those on others do.

        The executor ``bench`` is there without being given. ``clusters`` are those of the executor ``kubernetes``.
        """
        self.at_bench = at_bench = BenchExecutor(public_url or url)
        self._executors = {**executors, ExecutorName.BENCH: at_bench}
        self.core = Core(store, clock, signer, limits, replicas, points or writer)
        self.replicas = replicas
        self.identities = Identities(self.core)
        self.sign_in = SignIn(self.core, self.identities, providers) if secure else None
        sessions = Sessions(self.core.presence)
        self.fleet = Fleet(self.core, at_bench, sessions)
        self.hearing = Hearing(self.core, sessions, at_bench)
        self.authority = authority
        self.enrolment = Enrolment(self.core, self.fleet, authority)
        at_bench.connect(self.fleet.order)
        self.leasing = Leasing(self.core)
        self.holding = Holding(self.core, self.leasing)
        self.explaining = Explaining(self.core)
        self.calendar = Calendar(self.core, self.fleet)
        self.policing = Policing(self.core)
        self.lease_certificates = LeaseCertificates(self.core, authority)
        self.environments = Environments(self.core, vault)
        self.running = Running(self.core, self.environments, self._executors)
        self.reporting = Reporting(self.core, self.environments, self.running)
        self.attempt_tokens = AttemptTokens(self.core, clusters or {})
        pods = executors.get(ExecutorName.KUBERNETES)
        if isinstance(pods, KubernetesExecutor):
            pods.connect(self.running.under_way)
        self.auditing = Auditing(self.core, anchor)
        self.backups = Backups(self.core, keys or {})
        self.retaining = Retaining(self.core)
        self.agent_points = AgentPoints(self.core, writer)
        self.last_day = LastDay(self.core, None if writer is None else writer.day)
        self.doctor = Doctor(self.core, sessions, authority, writer, self._executors.values())
        counters = None if writer is None else writer.counters
        self.measuring = Measuring(self.core, sessions, self.agent_points, counters)
        self.core.follow(log_events)
        self.idempotency = Idempotency(self.core)
        self.conductor = Conductor(self.core, self.running, self._executors, url)
        if replicas is not None:
            replicas.connect(
                self.core,
                catch_up=self._catch_up,
                moved=self.fleet.moved,
                seen=self.fleet.seen,
                cut_off=self.fleet.hang_up_all,
            )
        self.closing = False
        self.started_at = clock.now()

    def start(self) -> None:
        """Goes on where a former labd stopped, or was stopped. Raises StoreError, and KeyDiffers."""
        if self.replicas is not None:
            self.replicas.start()
        self.core.forgive()
        self.conductor.recover()
        self.conductor.start()
        self.retaining.start()
        self.auditing.start()
        self.measuring.start()

    def _catch_up(self) -> None:
        self.fleet.catch_up()
        self.conductor.look_again()
        self.core.changes.publish_all()

    def hang_up(self) -> None:
        """Ends what follows a run for ever, so that the doors can close."""
        self.closing = True
        self.core.changes.publish_all()

    def stop(self) -> None:
        """Ends every running run and its runner; leases and queue stay for the next labd."""
        self.core.granting = False
        self.agent_points.close()
        self.measuring.stop()
        self.retaining.stop()
        self.auditing.stop()
        self.conductor.stop()
        if self.replicas is not None:
            self.at_bench.leave()  # agents keep their runners, and attach to another labd
        try:
            self.running.fail_all("labd was stopped")
        finally:
            if self.replicas is not None:
                self.replicas.stop()
            for executor in self._executors.values():
                executor.close()
