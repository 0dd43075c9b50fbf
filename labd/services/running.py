"""Runs: submitted, followed, cancelled, reported on."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from bench_agent.protocol import tracing
from labd.executors.base import Executor
from labd.model.environment import Given
from labd.model.filters import Filter
from labd.model.identity import DEFAULT_TEAM, Actor
from labd.model.lease import DEFAULT_PRIORITY, Lease, Wanted
from labd.model.masking import Mask
from labd.model.run import Attempt, CaseCounts, Cause, ExecutorName, LogLevel, LogLine, Run, RunInput, RunState
from labd.model.source import GitSource, is_commit
from labd.services.core import Core
from labd.services.environments import Environments
from labd.services.errors import Conflict, FieldError, Forbidden, Invalid, NotFound, TooLarge, Unauthenticated
from labd.services.identifiers import new_run_id
from labd.services.leasing import BenchAccess, new_lease
from labd.services.ledger import Ledger
from labd.services.limits import RunLimits
from labd.services.run_places import Place, place_of, require_source, unless_told
from labd.services.wishes import benches_wanted, obstacle_now, parse_wanted
from labd.store.unit import Unit
from labd.store.units.runs import StoredResult

HARD_END_MARGIN_S = 30.0
"""By how much the hard end of a run's lease lies behind the last moment at which labd ends the run."""
AVOIDED_MAX = 100
"""Benches that a run keeps away from."""
REASON_LENGTH = 16 * 1024
"""Longest reason that is kept, in characters."""


@dataclass(frozen=True, slots=True)
class RunView:
    """A run as people see it."""

    run: Run
    benches: tuple[str, ...]
    """Those of its lease."""
    position: int | None
    """In the queue, while PENDING."""
    obstacle: str | None
    """While PENDING: why no bench can come as things are, other than that all are in use."""
    attempts: tuple[tuple[Attempt, tuple[str, ...]], ...] = ()
    """All of them, the present one last, each with its benches."""


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


