"""Exit codes. Those of verdicts are small; those of labctl itself are the ones of sysexits.h, so no two meet."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a labctl process ends with."""

    OK = 0
    FAILED = 1
    ERROR = 2
    CANCELLED = 3
    USAGE = 64
    REFUSED = 65
    UNAVAILABLE = 69
    OUTPUT = 74
    TIMEOUT = 75
    INTERRUPTED = 130


MEANING = {
    ExitCode.OK: "done; the run passed, the ECU answered positively",
    ExitCode.FAILED: "the run failed: a check did not hold; or the ECU refused the request",
    ExitCode.ERROR: "the run ended in ERROR: script, bench or lab broke; or the ECU did not answer",
    ExitCode.CANCELLED: "the run was cancelled",
    ExitCode.USAGE: "wrong usage of labctl",
    ExitCode.REFUSED: "labd or the bench refused: unknown name, selector that can never match, lease at its end, ...",
    ExitCode.UNAVAILABLE: "labd or the bench's agent cannot be reached",
    ExitCode.OUTPUT: "a file or the output could not be written",
    ExitCode.TIMEOUT: "no bench came free within --timeout",
    ExitCode.INTERRUPTED: "interrupted by Ctrl-C (128 + n: by signal n)",
}
OF_RUN = {
    "PASSED": ExitCode.OK,
    "FAILED": ExitCode.FAILED,
    "ERROR": ExitCode.ERROR,
    "CANCELLED": ExitCode.CANCELLED,
}


class Failure(Exception):
    """Ends labctl with one line on stderr and an exit code."""

    def __init__(self, message: str, code: ExitCode) -> None:
        super().__init__(message)
        self.code = code


class Interrupted(KeyboardInterrupt):
    """A signal that asks labctl to end; raised in the main thread, so that leases are released on the way out."""

    def __init__(self, signal_number: int) -> None:
        super().__init__()
        self.signal_number = signal_number


def table_text() -> str:
    """The exit codes as lines for ``--help``; ``\\b`` keeps click from rewrapping them."""
    return "\b\nExit codes:\n" + "\n".join(f"  {code:>3}  {text}" for code, text in MEANING.items())
