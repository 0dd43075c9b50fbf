"""Keeping a lease alive for as long as something uses it."""

import threading
from collections.abc import Callable
from http import HTTPStatus

from labd.client.errors import LabError, LabUnreachable, ProblemError
from labd.client.lab import LabClient
from labd.client.notices import Notices, RevokeNotice
from labd.client.types import OVER, Lease

BEATS_PER_TTL = 3
LONGEST_INTERVAL_S = 10.0
"""Between two heartbeats, whatever the TTL: it is by them that labd gives notice."""


class Heartbeats:
    """Keeps a lease alive from a thread of its own, until it is stopped or the lease has ended.

    ``on_revoke`` is called from that thread when labd has given notice that it wants the lease back.
    """

    def __init__(
        self, lab: LabClient, lease: Lease, on_revoke: Callable[[RevokeNotice], None] = lambda _notice: None
    ) -> None:
        self._lab = lab
        self._id = lease["id"]
        self._on_revoke = on_revoke
        self._notices = Notices()
        self._every_s = min(lease["ttl_s"] / BEATS_PER_TTL, LONGEST_INTERVAL_S)
        self._stopped = threading.Event()
        self.lost = threading.Event()
        """Set when labd says that the lease is no more; `reason` tells why."""
        self.reason = ""
        self._thread = threading.Thread(target=self._beat, name="heartbeats", daemon=True)

    def __enter__(self) -> "Heartbeats":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(timeout=self._every_s)

    def _beat(self) -> None:
        while not self._stopped.wait(self._every_s):
            try:
                lease = self._lab.heartbeat(self._id)
            except LabUnreachable:
                continue  # labd may be restarting; should it stay away, the lease ends by its TTL
            except LabError as error:
                if isinstance(error, ProblemError) and error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                    continue  # labd is in trouble, for example with a full disk: the lease may well go on
                self.reason = str(error)
                self.lost.set()
                return
            if lease["state"] in OVER:
                self.reason = end_text(lease)
                self.lost.set()
                return
            notice = self._notices.news(lease)
            if notice is not None:
                self._on_revoke(notice)


def end_text(lease: Lease) -> str:
    """Why a lease ended, in words."""
    reasons = {
        "released": "it was released",
        "expired": "its time was up",
        "heartbeat_lost": f"no heartbeat came for {lease['ttl_s']:g} s",
        "idle": "it was not used",
        "cancelled": "it was cancelled",
        "preempted": "its bench was needed for something more urgent",
        "revoked": "an operator revoked it",
        "bench_removed": "its bench was removed",
    }
    text = reasons.get(lease["end_reason"] or "", str(lease["end_reason"]))
    return f"{text}: {lease['end_note']}" if lease.get("end_note") else text
