"""Debian's can-utils as an independent witness and intruder on vcan0."""

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

WAIT_S = 60.0


class Candump:
    """can-utils' candump as an independent witness of a bus."""

    def __init__(self, process: "subprocess.Popen[str]", interface: str) -> None:
        self.interface = interface
        self._process = process
        self.lines: list[str] = []
        """Frames as candump writes them."""
        self.stamps: list[str] = []
        """The kernel's timestamp of each."""
        self.news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self.news:
                # "(1436509052.249713) vcan0 044#2A366C2BBA"
                stamp, _, frame = line.split()[:3]
                self.lines.append(frame)
                self.stamps.append(stamp)
                self.news.notify_all()

    def wait_for_times(self, count: int, start: str, *, after: int = 0) -> None:
        """Returns once so many frames, from number ``after`` on, begin with ``start``; fails when they do not come."""

        def seen() -> int:
            return sum(line.startswith(start) for line in self.lines[after:])

        with self.news:
            assert self.news.wait_for(lambda: seen() >= count, WAIT_S), f"candump saw {start} {seen()} times"

    def provoke(self, request: str, answer: str) -> None:
        """Sends ``request`` until a frame that begins with ``answer`` is seen; whoever answers may be starting."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            cansend(request, self.interface)
            with self.news:
                if self.news.wait_for(lambda: any(line.startswith(answer) for line in self.lines), 0.2):
                    return
        raise AssertionError(f"nobody answered {request} with {answer}: {self.lines[-20:]}")

    def close(self) -> None:
        """Once candump has ended."""
        self._reader.join(WAIT_S)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def wait_for(self, start: str) -> str:
        """The first frame whose notation begins with ``start``; fails when none comes in time."""

        def found() -> list[str]:
            return [line for line in self.lines if line.startswith(start)]

        with self.news:
            assert self.news.wait_for(lambda: bool(found()), WAIT_S), f"candump saw no {start}: {self.lines[-20:]}"
            return found()[0]


@contextmanager
def watch(interface: str = "vcan0") -> Iterator[Candump]:
    """A candump that is listening already."""
    process = subprocess.Popen(["candump", "-L", interface], stdout=subprocess.PIPE, text=True)
    witness = Candump(process, interface)
    try:
        witness.provoke("7FF#", "7FF#")
        yield witness
    finally:
        process.kill()
        process.wait()
        witness.close()


def cansend(frame: str, interface: str = "vcan0") -> None:
    """Puts a frame in cansend's notation on a bus."""
    subprocess.run(["cansend", interface, frame], check=True, timeout=30)
