"""Debian's can-utils as an independent witness and intruder on vcan0."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

WAIT_S = 60.0


class Candump:
    """can-utils' candump as an independent witness of vcan0."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.lines: list[str] = []
        self.news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self.news:
                # "(1436509052.249713) vcan0 044#2A366C2BBA"
                self.lines.append(line.split()[2])
                self.news.notify_all()

    def frames(self) -> list[str]:
        with self.news:
            return list(self.lines)

    def wait_for(self, start: str, *, count: int = 1) -> str:
        """The first frame whose notation begins with ``start``; fails when fewer than ``count`` come in time."""

        def found() -> list[str]:
            return [line for line in self.lines if line.startswith(start)]

        with self.news:
            assert self.news.wait_for(lambda: len(found()) >= count, WAIT_S), (
                f"candump saw no {start}: {self.lines[-20:]}"
            )
            return found()[0]


@contextmanager
def watch() -> Iterator[Candump]:
    process = subprocess.Popen(["candump", "-L", "vcan0"], stdout=subprocess.PIPE, text=True)
    try:
        witness = Candump(process)
        # Live once it has seen a frame of ours.
        for _ in range(int(WAIT_S * 20)):
            cansend("7FF#")
            with witness.news:
                if witness.news.wait_for(lambda: bool(witness.lines), 0.05):
                    break
        yield witness
    finally:
        process.kill()
        process.wait()


def cansend(frame: str) -> None:
    """Puts a frame in cansend's notation on vcan0."""
    subprocess.run(["cansend", "vcan0", frame], check=True, timeout=30)
