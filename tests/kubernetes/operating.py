"""Operators under test, the labd that they make runs in, and the TestRuns that they make them of."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml
from kubernetes import client as kubernetes

from labd.client import LabClient, Run
from labd.operator.cluster import NoCrd, TestRuns, connect
from labd.operator.election import Times
from labd.operator.reconciler import Rules
from labd.operator.runs import RunOptions, Runs
from labd.operator.service import Operator
from labd.operator.testrun import GROUP, PLURAL, VERSION, TestRun
from labd.services.lab import Lab
from tests.kubernetes.cluster import Cluster
from tests.unit.labd.fakes import RESULT, FakeClock, FakeExecutor, attach, open_lab, report, settle
from tests.unit.labd.serving import serving

PATIENCE_S = 60.0
"""How long something may take that takes a moment, on a busy machine."""
FAST = Times(lease_s=2, lead_s=1.2, retry_s=0.2)
T = TypeVar("T")
MADE_BY_TESTS = {"labd.dev/test": "true"}
CRD_FILE = Path(__file__).parents[2] / "labd/operator/testruns.labd.dev.yaml"


class Labd:
    """A real labd with one bench, on a port; its runners are the test's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._clock = FakeClock()
        self._clock.advance(time.time() - self._clock.now())
        self._executor = FakeExecutor()
        self._stack = ExitStack()
        self.lab = self._opened()
        self.port = 0
        attach(self.lab, report("hil-3", {"platform": "meb"}))
        settle(self.lab)
        self.come()
        self.client.drain_bench("hil-3")

    def _opened(self) -> Lab:
        return open_lab(self._folder, self._clock, self._executor)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def come(self) -> None:
        """Serves, on the port that it had."""
        self.port = self._stack.enter_context(serving(self.lab, port=self.port))[1]
        self.client = self._stack.enter_context(LabClient(self.url, token="", timeout_s=20))

    def go(self) -> None:
        """Serves no more."""
        self._stack.close()

    def free(self) -> None:
        """Has the bench take leases: until then, runs wait."""
        self.client.undrain_bench("hil-3")
        settle(self.lab)

    def runs(self, *states: str) -> list[Run]:
        return self.client.runs(*states, limit=None)

    def end(self, run_id: str, verdict: str = "passed") -> None:
        """Has the runner of a RUNNING run report."""
        settle(self.lab)
        self.lab.reporting.put_result(run_id, {**RESULT, "verdict": verdict}, "<testsuites/>")
        settle(self.lab)

    def close(self) -> None:
        self.go()
        self.lab.core.store.close()


class Tests:
    """The TestRuns of the cluster's namespace, as a user of the cluster has them."""

    __test__ = False

    def __init__(self, cluster: Cluster) -> None:
        self._api = cluster.custom
        self.kubeconfig = cluster.kubeconfig
        self.namespace = cluster.namespace
        self._place = {"group": GROUP, "version": VERSION, "namespace": cluster.namespace, "plural": PLURAL}

    def create(self, name: str = "smoke", **spec: Any) -> TestRun:
        wanted = {"appName": "ecm", "script": "print(1)"} if "git" not in spec else {"appName": "ecm"}
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "TestRun",
            "metadata": {"name": name},
            "spec": wanted | spec,
        }
        return TestRun(self._api.create_namespaced_custom_object(**self._place, body=body))

    def get(self, name: str = "smoke") -> TestRun | None:
        try:
            return TestRun(self._api.get_namespaced_custom_object(**self._place, name=name))
        except kubernetes.ApiException as error:
            if error.status == 404:
                return None
            raise

    def all(self) -> list[TestRun]:
        return [TestRun(one) for one in self._api.list_namespaced_custom_object(**self._place)["items"]]

    def delete(self, name: str = "smoke") -> None:
        self._api.delete_namespaced_custom_object(**self._place, name=name)

    def clear(self) -> None:
        """Has none left, so that the namespace can go without an operator that takes its finalizers off."""
        for test in self.all():
            try:
                self.delete(test.name)
                self._api.patch_namespaced_custom_object(
                    **self._place, name=test.name, body={"metadata": {"finalizers": None}}
                )
            except kubernetes.ApiException as error:
                if error.status != 404:
                    raise

    def until(self, holds: Callable[[TestRun], bool], name: str = "smoke") -> TestRun:
        """The TestRun once this holds of it."""

        def look() -> TestRun | None:
            found = self.get(name)
            return found if found is not None and holds(found) else None

        return eventually(look)

    def reach(self, state: str, name: str = "smoke") -> TestRun:
        return self.until(lambda test: test.status.get("state") == state, name)

    def gone(self, name: str = "smoke") -> None:
        eventually(lambda: self.get(name) is None)


