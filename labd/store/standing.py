"""How the lab stands: its benches, and the leases that are not over, kept in memory from one transaction to the next.

The database counts the transactions that change any of it. What is kept under the number that a transaction finds there
is just what the transaction would read, whoever made the change: another thread, or another labd.
"""

import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, cast

from labd.model.bench import Bench
from labd.model.lease import LIVE, Lease, LeaseState, Share
from labd.model.policy import Policy

KEPT = 4
"""Versions that are kept: a reader may be a little behind the writers."""
STANDING = (*LIVE, LeaseState.ENDING)
"""States of the leases that are kept."""

_NONE: Mapping[str, Lease] = {}
_NOBODY: Mapping[str, tuple[Share, bool]] = {}
_NEVER = float("inf")


@dataclass(slots=True, kw_only=True)
class Standing:
    """The lab after the change of this number. Threads share it, and nobody changes it."""

    version: int = 0
    benches: Mapping[str, Bench] = field(default_factory=dict)
    """Every bench ever seen, removed ones too, by name and in its order."""
    leases: Mapping[LeaseState, Mapping[str, Lease]] = field(default_factory=dict)
    """Those that are not ENDED, by state and ID; QUEUED ones in order of arrival."""
    live: Mapping[str, str] = field(default_factory=dict)
    """By bench: the lease by which somebody may act on it, or may still."""
    of_agents: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """By agent: its benches, removed ones too."""
    shares: Mapping[str, Mapping[str, tuple[Share, bool]]] = field(default_factory=dict)
    """By lease and name: with whom it is or was shared, and whether it still is."""
    attached: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """By agent: the labd to which it attached last, of several, and its name for that (`Attachment`)."""
    policy: Policy = field(default_factory=Policy)
    usage: Mapping[tuple[str, int], float] = field(default_factory=dict)
    """Bench-seconds by team and hour since the Unix epoch."""
    last_seq: int = 0
    """Place in the order of arrival of the last lease that came, however long ago it went."""
    due_from: float = _NEVER
    """No live lease is due before (s since the Unix epoch). May be too early; who finds that out puts it right."""

    def lease(self, lease_id: str) -> Lease | None:
        """One lease, unless it is ENDED."""
        return next((leases[lease_id] for leases in self.leases.values() if lease_id in leases), None)

    def leases_in(self, states: Collection[LeaseState]) -> list[Lease]:
        """All leases in these states, none of which is ENDED, in order of arrival."""
        found = [lease for state in states for lease in self.leases.get(state, _NONE).values()]
        return sorted(found, key=attrgetter("seq"))

    def queue(self) -> Collection[Lease]:
        """The QUEUED leases in order of arrival."""
        return self.leases.get(LeaseState.QUEUED, _NONE).values()

    def live_on(self, bench: str) -> Lease | None:
        """The lease by which somebody may act on a bench, or may still."""
        lease_id = self.live.get(bench)
        return None if lease_id is None else self.lease(lease_id)

    def shares_of(self, lease_id: str) -> list[tuple[Share, bool]]:
        """With whom a lease is or was shared, by name, and whether it still is."""
        shares = self.shares.get(lease_id, _NOBODY)
        return [shares[name] for name in sorted(shares)]

    def benches_of(self, agent: str) -> list[Bench]:
        """The benches of an agent, removed ones too, by name."""
        return [self.benches[name] for name in sorted(self.of_agents.get(agent, ()))]

    def due(self, now: float) -> list[Lease]:
        """The live leases of which a deadline has passed, in order of arrival."""
        if now < self.due_from:
            return []
        dated = [(due_at, lease) for lease in self.leases_in(LIVE) if (due_at := lease.due_at) is not None]
        self.due_from = min((due_at for due_at, _ in dated), default=_NEVER)
        return [lease for due_at, lease in dated if due_at <= now]

    def next_due(self, now: float) -> float | None:
        """When a live lease has to be looked at again, at the earliest."""
        self.due(now)
        return None if self.due_from == _NEVER else self.due_from


