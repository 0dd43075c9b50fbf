"""Many holders in one process: ``python -m tests.chaos.holders --url URL --journal FILE --holders N --rate R``.

Each asks for a bench, waits, calls its agent, keeps the lease alive, and gives it back; one in ten dies instead, in any
state. They stop asking at SIGTERM, and the process ends when their last leases are given back.
"""

import argparse
import contextlib
import random
import signal
import threading
import time
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from pathlib import Path

from bench_agent.client import BenchClient, BenchError
from labd.client import LabClient, LabError, ProblemError
from labd.client.types import Lease
from tests.chaos.fleet import PLATFORMS
from tests.chaos.journal import Event, Journal

TTL_S = 5.0
DURATION_S = 600.0
DEATHS = 0.1
"""Part of the cycles whose holder dies."""
GIVE_UP_S = 120.0
HELD = ("GRANTED", "ACTIVE")


class Load:
    """What the holders share. ``rate``: requests a second of all together."""

    def __init__(self, url: str, journal: Journal, holders: int, rate: float) -> None:
        self.url = url
        self.journal = journal
        self.pause_s = holders / rate
        self.stop = threading.Event()


class _Over(Exception):
    """labd says that the lease is no more."""


class Holder(threading.Thread):
    """One holder after another, each under its own name."""

    def __init__(self, load: Load, number: int) -> None:
        super().__init__(name=f"holder-{number}")
        self._load = load
        self._random = random.Random(number)  # noqa: S311 - the same storm each time, no secret
        self._client = LabClient(load.url, timeout_s=10)

    def run(self) -> None:
        """Until told to stop."""
        while not self._load.stop.is_set():
            with contextlib.suppress(_Over):
                self._cycle()
        self._client.close()

    def _cycle(self) -> None:
        group = f"platform={self._random.choice(PLATFORMS)}"
        fate = self._random.choice(("QUEUED", "GRANTED", "called")) if self._random.random() < DEATHS else ""
        lease = self._ask("create", lambda: self._wish(group), group=group)
        if lease is None or self._dies(lease, fate, "QUEUED"):
            return
        deadline = time.monotonic() + GIVE_UP_S
        while lease["state"] == "QUEUED" and time.monotonic() < deadline and not self._load.stop.is_set():
            lease = self._beat(lease)
        if lease["state"] in HELD:
            if self._dies(lease, fate, "GRANTED"):
                return
            self._act(lease)
            if self._dies(lease, fate, "called"):
                return
            self._act(self._beat(lease))
        self._release(lease)

    def _wish(self, group: str) -> Lease:
        return self._client.create_lease(selector=group, holder=self.name, duration_s=DURATION_S, ttl_s=TTL_S)

    def _dies(self, lease: Lease, fate: str, moment: str) -> bool:
        if fate != moment:
            return False
        now = time.monotonic()
        self._load.journal.write(Event("die", now, now, True, lease["id"]))
        return True

    def _beat(self, lease: Lease) -> Lease:
        """The lease as it is now, or as it was when labd does not answer."""
        beaten = self._ask("heartbeat", lambda: self._client.heartbeat(lease["id"]), lease["id"])
        return lease if beaten is None else beaten

    def _release(self, lease: Lease) -> None:
        deadline = time.monotonic() + GIVE_UP_S
        while time.monotonic() < deadline:
            if self._ask("release", lambda: self._client.release(lease["id"]), lease["id"]) is not None:
                return
        # Without an answer it ends by its TTL.

    def _ask(self, op: str, call: Callable[[], Lease], lease_id: str | None = None, *, group: str = "") -> Lease | None:
        time.sleep(self._load.pause_s * self._random.uniform(0.5, 1.5))
        began = time.monotonic()
        try:
            lease = call()
        except LabError as error:
            self._load.journal.write(Event(op, began, time.monotonic(), False, lease_id, group, error=str(error)))
            if isinstance(error, ProblemError) and error.status in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                raise _Over from error
            return None
        ended = time.monotonic()
        remaining_s = None
        if op == "heartbeat" and lease["expires_at"] is not None and lease["state"] in HELD:
            # labd's clock, whatever it shows, when it took the heartbeat.
            now = _seconds(lease["heartbeat_by"]) - lease["ttl_s"]
            remaining_s = _seconds(lease["expires_at"]) - now
        self._load.journal.write(
            Event(
                op, began, ended, True, lease["id"], group, lease["state"], lease["bench"], lease["epoch"], remaining_s
            )
        )
        return lease

    def _act(self, lease: Lease) -> None:
        address, bench, token = lease.get("address"), lease.get("bench"), lease.get("token")
        if not address or not bench or not token:
            return
        began = time.monotonic()
        error = ""
        try:
            with BenchClient(address, bench, token, timeout_s=5) as opened:
                opened.describe()
        except BenchError as refused:
            error = str(refused)
        self._load.journal.write(
            Event(
                "call", began, time.monotonic(), not error, lease["id"], bench=bench, epoch=lease["epoch"], error=error
            )
        )


def _seconds(time_text: str) -> float:
    return datetime.fromisoformat(time_text).timestamp()


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--holders", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    arguments = parser.parse_args()
    with Journal(arguments.journal) as journal:
        load = Load(arguments.url, journal, arguments.holders, arguments.rate)
        signal.signal(signal.SIGTERM, lambda *_: load.stop.set())
        holders = [Holder(load, number) for number in range(1, arguments.holders + 1)]
        for holder in holders:
            holder.start()
        for holder in holders:
            holder.join()


if __name__ == "__main__":
    main()
