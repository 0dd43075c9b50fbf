"""Why a lease waits."""

from dataclasses import dataclass, replace

from labd.model.lease import Lease, LeaseState
from labd.scheduling.explain import Explanation, Why, explain
from labd.scheduling.forecast import Recent
from labd.services.core import Core
from labd.services.errors import Conflict
from labd.services.leasing import require
from labd.services.planning import lab_of, rules_of
from labd.services.tenancy import within

EXAMPLES = 200
"""So many of the last leases tell how long the present ones will last."""


@dataclass(frozen=True, slots=True)
class WhyView:
    """A waiting lease, and what keeps its benches from it."""

    lease: Lease
    explanation: Explanation


class Explaining:
    """The use case of whoever asks why."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def why(self, lease_id: str) -> WhyView:
        """Raises NotFound, and Conflict when the lease waits for nothing. Names only benches open to its team."""
        with self._core.view() as unit:
            lease = require(unit, lease_id)
            if lease.state is not LeaseState.QUEUED:
                raise Conflict(f"lease {lease_id} is {lease.state}: it waits for no bench")
            lab = lab_of(unit, self._core.clock.now(), self._core.presence.attached)
            recent = [Recent(asked, lasted) for asked, lasted in unit.recent_durations(EXAMPLES)]
            found = explain(lease_id, lab, rules_of(unit.policy()), recent)
            theirs = {bench.name: bench for bench in unit.benches() if bench.open_to(lease.team)}
        own = within("", lease.team)
        parts = tuple(
            replace(
                part,
                selector=wanted.selector,
                excluded={
                    term: tuple(name for name in names if name in theirs)
                    for term, names in part.excluded.items()
                    if names and not own.startswith(term.split(" ")[0] + " in")
                },
                matching=tuple(
                    replace(one, detail=theirs[one.bench].drained_for or None) if one.why is Why.DRAINING else one
                    for one in part.matching
                ),
            )
            for wanted, part in zip(lease.wanted, found.parts, strict=True)
        )
        return WhyView(lease, replace(found, parts=parts))
