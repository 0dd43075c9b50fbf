"""TestRuns and runs as cluster and labd tell them."""

from typing import Any, cast

from labd.client import Run
from labd.operator.testrun import FINALIZER, TestRun

CREATED = "2026-11-22T05:00:00Z"
UID = "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d"


def a_testrun(status: dict[str, Any] | None = None, *, held: bool = True, deleted: str | None = None) -> TestRun:
    metadata: dict[str, Any] = {
        "namespace": "ci",
        "name": "smoke",
        "uid": UID,
        "resourceVersion": "7",
        "generation": 1,
        "creationTimestamp": CREATED,
        "finalizers": [FINALIZER] if held else [],
    }
    if deleted:
        metadata["deletionTimestamp"] = deleted
    return TestRun(
        {"metadata": metadata, "spec": {"appName": "ecm", "script": "print(1)"}, "status": status or {}},
    )


def a_run(state: str = "PENDING", **more: Any) -> Run:
    ended = state not in ("PENDING", "RUNNING")
    run = {
        "id": "r-1",
        "name": "ci/smoke [testrun 00000000-9b1deb4d]",
        "state": state,
        "reason": "",
        "benches": [] if state == "PENDING" else ["hil-3"],
        "obstacle": None,
        "cases": {"passed": 2, "failed": 0, "error": 0} if state == "PASSED" else None,
        "started_at": None if state == "PENDING" else "2026-11-22T05:00:10.5Z",
        "ended_at": "2026-11-22T05:01:22.6Z" if ended else None,
    }
    return cast(Run, run | more)
