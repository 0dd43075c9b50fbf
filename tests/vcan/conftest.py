import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench_agent.client import BenchClient
from deploy.demo.lab import ROOT, Lab, running_lab, service
from labd.client.types import Lease
from tests.vcan.can_utils import WAIT_S, Candump, watch

VCAN = Path("/sys/class/net/vcan0")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without vcan0 these tests are skipped; `tests/vcan/run` sets LABD_VCAN, and then a missing vcan0 is a failure."""
    if VCAN.exists() or os.environ.get("LABD_VCAN"):
        return
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="no vcan0 in this kernel; `make test-vcan` brings one"))


@pytest.fixture
def candump() -> Iterator[Candump]:
    with watch() as witness:
        yield witness


@pytest.fixture(scope="session")
def ecus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Two simulated ECUs on vcan0, each a process of its own: one on classic CAN, one on CAN FD."""
    folder = tmp_path_factory.mktemp("ecus")
    simulate = ["bench_agent.main", "simulate", "--interface", "socketcan", "--channel", "vcan0"]
    classic = [*simulate, str(ROOT / "deploy/demo/ecm.yaml"), "--dbc", str(ROOT / "dbc/powertrain.dbc")]
    fd = [*simulate, str(Path(__file__).with_name("fd_ecu.yaml")), "--fd"]
    with service("classic", classic, folder), service("fd", fd, folder), watch() as witness:
        # EngineStatus is cyclic; the other one answers when it is asked (TesterPresent).
        witness.wait_for("200#")
        witness.provoke("7E1##0023E00", "7E9##")
        yield


@pytest.fixture(scope="session")
def vcan1() -> Iterator[str]:
    """A second bus, made for these tests. On a machine that does not let us make one, what needs it is skipped."""
    made = subprocess.run("ip link add dev vcan1 type vcan && ip link set vcan1 mtu 72 up", shell=True, check=False)  # noqa: S602
    if not Path("/sys/class/net/vcan1").exists():
        pytest.skip("no vcan1, and no right to make one")
    yield "vcan1"
    if made.returncode == 0:
        subprocess.run(["ip", "link", "del", "vcan1"], check=True)


@contextmanager
def leased(lab: Lab, bench: str) -> Iterator[tuple[BenchClient, Lease]]:
    """A bench, held as long as the context lasts."""
    with lab.client() as client:
        lease = client.create_lease(selector=f"name={bench}", holder="tester", duration_s=300, ttl_s=300)
        deadline = time.monotonic() + WAIT_S
        try:
            while lease["state"] == "QUEUED" and time.monotonic() < deadline:
                lease = client.heartbeat(lease["id"])
                time.sleep(0.1)
            assert lease["state"] == "GRANTED", lease
            assert lease["address"] is not None
            assert lease["token"] is not None
            with BenchClient(lease["address"], bench, lease["token"], timeout_s=WAIT_S) as opened:
                yield opened, lease
        finally:
            client.release(lease["id"])
    lab.wait_for_benches(bench)


@pytest.fixture(scope="session")
def lab(ecus: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running_lab(tmp_path_factory.mktemp("lab"), Path(__file__).with_name("agent.yaml")) as running:
        running.wait_for_benches("vcan-bench", "fd-bench")
        yield running
