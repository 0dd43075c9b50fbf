"""Finding a lease that is held already: for tools that use a bench and were given no token."""

import contextlib
import getpass
import os
import socket
from collections.abc import Callable, Iterator
from typing import NamedTuple

from bench_agent.protocol.identity import AgentTls
from labd.client.errors import LabError
from labd.client.heartbeats import Heartbeats
from labd.client.lab import DEFAULT_URL, LabClient
from labd.client.notices import RevokeNotice
from labd.client.types import HELD, Lease


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


def own_name(lab: LabClient) -> str:
    """Who one is to this labd: LABD_HOLDER, or whose token it is, or `default_holder` where labd asks nobody."""
    if not os.environ.get("LABD_HOLDER") and lab.signed_in and not lab.login_ways()["insecure"]:
        return lab.whoami()["name"]
    return default_holder()


def held_lease(lab: LabClient, bench: str, *, lease_id: str | None = None, holder: str | None = None) -> Lease:
    """The held lease of ``bench`` with its token, as `part_of` gives it: ``lease_id`` if given, or else the one that
    ``holder`` holds.

    ``holder`` is `own_name` unless given. Raises NotHeld, saying who holds the bench instead, or another
    LabError.
    """
    if lease_id:
        lease = lab.lease(lease_id)
        if lease["state"] not in HELD:
            raise NotHeld(f"lease {lease_id} is {lease['state']}; only a GRANTED or ACTIVE one can be used")
        return part_of(lease, bench)
    mine = holder or own_name(lab)
    held = [lease for lease in lab.leases(*HELD) if any(one["name"] == bench for one in lease["benches"])]
    for candidate in held:
        if candidate["holder"] == mine:
            lease = lab.lease(candidate["id"])
            if lease["state"] in HELD:
                return part_of(lease, bench)
    by = f"it is leased by {', '.join(lease['holder'] for lease in held)}" if held else "nobody holds it"
    raise NotHeld(
        f"you ({mine}) hold no lease of bench {bench}: {by}. Lease it with: labctl lease acquire -l name={bench}"
    )


def part_of(lease: Lease, bench: str) -> Lease:
    """The lease as if it were of this bench alone: ``bench``, ``address``, ``epoch`` and ``token`` are this one's.

    Raises NotHeld when it has no such bench.
    """
    for one in lease["benches"]:
        if one["name"] == bench:
            return {
                **lease,
                "bench": bench,
                "address": one["address"],
                "epoch": one["epoch"],
                "token": one.get("token"),
            }
    names = ", ".join(one["name"] for one in lease["benches"]) or "none yet"
    raise NotHeld(f"lease {lease['id']} is of bench {names}, not of {bench}")


class HeldBench(NamedTuple):
    """What `BenchClient` needs: the agent's address, the lease's token, and what proves the holder to the agent."""

    address: str
    token: str
    tls: AgentTls | None
    """None: labd and its agents run with ``--insecure``."""


@contextlib.contextmanager
def held_bench(
    bench: str,
    *,
    url: str | None = None,
    lease_id: str | None = None,
    holder: str | None = None,
    on_revoke: Callable[[RevokeNotice], None] = lambda _notice: None,
) -> Iterator[HeldBench]:
    """What it takes to use a bench whose lease is held; the lease is kept alive within the context.

    The lease is ``lease_id`` (or LABD_LEASE), else the one that ``holder`` (or LABD_HOLDER, or user@host) holds, asked
    from the labd at ``url`` (or LABD_URL). ``on_revoke`` is called from another thread when labd wants it back. Raises
    LabError.
    """
    with LabClient(url or os.environ.get("LABD_URL") or DEFAULT_URL) as lab:
        lease = held_lease(lab, bench, lease_id=lease_id or os.environ.get("LABD_LEASE"), holder=holder)
        with Heartbeats(lab, lease, on_revoke):
            tls = lab.agent_tls(lease["id"], bench)
            yield HeldBench(lease["address"] or "", lease.get("token") or "", tls)
