"""What is to be done about a TestRun next, judged from what it says alone. Pure: no I/O, no clock."""

from enum import Enum, auto

from labd.operator.testrun import TestRun


class Step(Enum):
    """One thing to do; the next pass sees what came of it, and does the next thing."""

    NOTHING = auto()
    HOLD = auto()
    """Add the finalizer, before labd hears of it: from now on there may be a run."""
    SUBMIT = auto()
    """Have labd make its run, or tell which one it made."""
    MIRROR = auto()
    """Bring the status up to date."""
    CANCEL = auto()
    """It is to go: cancel its run."""
    LET_GO = auto()
    """Remove the finalizer."""
    REMOVE = auto()
    """Delete it: it ended long enough ago."""


def next_step(test: TestRun, now: float, ttl_s: float) -> Step:
    """The step to take."""
    if test.finished_at is not None:
        if test.held:
            return Step.LET_GO
        return Step.REMOVE if test.deleted_at is None and now - test.finished_at >= ttl_s else Step.NOTHING
    if test.deleted_at is not None:
        return Step.CANCEL if test.held else Step.NOTHING
    if not test.held:
        return Step.HOLD
    return Step.SUBMIT if test.run_id is None else Step.MIRROR
