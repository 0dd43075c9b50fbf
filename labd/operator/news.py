"""What happens to a TestRun, as Kubernetes Events tell it. Pure: no I/O, no clock."""

from collections.abc import Iterator
from dataclasses import dataclass

from labd.operator.status import SYNCED, Status
from labd.operator.testrun import FINISHED, TestRun, condition, digits


@dataclass(frozen=True, slots=True)
class News:
    """One Event."""

    reason: str
    """In one word of CamelCase."""
    message: str
    warning: bool = False
    place: str = "end"
    """Tells it from others of the same reason. By name, which kubectl goes by within a second, they are in order."""

    def name(self, test: TestRun) -> str:
        """The Event's: the same whoever tells it, and however often, so that it is in the cluster once."""
        return f"{test.name}.{digits(test.uid)}.{self.place}.{self.reason.lower()}"


def news(test: TestRun, status: Status) -> Iterator[News]:
    """What there is to tell when the TestRun's status becomes ``status``."""
    old = test.status
    run_id, attempt = status.get("runID"), status.get("attempt") or 1
    if run_id is not None and run_id != old.get("runID"):
        wait = f": {status['reason']}" if status.get("state") == "Pending" and "reason" in status else ""
        yield News("Scheduled", f"labd has it as run {run_id}{wait}", place="0")
    former = old.get("attempt") or 1
    if attempt > former:
        text = status.get("reason") or f"attempt {former} was lost"
        yield News("Retried", text, warning=True, place=str(attempt))
    begun = status.get("state") != "Pending" and "startTime" in status
    if begun and (old.get("state", "Pending") == "Pending" or attempt > former):
        who = f"attempt {attempt}" if attempt > 1 else "it"
        yield News("Started", f"{who} runs on {status.get('bench', 'no bench')}", place=str(attempt))
    synced = condition(status, SYNCED)
    if synced is not None and synced["status"] == "False" and not _was(test, SYNCED, "False"):
        since = "".join(digit for digit in synced["lastTransitionTime"] if digit.isdecimal())
        yield News(synced["reason"], synced["message"], warning=True, place=since)
    finished = condition(status, FINISHED)
    if finished is not None and finished["status"] == "True" and not _was(test, FINISHED, "True"):
        took = f"after {status['duration']}" if "duration" in status else ""
        commit = f"commit {status['commit']}" if "commit" in status else ""
        parts = (status.get("result"), status.get("reason"), took, commit)
        text = ", ".join(part for part in parts if part)
        yield News(finished["reason"], text or str(status["state"]), warning=finished["reason"] != "Passed")


def _was(test: TestRun, kind: str, value: str) -> bool:
    former = test.condition(kind)
    return former is not None and former["status"] == value
