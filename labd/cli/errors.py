"""Errors of the two clients as one line and an exit code."""

import sys

from labd.cli.exits import ExitCode, Failure
from labd.cli.output import one_line
from labd.client import LabError, LabUnreachable, NotHeld, ProblemError
from labd.client.credentials import SignInError


def as_failure(error: Exception) -> Failure | None:
    """The failure to end labctl with, or None for an error that is a fault of labctl itself."""
    match error:
        case LabUnreachable():
            return Failure(
                f"{one_line(str(error))}. Start one with 'labd serve', or name another with --labd URL or LABD_URL.",
                ExitCode.UNAVAILABLE,
            )
        case ProblemError(status=401):
            return Failure(f"{one_line(str(error))}. Sign in with: labctl login", ExitCode.REFUSED)
        case SignInError():
            return Failure(one_line(str(error)), ExitCode.REFUSED)
        case ProblemError():
            return Failure(one_line(str(error)), ExitCode.REFUSED)
        case NotHeld():
            return Failure(one_line(str(error)), ExitCode.REFUSED)
        case LabError():
            return Failure(f"{one_line(str(error))}. Is --labd or LABD_URL right?", ExitCode.UNAVAILABLE)
    return _of_bench(error)


def _of_bench(error: Exception) -> Failure | None:
    # Not imported here: a command that never used the client (and gRPC) does not pay for it.
    client = sys.modules.get("bench_agent.client")
    if client is None or not isinstance(error, client.BenchError):
        return None
    text = one_line(str(error))
    if isinstance(error, client.BenchUnavailable):
        return Failure(text, ExitCode.UNAVAILABLE)
    if isinstance(error, client.NegativeResponse):
        return Failure(text, ExitCode.FAILED)
    if isinstance(error, client.UdsTimeout | client.UdsTransport | client.DeviceFault):
        return Failure(text, ExitCode.ERROR)
    return Failure(text, ExitCode.REFUSED)
