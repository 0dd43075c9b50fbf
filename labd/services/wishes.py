"""Checks what a lease or a run wants of a bench before it is allowed to wait for one."""

from labd.model.selector import Selector, SelectorError, obstacle, parse
from labd.services.errors import FieldError, Invalid
from labd.store.unit import Unit

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
