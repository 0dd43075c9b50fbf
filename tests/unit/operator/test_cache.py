"""What is known of the TestRuns, whatever the API server answers."""

import threading
from collections.abc import Iterator
from typing import Any, cast

from labd.operator.cache import Cache, Follower
from labd.operator.cluster import TestRuns
from labd.operator.testrun import TestRun
from tests.unit.operator.examples import a_testrun


class Odd:
    """An API server, or a proxy before it, that answers nonsense first: to a list, and to a watch."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self.lists = self.watches = 0

    def all(self, _namespace: str | None) -> tuple[list[TestRun], str]:
        self.lists += 1
        if self.lists == 1:
            raise KeyError("items")
        return [a_testrun()], "7"

    def watch(self, *_: object, **__: object) -> Iterator[tuple[str, Any]]:
        self.watches += 1
        if self.watches == 1:
            raise ValueError("no JSON")
        self._stop.set()
        yield "DELETED", a_testrun()


def test_nonsense_is_asked_again() -> None:
    stop = threading.Event()
    source, cache = Odd(stop), Cache()
    Follower(cast(TestRuns, source), None, cache).run(stop)
    assert (source.lists, source.watches) == (3, 2)
    assert cache.tests() == []
