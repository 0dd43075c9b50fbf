"""One cluster for all tests here: a namespace of its own on a real API server when one is named, else on a fake."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubernetes.cluster import Cluster, namespaced, real
from tests.kubernetes.fake import FakeApiServer
from tests.kubernetes.node import LocalNode


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeApiServer]:
    """A fake API server that only this test uses and may hurt."""
    server = FakeApiServer()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    """The same tests run on a real server and on the fake; those that hurt the server ask for `fake` too."""
    kubeconfig = real()
    if kubeconfig is not None and "fake" not in request.fixturenames:
        with namespaced(kubeconfig, None) as found:
            yield found
        return
    server: FakeApiServer = request.getfixturevalue("fake")
    with namespaced(server.kubeconfig(tmp_path / "kubeconfig"), server) as found:
        yield found


@pytest.fixture
def node(cluster: Cluster, tmp_path: Path) -> Iterator[LocalNode]:
    """Runs the pods of the test's namespace."""
    found = LocalNode(cluster.kubeconfig, cluster.namespace, tmp_path / "node", fake=cluster.fake)
    try:
        yield found
    finally:
        found.close()
