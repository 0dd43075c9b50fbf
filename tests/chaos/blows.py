"""What can happen to a lab, apart from the end of labd: each dealt once, at a moment that the caller chooses."""

import itertools
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.storm import Storm
from tests.postgresql import PostgresServer

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
"""Of Debian's faketime: preloaded, it sets the wall clock of one process wrong."""


def pause_process(one: Storm, names: tuple[str, ...], seconds: float) -> Callable[[], None]:
    """A blow that stops the next of these processes (SIGSTOP) for so long (s) and lets it go on."""
    victims = itertools.cycle(names)

    def blow() -> None:
        process = one.lab.processes[next(victims)]
        process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        process.send_signal(signal.SIGCONT)

    return blow


def step_clock(one: Storm) -> Callable[[], None]:
    """A blow that kills labd and starts it with its wall clock an hour ahead, an hour behind, or right, in turn."""
    steps = itertools.cycle(("+1h", "-1h", None))

    def blow() -> None:
        step = next(steps)
        # The monotonic clock is the kernel's own: only the wall clock is wrong, as after a bad NTP server.
        wrong = ("env", f"LD_PRELOAD={FAKETIME}", "FAKETIME_DONT_FAKE_MONOTONIC=1", f"FAKETIME={step}")
        one.prefix = () if step is None else wrong
        one.kill()

    return blow


@contextmanager
def small_disk(folder: Path, megabytes: int = 64) -> Iterator[Path]:
    """A file system of its own for labd's data. Needs the right to mount."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill_disk(disk: Path, seconds: float) -> Callable[[], None]:
    """A blow that leaves no byte free on the file system of ``disk`` for so long (s)."""

    def blow() -> None:
        ballast = disk / "ballast"
        with ballast.open("wb", buffering=0) as file:
            try:
                for size in (1 << 20, 4096):
                    while True:
                        try:
                            file.write(b"\0" * size)
                        except OSError:
                            break
            finally:
                os.fsync(file.fileno())
        time.sleep(seconds)
        ballast.unlink()

    return blow


def restart_server(server: PostgresServer, seconds: float) -> Callable[[], None]:
    """A blow that stops PostgreSQL as a crash would, and starts it again after so long (s)."""

    def blow() -> None:
        server.stop()
        time.sleep(seconds)
        server.start()

    return blow
