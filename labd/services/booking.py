"""Benches from a time on: promised, or refused with what is in the way."""

from collections.abc import Callable
from dataclasses import replace

from labd.model.lease import Lease
from labd.model.moment import moment
from labd.scheduling.booking import Booked, Refused, book
from labd.services.errors import Conflict, FieldError, Invalid
from labd.services.ledger import Ledger
from labd.services.planning import lab_of, rules_of, wish_of

_MOST_SAID = 3
"""Leases that a refusal names."""


def booked(ledger: Ledger, lease: Lease, attached: Callable[[str], bool]) -> Lease:
    """The booking with its benches. Raises Invalid for a start that is past or too far ahead, and Conflict."""
    if lease.starts_at is None:
        raise ValueError(f"lease {lease.id} has no start: it is no booking")
    horizon_s = ledger.policy.booking_horizon_s
    if not ledger.now <= lease.starts_at <= ledger.now + horizon_s:
        message = f"a booking starts between now and {horizon_s / 86400:g} days from now"
        raise Invalid(
            f"starts_at {moment(lease.starts_at)}: {message}", FieldError("starts_at", moment(lease.starts_at), message)
        )
    answer = book(wish_of(lease, ledger.policy), lab_of(ledger.unit, ledger.now, attached), rules_of(ledger.policy))
    if isinstance(answer, Booked):
        return replace(lease, reserved=answer.benches)
    later = "as things are there is no later slot"
    if answer.next_free is not None:
        later = f"the next free slot starts at {moment(answer.next_free)}"
    raise Conflict(f"this cannot be booked: {in_the_way(answer)}" + ("" if answer.shortfall else f"; {later}"))


def in_the_way(refused: Refused) -> str:
    """What is in the way of a booking, or of a longer lease."""
    if refused.shortfall is not None:
        return str(refused.shortfall)
    ways = [
        f"lease {one.lease} has {one.bench} from {moment(one.starts_at)} to {moment(one.ends_at)}"
        for one in refused.in_the_way[:_MOST_SAID]
    ]
    more = len(refused.in_the_way) - _MOST_SAID
    return ", ".join(ways + [f"and {more} more"] * (more > 0)) or "no such bench can be used"
