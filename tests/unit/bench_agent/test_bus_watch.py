"""A bus' watch under more events than anybody can take."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from bench_agent.server.bus_watch import BusWatch
from ecu_adapters.bus import BusHub, CanConfig
from ecu_adapters.bus_off import BusOffPolicy
from ecu_adapters.bus_state import ErrorSeen, StateChange, StaysOff
from ecu_adapters.error_frames import BusState, ErrorReport

pytestmark = pytest.mark.anyio
NO_ACK = ErrorReport(("no_ack",), "no other node acknowledged a frame")


@pytest.fixture
def hub() -> Iterator[BusHub]:
    with BusHub.open("b", CanConfig(interface="virtual", channel="watched")) as opened:
        yield opened


async def test_a_flood_of_errors_is_bounded_and_each_that_is_missing_counted(hub: BusHub) -> None:
    watch = BusWatch("b", BusOffPolicy(), lambda: None)
    watch.attach(hub)
    with watch.events() as stream:
        for stamp in range(3000):  # the loop gets no turn meanwhile
            hub.monitor.error(stamp, NO_ACK)
        stamps = [(await stream.take()).stamp_ns for _ in range(1024)]
        assert stamps == list(range(1024))
        assert stream.dropped == 3000 - 1024
        hub.monitor.error(7777, NO_ACK)
        assert await stream.take() == ErrorSeen(7777, NO_ACK)
    assert hub.monitor.condition().kinds == {"no_ack": 3001}
    await watch.detach()


async def test_a_state_that_flickers_is_reported_now_and_then(hub: BusHub) -> None:
    reports: list[float] = []
    reported = asyncio.Event()

    def report() -> None:
        reports.append(time.monotonic())
        reported.set()

    watch = BusWatch("b", BusOffPolicy(), report)
    watch.attach(hub)
    with watch.events() as stream:
        for stamp in range(500):
            hub.monitor.enter(2 * stamp + 1, BusState.ERROR_WARNING)
            hub.monitor.enter(2 * stamp + 2, BusState.ERROR_ACTIVE)
        changes = [await stream.take() for _ in range(1000)]
        assert all(isinstance(change, StateChange) for change in changes)
        async with asyncio.timeout(10):
            await reported.wait()
    assert len(reports) == 1
    await watch.detach()


async def test_bus_off_is_noticed_even_when_its_event_was_one_too_many(hub: BusHub) -> None:
    watch = BusWatch("b", BusOffPolicy(recover="manual"), lambda: None)
    watch.attach(hub)
    with watch.events() as stream:
        for stamp in range(2000):
            hub.monitor.error(stamp, NO_ACK)
        hub.monitor.enter(2001, BusState.BUS_OFF)
        assert await watch.expect(BusState.BUS_OFF, 10)
        async with asyncio.timeout(10):
            while not isinstance(event := await stream.take(), StaysOff):
                pass
        assert watch.fault == event.reason
        assert "waits for somebody" in event.reason
        await watch.recover()
        assert await watch.expect(BusState.ERROR_ACTIVE, 10)
    await watch.detach()
    assert await watch.expect(BusState.UNKNOWN, 10)
