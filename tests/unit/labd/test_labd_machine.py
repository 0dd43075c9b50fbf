"""Leases, queue, fences and runs, driven at random through the services on a real database."""

import math
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from joserfc import jwt
from joserfc.jwk import KeySet

from bench_agent.protocol.claims import ALGORITHM, LeaseClaims
from labd.executors.base import Alive
from labd.model.bench import BenchState
from labd.model.filters import Filter
from labd.model.identity import ANONYMOUS
from labd.model.lease import Lease, LeaseState, Wanted
from labd.model.policy import Policy
from labd.model.run import RunState
from labd.model.selector import parse
from labd.services.attachment import Session
from labd.services.conductor import RECONSIDER_S
from labd.services.errors import Conflict, Invalid
from labd.services.lab import Lab
from labd.services.ledger import Effects
from tests.postgresql import PostgresServer
from tests.unit.labd.fakes import RESULT, FakeClock, FakeExecutor, FakeLink, open_lab, report, settle

LABELS: dict[str, dict[str, str]] = {
    "bench-1": {"platform": "meb"},
    "bench-2": {"platform": "meb", "fast": "yes"},
    "bench-3": {"platform": "mqb"},
}
SELECTORS = ("", "platform=meb", "platform=mqb", "fast", "!fast", "name=bench-1")
WISHES = (
    *((Wanted(selector),) for selector in SELECTORS),
    (Wanted("platform=meb", 2),),
    (Wanted("", 3),),
    (Wanted("platform=mqb"), Wanted("fast")),
)
PRIORITIES = ("low", "normal", "high", "urgent")


class Agent:
    """What an agent keeps on disk, and what it has been told and not done yet."""

    def __init__(self) -> None:
        self.fenced = dict.fromkeys(LABELS, 0)
        self.healthy = dict.fromkeys(LABELS, True)
        self.session: Session | None = None
        self.link = FakeLink()

    def reports(self) -> list:  # type: ignore[type-arg]
        return [
            report(name, labels, healthy=self.healthy[name], fenced=self.fenced[name])
            for name, labels in LABELS.items()
        ]


