"""What somebody held when they lose the right to it: leases, bookings and runs end, shares are taken back."""

from labd.model.identity import ANONYMOUS, Role
from labd.model.lease import Lease, LeaseEnd
from labd.model.run import RunState
from labd.services.ledger import Ledger
from labd.services.rights import known


def forfeit(ledger: Ledger, name: str, why: str) -> None:
    """Ends what somebody has and, by the rights that are known of them now, could not ask for any more."""
    if ledger.actor is ANONYMOUS:
        return  # nobody needs a right
    somebody = known(ledger.unit, name, ledger.now)

    def may(role: Role, team: str) -> bool:
        return somebody is not None and somebody.may(role, team)

    for lease in ledger.unit.live_leases():
        if lease.holder == name:
            if not may(Role.ENGINEER, lease.team):
                _end(ledger, lease, why)
            continue
        for share in ledger.unit.shares(lease.id):
            if share.holder == name and not may(share.mode.role, lease.team):
                ledger.unshare(lease, share, why)


def forfeit_all(ledger: Ledger, team: str, why: str) -> None:
    """Ends whatever a team has."""
    for lease in ledger.unit.live_leases():
        if lease.team == team:
            _end(ledger, lease, why)


def _end(ledger: Ledger, lease: Lease, why: str) -> None:
    run = ledger.unit.run(lease.run_id) if lease.run_id is not None else None
    if run is None or run.state.final:
        ledger.end_lease(lease, LeaseEnd.REVOKED, why)
    else:
        ledger.end_run(run, RunState.CANCELLED, why)