class Running:
    """The use cases of runs."""

    def __init__(self, core: Core, environments: Environments, executors: Mapping[ExecutorName, Executor]) -> None:
        self._core = core
        self._environments = environments
        self._executors = executors

    def create(
        self,
        actor: Actor,
        *,
        script: str | None = None,
        git: GitSource | None = None,
        name: str,
        files: dict[str, str],
        selector: str = "",
        benches: Sequence[Wanted] = (),
        same_site: bool = False,
        affinity: str = "",
        holder: str,
        team: str = DEFAULT_TEAM,
        timeout_s: float,
        priority: str = DEFAULT_PRIORITY,
        executor: ExecutorName | None = None,
        cluster: str | None = None,
        data_files: Mapping[str, bytes] | None = None,
        environment: str | None = None,
    ) -> RunView:
        """Queues a run; when its benches are free it is RUNNING at once. Raises Invalid.

        It executes ``script``, or what is in a repository, ``git``. Without an ``executor`` it lives where its team's
        runs do, or in a pod where a ``cluster`` or ``git`` takes one.
        """
        contents = [(path, _digest(content), content) for path, content in (data_files or {}).items()]
        wanted = parse_wanted(selector, benches)
        with self._core.transaction(actor) as ledger:
            executor = executor or unless_told(ledger.policy.team(team).executor, cluster, git)
            where = place_of(self._executors, executor, cluster, git)
            require_source(script, git, {**files, **(data_files or {})}, where.executor)
            lease = self._lease(
                ledger,
                timeout_s,
                where,
                wanted=wanted,
                same_site=same_site,
                affinity=affinity,
                holder=holder,
                team=team,
                priority=priority,
            )
            run = self._enter(ledger, lease, RunInput(script or "", files), name, timeout_s, where, environment)
            for path, digest, content in contents:
                ledger.unit.add_data_file(run.id, path, digest, content)
            ledger.schedule()
            return self._view(ledger.unit, _require(ledger.unit, run.id), fresh=True)

    def again(self, actor: Actor, run_id: str, holder: str) -> RunView:
        """Queues a run that does what a former one did. It keeps away from the benches on which that one, or those that
        it repeated, ended in ERROR, where others do as well. Raises NotFound; Invalid, as `create` does; and Conflict
        while the former one is not over.
        """
        with self._core.transaction(actor) as ledger:
            unit = ledger.unit
            former = _require(unit, run_id)
            lease, inputs, promised = unit.lease(former.lease_id), unit.inputs(run_id), unit.run_environment(run_id)
            if not former.state.final:
                raise Conflict(f"run {run_id} is {former.state}: it can be run again once it is over")
            if lease is None or inputs is None:
                raise Conflict(f"run {run_id} cannot be run again: what it executed is not kept any more")
            where = place_of(self._executors, former.executor, former.cluster, former.git)
            failed_on = [one.bench for one in lease.benches] if former.state is RunState.ERROR else []
            wish = self._lease(
                ledger,
                former.timeout_s,
                where,
                wanted=lease.wanted,
                same_site=lease.same_site,
                affinity=lease.affinity,
                holder=holder,
                team=former.team,
                priority=former.priority,
                avoid=tuple(dict.fromkeys((*lease.avoid, *failed_on)))[-AVOIDED_MAX:],
            )
            environment = None if promised is None else promised[1]
            run = self._enter(ledger, wish, inputs, former.name, former.timeout_s, where, environment, run_id)
            unit.copy_data_files(run_id, run.id)
            ledger.schedule()
            return self._view(unit, _require(unit, run.id), fresh=True)

    def _lease(self, ledger: Ledger, timeout_s: float, where: Place, **wish: Any) -> Lease:
        limits = self._core.limits
        duration_s = timeout_s + limits.grace_s + HARD_END_MARGIN_S
        if where.executor is ExecutorName.KUBERNETES:
            duration_s += limits.start_s
        wish |= {"run_id": new_run_id(), "cluster": where.cluster}
        return new_lease(ledger, duration_s=duration_s, ttl_s=limits.ttl_s, **wish)

    def _enter(
        self,
        ledger: Ledger,
        lease: Lease,
        inputs: RunInput,
        name: str,
        timeout_s: float,
        where: Place,
        environment: str | None,
        repeats: str | None = None,
    ) -> Run:
        if lease.run_id is None:
            raise ValueError(f"lease {lease.id} is of no run")
        run = Run(
            id=lease.run_id,
            seq=0,
            name=name,
            state=RunState.PENDING,
            reason="",
            selector=lease.selector,
            holder=lease.holder,
            team=lease.team,
            priority=lease.priority,
            timeout_s=timeout_s,
            lease_id=lease.id,
            created_at=ledger.now,
            executor=where.executor,
            cluster=where.cluster,
            traceparent=tracing.current(),
            git=where.git,
        )
        ledger.add_lease(lease)
        ledger.unit.add_run(run, inputs)
        if environment is not None:
            self._environments.promise(ledger, run.id, lease.team, environment)
        wished = {
            "name": name,
            "selector": lease.selector,
            "holder": lease.holder,
            "executor": where.executor,
            "lease": lease.id,
        }
        after = wished | {
            name: value
            for name, value in (
                ("repeats", repeats),
                ("cluster", where.cluster),
                ("git", None if where.git is None else asdict(where.git)),
            )
            if value is not None
        }
        ledger.audit("run.created", f"run/{run.id}", after=after, team=lease.team)
        return run

    def get(self, run_id: str) -> RunView:
        """One run. Raises NotFound."""
        with self._core.view() as unit:
            return self._view(unit, _require(unit, run_id))

    def newest(self, where: Filter, limit: int, before: int | None = None) -> list[RunView]:
        """Runs that arrived before number ``before``, newest first. Raises Invalid."""
        with self._core.view() as unit:
            runs = unit.newest_runs(where, limit, before, benches_wanted(unit, where.selector))
            return [self._view(unit, run) for run in runs]

    def cancel(self, actor: Actor, run_id: str, why: str = "") -> RunView:
        """Ends a run before its time; one that is over stays as it is. Raises NotFound.

        Somebody else than who it is for says why.
        """
        with self._core.transaction(actor) as ledger:
            run = _require(ledger.unit, run_id)
            if not run.state.final:
                ledger.audit("run.cancelled", f"run/{run_id}", before={"state": run.state}, why=why, team=run.team)
                own = actor.is_holder(run.holder, run.id)
                reason = "cancelled on request" if own else _bounded(f"cancelled by {actor.name}: {why}")
                run = ledger.end_run(run, RunState.CANCELLED, reason)
            return self._view(ledger.unit, run)

    def fail(self, run_id: str, reason: str, cause: Cause | None = None, attempt: int = 1) -> None:
        """Ends this attempt of a run, if it is at it: its runner, or labd, cannot go on. The run gets another where
        that may help, or else a verdict by the cause, which is ERROR where there is none.
        """
        with self._core.transaction() as ledger:
            run = ledger.unit.run(run_id)
            if run is not None and not run.state.final and run.attempt == attempt:
                run = ledger.end_attempt(run, _bounded(self._environments.mask(run_id).text(reason)), cause)
                if not run.state.final:
                    ledger.schedule()

    def fail_all(self, reason: str) -> None:
        """Ends every RUNNING run whose process is this labd's to see to as ERROR. Those in clusters go on."""
        peers = self._core.peers
        with self._core.transaction() as ledger:
            for run in ledger.unit.runs_in(RunState.RUNNING):
                if run.executor is ExecutorName.KUBERNETES:
                    continue  # the next labd finds them there
                if run.executor is ExecutorName.BENCH and peers.replica is not None:
                    continue  # its agent attaches to another labd, or to the next
                if peers.sees_to(run):
                    ledger.end_run(run, RunState.ERROR, reason)

    def lines(self, run_id: str, after: int, limit: int) -> tuple[list[LogLine], RunView]:
        """Log lines after sequence number ``after``, and the run, both as of one moment. Raises NotFound."""
        with self._core.view() as unit:
            run = _require(unit, run_id)
            return unit.lines(run_id, after, limit), self._view(unit, run)

    def result(self, run_id: str) -> StoredResult:
        """What the runner reported. Raises NotFound when there is no such run, or it reported nothing."""
        with self._core.view() as unit:
            run = _require(unit, run_id)
            result = unit.result(run_id)
        if result is None:
            raise NotFound(
                f"run {run_id} has no result: it is {run.state}" + (f" ({run.reason})" if run.reason else "")
            )
        return result

    def _view(self, unit: Unit, run: Run, *, fresh: bool = False) -> RunView:
        lease = unit.lease(run.lease_id)
        attempts = [*(unit.former_attempts(run.id) if run.attempt > 1 else []), run.present]
        tries = tuple(
            (one, _benches(lease if one.lease_id == run.lease_id else unit.lease(one.lease_id))) for one in attempts
        )
        if lease is None:
            return RunView(run, (), None, None, tries)
        obstacle = obstacle_now(unit, lease, self._core.presence.attached)
        return RunView(run, _benches(lease), self._core.places.of(unit, lease, fresh), obstacle, tries)

    def under_way(self, run_ids: Collection[str]) -> dict[str, int]:
        """Those that are RUNNING, each with its attempt."""
        with self._core.view() as unit:
            runs = [unit.run(run_id) for run_id in run_ids]
        return {run.id: run.attempt for run in runs if run is not None and run.state is RunState.RUNNING}

    def script(self, run: Run) -> str | None:
        """What a run in a cluster executes; None of others, whose runners fetch it themselves, or from Git."""
        if run.executor is not ExecutorName.KUBERNETES or run.git is not None:
            return None
        with self._core.view() as unit:
            inputs = unit.inputs(run.id)
        return None if inputs is None else inputs.script

    def pods_max(self, run: Run) -> int | None:
        """How many pods the policy lets there be in the cluster of a run; None: it says nothing of that."""
        if run.cluster is None:
            return None
        with self._core.view() as unit:
            limits = unit.policy().runs.limits
        whole = [one.runs for one in limits if one.cluster == run.cluster and one.team is None and one.selector is None]
        return min(whole, default=None)

    # For the runner of the run only

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
            content = unit.data_file(_require(unit, run_id).id, path)
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
            return self._view(ledger.unit, run)

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
                return self._view(ledger.unit, run)
            if run.state is not RunState.RUNNING:
                raise Conflict(f"run {run_id} is {run.state}: it takes no result")
            ledger.unit.add_result(run_id, StoredResult(text, junit))
            run = ledger.end_run(run, _VERDICTS[document["verdict"]], _reason(document), _counts(document))
            return self._view(ledger.unit, run)


