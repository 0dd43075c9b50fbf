"""One container: a local process, or a function of the test in its place."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.kubernetes.json_api import Object

REPOSITORY = Path(__file__).parents[2]
_MESSAGE_BYTES = 4096
_MESSAGE_LOG_BYTES = 2048
_PYTHONS = {"python", "python3", "/usr/bin/python", "/usr/bin/python3", "/usr/local/bin/python"}


@dataclass
class Inside:
    """What a function that stands in for a program gets."""

    command: list[str]
    environment: dict[str, str]
    pod: Object
    log: Path
    asked_to_stop: threading.Event = field(default_factory=threading.Event)

    def say(self, line: str) -> None:
        with self.log.open("a") as file:
            file.write(f"{line}\n")


Program = Callable[[Inside], int]
"""Answers the exit code; goes when it is asked to stop."""


class Container:
    """Started once; tells on a thread of its own when it has ended."""

    def __init__(self, name: str, log: Path, message: Path) -> None:
        self.name = name
        self.log = log
        self._message = message
        self._process: subprocess.Popen[bytes] | None = None
        self._inside: Inside | None = None
        self._thread: threading.Thread | None = None
        self.exit_code: int | None = None
        """None while it runs; 137 for one that was killed, as runtimes say."""
        self.killed_for_memory = False

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        pod: Object,
        program: Program | None,
        ended: Callable[[], None],
    ) -> None:
        """Raises OSError for a command that cannot be started."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if program is not None:
            self._inside = inside = Inside([*command], {**environment}, pod, self.log)
            self.log.touch()
            self._wait(lambda: program(inside), ended)
            return
        words = [sys.executable if n == 0 and word in _PYTHONS else word for n, word in enumerate(command)]
        own = {name: value for name, value in os.environ.items() if name in {"PATH", "LANG", "SYSTEMROOT"}}
        own |= {"PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1", "HOSTNAME": pod["metadata"]["name"]}
        with self.log.open("ab") as output:
            process = subprocess.Popen(
                words,
                env=own | dict(environment),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._process = process
        self._wait(process.wait, ended)

    def _wait(self, result: Callable[[], int], ended: Callable[[], None]) -> None:
        def wait() -> None:
            code = result()
            if self._process is not None:
                with suppress(ProcessLookupError):  # what it left behind goes with it, as in a real pod
                    os.killpg(self._process.pid, signal.SIGKILL)
            self.exit_code = 128 - code if code < 0 else code
            ended()

        self._thread = threading.Thread(target=wait, name=f"container {self.name}", daemon=True)
        self._thread.start()

    def terminate(self) -> None:
        """SIGTERM, to the first process alone."""
        if self._inside is not None:
            self._inside.asked_to_stop.set()
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self, *, for_memory: bool = False) -> None:
        """SIGKILL, to all of them."""
        if self.exit_code is not None:
            return
        self.killed_for_memory = for_memory
        if self._inside is not None:
            self._inside.asked_to_stop.set()
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def join(self, timeout_s: float) -> None:
        if self._thread is not None:
            self._thread.join(timeout_s)

    def message(self, policy: str) -> str:
        """What it left in its termination message; its last words in the log where that is wanted."""
        if self._message.exists():
            return self._message.read_text(errors="replace")[:_MESSAGE_BYTES]
        if policy == "FallbackToLogsOnError" and self.exit_code:
            return self.log.read_bytes()[-_MESSAGE_LOG_BYTES:].decode(errors="replace")
        return ""
