"""What a TestRun's status is to say. Pure: no I/O, no clock."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labd.client import Run
from labd.operator.testrun import FINISHED, TestRun, duration_text, moment, seconds

SYNCED = "Synced"
"""The condition that tells whether the operator and labd could talk about the TestRun."""
REASON_LENGTH = 1024
BENCH_LENGTH = 4096
_STATES = {
    "PENDING": "Pending",
    "RUNNING": "Running",
    "PASSED": "Passed",
    "FAILED": "Failed",
    "ERROR": "Error",
    "CANCELLED": "Error",
}
_FINAL = ("PASSED", "FAILED", "ERROR", "CANCELLED")

Status = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why labd cannot be asked at present."""

    word: str
    """In one word of CamelCase, as conditions have their reasons."""
    message: str


def mirrored(test: TestRun, run: Run, log: str, now: float) -> Status:
    """The status of a TestRun whose run labd has; ``log`` is the address of the run's log."""
    final = run["state"] in _FINAL
    status: Status = {
        "state": _STATES[run["state"]],
        "reason": _reason(run)[:REASON_LENGTH],
        "result": _result(run),
        "runID": run["id"],
        "bench": ", ".join(run["benches"])[:BENCH_LENGTH] or test.status.get("bench", ""),
        "startTime": run["started_at"],
        "completionTime": run["ended_at"],
        "duration": _duration(run),
        "log": log,
        "commit": run.get("commit"),
        "attempt": len(run.get("attempts", ())) or None,
    }
    said = ", ".join(part for part in (status["result"], status["reason"]) if part) if final else ""
    finished = (FINISHED, "True" if final else "False", run["state"].capitalize(), said)
    return _with(test, status, now, (SYNCED, "True", "Synced", ""), finished)


def waiting(test: TestRun, trouble: Trouble, now: float) -> Status:
    """The status while labd cannot be asked: as it was, and why it does not change."""
    status = _kept(test) | {"state": test.status.get("state", "Pending")}
    if test.run_id is None:
        status["reason"] = trouble.message[:REASON_LENGTH]
    return _with(test, status, now, (SYNCED, "False", trouble.word, trouble.message))


def ended_without(test: TestRun, word: str, message: str, now: float) -> Status:
    """The status of a TestRun that ends in Error without a run's verdict: labd refused it, or lost its run."""
    status = _kept(test) | {"state": "Error", "reason": message[:REASON_LENGTH], "completionTime": moment(now)}
    return _with(test, status, now, (SYNCED, "True", "Synced", ""), (FINISHED, "True", word, message))


def patch(test: TestRun, status: Status) -> Status | None:
    """What to write so that the TestRun's status becomes ``status`` (a merge patch, RFC 7386); None: nothing."""
    old = test.status
    changed = {name: value for name, value in status.items() if old.get(name) != value}
    gone = {name: None for name in old if name not in status}
    return changed | gone or None


def _kept(test: TestRun) -> Status:
    return {name: value for name, value in test.status.items() if name != "conditions"}


def _with(test: TestRun, status: Status, now: float, *said: tuple[str, str, str, str]) -> Status:
    """The status with what was said of some conditions; others stay."""
    generation = test.metadata.get("generation", 1)
    conditions = {one["type"]: dict(one) for one in test.status.get("conditions", ())}
    for kind, value, word, message in said:
        former = conditions.get(kind)
        since = former["lastTransitionTime"] if former and former["status"] == value else moment(now)
        conditions[kind] = {
            "type": kind,
            "status": value,
            "reason": word,
            "message": message,
            "observedGeneration": generation,
            "lastTransitionTime": since,
        }
    status["conditions"] = list(conditions.values())
    status["observedGeneration"] = generation
    return {name: value for name, value in status.items() if value not in (None, "")}


def _reason(run: Run) -> str:
    if run["state"] == "CANCELLED":
        return f"Cancelled: {run['reason']}".removesuffix(": ")
    if run["state"] in ("PENDING", "RUNNING"):
        return "; ".join(part for part in (_lost(run), run["obstacle"]) if part)
    cause = run.get("cause")
    return f"{cause}: {run['reason']}" if cause and not run["reason"].startswith(str(cause)) else run["reason"]


def _lost(run: Run) -> str:
    """Why there is another attempt than the first; empty during the first."""
    former = run.get("attempts", ())[-2:-1]
    return "".join(f"attempt {one['number']} was lost: {one['cause'] or one['reason']}" for one in former)


def _result(run: Run) -> str:
    counts: Mapping[str, Any] = run["cases"] or {}
    return ", ".join(f"{number} {word}" for word, number in counts.items() if number)


def _duration(run: Run) -> str:
    if run["started_at"] is None or run["ended_at"] is None:
        return ""
    return duration_text(seconds(run["ended_at"]) - seconds(run["started_at"]))
