"""A container engine, podman or docker, and the images that it has built of deploy/Dockerfile."""

import os
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

RESTRICTED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=host")
"""As the chart and the executor start them, on the network of this machine."""
_TIMEOUT_S = 240.0


class Engine:
    """``LABD_TEST_ENGINE`` is its command, ``LABD_TEST_IMAGES`` what the images are called, with {role} in it."""

    def __init__(self) -> None:
        """Skips the test where there is no engine."""
        self._command = shlex.split(os.environ.get("LABD_TEST_ENGINE", ""))
        self._images = os.environ.get("LABD_TEST_IMAGES", "labd-test/{role}")
        if not self._command:
            pytest.skip("no container engine: make test-images ENGINE=podman")

    def image(self, role: str) -> str:
        return self._images.format(role=role)

    def line(self, *arguments: str) -> list[str]:
        """A command of the engine."""
        return [*self._command, *arguments]

    def do(self, *arguments: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Raises AssertionError with what the engine said."""
        done = subprocess.run(
            self.line(*arguments), input=stdin, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done

    @contextmanager
    def volume(self) -> Iterator[str]:
        """Its name."""
        name = f"labd-test-{uuid4().hex[:8]}"
        self.do("volume", "create", name)
        try:
            yield name
        finally:
            self.do("volume", "rm", "--force", name, check=False)

    @contextmanager
    def running(self, role: str, options: Sequence[str], arguments: Sequence[str] = ()) -> Iterator[str]:
        """The name of a container in the background."""
        name = f"labd-test-{uuid4().hex[:8]}"
        self.do("run", "--detach", "--name", name, *RESTRICTED, *options, self.image(role), *arguments)
        try:
            yield name
        finally:
            self.do("rm", "--force", name, check=False)

    def logs(self, name: str) -> str:
        done = self.do("logs", name)
        return done.stdout + done.stderr


def mount(host: Path, there: str, *, writable: bool = False) -> str:
    """An option of `run`."""
    return f"--volume={host}:{there}" if writable else f"--volume={host}:{there}:ro"
