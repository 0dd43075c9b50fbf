"""What becomes of a lease while it is held: made longer, given to somebody else, shared."""

from dataclasses import replace

from labd.model.identity import Actor
from labd.model.lease import Lease, LeaseState, Share
from labd.model.moment import moment
from labd.scheduling.booking import extend
from labd.scheduling.quotas import Quotas
from labd.services.booking import in_the_way
from labd.services.core import Core
from labd.services.errors import Conflict, FieldError, Invalid, NotFound
from labd.services.leasing import LeaseView, Leasing, require, require_allowed
from labd.services.ledger import Ledger
from labd.services.planning import lab_of, rules_of
from labd.services.rights import require_guest, require_holder, require_team
from labd.services.wishes import require_possible

SHARES_MAX = 64
"""People with whom one lease is ever shared."""


class Holding:
    """The use cases of holders. Each asks the policy what creation asks it."""

    def __init__(self, core: Core, leasing: Leasing) -> None:
        self._core = core
        self._leasing = leasing

    def extend(self, actor: Actor, lease_id: str, by_s: float) -> LeaseView:
        """Puts the hard end off by ``by_s``. Raises NotFound; Invalid beyond what the policy allows; and Conflict when
        the lease is not held, has to end, or would be in the way of a booking, of who waited longest, or of a quota.
        """
        with self._core.transaction(actor) as ledger:
            lease = self._held(ledger, lease_id)
            if lease.expires_at is None or lease.granted_at is None:
                raise Conflict(f"lease {lease_id} has no end to be put off")
            if lease.revoke_at is not None:
                raise Conflict(f"lease {lease_id} has to end by {moment(lease.revoke_at)}: {lease.revoke_reason}")
            ends_at = lease.expires_at + by_s
            require_allowed(
                replace(one, field="by_s") if one.field == "duration_s" else one
                for one in ledger.policy.objections(
                    actor,
                    team=lease.team,
                    priority=lease.priority,
                    duration_s=ends_at - lease.granted_at,
                    benches=len(lease.benches),
                )
            )
            lab = lab_of(ledger.unit, ledger.now, self._core.presence.attached)
            refused = extend(lease.id, ends_at, lab, rules_of(ledger.policy))
            if refused is not None:
                raise Conflict(f"lease {lease_id} cannot last until {moment(ends_at)}: {in_the_way(refused)}")
            return self._leasing.view(ledger.unit, ledger.extend(lease, ends_at))

    def transfer(self, actor: Actor, lease_id: str, holder: str, team: str | None) -> LeaseView:
        """Gives the lease to another person, or team. Agents undo what the former holder did, and refuse their tokens.

        Raises NotFound; Invalid where the policy does not let the person or the team have it; and Conflict when it is
        neither held nor waiting, or over the team's quota.
        """
        with self._core.transaction(actor) as ledger:
            lease = require(ledger.unit, lease_id)
            if lease.state is not LeaseState.QUEUED:
                lease = self._held(ledger, lease_id)
            self._not_of_a_run(lease)
            to = team or lease.team
            require_team(ledger, to)
            require_holder(ledger, holder, to, lease.priority)
            duration_s = lease.duration_s
            require_allowed(
                ledger.policy.objections(
                    actor, team=to, priority=lease.priority, duration_s=duration_s, benches=len(lease.parts)
                )
            )
            if to != lease.team:
                self._require_open(ledger, lease, to)
                self._require_quota(ledger, lease, to)
            return self._leasing.view(ledger.unit, ledger.transfer(lease, holder, to))

    def share(self, actor: Actor, lease_id: str, share: Share) -> LeaseView:
        """Lets somebody look on, or act, beside the holder until the lease ends; returns their view of it.

        Raises NotFound; Invalid where the policy would not let the actor have the lease any more, or where they may not
        do so on a lease of its team; and Conflict when it is not held.
        """
        with self._core.transaction(actor) as ledger:
            lease = self._held(ledger, lease_id)
            require_allowed(
                ledger.policy.objections(
                    actor,
                    team=lease.team,
                    priority=lease.priority,
                    duration_s=lease.duration_s,
                    benches=len(lease.benches),
                )
            )
            if share.holder == lease.holder:
                message = "this is the holder"
                raise Invalid(f"holder {share.holder!r}: {message}", FieldError("holder", share.holder, message))
            require_guest(ledger, share, lease.team, lease.priority)
            if len(ledger.unit.shares_ever(lease_id)) >= SHARES_MAX:
                raise Conflict(f"lease {lease_id} was shared with {SHARES_MAX} people: it can be shared with no more")
            share = ledger.share(lease, share)
            return self._leasing.view(ledger.unit, lease, share=share)

    def unshare(self, actor: Actor, lease_id: str, name: str, why: str = "") -> LeaseView:
        """Takes back what somebody was let do beside the holder: agents end their calls, and refuse their tokens.

        Raises NotFound, also when it is not shared with them, and Conflict when nobody holds it.
        """
        with self._core.transaction(actor) as ledger:
            lease = self._held(ledger, lease_id)
            shares = {one.holder: one for one in ledger.unit.shares(lease_id)}
            if name not in shares:
                known = f"it is shared with {', '.join(shares)}" if shares else "it is shared with nobody"
                raise NotFound(f"lease {lease_id} is not shared with {name!r}: {known}")
            ledger.unshare(lease, shares[name], why)
            return self._leasing.view(ledger.unit, lease)

    def shared_with(self, lease_id: str, name: str) -> LeaseView | None:
        """The lease as somebody with whom it is shared sees it, with tokens; None when it is not. Raises NotFound."""
        with self._core.view() as unit:
            lease = require(unit, lease_id)
            share = next((one for one in unit.shares(lease_id) if one.holder == name), None)
            return None if share is None else self._leasing.view(unit, lease, share=share)

    def _held(self, ledger: Ledger, lease_id: str) -> Lease:
        lease = require(ledger.unit, lease_id)
        if not lease.state.held or lease.overdue(ledger.now) is not None:
            raise Conflict(f"lease {lease_id} is {lease.state}: nobody holds it")
        self._not_of_a_run(lease)
        return lease

    def _not_of_a_run(self, lease: Lease) -> None:
        if lease.run_id is not None:
            raise Conflict(f"lease {lease.id} is run {lease.run_id}'s, and ends with it")

    def _require_open(self, ledger: Ledger, lease: Lease, team: str) -> None:
        """The team may have the benches that the lease has, was promised, or waits for."""
        for name in (*(one.bench for one in lease.benches), *lease.reserved):
            bench = ledger.unit.bench(name)
            if bench is not None and not bench.open_to(team):
                message = f"bench {name} is not open to this team"
                raise Invalid(f"team {team!r}: {message}", FieldError("team", team, message))
        if lease.state is LeaseState.QUEUED:
            require_possible(ledger.unit, lease.wanted, team)

    def _require_quota(self, ledger: Ledger, lease: Lease, team: str) -> None:
        """The team's quota holds what the lease has or was promised; what is in the queue waits for the quota there."""
        starts_at, ends_at = ledger.now, lease.expires_at
        if ends_at is None:
            if lease.starts_at is None:
                return
            starts_at = max(lease.starts_at, ledger.now)
            ends_at = starts_at + lease.duration_s
        lab = lab_of(ledger.unit, ledger.now, self._core.presence.attached)
        quotas = Quotas(
            replace(lab, held=tuple(one for one in lab.held if one.id != lease.id)), rules_of(ledger.policy)
        )
        shortfall = quotas.shortfall(team, len(lease.parts), starts_at, ends_at)
        if shortfall is not None:
            raise Conflict(str(shortfall))
