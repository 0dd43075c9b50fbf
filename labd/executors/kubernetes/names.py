"""What labd's objects in a cluster are called, and how they are told from others'."""

from collections.abc import Mapping
from typing import Any

MANAGER_LABEL = "app.kubernetes.io/managed-by"
MANAGER = "labd"
LAB_LABEL = "labd.dev/lab"
RUN_LABEL = "labd.dev/run"
ATTEMPT_LABEL = "labd.dev/attempt"
RUNNER = "runner"
"""The container in which the scenario runs."""
SOURCE = "source"
"""The init container that fetches it from Git."""


def object_name(run_id: str, attempt: int) -> str:
    """Of the pod of an attempt, and of its ConfigMap and Secret."""
    return f"labd-{run_id}-{attempt}"


def labels(lab: str, run_id: str, attempt: int) -> dict[str, str]:
    """Of everything that belongs to an attempt."""
    return {MANAGER_LABEL: MANAGER, LAB_LABEL: lab, RUN_LABEL: run_id, ATTEMPT_LABEL: str(attempt)}


def selector(lab: str) -> str:
    """Of everything of a lab."""
    return f"{MANAGER_LABEL}={MANAGER},{LAB_LABEL}={lab}"


def is_of(found: Mapping[str, Any], lab: str, run_id: str, attempt: int) -> bool:
    """Whether the object is the attempt's, and not one that happens to have its name."""
    has = found["metadata"].get("labels") or {}
    return all(has.get(key) == value for key, value in labels(lab, run_id, attempt).items())


def run_of(found: Mapping[str, Any]) -> str:
    """The run whose object it is; empty when it is nobody's."""
    return str((found["metadata"].get("labels") or {}).get(RUN_LABEL, ""))


def attempt_of(found: Mapping[str, Any]) -> int:
    """The attempt whose object it is; 0 when it does not say."""
    text = str((found["metadata"].get("labels") or {}).get(ATTEMPT_LABEL, ""))
    return int(text) if text.isdecimal() else 0