class LabMachine(RuleBasedStateMachine):
    leases = Bundle("leases")
    runs = Bundle("runs")

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="labd-machine-"))
        self.clock = FakeClock()
        self.executor = FakeExecutor()
        self.database = self.new_database()
        self.lab: Lab = open_lab(self.directory, self.clock, self.executor, database=self.database)
        self.due_at = math.inf
        """When something is due, by what the conductor has found, and transactions have told it since."""
        self.lab.core.follow(self.tell)
        self.agent = Agent()
        self.seen: dict[str, Lease] = {}
        self.epochs = dict.fromkeys(LABELS, 0)
        self.booked: set[str] = set()
        """Benches that were ever reserved for a booking."""

    def tell(self, effects: Effects) -> None:
        due_at = math.inf if effects.due_at is None else effects.due_at
        if effects.queue:
            due_at = min(due_at, self.clock.now() + RECONSIDER_S)
        self.due_at = 0.0 if effects.unscheduled else min(self.due_at, due_at)

    def settle(self) -> None:
        settle(self.lab)
        self.due_at = self.lab.conductor.due_at(self.clock.now()) or math.inf

    def new_database(self) -> str | None:
        """None: an SQLite file."""
        return None

    def teardown(self) -> None:
        self.lab.core.store.close()
        shutil.rmtree(self.directory)

    # The agent

    @initialize()
    def attach_first(self) -> None:
        self.attach()

    @rule()
    def attach(self) -> None:
        """Also while attached: a newer stream takes over."""
        former, self.agent.link = self.agent.link, FakeLink()
        had = self.agent.session is not None
        self.agent.session, orders = self.lab.hearing.attach("a", "a:1", self.agent.reports(), self.agent.link)
        self.agent.link.orders.extend(orders)
        assert not had or former.closed

    @precondition(lambda self: self.agent.session is not None)
    @rule()
    def detach(self) -> None:
        assert self.agent.session is not None
        self.lab.hearing.detach(self.agent.session, "test")
        self.agent.session = None

    @precondition(lambda self: self.agent.session is not None)
    @rule()
    def fence(self) -> None:
        """The agent does all that it was told."""
        assert self.agent.session is not None
        orders, self.agent.link.orders = self.agent.link.orders, []
        for one in orders:
            self.agent.fenced[one.bench] = max(self.agent.fenced[one.bench], one.epoch)
            self.lab.hearing.fenced(self.agent.session, one.bench, one.epoch)

    @rule(name=st.sampled_from(sorted(LABELS)))
    def lose_memory(self, name: str) -> None:
        """The agent's disk is replaced: it attaches anew, and has to be told again what is over."""
        self.agent.fenced[name] = 0
        self.attach()

    @rule(name=st.sampled_from(sorted(LABELS)), healthy=st.booleans())
    def change_health(self, name: str, healthy: bool) -> None:
        self.agent.healthy[name] = healthy
        if self.agent.session is not None:
            labels, fenced = LABELS[name], self.agent.fenced[name]
            self.lab.hearing.report(self.agent.session, report(name, labels, healthy=healthy, fenced=fenced))

    # People

    @rule(
        target=leases,
        wanted=st.sampled_from(WISHES),
        priority=st.sampled_from(PRIORITIES),
        ttl_s=st.sampled_from([5.0, 30.0]),
        duration_s=st.sampled_from([10.0, 100.0]),
    )
    def ask(self, wanted: tuple[Wanted, ...], priority: str, ttl_s: float, duration_s: float) -> str:
        return self.lab.leasing.create(
            ANONYMOUS, benches=wanted, holder="ada", duration_s=duration_s, ttl_s=ttl_s, priority=priority
        ).lease.id

    @rule(lease_id=leases)
    def heartbeat(self, lease_id: str) -> None:
        try:
            view = self.lab.leasing.heartbeat(ANONYMOUS, lease_id)
        except Conflict:
            assert self.lab.leasing.get(lease_id).lease.state.over
        else:
            assert view.lease.state in (LeaseState.QUEUED, LeaseState.ACTIVE)
            assert view.lease.heartbeat_by >= self.clock.now() + view.lease.ttl_s

    @rule(lease_id=leases)
    def release(self, lease_id: str) -> None:
        assert self.lab.leasing.release(ANONYMOUS, lease_id).lease.state.over

    @rule(lease_id=leases, by_s=st.sampled_from([5.0, 50.0, 40 * 86400.0]))
    def extend(self, lease_id: str, by_s: float) -> None:
        before = self.lab.leasing.get(lease_id).lease
        try:
            after = self.lab.holding.extend(ANONYMOUS, lease_id, by_s).lease
        except Conflict:
            return
        except Invalid:
            assert by_s > 30 * 86400.0
            return
        assert before.expires_at is not None
        assert after.expires_at == before.expires_at + by_s
        assert after.duration_s <= 30 * 86400.0

    @rule(lease_id=leases)
    def transfer(self, lease_id: str) -> None:
        before = self.lab.leasing.get(lease_id).lease
        try:
            after = self.lab.holding.transfer(ANONYMOUS, lease_id, "bob", None).lease
        except Conflict:
            return
        assert (after.holder, after.state, after.expires_at) == ("bob", before.state, before.expires_at)
        assert all(new.epoch > old.epoch for new, old in zip(after.benches, before.benches, strict=True))

    @rule(target=leases, after_s=st.sampled_from([0.0, 20.0, 100.0]), wanted=st.sampled_from(WISHES))
    def book(self, after_s: float, wanted: tuple[Wanted, ...]) -> Any:
        start = self.clock.now() + after_s
        try:
            lease = self.lab.leasing.create(
                ANONYMOUS, benches=wanted, holder="eve", duration_s=10.0, ttl_s=30.0, starts_at=start
            ).lease
        except Conflict:
            return multiple()
        assert lease.state.held or len(lease.reserved) == len(lease.parts)
        return lease.id

    @precondition(lambda self: self.agent.session is not None)
    @rule()
    def hand_everything_back(self) -> None:
        with self.lab.core.view() as unit:
            live = unit.live_leases()
        for lease in live:
            self.release(lease.id)
        self.fence()

    @rule(target=runs, wanted=st.sampled_from(WISHES), priority=st.sampled_from(PRIORITIES))
    def submit(self, wanted: tuple[Wanted, ...], priority: str) -> str:
        run = self.lab.running.create(
            ANONYMOUS,
            script="return",
            name="x.lua",
            files={},
            benches=wanted,
            holder="ci",
            timeout_s=20.0,
            priority=priority,
        ).run
        self.settle()
        return run.id

    @rule(run_id=runs)
    def cancel(self, run_id: str) -> None:
        assert self.lab.running.cancel(ANONYMOUS, run_id).run.state.final
        self.settle()

    @rule(run_id=runs, verdict=st.sampled_from(["passed", "failed", "error"]))
    def finish(self, run_id: str, verdict: str) -> None:
        document = {**RESULT, "verdict": verdict}
        before = self.lab.running.get(run_id).run.state
        try:
            after = self.lab.reporting.put_result(run_id, document, "<testsuites/>").run.state
        except Conflict:
            assert before is not RunState.RUNNING
        else:
            assert before.final or after.value == verdict.upper()
        self.settle()

    @rule(run_id=runs)
    def runner_dies(self, run_id: str) -> None:
        if isinstance(self.executor.status(run_id), Alive):
            self.executor.die(run_id, "the runner was killed by SIGKILL")
            self.settle()
            assert self.lab.running.get(run_id).run.state is not RunState.RUNNING

    # Time, and labd's own end

    @rule(seconds=st.sampled_from([0.5, 4.0, 6.0, 31.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.settle()
        with self.lab.core.view() as unit:
            assert not [lease for lease in unit.live_leases() if lease.overdue(self.clock.now())]

    @rule()
    def restart_labd(self) -> None:
        with self.lab.core.view() as unit:
            before = [(one.id, one.state, one.benches, one.expires_at) for one in unit.newest_leases(Filter(), 1000)]
            queue = [lease.id for lease in unit.queue()]
        self.lab.core.store.close()
        self.lab = open_lab(self.directory, self.clock, self.executor, database=self.database)
        self.lab.core.follow(self.tell)
        self.agent.session = None
        self.lab.core.forgive()
        with self.lab.core.view() as unit:
            after = [(one.id, one.state, one.benches, one.expires_at) for one in unit.newest_leases(Filter(), 1000)]
            assert after == before
            assert [lease.id for lease in unit.queue()] == queue
        self.lab.conductor.recover()
        self.settle()

    # What must always hold

    @invariant()
    def nothing_is_due_that_the_conductor_was_not_told(self) -> None:
        """It sleeps until what it has found itself, or was told."""
        due_at = self.lab.conductor.due_at(self.clock.now())
        assert due_at is None or due_at >= self.due_at

    @invariant()
    def what_must_always_hold(self) -> None:
        with self.lab.core.view() as unit:
            leases = sorted(unit.newest_leases(Filter(), 1000), key=lambda lease: lease.seq)
            benches = {bench.name: bench for bench in unit.benches()}
            runs = unit.newest_runs(Filter(), 1000)
        held = [lease for lease in leases if lease.state.held]
        waiting = [lease for lease in leases if lease.state is LeaseState.QUEUED]
        queue = ordered(lease for lease in waiting if lease.starts_at is None)
        promised = {bench.name for bench in benches.values() if bench.promised_to is not None}
        self.booked |= {name for lease in waiting for name in lease.reserved}
        by_id = {lease.id: lease for lease in leases}

        live = [one.bench for lease in leases for one in lease.benches if one.live]
        assert len(set(live)) == len(live), "two holders on one bench"
        assert all(one.live for lease in held for one in lease.benches)
        for bench in benches.values():
            assert bench.epoch >= self.epochs[bench.name], "an epoch went back"
            self.epochs[bench.name] = bench.epoch
        for lease in leases:
            former = self.seen.get(lease.id)
            if lease.benches and (former is None or not former.benches):
                self.check_grant(lease, queue)
            if former is not None:
                same = replace(former, state=lease.state, benches=lease.benches, ended_at=lease.ended_at)
                assert not former.state.over or lease == same, "a lease changed after its end was decided"
                assert former.state is not LeaseState.ENDED or lease == former, "an ended lease changed"
            assert (lease.state is LeaseState.ENDED) == (lease.ended_at is not None)
            if lease.state.over:
                assert (lease.state is LeaseState.ENDING) == any(one.live for one in lease.benches)
            self.seen[lease.id] = lease
        taken = [(one.bench, one.epoch) for lease in leases for one in lease.benches]
        assert len(set(taken)) == len(taken), "an epoch was used twice"

        for run in runs:
            state = by_id[run.lease_id].state
            assert (run.state is RunState.PENDING) == (state is LeaseState.QUEUED)
            assert (run.state is RunState.RUNNING) == state.held

        available = set()
        for view in self.lab.fleet.benches(""):
            if view.state is BenchState.AVAILABLE:
                assert self.agent.fenced[view.bench.name] >= view.bench.epoch, "free, but a former holder could act"
                assert view.bench.name not in live
                available.add(view.bench.name)
        for lease in queue:
            assert not could_have(lease, available - promised - self.booked), "benches idle while somebody waits"
        positions = {
            view.lease.id: view.position
            for view in self.lab.leasing.newest(Filter([LeaseState.QUEUED]), 1000)
            if view.lease.starts_at is None
        }
        positions = dict(sorted(positions.items(), key=lambda item: item[1] or 0))
        assert list(positions) == [lease.id for lease in queue]
        assert list(positions.values()) == list(range(1, len(queue) + 1))

    def check_grant(self, lease: Lease, queue: list[Lease]) -> None:
        assert len(lease.benches) == len(lease.parts), "all of them, or none"
        for one in lease.benches:
            assert self.agent.fenced[one.bench] >= one.epoch - 1, "granted before the former epoch was fenced"
            assert parse(one.selector).matches(labels_of(one.bench))
        got = {one.bench for one in lease.benches}
        # Bookings go first, and who would be in their way waits; what was taken for an urgent lease is that lease's.
        if lease.starts_at is not None or got & self.booked or lease.priority == "urgent":
            queue = []
        for other in ordered([*queue, lease]):
            if other.id == lease.id:
                break
            assert not could_have(other, got), "a later or lesser wish was served first"
        if lease.state.held:
            keys = KeySet.import_key_set(self.lab.core.signer.public_keys)
            for access in self.lab.leasing.get(lease.id).benches:
                assert access.token is not None
                claims = LeaseClaims.from_jwt(jwt.decode(access.token, keys, algorithms=[ALGORITHM]).claims)
                assert (claims.lease, claims.bench, claims.epoch) == (lease.id, access.part.bench, access.part.epoch)
                assert lease.expires_at is not None
                assert 0 <= claims.expires_at - lease.expires_at < 1


def ordered(queue: Iterable[Lease]) -> list[Lease]:
    """By class, then arrival: nobody here waits for so long that a higher class is reached, and there is one team."""
    ranks = {one.name: one.rank for one in Policy().classes}
    return sorted(queue, key=lambda lease: (-ranks[lease.priority], lease.seq))


def labels_of(bench: str) -> dict[str, str]:
    return {**LABELS[bench], "name": bench}


def could_have(lease: Lease, benches: set[str]) -> bool:
    """Whether these benches would do."""
    return any(
        all(parse(part).matches(labels_of(bench)) for part, bench in zip(lease.parts, chosen, strict=True))
        for chosen in permutations(benches, len(lease.parts))
    )


TestLab = LabMachine.TestCase
TestLab.pytestmark = [pytest.mark.timeout(900)]  # type: ignore[attr-defined]  # for shrinking what was found
TestLab.settings = settings(max_examples=20, stateful_step_count=40, suppress_health_check=list(HealthCheck))


class LabMachineOnPostgresql(LabMachine):
    server: ClassVar[PostgresServer]

    def new_database(self) -> str | None:
        return self.server.fresh_labd_database()


@pytest.mark.timeout(900)
def test_lab_on_postgresql(postgresql: PostgresServer) -> None:
    LabMachineOnPostgresql.server = postgresql
    few = settings(max_examples=6, stateful_step_count=40, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(LabMachineOnPostgresql, settings=few)
