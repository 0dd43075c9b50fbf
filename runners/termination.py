"""What a container of a pod says last: Kubernetes keeps it with the pod's status, where the executor reads it."""

import contextlib
import sys
from pathlib import Path

MESSAGE_FILE = Path("/dev/termination-log")
"""Made by the kubelet (a container's ``terminationMessagePath``)."""
MESSAGE_BYTES_MAX = 4096
"""The kubelet keeps no more."""


def write_termination_message(text: str, file: Path = MESSAGE_FILE) -> None:
    """Onto standard error, and into the file where there is one."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
    content = text.encode("utf-8", "replace")[:MESSAGE_BYTES_MAX]
    with contextlib.suppress(OSError), file.open("r+b") as opened:
        opened.write(content)
