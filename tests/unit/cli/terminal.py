"""Somebody in front of a terminal on which labctl runs."""

import os
import pty
import select
import struct
import termios
import time
from fcntl import ioctl

DEADLINE_S = 60.0
ROWS, COLUMNS = 24, 120


class Terminal:
    """Somebody in front of a terminal on which labctl runs."""

    def __init__(self) -> None:
        self._near, self.far = pty.openpty()
        ioctl(self.far, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.before = termios.tcgetattr(self.far)
        self.screen = b""

    def type(self, keys: bytes) -> None:
        os.write(self._near, keys)

    def until(self, text: bytes) -> None:
        end = time.monotonic() + DEADLINE_S
        while text not in self.screen:
            ready, _, _ = select.select([self._near], [], [], max(end - time.monotonic(), 0))
            assert ready, f"only {self.screen!r} was shown"
            self.screen += os.read(self._near, 4096)

    @property
    def restored(self) -> bool:
        return termios.tcgetattr(self.far) == self.before

    def close(self) -> None:
        os.close(self._near)
        os.close(self.far)
