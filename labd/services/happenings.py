"""What a transaction has brought about that is worth a point in a time series, once it is durable."""

from dataclasses import dataclass

from labd.model.lease import Lease
from labd.model.run import Cause, Run


@dataclass(frozen=True, slots=True)
class Granted:
    """A lease got its benches."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class LeaseOver:
    """The end of a lease was decided."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class RunOver:
    """A run ended."""

    run: Run
    lease: Lease | None
    """The one that served it, as it was then."""


@dataclass(frozen=True, slots=True)
class Retried:
    """An attempt at a run is over, and there is another."""

    run: Run
    """As it was."""
    cause: Cause


Happening = Granted | LeaseOver | RunOver | Retried
