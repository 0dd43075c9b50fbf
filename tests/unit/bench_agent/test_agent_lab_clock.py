"""labd's time at the agent: late reports, stopped agents, stepped clocks, restarts."""

import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench_agent.client import BenchClient, LeaseRefused
from bench_agent.protocol import boot_clock
from bench_agent.protocol.claims import LeaseClaims, Scope
from bench_agent.server.epochs import EpochStore
from bench_agent.server.errors import CallError
from bench_agent.server.guard import Gate
from bench_agent.server.lab_clock import LabClock
from tests.unit.bench_agent.harness import FakeLabd, Signer, StartAgent
from tests.unit.bench_agent.test_agent_guard import Bench

HOUR = 3600.0


class Machine:
    """A bench computer whose clocks a test moves."""

    def __init__(self, folder: Path | None = None) -> None:
        self.boot = 1000.0
        self.wall = 5000.0
        self.started = "boot-1"
        self.path = folder / "lab-clock.json" if folder is not None else None

    def clock(self) -> LabClock:
        return LabClock(self.path, boot=lambda: self.boot, wall=lambda: self.wall, boot_id=lambda: self.started)


def test_without_labd_it_is_the_machines_own_time() -> None:
    machine = Machine()
    clock = machine.clock()
    assert clock.now() == 5000.0
    machine.boot += 10
    machine.wall += HOUR  # somebody sets the date
    assert clock.now() == 5010.0


def test_labds_clock_goes_on_without_labd_and_believes_the_fastest_report() -> None:
    machine = Machine()
    clock = machine.clock()
    clock.report(9_000_000, 0.1)
    machine.boot += 10
    assert clock.now() == 9010.0
    clock.report(9_007_000)  # was under way for three seconds
    assert clock.now() == pytest.approx(9010.0, abs=0.01)
    clock.report(9_010_100)
    assert clock.now() == pytest.approx(9010.1)
    machine.boot += 48 * HOUR  # a long partition
    assert clock.now() == pytest.approx(9010.1 + 48 * HOUR)


def test_an_agent_that_was_stopped_for_minutes_does_not_believe_what_waited_for_it() -> None:
    machine = Machine()
    clock = machine.clock()
    clock.report(9_000_000, 0.1)
    machine.boot += 600
    for tick in (3, 6, 9, 12, 15):  # sent while the agent was stopped, read all at once afterwards
        clock.report(9_000_000 + tick * 1000)
    assert clock.now() == pytest.approx(9600, abs=0.5)
    clock.report(9_600_000, 0.2)
    assert clock.now() == pytest.approx(9600, abs=0.01)
    assert clock.timeline == 0


@given(
    steps=st.lists(
        st.tuples(st.floats(0, 4 * HOUR), st.floats(0, 30), st.booleans()),
        min_size=1,
        max_size=30,
    )
)
def test_however_late_reports_come_a_lease_never_ends_early_and_hardly_late(
    steps: list[tuple[float, float, bool]],
) -> None:
    machine = Machine()
    clock = machine.clock()
    offset, bound, since = 8_000.0, 2.0, 0.0
    clock.report(round((machine.boot + offset - 1) * 1000), 2.0)
    for passed, late, welcome in steps:
        machine.boot += passed
        since += passed
        way = late + 1 if welcome else None
        clock.report(round((machine.boot + offset - late) * 1000), way)
        ahead = clock.now() - (machine.boot + offset)
        assert ahead < 0.002  # of rounding
        assert -ahead <= bound + 500e-6 * since + 0.002
        assert clock.timeline == 0


