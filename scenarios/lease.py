"""Keeps the run's lease alive, and notices when it has ended."""

import threading
from collections.abc import Callable
from typing import Protocol

from labd.client import LabError, Notices, ProblemError, RevokeNotice
from labd.client.types import OVER, Lease
from scenarios.shipping import is_passing

LONGEST_INTERVAL_S = 10.0
SHORTEST_INTERVAL_S = 0.05


class LeaseKeeper(Protocol):
    """The part of LabClient that keeps leases alive."""

    def heartbeat(self, lease_id: str) -> Lease:
        """Keeps it alive for another TTL."""
        ...


class Heartbeat:
    """Sends heartbeats from its own thread, three in a TTL.

    ``lost`` is called once, from that thread, with the reason, when the lease has ended. A labd that does not answer
    is no reason: leases survive its restart, and the bench's agent judges the lease's hard end by itself. ``noticed``
    is called when labd has given notice that it wants the lease back.
    """

    def __init__(
        self,
        lab: LeaseKeeper,
        lease_id: str,
        ttl_s: float,
        lost: Callable[[str], None],
        noticed: Callable[[RevokeNotice], None] = lambda _notice: None,
    ) -> None:
        self._lab = lab
        self._lease_id = lease_id
        self._interval_s = min(max(ttl_s / 3, SHORTEST_INTERVAL_S), LONGEST_INTERVAL_S)
        self._lost = lost
        self._noticed = noticed
        self._notices = Notices()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="lease-heartbeat", daemon=True)

    def start(self) -> None:
        """Starts; the first heartbeat comes after a third of the TTL."""
        self._thread.start()

    def close(self) -> None:
        """Sends no more heartbeats after the one under way."""
        self._closed.set()

    def _work(self) -> None:
        while not self._closed.wait(self._interval_s):
            reason = self._beat()
            if reason and not self._closed.is_set():
                self._lost(f"the lease of the bench was lost: {reason}")
                return

    def _beat(self) -> str:
        """Why the lease is lost, or nothing."""
        try:
            lease = self._lab.heartbeat(self._lease_id)
        except ProblemError as error:
            return "" if is_passing(error) else str(error)
        except LabError:
            return ""  # away or restarting
        if lease["state"] in OVER:
            return (lease["end_reason"] or "ended").replace("_", " ")
        notice = self._notices.news(lease)
        if notice is not None:
            self._noticed(notice)
        return ""
