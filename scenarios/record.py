"""What a run did: its cases, their steps, and how they ended. Pure but for the clock it is given."""

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

from labd.client.types import CaseResult, Failure, Frame, Result, Step

Verdict = Literal["passed", "failed", "error"]

FIRST_STEPS = 200
"""Steps kept from the start of a case ..."""
LAST_STEPS = 300
"""... and from its end; what lies between is counted."""
CASES = 10_000
NAME_LENGTH = 200
STEP_LENGTH = 400
MESSAGE_LENGTH = 16_000
DETAIL_BYTES = 3 * 2**20
"""Cases that ended with all their details, as JSON. labd takes results of 16 MiB, the same in JUnit XML included; cases
beyond this keep name, verdict and the start of their failure."""
_BRIEF_LENGTH = 120


class _OpenCase:
    def __init__(self, name: str, started: float) -> None:
        self.name = name
        self.started = started
        self._first: list[Step] = []
        self._last: deque[Step] = deque(maxlen=LAST_STEPS)
        self._dropped = 0

    def step(self, at_s: float, text: str) -> None:
        step = Step(at_s=round(at_s, 6), text=shorten(text, STEP_LENGTH))
        if len(self._first) < FIRST_STEPS:
            self._first.append(step)
            return
        self._dropped += len(self._last) == LAST_STEPS
        self._last.append(step)

    def steps(self) -> list[Step]:
        if not self._dropped:
            return [*self._first, *self._last]
        gap = Step(at_s=self._first[-1]["at_s"], text=f"… {self._dropped} steps left out …")
        return [*self._first, gap, *self._last]


class Record:
    """Collects a run's cases. Thread-safe: the watchdog closes it while the script may still be running."""

    def __init__(
        self,
        name: str,
        benches: list[str],
        clock: Callable[[], float] = time.monotonic,
        *,
        may_test_nothing: bool = False,
    ) -> None:
        """``may_test_nothing``: it is no test, and passes also when it did nothing."""
        self._may_test_nothing = may_test_nothing
        self._name = name
        self._benches = benches
        self._clock = clock
        self._lock = threading.Lock()
        self._started = clock()
        self._started_at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._cases: list[CaseResult] = []
        self._open: _OpenCase | None = None
        self._outcome: tuple[Verdict, Failure | None] | None = None
        self._activity = 0
        self._detail_bytes = 0

    @property
    def case(self) -> str | None:
        """The name of the running case."""
        with self._lock:
            return self._open.name if self._open else None

    def start_case(self, name: str) -> None:
        """Raises ValueError when a case is running, and when there are too many."""
        with self._lock:
            if self._open:
                raise ValueError(f"test.case inside test.case: '{self._open.name}' has not ended yet")
            if len(self._cases) >= CASES:
                raise ValueError(f"a scenario may have {CASES} cases, not more")
            self._open = _OpenCase(shorten(name, NAME_LENGTH), self._clock())

    def step(self, text: str) -> None:
        """Something that the running case did now. Outside of cases it only counts as activity."""
        with self._lock:
            self._activity += 1
            if self._open and self._outcome is None:
                self._open.step(self._clock() - self._open.started, text)

    def check(self) -> None:
        """A check of the script was evaluated."""
        with self._lock:
            self._activity += 1

    def end_case(self, verdict: Verdict, failure: Failure | None = None, frames: list[Frame] | None = None) -> None:
        """Ends the running case, if one is running."""
        with self._lock:
            if self._outcome is None:
                self._end_case(verdict, failure, frames)

    def finish(self, verdict: Verdict, failure: Failure | None = None, frames: list[Frame] | None = None) -> bool:
        """Ends the run; a case that is still running ends the same way. The first call decides, and returns True.

        A script that ran to its end without a case, a check or an exchange with the bench has tested nothing, and
        that is an error: it would stay green for ever, whatever the ECU does.
        """
        with self._lock:
            if self._outcome is not None:
                return False
            if verdict != "passed":
                self._end_case(verdict, failure, frames)
            elif not (self._cases or self._activity or self._may_test_nothing):
                verdict = "error"
                message = "nothing was tested: the scenario has no test.case, no check and no exchange with the bench"
                failure = Failure(message=message, file=None, line=None, traceback="")
            self._outcome = (verdict, failure)
            self._duration_s = self._clock() - self._started
            return True

    def result(self, log_lines: int, log_lines_dropped: int) -> Result:
        """The result document; `finish` was called before."""
        with self._lock:
            if self._outcome is None:
                raise RuntimeError("the run has not finished yet")
            verdict, failure = self._outcome
            verdicts = {verdict, *(case["verdict"] for case in self._cases)}
            worst: Verdict = "error" if "error" in verdicts else "failed" if "failed" in verdicts else "passed"
            return Result(
                version=1,
                name=self._name,
                verdict=worst,
                reason=_reason(worst, failure, self._cases),
                failure=failure,
                benches=self._benches,
                started_at=self._started_at,
                duration_s=round(self._duration_s, 6),
                cases=list(self._cases),
                log_lines=log_lines,
                log_lines_dropped=log_lines_dropped,
            )

    def _end_case(self, verdict: Verdict, failure: Failure | None, frames: list[Frame] | None) -> None:
        if self._open is None:
            return
        case = CaseResult(
            name=self._open.name,
            verdict=verdict,
            duration_s=round(self._clock() - self._open.started, 6),
            steps=self._open.steps(),
            failure=failure,
            frames=frames or [],
        )
        size = len(json.dumps(case))
        if self._detail_bytes + size <= DETAIL_BYTES:
            self._detail_bytes += size
        else:
            case = _brief(case)
        self._cases.append(case)
        self._open = None


def without_details(result: Result, message: str) -> Result:
    """The same result as an error with that message, and without its cases: nobody is to take it for the whole."""
    failure = Failure(message=message, file=None, line=None, traceback="")
    return {**result, "verdict": "error", "reason": shorten(message, 500), "failure": failure, "cases": []}


def _brief(case: CaseResult) -> CaseResult:
    left_out = f"… {len(case['steps'])} steps and {len(case['frames'])} frames left out: the result is full …"
    failure = case["failure"]
    if failure is not None:
        failure = {**failure, "message": shorten(failure["message"], _BRIEF_LENGTH), "traceback": ""}
    return {**case, "steps": [Step(at_s=0.0, text=left_out)], "failure": failure, "frames": []}


def shorten(text: str, limit: int) -> str:
    """At most ``limit`` characters; a cut is visible."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def place(failure: Failure) -> str:
    """The message behind its file:line."""
    where = f"{failure['file']}:{failure['line']}: " if failure["file"] else ""
    return f"{where}{failure['message']}"


def _reason(worst: Verdict, failure: Failure | None, cases: list[CaseResult]) -> str:
    """One line: the worst thing that happened first."""
    if worst == "passed":
        return ""
    bad = [case for case in cases if case["verdict"] == worst]
    if failure is not None and (worst == "error" or not bad):
        return shorten(" ".join(place(failure).split()), 500)
    if not bad:
        return worst
    first = bad[0]
    said = place(first["failure"]) if first["failure"] else worst
    others = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
    return shorten(" ".join(f"{first['name']}: {said}".split()), 480) + others
