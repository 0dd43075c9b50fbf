"""Many holders in one process: ``python -m tests.chaos.holders --url URL --journal FILE --holders N --rate R``.

Each asks for a bench, waits, calls its agent and keeps the lease alive for a while, and gives it back; one in ten dies
instead, in any state. They stop asking at SIGTERM, and the process ends when their last leases are given back.
"""

import argparse
import asyncio
import contextlib
import random
import signal
import time
import uuid
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import grpc
import uvloop

from bench_agent.protocol import bench_pb2, bench_pb2_grpc
from bench_agent.protocol.claims import BENCH_METADATA
from tests.chaos.benches import PLATFORMS
from tests.chaos.http import Connection, NoAnswer
from tests.chaos.journal import Event, Journal

Lease = dict[str, Any]

TTL_S = 5.0
DURATION_S = 600.0
DEATHS = 0.1
"""Part of the cycles whose holder dies."""
LONGEST_VISIT = 8
"""Most heartbeats between a holder's first call and its last."""
GIVE_UP_S = 120.0
CALL_S = 5.0
HELD = ("GRANTED", "ACTIVE")
_API = "/api/v1/leases"
_CHANNEL = (("grpc.max_reconnect_backoff_ms", 1000),)


class Agents:
    """One open channel an agent, as a program has that works with the lab all day."""

    def __init__(self) -> None:
        self._stubs: dict[str, bench_pb2_grpc.BenchAsyncStub] = {}
        self._channels: list[grpc.aio.Channel] = []

    async def call(self, lease: Lease) -> str:
        """One call under the lease; returns why the agent did not answer it, or ""."""
        if lease["address"] not in self._stubs:
            channel = grpc.aio.insecure_channel(lease["address"], options=_CHANNEL)
            self._channels.append(channel)
            self._stubs[lease["address"]] = bench_pb2_grpc.BenchStub(channel)
        metadata = (("authorization", f"Bearer {lease['token']}"), (BENCH_METADATA, lease["bench"]))
        try:
            stub = self._stubs[lease["address"]]
            await stub.Describe(bench_pb2.DescribeRequest(), metadata=metadata, timeout=CALL_S)
        except grpc.aio.AioRpcError as error:
            return error.details() or error.code().name
        return ""

    async def close(self) -> None:
        """Closes all channels."""
        for channel in self._channels:
            await channel.close()


class Load:
    """What the holders share. ``rate``: requests to labd a second that all together are to send."""

    def __init__(self, url: str, journal: Journal, holders: int, rate: float) -> None:
        self.url = url
        self.journal = journal
        self.pause_s = holders / rate
        self.agents = Agents()
        self.stop = asyncio.Event()


class _Over(Exception):
    """labd says that the lease is no more."""


