"""The run's lease: kept alive, and its loss noticed."""

import threading
from typing import Any, cast

import pytest

from labd.client import LabError, LabUnreachable, ProblemError
from labd.client.types import Lease
from scenarios.lease import Heartbeat


class FakeLab:
    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.beats = 0
        self.changed = threading.Condition()

    def heartbeat(self, lease_id: str) -> Lease:
        assert lease_id == "lease-1"
        with self.changed:
            self.beats += 1
            self.changed.notify_all()
            answer = self.answers.pop(0) if self.answers else {"state": "GRANTED", "end_reason": None}
        if isinstance(answer, LabError):
            raise answer
        return cast(Lease, answer)

    def wait_for(self, beats: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.beats >= beats, 10)


def lost_reason(lab: FakeLab) -> str:
    told: list[str] = []
    done = threading.Event()

    def lost(reason: str) -> None:
        told.append(reason)
        done.set()

    heartbeat = Heartbeat(lab, "lease-1", 0.15, lost)
    heartbeat.start()
    assert done.wait(10)
    beats = lab.beats
    heartbeat.close()
    assert lab.beats == beats
    assert len(told) == 1
    return told[0]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"state": "ENDED", "end_reason": "heartbeat_lost"}, "heartbeat lost"),
        ({"state": "ENDED", "end_reason": None}, "ended"),
        (ProblemError(404, "Not Found", "no lease lease-1"), "no lease lease-1"),
    ],
)
def test_a_lost_lease_is_told_once(answer: Any, reason: str) -> None:
    assert lost_reason(FakeLab({"state": "GRANTED"}, answer)) == f"the lease of the bench was lost: {reason}"


def test_a_labd_that_is_away_is_no_lost_lease() -> None:
    lab = FakeLab(
        LabUnreachable("http://x", "refused"),
        ProblemError(503, "Service Unavailable"),
        LabError("strange"),
    )
    told: list[str] = []
    heartbeat = Heartbeat(lab, "lease-1", 0.15, told.append)
    heartbeat.start()
    lab.wait_for(5)
    heartbeat.close()
    assert told == []
