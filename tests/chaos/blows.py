"""What can happen to a lab, apart from the end of labd: each dealt once, at a moment that the caller chooses."""

import itertools
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos.storm import Storm
from tests.disks import fill
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


def fill_disk(disk: Path, seconds: float) -> Callable[[], None]:
    """A blow that leaves no byte free on the file system of ``disk`` for so long (s)."""

    def blow() -> None:
        with fill(disk):
            time.sleep(seconds)

    return blow


def restart_server(server: PostgresServer, seconds: float) -> Callable[[], None]:
    """A blow that stops PostgreSQL as a crash would, and starts it again after so long (s)."""

    def blow() -> None:
        server.stop()
        time.sleep(seconds)
        server.start()

    return blow


def fill_wal_disk(server: PostgresServer, seconds: float) -> Callable[[], None]:
    """A blow that fills the disk of PostgreSQL's log of transactions for so long (s), and starts it if it has ended."""

    def blow() -> None:
        with fill(server.wal_disk):
            time.sleep(seconds)
        server.start_again()

    return blow


def fail_over(primary: PostgresServer, standby: PostgresServer) -> Callable[[], None]:
    """A blow that stops the primary as a crash would, and promotes the standby; the former becomes the standby."""
    pair = [primary, standby]

    def blow() -> None:
        former, new = pair
        former.stop()
        new.promote()
        pair.reverse()
        time.sleep(3.0)
        former.follow(new)
        new.wait_for_standby(waits=True)

    return blow
