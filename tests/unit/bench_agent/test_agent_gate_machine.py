"""The gate of a bench under everything that can happen to it, as a state machine with clocks that are moved by hand.

Whatever comes in whatever order: only the newest lease acts, from its grant to its end, and nobody twice.
"""

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bench_agent.protocol.claims import LeaseClaims, Scope
from bench_agent.server.calls import Call
from bench_agent.server.epochs import EpochStore
from bench_agent.server.errors import CallError
from bench_agent.server.guard import Gate
from bench_agent.server.holder_log import HolderLog
from bench_agent.server.lab_clock import LabClock
from tests.holders import holdings
from tests.unit.bench_agent.test_agent_guard import Bench

SLACK_S = 5.0
"""Nobody checks what is admitted this close to a lease's end: reports of labd's time are that late at most."""


@dataclass
class Granted:
    """A lease that labd has granted, and when it ends by the clock that nothing steps."""

    claims: LeaseClaims
    ends_at: float


class GateMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.data = Path(self.folder.name)
        self.boot, self.wall, self.offset = 1000.0, 1_800_000_000.0, 1_799_000_000.0
        self.granted: list[Granted] = []
        self.newest_admitted = self.fenced = 0
        self.stepped = False

    @initialize()
    def start(self) -> None:
        self.open()
        self.welcome(0.1)

    def open(self) -> None:
        path = self.data / "lab-clock.json"
        self.clock = LabClock(path, boot=lambda: self.boot, wall=lambda: self.wall, boot_id=lambda: "boot-1")
        self.log = HolderLog(self.data / "holders.jsonl", now=lambda: self.boot)
        self.log.start()
        self.gate = Gate(Bench(), EpochStore(self.data / "epochs.json"), self.clock, self.log)

    def teardown(self) -> None:
        self.loop.run_until_complete(self.gate.close())
        self.log.close()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()
        holdings(self.data)
        self.folder.cleanup()

    @rule(late=st.floats(0, 3))
    def welcome(self, late: float) -> None:
        """The agent attaches; labd's Welcome was under way for a while."""
        self.clock.report(round((self.boot + self.offset - late) * 1000), late + 0.1)
        self.loop.run_until_complete(self.call_soon())

    @rule(late=st.floats(0, 900))
    def tick(self, late: float) -> None:
        """A sign of life, which may have waited for an agent that was stopped."""
        self.clock.report(round((self.boot + self.offset - late) * 1000))
        self.loop.run_until_complete(self.call_soon())

    @rule(duration=st.integers(30, 4000))
    def grant(self, duration: int) -> None:
        """labd grants the next lease, once the former one is fenced or over for sure; its holder calls at once."""
        if self.granted:
            self.fence(self.granted[-1].claims.epoch)
        self.welcome(0.1)
        epoch = len(self.granted) + 1
        claims = LeaseClaims(f"l{epoch}", "b", epoch, "me", Scope.HOLDER, int(self.boot + self.offset) + duration)
        self.granted.append(Granted(claims, self.boot + duration))
        self.stepped = False
        self.call(epoch - 1)

    @precondition(lambda self: self.granted)
    @rule(which=st.integers(0, 50))
    def call(self, which: int) -> None:
        """Somebody calls with a token that was good once."""
        lease = self.granted[which % len(self.granted)]
        epoch, left = lease.claims.epoch, lease.ends_at - self.boot
        try:
            self.gate.leave(self.loop.run_until_complete(self.enter(lease.claims)))
        except CallError as error:
            outdone = epoch <= self.fenced or epoch < self.newest_admitted
            assert outdone or left < SLACK_S, f"a good lease was refused: {error}"
        else:
            assert epoch > self.fenced, "a fenced lease acted"
            assert epoch >= self.newest_admitted, "an old lease acted after a newer one"
            assert left > -SLACK_S, "a lease acted after its end"
            self.newest_admitted = epoch

    @rule(seconds=st.floats(0.1, 3000))
    def time_passes(self, seconds: float) -> None:
        """Without labd, with the agent stopped or its machine suspended: it is all the same."""
        self.boot += seconds
        self.wall += seconds

    @rule(seconds=st.sampled_from([-3600.0, 3600.0, -90_000.0]))
    def date_is_set(self, seconds: float) -> None:
        self.wall += seconds

    @rule(seconds=st.sampled_from([-3600.0, 3600.0, -90_000.0, 90_000.0]))
    def labd_comes_back_with_another_date(self, seconds: float) -> None:
        if self.granted and self.granted[-1].ends_at <= self.boot:
            self.fence(self.granted[-1].claims.epoch)  # as labd does with each lease that is over
        self.offset += seconds
        self.stepped = True
        self.welcome(0.1)
        if self.granted:
            self.call(len(self.granted) - 1)

    @precondition(lambda self: self.granted)
    @rule()
    def labd_fences(self) -> None:
        self.fence(self.granted[-1].claims.epoch)

    @precondition(lambda self: not self.stepped)
    @rule()
    def agent_is_killed(self) -> None:
        """It remembers nothing but what is on disk, and so takes the tokens' word again for when they end."""
        self.loop.run_until_complete(self.gate.close())  # its tasks; nothing on disk
        self.log.close()
        self.open()
        if self.granted:
            self.call(len(self.granted) - 1)

    @invariant()
    def the_log_never_shows_two_holders(self) -> None:
        if self.granted:
            holdings(self.data)

    def fence(self, epoch: int) -> None:
        self.loop.run_until_complete(self.gate.fence(epoch, "released"))
        self.fenced = max(self.fenced, epoch)

    async def enter(self, claims: LeaseClaims) -> Call:
        return await self.gate.enter(claims)

    async def call_soon(self) -> None:
        self.gate.clock_changed()
        for _ in range(3):
            await asyncio.sleep(0)


GateMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestGate = GateMachine.TestCase
