"""The ``kubernetes`` executor: runners as pods, in one of several clusters. They survive labd."""

import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress

from labd.executors.base import ExecutorError, Job, Status
from labd.executors.kubernetes.api import ClusterApi
from labd.executors.kubernetes.keeper import ClusterKeeper, Running
from labd.executors.kubernetes.mirror import RESYNC_S
from labd.executors.kubernetes.pod import Door, check_script
from labd.executors.kubernetes.settings import Clusters, UnknownCluster
from labd.model.check import Check


class KubernetesExecutor:
    """See `Executor`. Every method may be called from any thread; none waits for a cluster."""

    def __init__(
        self, clusters: Clusters, lab: str, door: Callable[[str], Door], *, resync_s: float = RESYNC_S
    ) -> None:
        """``lab`` tells the objects of several labs apart; ``door`` says how the pods of a cluster reach labd."""
        self._settings = clusters
        self._lock = threading.Lock()
        self._where: dict[str, ClusterKeeper] = {}
        self._callback: Callable[[str], None] = lambda _: None
        self._running: Running | None = None
        self._keepers = {
            cluster.name: ClusterKeeper(
                cluster,
                lab,
                lambda name=cluster.name: door(name),  # type: ignore[misc]  # bound now
                changed=self._tell,
                running=self._still_running,
                resync_s=resync_s,
            )
            for cluster in clusters.clusters
        }

    def connect(self, running: Running) -> None:
        """Has pods that nobody here knows compared with ``running`` before they are deleted."""
        self._running = running

    @property
    def clusters(self) -> tuple[str, ...]:
        """Their names."""
        return self._settings.names

    @property
    def default_cluster(self) -> str | None:
        """Where runs go that name none; None: each has to name one."""
        with suppress(UnknownCluster):
            return self._settings.choose(None).name
        return None

    def api(self, cluster: str | None) -> ClusterApi:
        """Of the cluster, or of the default one. Raises UnknownCluster."""
        return self._keepers[self._settings.choose(cluster).name].api

    def on_change(self, callback: Callable[[str], None]) -> None:
        """See `Executor.on_change`."""
        self._callback = callback

    def start(self, job: Job) -> None:
        """See `Executor.start`. Done again, by this labd or another, it finds the pod that is there."""
        check_script(job)
        try:
            keeper = self._keepers[self._settings.choose(job.cluster).name]
        except UnknownCluster as error:
            raise ExecutorError(str(error)) from error
        with self._lock:
            self._where[job.run_id] = keeper
        keeper.start(job)

    def status(self, run_id: str) -> Status | None:
        """See `Executor.status`."""
        keeper = self._keeper(run_id)
        return None if keeper is None else keeper.status(run_id)

    def waits_for(self, run_id: str) -> str | None:
        """See `ClusterExecutor.waits_for`."""
        keeper = self._keeper(run_id)
        return None if keeper is None else keeper.waits_for(run_id)

    def stop(self, run_id: str) -> None:
        """See `Executor.stop`."""
        keeper = self._keeper(run_id)
        if keeper is not None:
            keeper.stop(run_id)

    def forget(self, run_id: str) -> None:
        """See `Executor.forget`. A pod that has finished stays for a while, for people to look at."""
        with self._lock:
            keeper = self._where.pop(run_id, None)
        if keeper is not None:
            keeper.forget(run_id)

    def recover(self, running: Mapping[str, str]) -> None:
        """See `Executor.recover`. Each is started again, which finds its pod; what is left over is compared with the
        store.
        """
        for keeper in self._keepers.values():
            keeper.begin()

    def close(self) -> None:
        """See `Executor.close`; but pods go on, and the next labd takes them over."""
        for keeper in self._keepers.values():
            keeper.close()

    def checks(self) -> list[Check]:
        """Of every cluster, as of the last look at it."""
        return [check for keeper in self._keepers.values() for check in keeper.checks()]

    def _tell(self, run_id: str) -> None:
        self._callback(run_id)

    def _keeper(self, run_id: str) -> ClusterKeeper | None:
        with self._lock:
            return self._where.get(run_id)

    def _still_running(self, run_ids: Collection[str]) -> Mapping[str, int]:
        if self._running is None:
            raise RuntimeError("an executor that is not connected deletes nothing")
        return self._running(run_ids)
