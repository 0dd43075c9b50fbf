"""Retention: removes what is older or more than the lab wants to keep, a little at a time, so that nobody waits."""

import math
import threading
from collections.abc import Collection, Iterator
from dataclasses import asdict

import structlog

from labd.model.identity import SYSTEM, Actor
from labd.model.retention import DAY_S, LEASES_KEPT_S, Retention, Swept, TeamRetention
from labd.services import audit_retention
from labd.services.core import Core
from labd.services.errors import FieldError, Invalid
from labd.store.errors import StoreError
from labd.store.unit import Unit

SWEEP_S = 3600.0
"""How often labd sweeps by itself."""
REFRESH_S = 30.0
"""How often it looks whether another labd was told other rules: agents are told them, too."""
PAUSE_S = 0.02
"""Between two batches: others get their turn."""
RUNS_AT_ONCE, LEASES_AT_ONCE, LINES_AT_ONCE, FILES_AT_ONCE = 20, 200, 5000, 10
GIVEN_KEPT_S = 3600.0
"""What a run was given is kept for so long after its end: its runner may send its result again."""

_log = structlog.get_logger()


class Retaining:
    """The use cases of retention."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="retention", daemon=True)
        self._sweeping = threading.Lock()
        self.known = Retention()
        """As it was when it was last looked at: REFRESH_S ago at most, also when another labd has changed it."""

    def retention(self) -> Retention:
        """As it is now."""
        with self._core.view() as unit:
            self.known = unit.retention()
        return self.known

    def replace(self, actor: Actor, retention: Retention) -> Retention:
        """Sets another; it holds from the next sweep on. Raises Invalid."""
        errors = [FieldError(*mistake) for mistake in retention.mistakes()]
        if errors:
            raise Invalid("; ".join(f"{one.field} {one.value!r}: {one.message}" for one in errors), *errors)
        with self._core.transaction(actor) as ledger:
            before = ledger.unit.retention()
            ledger.unit.save_retention(retention)
            ledger.audit("retention.changed", "retention/lab", before=asdict(before), after=asdict(retention))
        self.known = retention
        return retention

    def preview(self, retention: Retention | None = None) -> Swept:
        """What a sweep would remove now, by these rules or the present ones."""
        with self._core.view() as unit:
            rules, now, found = retention or unit.retention(), self._core.clock.now(), Swept()
            for team in unit.teams_with_records():
                found += _preview_of(unit, team, rules.of(team), now)
            found += Swept(audit_entries=audit_retention.preview(unit, rules, now))
        return found

    def sweep(self, actor: Actor = SYSTEM) -> Swept:
        """Removes what is not to be kept; returns what that was. Stops early when labd does."""
        done = Swept()
        with self._sweeping:
            for batch in self._batches(actor):
                done += batch
                if self._stop.wait(PAUSE_S):
                    break
        if done != Swept():
            with self._core.transaction(actor) as ledger:
                ledger.audit("retention.swept", "retention/lab", after=_counts(done))
        return done

    def start(self) -> None:
        """Sweeps from time to time until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Returns when the present batch is done."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10.0)

    def _loop(self) -> None:
        unswept_s = 0.0
        while True:
            try:
                self.retention()
                if unswept_s >= SWEEP_S:
                    unswept_s = 0.0
                    done = self.sweep()
                    if done != Swept():
                        _log.info("old records removed", **_counts(done))
            except StoreError as error:
                _log.warning("retention is tried again later", error=str(error))
            except Exception:
                _log.exception("retention failed: tried again later")
            if self._stop.wait(REFRESH_S):
                return
            unswept_s += REFRESH_S

    def _batches(self, actor: Actor) -> Iterator[Swept]:
        """Each is a transaction of its own."""
        with self._core.view() as unit:
            rules, teams = unit.retention(), unit.teams_with_records()
        now = self._core.clock.now()
        with self._core.transaction() as ledger:
            ledger.unit.forget_environments(now - GIVEN_KEPT_S)
        for team in teams:
            yield from self._runs(team, rules.of(team), now)
            yield from self._logs(team, rules.of(team), now)
        while True:
            with self._core.transaction(actor) as ledger:
                sums = ledger.unit.unused_contents(FILES_AT_ONCE)
                if sums:
                    ledger.unit.remove_contents(sums)
            if not sums:
                break
            yield Swept(files=len(sums))
        yield from audit_retention.sweep(self._core, actor, rules, now)

    def _runs(self, team: str, rules: TeamRetention, now: float) -> Iterator[Swept]:
        with self._core.view() as unit:
            before = _runs_before(unit, team, rules, now)
        if before is None:
            return
        while True:
            with self._core.transaction() as ledger:
                runs = ledger.unit.old_runs(team, before, RUNS_AT_ONCE)
                if runs:
                    ledger.unit.remove_runs(runs)
            if not runs:
                break
            yield Swept(runs=len(runs))
        while True:
            with self._core.transaction() as ledger:
                leases = ledger.unit.old_leases(team, min(before, now - LEASES_KEPT_S), LEASES_AT_ONCE)
                if leases:
                    ledger.unit.remove_leases(leases)
            if not leases:
                return
            yield Swept(leases=len(leases))

    def _logs(self, team: str, rules: TeamRetention, now: float) -> Iterator[Swept]:
        with self._core.view() as unit:
            surplus = _surplus_logs(unit, team, rules, now)
        for run_id, size in surplus:
            over = False
            while not over:
                with self._core.transaction() as ledger:
                    over = ledger.unit.remove_log(run_id, LINES_AT_ONCE)
                yield Swept(logs=1, log_bytes=size) if over else Swept()


def _preview_of(unit: Unit, team: str, rules: TeamRetention, now: float) -> Swept:
    runs: set[str] = set()
    leases = 0
    before = _runs_before(unit, team, rules, now)
    if before is not None:
        runs = set(unit.old_runs(team, before))
        leases = len(unit.old_leases(team, min(before, now - LEASES_KEPT_S)))
    logs = _surplus_logs(unit, team, rules, now, without=runs)
    return Swept(runs=len(runs), leases=leases, logs=len(logs), log_bytes=sum(size for _, size in logs))


def _runs_before(unit: Unit, team: str, rules: TeamRetention, now: float) -> float | None:
    """Runs that had ended by then go; None: none."""
    bounds = [] if rules.runs_days is None else [now - rules.runs_days * DAY_S]
    if rules.runs_mb is not None and (beyond := unit.runs_beyond(team, rules.runs_mb * 1e6)) is not None:
        bounds.append(math.nextafter(beyond, math.inf))
    return max(bounds, default=None)


def _surplus_logs(
    unit: Unit, team: str, rules: TeamRetention, now: float, without: Collection[str] = ()
) -> list[tuple[str, int]]:
    """Runs whose logs go, with the bytes of each; ``without`` those that go as a whole."""
    if rules.logs_days is None and rules.logs_mb is None:
        return []
    found, surplus = [one for one in unit.logs(team) if one[0] not in without], []
    total = sum(size for _, _, size in found)
    for run_id, ended_at, size in found:
        old = rules.logs_days is not None and ended_at < now - rules.logs_days * DAY_S
        if old or (rules.logs_mb is not None and total > rules.logs_mb * 1e6):
            surplus.append((run_id, size))
            total -= size
    return surplus


def _counts(swept: Swept) -> dict[str, int]:
    """What there is of it."""
    return {name: count for name, count in asdict(swept).items() if count}
