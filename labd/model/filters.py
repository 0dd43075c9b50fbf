"""Which leases, or runs, a list is to have."""

from collections.abc import Sequence
from dataclasses import dataclass


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
    since: float | None = None
    """Created then or later, in seconds since the Unix epoch."""