class Operators:
    """Operators of one cluster and one labd: started, killed, paused."""

    def __init__(self, cluster: Cluster, labd: Labd) -> None:
        self._cluster = cluster
        self._labd = labd
        self._stops: dict[Operator, threading.Event] = {}
        self._threads: dict[Operator, threading.Thread] = {}

    def new(
        self,
        *,
        rules: Rules | None = None,
        times: Times = FAST,
        namespaces: Sequence[str | None] = (),
        lease_namespace: str | None = None,
        **options: Any,
    ) -> Operator:
        """One that is not started."""
        place = connect(str(self._cluster.kubeconfig))
        lab = LabClient(self._labd.url, token="", timeout_s=1)
        return Operator(
            place,
            Runs(lab, RunOptions(**options)),
            rules or Rules(),
            identity=f"operator-{uuid.uuid4().hex[:6]}",
            lease_namespace=lease_namespace or self._cluster.namespace,
            namespaces=namespaces or (self._cluster.namespace,),
            times=times,
            poll_s=0.1,
        )

    def start(self, **options: Any) -> Operator:
        operator = self.new(**options)
        self._stops[operator] = stop = threading.Event()
        self._threads[operator] = thread = threading.Thread(target=operator.run, args=(stop,), daemon=True)
        thread.start()
        return operator

    def stop(self, operator: Operator) -> None:
        """Has it end in order, as SIGTERM does."""
        self._stops[operator].set()
        self._threads[operator].join(PATIENCE_S)
        assert not self._threads[operator].is_alive()

    def close(self) -> None:
        for stop in self._stops.values():
            stop.set()
        for thread in self._threads.values():
            thread.join(PATIENCE_S)


def eventually(look: Callable[[], T | None]) -> T:
    """What ``look`` finds, once it finds something."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < deadline, "it does not come to that"
        time.sleep(0.05)
    return found


def uninstall(cluster: Cluster) -> None:
    """Takes the definition away that a test left in the cluster; skips the test where it is somebody's own."""
    crds: Any = kubernetes.ApiextensionsV1Api(cluster.api)
    name = f"{PLURAL}.{GROUP}"
    try:
        found = crds.read_custom_resource_definition(name)
    except kubernetes.ApiException as error:
        if error.status != 404:
            raise
        return
    if not MADE_BY_TESTS.items() <= (found.metadata.labels or {}).items():
        pytest.skip(f"the cluster has {name}, which is not of these tests")
    crds.delete_custom_resource_definition(name)
    source = TestRuns(connect(str(cluster.kubeconfig)))
    eventually(lambda: not _served(source, cluster.namespace))


@contextmanager
def installed(cluster: Cluster) -> Iterator[None]:
    """The definition of TestRuns in the cluster; one that was there stays."""
    crds: Any = kubernetes.ApiextensionsV1Api(cluster.api)
    definition = yaml.safe_load(CRD_FILE.read_text())
    definition["metadata"].setdefault("labels", {}).update(MADE_BY_TESTS)
    try:
        crds.create_custom_resource_definition(definition)
    except kubernetes.ApiException as error:
        if error.status != 409:
            raise
    source = TestRuns(connect(str(cluster.kubeconfig)))
    eventually(lambda: _served(source, cluster.namespace))
    try:
        yield
    finally:
        Tests(cluster).clear()


def _served(source: TestRuns, namespace: str) -> bool:
    try:
        source.all(namespace)
    except NoCrd:
        return False
    return True
