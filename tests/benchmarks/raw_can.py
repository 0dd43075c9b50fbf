"""Frames from raw sockets through the agent to a client in another process, and back, beside python-can alone."""

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import can
import numpy as np

from bench_agent.client import BenchClient, FrameStream
from bench_agent.protocol import frames
from deploy.demo.lab import agent_command, running_lab, service
from tests.benchmarks.can_throughput import local
from tests.benchmarks.figures import Figure

ROUNDS = 5
BUSES = 8
PEAK = 500_000
"""Frames of one sample as fast as they go."""
FULL_PER_S = 9_000
"""Frames/s of a classic bus of 1 Mbit/s with 8 data bytes and the fewest stuff bits."""
FULL_S = 4.0
PACED_PER_S = 8_000
PACED_S = 3.0
DEADLINE_S = 60.0

Sample = tuple[float, float, float]


class Bench:
    """A feeding process, an agent process, and this process as their client."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        paths = [str(folder / f"bus{number}") for number in range(BUSES)]
        self._feed = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.can_feed", *paths],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        stack.callback(self._feed.wait, 30)
        stack.callback(self._feed.terminate)
        assert self._feed.stdout is not None
        self._feed.stdout.readline()
        buses = [{"name": f"bus{n}", "interface": "unix", "channel": path} for n, path in enumerate(paths)]
        configuration = folder / "agent.yaml"
        agent = {"name": "raw-can", "listen": "127.0.0.1:0", "data_dir": str(folder / "agent")}
        configuration.write_text(
            json.dumps({"agent": agent, "benches": [{"name": "raw-can", "labels": {}, "can": buses}]})
        )
        lab = stack.enter_context(running_lab(folder))
        command = agent_command(configuration, lab.agents, folder / "agent")
        self.agent = stack.enter_context(service("agent", command, folder)).pid
        lab.wait_for_benches("raw-can")
        client = stack.enter_context(lab.client())
        lease = client.create_lease(selector="name=raw-can", holder="bench", duration_s=3600, ttl_s=3600)
        lease = client.lease(lease["id"])
        self.client = stack.enter_context(BenchClient(str(lease["address"]), "raw-can", str(lease["token"])))

    def order(self, **what: float) -> None:
        """Tells the feeding process what to do."""
        assert self._feed.stdin is not None
        self._feed.stdin.write(json.dumps(what) + "\n")
        self._feed.stdin.flush()

    def answer(self) -> float:
        """What it says."""
        assert self._feed.stdout is not None
        return float(json.loads(self._feed.stdout.readline()))

    def cpu_s(self) -> float:
        """CPU time that the agent has used, of all its threads, in s."""
        fields = Path(f"/proc/{self.agent}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def receive(self, count: int, buses: int, per_s: float) -> Sample:
        """``count`` frames on each of ``buses``: the rate in frames/s, frames lost, and p99 of the latency in ms."""
        with ExitStack() as stack:
            streams = [stack.enter_context(self.client.bus(f"bus{n}").stream()) for n in range(buses)]
            readers = [_Reader(stream, count) for stream in streams]
            self.order(send=count, buses=buses, per_s=per_s)
            for reader in readers:
                reader.join(DEADLINE_S)
            ended = max(reader.ended for reader in readers)
        started = self.answer()
        received = sum(reader.received for reader in readers)
        latencies = np.concatenate([part for reader in readers for part in reader.latencies])
        p99 = float(np.percentile(latencies, 99)) / 1e6
        return received / (ended - started), count * buses - received, p99

    def send(self, count: int) -> float:
        """Frames/s from this client to the feeding process' end of the bus."""
        listed = [frames.Frame(0, 0x100, 0, number.to_bytes(8, "big")) for number in range(count)]
        batch = frames.batch(listed)
        self.order(take=count)
        started = time.time()
        with self.client.bus("bus0").stream() as stream:
            stream.send_batch(batch.records, batch.record_size)
            stream.flush(DEADLINE_S)
        ended = self.answer()
        if not ended:
            raise RuntimeError("frames to the bus were lost")
        return count / (ended - started)


class _Reader(threading.Thread):
    """Reads one stream to the end of a sample."""

    def __init__(self, stream: FrameStream, count: int) -> None:
        super().__init__(daemon=True)
        self.received = 0
        self.ended = 0.0
        self.latencies: list[np.typing.NDArray[np.int64]] = []
        self._stream = stream
        self._count = count
        self.start()

    def run(self) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while self.received + self._stream.dropped < self._count and time.monotonic() < deadline:
            block = self._stream.read(1.0)
            if block is not None:
                sent = np.ascontiguousarray(block.array()["data"]).view("<i8").ravel()
                self.latencies.append(time.time_ns() - sent)
                self.received += len(block)
        self.ended = time.time()


def local_latency() -> list[float]:
    """p99 in ms of python-can's virtual bus, a sender and a reader thread, at the same pace."""
    count = int(PACED_PER_S * PACED_S)
    waits: list[int] = []
    with (
        can.Bus(interface="virtual", channel="latency") as reader,
        can.Bus(interface="virtual", channel="latency") as sender,
    ):

        def send() -> None:
            started, sent = time.monotonic(), 0
            while sent < count:
                if sent >= (time.monotonic() - started) * PACED_PER_S:
                    time.sleep(0.0002)
                    continue
                data = time.time_ns().to_bytes(8, "little")
                sender.send(can.Message(arbitration_id=0x123, data=data, is_extended_id=False))
                sent += 1

        thread = threading.Thread(target=send)
        thread.start()
        for _ in range(count):
            message = reader.recv(DEADLINE_S)
            if message is None:
                raise RuntimeError("a frame was lost on the virtual bus")
            waits.append(time.time_ns() - int.from_bytes(message.data, "little"))
        thread.join()
    return [float(np.percentile(waits, 99)) / 1e6]


def measure(folder: Path) -> list[Figure]:
    """Peak rates both ways, a full lab's load, and latency."""
    peak: list[float] = []
    lost: list[float] = []
    core: list[float] = []
    to_bus: list[float] = []
    latency: list[float] = []
    alone: list[float] = []
    waits: list[float] = []
    with ExitStack() as stack:
        bench = Bench(folder, stack)
        bench.receive(20_000, BUSES, 0)
        for _ in range(ROUNDS):
            alone += local()
            peak.append(bench.receive(PEAK, 1, 0)[0])
            before, started = bench.cpu_s(), time.monotonic()
            lost.append(bench.receive(int(FULL_PER_S * FULL_S), BUSES, FULL_PER_S)[1])
            core.append(100 * (bench.cpu_s() - before) / (time.monotonic() - started))
            to_bus.append(bench.send(100_000))
            waits += local_latency()
            latency.append(bench.receive(int(PACED_PER_S * PACED_S), 1, PACED_PER_S)[2])
    full = BUSES * FULL_PER_S
    needed = [100 * full / rate for rate in alone]
    name = "python-can in one process"
    return [
        Figure("CAN, raw socket to client", "frames/s", peak, name, alone, "value", "at least", 250_000),
        Figure(f"CAN, lost at {full} frames/s", "frames", lost, "offered", [full * FULL_S], "value", "at most", 0),
        Figure(
            f"CAN, agent's CPU at {full} frames/s", "% of a core", core, f"{name}, computed", needed, "value",
            "at most", 60,
        ),
        Figure("CAN, client to bus", "frames/s", to_bus, name, alone, "value", "at least", 100_000),
        Figure(f"CAN, latency p99 at {PACED_PER_S} frames/s", "ms", latency, name, waits, "value", "at most", 10),
    ]  # fmt: skip