_LINES_BEFORE = 256
"""Stored lines in which the beginning of a secret is looked for when its end comes."""
_VERDICTS = {"passed": RunState.PASSED, "failed": RunState.FAILED, "error": RunState.ERROR}


def _counts(document: dict[str, Any]) -> CaseCounts:
    verdicts = [case["verdict"] for case in document["cases"]]
    return CaseCounts(verdicts.count("passed"), verdicts.count("failed"), verdicts.count("error"))


def _reason(document: dict[str, Any]) -> str:
    if document["verdict"] == "passed":
        return ""
    failures = [document["failure"], *(case["failure"] for case in document["cases"])]
    messages = [document["reason"], *(failure["message"] for failure in failures if failure)]
    return _bounded(next((message for message in messages if message), f"the runner reported {document['verdict']}"))


def _bounded(reason: str) -> str:
    return reason if len(reason) <= REASON_LENGTH else reason[: REASON_LENGTH - 1] + "…"


def _masked(unit: Unit, run: Run, fresh: list[LogLine], mask: Mask) -> list[LogLine]:
    """The lines without secrets; of one that was written in pieces, the pieces in stored lines go too."""
    looked_at = min(_LINES_BEFORE, mask.reach, run.log_lines)
    stored = unit.lines(run.id, run.log_lines - looked_at, looked_at)
    before, texts = mask.lines([line.text for line in fresh], [line.text for line in stored])
    for line, text in zip(stored, before, strict=True):
        if text != line.text:
            unit.replace_line(run.id, replace(line, text=text))
    return [replace(line, text=text) for line, text in zip(fresh, texts, strict=True)]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _benches(lease: Lease | None) -> tuple[str, ...]:
    return () if lease is None else tuple(one.bench for one in lease.benches)


def _at(unit: Unit, run_id: str, attempt: int) -> Run:
    """The run, for the runner of that attempt. Raises NotFound and Forbidden."""
    run = _require(unit, run_id)
    if run.attempt != attempt:
        raise _over(run_id, attempt)
    return run


def _over(run_id: str, attempt: int) -> Forbidden:
    return Forbidden(f"attempt {attempt} of the run is over: run {run_id} takes nothing from its runner any more")


def _require(unit: Unit, run_id: str) -> Run:
    run = unit.run(run_id)
    if run is None:
        raise NotFound(f"there is no run {run_id!r}")
    return run
