"""Whether this machine's wall clock is known to be right, as the kernel says (adjtimex(2))."""

import ctypes
import time
from collections.abc import Callable

import structlog

from bench_agent.protocol import boot_clock

PATIENCE_S = 90.0
"""From the start of the machine: a time service has set the clock by then, or will not soon."""
_LOOK_S = 0.5
_STA_UNSYNC = 0x40

_log = structlog.get_logger()


class _Timex(ctypes.Structure):
    """The beginning of struct timex; the kernel writes 208 bytes in all."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 512),
    )


def synchronised() -> bool | None:
    """Whether a time service (NTP, PTP) keeps the clock right; None where the kernel does not tell."""
    try:
        asked = _Timex()
        if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(asked)) < 0:
            return None
    except (OSError, AttributeError):
        return None
    return not asked.status & _STA_UNSYNC


def wait_until_set(
    synchronised: Callable[[], bool | None] = synchronised,
    since_boot: Callable[[], float] = boot_clock.now,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Returns once the clock is right for all that the kernel knows, or `PATIENCE_S` after the start of the machine."""
    told = False
    while synchronised() is False:
        left = PATIENCE_S - since_boot()
        if left <= 0:
            _log.warning("the wall clock is believed, though no time service keeps it right")
            return
        if not told:
            _log.info("the machine has just been started: waiting for its clock to be set", longest_s=round(left))
            told = True
        sleep(min(_LOOK_S, left))
