"""Holding a lease for as long as a command runs: wait for it, keep it alive, release it whatever happens."""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from labd.cli.exits import ExitCode, Failure
from labd.cli.output import one_line
from labd.cli.patience import LOOK_S, news, patiently
from labd.cli.progress import Progress
from labd.client import HELD, OVER, Heartbeats, LabClient, LabError, Lease, RevokeNotice, Run, end_text, part_of
from labd.client.heartbeats import BEATS_PER_TTL

if TYPE_CHECKING:
    from bench_agent.client import BenchClient

TTL_S = 30.0
"""How long a lease outlives the labctl that holds it."""


def wait_until_granted(lab: LabClient, lease: Lease, progress: Progress, timeout_s: float | None) -> Lease:
    """The lease once it is GRANTED, its tokens in it.

    Keeps the waiting lease alive meanwhile. Raises Failure when it ends instead, or is not granted within
    ``timeout_s``. The caller releases the lease.
    """
    lease_id = lease["id"]
    started = time.monotonic()
    beat_every_s = lease["ttl_s"] / BEATS_PER_TTL
    beat_at = started + beat_every_s
    while True:
        now = time.monotonic()
        if lease["state"] in OVER:
            raise Failure(f"lease {lease['id']} ended while it waited: {end_text(lease)}", ExitCode.REFUSED)
        if lease["state"] in HELD:
            return lease
        if lease["state"] == "QUEUED":
            progress.state(f"waiting for {in_words(lease['selector'])}: {waiting(lease)}")
        if timeout_s is not None and now - started >= timeout_s:
            raise Failure(
                f"{in_words(lease['selector'])} did not come free within {timeout_s:g} s ({waiting(lease)})",
                ExitCode.TIMEOUT,
            )
        if now >= beat_at:
            beat_at = now + beat_every_s
            lease = patiently(lambda: lab.heartbeat(lease_id))
        else:
            left_s = LOOK_S if timeout_s is None else started + timeout_s - now
            lease = news(lab.lease, lease_id, lease, min(left_s, beat_at - now))


@contextlib.contextmanager
def leased(
    lab: LabClient, bench: str, *, holder: str, priority: str, timeout_s: float | None, duration_s: float = 3600
) -> Iterator[tuple[Lease, Heartbeats]]:
    """A granted lease of one bench, kept alive within the context and released at its end."""
    selector = f"name={bench}"
    lease = lab.create_lease(selector=selector, holder=holder, priority=priority, duration_s=duration_s, ttl_s=TTL_S)
    with releasing(lab, lease), Progress(stdout_is_data=True) as progress:
        lease = wait_until_granted(lab, lease, progress, timeout_s)
        progress.done()
        with Heartbeats(lab, lease, warn) as heartbeats:
            yield lease, heartbeats


@contextlib.contextmanager
def borrowed(lab: LabClient, lease_id: str, bench: str) -> Iterator[tuple[Lease, Heartbeats]]:
    """A lease that somebody holds already, kept alive within the context, and then left to them.

    Raises Failure when it is not held, and NotHeld when it is not of ``bench``.
    """
    lease = lab.lease(lease_id)
    if lease["state"] not in HELD:
        why = end_text(lease) if lease["state"] in OVER else place(lease["position"])
        raise Failure(
            f"lease {lease_id} is {lease['state']} ({why}); only a GRANTED or ACTIVE one can be used", ExitCode.REFUSED
        )
    lease = part_of(lease, bench)
    with Heartbeats(lab, lease, warn) as heartbeats:
        yield lease, heartbeats


def using(
    lab: LabClient, bench: str, *, lease_id: str | None, holder: str, priority: str, timeout_s: float | None
) -> contextlib.AbstractContextManager[tuple[Lease, Heartbeats]]:
    """`borrowed` when ``lease_id`` is given, else `leased`."""
    if lease_id:
        return borrowed(lab, lease_id, bench)
    return leased(lab, bench, holder=holder, priority=priority, timeout_s=timeout_s)


def open_bench(lab: LabClient, lease: Lease, bench: str) -> "BenchClient":
    """The bench of a held lease, with its token, and over TLS where labd has it. Raises LabError."""
    from bench_agent.client import BenchClient

    tls = lab.agent_tls(lease["id"], bench)
    return BenchClient(lease["address"] or "", bench, lease.get("token") or "", tls=tls)


@contextlib.contextmanager
def releasing(lab: LabClient, lease: Lease) -> Iterator[threading.Event]:
    """Releases ``lease`` at the end, also on Ctrl-C and SIGTERM; a release that fails is told on stderr.

    Clear the event to keep the lease after all.
    """
    due = threading.Event()
    due.set()
    try:
        yield due
    finally:
        try:
            if due.is_set():
                lab.release(lease["id"])
        except LabError as error:
            click.echo(
                f"lease {lease['id']} is not released ({one_line(str(error))}); "
                f"it ends by itself within {lease['ttl_s']:g} s",
                err=True,
            )


def warn(notice: RevokeNotice) -> None:
    """Tells on stderr that labd wants the lease back."""
    click.echo(str(notice), err=True)


def in_words(selector: str) -> str:
    """What a lease asks for, in words; ``selector`` as labd writes it: ``2 × platform=meb + 1 × gateway``."""
    if " × " in selector:
        return f"benches, {selector}"
    return f"a bench with {selector}" if selector else "any bench"


def place(position: int | None) -> str:
    """A place in the queue, in words."""
    if position is None:
        return "not in the queue"
    return "next in the queue" if position == 1 else f"position {position} in the queue"


def waiting(one: Lease | Run) -> str:
    """How a lease or run waits, in words."""
    obstacle = one.get("obstacle")
    return place(one["position"]) + (f"; {obstacle}" if obstacle else "")
