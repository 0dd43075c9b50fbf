"""A lab on a real database, with a clock, agents and runners that a test moves by hand."""

import copy
import functools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

from fastapi import FastAPI
from starlette.datastructures import State

from labd.api.app import create_app
from labd.executors.base import Alive, Executor, ExecutorError, Exited, Job, Status
from labd.executors.bench import RunnerOrder
from labd.model.run import ExecutorName
from labd.services.attachment import BenchReport, CertificateAnswer, Order, PointsTaken, Session
from labd.services.attempt_tokens import PodCluster
from labd.services.authority import Authority
from labd.services.lab import Lab
from labd.services.ledger import ClearOrder, ExtendOrder, FenceOrder, UnshareOrder
from labd.services.limits import RunLimits
from labd.services.replicas import Replicas
from labd.services.sign_in import Provider
from labd.services.signing import KEY_NAME, Signer
from labd.services.vault import KEY_FILE, Vault
from labd.store.database import DATABASE_NAME
from labd.store.postgresql import PostgreSQL
from labd.store.store import Store
from labd.telemetry.writer import Writer

EPOCH = 1_800_000_000.0


class FakeClock:
    """Stands still until it is advanced."""

    def __init__(self) -> None:
        self.time = EPOCH

    def now(self) -> float:
        return self.time

    def keep(self) -> None:
        pass

    def agree(self, now: float) -> None:
        self.time = now

    def advance(self, seconds: float) -> None:
        self.time += seconds


class FakeLink:
    """Remembers what labd told the agent."""

    def __init__(self) -> None:
        self.orders: list[FenceOrder] = []
        self.clears: list[ClearOrder] = []
        self.unshares: list[UnshareOrder] = []
        self.extensions: list[ExtendOrder] = []
        self.runner_orders: list[RunnerOrder] = []
        self.closed: str | None = None
        self.revoked = False

    def send(self, order: Order) -> None:
        if isinstance(order, FenceOrder):
            self.orders.append(order)
        elif isinstance(order, ClearOrder):
            self.clears.append(order)
        elif isinstance(order, UnshareOrder):
            self.unshares.append(order)
        elif isinstance(order, ExtendOrder):
            self.extensions.append(order)
        elif not isinstance(order, CertificateAnswer | PointsTaken):
            self.runner_orders.append(order)

    def close(self, reason: str, *, revoked: bool = False) -> None:
        self.closed, self.revoked = reason, revoked


class FakeExecutor:
    """Runners that live until the test, or labd, ends them."""

    def __init__(self) -> None:
        self.runners: dict[str, Status] = {}
        self.jobs: list[Job] = []
        self.stopped: list[str] = []
        self.broken: str | None = None
        self._callback: Callable[[str], None] = lambda _: None

    def on_change(self, callback: Callable[[str], None]) -> None:
        self._callback = callback

    def start(self, job: Job) -> None:
        if self.broken is not None:
            raise ExecutorError(self.broken)
        assert job.run_id not in self.runners
        self.jobs.append(job)
        self.runners[job.run_id] = Alive(job.attempt)

    def status(self, run_id: str) -> Status | None:
        return self.runners.get(run_id)

    def stop(self, run_id: str) -> None:
        self.stopped.append(run_id)
        self.die(run_id, "the runner was killed by SIGTERM")

    def forget(self, run_id: str) -> None:
        self.runners.pop(run_id, None)

    def recover(self, running: Mapping[str, str]) -> None:
        pass

    def close(self) -> None:
        for run_id in list(self.runners):
            self.stop(run_id)

    def die(self, run_id: str, reason: str, cause: str = "") -> None:
        """The runner of the latest attempt has ended."""
        attempt = next((job.attempt for job in reversed(self.jobs) if job.run_id == run_id), 1)
        self.runners[run_id] = Exited(reason, cause, attempt)
        self._callback(run_id)


class FakeClusters(FakeExecutor):
    """The same, in clusters."""

    clusters = ("lab-a", "lab-b")
    default_cluster: str | None = "lab-a"
    awaited: str | None = None

    def waits_for(self, run_id: str) -> str | None:
        return self.awaited


