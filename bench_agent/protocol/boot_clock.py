"""The seconds since this machine was started, suspended ones included, and which start that was.

Nothing steps this clock: not a wrong date, not a correction of it, not a stopped process, not a suspended machine.
"""

import time
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def now() -> float:
    """Seconds on CLOCK_BOOTTIME (clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Another text after each start of the machine; empty where the kernel does not tell."""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except (OSError, ValueError):
        return ""
