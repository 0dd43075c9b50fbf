"""The lab at one moment, as `labctl top` shows it: benches, queue and runs, each as rows of text."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labd.cli.output import duration as duration_text
from labd.cli.output import elapsed, parse_time

if TYPE_CHECKING:
    from datetime import datetime

    from labd.client import Bench, LabClient, Lease, Run

LIVE = ("GRANTED", "ACTIVE", "ENDING")
RUNS = 20
"""Finished runs that are asked for."""
_LEAST_ROWS = 3
"""Of each part, however small the terminal."""
_OVERHEAD = 3
"""Lines of a part beside its rows: title, headings, and a line that says what was left out, or a gap."""


@dataclass(frozen=True, slots=True)
class Lab:
    """What labd says."""

    benches: "Sequence[Bench]"
    leases: "Sequence[Lease]"
    """Those that have benches, and those that wait, in the queue's order."""
    runs: "Sequence[Run]"
    """PENDING and RUNNING ones, and the newest others."""


@dataclass(frozen=True, slots=True)
class Part:
    """A table of the picture."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    left_out: int = 0
    """Rows for which there is no room."""


def look(lab: "LabClient") -> Lab:
    """Asks labd. Raises LabError."""
    leases = lab.leases("QUEUED", *LIVE)
    runs = [
        *lab.runs("RUNNING", "PENDING", limit=None),
        *lab.runs("PASSED", "FAILED", "ERROR", "CANCELLED", limit=RUNS),
    ]
    return Lab(lab.benches(), leases, runs)


def headline(lab: Lab) -> str:
    """How many of what, on one line."""
    benches = Counter(str(one["state"]) for one in lab.benches)
    runs = Counter(str(one["state"]) for one in lab.runs)
    count = len(lab.benches)
    told = [
        f"{count} {'bench' if count == 1 else 'benches'} ({_counted(benches)})" if count else "no benches",
        f"{sum(one['state'] == 'QUEUED' and not one['starts_at'] for one in lab.leases)} waiting",
        f"{runs['RUNNING']} running",
    ]
    return " · ".join(told)


def parts(lab: Lab, now: "datetime") -> list[Part]:
    """Benches, queue and runs."""
    leases = {one["id"]: one for one in lab.leases}
    names = {one["id"]: one["name"] for one in lab.runs}
    benches = [_bench_row(one, leases.get(one["lease_id"] or ""), names, now) for one in lab.benches]
    waiting = [one for one in lab.leases if one["state"] == "QUEUED"]
    return [
        Part("benches", ("bench", "state", "holder", "doing", "left", "why"), benches),
        Part(
            "queue", ("", "holder", "team", "class", "waits", "wants", "why"), [_queue_row(one, now) for one in waiting]
        ),
        Part(
            "runs", ("run", "name", "state", "bench", "took", "holder", "reason"), [_run_row(one) for one in lab.runs]
        ),
    ]


def fitted(whole: Sequence[Part], lines: int) -> list[Part]:
    """The parts with as many rows as go onto a screen; what is not needed by one is left to the others."""
    room = lines - _OVERHEAD * len(whole)
    fair = [0 for _ in whole]
    open_parts = [number for number, part in enumerate(whole) if part.rows]
    while room > 0 and open_parts:
        for number in list(open_parts):
            if fair[number] == len(whole[number].rows):
                open_parts.remove(number)
            elif room > 0:
                fair[number] += 1
                room -= 1
    shown = [max(count, min(_LEAST_ROWS, len(part.rows))) for part, count in zip(whole, fair, strict=True)]
    return [
        Part(part.title, part.headings, part.rows[:count], len(part.rows) - count)
        for part, count in zip(whole, shown, strict=True)
    ]


def _bench_row(bench: "Bench", lease: "Lease | None", names: dict[str, str], now: "datetime") -> tuple[str, ...]:
    doing = left = ""
    if lease is not None:
        run = lease["run_id"]
        doing = f"run {names.get(run, run)}" if run else "held" if lease["held"] else "leased"
        left = _until(lease["revoke_at"] or lease["idle_release_at"] or lease["expires_at"], now)
    state = str(bench["state"]) if bench["health"] in ("healthy", "offline") else str(bench["health"])
    drained = f"drained: {bench['drain_reason']}" if bench["draining"] else ""
    why = "; ".join(filter(None, (bench["health_reason"], drained, lease["revoke_reason"] if lease else "")))
    return bench["name"], state, bench["holder"] or "", doing, left, why


def _queue_row(lease: "Lease", now: "datetime") -> tuple[str, ...]:
    booked = lease["starts_at"]
    place = "booked" if booked else str(lease["position"] or "")
    waits = f"starts in {_until(booked, now)}" if booked else elapsed(lease["created_at"], None)
    wants = lease["selector"] or "any bench"
    return place, lease["holder"], lease["team"], lease["priority"], waits, wants, lease["obstacle"] or ""


def _run_row(run: "Run") -> tuple[str, ...]:
    took = elapsed(run["started_at"], run["ended_at"])
    reason = run["reason"] or run["obstacle"] or ""
    return run["id"], run["name"], run["state"], ", ".join(run["benches"]), took, run["holder"], reason


def _until(moment: str | None, now: "datetime") -> str:
    return duration_text(max(0.0, (parse_time(moment) - now).total_seconds())) if moment else ""


def _counted(counts: "Counter[str]") -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
