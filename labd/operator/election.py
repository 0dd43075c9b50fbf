"""Which of several operators acts: the one that holds a Lease (coordination.k8s.io) of the cluster.

As client-go does: who is not the leader takes the Lease over when it has seen no change of it for its whole duration,
on its own clock, so that clocks need not agree. The leader may act until ``lead_s`` after it *began* the last renewal
that went well; that is shorter than the Lease's duration, so one that was paused knows that it is none any more before
it does anything. The clock goes on while the machine sleeps.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from labd.operator.cluster import ANSWER_S, Changed, ClusterError, Missing, NotAllowed, Place, asked

LEASE_S = 15
_log = structlog.get_logger()


class NotLeading(Exception):
    """Another operator may lead by now: nothing may be done."""


@dataclass(frozen=True, slots=True)
class Times:
    """Of an election, in seconds: the Lease's duration, how long its holder acts on it, and the pause between tries."""

    lease_s: int
    lead_s: float
    retry_s: float

    @classmethod
    def of(cls, lease_s: int) -> "Times":
        """As client-go has them for 15 s: 10 s and 2 s."""
        return cls(lease_s, lease_s * 2 / 3, lease_s * 2 / 15)


def clock() -> float:
    """Seconds, also those during which the machine slept."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Election:
    """One candidate. `run` stands for election, in a thread; others ask `leading` and `check`."""

    def __init__(
        self,
        place: Place,
        identity: str,
        *,
        namespace: str,
        name: str = "labd-operator",
        times: Times | None = None,
        became_leader: Callable[[], None] = lambda: None,
        now: Callable[[], float] = clock,
    ) -> None:
        from kubernetes.client import CoordinationV1Api

        self._api = CoordinationV1Api(place.api)
        self._where = place.where
        self._identity = identity
        self._namespace, self._name = namespace, name
        self._times = times or Times.of(LEASE_S)
        self._now = now
        self._until = float("-inf")
        self._seen: tuple[object, ...] | None = None
        self._seen_at = 0.0
        self._said: str | None = None
        self.lease_uid = ""
        """Tells this operator's Lease from all others, once it leads."""
        self._became_leader = became_leader

    @property
    def leading(self) -> bool:
        """Whether this candidate may act."""
        return self._now() < self._until

    def check(self) -> None:
        """Raises NotLeading unless this candidate may act."""
        if not self.leading:
            raise NotLeading

    def run(self, stop: threading.Event) -> None:
        """Stands for election until told to stop; then gives the Lease up, so that the next one need not wait."""
        while not stop.is_set():
            self.attempt()
            stop.wait(self._times.retry_s)
        self._resign()

    def attempt(self) -> None:
        """Takes the Lease, renews it, or looks who has it."""
        before = self.leading
        try:
            self._try()
            self._said = None
        except Changed:
            pass  # another was quicker
        except ClusterError as error:
            if str(error) != self._said:
                hint = "; it needs get, create and update of leases" if isinstance(error, NotAllowed) else ""
                _log.warning("the Lease cannot be had", lease=f"{self._namespace}/{self._name}", error=f"{error}{hint}")
            self._said = str(error)
        except Exception:
            # Whatever the API server answered, to stand no more for election would be worse.
            _log.exception("the Lease cannot be had", lease=f"{self._namespace}/{self._name}")
        if self.leading and not before:
            _log.info("leading", identity=self._identity, lease=f"{self._namespace}/{self._name}")
            self._became_leader()
        elif before and not self.leading:
            _log.warning("not leading any more", identity=self._identity)

    def _try(self) -> None:
        began = self._now()
        try:
            lease = self._asked(self._api.read_namespaced_lease, self._name, self._namespace)
        except Missing:
            body = self._lease(None, transitions=0)
            self._took(self._asked(self._api.create_namespaced_lease, self._namespace, body), began)
            return
        spec = lease.spec
        record = (spec.holder_identity, spec.renew_time, spec.lease_transitions)
        if record != self._seen:
            self._seen, self._seen_at = record, began
        mine = spec.holder_identity == self._identity
        if spec.holder_identity and not mine:
            if began - self._seen_at < (spec.lease_duration_seconds or self._times.lease_s):
                return
            _log.info("takes the Lease over", former=spec.holder_identity)
        transitions = spec.lease_transitions or 0
        acquired = spec.acquire_time if mine else None
        body = self._lease(
            lease.metadata.resource_version, transitions=transitions if mine else transitions + 1, acquired=acquired
        )
        self._took(self._asked(self._api.replace_namespaced_lease, self._name, self._namespace, body), began)

    def _took(self, lease: Any, began: float) -> None:
        self.lease_uid = lease.metadata.uid
        self._until = began + self._times.lead_s

    def _resign(self) -> None:
        if not self.leading:
            return
        self._until = float("-inf")
        try:
            lease = self._asked(self._api.read_namespaced_lease, self._name, self._namespace)
            if lease.spec.holder_identity == self._identity:
                body = self._lease(lease.metadata.resource_version, transitions=lease.spec.lease_transitions or 0)
                body.spec.holder_identity = None
                self._asked(self._api.replace_namespaced_lease, self._name, self._namespace, body)
        except ClusterError as error:
            _log.info("the Lease could not be given up; it ends by itself", error=str(error))

    def _lease(self, version: str | None, *, transitions: int, acquired: datetime | None = None) -> Any:
        from kubernetes.client import V1Lease, V1LeaseSpec, V1ObjectMeta

        now = _whole(datetime.now(UTC))
        return V1Lease(
            metadata=V1ObjectMeta(name=self._name, namespace=self._namespace, resource_version=version),
            spec=V1LeaseSpec(
                holder_identity=self._identity,
                lease_duration_seconds=self._times.lease_s,
                acquire_time=_whole(acquired or now),
                renew_time=now,
                lease_transitions=transitions,
            ),
        )

    def _asked(self, function: Callable[..., Any], *arguments: object) -> Any:
        # A request that takes longer is of no use: the right to act would have ended meanwhile.
        patience_s = min(ANSWER_S[1], self._times.lead_s / 2)
        return asked(self._where, function, *arguments, _request_timeout=(patience_s, patience_s))


def _whole(moment: datetime) -> datetime:
    """With microseconds: a MicroTime of Kubernetes has them, and Python writes none where they are 0."""
    return moment if moment.microsecond else moment.replace(microsecond=1)
