"""Tells those who follow something that it has changed. Says nothing of how: they look for themselves."""

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

Listener = Callable[[], None]
Watcher = Callable[[Collection[str]], None]
ALL = "*"
"""The topic that changes with every other."""


class Changes:
    """Topics with listeners. Listeners run on the publisher's thread and must be quick."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[str, list[Listener]] = {}
        self._watchers: list[Watcher] = []

    @contextmanager
    def listen(self, topic: str, listener: Listener) -> Iterator[None]:
        """Calls `listener` after every change of the topic, for as long as the block lasts."""
        with self._lock:
            self._listeners.setdefault(topic, []).append(listener)
        try:
            yield
        finally:
            with self._lock:
                self._listeners[topic].remove(listener)
                if not self._listeners[topic]:
                    del self._listeners[topic]

    @contextmanager
    def watch(self, watcher: Watcher) -> Iterator[None]:
        """Calls `watcher` with what has changed, before the listeners, for as long as the block lasts."""
        with self._lock:
            self._watchers.append(watcher)
        try:
            yield
        finally:
            with self._lock:
                self._watchers.remove(watcher)

    def publish(self, topics: Collection[str]) -> None:
        """Wakes the listeners of these topics."""
        if not topics:
            return
        with self._lock:
            watchers = list(self._watchers)
            listeners = [listener for topic in (*topics, ALL) for listener in self._listeners.get(topic, ())]
        for watcher in watchers:
            watcher(topics)
        for listener in listeners:
            listener()

    def publish_all(self) -> None:
        """Wakes everybody, for example because labd stops."""
        with self._lock:
            topics = list(self._listeners)
        self.publish(topics)
