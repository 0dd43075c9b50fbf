"""One labd per data directory: an advisory lock that the kernel drops when the process dies, however it dies."""

import fcntl
import os
from pathlib import Path
from types import TracebackType

from labd.store.errors import DatabaseInUse

LOCK_NAME = "labd.lock"


class DataLock:
    """Held from construction until `close` or the end of the process."""

    def __init__(self, directory: Path) -> None:
        """Raises DatabaseInUse, naming the other process, when the directory is in use."""
        path = directory / LOCK_NAME
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(self._file, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(self._file)
            raise DatabaseInUse(
                f"the database in {directory} is locked by another labd (process {owner}); "
                "stop that one, or give this one its own --data directory"
            ) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode("ascii"), 0)

    def close(self) -> None:
        """Lets the next labd in."""
        os.close(self._file)

    def __enter__(self) -> "DataLock":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