class Draft(Standing):
    """How the lab will stand when a transaction is durable. It shares with the former standing what stays."""

    __slots__ = ("_own",)

    def __init__(self, former: Standing) -> None:
        super().__init__(**{one.name: getattr(former, one.name) for one in fields(Standing)})
        self.version += 1
        self._own: set[str] = set()
        """What has been copied from the former standing already."""

    def put_bench(self, bench: Bench) -> None:
        """Adds the bench or replaces what was known of it."""
        known = self.benches.get(bench.name)
        self._copied("benches")[bench.name] = bench
        if known is None:
            self.benches = dict(sorted(self.benches.items()))
        if known is None or known.agent != bench.agent:
            of_agents = self._copied("of_agents")
            if known is not None:
                of_agents[known.agent] = of_agents[known.agent] - {bench.name}
            of_agents[bench.agent] = of_agents.get(bench.agent, frozenset()) | {bench.name}

    def put_lease(self, lease: Lease) -> None:
        """Adds the lease or replaces what was known of it; drops it when it is ENDED."""
        known = self.lease(lease.id)
        if known is not None and known.state is not lease.state:
            del self._leases(known.state)[lease.id]
        if lease.state is not LeaseState.ENDED:
            self._leases(lease.state)[lease.id] = lease
        if known is None or known.benches != lease.benches or lease.state is LeaseState.ENDED:
            self._put_live(lease)
        if lease.state is LeaseState.ENDED:
            self.drop_shares(lease.id)
        if (due_at := lease.due_at) is not None:
            self.due_from = min(self.due_from, due_at)

    def put_share(self, lease_id: str, share: Share, live: bool) -> None:
        """Adds the share or replaces what was known of it."""
        shares = self._copied("shares")
        shares[lease_id] = {**shares.get(lease_id, _NOBODY), share.holder: (share, live)}

    def drop_shares(self, lease_id: str) -> None:
        """Forgets all shares of the lease."""
        if lease_id in self.shares:
            del self._copied("shares")[lease_id]

    def put_attached(self, agent: str, replica: str, session: str) -> None:
        """The agent is attached there, and nowhere else."""
        self._copied("attached")[agent] = replica, session

    def drop_attached(self, agents: Iterable[str]) -> None:
        """These agents are attached nowhere."""
        attached = self._copied("attached")
        for agent in agents:
            attached.pop(agent, None)

    def put_usage(self, team: str, hour: int, bench_s: float, oldest: int) -> None:
        """Replaces what the team has used in an hour, and forgets what is older than another hour."""
        new = (team, hour) not in self.usage
        self._copied("usage")[team, hour] = bench_s
        if new:
            self.usage = {key: used for key, used in self.usage.items() if key[1] >= oldest}

    def _put_live(self, lease: Lease) -> None:
        live = self._copied("live")
        for one in lease.benches:
            if one.live and lease.state is not LeaseState.ENDED:
                live[one.bench] = lease.id
            elif live.get(one.bench) == lease.id:
                del live[one.bench]

    def _leases(self, state: LeaseState) -> dict[str, Lease]:
        by_state = self._copied("leases")
        if state not in self._own:
            by_state[state] = dict(by_state.get(state, _NONE))
            self._own.add(state)
        return cast("dict[str, Lease]", by_state[state])

    def _copied(self, name: str) -> dict[Any, Any]:
        if name not in self._own:
            setattr(self, name, dict(getattr(self, name)))
            self._own.add(name)
        return cast("dict[Any, Any]", getattr(self, name))


def standing_of(
    version: int,
    benches: Iterable[Bench],
    leases: Iterable[Lease],
    shares: Iterable[tuple[str, Share, bool]],
    attached: Mapping[str, tuple[str, str]],
    policy: Policy,
    usage: Mapping[tuple[str, int], float],
    last_seq: int,
) -> Standing:
    """What the database has; leases in order of arrival."""
    former = Standing(version=version - 1, attached=attached, policy=policy, usage=usage, last_seq=last_seq)
    draft = Draft(former)
    for bench in sorted(benches, key=attrgetter("name")):
        draft.put_bench(bench)
    for lease in leases:
        draft.put_lease(lease)
    for lease_id, share, live in shares:
        draft.put_share(lease_id, share, live)
    return draft


class Standings:
    """The last few. Threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[int, Standing] = {}

    def at(self, version: int) -> Standing | None:
        """The lab after the change of this number, if it is kept."""
        return self._kept.get(version)

    def keep(self, standing: Standing) -> None:
        """Takes in what is, or has become, durable."""
        with self._lock:
            kept = {**self._kept, standing.version: standing}
            newest = sorted(kept)[-KEPT:]
            self._kept = {version: kept[version] for version in newest}
