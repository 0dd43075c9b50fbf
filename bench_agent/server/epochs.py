"""The fencing epochs of an agent's benches, on disk.

Whoever admits a lease writes its epoch down first; after a crash or a power cut, a token of an older lease is still
refused. A file that cannot be read is therefore an error and never a fresh start.
"""

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench_agent.server import files


class EpochError(Exception):
    """The epoch file cannot be read or written; names the file and the reason."""


@dataclass(frozen=True, slots=True)
class Unshared:
    """With whom the lease of one epoch is shared no more. Only grows, and is forgotten with a later epoch's."""

    epoch: int = 0
    numbers: Mapping[str, int] = field(default_factory=dict)
    """By name: tokens of their share with this number, or a lower one, are refused."""

    def __or__(self, other: "Unshared") -> "Unshared":
        """What either says."""
        if self.epoch != other.epoch:
            return max(self, other, key=lambda one: one.epoch)
        names = self.numbers.keys() | other.numbers.keys()
        return Unshared(self.epoch, {name: max(self.up_to(name), other.up_to(name)) for name in names})

    def up_to(self, name: str) -> int:
        """The highest number of theirs that is refused; -1 for none."""
        return self.numbers.get(name, -1)


@dataclass(frozen=True, slots=True)
class Epochs:
    """Of one bench. All of it only grows."""

    seen: int = 0
    """The highest epoch of a lease that was admitted."""
    fenced: int = 0
    """No lease of this or a lower epoch may act any more, and what it had running is cleaned up."""
    unshared: Unshared = Unshared()

    @property
    def live(self) -> bool:
        """Whether a lease was admitted whose end was not."""
        return self.seen > self.fenced


@dataclass(eq=False, slots=True)
class _Batch:
    """What is written together."""

    wanted: dict[str, Epochs] = field(default_factory=dict)
    written: bool = False
    error: EpochError | None = None


class EpochStore:
    """One small JSON file for all benches of an agent. Thread-safe.

    A disk takes as long for one bench as for all: what comes while it is busy is written together.
    """

    def __init__(self, path: Path) -> None:
        """Reads the file if it exists. Raises EpochError when it is there and not sound."""
        self._path = path
        self._turn = threading.Condition()
        self._epochs = _read(path)
        self._busy = False
        self._next = _Batch()

    def get(self, bench: str) -> Epochs:
        """Zeros for a bench never seen."""
        with self._turn:
            return self._epochs.get(bench, Epochs())

    def save(self, bench: str, epochs: Epochs) -> None:
        """Durable when it returns; blocks for the disk. Never lowers what is stored. Raises EpochError."""
        with self._turn:
            if _both(self._epochs, bench, epochs) == self._epochs.get(bench, Epochs()):
                return
            batch = self._next
            batch.wanted[bench] = _both(batch.wanted, bench, epochs)
            while self._busy and not batch.written:
                self._turn.wait()
            if not batch.written:
                self._write(batch)
        if batch.error is not None:
            raise batch.error

    def _write(self, batch: _Batch) -> None:
        """Others may ask for the next batch meanwhile."""
        self._busy, self._next = True, _Batch()
        changed = {**self._epochs, **{name: _both(self._epochs, name, one) for name, one in batch.wanted.items()}}
        self._turn.release()
        try:
            document = {name: _entry(one) for name, one in sorted(changed.items())}
            files.replace(self._path, json.dumps(document, indent=1).encode())
        except OSError as error:
            batch.error = EpochError(f"{self._path} cannot be written: {error.strerror or error}")
        except BaseException as error:
            batch.error = EpochError(f"{self._path} was not written: {error!r}")
            raise
        finally:
            self._turn.acquire()
            self._busy, batch.written = False, True
            if batch.error is None:
                self._epochs = changed
            self._turn.notify_all()


def _both(known: Mapping[str, Epochs], bench: str, new: Epochs) -> Epochs:
    """What is known of the bench, and this: all of it only grows."""
    old = known.get(bench, Epochs())
    return Epochs(max(old.seen, new.seen), max(old.fenced, new.fenced), old.unshared | new.unshared)


def _read(path: Path) -> dict[str, Epochs]:
    try:
        document = json.loads(path.read_bytes())
        return {str(name): _epochs(entry) for name, entry in document.items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise EpochError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise EpochError(
            f"{path} is not sound ({error}); it keeps former lease holders off the benches: restore it, or delete it "
            "once labd shows no live lease on this agent's benches"
        ) from error


def _entry(epochs: Epochs) -> dict[str, Any]:
    entry: dict[str, Any] = {"seen": epochs.seen, "fenced": epochs.fenced}
    if epochs.unshared.epoch > epochs.fenced:
        entry["unshared"] = {"epoch": epochs.unshared.epoch, "numbers": dict(epochs.unshared.numbers)}
    return entry


def _epochs(entry: dict[str, Any]) -> Epochs:
    known = entry.get("unshared", {"epoch": 0, "numbers": {}})
    numbers = {str(name): _count(number) for name, number in known["numbers"].items()}
    return Epochs(_count(entry["seen"]), _count(entry["fenced"]), Unshared(_count(known["epoch"]), numbers))


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is no epoch")
    return value
