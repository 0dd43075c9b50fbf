"""One pass over all TestRuns: looks at both sides, and takes the next step of each.

It keeps nothing between passes that matters, so it may be killed, repeated or run twice at any point: a run is made
under a key of its TestRun's uid, and each write is to the version that was read.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from labd.client import Run
from labd.operator.cache import Cache
from labd.operator.cluster import Changed, ClusterAway, ClusterError, Missing, TestRuns
from labd.operator.election import NotLeading
from labd.operator.news import News, news
from labd.operator.recorder import Recorder
from labd.operator.runs import LabdAway, Refused, Runs
from labd.operator.status import Status, Trouble, ended_without, mirrored, patch, waiting
from labd.operator.steps import Step, next_step
from labd.operator.testrun import FINALIZER, TestRun, digits, origin

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Rules:
    """How long things last, in seconds."""

    ttl_s: float = 24 * 3600.0
    """A finished TestRun, before it is deleted."""
    patience_s: float = 600.0
    """A deleted TestRun whose run cannot be cancelled because labd is away, before it goes all the same."""


class Reconciler:
    """Brings TestRuns and runs together. ``fence`` raises NotLeading unless this operator may act."""

    def __init__(
        self,
        cluster: TestRuns,
        runs: Runs,
        cache: Cache,
        rules: Rules,
        recorder: Recorder,
        *,
        fence: Callable[[], None],
        owner: Callable[[], str],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._cluster = cluster
        self._runs = runs
        self._cache = cache
        self._rules = rules
        self._recorder = recorder
        self._fence = fence
        self._owner = owner
        self._now = now
        self._trouble: Trouble | None = None
        self._failed: dict[str, str] = {}

    @property
    def trouble(self) -> Trouble | None:
        """Why labd could not be asked in the last pass."""
        return self._trouble

    def step(self) -> bool:
        """One pass; whether something is left to be followed. Raises NotLeading and ClusterAway, which end it."""
        active = self._look()
        tests = self._cache.tests()
        for test in tests:
            try:
                self._advance(test, active)
                self._failed.pop(test.uid, None)
            except Missing:
                self._cache.drop(test)
            except Changed:
                self._read_again(test)
            except (ClusterAway, NotLeading):
                raise
            except ClusterError as error:
                self._tell(test, str(error))
            except Exception as error:
                # A fault of ours about one of them must not keep the others waiting.
                self._tell(test, f"{type(error).__name__}: {error}", fault=True)
        known = {test.uid for test in tests}
        self._failed = {uid: text for uid, text in self._failed.items() if uid in known}
        if active is not None:
            self._sweep(active.values(), {digits(test.uid) for test in [*tests, *self._cache.tests()]})
        if self._trouble is not None:
            return True  # runs may be there whose TestRuns are gone
        now = self._now()
        return any(next_step(test, now, self._rules.ttl_s) is not Step.NOTHING for test in self._cache.tests())

    def _look(self) -> dict[str, Run] | None:
        """The runs that are not over; None while labd cannot be asked."""
        former, self._trouble = self._trouble, None
        try:
            return self._runs.active()
        except (LabdAway, Refused) as error:
            self._away(error.trouble if isinstance(error, LabdAway) else Trouble("Forbidden", str(error)), former)
            return None
        finally:
            if former is not None and self._trouble is None:
                _log.info("labd can be asked again")

    def _away(self, trouble: Trouble, former: Trouble | None = None) -> None:
        self._trouble = trouble
        if former != trouble:
            _log.warning("labd cannot be asked", reason=trouble.word, error=trouble.message)

    def _advance(self, test: TestRun, active: dict[str, Run] | None) -> None:
        match next_step(test, self._now(), self._rules.ttl_s):
            case Step.HOLD:
                self._fence()
                self._cache.put(self._cluster.save_finalizers(test, [*test.metadata.get("finalizers", ()), FINALIZER]))
            case Step.SUBMIT:
                self._submit(test)
            case Step.MIRROR:
                self._mirror(test, active or {})
            case Step.CANCEL:
                self._cancel(test)
            case Step.LET_GO:
                self._let_go(test)
            case Step.REMOVE:
                self._remove(test)
            case Step.NOTHING:
                pass

    def _submit(self, test: TestRun) -> None:
        if self._trouble is None:
            fresh = self._cluster.get(test.namespace, test.name)  # with its script, and as it is now
            if fresh.uid != test.uid:
                raise Missing(f"{test} is another by now")
            if fresh.version != test.version and next_step(fresh, self._now(), self._rules.ttl_s) is not Step.SUBMIT:
                self._cache.put(fresh)
                return
            test = fresh
            self._fence()
            try:
                run = self._runs.submit(test, self._owner(), self._now())
            except Refused as refusal:
                _log.info("refused", testrun=str(test), reason=str(refusal))
                self._save(test, ended_without(test, "Refused", str(refusal), self._now()))
                return
            except LabdAway as away:
                self._away(away.trouble)
            else:
                _log.info("submitted", testrun=str(test), run=run["id"])
                self._save(test, mirrored(test, run, self._runs.log_address(run["id"]), self._now()))
                return
        self._wait(test)

    def _mirror(self, test: TestRun, active: dict[str, Run]) -> None:
        run_id = str(test.run_id)
        run = active.get(run_id)
        if run is None and self._trouble is None:
            try:
                run = self._runs.get(run_id)
            except LabdAway as away:
                self._away(away.trouble)
            else:
                if run is None:
                    message = f"labd does not know run {run_id} any more"
                    self._save(test, ended_without(test, "RunLost", message, self._now()))
                    return
        if run is None:
            self._wait(test)
        else:
            self._save(test, mirrored(test, run, self._runs.log_address(run_id), self._now()))

    def _wait(self, test: TestRun) -> None:
        if self._trouble is not None:
            self._save(test, waiting(test, self._trouble, self._now()))

    def _cancel(self, test: TestRun) -> None:
        """Lets a deleted TestRun go once its run is cancelled, or labd has been away for too long."""
        if self._trouble is None:
            self._fence()
            try:
                run_id = test.run_id
                if run_id is None and (found := self._runs.find(test)) is not None:
                    run_id = found["id"]
                if run_id is not None:
                    self._runs.cancel(run_id, f"TestRun {test} was deleted")
                    _log.info("cancelled", testrun=str(test), run=run_id)
                    self._recorder.tell(
                        test, [News("Cancelled", f"it was deleted: run {run_id} is cancelled")], self._now()
                    )
                self._let_go(test)
                return
            except LabdAway as away:
                self._away(away.trouble)
            except Refused as refusal:
                self._tell(test, f"its run cannot be cancelled: {refusal}")
        if self._now() - (test.deleted_at or 0.0) >= self._rules.patience_s:
            _log.warning(
                "goes without its run being cancelled; the run is cancelled once labd can be asked",
                testrun=str(test),
                run=test.run_id,
            )
            text = f"it goes without its run being cancelled ({self._trouble.message if self._trouble else 'refused'})"
            self._recorder.tell(test, [News("NotCancelled", text, warning=True)], self._now())
            self._let_go(test)

    def _let_go(self, test: TestRun) -> None:
        self._fence()
        finalizers = [one for one in test.metadata.get("finalizers", ()) if one != FINALIZER]
        saved = self._cluster.save_finalizers(test, finalizers)
        if test.deleted_at is None or finalizers:
            self._cache.put(saved)
        else:
            self._cache.drop(test)

    def _remove(self, test: TestRun) -> None:
        """Deletes a finished one; only while labd says that the run is over, or was asked and refused or lost it."""
        if test.run_id is not None:
            if self._trouble is not None:
                return
            try:
                run = self._runs.get(test.run_id)
            except LabdAway as away:
                self._away(away.trouble)
                return
            if run is not None and run["state"] in ("PENDING", "RUNNING"):
                self._tell(test, f"it is finished, but labd says that run {test.run_id} is {run['state']}")
                return
        self._fence()
        self._cluster.remove(test)
        self._cache.drop(test)
        _log.info("removed", testrun=str(test), run=test.run_id)

    def _sweep(self, active: Iterable[Run], known: set[str]) -> None:
        """Cancels runs whose TestRuns are gone: deleted while labd was away, or while a paused operator made a run."""
        mine = digits(self._owner())
        for run in active:
            found = origin(run["name"])
            if found is None or found.owner != mine or found.uid in known:
                continue
            try:
                test = self._cluster.get(found.namespace, found.name)
                if found.is_of(test):
                    self._cache.put(test)
                    continue
            except Missing:
                pass
            except ClusterAway:
                raise
            except ClusterError:
                continue  # of a namespace that is none of this operator's any more
            self._fence()
            try:
                self._runs.cancel(run["id"], f"TestRun {found.namespace}/{found.name} is gone")
                _log.info("cancelled: its TestRun is gone", testrun=f"{found.namespace}/{found.name}", run=run["id"])
            except LabdAway as away:
                self._away(away.trouble)
                return
            except Refused as refusal:
                _log.warning("cannot be cancelled, though its TestRun is gone", run=run["id"], error=str(refusal))

    def _save(self, test: TestRun, status: Status) -> None:
        change = patch(test, status)
        if change is not None:
            self._fence()
            self._recorder.tell(test, news(test, status), self._now())
            self._cache.put(self._cluster.save_status(test, change))

    def _read_again(self, test: TestRun) -> None:
        try:
            fresh = self._cluster.get(test.namespace, test.name)
        except Missing:
            self._cache.drop(test)
            return
        if fresh.uid != test.uid:
            self._cache.drop(test)
        self._cache.put(fresh)

    def _tell(self, test: TestRun, text: str, *, fault: bool = False) -> None:
        """Says once what does not work with a TestRun; with the traceback, of a ``fault`` of ours."""
        if self._failed.get(test.uid) != text:
            _log.warning("cannot go on with a TestRun", testrun=str(test), error=text, exc_info=fault)
        self._failed[test.uid] = text
