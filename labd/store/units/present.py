"""How the lab stands, in a unit of work: read from memory where nothing has changed since."""

from collections.abc import Collection, Iterable
from dataclasses import replace

from sqlalchemy import bindparam, select, update
from sqlalchemy.engine import Connection

from labd.model.bench import Bench
from labd.model.lease import HELD, LIVE, Lease, LeaseState, Share
from labd.model.policy import Policy
from labd.store import tables
from labd.store.standing import STANDING, Draft, Standing, standing_of
from labd.store.storable import storable
from labd.store.units.benches import Benches
from labd.store.units.leases import Leases
from labd.store.units.policy import Policies
from labd.store.units.replicas import Attachment, Replicas
from labd.store.units.usage import Usage
from labd.store.untold import USAGE_KEPT_H, Untold, changed

_STANDING = select(tables.standing.c.version, tables.standing.c.last_seq)
_COUNT = update(tables.standing).values(version=bindparam("now"), last_seq=bindparam("last"))


class Present(Benches, Leases, Policies, Replicas, Usage):
    """Benches, leases, policy, usage, and who is attached, as they stand."""

    _draft: Draft | None = None

    # Reading

    def benches(self) -> list[Bench]:
        """Every bench ever seen, removed ones too, by name."""
        return list(self._standing().benches.values())

    def bench(self, name: str) -> Bench | None:
        """One bench."""
        return self._standing().benches.get(name)

    def benches_of(self, agent: str) -> list[Bench]:
        """The benches of an agent, removed ones too, by name."""
        return self._standing().benches_of(agent)

    def lease(self, lease_id: str) -> Lease | None:
        """One lease."""
        return self._standing().lease(lease_id) or self.stored_lease(lease_id)

    def leases_in(self, states: Collection[LeaseState]) -> list[Lease]:
        """All leases in these states, none of which is ENDED, in order of arrival."""
        return self._standing().leases_in(states)

    def live_leases(self) -> list[Lease]:
        """Leases whose end is not decided, in order of arrival."""
        return self.leases_in(LIVE)

    def queue(self) -> list[Lease]:
        """QUEUED leases in order of arrival."""
        return list(self._standing().queue())

    def last_to_come(self) -> float | None:
        """When the last of the queue came; None where nobody waits."""
        return max((lease.created_at for lease in self._standing().queue()), default=None)

    def leases_due(self, now: float) -> list[Lease]:
        """Live leases of which a deadline has passed, in order of arrival."""
        return self._standing().due(now)

    def next_lease_deadline(self, now: float) -> float | None:
        """When live leases have to be looked at next, at the earliest."""
        return self._standing().next_due(now)

    def next_booking_deadline(self, now: float) -> float | None:
        """When the next booking that waits starts, or, if its start is past, ends."""
        booked = [(lease.starts_at, lease.duration_s) for lease in self.queue() if lease.starts_at is not None]
        starts = [start for start, _ in booked if start > now]
        return _first([*starts, *(start + duration_s for start, duration_s in booked)])

    def held_unused_since(self, moment: float) -> list[Lease]:
        """Leases that people hold and that were last known to be used then, or before."""
        held = [lease for lease in self.leases_in(HELD) if lease.held]
        return [lease for lease in held if lease.used_at is not None and lease.used_at <= moment]

    def longest_unused(self) -> float | None:
        """When the lease that a person holds and has not used for longest was used, as far as is known."""
        return _first(lease.used_at for lease in self.leases_in(HELD) if lease.held)

    def leases_ending(self, expired_by: float) -> list[Lease]:
        """ENDING leases whose tokens had all expired by then."""
        ending = self.leases_in((LeaseState.ENDING,))
        return [lease for lease in ending if lease.expires_at is not None and lease.expires_at <= expired_by]

    def next_expiry_of_ending(self, after: float) -> float | None:
        """When the tokens of the next ENDING lease expire, after this time."""
        ending = self.leases_in((LeaseState.ENDING,))
        return _first(lease.expires_at for lease in ending if lease.expires_at is not None and lease.expires_at > after)

    def held(self) -> dict[str, Lease]:
        """The GRANTED and ACTIVE leases by bench."""
        return {one.bench: lease for lease in self.leases_in(HELD) for one in lease.benches}

    def taken(self) -> set[str]:
        """The benches on which somebody may act by a lease, or may still."""
        return set(self._standing().live)

    def live_on(self, bench: str) -> Lease | None:
        """The lease by which somebody may act on a bench, or may still: GRANTED, ACTIVE or ENDING."""
        return self._standing().live_on(bench)

    def shares(self, lease_id: str) -> list[Share]:
        """With whom a lease, which is not ENDED, is shared, by name."""
        return [share for share, live in self.shares_ever(lease_id) if live]

    def shares_ever(self, lease_id: str) -> list[tuple[Share, bool]]:
        """With whom a lease, which is not ENDED, is or was shared, by name, and whether it still is."""
        return self._standing().shares_of(lease_id)

    def is_attached(self, agent: str, session: str) -> bool:
        """Whether that session is the agent's latest, in the whole lab."""
        return self._standing().attached.get(agent, ("", ""))[1] == session

    def policy(self) -> Policy:
        """The lab's policy; the default one until somebody has set another."""
        return self._standing().policy

    def usage(self) -> list[tuple[str, int, float]]:
        """Team, hour since the Unix epoch, bench-seconds."""
        return [(team, hour, bench_s) for (team, hour), bench_s in sorted(self._standing().usage.items())]

    # Writing

    def save_bench(self, bench: Bench) -> None:
        """Adds the bench or replaces what was known of it."""
        draft, bench = self._changing(), storable(bench, tables.benches)
        changed(self._telling.benches, bench.name, draft.benches.get(bench.name), bench)
        draft.put_bench(bench)

    def add_lease(self, lease: Lease) -> int:
        """Stores a new lease; returns its place in the order of arrival."""
        draft = self._changing()
        draft.last_seq += 1
        lease = replace(storable(lease, tables.leases), seq=draft.last_seq)
        changed(self._telling.leases, lease.id, None, lease)
        draft.put_lease(lease)
        return lease.seq

    def save_lease(self, lease: Lease, before: Lease) -> None:
        """Stores the new state of a known lease, which was `before`."""
        draft = self._changing()
        known = draft.lease(lease.id) or before
        lease = replace(storable(lease, tables.leases), seq=known.seq)
        changed(self._telling.leases, lease.id, known, lease)
        draft.put_lease(lease)

    def save_share(self, lease_id: str, share: Share, *, live: bool = True) -> None:
        """Shares a lease with somebody, changes how, or remembers that it is shared with them no more."""
        draft = self._changing()
        self.store_share(lease_id, share, live)
        draft.put_share(lease_id, share, live)

    def drop_shares(self, lease_id: str) -> None:
        """Shares a lease with nobody any more."""
        draft = self._changing()
        self.remove_shares(lease_id)
        draft.drop_shares(lease_id)

    def attach_agent(self, attachment: Attachment) -> None:
        """The agent is attached there, and nowhere else."""
        draft = self._changing()
        self.store_attachment(attachment)
        draft.put_attached(attachment.agent, attachment.replica, attachment.session)

    def detach_agent(self, agent: str, session: str) -> None:
        """That session of the agent is over; a newer one stays."""
        if self.is_attached(agent, session):
            self._changing().drop_attached([agent])
        self.remove_attachment(agent, session)

    def forget_replicas(self, ids: list[str]) -> None:
        """Takes out replicas that are gone, with their agents."""
        draft = self._changing()
        self.remove_replicas(ids)
        draft.drop_attached([agent for agent, (replica, _) in draft.attached.items() if replica in ids])

    def save_policy(self, policy: Policy) -> None:
        """Replaces the lab's policy."""
        draft = self._changing()
        self.store_policy(policy)
        draft.policy = policy

    def add_usage(self, team: str, hour: int, bench_s: float) -> None:
        """Adds to what the team has used in an hour; what is long past is forgotten."""
        draft = self._changing()
        before = draft.usage.get((team, hour))
        used = (before or 0.0) + bench_s
        changed(self._telling.usage, (team, hour), before, used)
        draft.put_usage(team, hour, used, oldest=hour - USAGE_KEPT_H)

    def change(self) -> Standing | None:
        """How the lab stands once this is durable; None if nothing changed."""
        return self._draft

    def _standing(self) -> Standing:
        if self._draft is not None:
            return self._draft
        if self._read is None:
            row = self._aside.execute(_STANDING).one()
            self._read = self._standings.at(row.version) or self._stored(row.version, row.last_seq)
        return self._read

    def _stored(self, version: int, last_seq: int) -> Standing:
        stored = standing_of(
            version,
            self.stored_benches(),
            self.stored_leases(STANDING),
            self.stored_shares(STANDING),
            self.stored_attached(),
            self.stored_policy(),
            self.stored_usage(),
            last_seq,
        )
        self._standings.keep(stored)
        return stored

    def _changing(self) -> Draft:
        if self._draft is None:
            self._draft = Draft(self._standing())
        return self._draft


def tell(connection: Connection, untold: Untold, standing: Standing | None) -> None:
    """Has the database say what units of work have changed, and that this is how the lab stands then."""
    untold.tell(connection)
    if standing is not None:
        connection.execute(_COUNT, {"now": standing.version, "last": standing.last_seq})


def _first(deadlines: Iterable[float | None]) -> float | None:
    return min((deadline for deadline in deadlines if deadline is not None), default=None)
