"""A device on a serial line: the other end of a pty, found under a fixed name even after it was plugged in again."""

import os
import pty
import select
import time
import tty
from pathlib import Path

DEADLINE_S = 30.0


class SerialDevice:
    def __init__(self, link: Path) -> None:
        self.link = link
        self._master = -1
        self.plug()

    def plug(self) -> None:
        self._master, slave = pty.openpty()
        tty.setraw(slave)
        draft = self.link.with_name(self.link.name + ".new")
        draft.symlink_to(os.ttyname(slave))
        draft.rename(self.link)
        self._slave = slave

    def unplug(self) -> None:
        self.link.unlink(missing_ok=True)
        if self._master >= 0:
            os.close(self._master)
            os.close(self._slave)
            self._master = -1

    def say(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._master, data) :]

    def hear(self, until: bytes) -> bytes:
        """What was sent to the device, up to and with ``until``."""
        heard, end = b"", time.monotonic() + DEADLINE_S
        while not heard.endswith(until):
            ready, _, _ = select.select([self._master], [], [], max(end - time.monotonic(), 0))
            assert ready, f"only {heard!r} came"
            heard += os.read(self._master, 1)
        return heard
