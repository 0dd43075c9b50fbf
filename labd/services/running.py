"""Runs: submitted, followed, cancelled, reported on."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench_agent.protocol import tracing
from labd.executors.base import ClusterExecutor, Executor
from labd.model.filters import Filter
from labd.model.identity import DEFAULT_TEAM, Actor
from labd.model.lease import DEFAULT_PRIORITY, Lease, Wanted
from labd.model.run import Attempt, Cause, ExecutorName, LogLine, Run, RunInput, RunState
from labd.model.source import GitSource
from labd.services.core import Core
from labd.services.environments import Environments
from labd.services.errors import Conflict, NotFound
from labd.services.identifiers import new_run_id
from labd.services.leasing import new_lease
from labd.services.ledger import Ledger
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
    """While PENDING: why no bench can come as things are, other than that all are in use. While RUNNING: what its pod
    waits for before its runner runs."""
    attempts: tuple[tuple[Attempt, tuple[str, ...]], ...] = ()
    """All of them, the present one last, each with its benches."""


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
            return self.view(ledger.unit, require_run(ledger.unit, run.id), fresh=True)

    def again(self, actor: Actor, run_id: str, holder: str) -> RunView:
        """Queues a run that does what a former one did. It keeps away from the benches on which that one, or those that
        it repeated, ended in ERROR, where others do as well. Raises NotFound; Invalid, as `create` does; and Conflict
        while the former one is not over.
        """
        with self._core.transaction(actor) as ledger:
            unit = ledger.unit
            former = require_run(unit, run_id)
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
            return self.view(unit, require_run(unit, run.id), fresh=True)

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
            return self.view(unit, require_run(unit, run_id))

    def newest(self, where: Filter, limit: int, before: int | None = None) -> list[RunView]:
        """Runs that arrived before number ``before``, newest first. Raises Invalid."""
        with self._core.view() as unit:
            runs = unit.newest_runs(where, limit, before, benches_wanted(unit, where.selector))
            return [self.view(unit, run) for run in runs]

    def cancel(self, actor: Actor, run_id: str, why: str = "") -> RunView:
        """Ends a run before its time; one that is over stays as it is. Raises NotFound.

        Somebody else than who it is for says why.
        """
        with self._core.transaction(actor) as ledger:
            run = require_run(ledger.unit, run_id)
            if not run.state.final:
                ledger.audit("run.cancelled", f"run/{run_id}", before={"state": run.state}, why=why, team=run.team)
                own = actor.is_holder(run.holder, run.id)
                reason = "cancelled on request" if own else bounded_reason(f"cancelled by {actor.name}: {why}")
                run = ledger.end_run(run, RunState.CANCELLED, reason)
            return self.view(ledger.unit, run)

    def fail(self, run_id: str, reason: str, cause: Cause | None = None, attempt: int = 1) -> None:
        """Ends this attempt of a run, if it is at it: its runner, or labd, cannot go on. The run gets another where
        that may help, or else a verdict by the cause, which is ERROR where there is none.
        """
        with self._core.transaction() as ledger:
            run = ledger.unit.run(run_id)
            if run is not None and not run.state.final and run.attempt == attempt:
                run = ledger.end_attempt(run, bounded_reason(self._environments.mask(run_id).text(reason)), cause)
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
            run = require_run(unit, run_id)
            return unit.lines(run_id, after, limit), self.view(unit, run)

    def result(self, run_id: str) -> StoredResult:
        """What the runner reported. Raises NotFound when there is no such run, or it reported nothing."""
        with self._core.view() as unit:
            run = require_run(unit, run_id)
            result = unit.result(run_id)
        if result is None:
            raise NotFound(
                f"run {run_id} has no result: it is {run.state}" + (f" ({run.reason})" if run.reason else "")
            )
        return result

    def view(self, unit: Unit, run: Run, *, fresh: bool = False) -> RunView:
        """The run as it stands in this unit; ``fresh``: with its place among those that the unit has just added."""
        lease = unit.lease(run.lease_id)
        attempts = [*(unit.former_attempts(run.id) if run.attempt > 1 else []), run.present]
        tries = tuple(
            (one, _benches(lease if one.lease_id == run.lease_id else unit.lease(one.lease_id))) for one in attempts
        )
        if lease is None:
            return RunView(run, (), None, None, tries)
        obstacle = self._awaited(run) or obstacle_now(unit, lease, self._core.presence.attached)
        return RunView(run, _benches(lease), self._core.places.of(unit, lease, fresh), obstacle, tries)

    def _awaited(self, run: Run) -> str | None:
        executor = self._executors.get(run.executor)
        if run.state is not RunState.RUNNING or run.cluster is None or not isinstance(executor, ClusterExecutor):
            return None
        awaited = executor.waits_for(run.id)
        return None if awaited is None else f"its pod waits for {awaited}"

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


def bounded_reason(reason: str) -> str:
    """The beginning of it, as long as a reason may be."""
    return reason if len(reason) <= REASON_LENGTH else reason[: REASON_LENGTH - 1] + "…"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _benches(lease: Lease | None) -> tuple[str, ...]:
    return () if lease is None else tuple(one.bench for one in lease.benches)


def require_run(unit: Unit, run_id: str) -> Run:
    """The run. Raises NotFound."""
    run = unit.run(run_id)
    if run is None:
        raise NotFound(f"there is no run {run_id!r}")
    return run
