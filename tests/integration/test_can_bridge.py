"""labctl can bridge: a bench's bus joined with a bus of this machine, over udp_multicast, which crosses processes."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import can
import pytest

from deploy.demo.lab import DEMO_AGENT, Lab, running_lab

DEADLINE_S = 90.0
GROUP = f"239.74.{os.getpid() % 250}.{uuid.uuid4().int % 250 + 1}"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running_lab(tmp_path_factory.mktemp("lab"), DEMO_AGENT) as running:
        running.wait_for_benches("bench-1")
        yield running


@contextmanager
def bridge(lab: Lab, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "labd.cli", "can", "bridge", "bench-1", "powertrain", *arguments]
    process = subprocess.Popen(command, env={**os.environ, "LABD_URL": lab.http}, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        while "are one bus now" not in (line := process.stderr.readline()):
            assert line, f"the bridge ended with {process.wait()}"
        yield process
    finally:
        process.kill()
        process.communicate()


def answer(bus: can.BusABC, can_id: int) -> can.Message:
    while (message := bus.recv(DEADLINE_S)) is not None:
        if message.arbitration_id == can_id:
            return message
    raise AssertionError(f"no frame 0x{can_id:X}")


def test_a_tool_of_this_machine_talks_with_the_benchs_ecu(lab: Lab) -> None:
    with bridge(lab, GROUP, "--interface", "udp_multicast") as process:
        with can.Bus(interface="udp_multicast", channel=GROUP, fd=False) as bus:
            bus.send(can.Message(arbitration_id=0x7E0, is_extended_id=False, data=bytes.fromhex("023E00CCCCCCCCCC")))
            assert bytes(answer(bus, 0x7E8).data[:3]) == bytes.fromhex("027E00")
            heard = [bus.recv(DEADLINE_S) for _ in range(30)]
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=DEADLINE_S)
    # What came from here is not heard again: the one request would run in circles.
    assert [message.arbitration_id for message in heard if message is not None].count(0x7E0) == 0
    assert process.returncode == 0
    assert said.startswith("1 to the bench, "), said


def test_only_listening(lab: Lab) -> None:
    arguments = (GROUP, "--interface", "udp_multicast", "--listen-only", "--filter", "7E8", "--duration", "1s")
    with bridge(lab, *arguments) as process, can.Bus(interface="udp_multicast", channel=GROUP, fd=False) as bus:
        bus.send(can.Message(arbitration_id=0x7E0, is_extended_id=False, data=bytes.fromhex("023E00CCCCCCCCCC")))
        _, said = process.communicate(timeout=DEADLINE_S)
        assert said == "0 to the bench, 0 from the bench\n"


def test_an_interface_that_is_missing_is_told_with_the_command_that_makes_it(lab: Lab) -> None:
    command = [sys.executable, "-m", "labd.cli", "can", "bridge", "bench-1", "powertrain", "vcan77"]
    done = subprocess.run(
        command,
        env={**os.environ, "LABD_URL": lab.http},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 2
    assert "there is no CAN interface vcan77 here" in done.stderr
    assert "sudo ip link add dev vcan77 type vcan && sudo ip link set dev vcan77 mtu 72 up" in done.stderr