@given(
    by=st.sampled_from([-HOUR, HOUR, -24 * HOUR, 24 * HOUR, 60.0, -60.0]),
    lasts=st.integers(10, 20_000),
    moments=st.lists(st.floats(1, 5000), min_size=1, max_size=8),
    refreshed=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_a_step_of_labds_clock_neither_frees_nor_prolongs_a_lease(
    tmp_path_factory: pytest.TempPathFactory, by: float, lasts: int, moments: list[float], refreshed: bool
) -> None:
    machine = Machine()
    clock = machine.clock()

    async def story() -> None:
        gate = Gate(Bench(), EpochStore(tmp_path_factory.mktemp("gate") / "epochs.json"), clock)
        clock.report(8_000_000, 0.1)
        token = LeaseClaims("lease-1", "b", 1, "me", Scope.HOLDER, 8000 + lasts)
        again = LeaseClaims("lease-1", "b", 1, "me", Scope.HOLDER, round(8000 + by) + lasts)
        began, offset = machine.boot, 7000.0
        gate.leave(await gate.enter(token))
        for number, passed in enumerate(moments):
            machine.boot += passed
            if number == 0:
                offset += by
            clock.report(round((machine.boot + offset) * 1000), 0.1)
            gate.clock_changed()
            left = began + lasts - machine.boot
            if abs(left) < 1:
                continue
            # The token that the holder has, or the one that labd signs anew on its new timeline.
            for shown in (token, again) if refreshed else (token,):
                if left > 0:
                    gate.leave(await gate.enter(shown))
                else:
                    with pytest.raises(CallError, match="expired"):
                        await gate.enter(shown)
        await gate.close()

    asyncio.run(story())
    assert clock.timeline == 1


@pytest.mark.anyio
async def test_a_new_token_is_judged_on_labds_new_timeline(tmp_path: Path) -> None:
    machine = Machine()
    clock = machine.clock()
    clock.report(8_000_000, 0.1)
    gate = Gate(Bench(), EpochStore(tmp_path / "epochs.json"), clock)
    gate.leave(await gate.enter(LeaseClaims("lease-1", "b", 1, "me", Scope.HOLDER, 8600)))
    clock.report(round((8000 - HOUR) * 1000), 0.1)
    gate.leave(await gate.enter(LeaseClaims("lease-2", "b", 2, "me", Scope.HOLDER, round(8000 - HOUR) + 60)))
    with pytest.raises(CallError, match="a newer lease has begun"):
        await gate.enter(LeaseClaims("lease-1", "b", 1, "me", Scope.HOLDER, 8600))
    await gate.close()


@pytest.mark.anyio
async def test_each_token_of_a_shared_lease_ends_when_it_says(tmp_path: Path) -> None:
    machine = Machine()
    gate = Gate(Bench(), EpochStore(tmp_path / "epochs.json"), machine.clock())
    now = round(machine.wall)
    mine = LeaseClaims("lease-1", "b", 1, "me", Scope.HOLDER, now + 600)
    gate.leave(await gate.enter(mine))
    bobs = LeaseClaims("lease-1", "b", 1, "bob", Scope.OBSERVER, now + 60)
    looking = asyncio.Event()

    async def look_on() -> None:
        call = await gate.enter(bobs)
        looking.set()
        try:
            await asyncio.Event().wait()
        finally:
            gate.leave(call)

    bob = asyncio.create_task(look_on())
    await looking.wait()
    machine.boot += 61
    gate.clock_changed()  # looks at once; else within a few seconds
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(bob, 10)
    with pytest.raises(CallError, match="expired 1 s ago"):
        await gate.enter(bobs)
    gate.leave(await gate.enter(mine))
    await gate.close()


def test_a_restarted_agent_knows_labds_time_whatever_the_date_says(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    clock = machine.clock()
    clock.report(9_000_000, 0.1)
    machine.boot, machine.wall = machine.boot + 30, machine.wall - HOUR
    assert machine.clock().now() == pytest.approx(9030)
    machine.started = "boot-2"
    machine.boot = 5.0
    assert machine.clock().now() == machine.wall  # a new start of the machine: nothing better is known


@pytest.mark.parametrize("content", ["", "[]", '{"boot_id": "boot-1"}', '{"boot_id": "boot-1", "offset_s": "x"}'])
def test_a_file_that_is_not_sound_is_no_obstacle(tmp_path: Path, content: str) -> None:
    machine = Machine(tmp_path)
    (tmp_path / "lab-clock.json").write_text(content)
    clock = machine.clock()
    assert clock.now() == machine.wall
    clock.report(9_000_000, 0.1)
    assert json.loads((tmp_path / "lab-clock.json").read_text())["boot_id"] == "boot-1"


def test_the_boot_clock_never_stands_still() -> None:
    first = boot_clock.now()
    assert boot_clock.now() >= first
    assert boot_clock.boot_id() == boot_clock.boot_id()


@pytest.mark.parametrize("by_s", [HOUR, -HOUR])
def test_a_labd_that_comes_back_with_a_wrong_date_neither_frees_nor_prolongs(
    labd: FakeLabd, start_agent: StartAgent, signer: Signer, by_s: float
) -> None:
    running = start_agent()
    running.portal.call(running.agent.attached.wait)
    held, short = signer.token(lasts_s=1800), signer.token(epoch=1, lasts_s=3)
    with (
        BenchClient(running.address, "bench-1", held) as bench,
        BenchClient(running.address, "bench-1", short) as shortly,
    ):
        bench.describe()
        shortly.describe()
        labd.clock_offset_s = by_s
        labd.drop_stream()
        labd.wait(lambda message: message.HasField("hello"))
        labd.wait(lambda message: message.HasField("report"))
        bench.describe()
        running.portal.call(asyncio.sleep, 3)
        with pytest.raises(LeaseRefused, match="expired"):
            shortly.describe()
        bench.describe()
