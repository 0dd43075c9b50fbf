"""Keeps the pods of one cluster as the runs want them.

Each attempt of a run is looked at whenever something may have become of it: what is there is compared with what is
wanted, and one step is made towards it. Every step can be made again, so that it does not matter what was lost: an
answer, an event, or labd itself. That a pod is made once is seen to by its name, which is the attempt's.
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import structlog

from labd.executors.base import Alive, Exited, Job, Status
from labd.executors.kubernetes.access import missing
from labd.executors.kubernetes.api import ClusterApi, ClusterAway, Expired, Json, Kind, Refused
from labd.executors.kubernetes.mirror import RESYNC_S, PodMirror
from labd.executors.kubernetes.names import attempt_of, is_of, object_name, run_of, selector
from labd.executors.kubernetes.pod import Door, config_map, pod, secret
from labd.executors.kubernetes.settings import Cluster
from labd.executors.kubernetes.verdict import (
    created_at,
    deleted_at,
    is_over,
    is_settled,
    judge,
    judge_gone,
    over_since,
    waits_for,
)
from labd.executors.kubernetes.work_queue import WorkQueue
from labd.model.check import Check, CheckState
from labd.model.run import Cause

WORKERS = 4
LOOK_S = 2.0
"""How often a pod is looked at that may run out of time."""
ACCESS_S = 300.0
"""How often labd asks whether it may still do what it needs to."""
ACCESS_AGAIN_S = 30.0
"""And while it may not."""
CLOSE_S = 1.0
"""How long a call that is under way may take when labd stops."""
LEFT_OVER_S = 120.0
"""A ConfigMap without a pod is left over after that."""
_BY_LABD = "labd ended the runner"
_ACCESS, _CONFIG_MAPS = "*access", "*configmaps"
"""In the queue beside the names of pods, of which none can be such."""

Running = Callable[[Collection[str]], Mapping[str, int]]
"""Which of these runs are RUNNING, each with its attempt, by labd's store."""

_log = structlog.get_logger()


@dataclass(slots=True)
class _Attempt:
    job: Job
    name: str
    since: float
    """Of the monotonic clock."""
    status: Status
    placed: bool = False
    """Its pod and what comes with it are there, or have been."""
    held_up: str | None = None
    """Why they could not be made yet."""
    stopping: bool = False
    has_room: bool = False
    """No pod on its way out keeps it from the cluster any more."""


