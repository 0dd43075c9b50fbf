"""Parts without a server: frame queue, matcher."""

import asyncio
import time
from typing import cast

import can
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench_agent.protocol import frames
from bench_agent.protocol.frames import Frame
from bench_agent.server import convert
from bench_agent.server.cleanup import CleanUpStack
from bench_agent.server.conditions import Condition
from bench_agent.server.expect_service import _Wait
from bench_agent.server.expectation import Matcher
from bench_agent.server.frame_queue import FrameQueue
from bench_agent.server.tenancy import Tenancy
from ecu_adapters import frame_records
from ecu_adapters.burst import Burst
from ecu_adapters.bus import BusHub


def message(number: int, *, fd: bool = False) -> can.Message:
    return can.Message(
        timestamp=time.time(), arbitration_id=number, is_extended_id=True, is_fd=fd, data=bytes(12 if fd else 2)
    )


@st.composite
def any_frame(draw: st.DrawFn) -> Frame:
    extended, fd = draw(st.booleans()), draw(st.booleans())
    remote = not fd and draw(st.booleans())
    identifier = draw(st.integers(0, frames.ID_MASK if extended else frames.STANDARD_ID_MASK))
    length = draw(st.sampled_from(frames.FD_LENGTHS)) if fd else draw(st.integers(0, 8))
    flags = (frames.FD | draw(st.sampled_from((0, frames.BITRATE_SWITCH, frames.ERROR_STATE)))) if fd else 0
    can_id = identifier | (frames.EXTENDED if extended else 0) | (frames.REMOTE if remote else 0)
    data = b"" if remote else draw(st.binary(min_size=length, max_size=length))
    return Frame(draw(st.integers(0, 2**32)) * 10**9, can_id, flags, data)


@given(any_frame())
def test_frames_survive_python_can(frame: Frame) -> None:
    back = convert.to_message(frame)
    back.timestamp = frame.timestamp_ns / 1e9
    back.is_rx = True
    assert convert.to_frame(back) == frame
    # The layout is known twice, as adapters and protocol know nothing of each other.
    assert frame_records.pack([back]).tobytes() == frames.batch([frame]).records


@pytest.mark.anyio
async def test_a_full_queue_drops_counts_and_keeps_the_sequence() -> None:
    queue = FrameQueue(asyncio.get_running_loop(), credit=1 << 20, bound=10)
    for number in range(15):
        queue.put(Burst.of(message(number)))
    [batch] = await queue.take()
    assert (batch.sequence, batch.dropped) == (0, 5)
    assert [frame.arbitration_id for frame in frames.unbatch(batch)] == list(range(10))
    queue.put(Burst.of(message(99)))
    [batch] = await queue.take()
    assert (batch.sequence, batch.dropped) == (15, 5)
    assert queue.dropped == 5


@pytest.mark.anyio
async def test_classic_and_fd_frames_share_a_batch() -> None:
    queue = FrameQueue(asyncio.get_running_loop(), credit=1 << 20)
    queue.put(Burst.of(message(1)))
    queue.put(Burst.of(message(2, fd=True)))
    [batch] = await queue.take()
    assert [(frame.arbitration_id, len(frame.data)) for frame in frames.unbatch(batch)] == [(1, 2), (2, 12)]


@pytest.mark.anyio
async def test_many_frames_leave_in_batches() -> None:
    queue = FrameQueue(asyncio.get_running_loop(), credit=1 << 20)
    for start in range(0, 10_000, 100):
        queue.put(Burst(messages=[message(number) for number in range(start, start + 100)]))
    batches = await queue.take()
    assert [batch.sequence for batch in batches] == [0, 4096, 8192]
    assert sum(len(list(frames.unbatch(batch))) for batch in batches) == 10_000


@pytest.mark.anyio
async def test_frames_leave_only_as_far_as_credit_goes() -> None:
    queue = FrameQueue(asyncio.get_running_loop(), credit=3, bound=6)
    queue.put(Burst(messages=[message(number) for number in range(5)]))
    [batch] = await queue.take()
    assert [frame.arbitration_id for frame in frames.unbatch(batch)] == [0, 1, 2]
    taking = asyncio.create_task(queue.take())
    queue.put(Burst(messages=[message(number) for number in range(5, 12)]))  # three do not fit
    await asyncio.sleep(0)
    assert not taking.done()
    queue.put(Burst.of(message(12)))
    queue.grant(5)
    [batch] = await taking
    assert (batch.sequence, batch.dropped) == (3, 4)
    assert [frame.arbitration_id for frame in frames.unbatch(batch)] == [3, 4, 5, 6, 7]
    queue.put(Burst.of(message(13)))
    queue.grant(10)
    # What was dropped in between is a gap in the sequence, and so begins another batch.
    batches = await queue.take()
    assert [(b.sequence, [f.arbitration_id for f in frames.unbatch(b)]) for b in batches] == [(8, [8]), (13, [13])]


