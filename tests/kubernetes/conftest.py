"""One cluster for all tests here: a namespace of its own on a real API server when one is named, else on a fake."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubernetes.cluster import Cluster, Server, hurtable, namespaced, real
from tests.kubernetes.fake import FakeApiServer
from tests.kubernetes.node import LocalNode


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """An API server that this test may hurt."""
    with hurtable() as found:
        yield found


@pytest.fixture
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    """The same tests run on a real server and on the fake; those that hurt the server ask for `server` too."""
    kubeconfig = real()
    if kubeconfig is not None and "server" not in request.fixturenames:
        with namespaced(kubeconfig, None) as found:
            yield found
        return
    server: Server = request.getfixturevalue("server")
    fake = server if isinstance(server, FakeApiServer) else None
    with namespaced(server.kubeconfig(tmp_path / "kubeconfig"), fake) as found:
        server.faults.requests.clear()
        yield found


@pytest.fixture
def node(cluster: Cluster, tmp_path: Path) -> Iterator[LocalNode]:
    """Runs the pods of the test's namespace."""
    found = LocalNode(cluster.kubeconfig, cluster.namespace, tmp_path / "node", fake=cluster.fake)
    try:
        yield found
    finally:
        found.close()
