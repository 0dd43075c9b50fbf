"""A keeper's end of the nursery, the process that forks runners (see `runners.nursery_process`).

Starting Python and importing what a runner needs takes some hundred milliseconds of a core; forking a process that has
done so takes a few.
"""

import contextlib
import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import structlog

from runners.nursery_process import MESSAGE_BYTES, READY, REFUSAL
from runners.processes import adopt_orphans, describe_exit
from runners.status import StartError

ANSWER_S = 5.0
"""How long a nursery may take to fork."""
RESTART_S = 30.0
"""Least time between the starts of two nurseries: one that dies at once is not to be started for each run."""
LAST_WORDS_BYTES = 2 * 1024
_GOING_S = 0.2
"""For one that has closed its socket to end."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Newborn:
    """A runner of the nursery's, a child of this process."""

    pid: int

    def wait(self) -> int:
        """Its return code, as of `subprocess.Popen`, once it has ended."""
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)


class Nursery:
    """Starts the process when it is first needed, and another when it has died. For one thread at a time."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        answer_s: float = ANSWER_S,
        restart_s: float = RESTART_S,
    ) -> None:
        """``command`` calls `serve`; ``environment`` is what all runners have in common."""
        self._command = list(command)
        self._environment = environment
        self._answer_s = answer_s
        self._restart_s = restart_s
        self._process: subprocess.Popen[bytes] | None = None
        self._door: socket.socket | None = None
        self._output: IO[bytes] | None = None
        self._ready = False
        self._next_at = 0.0

    def start(self, directory: Path, environment: Mapping[str, str], output: IO[bytes]) -> Newborn | None:
        """A runner in this directory, with this environment; None while there is no nursery.

        One that is being warmed up is not waited for. Raises StartError when no process can be had, or set up.
        """
        try:
            if self._door is None and time.monotonic() >= self._next_at:
                self._open()
            if self._door is None or not self._is_ready(self._door):
                return None
            return self._ask(self._door, directory, environment, output)
        except OSError as error:
            self._give_up(error)
            return None

    def close(self) -> None:
        """Ends the process; its runners go on."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._door is not None:
            self._door.close()
        if self._output is not None:
            self._output.close()
        self._process = self._door = self._output = None
        self._ready = False

    def _open(self) -> None:
        self._next_at = time.monotonic() + self._restart_s
        adopt_orphans()
        self._door, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the nursery
            self._process = subprocess.Popen(  # noqa: S603 - a fixed command, no shell, nothing from the user
                self._command,
                cwd="/",
                env=dict(self._environment),
                stdin=theirs.fileno(),
                stdout=self._output,
                stderr=self._output,
                start_new_session=True,
            )

    def _is_ready(self, door: socket.socket) -> bool:
        if not self._ready:
            door.settimeout(0.0)
            with contextlib.suppress(BlockingIOError):
                self._ready = _received(door) == READY
            door.settimeout(self._answer_s)
        return self._ready

    def _ask(self, door: socket.socket, directory: Path, environment: Mapping[str, str], output: IO[bytes]) -> Newborn:
        reader, writer = os.pipe()
        try:
            try:
                socket.send_fds(door, [os.fsencode(directory)], [reader, output.fileno()])
            finally:
                os.close(reader)
            answer = _received(door)
            if answer.startswith(REFUSAL):
                raise StartError(f"the runner cannot be started: {answer.removeprefix(REFUSAL).decode()}")
            newborn = Newborn(int(answer))
            with contextlib.suppress(BrokenPipeError):  # killed before it could begin: its keeper will see that
                os.write(writer, json.dumps(dict(environment)).encode())
            return newborn
        finally:
            os.close(writer)  # what has not been given its environment by now goes by itself

    def _give_up(self, error: OSError) -> None:
        how = str(error) or type(error).__name__
        if self._process is not None and self._output is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                how = describe_exit(self._process.wait(_GOING_S))
            size = self._output.seek(0, os.SEEK_END)
            self._output.seek(max(0, size - LAST_WORDS_BYTES))
            words = self._output.read().decode("utf-8", "replace").strip()
            how += f": {words}" if words else ""
        self.close()
        _log.warning("no nursery for runners: each is started by itself", reason=how, again_in_s=self._restart_s)


def _received(door: socket.socket) -> bytes:
    """What the nursery says. Raises OSError when it is gone, or takes too long."""
    message = door.recv(MESSAGE_BYTES)
    if not message:
        raise ConnectionResetError("it has closed its socket")
    return message
