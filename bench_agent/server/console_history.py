"""The last output of a console, addressed by offset: a ring of bytes that knows what it has dropped."""

import threading


class ConsoleHistory:
    """Bytes ``start`` to ``end`` of everything that was ever appended. Any thread may use it."""

    def __init__(self, capacity: int) -> None:
        """``capacity`` in bytes."""
        self._capacity = capacity
        self._data = bytearray()
        self._lock = threading.Lock()
        self.start = 0
        """Offset of the oldest byte that is still there; all before it was dropped."""

    @property
    def end(self) -> int:
        """Offset of the next byte to come."""
        return self.start + len(self._data)

    def append(self, data: bytes) -> None:
        """Takes new output; what does not fit any more is dropped at the other end."""
        with self._lock:
            self._data += data
            # In large steps: moving the rest down costs as much as the rest is long.
            if len(self._data) > self._capacity + self._capacity // 4:
                surplus = len(self._data) - self._capacity
                del self._data[:surplus]
                self.start += surplus

    def read(self, offset: int, limit: int) -> tuple[int, bytes]:
        """Up to ``limit`` bytes from ``offset`` on, or from `start` on when that was dropped; and where they begin."""
        with self._lock:
            first = min(max(offset, self.start), self.end)
            at = first - self.start
            return first, bytes(self._data[at : at + limit])
