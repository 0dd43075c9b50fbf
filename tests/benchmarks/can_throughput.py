"""Frames from a bus of the agent to a client in another process, beside python-can within one process."""

import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import can

from bench_agent.client import BenchClient, BusClient
from deploy.demo.lab import running_lab
from tests.benchmarks.can_load import CHANNEL
from tests.benchmarks.figures import Figure, interleave

ROUNDS = 9
FRAMES = 60_000
DEADLINE_S = 60.0
CONFIGURATION = """
agent: {{name: can-load, listen: "127.0.0.1:0", labd: "{labd}", data_dir: "{folder}"}}
benches:
  - name: can-load
    labels: {{}}
    can: [{{name: bus, interface: virtual, channel: {channel}}}]
"""


def local() -> list[float]:
    """One sample, in frames/s: python-can's sender and reader threads on a virtual bus."""
    message = can.Message(arbitration_id=0x123, data=bytes(8), is_extended_id=False)
    with (
        can.Bus(interface="virtual", channel="baseline") as reader,
        can.Bus(interface="virtual", channel="baseline") as sender,
    ):

        def send() -> None:
            for _ in range(FRAMES):
                sender.send(message)

        thread = threading.Thread(target=send)
        started = time.perf_counter()
        thread.start()
        for _ in range(FRAMES):
            if reader.recv(DEADLINE_S) is None:
                raise RuntimeError("a frame was lost on the virtual bus")
        elapsed = time.perf_counter() - started
        thread.join()
    return [FRAMES / elapsed]


class Remote:
    """The agent with its load, and a client's stream of the bus."""

    def __init__(self, agent: "subprocess.Popen[str]", bus: BusClient) -> None:
        self._agent = agent
        self._bus = bus
        self.lost: list[float] = []

    def sample(self) -> list[float]:
        """One sample, in frames/s, from the first frame sent to the last one received."""
        assert self._agent.stdin is not None
        assert self._agent.stdout is not None
        received = 0
        with self._bus.stream() as stream:
            self._agent.stdin.write(f"{FRAMES}\n")
            self._agent.stdin.flush()
            deadline = time.monotonic() + DEADLINE_S
            while received + stream.dropped < FRAMES and time.monotonic() < deadline:
                block = stream.read(1.0)
                received += len(block.frames) if block is not None else 0
            ended = time.time()
        self.lost.append(FRAMES - received)
        return [received / (ended - float(self._agent.stdout.readline()))]


def measure(folder: Path) -> list[Figure]:
    """Rate, and frames lost (of which there must be none)."""
    with ExitStack() as stack:
        lab = stack.enter_context(running_lab(folder))
        configuration = folder / "agent.yaml"
        configuration.write_text(CONFIGURATION.format(labd=lab.agents, folder=folder / "agent", channel=CHANNEL))
        agent = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.can_load", str(configuration)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        stack.callback(agent.wait, 30)
        stack.callback(agent.terminate)
        lab.wait_for_benches("can-load")
        client = stack.enter_context(lab.client())
        lease = client.create_lease(selector="name=can-load", holder="bench", duration_s=600, ttl_s=300)
        lease = client.lease(lease["id"])
        bench = stack.enter_context(BenchClient(str(lease["address"]), "can-load", str(lease["token"])))
        remote = Remote(agent, bench.bus("bus"))
        remote.sample()
        remote.lost.clear()
        samples, baseline = interleave(ROUNDS, remote.sample, local)
    return [
        Figure(
            "CAN, agent to client", "frames/s", samples, "python-can in one process", baseline, "ratio", "at least", 0.7
        ),
        Figure("CAN, agent to client, lost", "frames", remote.lost, "offered", [FRAMES], "value", "at most", 0),
    ]
