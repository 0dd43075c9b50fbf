"""What pods a lab has in a cluster: a list, made anew at intervals, and kept fresh by a watch in between.

The list is what counts. A watch that is closed, falls silent, or has missed something costs time, and nothing else.
"""

import contextlib
import random
import threading
import time
from collections.abc import Callable

import structlog

from labd.executors.kubernetes.api import ClusterApi, ClusterAway, Event, Expired, Json, Refused
from labd.executors.kubernetes.work_queue import pause_s

RESYNC_S = 60.0
"""How long a list is good for, about."""
SHORT_S = 1.0
"""A watch that is closed sooner, without having told anything, counts as failed."""
TRIES = 2
"""Watches that may fail in a row before a list is asked for again."""
CLOSE_S = 2.0

_log = structlog.get_logger()


class PodMirror:
    """Every method may be called from any thread."""

    def __init__(
        self,
        api: ClusterApi,
        cluster: str,
        selector: str,
        *,
        changed: Callable[[str], None],
        gone: Callable[[str, Json], None],
        listed: Callable[[], None],
        resync_s: float = RESYNC_S,
    ) -> None:
        """Calls, on its own thread: ``changed(name)``; ``gone(name, last)`` with what was seen at last; ``listed()``
        after each list.
        """
        self._api = api
        self._cluster = cluster
        self._selector = selector
        self._changed = changed
        self._gone = gone
        self._listed = listed
        self._resync_s = resync_s
        self._lock = threading.Lock()
        self._pods: dict[str, Json] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name=f"pods of {cluster}", daemon=True)
        self.problem: str | None = None
        """Why it cannot be said how things are now; None: they are as the mirror shows them, once there was a list."""
        self.relists = 0
        """Lists since the start."""

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    def stop(self) -> None:
        """Returns when it has ended, or will soon."""
        self._stopping.set()
        self._api.stop_watching()
        if self._thread.is_alive():
            self._thread.join(timeout=CLOSE_S)

    def get(self, name: str) -> Json | None:
        """The pod, as it was seen last."""
        with self._lock:
            return self._pods.get(name)

    def names(self) -> list[str]:
        """Of all pods."""
        with self._lock:
            return list(self._pods)

    def put(self, pod: Json) -> None:
        """What a call has answered. Where the mirror has the pod already, it knows better."""
        with self._lock:
            self._pods.setdefault(pod["metadata"]["name"], pod)

    def _loop(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                version = self._list()
                failures = 0
                self._follow(version)
            except (ClusterAway, Refused, Expired) as error:
                failures += 1
                self._trouble(str(error), quiet=isinstance(error, Expired))
                after = error.retry_after_s if isinstance(error, ClusterAway) else 0.0
                self._stopping.wait(max(after, pause_s(failures)))
            except Exception:
                failures += 1
                _log.exception("looking at the pods of a cluster failed: retried", cluster=self._cluster)
                self._stopping.wait(pause_s(failures))

    def _list(self) -> str:
        with self._lock:
            before = dict(self._pods)
        found, version = self._api.list("pods", self._selector)
        pods = {pod["metadata"]["name"]: pod for pod in found}
        with self._lock:
            # One that was made since the list was asked for is not in it, and not gone.
            fresh = {name: pod for name, pod in self._pods.items() if name not in before}
            self._pods = {**fresh, **pods}
        self.relists += 1
        if self.problem is not None or self.relists == 1:
            _log.info("a cluster is looked at", cluster=self._cluster, pods=len(pods))
            self.problem = None
        for name, last in before.items():
            if name not in pods:
                self._gone(name, last)
        for name, pod in pods.items():
            if _version(pod) != _version(before.get(name)):
                self._changed(name)
        self._listed()
        return version

    def _follow(self, version: str) -> None:
        """Watches until it is time for another list. Raises Expired, Refused, and ClusterAway when it stays away."""
        until = time.monotonic() + self._resync_s * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load
        failures = 0
        while not self._stopping.is_set() and (left := until - time.monotonic()) > 0:
            began, told = time.monotonic(), False
            try:
                with contextlib.closing(self._api.watch("pods", self._selector, version, left)) as events:
                    for event in events:
                        told = True
                        version = event.version or version
                        self._take(event)
            except ClusterAway as error:
                if failures >= TRIES:
                    raise
                told = False
                self._trouble(str(error), quiet=True)
            failures = 0 if told or time.monotonic() - began >= SHORT_S else failures + 1
            if failures:
                self._stopping.wait(min(left, pause_s(failures)))

    def _take(self, event: Event) -> None:
        if event.kind not in ("ADDED", "MODIFIED", "DELETED"):
            return
        name = event.found["metadata"]["name"]
        with self._lock:
            if event.kind == "DELETED":
                self._pods.pop(name, None)
            else:
                self._pods[name] = event.found
        if event.kind == "DELETED":
            self._gone(name, event.found)
        else:
            self._changed(name)

    def _trouble(self, why: str, *, quiet: bool) -> None:
        if self._stopping.is_set():
            return
        if quiet:
            _log.debug("a watch has ended", cluster=self._cluster, reason=why)
            return
        if self.problem is None or self.relists == 0:
            log = _log.warning if self.problem != why else _log.debug
            log("a cluster cannot be looked at: retried", cluster=self._cluster, reason=why)
        self.problem = why


def _version(pod: Json | None) -> object:
    return None if pod is None else (pod["metadata"].get("uid"), pod["metadata"].get("resourceVersion"))
