"""The TestRuns of the cluster, held in memory: listed at start and at intervals, and watched in between.

What is true is the list; a watch that dies, lies or lags costs time and nothing else. Scripts are left out: they are
read again when they are needed.
"""

import random
import threading
import time
from collections.abc import Iterable
from typing import Any

import structlog

from labd.operator.cluster import WATCH_S, ClusterError, TestRuns
from labd.operator.testrun import TestRun

RELIST_S = 300.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
_log = structlog.get_logger()


class Cache:
    """What is known of the TestRuns. Threads share it."""

    def __init__(self, changed: threading.Event | None = None) -> None:
        self.changed = changed or threading.Event()
        """Set each time that there is news."""
        self._lock = threading.Lock()
        self._tests: dict[str, TestRun] = {}

    def tests(self) -> list[TestRun]:
        """All, oldest first."""
        with self._lock:
            return sorted(self._tests.values(), key=lambda test: (test.created_at, test.uid))

    def put(self, test: TestRun) -> None:
        """Takes in what was just read or written, unless something newer is known."""
        with self._lock:
            self._tests[test.uid] = self._newer(test)

    def drop(self, test: TestRun) -> None:
        """Forgets one that is gone."""
        with self._lock:
            self._tests.pop(test.uid, None)

    def replace(self, namespace: str | None, tests: Iterable[TestRun]) -> None:
        """Takes these for all there are in a namespace, or anywhere."""
        with self._lock:
            others = {} if namespace is None else {u: t for u, t in self._tests.items() if t.namespace != namespace}
            self._tests = others | {test.uid: self._newer(test) for test in tests}

    def _newer(self, test: TestRun) -> TestRun:
        known = self._tests.get(test.uid)
        return known if known and _number(known.version) > _number(test.version) else _without_script(test)


class Follower:
    """Keeps a cache up to date with a namespace of the cluster, or with all."""

    def __init__(self, source: TestRuns, namespace: str | None, cache: Cache) -> None:
        self._source = source
        self._namespace = namespace
        self._cache = cache
        self._version = ""
        self._said: str | None = None
        self.listed = False
        """Whether the cluster has answered yet."""

    def run(self, stop: threading.Event) -> None:
        """Follows until told to stop, whatever the API server answers: a deaf operator would be worse than none."""
        pause_s = FIRST_PAUSE_S
        while not stop.is_set():
            try:
                self.relist()
            except Exception as error:
                self._tell(error)
                stop.wait(pause_s * random.uniform(0.5, 1))  # noqa: S311
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                continue
            pause_s = FIRST_PAUSE_S
            try:
                self._follow(stop, time.monotonic() + RELIST_S)
            except Exception as error:  # cut off, or too old to go on: the list is next, but not in a rush
                _log.debug("a watch of TestRuns broke off", error=str(error), exc_info=_ours(error))
                stop.wait(FIRST_PAUSE_S * random.uniform(0.5, 1))  # noqa: S311

    def relist(self) -> None:
        """Takes in all that the cluster has. Raises ClusterError."""
        tests, self._version = self._source.all(self._namespace)
        self._cache.replace(self._namespace, tests)
        if self._said is not None:
            _log.info("TestRuns can be read again")
            self._said = None
        self.listed = True
        self._cache.changed.set()

    def _follow(self, stop: threading.Event, until: float) -> None:
        while not stop.is_set() and (left_s := until - time.monotonic()) > 0:
            began = time.monotonic()
            for_s = max(1, min(WATCH_S, round(left_s)))
            self._take(self._source.watch(self._namespace, self._version, for_s=for_s), stop)
            if time.monotonic() - began < FIRST_PAUSE_S:
                stop.wait(FIRST_PAUSE_S)  # a server that closes each watch at once is not asked in a rush

    def _take(self, events: Iterable[tuple[str, TestRun]], stop: threading.Event) -> None:
        for kind, test in events:
            if kind == "DELETED":
                self._cache.drop(test)
            elif kind in ("ADDED", "MODIFIED"):
                self._cache.put(test)
            self._version = test.version
            if kind != "BOOKMARK":
                self._cache.changed.set()
            if stop.is_set():
                return

    def _tell(self, error: Exception) -> None:
        """Says once why nothing can be read."""
        if str(error) != self._said:
            namespace = self._namespace or "all"
            _log.error("TestRuns cannot be read", namespace=namespace, error=str(error), exc_info=_ours(error))
        self._said = str(error)


def _without_script(test: TestRun) -> TestRun:
    spec: dict[str, Any] = {name: value for name, value in test.spec.items() if name != "script"}
    metadata = {name: value for name, value in test.metadata.items() if name != "managedFields"}
    return TestRun({**test.document, "metadata": metadata, "spec": spec})


def _ours(error: Exception) -> bool:
    """Whether nobody has told what it means: then the log has the traceback."""
    return not isinstance(error, ClusterError)


def _number(version: str) -> int:
    """Versions of one kind of object can be compared; what is no number is taken as it comes."""
    return int(version) if version.isdecimal() else 0
