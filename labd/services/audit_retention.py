"""Retention of the audit log: of single teams from within, which leaves gaps; of the whole from its beginning."""

from collections.abc import Iterator

from labd.model.audit import PRUNED
from labd.model.identity import Actor
from labd.model.retention import AUDIT_KEPT_S, DAY_S, Retention, Swept
from labd.services.core import Core
from labd.store.unit import Unit
from labd.store.units.audit_retention import Surplus

ENTRIES_AT_ONCE, GAPS_AT_ONCE, NUMBERS_AT_ONCE = 2000, 200, 20_000
"""From the beginning; from within, where each may leave a gap that an entry has to list; to be looked for."""


def preview(unit: Unit, rules: Retention, now: float) -> int:
    """How many entries these rules would remove now."""
    of_teams = _of_teams(unit, rules, now)
    whole = _of_lab(unit, rules, now, of_teams)
    count, last = (0, None) if whole is None else unit.first_audit(whole)
    beyond = 0 if last is None else last.seq
    return count + sum(number > beyond for one in of_teams for number in unit.surplus_audit(one))


def sweep(core: Core, actor: Actor, rules: Retention, now: float) -> Iterator[Swept]:
    """Removes them, each time in a transaction of its own."""
    with core.view() as unit:
        of_teams = _of_teams(unit, rules, now)
    for one in of_teams:
        yield from _remove(core, actor, one)
    with core.view() as unit:
        whole = _of_lab(unit, rules, now)
    if whole is not None:
        yield from _cut(core, actor, whole)


def _remove(core: Core, actor: Actor, surplus: Surplus) -> Iterator[Swept]:
    while True:
        with core.view() as unit:
            numbers = unit.surplus_audit(surplus, NUMBERS_AT_ONCE)
        if not numbers:
            return
        for start in range(0, len(numbers), GAPS_AT_ONCE):
            with core.transaction(actor) as ledger:
                ledger.unit.lock_audit()
                count, gaps = ledger.unit.remove_audit(numbers[start : start + GAPS_AT_ONCE])
                if gaps:
                    listed = [[gap.first, gap.last, gap.previous] for gap in gaps]
                    # Of the whole lab: the rules of a team must not remove it.
                    ledger.audit(PRUNED, f"team/{surplus.team}", after={"entries": count, "gaps": listed})
            yield Swept(audit_entries=count)


def _cut(core: Core, actor: Actor, surplus: Surplus) -> Iterator[Swept]:
    while True:
        with core.transaction(actor) as ledger:
            ledger.unit.lock_audit()
            count, last = ledger.unit.first_audit(surplus, ENTRIES_AT_ONCE)
            if last is not None:
                ledger.unit.prune_audit(last, ledger.now)
                ledger.audit(PRUNED, "audit/log", after={"seq": last.seq, "hash": last.hash, "entries": count})
        if last is None:
            return
        yield Swept(audit_entries=count)


def _of_teams(unit: Unit, rules: Retention, now: float) -> list[Surplus]:
    bounded = [name for name, one in rules.teams.items() if (one.audit_days, one.audit_mb) != (None, None)]
    if (rules.default.audit_days, rules.default.audit_mb) != (None, None):
        bounded += [team for team in unit.audit_teams() if team not in rules.teams]
    found = (_surplus(unit, rules.of(team).audit_days, rules.of(team).audit_mb, now, team) for team in bounded)
    return [one for one in found if one is not None]


def _of_lab(unit: Unit, rules: Retention, now: float, without: list[Surplus] | None = None) -> Surplus | None:
    return _surplus(unit, rules.audit_days, rules.audit_mb, now, None, without)


def _surplus(
    unit: Unit,
    days: float | None,
    size_mb: float | None,
    now: float,
    team: str | None,
    without: list[Surplus] | None = None,
) -> Surplus | None:
    if days is None and size_mb is None:
        return None
    spared_since = now - AUDIT_KEPT_S
    upto = 0 if size_mb is None else unit.audit_upto(size_mb * 1e6, spared_since, team, without or [])
    return Surplus(0.0 if days is None else now - days * DAY_S, upto, spared_since, team)
