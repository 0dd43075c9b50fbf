"""Other people's tools on a leased bench: python-can's interface, and the bridge to a SocketCAN interface."""

import os
import signal
import subprocess
import sys

import can
import pytest

from deploy.demo.lab import Lab
from tests.vcan.can_utils import WAIT_S, Candump, cansend, watch
from tests.vcan.conftest import leased


def test_python_cans_interface_reaches_the_bus(lab: Lab, candump: Candump, monkeypatch: pytest.MonkeyPatch) -> None:
    with leased(lab, "vcan-bench") as (_, lease):
        monkeypatch.setenv("LABD_URL", lab.http)
        monkeypatch.setenv("LABD_LEASE", lease["id"])
        filters = [{"can_id": 0x700, "can_mask": 0x7F0, "extended": False}]
        with can.Bus(interface="labd", channel="vcan-bench/powertrain", can_filters=filters) as bus:
            bus.send(can.Message(arbitration_id=0x18DA10F1, is_extended_id=True, data=b"\x01\x02"))
            bus.send(can.Message(arbitration_id=0x125, is_extended_id=False, is_fd=True, data=bytes(12)))
            assert candump.wait_for("18DA10F1#") == "18DA10F1#0102"
            assert candump.wait_for("125##")[6:] == "00" * 12
            cansend("701#C0FFEE")
            cansend("702##0" + "A5" * 48)
            got = [bus.recv(WAIT_S) for _ in range(2)]
    assert [(m.arbitration_id, bytes(m.data), m.is_fd) for m in got if m is not None] == [
        (0x701, bytes.fromhex("C0FFEE"), False),
        (0x702, b"\xa5" * 48, True),
    ]
    # The timestamps are the kernel's, as candump has them.
    stamps = dict(zip(candump.lines, candump.stamps, strict=False))
    assert got[0] is not None
    assert f"({got[0].timestamp:.6f})" == stamps["701#C0FFEE"]


def test_bridge_makes_one_bus_of_two(lab: Lab, candump: Candump, vcan1: str) -> None:
    """candump and cansend on vcan1 talk with the ECU that sits on vcan0."""
    command = [sys.executable, "-m", "labd.cli", "can", "bridge", "vcan-bench", "powertrain", vcan1]
    with watch(vcan1) as local:
        process = subprocess.Popen(
            [*command, "--filter", "7E8", "--filter", "5B0:7F0"],
            env={**os.environ, "LABD_URL": lab.http}, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert process.stderr is not None
            while "are one bus now" not in (line := process.stderr.readline()):
                assert line, f"the bridge ended with {process.wait()}"
            cansend("7E0#023E00CCCCCCCCCC", vcan1)
            assert local.wait_for("7E8#").startswith("7E8#027E00")
            cansend("5B0#0102030405060708")
            local.wait_for("5B0#0102030405060708")
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=WAIT_S)
        finally:
            process.kill()
            process.communicate()
    assert process.returncode == 0
    assert said.startswith("1 to the bench, "), said
    # Nothing runs in circles: what came from one side is on the other once.
    for witness in (local, candump):
        assert [line for line in witness.lines if line.startswith("5B0#")] == ["5B0#0102030405060708"]
        assert len([line for line in witness.lines if line.startswith("7E0#")]) == 1
