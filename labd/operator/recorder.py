"""Writes Events of TestRuns into the cluster: a help to people, never a reason not to go on."""

from collections.abc import Iterable

import structlog

from labd.operator.cluster import ANSWER_S, Changed, ClusterError, NotAllowed, Place, asked
from labd.operator.news import News
from labd.operator.testrun import GROUP, KIND, VERSION, TestRun, moment

COMPONENT = "labd-operator"
MESSAGE_LENGTH = 1024
_log = structlog.get_logger()


class Recorder:
    """Each Event has a name of its own, so one that is there already was told before."""

    def __init__(self, place: Place, identity: str) -> None:
        from kubernetes.client import CoreV1Api

        self._api = CoreV1Api(place.api)
        self._where = place.where
        self._identity = identity
        self._said: str | None = None

    def tell(self, test: TestRun, news: Iterable[News], now: float) -> None:
        """Writes them; what cannot be written is lost, and the log says so once."""
        for one in news:
            try:
                asked(
                    self._where,
                    self._api.create_namespaced_event,
                    test.namespace,
                    self._event(test, one, now),
                    _request_timeout=ANSWER_S,
                )
            except Changed:
                pass  # it was told before
            except ClusterError as error:
                self._lost(error)
            else:
                self._said = None

    def _event(self, test: TestRun, news: News, now: float) -> dict[str, object]:
        at = moment(now)
        return {
            "metadata": {"name": news.name(test), "namespace": test.namespace},
            "involvedObject": {
                "apiVersion": f"{GROUP}/{VERSION}",
                "kind": KIND,
                "namespace": test.namespace,
                "name": test.name,
                "uid": test.uid,
                "resourceVersion": test.version,
            },
            "type": "Warning" if news.warning else "Normal",
            "reason": news.reason,
            "message": news.message[:MESSAGE_LENGTH],
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._identity,
            "firstTimestamp": at,
            "lastTimestamp": at,
            "count": 1,
        }

    def _lost(self, error: ClusterError) -> None:
        hint = "; it needs create of events" if isinstance(error, NotAllowed) else ""
        if str(error) != self._said:
            _log.warning("an Event cannot be written", error=f"{error}{hint}")
        self._said = str(error)
