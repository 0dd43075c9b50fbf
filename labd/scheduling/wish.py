"""What somebody asks for: benches, for a time, now or from a given time on."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Part:
    """``count`` different benches that match the selector (an empty one matches every bench)."""

    selector: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Wish:
    """A lease that waits, or that is booked: all its benches at once, or none."""

    id: str
    seq: int
    """Order of arrival."""
    parts: tuple[Part, ...]
    duration_s: float
    asked_at: float
    team: str = "default"
    priority: str = "normal"
    """Name of a class in the rules."""
    same_site: bool = False
    """All benches carry the same value of the label ``site``; those without it are one site."""
    affinity: str | None = None
    """Wishes with the same key prefer the same benches, which then carry the firmware or the data already."""
    avoid: frozenset[str] = frozenset()
    """Benches that failed this request before: they come into question only where no others could serve it."""
    limits: tuple[str, ...] = ()
    """Those of the rules that it counts for."""
    starts_at: float | None = None
    """A booking: from this time for ``duration_s``."""
    booked: tuple[str, ...] = ()
    """A booking's benches, in the order of ``slots``."""

    @property
    def slots(self) -> tuple[int, ...]:
        """For each bench of the wish the number of its part, from 0: those of the first part first."""
        if len(self.parts) == 1:
            return (0,) * self.parts[0].count
        return tuple(number for number, part in enumerate(self.parts) for _ in range(part.count))

    @property
    def count(self) -> int:
        """How many benches it asks for."""
        return self.parts[0].count if len(self.parts) == 1 else sum(part.count for part in self.parts)

    @property
    def ends_at(self) -> float | None:
        """The end of a booking; None for a wish that waits."""
        return None if self.starts_at is None else self.starts_at + self.duration_s
