"""Teams with quotas and benches of their own, bookings, shares, leases that people hold, drains and restarts, driven at
random on real databases."""

import shutil
import tempfile
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from labd.model.bench import BenchState
from labd.model.filters import Filter
from labd.model.identity import ANONYMOUS
from labd.model.lease import Lease, LeaseEnd, LeaseState, Share, ShareMode, Wanted
from labd.model.policy import Policy, TeamPolicy
from labd.model.selector import parse
from labd.services.attachment import Session
from labd.services.errors import Conflict, Invalid
from labd.services.planning import HOUR_S, rules_of, wish_of
from tests.postgresql import PostgresServer
from tests.unit.labd import written_rules
from tests.unit.labd.fakes import FakeClock, FakeLink, open_lab, report, settle

AGENTS = {"left": ("bench-1", "bench-2"), "right": ("bench-3", "bench-4")}
LABELS = {
    "bench-1": {"platform": "meb"},
    "bench-2": {"platform": "meb", "fast": "yes"},
    "bench-3": {"platform": "mqb"},
    "bench-4": {"platform": "mqb", "team": "brakes"},
}
TEAMS = ("body", "chassis", "brakes")
PEOPLE = ("ada", "bob")
IDLE_S = 100.0
MOST_WAITING = 6
POLICY = Policy(
    teams=(TeamPolicy("body", benches=1), TeamPolicy("chassis", weight=3.0)),
    idle_release_s=IDLE_S,
    idle_notice_s=20.0,
    preemption_grace_s=30.0,
)
WISHES = ((Wanted(""),), (Wanted("platform=meb"),), (Wanted("fast"),), (Wanted("platform=meb", 2),))

teams = st.sampled_from(TEAMS)
agents = st.sampled_from(sorted(AGENTS))
priorities = st.sampled_from(["low", "normal", "normal", "high", "urgent"])


