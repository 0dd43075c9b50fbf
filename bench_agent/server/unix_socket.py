"""The agent's door for its own machine: a unix socket that only the agent's user can reach."""

import shutil
import tempfile
from pathlib import Path

FOLDER = "socket"
NAME = "agent.sock"
_LONGEST = 100
"""Bytes of a path that still fits in sockaddr_un (unix(7)), with room for gRPC's ending zero."""
_SCHEME = "unix:"


class UnixSocket:
    """Where the socket is; ``close`` clears up."""

    def __init__(self, data_dir: Path) -> None:
        """In a folder of mode 0700 in ``data_dir``, or in the system's folder for temporary files if that is too deep.

        Raises OSError.
        """
        folder = data_dir / FOLDER
        self._temporary = address_in(data_dir) is None
        if self._temporary:
            folder = Path(tempfile.mkdtemp(prefix="bench-agent-"))
        else:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
        self._folder = folder
        self.address = f"{_SCHEME}{folder / NAME}"
        """For gRPC."""

    def close(self) -> None:
        """Removes it."""
        shutil.rmtree(self._folder, ignore_errors=True)


def address_in(data_dir: Path) -> str | None:
    """Where the agent with that data directory listens, for gRPC; None if the path is too long for that."""
    path = data_dir / FOLDER / NAME
    return None if len(bytes(path)) > _LONGEST else f"{_SCHEME}{path}"


def is_local(peer: str) -> bool:
    """Whether a gRPC peer came in by the unix socket."""
    return peer.startswith(_SCHEME)