class ClusterKeeper:
    """Every method but `close` returns at once, and may be called from any thread."""

    def __init__(
        self,
        cluster: Cluster,
        lab: str,
        door: Callable[[], Door],
        *,
        changed: Callable[[str], None],
        running: Running,
        resync_s: float = RESYNC_S,
    ) -> None:
        """``lab`` tells the objects of several labs apart; ``changed(run_id)`` is called on threads of its own."""
        self.cluster = cluster
        self.api = ClusterApi(cluster)
        self._lab = lab
        self._door = door
        self._changed = changed
        self._running = running
        self._lock = threading.Lock()
        self._attempts: dict[str, _Attempt] = {}
        self._named: dict[str, _Attempt] = {}
        self._queue = WorkQueue()
        self._lacking: list[str] | None = None
        self._mirror = PodMirror(
            self.api,
            cluster.name,
            selector(lab),
            changed=self._queue.add,
            gone=self._gone,
            listed=self._sweep,
            resync_s=resync_s,
        )
        self._workers = [
            threading.Thread(target=self._work, name=f"{cluster.name} {number}", daemon=True)
            for number in range(WORKERS)
        ]

    def begin(self) -> None:
        """Looks at what is there, and says in the log what labd may not do."""
        self._queue.add(_ACCESS)
        self._mirror.start()
        for worker in self._workers:
            worker.start()

    def start(self, job: Job) -> None:
        """Has the attempt's pod made, unless it is there."""
        name = object_name(job.run_id, job.attempt)
        attempt = _Attempt(job, name, time.monotonic(), Alive(job.attempt))
        with self._lock:
            former = self._attempts.get(job.run_id)
            if former is not None:
                self._named.pop(former.name, None)
                self._queue.add(former.name)
            self._attempts[job.run_id] = self._named[name] = attempt
        self._queue.add(name)

    def status(self, run_id: str) -> Status | None:
        """Of the attempt that was started last, unless it is forgotten."""
        with self._lock:
            attempt = self._attempts.get(run_id)
            return None if attempt is None else attempt.status

    def waits_for(self, run_id: str) -> str | None:
        """What the run's pod waits for before its runner runs; None when for nothing, or nothing is known."""
        with self._lock:
            attempt = self._attempts.get(run_id)
        if attempt is None or attempt.stopping or not isinstance(attempt.status, Alive):
            return None
        if not attempt.placed:
            return attempt.held_up
        found = self._mirror.get(attempt.name)
        return None if found is None else waits_for(found)

    def stop(self, run_id: str) -> None:
        """Has its pod deleted, with grace."""
        with self._lock:
            attempt = self._attempts.get(run_id)
            if attempt is None or attempt.stopping:
                return
            attempt.stopping = True
        self._queue.add(attempt.name)

    def forget(self, run_id: str) -> None:
        """Leaves its pod to the sweep."""
        with self._lock:
            attempt = self._attempts.pop(run_id, None)
            if attempt is None:
                return
            self._named.pop(attempt.name, None)
        self._queue.add(attempt.name)

    def close(self) -> None:
        """Leaves the pods alone: the next labd takes them over."""
        self._queue.close()
        self._mirror.stop()
        for worker in self._workers:
            if worker.is_alive():
                worker.join(timeout=CLOSE_S)
        self.api.close()

    def checks(self) -> list[Check]:
        """What was found out last; nobody is asked now."""
        name, problem, lacking = f"cluster {self.cluster.name}", self._mirror.problem, self._lacking
        if lacking:
            remedy = "bind labd's account to a Role that allows it: Run on Kubernetes, in the manual, has one"
            return [Check(name, CheckState.ERROR, self._lacks(lacking), remedy)]
        if problem is not None:
            remedy = "look at the file of clusters, its kubeconfig and the network; runs wait meanwhile"
            return [Check(name, CheckState.ERROR, f"the API server does not answer: {problem}", remedy)]
        if lacking is None or not self._mirror.relists:
            return [Check(name, CheckState.WARNING, "it was not looked at yet")]
        pods = len(self._mirror.names())
        message = f"{pods} {'pod' if pods == 1 else 'pods'} of this lab in namespace {self.cluster.namespace}"
        return [Check(name, CheckState.OK, message)]

    # On the workers' threads

    def _work(self) -> None:
        while (name := self._queue.take()) is not None:
            try:
                self._look(name)
            except ClusterAway as error:
                _log.debug("a cluster does not answer: tried again", cluster=self.cluster.name, reason=str(error))
                self._queue.failed(name, error.retry_after_s)
            except (Refused, Expired) as error:
                _log.warning("a cluster refuses", cluster=self.cluster.name, about=name, reason=str(error))
                self._queue.failed(name, LOOK_S)
            except Exception:
                _log.exception("looking at a pod failed: tried again", cluster=self.cluster.name, about=name)
                self._queue.failed(name, LOOK_S)
            else:
                self._queue.done(name)

    def _look(self, name: str) -> None:
        if name == _ACCESS:
            self._look_at_access()
            return
        if name == _CONFIG_MAPS:
            self._sweep_config_maps()
            return
        with self._lock:
            attempt = self._named.get(name)
        if attempt is None:
            self._clear(name)
        elif isinstance(attempt.status, Alive):
            if not attempt.placed and not attempt.stopping:
                self._place(attempt)
            self._judge(attempt)

    def _judge(self, attempt: _Attempt) -> None:
        found = self._mirror.get(attempt.name)
        status = None if found is None else judge(found, self.cluster, self.api.now())
        if status is not None:
            self._settle(attempt, status)
        if isinstance(attempt.status, Exited):
            return
        deleted = found is not None and "deletionTimestamp" in found["metadata"]
        if attempt.stopping and not deleted and not self._delete(attempt):
            self._settle(attempt, Exited(_BY_LABD, attempt=attempt.job.attempt))
            return
        if attempt.stopping or found is None or not is_settled(found):
            self._queue.add(attempt.name, LOOK_S)

    def _delete(self, attempt: _Attempt) -> bool:
        return self.api.delete("pods", attempt.name, grace_s=self.cluster.stop_grace_s)

    def _place(self, attempt: _Attempt) -> None:
        """Makes what is not there yet. Raises ClusterAway when it is worth another try."""
        job = attempt.job
        try:
            self._wait_for_room(attempt)
            found = self._find(job, attempt.name) if job.begun else self._make_pod(job, attempt.name)
            if found is None:
                reason = "the pod is gone: deleted while labd was away, or lost with its node"
                self._settle(attempt, Exited(reason, Cause.POD_LOST, job.attempt))
                return
            self._mirror.put(found)
            if not job.begun and not is_over(found):
                if self.cluster.identity == "secret":
                    self._make("secrets", secret(job, self._lab, found), job)
                self._make("configmaps", config_map(job, self._door(), self._lab, found), job)
        except ClusterAway as error:
            attempt.held_up = f"the cluster: {error}"
            late = time.monotonic() - attempt.since >= self.cluster.unschedulable_limit_s
            if not late or job.begun:
                raise
            reason = f"the pod could not be made within {self.cluster.unschedulable_limit_s:g} s: {error}"
            self._settle(attempt, Exited(reason, Cause.UNSCHEDULABLE, job.attempt))
        except Refused as error:
            if "exceeded quota" in str(error):
                late = time.monotonic() - attempt.since >= self.cluster.unschedulable_limit_s
                if not late:
                    attempt.held_up = f"room in the quota: {error}"
                    raise ClusterAway(str(error), LOOK_S) from error
                self._settle(attempt, Exited(f"no room in the quota: {error}", Cause.UNSCHEDULABLE, job.attempt))
            else:
                reason = f"the cluster {self.cluster.name} does not take the pod: {error}"
                self._settle(attempt, Exited(reason, Cause.SETUP_FAILED, job.attempt))
        else:
            attempt.placed = True

    def _wait_for_room(self, attempt: _Attempt) -> None:
        """Raises ClusterAway while pods on their way out fill the cluster: their runs are over and count for none of
        runs, but a cluster's limit is one of pods.
        """
        with self._lock:
            if attempt.has_room or attempt.job.begun or attempt.job.pods_max is None:
                return
            live = {name for name in self._mirror.names() if self._is_live(name)} - {attempt.name}
            wanted = {
                name for name, one in self._named.items() if isinstance(one.status, Alive) and not one.stopping
            } - {attempt.name}
            leaving = live - wanted
            there = len(live | {name for name in wanted if self._named[name].has_room})
            if leaving and there >= attempt.job.pods_max:
                message = f"{len(leaving)} pods of runs that are over are still there, of {attempt.job.pods_max} in all"
                raise ClusterAway(message, LOOK_S)
            attempt.has_room = True

    def _is_live(self, name: str) -> bool:
        found = self._mirror.get(name)
        return found is not None and isinstance(judge(found, self.cluster, self.api.now()), Alive)

    def _find(self, job: Job, name: str) -> Json | None:
        found = self.api.get("pods", name)
        if found is None or is_of(found, self._lab, job.run_id, job.attempt):
            return found
        raise Refused(409, f"a pod {name} is there that is not this lab's")

    def _make_pod(self, job: Job, name: str) -> Json:
        try:
            made = self.api.create("pods", pod(job, self.cluster, self._door(), self._lab))
        except Refused as error:
            if error.status != 409:
                raise
            found = self._find(job, name)  # an answer was lost, or labd between the pod and what comes with it
            if found is None:
                raise ClusterAway(f"pod {name} was there, and is not: made again") from error
            _log.info("pod found", run=job.run_id, attempt=job.attempt, cluster=self.cluster.name)
            return found
        _log.info("pod made", run=job.run_id, attempt=job.attempt, cluster=self.cluster.name)
        return made

    def _make(self, kind: Kind, body: Json, job: Job) -> None:
        name = body["metadata"]["name"]
        try:
            self.api.create(kind, body)
        except Refused as error:
            if error.status != 409:
                raise
            if kind == "secrets":
                return  # labd may not read them: of this name it made it, or the pod will not be let in
            found = self.api.get(kind, name)
            if found is not None and not is_of(found, self._lab, job.run_id, job.attempt):
                raise Refused(409, f"a ConfigMap {name} is there that is not this lab's") from error

    def _gone(self, name: str, last: Json) -> None:
        with self._lock:
            attempt = self._named.get(name)
        if attempt is None or not isinstance(attempt.status, Alive):
            return
        self._settle(attempt, judge_gone(last))

    def _settle(self, attempt: _Attempt, status: Status) -> None:
        if attempt.stopping and isinstance(status, Exited):
            status = Exited(_BY_LABD, attempt=attempt.job.attempt)  # whatever the cluster calls it
        with self._lock:
            if attempt.status == status or isinstance(attempt.status, Exited):
                return
            attempt.status = status
            current = self._named.get(attempt.name) is attempt
        if isinstance(status, Exited):
            # That there is no result may be untrue: labd's store knows.
            how = "it ended" if status.cause == Cause.NO_RESULT else status.reason
            _log.info("pod over", run=attempt.job.run_id, attempt=status.attempt, how=how)
        if current:
            self._changed(attempt.job.run_id)

    # What is left over

    def _sweep(self) -> None:
        """Has every pod looked at that belongs to no attempt that is known here."""
        with self._lock:
            known = set(self._named)
        for name in self._mirror.names():
            if name not in known:
                self._queue.add(name)
        self._queue.add(_CONFIG_MAPS, LOOK_S)

    def _clear(self, name: str) -> None:
        """Deletes a pod that nobody here wants any more, once its time has come.

        A node that is lost confirms no deletion, and may never come back. So a pod that is still there ``lost_limit_s``
        after its grace is taken off the server without its node's word. Its containers may go on behind the cut, and
        hurt nothing: the attempt is not under way by labd's store, so its lease has ended, agents refuse its epoch, and
        labd its token. Another attempt is another pod of another name and lease.
        """
        found = self._mirror.get(name)
        if found is None:
            return
        run_id, attempt, going_since = run_of(found), attempt_of(found), deleted_at(found)
        if going_since is not None:
            left_s = going_since + self.cluster.lost_limit_s - self.api.now()
        else:
            left_s = over_since(found) + self.cluster.finished_ttl_s - self.api.now() if is_over(found) else 0.0
        if left_s > 0:
            self._queue.add(name, left_s)
            return
        if self._running([run_id]).get(run_id) == attempt:
            return  # also of a pod that is over: whoever leads has to see how it ended
        grace_s = None if is_over(found) else self.cluster.stop_grace_s
        if going_since is not None:
            grace_s = 0
            _log.warning("pod deleted by force", run=run_id, attempt=attempt, cluster=self.cluster.name)
            self._queue.add(name, self.cluster.lost_limit_s)  # somebody's finalizer may hold it
        else:
            _log.info("pod deleted", run=run_id, attempt=attempt, cluster=self.cluster.name)
        self.api.delete("pods", name, grace_s=grace_s, uid=found["metadata"]["uid"])

    def _sweep_config_maps(self) -> None:
        """Deletes those whose pod is gone: where the cluster's own collector has not done so."""
        with self._lock:
            known = set(self._named)
        known.update(self._mirror.names())
        for found in self.api.list("configmaps", selector(self._lab), metadata_only=True)[0]:
            name = found["metadata"]["name"]
            if name not in known and self.api.now() - created_at(found) >= LEFT_OVER_S:
                _log.info("ConfigMap deleted", name=name, cluster=self.cluster.name)
                self.api.delete("configmaps", name, uid=found["metadata"]["uid"])

    def _look_at_access(self) -> None:
        before, self._lacking = self._lacking, missing(self.api, self.cluster)
        self._queue.add(_ACCESS, ACCESS_AGAIN_S if self._lacking else ACCESS_S)
        if self._lacking and self._lacking != before:
            _log.error(self._lacks(self._lacking), cluster=self.cluster.name)
        elif before and not self._lacking:
            _log.info("labd's account may do what it needs to again", cluster=self.cluster.name)

    def _lacks(self, lacking: list[str]) -> str:
        return f"labd's account may not {', '.join(lacking)} in namespace {self.cluster.namespace}"