class Agent:
    """One that does at once what it is told; attached or not."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.fenced = dict.fromkeys(AGENTS[name], 0)
        self.session: Session | None = None
        self.link = FakeLink()


class TeamsMachine(RuleBasedStateMachine):
    leases = Bundle("leases")

    def __init__(self, database: str | None = None) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="labd-teams-"))
        self.database = database
        self.clock = FakeClock()
        self.lab = open_lab(self.directory, self.clock, database=database)
        self.agents = {name: Agent(name) for name in AGENTS}
        self.drained: set[str] = set()
        """Benches and agents."""
        self.seen: dict[str, Lease] = {}
        self.shares: dict[str, dict[str, ShareMode]] = {}
        self.active_at: dict[str, float] = {}
        """When anything last happened for which a held lease may be taken to be in use."""
        self.used_at: dict[str, float] = {}
        """When it last surely was in use."""
        self.charges: dict[str, float] = dict.fromkeys(TEAMS, 0.0)
        """Bench-seconds by team: of leases that are over, and of those that changed their team."""

    def teardown(self) -> None:
        self.lab.core.store.close()
        shutil.rmtree(self.directory)

    # Agents

    @initialize(
        target=leases,
        asked=st.lists(st.tuples(st.sampled_from(WISHES), teams, priorities, st.booleans()), min_size=4, max_size=5),
    )
    def begin(self, asked: list[tuple[tuple[Wanted, ...], str, str, bool]]) -> Any:
        self.lab.policing.replace(ANONYMOUS, POLICY)
        for name in AGENTS:
            self.attach(name)
        return multiple(*(self.ask(*one, 600.0) for one in asked))

    @rule(name=agents)
    def attach(self, name: str) -> None:
        agent = self.agents[name]
        agent.link = FakeLink()
        reports = [report(bench, LABELS[bench], fenced=agent.fenced[bench]) for bench in AGENTS[name]]
        agent.session, orders = self.lab.hearing.attach(name, f"{name}:1", reports, agent.link)
        agent.link.orders.extend(orders)
        self.stir()
        self.obey()

    @rule(name=agents)
    def detach(self, name: str) -> None:
        agent = self.agents[name]
        if agent.session is None:
            self.attach(name)
        else:
            self.lab.hearing.detach(agent.session, "test")
            agent.session = None
            self.stir()

    def obey(self) -> None:
        """The agents that are there end what they are told to end."""
        for agent in self.agents.values():
            if agent.session is None:
                continue
            while agent.link.orders:
                order = agent.link.orders.pop(0)
                agent.fenced[order.bench] = max(agent.fenced[order.bench], order.epoch)
                self.lab.hearing.fenced(agent.session, order.bench, order.epoch)
        settle(self.lab)

    @rule(name=st.sampled_from([*LABELS, *AGENTS]))
    def drain_or_end_that(self, name: str) -> None:
        before, draining = self.live(), name not in self.drained
        drain = self.lab.fleet.drain if name in LABELS else self.lab.fleet.drain_agent
        drain(ANONYMOUS, name, draining, "a cable")
        self.drained ^= {name}
        assert before.items() <= self.live().items(), "a drain ends nothing"

    # People

    @rule(
        target=leases,
        wanted=st.sampled_from(WISHES),
        team=teams,
        priority=priorities,
        held=st.booleans(),
        duration_s=st.sampled_from([60.0, 600.0]),
    )
    def ask(self, wanted: tuple[Wanted, ...], team: str, priority: str, held: bool, duration_s: float) -> str:
        try:
            lease = self.lab.leasing.create(
                ANONYMOUS, benches=wanted, holder="ada", team=team, duration_s=duration_s, ttl_s=3600.0,
                priority=priority, held=held,
            ).lease  # fmt: skip
        except Invalid:
            assert team == "body" and len(wanted) + wanted[0].count > 2
            return "none"
        return lease.id

    @rule(
        target=leases,
        wanted=st.sampled_from(WISHES),
        team=teams,
        held=st.booleans(),
        in_s=st.sampled_from([0.0, 200.0, 900.0]),
        duration_s=st.sampled_from([60.0, 300.0]),
    )
    def book(self, wanted: tuple[Wanted, ...], team: str, held: bool, in_s: float, duration_s: float) -> str:
        try:
            booking = self.lab.leasing.create(
                ANONYMOUS, benches=wanted, holder="ada", team=team, duration_s=duration_s, ttl_s=3600.0, held=held,
                starts_at=self.clock.now() + in_s,
            ).lease  # fmt: skip
        except Invalid:
            assert team == "body" and wanted[0].count > 1
            return "none"
        except Conflict:
            return "none"
        assert booking.state.held or len(booking.reserved) == len(booking.parts), "it is promised, or refused"
        return booking.id

    @rule(lease_id=leases)
    def release(self, lease_id: str) -> None:
        if lease_id != "none":
            self.lab.leasing.release(ANONYMOUS, lease_id)
            self.obey()

    @rule(lease_id=leases, idle_s=st.sampled_from([0.0, 10.0]))
    def use(self, lease_id: str, idle_s: float) -> None:
        """Something goes between a holder and the first bench."""
        lease = self.seen.get(lease_id)
        if lease is None or not lease.state.held:
            return
        first = lease.benches[0]
        agent = next(one for one in self.agents.values() if first.bench in AGENTS[one.name])
        if agent.session is not None:
            told = report(first.bench, LABELS[first.bench], fenced=agent.fenced[first.bench])
            self.lab.hearing.report(agent.session, replace(told, active_epoch=first.epoch, idle_s=idle_s))
            self.used_at[lease_id] = max(self.used_at[lease_id], self.clock.now() - idle_s)
            self.active_at[lease_id] = max(self.active_at[lease_id], self.used_at[lease_id])

    @rule(lease_id=leases, holder=st.sampled_from(PEOPLE), team=teams)
    def transfer(self, lease_id: str, holder: str, team: str) -> None:
        before = self.seen.get(lease_id)
        if before is None or before.state.over:
            return
        others = [one for one in self.seen.values() if one.state.held and one.team == team and one.id != lease_id]
        over = team == "body" and sum(len(one.benches) for one in others) + len(before.parts) > 1
        try:
            after = self.lab.holding.transfer(ANONYMOUS, lease_id, holder, team).lease
        except (Conflict, Invalid):
            owned = any(not open_to(name, team) for name in (*before.reserved, *(one.bench for one in before.benches)))
            assert team != before.team and (owned or (team == "body" and (over or self.bookings())))
            return
        assert (after.holder, after.team, after.expires_at) == (holder, team, before.expires_at)
        if before.state.held:
            assert before.team == team or not over
            assert all(new.epoch > old.epoch for new, old in zip(after.benches, before.benches, strict=True))
            spent = (self.clock.now() - (before.granted_at or 0.0)) * len(before.benches)
            self.charges[before.team] += spent
            self.charges[team] -= spent
        self.shares.pop(lease_id, None)
        self.active_at[lease_id] = self.clock.now()
        self.obey()

    @rule(lease_id=leases, who=st.sampled_from(["carol", "dave"]), mode=st.sampled_from(ShareMode))
    def share(self, lease_id: str, who: str, mode: ShareMode) -> None:
        lease = self.seen.get(lease_id)
        if lease is not None and lease.state.held:
            self.lab.holding.share(ANONYMOUS, lease_id, Share(who, mode))
            self.shares.setdefault(lease_id, {})[who] = mode

    @rule(lease_id=leases)
    def take_a_share_back(self, lease_id: str) -> None:
        lease = self.seen.get(lease_id)
        if lease is not None and lease.state.held and self.shares.get(lease_id):
            who, _ = self.shares[lease_id].popitem()
            self.lab.holding.unshare(ANONYMOUS, lease_id, who)

    # Time, and labd's own end

    @rule(seconds=st.sampled_from([1.0, 30.0, 60.0, 110.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        settle(self.lab)
        self.obey()

    @rule()
    def restart_labd(self) -> None:
        def remembered() -> object:
            with self.lab.core.view() as unit:
                leases = sorted(unit.newest_leases(Filter(), 1000), key=lambda lease: lease.seq)
                drains = {bench.name: (bench.draining, bench.agent_drain) for bench in unit.benches()}
                shares = {lease.id: unit.shares(lease.id) for lease in leases}
                return leases, drains, shares, unit.agent_drains(), unit.usage(), unit.policy()

        before = remembered()
        self.lab.core.store.close()
        self.lab = open_lab(self.directory, self.clock, database=self.database)
        assert remembered() == before
        for agent in self.agents.values():
            agent.session = None
        self.stir()
        self.lab.conductor.recover()
        settle(self.lab)

    def stir(self) -> None:
        """An agent came or went: nobody knows what was used meanwhile."""
        self.active_at = dict.fromkeys(self.active_at, self.clock.now())

    # What must hold

    def bookings(self) -> list[Lease]:
        """Those that wait for their time, or for a bench since."""
        return [one for one in self.seen.values() if one.state is LeaseState.QUEUED and one.starts_at is not None]

    def live(self) -> dict[str, str]:
        """Who has each bench."""
        with self.lab.core.view() as unit:
            return {bench: lease.id for bench, lease in unit.held().items()}

    @invariant()
    def what_must_always_hold(self) -> None:
        now = self.clock.now()
        with self.lab.core.view() as unit:
            leases = sorted(unit.newest_leases(Filter(), 1000), key=lambda lease: lease.seq)
            usage, rules, policy = unit.usage(), rules_of(unit.policy()), unit.policy()
        for lease in leases:
            former = self.seen.get(lease.id)
            self.seen[lease.id] = lease
            if lease.benches and (former is None or not former.benches):
                self.active_at[lease.id] = self.used_at[lease.id] = now
                owners = {name for name, theirs in AGENTS.items() for one in lease.benches if one.bench in theirs}
                assert not self.drained & {*owners, *(one.bench for one in lease.benches)}, "a drained bench was given"
            if lease.state is LeaseState.ENDED and (former is None or former.state is not LeaseState.ENDED):
                self.check_end(lease, now)
        held = [lease for lease in leases if lease.state.held]
        assert all(open_to(one.bench, lease.team) for lease in held for one in lease.benches), "another team's bench"
        self.check_bookings(held, now)
        taken = [one.bench for lease in leases for one in lease.benches if one.live]
        assert len({*taken}) == len(taken), "two holders on one bench"
        assert sum(len(lease.benches) for lease in held if lease.team == "body") <= 1, "over its quota"
        for lease in held:
            if lease.held and all(agent.session for agent in self.agents.values()):
                assert now - self.active_at[lease.id] < IDLE_S, "it is not used, and not released"
        for lease in leases:
            shared = self.shares.get(lease.id, {}) if lease.state.held else {}
            for who in ("carol", "dave"):
                found = self.lab.holding.shared_with(lease.id, who) if lease.state.held else None
                assert (found is not None) == (who in shared), "shared with somebody else than was said"
        for team in TEAMS:
            assert abs(sum(used for by, _, used in usage if by == team) - self.charges[team]) < 1e-3

        use = written_rules.fair_use(
            [(team, used / HOUR_S, hour * HOUR_S, (hour + 1) * HOUR_S) for team, hour, used in usage],
            [(one.team, sum(part.live for part in one.benches), one.granted_at or now)
             for one in leases if any(part.live for part in one.benches)],
            now, rules.fair_half_life_s,
        )  # fmt: skip
        waiting = {one.id: one for one in leases if one.state is LeaseState.QUEUED and one.starts_at is None}
        queue = written_rules.queue([wish_of(one, policy) for one in waiting.values()], rules, now, use)
        self.check_queue([waiting[wish.id] for wish in queue])

    def check_end(self, lease: Lease, now: float) -> None:
        if lease.granted_at is not None:
            until = min(lease.ended_at or now, lease.expires_at or now)  # not for an agent that was away at its end
            self.charges[lease.team] += (until - lease.granted_at) * len(lease.benches)
        if lease.end_reason is LeaseEnd.IDLE:
            assert lease.held and now - self.used_at[lease.id] >= IDLE_S, "it was in use"

    def check_bookings(self, held: list[Lease], now: float) -> None:
        """No two for the same time, none for a bench that is not the team's or is taken then, and each one is kept."""
        taken = [
            (one.bench, lease.granted_at or now, lease.expires_at or now) for lease in held for one in lease.benches
        ]
        for booking in self.bookings():
            starts_at = booking.starts_at or 0.0
            assert all(open_to(name, booking.team) for name in booking.reserved), "another team's bench is promised"
            if starts_at > now:
                spans = [(name, starts_at, starts_at + booking.duration_s) for name in booking.reserved]
                assert not [one for one in spans if any(overlap(one, other) for other in taken)], "promised twice"
                taken += spans
            elif booking.reserved:
                assert not set(booking.reserved) <= self.free(), (
                    "its time has come, and it has not what it was promised"
                )

    def free(self) -> set[str]:
        """The benches that somebody could have now."""
        views = self.lab.fleet.benches("")
        return {view.bench.name for view in views if view.state is BenchState.AVAILABLE and not view.bench.promised_to}

    def check_queue(self, queue: list[Lease]) -> None:
        """By the written rules, and nobody waits for what is free and his, with time enough before it is booked."""
        free = self.free()
        for place, lease in enumerate(queue, start=1):
            found = self.lab.explaining.why(lease.id).explanation
            assert found.position == place
            if found.over_quota is None:
                until = self.clock.now() + lease.duration_s + 3 * POLICY.clean_up_s
                booked = {name for one in self.bookings() if (one.starts_at or 0.0) < until for name in one.reserved}
                assert not could_have(lease, free - booked), "benches idle while somebody waits"
            else:
                assert lease.team == "body"


