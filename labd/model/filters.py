"""Which leases, or runs, a list is to have."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """A time range, in seconds since the Unix epoch; None: without that end."""

    since: float | None = None
    until: float | None = None
    """Not included."""

    def holds(self, moment: float | None) -> bool:
        """Whether the moment lies in it; what has none lies in the range without ends only."""
        if moment is None:
            return self == Span()
        return (self.since is None or self.since <= moment) and (self.until is None or moment < self.until)


@dataclass(frozen=True, slots=True)
class Filter:
    """Every condition that is given has to hold."""

    states: Sequence[str] = ()
    """One of them; none given: any."""
    ids: Sequence[str] | None = None
    """One of them."""
    holder: str | None = None
    selector: str = ""
    """Of the labels of the bench that the lease has or had; one without a bench matches the empty selector only."""
    teams: frozenset[str] | None = None
    """One of them is the team of the lease, or run; None: any."""
    team: str | None = None
    """The one, of those."""
    created: Span = Span()
