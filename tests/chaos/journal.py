"""What holders have seen: one event a line, written by the processes under load and read by the judge.

Times are of the machine's monotonic clock in s, which all processes of a machine share.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self


@dataclass(frozen=True, slots=True)
class Event:
    """One request of a holder, and its answer. Without an answer (labd or the agent was away) ``ok`` is False."""

    op: str
    """create, heartbeat, call (to the agent), release, or die: the holder is never heard of again."""
    began: float
    ended: float
    ok: bool
    lease: str | None = None
    group: str = ""
    """What was asked for: leases of one group want the same benches, with the same rights."""
    state: str | None = None
    bench: str | None = None
    epoch: int | None = None
    remaining_s: float | None = None
    """Until the hard end, by labd's clock when it answered."""
    error: str = ""
    status: int | None = None
    """Of labd's answer (HTTP); None: there was none, or an agent was asked."""
    asked: float | None = None
    """When the lease was first asked for, if that was before ``began``: with the same Idempotency-Key."""
    position: int | None = None
    """Place in the queue."""


class Journal:
    """Appends events to a file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)

    def write(self, event: Event) -> None:
        """Appends one event."""
        self._file.write(json.dumps(asdict(event)) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._file.close()


def read(path: Path) -> Iterator[Event]:
    """The events of a file, in the order in which they ended (nearly)."""
    with path.open() as file:
        for line in file:
            yield Event(**json.loads(line))
