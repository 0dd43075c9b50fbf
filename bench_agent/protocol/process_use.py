"""What this process takes of its machine."""

import os
import resource
import time
from pathlib import Path

_STATM = Path("/proc/self/statm")


def memory_bytes() -> int:
    """Resident; where the kernel does not tell, the most that it ever was."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class CpuMeter:
    """The process' share of a core, from one look to the next."""

    def __init__(self) -> None:
        self._at, self._used = time.monotonic(), time.process_time()

    def percent(self) -> float:
        """Since the last call: 100 is one core, wholly."""
        at, used = time.monotonic(), time.process_time()
        passed, spent = at - self._at, used - self._used
        self._at, self._used = at, used
        return 100 * spent / passed if passed > 0 else 0.0
