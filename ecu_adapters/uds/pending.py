"""The 0x78 (response pending) on the way to a final response; there may be thousands, so only the first are kept."""

from dataclasses import dataclass, field

KEPT = 32


@dataclass(slots=True)
class Pending:
    """How often, when and how far apart. Times in seconds after the request was sent in full."""

    count: int = 0
    times: list[float] = field(default_factory=list)
    """Of the first `KEPT`."""
    last_s: float = 0.0
    """Of the last one; 0 without any."""
    longest_gap_s: float = 0.0
    """The longest time from one of them to the next response; what P2* bounds."""

    def add(self, at_s: float) -> None:
        """Another one."""
        self.end_gap(at_s)
        self.count += 1
        self.last_s = at_s
        if self.count <= KEPT:
            self.times.append(at_s)

    def end_gap(self, at_s: float) -> None:
        """What followed the last one: another, the final response, or that no more is waited for."""
        if self.count:
            self.longest_gap_s = max(self.longest_gap_s, at_s - self.last_s)
