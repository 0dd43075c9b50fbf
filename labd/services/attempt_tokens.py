"""How a test pod gets the token of its run: by the token of its service account, which is bound to the pod.

The API server of the pod's cluster says which pod the token is of (TokenReview); it has to be the one that labd made
for that attempt at the run. The first to prove itself is the attempt's pod; one that comes in its place is not.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from labd.executors.kubernetes.api import ClusterAway, Kind, Refused
from labd.executors.kubernetes.names import attempt_of, object_name, run_of
from labd.executors.kubernetes.pod import AUDIENCE
from labd.executors.kubernetes.settings import Cluster
from labd.model.identity import Actor, ActorKind
from labd.model.run import ExecutorName, Run, RunState
from labd.services.core import Core
from labd.services.errors import Conflict, Forbidden, ProviderAway, Unauthenticated
from labd.services.provider_http import ProviderUnreachable
from labd.services.token_review import Json, ServiceAccount, TokenReviewer
from labd.store.unit import Unit


class PodApi(Protocol):
    """The part of ClusterApi that is asked here."""

    def review_token(self, token: str, audience: str) -> Json:
        """The status of a TokenReview. Raises ClusterAway and Refused."""

    def get(self, kind: Kind, name: str) -> Json | None:
        """An object, if there is one. Raises ClusterAway and Refused."""


@dataclass(frozen=True, slots=True)
class PodCluster:
    """A cluster in which labd has pods."""

    settings: Cluster
    api: PodApi


class AttemptTokens:
    """The tokens of runs, for the pods that execute them."""

    def __init__(self, core: Core, clusters: Mapping[str, PodCluster]) -> None:
        self._core = core
        self._clusters = {
            name: (cluster, TokenReviewer(f"cluster {name}", AUDIENCE, _asking(cluster.api)))
            for name, cluster in clusters.items()
        }

    def exchange(self, run_id: str, attempt: int, token: str | None) -> str:
        """The token of the run's attempt, for the token of its pod. Raises Unauthenticated, ProviderAway, Forbidden,
        and Conflict when that attempt is not under way.
        """
        if token is None:
            raise Unauthenticated("send the token of the pod's service account as Authorization: Bearer")
        with self._core.view() as unit:
            run = unit.run(run_id)
        # Strangers get to know nothing of the run: whose token it is comes first.
        known = self._clusters.get(run.cluster or "") if run is not None else None
        if run is None or known is None or run.executor is not ExecutorName.KUBERNETES:
            raise Forbidden(f"no pod of this lab's executes a run {run_id!r}")
        cluster, reviewer = known
        if cluster.settings.identity != "projected":
            name = cluster.settings.name
            raise Forbidden(f"pods of cluster {name} get the run's token itself: there is nothing to exchange")
        account = reviewer.review(token, self._core.clock.now())
        uid = _require_pod(account, cluster.settings, run_id, attempt)
        with self._core.view() as unit:
            _require_under_way(unit, run_id, attempt)
            admitted = unit.pod_uid(run_id, attempt)
        if admitted is None:
            self._admit(run, attempt, cluster, uid)
        elif admitted != uid:
            raise Forbidden(f"the token is of another pod {account.pod} than the one that was this attempt")
        return self._core.signer.run_token(run_id, attempt)

    def _admit(self, run: Run, attempt: int, cluster: PodCluster, uid: str) -> None:
        name = object_name(run.id, attempt)
        try:
            pod = cluster.api.get("pods", name)
        except (ClusterAway, Refused) as error:
            raise ProviderAway(f"labd cannot ask cluster {cluster.settings.name} at present: try again") from error
        if pod is None or pod["metadata"].get("uid") != uid or (run_of(pod), attempt_of(pod)) != (run.id, attempt):
            raise Forbidden(f"the pod {name} that the token is of is not the one that labd made")
        with self._core.transaction(Actor(f"run {run.id}", ActorKind.RUN, run_id=run.id)) as ledger:
            _require_under_way(ledger.unit, run.id, attempt)
            if ledger.unit.pod_uid(run.id, attempt) is None:  # nor has the same pod asked at the same time
                ledger.unit.add_pod(run.id, attempt, uid)
                after = {"attempt": attempt, "cluster": cluster.settings.name, "pod": name, "uid": uid}
                ledger.audit("run.admitted", f"run/{run.id}", after=after, team=run.team)


def _asking(api: PodApi) -> Callable[[str, str], Json]:
    def ask(token: str, audience: str) -> Json:
        try:
            return api.review_token(token, audience)
        except (ClusterAway, Refused) as error:
            raise ProviderUnreachable(str(error)) from error

    return ask


def _require_pod(account: ServiceAccount, cluster: Cluster, run_id: str, attempt: int) -> str:
    """The UID of the pod. Raises Forbidden unless it is called as the attempt's, and is of the right account."""
    expected = object_name(run_id, attempt)
    if (account.namespace, account.name) != (cluster.namespace, cluster.service_account):
        theirs, ours = f"{account.namespace}/{account.name}", f"{cluster.namespace}/{cluster.service_account}"
        raise Forbidden(f"the token is of the service account {theirs}; pods of cluster {cluster.name} have {ours}")
    if account.pod is None or account.pod_uid is None:
        raise Forbidden(f"the token is bound to no pod; it has to be the one in the volume of the pod {expected}")
    if account.pod != expected:
        raise Forbidden(f"the token is of the pod {account.pod}; attempt {attempt} of run {run_id} is {expected}")
    return account.pod_uid


def _require_under_way(unit: Unit, run_id: str, attempt: int) -> None:
    run = unit.run(run_id)
    if run is None or run.state is not RunState.RUNNING:
        raise Conflict(f"run {run_id} is {'gone' if run is None else run.state}: only a RUNNING one has a runner")
    if run.attempt != attempt:
        raise Conflict(f"attempt {attempt} of run {run_id} is over: it is at attempt {run.attempt}")
