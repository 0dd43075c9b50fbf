"""What a decision pass decides."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from labd.scheduling.limits import LimitReached
from labd.scheduling.quotas import Shortfall


@dataclass(frozen=True, slots=True)
class Grant:
    """This wish gets these benches now."""

    wish: str
    benches: tuple[str, ...]
    """In the order of ``Wish.slots``: those of the first part first."""
    ends_at: float
    """The hard end of the lease."""


@dataclass(frozen=True, slots=True)
class Notice:
    """This lease ends early, for a wish that goes before it. Its benches are promised to that wish."""

    lease: str
    wish: str
    revoke_at: float
    benches: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Move:
    """This booking has other benches from now on: one of those it had cannot be used, or another booking needs it."""

    wish: str
    benches: tuple[str, ...]
    """In the order of ``Wish.slots``."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """Benches held for a wish that has waited long enough. Who surely ends before ``starts_at`` may use them."""

    wish: str
    benches: tuple[str, ...]
    starts_at: float


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now."""

    grants: tuple[Grant, ...] = ()
    notices: tuple[Notice, ...] = ()
    moves: tuple[Move, ...] = ()
    stranded: tuple[str, ...] = ()
    """Bookings whose bench cannot be used, and for which there is no other as yet."""
    lapsed: tuple[str, ...] = ()
    """Bookings whose time has passed before they had their benches."""
    reservations: tuple[Reservation, ...] = ()
    over_quota: Mapping[str, Shortfall] = field(default_factory=dict)
    """The wishes that wait for their team's quota and hold nobody up, with what is missing."""
    at_limit: Mapping[str, LimitReached] = field(default_factory=dict)
    """The wishes that wait because there are enough of their kind; they hold nobody up either."""
