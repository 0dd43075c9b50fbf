"""Tells those who follow something that it has changed. Says nothing of how: they look for themselves."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

Listener = Callable[[], None]


class Changes:
    """Topics with listeners. Listeners run on the publisher's thread and must be quick."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[str, list[Listener]] = {}

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

    def publish(self, topics: Iterable[str]) -> None:
        """Wakes the listeners of these topics."""
        with self._lock:
            listeners = [listener for topic in topics for listener in self._listeners.get(topic, ())]
        for listener in listeners:
            listener()

    def publish_all(self) -> None:
        """Wakes everybody, for example because labd stops."""
        with self._lock:
            topics = list(self._listeners)
        self.publish(topics)
