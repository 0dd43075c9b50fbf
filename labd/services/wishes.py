"""Checks what a lease or a run wants of benches before it is allowed to wait for them."""

from collections.abc import Callable, Sequence

from labd.model.bench import Bench, BenchState
from labd.model.lease import Lease, LeaseState, Wanted
from labd.model.selector import Selector, SelectorError, obstacle, parse
from labd.scheduling.possible import impossible
from labd.scheduling.wish import Part
from labd.services.errors import FieldError, Invalid
from labd.services.planning import limit_reached
from labd.store.unit import Unit

_MOST_SAID = 4
"""Benches that an obstacle names."""
SELECTOR_LENGTH_MAX = 1000
"""Longest selector that people may send, in characters. Its normal form, which is kept, may be a little longer."""
BENCHES_MAX = 32
"""Most benches of one lease."""


def parse_selector(text: str, field: str = "selector") -> Selector:
    """Raises Invalid with the column of the mistake."""
    try:
        if len(text) > SELECTOR_LENGTH_MAX:
            message = f"a selector has at most {SELECTOR_LENGTH_MAX} characters, this one has {len(text)}"
            raise SelectorError(message, SELECTOR_LENGTH_MAX + 1)
        return parse(text)
    except SelectorError as error:
        raise Invalid(
            f"selector {text!r}, column {error.column}: {error.message}",
            FieldError(field, text, error.message, error.column),
        ) from error


def parse_wanted(selector: str, benches: Sequence[Wanted]) -> tuple[Wanted, ...]:
    """What is asked for, its selectors in their normal form; ``selector`` alone asks for one bench. Raises Invalid."""
    if not benches:
        return (Wanted(str(parse_selector(selector))),)
    if selector:
        message = "name what is wanted either here or under benches"
        raise Invalid(f"selector {selector!r}: {message}", FieldError("selector", selector, message))
    count = sum(one.count for one in benches)
    if count > BENCHES_MAX:
        message = f"a lease has at most {BENCHES_MAX} benches, these are {count}"
        raise Invalid(message, FieldError("benches", count, message))
    return tuple(
        Wanted(str(parse_selector(one.selector, f"benches.{number}.selector")), one.count)
        for number, one in enumerate(benches)
    )


def require_possible(unit: Unit, wanted: Sequence[Wanted], team: str, same_site: bool = False) -> None:
    """Raises Invalid, naming the term in the way, when the benches that are open to the team could never do."""
    known = {name: bench.selectable_labels for name, bench in _open_benches(unit, team).items()}
    for number, one in enumerate(wanted):
        field = "selector" if len(wanted) == 1 and one.count == 1 else f"benches.{number}.selector"
        selector = parse(one.selector)
        reason = obstacle(selector, known)
        if reason is None:
            matching = sum(selector.matches(labels) for labels in known.values())
            asked = sum(other.count for other in wanted if other.selector == one.selector)
            if asked > matching:
                reason = f"{asked} are wanted, the lab has {matching} such benches"
        if reason is not None:
            raise Invalid(f"this can never be granted: {reason}", FieldError(field, one.selector, reason))
    if len(wanted) > 1 or (same_site and wanted[0].count > 1):
        reason = impossible([Part(one.selector, one.count) for one in wanted], same_site, known)
        if reason is not None:
            asked_for = "; ".join(f"{one.count} of {one.selector!r}" for one in wanted)
            raise Invalid(f"this can never be granted: {reason}", FieldError("benches", asked_for, reason))


def _open_benches(unit: Unit, team: str) -> dict[str, Bench]:
    return {bench.name: bench for bench in unit.benches() if not bench.removed and bench.open_to(team)}


def benches_wanted(unit: Unit, selector: str) -> list[str] | None:
    """The names of the benches that a list is about, removed ones too; None: any. Raises Invalid."""
    if not selector:
        return None
    parsed = parse_selector(selector)
    return [bench.name for bench in unit.benches() if parsed.matches(bench.selectable_labels)]


def obstacle_now(unit: Unit, lease: Lease, attached: Callable[[str], bool]) -> str | None:
    """Why no bench can come to a waiting lease as things are; None while those that match are in use or free.

    Benches come back: their agent may just be restarting, so the lease goes on waiting.
    """
    if lease.state is not LeaseState.QUEUED:
        return None
    reasons = (_obstacle_of(unit, one.selector, lease.team, attached) for one in lease.wanted)
    reason = next((reason for reason in reasons if reason is not None), None)
    if reason is None and (reached := limit_reached(unit, lease)) is not None:
        reason = str(reached)
    return reason


def _obstacle_of(unit: Unit, text: str, team: str, attached: Callable[[str], bool]) -> str | None:
    selector = parse(text)
    known = _open_benches(unit, team)
    reason = obstacle(selector, {name: bench.selectable_labels for name, bench in known.items()})
    if reason is not None:
        return reason
    held = unit.held()
    said = []
    for name, bench in known.items():
        if not selector.matches(bench.selectable_labels):
            continue
        state = bench.state(attached(name), leased=name in held)
        if state not in (BenchState.UNAVAILABLE, BenchState.DRAINED):
            return None
        if state is BenchState.DRAINED:
            said.append(f"{name} is drained" + (f" ({bench.drained_for})" if bench.drained_for else ""))
            continue
        why = f" ({bench.health_reason})" if attached(name) and bench.health_reason else ""
        said.append(f"{name} is {bench.health(attached(name))}{why}")
    more = f" and {len(said) - _MOST_SAID} more" if len(said) > _MOST_SAID else ""
    return ", ".join(said[:_MOST_SAID]) + more
