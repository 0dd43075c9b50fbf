"""A serial port that exists in software only: one end is a file such as /dev/pts/5, the other one is ours."""

import asyncio
import os
import tty
from collections import deque
from collections.abc import Callable
from contextlib import suppress

_CHUNK = 4096
_MOST_WAITING = 64 << 10
"""Bytes that wait for somebody to read them; more is dropped, as on a cable without a listener."""


class PtyPort:
    """Opened and closed on one asyncio loop. ``path`` can be opened by any serial library, again and again.

    As on a UART, who opens it late has missed what was printed before: serial libraries empty their input on opening.
    """

    def __init__(self, on_data: Callable[[bytes], None] | None = None) -> None:
        """Raises OSError when the system has no pty left."""
        self.on_data = on_data
        self.dropped = 0
        """Bytes that nobody took."""
        self._loop = asyncio.get_running_loop()
        # The far end stays open here: without it, a reader that goes away would end ours.
        self._ours, self._theirs = os.openpty()
        tty.setraw(self._theirs)
        os.set_blocking(self._ours, False)
        self.path = os.ttyname(self._theirs)
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._closed = False
        self._loop.add_reader(self._ours, self._readable)

    def write(self, data: bytes) -> None:
        """Prints, now or as soon as there is room."""
        if self._closed:
            return
        if self._size + len(data) > _MOST_WAITING:
            self.dropped += len(data)
            return
        self._waiting.append(data)
        self._size += len(data)
        self._flush()

    def close(self) -> None:
        """Closing twice does nothing."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._ours)
        self._loop.remove_writer(self._ours)
        for end in (self._ours, self._theirs):
            os.close(end)

    def _flush(self) -> None:
        while self._waiting:
            data = self._waiting.popleft()
            self._size -= len(data)
            try:
                written = os.write(self._ours, data)
            except BlockingIOError:
                written = 0
            if written < len(data):
                self._waiting.appendleft(data[written:])
                self._size += len(data) - written
                self._loop.add_writer(self._ours, self._flush)
                return
        self._loop.remove_writer(self._ours)

    def _readable(self) -> None:
        with suppress(BlockingIOError):
            data = os.read(self._ours, _CHUNK)
            if data and self.on_data is not None:
                self.on_data(data)
