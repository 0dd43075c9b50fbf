"""The cluster that tests run against: a real API server where `make test-kubernetes` names one, or the fake."""

import os
import re
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config, watch

from tests.kubernetes.fake import FakeApiServer
from tests.kubernetes.gate import Gate

SCHEDULER = "labd-tests"
"""Of the tests' pods: no scheduler of a real cluster takes them from the tests' node."""
_ACCOUNTS_S = 60.0
_COMMON = {"kube-root-ca.crt", "default"}


@dataclass
class Cluster:
    """A namespace of its own on an API server, and how to reach it."""

    namespace: str
    kubeconfig: Path
    """Of somebody who may do everything."""
    api: client.ApiClient
    fake: FakeApiServer | None
    """None on a real server."""

    @property
    def core(self) -> Any:
        """The CoreV1Api; untyped, for the library says that each field of an answer may be missing."""
        return client.CoreV1Api(self.api)

    @property
    def custom(self) -> Any:
        return client.CustomObjectsApi(self.api)

    def needs(self, minor: int, what: str) -> None:
        """Skips the test on a server older than 1.``minor``."""
        version: Any = client.VersionApi(self.api).get_code()
        if int(re.sub(r"\D.*", "", version.minor)) < minor:
            pytest.skip(f"{what} needs Kubernetes 1.{minor}: this server is {version.git_version}")

    def names(self, plural: str, selector: str = "") -> list[str]:
        """Of the core objects of a kind in the namespace; without those that every namespace has."""
        found = getattr(self.core, f"list_namespaced_{plural}")(self.namespace, label_selector=selector)
        names = [thing.metadata.name for thing in found.items]
        return [name for name in names if name not in _COMMON and not name.startswith("default-token-")]

    def watch(self, listing: Any, *arguments: Any, **query: Any) -> Iterator[Any]:
        """The events of a watch, until the server ends it."""
        stream: Any = watch.Watch
        yield from stream().stream(listing, *arguments, **query)

    def wait_for(self, name: str, good: Callable[[Any], Any], timeout_s: float = 30) -> Any:
        """The pod, once it is as wanted; raises AssertionError with what it is like instead."""
        ends = time.monotonic() + timeout_s
        while True:
            pod = self.core.read_namespaced_pod(name, self.namespace)
            if good(pod):
                return pod
            assert time.monotonic() < ends, f"pod {name} is not as wanted: {pod.status}"
            time.sleep(0.02)


def free_ports(count: int) -> list[int]:
    """That nobody listens on just now."""
    with ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in found:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in found]


def real() -> Path | None:
    """The kubeconfig of a real server, when the tests shall use one; never by chance that of somebody's cluster."""
    path = os.environ.get("LABD_TEST_KUBECONFIG")
    return Path(path) if path else None


Server = FakeApiServer | Gate
"""An API server that a test may hurt."""


@contextmanager
def hurtable() -> Iterator[Server]:
    """The fake, or a gate before the real one."""
    kubeconfig = real()
    server = FakeApiServer() if kubeconfig is None else Gate(kubeconfig)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def namespaced(kubeconfig: Path, fake: FakeApiServer | None) -> Iterator[Cluster]:
    """A cluster in a new namespace, which goes afterwards with all that is in it."""
    name = f"labd-test-{uuid.uuid4().hex[:8]}"
    settings = client.Configuration()
    settings.retries = False
    config.load_kube_config(str(kubeconfig), client_configuration=settings)
    api = client.ApiClient(settings)
    core: Any = client.CoreV1Api(api)
    labels = {"labd.dev/test": "true"}
    core.create_namespace({"metadata": {"name": name, "labels": labels}})
    try:
        if fake is None:
            _wait_for_accounts(core, name)
        yield Cluster(name, kubeconfig, api, fake)
    finally:
        if fake is None or fake.port:
            core.delete_namespace(name)
        api.close()


def _wait_for_accounts(core: Any, namespace: str) -> None:
    """Until pods can be made there: the account that each has comes a moment after its namespace."""
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "p", "image": "p:1"}]}}
    ends = time.monotonic() + _ACCOUNTS_S
    while True:
        try:
            core.create_namespaced_pod(namespace, pod, dry_run="All")
            return
        except client.ApiException as refused:
            if refused.status not in {403, 500} or time.monotonic() > ends:
                raise
        time.sleep(0.05)
