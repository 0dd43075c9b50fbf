"""Finding a lease that is held already: for tools that use a bench and were given no token."""

import contextlib
import getpass
import os
import socket
from collections.abc import Iterator

from labd.client.errors import LabError
from labd.client.heartbeats import Heartbeats
from labd.client.lab import DEFAULT_URL, LabClient
from labd.client.types import Lease


class NotHeld(LabError):
    """There is no such lease to be used."""


def default_holder() -> str:
    """Who a lease belongs to unless told otherwise: LABD_HOLDER, or else ``user@host``."""
    if holder := os.environ.get("LABD_HOLDER"):
        return holder
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user ID without an entry in /etc/passwd
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def held_lease(lab: LabClient, bench: str, *, lease_id: str | None = None, holder: str | None = None) -> Lease:
    """The granted lease of ``bench`` with its token: ``lease_id`` if given, or else the one that ``holder`` holds.

    ``holder`` is `default_holder` unless given. Raises NotHeld, saying who holds the bench instead, or another
    LabError.
    """
    if lease_id:
        lease = lab.lease(lease_id)
        if lease["state"] != "GRANTED" or not lease.get("token"):
            raise NotHeld(f"lease {lease_id} is {lease['state']}; only a GRANTED one can be used")
        if lease["bench"] != bench:
            raise NotHeld(f"lease {lease_id} is of bench {lease['bench']}, not of {bench}")
        return lease
    mine = holder or default_holder()
    held = [lease for lease in lab.leases("GRANTED") if lease["bench"] == bench]
    for candidate in held:
        if candidate["holder"] == mine:
            lease = lab.lease(candidate["id"])
            if lease["state"] == "GRANTED" and lease.get("token"):
                return lease
    by = f"it is leased by {', '.join(lease['holder'] for lease in held)}" if held else "nobody holds it"
    raise NotHeld(
        f"you ({mine}) hold no lease of bench {bench}: {by}. Lease it with: labctl lease acquire -l name={bench}"
    )


@contextlib.contextmanager
def held_bench(
    bench: str, *, url: str | None = None, lease_id: str | None = None, holder: str | None = None
) -> Iterator[tuple[str, str]]:
    """The agent's address and the token of a lease that is held, which is kept alive within the context.

    The lease is ``lease_id`` (or LABD_LEASE), else the one that ``holder`` (or LABD_HOLDER, or user@host) holds, asked
    from the labd at ``url`` (or LABD_URL). Raises LabError.
    """
    with LabClient(url or os.environ.get("LABD_URL") or DEFAULT_URL) as lab:
        lease = held_lease(lab, bench, lease_id=lease_id or os.environ.get("LABD_LEASE"), holder=holder)
        with Heartbeats(lab, lease):
            yield lease["address"] or "", lease.get("token") or ""
