"""Operating-system facts about processes that are not necessarily our children (Linux)."""

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process, told apart from later ones that get the same number."""

    pid: int
    started: int
    """Clock ticks between boot and the start of the process."""
    boot: str


def boot_id() -> str:
    """Of the running kernel's boot."""
    return (_PROC / "sys/kernel/random/boot_id").read_text("ascii").strip()


def identify(pid: int) -> ProcessId | None:
    """The process that has this number now; None when there is none, or only its corpse."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the command in parentheses, and may itself contain both.
    fields = stat.rpartition(")")[2].split()
    if fields[0] in ("Z", "X"):
        return None
    return ProcessId(pid, int(fields[19]), boot_id())


def find_by_directory(directory: Path) -> ProcessId | None:
    """The session leader whose working directory is this one."""
    wanted = str(directory)
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            pid = int(entry.name)
            if str((entry / "cwd").readlink()) == wanted and os.getsid(pid) == pid:
                return identify(pid)
    return None


def signal_group(pid: int, number: signal.Signals) -> None:
    """Signals the process group that this process leads; one that is gone needs none."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def describe_exit(returncode: int) -> str:
    """How a child ended, for people."""
    if returncode >= 0:
        return f"exited with code {returncode}"
    try:
        return f"was killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"was killed by signal {-returncode}"


def adopt_orphans() -> None:
    """Makes this process the parent of descendants whose own parent has ended (PR_SET_CHILD_SUBREAPER): it has to wait
    for them. Raises OSError.
    """
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def name_process(name: str) -> None:
    """What ``ps -o comm`` and ``top`` call this process, 15 bytes at most. Raises OSError."""
    _prctl(_PR_SET_NAME, name.encode())


def _prctl(option: int, argument: int | bytes) -> None:
    import ctypes  # its library need not be loaded where nobody is named or adopted

    if ctypes.CDLL(None, use_errno=True).prctl(option, argument, 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