def open_to(bench: str, team: str) -> bool:
    return LABELS[bench].get("team", team) == team


def overlap(one: tuple[str, float, float], other: tuple[str, float, float]) -> bool:
    return one[0] == other[0] and one[1] < other[2] and other[1] < one[2]


def could_have(lease: Lease, benches: set[str]) -> bool:
    benches = {name for name in benches if open_to(name, lease.team)}
    return any(
        all(parse(part).matches({**LABELS[name], "name": name}) for part, name in zip(lease.parts, chosen, strict=True))
        for chosen in permutations(sorted(benches), len(lease.parts))
    )


TestTeams = TeamsMachine.TestCase
TestTeams.pytestmark = [pytest.mark.timeout(600)]  # type: ignore[attr-defined]  # for shrinking what was found
TestTeams.settings = settings(max_examples=6, stateful_step_count=30, suppress_health_check=list(HealthCheck))


@pytest.mark.timeout(600)
def test_teams_on_postgresql(postgresql: PostgresServer) -> None:
    class OnPostgreSQL(TeamsMachine):
        def __init__(self) -> None:
            super().__init__(postgresql.fresh_labd_database())

    few = settings(TestTeams.settings, max_examples=2, stateful_step_count=15)
    run_state_machine_as_test(OnPostgreSQL, settings=few)