@functools.cache
def new_sqlite_database() -> bytes:
    """The file as just after its migration, which takes a hundred times as long as writing it."""
    with tempfile.TemporaryDirectory() as folder:
        Store(Path(folder)).close()
        return (Path(folder) / DATABASE_NAME).read_bytes()


def open_lab(
    directory: Path,
    clock: FakeClock,
    executor: FakeExecutor | None = None,
    limits: RunLimits | None = None,
    authority: Authority | None = None,
    *,
    database: str | None = None,
    secure: bool = False,
    providers: Sequence[Provider] = (),
    replica: str | None = None,
    clusters: Executor | None = None,
    pod_clusters: Mapping[str, PodCluster] | None = None,
    writer: Writer | None = None,
) -> Lab:
    """A lab whose conductor is stepped by the test, on an SQLite file or the database of a URL.

    ``replica`` names this labd among several on that database.
    """
    if database is None and not (directory / DATABASE_NAME).exists():
        (directory / DATABASE_NAME).write_bytes(new_sqlite_database())
    store, signer = Store(directory, database), Signer(directory)
    replicas = None
    if replica is not None and isinstance(store.database, PostgreSQL):
        replicas = Replicas(store.database, replica, f"http://{replica}.test", signer.key_id)
    return Lab(
        store,
        clock,
        signer,
        {ExecutorName.PROCESS: executor or FakeExecutor()}
        | ({} if clusters is None else {ExecutorName.KUBERNETES: clusters}),
        url="http://labd.test",
        limits=limits or RunLimits(),
        vault=Vault(directory / KEY_FILE),
        keys={KEY_NAME: directory / KEY_NAME, KEY_FILE: directory / KEY_FILE},
        authority=authority,
        secure=secure,
        providers=providers,
        replicas=replicas,
        clusters=pod_clusters,
        writer=writer,
    )


@functools.cache
def _application() -> FastAPI:
    return create_app(cast("Lab", None))


def application(lab: Lab) -> FastAPI:
    """The application of a lab, as `create_app` makes it; all share the routes, which take their time to make."""
    app = copy.copy(_application())
    app.state = State({"lab": lab})
    app.user_middleware = list(app.user_middleware)
    return app


def report(
    name: str, labels: dict[str, str] | None = None, *, healthy: bool = True, reason: str = "", fenced: int = 0
) -> BenchReport:
    return BenchReport(
        name=name,
        labels=labels or {},
        healthy=healthy,
        health_reason=reason,
        buses=[{"name": "powertrain", "interface": "virtual", "channel": name, "fd": False, "messages": []}],
        ecus=[],
        equipment={"consoles": [{"name": "linux", "port": "/dev/ttyUSB0", "baudrate": 115200}]},
        fenced_epoch=fenced,
    )


def attach(lab: Lab, *reports: BenchReport, agent: str = "agent-1") -> tuple[Session, FakeLink]:
    """Attaches an agent that has done what Welcome asks of it."""
    link = FakeLink()
    session, orders = lab.hearing.attach(agent, f"{agent}.test:8472", list(reports), link)
    for order in orders:
        lab.hearing.fenced(session, order.bench, order.epoch)
    return session, link


def settle(lab: Lab) -> None:
    """Has the conductor do everything that is due."""
    for _ in range(20):
        if lab.conductor.step() > 0 and not lab.conductor.busy:
            return
    raise AssertionError("the conductor does not come to rest")


RESULT = {
    "version": 1,
    "name": "scenario.lua",
    "verdict": "passed",
    "reason": "",
    "failure": None,
    "benches": ["bench-1"],
    "started_at": "2026-11-21T09:30:00.000Z",
    "duration_s": 0.5,
    "cases": [
        {
            "name": "the ECU names itself",
            "verdict": "passed",
            "duration_s": 0.25,
            "steps": [{"at_s": 0.1, "text": "read VIN"}],
            "failure": None,
            "frames": [],
        }
    ],
    "log_lines": 2,
    "log_lines_dropped": 0,
}
