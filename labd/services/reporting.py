"""What a run's runner is given, and what it reports."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from labd.model.environment import Given
from labd.model.lease import Lease
from labd.model.masking import Mask
from labd.model.run import CaseCounts, LogLevel, LogLine, Run, RunInput, RunState
from labd.model.source import is_commit
from labd.services.core import Core
from labd.services.environments import Environments
from labd.services.errors import Conflict, FieldError, Forbidden, Invalid, NotFound, TooLarge, Unauthenticated
from labd.services.leasing import BenchAccess
from labd.services.limits import RunLimits
from labd.services.running import Running, RunView, bounded_reason, require_run
from labd.store.unit import Unit
from labd.store.units.runs import StoredResult

_LINES_BEFORE = 256
"""Stored lines in which the beginning of a secret is looked for when its end comes."""
_VERDICTS = {"passed": RunState.PASSED, "failed": RunState.FAILED, "error": RunState.ERROR}


@dataclass(frozen=True, slots=True)
class AssignmentView:
    """What a runner needs."""

    run: Run
    inputs: RunInput
    data_files: dict[str, int]
    """Sizes in bytes, by path relative to the script."""
    lease: Lease
    benches: list[tuple[BenchAccess, dict[str, str]]]
    """Each with its labels."""
    limits: RunLimits
    given: Given


@dataclass(frozen=True, slots=True)
class NewLine:
    """A log line as a runner sends it; ``time`` in seconds since the Unix epoch."""

    time: float
    level: LogLevel
    text: str


class Reporting:
    """The use cases of runners: each is let in by the token of its attempt."""

    def __init__(self, core: Core, environments: Environments, running: Running) -> None:
        self._core = core
        self._environments = environments
        self._running = running

    def authorise(self, run_id: str, token: str | None) -> int:
        """Of which attempt of the run the runner is. Raises Unauthenticated without a token, and Forbidden with one
        that is not this run's, or that of a former attempt.
        """
        if token is None:
            raise Unauthenticated("this route is for the run's runner: send its token as Authorization: Bearer")
        attempt = self.attempt_of(run_id, token)
        if attempt is None:
            raise Forbidden(f"the token is not the one of run {run_id!r}")
        return attempt

    def attempt_of(self, run_id: str, token: str) -> int | None:
        """The attempt whose runner has this token; None: no runner of this run. Raises Forbidden for a former one."""
        with self._core.view() as unit:
            run = unit.run(run_id)
        present = 1 if run is None else run.attempt
        signer = self._core.signer
        if signer.is_run_token(run_id, token, present):
            return present
        former = next((one for one in range(1, present) if signer.is_run_token(run_id, token, one)), None)
        if former is not None:
            raise _over(run_id, former)
        return None

    def assignment(self, run_id: str, attempt: int = 1) -> AssignmentView:
        """What to execute, and where. Raises NotFound, Forbidden for a runner of a former attempt, and Conflict unless
        RUNNING.
        """
        given = self._environments.give(run_id)
        with self._core.view() as unit:
            run = _at(unit, run_id, attempt)
            lease = unit.lease(run.lease_id)
            inputs = unit.inputs(run_id)
            if run.state is not RunState.RUNNING or lease is None or inputs is None:
                raise Conflict(f"run {run_id} is {run.state}: only a RUNNING one has an assignment")
            if not lease.state.held:
                raise Conflict(f"run {run_id} holds no bench: its lease is {lease.state}")
            benches = []
            for one in lease.benches:
                bench = unit.bench(one.bench)
                if bench is None:
                    raise Conflict(f"run {run_id} holds bench {one.bench}, which labd does not know any more")
                access = BenchAccess(one, bench.address, self._core.signer.lease_token(lease, one))
                benches.append((access, bench.selectable_labels))
            return AssignmentView(run, inputs, unit.data_files(run_id), lease, benches, self._core.limits, given)

    def data_file(self, run_id: str, path: str) -> bytes:
        """What is in a data file that came with the run. Raises NotFound."""
        with self._core.view() as unit:
            content = unit.data_file(require_run(unit, run_id).id, path)
        if content is None:
            raise NotFound(f"no data file {path!r} came with run {run_id}")
        return content

    def record_commit(self, run_id: str, commit: str, attempt: int = 1) -> RunView:
        """Records what the run's Git revision was when its runner fetched it.

        Raises NotFound, Invalid for what is no commit, Forbidden for a runner of a former attempt, and Conflict when
        the run takes its script from elsewhere, is over, or ran another commit before.
        """
        if not is_commit(commit):
            message = "expected all 40 or 64 hexadecimal digits of a commit"
            raise Invalid(f"commit {commit!r}: {message}", FieldError("commit", commit, message))
        with self._core.transaction() as ledger:
            run = _at(ledger.unit, run_id, attempt)
            if run.git is None:
                raise Conflict(f"the script of run {run_id} came with it, from no Git repository")
            if run.commit is not None and run.commit != commit:
                raise Conflict(f"run {run_id} runs commit {run.commit}, not {commit}")
            if run.commit is None:
                if run.state is not RunState.RUNNING:
                    raise Conflict(f"run {run_id} is {run.state}: it fetches nothing")
                run = replace(run, commit=commit)
                ledger.unit.save_run(run)
                ledger.effects.runs.add(run_id)
            return self._running.view(ledger.unit, run)

    def append_log(self, run_id: str, first_seq: int, lines: Sequence[NewLine], attempt: int = 1) -> int:
        """Stores lines; those that are stored already are ignored. Returns the last stored sequence number.

        Raises NotFound, Forbidden for a runner of a former attempt, Conflict on a gap or when the run is over, and
        TooLarge beyond the run's bound.
        """
        mask = self._environments.mask(run_id)
        with self._core.transaction() as ledger:
            run = _at(ledger.unit, run_id, attempt)
            last = run.log_lines
            if first_seq > last + 1:
                raise Conflict(
                    f"the log of run {run_id} ends at {last}: the next line must be {last + 1}, not {first_seq}"
                )
            fresh = [
                LogLine(seq, line.time, line.level, line.text)
                for seq, line in enumerate(lines, start=first_seq)
                if seq > last
            ]
            if not fresh:
                return last
            if run.state is not RunState.RUNNING:
                raise Conflict(f"run {run_id} is {run.state}: its log is closed at line {last}")
            if mask:
                fresh = _masked(ledger.unit, run, fresh, mask)
            size = sum(len(line.text.encode("utf-8")) for line in fresh)
            most = self._core.limits.stored_output_bytes
            if run.log_bytes + size > most:
                raise TooLarge(f"the log of run {run_id} would exceed {most} bytes")
            ledger.unit.add_lines(run_id, fresh)
            ledger.unit.save_run(replace(run, log_lines=fresh[-1].seq, log_bytes=run.log_bytes + size))
            ledger.effects.logs.add(run_id)
            return fresh[-1].seq

    def put_result(self, run_id: str, document: dict[str, Any], junit: str, attempt: int = 1) -> RunView:
        """Ends a RUNNING run with its runner's verdict and frees the bench. The same result twice is one result.

        ``document`` is a valid result document. Raises NotFound, Forbidden for a runner of a former attempt, and
        Conflict when the run is over otherwise.
        """
        mask = self._environments.mask(run_id)
        document, junit = mask.document(document), mask.text(junit)
        text = json.dumps(document)
        with self._core.transaction() as ledger:
            run = _at(ledger.unit, run_id, attempt)
            known = ledger.unit.result(run_id)
            if known is not None:
                if known != StoredResult(text, junit):
                    raise Conflict(f"run {run_id} has another result already")
                return self._running.view(ledger.unit, run)
            if run.state is not RunState.RUNNING:
                raise Conflict(f"run {run_id} is {run.state}: it takes no result")
            ledger.unit.add_result(run_id, StoredResult(text, junit))
            run = ledger.end_run(run, _VERDICTS[document["verdict"]], _reason(document), _counts(document))
            return self._running.view(ledger.unit, run)


def _counts(document: dict[str, Any]) -> CaseCounts:
    verdicts = [case["verdict"] for case in document["cases"]]
    return CaseCounts(verdicts.count("passed"), verdicts.count("failed"), verdicts.count("error"))


def _reason(document: dict[str, Any]) -> str:
    if document["verdict"] == "passed":
        return ""
    failures = [document["failure"], *(case["failure"] for case in document["cases"])]
    messages = [document["reason"], *(failure["message"] for failure in failures if failure)]
    return bounded_reason(
        next((message for message in messages if message), f"the runner reported {document['verdict']}")
    )


def _masked(unit: Unit, run: Run, fresh: list[LogLine], mask: Mask) -> list[LogLine]:
    """The lines without secrets; of one that was written in pieces, the pieces in stored lines go too."""
    looked_at = min(_LINES_BEFORE, mask.reach, run.log_lines)
    stored = unit.lines(run.id, run.log_lines - looked_at, looked_at)
    before, texts = mask.lines([line.text for line in fresh], [line.text for line in stored])
    for line, text in zip(stored, before, strict=True):
        if text != line.text:
            unit.replace_line(run.id, replace(line, text=text))
    return [replace(line, text=text) for line, text in zip(fresh, texts, strict=True)]


def _at(unit: Unit, run_id: str, attempt: int) -> Run:
    """The run, for the runner of that attempt. Raises NotFound and Forbidden."""
    run = require_run(unit, run_id)
    if run.attempt != attempt:
        raise _over(run_id, attempt)
    return run


def _over(run_id: str, attempt: int) -> Forbidden:
    return Forbidden(f"attempt {attempt} of the run is over: run {run_id} takes nothing from its runner any more")
