"""A serial CAN adapter made of a pseudo-terminal: Linux' slcan driver gives it an interface with a real controller's
states, bit rates and modes, which vcan does not have.
"""

import contextlib
import fcntl
import os
import pty
import struct
import threading
import time
import tty
from pathlib import Path

_SET_DISCIPLINE, _INTERFACE_NAME = 0x5423, 0x8910  # TIOCSETD, SIOCGIFNAME
_SLCAN = 17  # N_SLCAN
WAIT_S = 60.0


class SlcanAdapter:
    """Speaks LAWICEL's protocol with the kernel. Raises OSError when the kernel has no slcan, or we may not use it."""

    def __init__(self) -> None:
        self._adapter, self._host = pty.openpty()
        tty.setraw(self._adapter)
        tty.setraw(self._host)
        self._heard = b""
        self._news = threading.Condition()
        try:
            fcntl.ioctl(self._host, _SET_DISCIPLINE, struct.pack("i", _SLCAN))
            self.interface = fcntl.ioctl(self._host, _INTERFACE_NAME, bytes(64)).split(b"\0")[0].decode()
        except OSError:
            os.close(self._adapter)
            os.close(self._host)
            raise
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, command: bytes) -> None:
        """Until the kernel has sent this command, such as S6 (500 kbit/s), O (open) or L (listen only)."""
        with self._news:
            assert self._news.wait_for(lambda: command in self._heard.split(b"\r"), WAIT_S), self._heard

    def tell(self, line: bytes) -> None:
        """As the adapter: t1232AABB is a frame, sp128000 error passive with counters 128 and 0, sb000000 bus-off."""
        os.write(self._adapter, line + b"\r")

    def close(self) -> None:
        """Unplugs the adapter; its interface goes."""
        os.close(self._host)
        os.close(self._adapter)
        self._reader.join(WAIT_S)
        deadline = time.monotonic() + WAIT_S
        while Path(f"/sys/class/net/{self.interface}").exists() and time.monotonic() < deadline:
            time.sleep(0.05)

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while data := os.read(self._adapter, 4096):
                with self._news:
                    self._heard += data
                    self._news.notify_all()
