"""One agent per data folder: two would keep two minds about which epoch is the highest."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


class InstanceError(Exception):
    """Another agent uses the data folder, or it cannot be written."""


@contextlib.contextmanager
def only_instance(data_dir: Path) -> Iterator[None]:
    """Holds the folder's lock; the kernel lets go of it when the process ends, however it ends.

    Raises InstanceError.
    """
    path = data_dir / "agent.lock"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = path.open("a+")
    except OSError as error:
        raise InstanceError(f"data folder {data_dir} cannot be used: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            raise InstanceError(
                f"another agent (process {lock.read().strip() or 'unknown'}) uses the data folder {data_dir}"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
