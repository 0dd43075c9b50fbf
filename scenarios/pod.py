"""``python -m scenarios pod``: a run in a test pod. Proves to labd which pod it is, and executes the run.

What proves it is the token of the pod's service account, which Kubernetes keeps fresh in a file. It opens nothing but
the exchange for the run's token, and that one is kept in memory alone: not in the environment, not in a file. Where
labd may not have tokens reviewed, the file holds the run's token itself.
"""

import os
import signal
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn

from runners.termination import write_termination_message

TOKEN_FILE = Path("/var/run/secrets/labd/token")
TOKEN_FILE_VARIABLE = "LABD_TOKEN_FILE"  # noqa: S105 - the name of a variable, not a token
"""Environment variable: where the pod's token is, if not there."""
TOKEN_BYTES_MAX = 16 * 1024
PATIENCE_S = 120.0
"""How long labd may take to give the run's token, a restart of labd included."""
ERROR = 2


class PodError(Exception):
    """The run cannot begin; the message says why."""


def main() -> int:
    """Executes the run that LABD_URL, LABD_RUN_ID and LABD_ATTEMPT name. Returns the exit code."""
    # The first process of a container ignores what it has no handler for.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stopped)
    try:
        from labd.client import LabError
        from scenarios.runner import run

        try:
            url, run_id, attempt = _settings()
            _prepare_scratch()
            token = run_token(url, run_id, attempt, Path(os.environ.get(TOKEN_FILE_VARIABLE) or TOKEN_FILE))
            return run(url, run_id, token)
        except LabError as error:
            raise PodError(f"labd does not take the pod for attempt {attempt} of run {run_id}: {error}") from error
    except PodError as error:
        write_termination_message(str(error))
        return ERROR


def run_token(url: str, run_id: str, attempt: int, file: Path, patience_s: float = PATIENCE_S) -> str:
    """The run's token in exchange for the pod's own, which is in the file. Raises PodError and LabError."""
    from labd.client import LabClient, LabError, ProblemError
    from scenarios.shipping import is_passing, retry_delays

    give_up_at, delays = time.monotonic() + patience_s, retry_delays()
    while True:
        own = _read(file)  # anew each time: it may have been replaced by a fresh one
        if "." not in own:  # no JWT (RFC 7519), which a service account's is
            return own
        try:
            with LabClient(url, token=own, in_order=True) as lab:
                return lab.runner_token(run_id, attempt)
        except LabError as error:
            pause_s = next(delays)
            if isinstance(error, ProblemError):
                pause_s = max(pause_s, error.retry_after_s or 0.0)
            if not is_passing(error) or time.monotonic() + pause_s >= give_up_at:
                raise
        time.sleep(pause_s)


def _settings() -> tuple[str, str, int]:
    missing = [name for name in ("LABD_URL", "LABD_RUN_ID", "LABD_ATTEMPT") if not os.environ.get(name)]
    if missing:
        raise PodError(f"a test pod needs {', '.join(missing)} in its environment; labd sets them")
    attempt = os.environ["LABD_ATTEMPT"]
    if not (attempt.isascii() and attempt.isdecimal()):
        raise PodError(f"LABD_ATTEMPT is {attempt!r}: expected a number, such as 1")
    return os.environ["LABD_URL"], os.environ["LABD_RUN_ID"], int(attempt)


def _prepare_scratch() -> None:
    """The only places that the run may write to: the working directory, and TMPDIR."""
    temporary = os.environ.get("TMPDIR")
    try:
        if temporary:
            Path(temporary).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PodError(f"TMPDIR is {temporary}, which cannot be made: {error.strerror}") from error
    if not os.access(".", os.W_OK):
        raise PodError(f"the working directory {Path.cwd()} is read-only: it has to be the pod's scratch volume")


def _read(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            token = opened.read(TOKEN_BYTES_MAX + 1).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise PodError(f"the pod's token {file} cannot be read: {error}") from error
    if not token or len(token) > TOKEN_BYTES_MAX:
        raise PodError(f"the pod's token {file} is empty, or longer than {TOKEN_BYTES_MAX} bytes")
    return token


def _stopped(number: int, _: FrameType | None) -> NoReturn:
    raise PodError(f"the pod was told to stop ({signal.Signals(number).name}) before its run had begun")
