"""The fencing epochs of an agent's benches, on disk.

Whoever admits a lease writes its epoch down first; after a crash or a power cut, a token of an older lease is still
refused. A file that cannot be read is therefore an error and never a fresh start.
"""

import json
import threading
from dataclasses import dataclass
from pathlib import Path

from bench_agent.server import files


class EpochError(Exception):
    """The epoch file cannot be read or written; names the file and the reason."""


@dataclass(frozen=True, slots=True)
class Epochs:
    """Of one bench. Both only grow."""

    seen: int = 0
    """The highest epoch of a lease that was admitted."""
    fenced: int = 0
    """No lease of this or a lower epoch may act any more, and what it had running is cleaned up."""

    @property
    def live(self) -> bool:
        """Whether a lease was admitted whose end was not."""
        return self.seen > self.fenced


class EpochStore:
    """One small JSON file for all benches of an agent. Thread-safe."""

    def __init__(self, path: Path) -> None:
        """Reads the file if it exists. Raises EpochError when it is there and not sound."""
        self._path = path
        self._lock = threading.Lock()
        self._epochs = _read(path)

    def get(self, bench: str) -> Epochs:
        """Zeros for a bench never seen."""
        with self._lock:
            return self._epochs.get(bench, Epochs())

    def save(self, bench: str, epochs: Epochs) -> None:
        """Durable when it returns; blocks for the disk. Never lowers what is stored. Raises EpochError."""
        with self._lock:
            old = self._epochs.get(bench, Epochs())
            new = Epochs(max(old.seen, epochs.seen), max(old.fenced, epochs.fenced))
            if new == old:
                return
            changed = {**self._epochs, bench: new}
            document = {name: {"seen": e.seen, "fenced": e.fenced} for name, e in sorted(changed.items())}
            try:
                files.replace(self._path, json.dumps(document, indent=1).encode())
            except OSError as error:
                raise EpochError(f"{self._path} cannot be written: {error.strerror or error}") from error
            self._epochs = changed


def _read(path: Path) -> dict[str, Epochs]:
    try:
        document = json.loads(path.read_bytes())
        return {str(name): Epochs(_count(entry["seen"]), _count(entry["fenced"])) for name, entry in document.items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise EpochError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise EpochError(
            f"{path} is not sound ({error}); it keeps former lease holders off the benches: restore it, or delete it "
            "once labd shows no live lease on this agent's benches"
        ) from error


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is no epoch")
    return value