@given(
    st.lists(
        st.one_of(st.integers(1, 9).map(lambda n: ("put", n)), st.integers(1, 9).map(lambda n: ("grant", n))),
        min_size=1,
    )
)
def test_every_frame_is_taken_waits_or_was_counted_as_dropped(steps: list[tuple[str, int]]) -> None:
    async def walk() -> None:
        queue = FrameQueue(asyncio.get_running_loop(), credit=1, bound=10)
        queue.put(Burst.of(message(0)))
        offered, credit, taken = 1, 1, []
        for what, number in steps:
            if what == "put":
                queue.put(Burst(messages=[message(offered + n) for n in range(number)]))
                offered += number
            else:
                queue.grant(number)
                credit += number
            for _, row in queue._pick():
                taken += row["id"].tolist()
        assert len(taken) <= credit
        waiting = sum(len(row) for _, row in queue._parts)
        assert len(taken) + waiting + queue.dropped == offered
        assert taken == sorted(set(taken))
        assert waiting <= 10
        assert waiting == 0 or len(taken) == credit

    asyncio.run(walk())


@pytest.mark.anyio
async def test_a_burst_that_does_not_fit_loses_its_newest_frames() -> None:
    queue = FrameQueue(asyncio.get_running_loop(), credit=1 << 20, bound=8)
    queue.put(Burst(messages=[message(number) for number in range(5)]))
    queue.put(Burst(messages=[message(number) for number in range(5, 12)]))
    [batch] = await queue.take()
    assert [frame.arbitration_id for frame in frames.unbatch(batch)] == list(range(8))
    assert (batch.sequence, batch.dropped, queue.dropped) == (0, 4, 4)
    queue.put(Burst.of(message(99)))
    [batch] = await queue.take()
    assert (batch.sequence, batch.dropped) == (12, 4)


@pytest.mark.parametrize(
    ("condition", "actual", "holds"),
    [
        (Condition("S", "==", 0.3), 0.1 * 3, True),
        (Condition("S", "==", 1), True, True),
        (Condition("S", "==", "On"), "On", True),
        (Condition("S", "==", "On"), 7, False),
        (Condition("S", "!=", "On"), 7, True),
        (Condition("S", "!=", "On"), "On", False),
        (Condition("S", "==", 1, numbers={"On": 1}), "On", True),
        (Condition("S", "<", 1, numbers={"On": 1}), "On", False),
        (Condition("S", "<=", 0.3), 0.1 * 3, True),
        (Condition("S", ">", 2), 3, True),
        (Condition("S", ">=", 3), 3, True),
        (Condition("S", "within", low=1, high=2), 2, True),
        (Condition("S", "within", low=1, high=2), 2.1, False),
    ],
)
def test_conditions(condition: Condition, actual: float | str, holds: bool) -> None:
    assert condition.holds(actual) is holds


@pytest.mark.anyio
async def test_a_remembered_frame_that_the_bus_delivers_afterwards_counts_once() -> None:
    matcher = Matcher(frames.EXTENDED | 1, b"\xff\xff")
    wait = _Wait(asyncio.get_running_loop(), matcher)
    first, second, third = (message(1) for _ in range(3))
    wait.put(first)  # the bus is in the middle of a burst
    wait.replay([first, second])
    wait.put(second)
    assert matcher.seen == 2
    wait.put(third)
    assert matcher.seen == 3


def test_a_frame_is_never_newer_than_itself() -> None:
    """Else one frame meets `expect` again and again: one in thirty stamps is rounded down on the way through ns."""
    stamps = [1_795_254_098 + number * 0.020_000_123 for number in range(500)]

    class Remembering:
        def recent(self, since: float) -> list[can.Message]:
            return [can.Message(timestamp=stamp) for stamp in stamps if stamp > since]

    tenancy = Tenancy("l-1", CleanUpStack())
    tenancy.since = 0.0
    hub = cast(BusHub, Remembering())
    for number, frame in enumerate(tenancy.recent(hub)):
        newer = tenancy.recent(hub, convert.timestamp_ns(frame))
        assert [message.timestamp for message in newer] == stamps[number + 1 :]
