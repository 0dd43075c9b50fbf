"""Checks what a lease or a run wants of a bench before it is allowed to wait for one."""

from collections.abc import Callable

from labd.model.bench import BenchState
from labd.model.lease import Lease, LeaseState
from labd.model.selector import Selector, SelectorError, obstacle, parse
from labd.services.errors import FieldError, Invalid
from labd.store.unit import Unit

_MOST_SAID = 4
"""Benches that an obstacle names."""
SELECTOR_LENGTH_MAX = 1000
"""Longest selector that people may send, in characters. Its normal form, which is kept, may be a little longer."""


def parse_selector(text: str) -> Selector:
    """Raises Invalid with the column of the mistake."""
    try:
        if len(text) > SELECTOR_LENGTH_MAX:
            message = f"a selector has at most {SELECTOR_LENGTH_MAX} characters, this one has {len(text)}"
            raise SelectorError(message, SELECTOR_LENGTH_MAX + 1)
        return parse(text)
    except SelectorError as error:
        raise Invalid(
            f"selector {text!r}, column {error.column}: {error.message}",
            FieldError("selector", text, error.message, error.column),
        ) from error


def require_possible(unit: Unit, selector: Selector) -> None:
    """Raises Invalid, naming the term in the way, when no bench that the lab knows could ever match."""
    known = {bench.name: bench.selectable_labels for bench in unit.benches() if not bench.removed}
    reason = obstacle(selector, known)
    if reason is not None:
        raise Invalid(f"this can never be granted: {reason}", FieldError("selector", str(selector), reason))


def benches_wanted(unit: Unit, selector: str) -> list[str] | None:
    """The names of the benches that a list is about, removed ones too; None: any. Raises Invalid."""
    if not selector:
        return None
    parsed = parse_selector(selector)
    return [bench.name for bench in unit.benches() if parsed.matches(bench.selectable_labels)]


def obstacle_now(unit: Unit, lease: Lease, attached: Callable[[str], bool]) -> str | None:
    """Why no bench can come to a waiting lease as things are; None while one that matches is in use or free.

    Benches come back: their agent may just be restarting, so the lease goes on waiting.
    """
    if lease.state is not LeaseState.QUEUED:
        return None
    selector = parse(lease.selector)
    known = {bench.name: bench for bench in unit.benches() if not bench.removed}
    reason = obstacle(selector, {name: bench.selectable_labels for name, bench in known.items()})
    if reason is not None:
        return reason
    granted = unit.granted()
    said = []
    for name, bench in known.items():
        if not selector.matches(bench.selectable_labels):
            continue
        if name in granted or bench.state(attached(name), leased=False) is not BenchState.UNAVAILABLE:
            return None
        why = f" ({bench.health_reason})" if attached(name) and bench.health_reason else ""
        said.append(f"{name} is {bench.health(attached(name))}{why}")
    more = f" and {len(said) - _MOST_SAID} more" if len(said) > _MOST_SAID else ""
    return ", ".join(said[:_MOST_SAID]) + more
