"""How the lab stands: its benches, and the leases that are not over, kept in memory from one transaction to the next.

The database counts the transactions that change any of it. What is kept under the number that a transaction finds there
is just what the transaction would read, whoever made the change: another thread, or another labd.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from labd.model.bench import Bench
from labd.model.lease import Lease
from labd.model.policy import Policy

KEPT = 4
"""Versions that are kept: a reader may be a little behind the writers."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The lab after the change of this number."""

    version: int
    benches: Mapping[str, Bench]
    """Every bench ever seen, removed ones too, by name and in its order."""
    leases: Mapping[str, Lease]
    """Those that are not ENDED, by ID and in order of arrival."""
    policy: Policy
    usage: Mapping[tuple[str, int], float]
    """Bench-seconds by team and hour since the Unix epoch."""


class Standings:
    """The last few. Threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[int, Standing] = {}

    def at(self, version: int) -> Standing | None:
        """The lab after the change of this number, if it is kept."""
        return self._kept.get(version)

    def keep(self, standing: Standing) -> None:
        """Takes in what is, or has become, durable."""
        with self._lock:
            kept = {**self._kept, standing.version: standing}
            newest = sorted(kept)[-KEPT:]
            self._kept = {version: kept[version] for version in newest}
