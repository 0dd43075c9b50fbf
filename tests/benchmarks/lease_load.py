"""Holders under load, in a process of their own: ``python -m tests.benchmarks.lease_load URL KIND CLIENTS SECONDS``.

KIND ``cycle``: each client asks for a bench, calls its agent once, gives the bench back, and begins anew. KIND
``grant``: a bench is asked for 50 times a second. Prints, as JSON, the times in ms: of whole cycles, or from the
request to its answer with the bench.
"""

import itertools
import json
import sys
import threading
import time

import grpc

from bench_agent.protocol import bench_pb2, bench_pb2_grpc
from bench_agent.protocol.claims import BENCH_METADATA
from labd.client import LabClient
from labd.client.types import Lease

GRANTS_PER_S = 50.0
HELD = ("GRANTED", "ACTIVE")


class Agents:
    """One open channel an agent, as a program has that works with the lab all day."""

    def __init__(self) -> None:
        self._channels: dict[str, grpc.Channel] = {}
        self._lock = threading.Lock()

    def call(self, lease: Lease) -> None:
        """One call under the lease; raises RpcError when the agent refuses it."""
        address, bench = str(lease["address"]), str(lease["bench"])
        with self._lock:
            if address not in self._channels:
                self._channels[address] = grpc.insecure_channel(address)
            stub = bench_pb2_grpc.BenchStub(self._channels[address])
        metadata = (("authorization", f"Bearer {lease['token']}"), (BENCH_METADATA, bench))
        stub.Describe(bench_pb2.DescribeRequest(), metadata=metadata, timeout=10)


def wish(client: LabClient, name: str) -> Lease:
    """A lease with its bench; raises TimeoutError when none comes within half a minute."""
    lease = client.create_lease(selector="", holder=name, duration_s=600, ttl_s=60, wait_s=30)
    if lease["state"] not in HELD:
        raise TimeoutError(f"lease {lease['id']} is still {lease['state']}")
    return lease


def cycles(url: str, clients: int, seconds: float) -> list[float]:
    """Times of whole cycles (ms), all clients together."""
    agents, samples = Agents(), list[float]()
    until = time.monotonic() + seconds

    def work(name: str) -> None:
        with LabClient(url) as client:
            while (began := time.monotonic()) < until:
                lease = wish(client, name)
                agents.call(lease)
                client.release(lease["id"])
                samples.append((time.monotonic() - began) * 1e3)

    threads = [threading.Thread(target=work, args=(f"client-{number}",)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return samples


def grants(url: str, clients: int, seconds: float) -> list[float]:
    """Times from request to bench (ms), at `GRANTS_PER_S`, whoever of the clients is free."""
    samples, ticks = list[float](), itertools.count()
    start = time.monotonic()
    lock = threading.Lock()

    def work(name: str) -> None:
        with LabClient(url) as client:
            while True:
                with lock:
                    due = start + next(ticks) / GRANTS_PER_S
                if due > start + seconds or time.monotonic() > start + 2 * seconds:
                    return  # a lab that does not keep pace is not waited for
                time.sleep(max(0.0, due - time.monotonic()))
                began = time.monotonic()
                lease = wish(client, name)
                samples.append((time.monotonic() - began) * 1e3)
                client.release(lease["id"])

    threads = [threading.Thread(target=work, args=(f"client-{number}",)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return samples


if __name__ == "__main__":
    kind = {"cycle": cycles, "grant": grants}[sys.argv[2]]
    json.dump(kind(sys.argv[1], int(sys.argv[3]), float(sys.argv[4])), sys.stdout)
