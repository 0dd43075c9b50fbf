"""A bus that crosses processes without any CAN in the kernel: python-can's udp_multicast."""

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.demo.lab import ROOT
from ecu_adapters.bus import BusHub, CanConfig
from ecu_adapters.description import load_ecu
from ecu_adapters.uds.services import call
from ecu_adapters.uds.tester import UdsTester

ECM = ROOT / "deploy/demo/ecm.yaml"
GROUP = "239.74.163.2"
DEADLINE_S = 90.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def port() -> int:
    """One port for this test alone: group and port make the bus, for the whole network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((GROUP, 9))
        except OSError as error:
            pytest.skip(f"no multicast route on this machine: {error.strerror}")
    return 20_000 + os.getpid() % 20_000


@pytest.fixture
def ecu(port: int, tmp_path: Path) -> Iterator[None]:
    """The simulated ECU as a process of its own."""
    arguments = ["simulate", str(ECM), "--interface", "udp_multicast", "--channel", GROUP]
    arguments += ["--option", f"port={port}", "--option", "hop_limit=0", "--dbc", str(ROOT / "dbc/powertrain.dbc")]
    process = subprocess.Popen(
        [sys.executable, "-m", "bench_agent.main", *arguments], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    timer = threading.Timer(DEADLINE_S, process.kill)
    timer.start()
    try:
        assert process.stdout.readline().startswith("ECM has its serial console at /dev/pts/")
        assert process.stdout.readline() == f"ECM answers on udp_multicast {GROUP}\n"
        yield
    finally:
        timer.cancel()
        process.terminate()
        process.wait(DEADLINE_S)
        process.stdout.close()


@pytest.mark.anyio
async def test_diagnostics_across_processes(port: int, ecu: None) -> None:
    config = CanConfig(interface="udp_multicast", channel=GROUP, options={"port": port, "hop_limit": 0})
    hub = await asyncio.to_thread(BusHub.open, "bus", config)
    try:
        tester = UdsTester(hub, load_ecu(ECM))
        try:
            # Several frames each way, on a bus that echoes one's own frames.
            assert (await call(tester, "read", {"did": "VIN"}, timeout_s=10)).result == "WVWZZZ1KZ6W000001"
            await call(tester, "session", {"session": "extended"}, timeout_s=10)
            await call(tester, "unlock", {"level": 1}, timeout_s=10)
            await call(tester, "write", {"did": "RepairShopCode", "value": "MULTICAST1"}, timeout_s=10)
            assert (await call(tester, "read", {"did": "RepairShopCode"}, timeout_s=10)).result == "MULTICAST1"
        finally:
            await tester.close()
    finally:
        await asyncio.to_thread(hub.close)
    assert hub.stats.sent > 0
    assert hub.error is None