class Holder:
    """One holder after another, each under its own name."""

    def __init__(self, load: Load, number: int) -> None:
        self._name = f"holder-{number}"
        self._load = load
        self._random = random.Random(number)  # noqa: S311 - the same storm each time, no secret
        self._labd = Connection(load.url)
        self._due = 0.0

    async def run(self) -> None:
        """Until told to stop."""
        self._due = time.monotonic() + self._random.uniform(0, self._load.pause_s)
        while not self._load.stop.is_set():
            with contextlib.suppress(_Over):
                await self._cycle()
        self._labd.close()

    async def _cycle(self) -> None:
        group = f"platform={self._random.choice(PLATFORMS)}"
        fate = self._random.choice(("QUEUED", "GRANTED", "called")) if self._random.random() < DEATHS else ""
        lease = await self._wish(group)
        if lease is None or self._dies(lease, fate, "QUEUED"):
            return
        deadline = time.monotonic() + GIVE_UP_S
        while lease["state"] == "QUEUED" and time.monotonic() < deadline and not self._load.stop.is_set():
            lease = await self._beat(lease)
        if lease["state"] in HELD:
            if self._dies(lease, fate, "GRANTED"):
                return
            await self._act(lease)
            if self._dies(lease, fate, "called"):
                return
            for _ in range(self._random.randint(1, LONGEST_VISIT)):
                lease = await self._beat(lease)
            await self._act(lease)
        deadline = time.monotonic() + GIVE_UP_S
        while await self._ask("release", "DELETE", f"/{lease['id']}", lease["id"]) is None:
            if time.monotonic() > deadline:
                return  # it ends by its TTL

    async def _wish(self, group: str) -> Lease | None:
        """A lease, asked for again with the same key until labd has answered: labd makes one of it all the same."""
        wish = {"selector": group, "holder": self._name, "duration_s": DURATION_S, "ttl_s": TTL_S}
        key, asked = str(uuid.UUID(int=self._random.getrandbits(128))), None
        deadline = time.monotonic() + GIVE_UP_S
        while time.monotonic() < deadline:
            await self._pause()
            asked = asked or time.monotonic()
            lease = await self._send("create", "POST", "", body=wish, key=key, group=group, asked=asked)
            if lease is not None:
                return lease
        return None

    def _dies(self, lease: Lease, fate: str, moment: str) -> bool:
        if fate != moment:
            return False
        now = time.monotonic()
        self._load.journal.write(Event("die", now, now, True, lease["id"]))
        return True

    async def _beat(self, lease: Lease) -> Lease:
        """The lease as it is now, or as it was when labd does not answer."""
        return await self._ask("heartbeat", "POST", f"/{lease['id']}/heartbeat", lease["id"]) or lease

    async def _ask(self, op: str, method: str, path: str, lease_id: str) -> Lease | None:
        await self._pause()
        return await self._send(op, method, path, lease_id)

    async def _pause(self) -> None:
        """Keeps the pace, however long the last answer took; what was missed is not made up for."""
        self._due = max(self._due, time.monotonic() - self._load.pause_s)
        self._due += self._load.pause_s * self._random.uniform(0.5, 1.5)
        await asyncio.sleep(self._due - time.monotonic())

    async def _send(
        self,
        op: str,
        method: str,
        path: str,
        lease_id: str | None = None,
        *,
        body: object = None,
        key: str = "",
        group: str = "",
        asked: float | None = None,
    ) -> Lease | None:
        began = time.monotonic()
        try:
            status, answer = await self._labd.request(method, _API + path, body=body, key=key)
        except NoAnswer as none:
            self._load.journal.write(Event(op, began, time.monotonic(), False, lease_id, group, error=str(none)))
            return None
        ended = time.monotonic()
        if status >= HTTPStatus.BAD_REQUEST:
            error = f"{status}: {answer.get('detail', '')}"
            self._load.journal.write(Event(op, began, ended, False, lease_id, group, error=error, status=status))
            if op != "create" and status in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                raise _Over
            return None
        lease: Lease = answer
        remaining_s = None
        if op == "heartbeat" and lease["expires_at"] is not None and lease["state"] in HELD:
            # labd's clock, whatever it shows, when it took the heartbeat.
            now = _seconds(lease["heartbeat_by"]) - lease["ttl_s"]
            remaining_s = _seconds(lease["expires_at"]) - now
        self._load.journal.write(
            Event(
                op,
                began,
                ended,
                True,
                lease["id"],
                group,
                lease["state"],
                lease["bench"],
                lease["epoch"],
                remaining_s,
                status=status,
                asked=asked,
                position=lease["position"],
            )
        )
        return lease

    async def _act(self, lease: Lease) -> None:
        if not lease.get("address") or not lease.get("token"):
            return
        began = time.monotonic()
        error = await self._load.agents.call(lease)
        self._load.journal.write(
            Event(
                "call",
                began,
                time.monotonic(),
                not error,
                lease["id"],
                bench=lease["bench"],
                epoch=lease["epoch"],
                error=error,
            )
        )


def _seconds(time_text: str) -> float:
    return datetime.fromisoformat(time_text).timestamp()


async def storm(url: str, journal: Journal, holders: int, rate: float) -> None:
    """All holders, until SIGTERM."""
    load = Load(url, journal, holders, rate)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, load.stop.set)
    async with asyncio.TaskGroup() as group:
        for number in range(1, holders + 1):
            group.create_task(Holder(load, number).run())
    await load.agents.close()


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--holders", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    arguments = parser.parse_args()
    with Journal(arguments.journal) as journal:
        uvloop.run(storm(arguments.url, journal, arguments.holders, arguments.rate))


if __name__ == "__main__":
    main()
