"""ISO-TP between two nodes of a virtual bus: lengths, flow control, and what goes wrong on the way."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import can
import pytest

from ecu_adapters.bus import BusHub
from ecu_adapters.description import IsoTp
from ecu_adapters.isotp import IsoTpAddress, IsoTpEndpoint, IsoTpError
from ecu_adapters.transport import Fault

pytestmark = pytest.mark.anyio

Hubs = tuple[BusHub, BusHub]
WAIT_S = 30.0
TESTER = IsoTpAddress(0x7E0, 0x7E8, functional_id=0x7DF)
ECU = IsoTpAddress(0x7E8, 0x7E0, functional_id=0x7DF)


class End:
    """One end of a connection and what it received."""

    def __init__(self, hub: BusHub, address: IsoTpAddress, settings: IsoTp) -> None:
        self.pdus: asyncio.Queue[tuple[bytes, bool]] = asyncio.Queue()
        self.errors: asyncio.Queue[IsoTpError] = asyncio.Queue()
        self.endpoint = IsoTpEndpoint(
            hub,
            address,
            settings,
            lambda pdu, functional: self.pdus.put_nowait((pdu, functional)),
            on_receive_error=self.errors.put_nowait,
        )

    async def pdu(self) -> bytes:
        pdu, _ = await asyncio.wait_for(self.pdus.get(), WAIT_S)
        return pdu


@asynccontextmanager
async def _ends(hubs: Hubs, tester: IsoTp | None = None, ecu: IsoTp | None = None) -> AsyncIterator[tuple[End, End]]:
    first, second = End(hubs[0], TESTER, tester or IsoTp()), End(hubs[1], ECU, ecu or IsoTp())
    try:
        yield first, second
    finally:
        first.endpoint.close()
        second.endpoint.close()


def _answering(hub: BusHub, answer: Callable[[can.Message], bytes | None]) -> None:
    """A node that answers frames of the tester with frames of the ECU."""

    def listen(frame: can.Message) -> None:
        data = answer(frame)
        if frame.is_rx and data is not None:
            hub.send(can.Message(arbitration_id=0x7E8, is_extended_id=False, data=data))

    hub.subscribe(listen, ids={0x7E0})


@pytest.mark.parametrize("length", [1, 7, 8, 20, 62, 63, 300, 4095])
async def test_pdus_of_all_lengths_on_classic_can(hubs: Hubs, length: int) -> None:
    pdu = bytes(n & 0xFF for n in range(length))
    async with _ends(hubs) as (tester, ecu):
        await tester.endpoint.send(pdu)
        assert await ecu.pdu() == pdu
        await ecu.endpoint.send(pdu)
        assert await tester.pdu() == pdu
        assert (tester.endpoint.stats.sent, tester.endpoint.stats.received) == (1, 1)


@pytest.mark.parametrize("length", [1, 7, 8, 62, 63, 4095, 5000])
async def test_pdus_of_all_lengths_on_can_fd(fd_hubs: Hubs, length: int) -> None:
    pdu = bytes(n & 0xFF for n in range(length))
    settings = IsoTp(fd=True, max_pdu=5000)
    async with _ends(fd_hubs, settings, settings) as (tester, ecu):
        await tester.endpoint.send(pdu)
        assert await ecu.pdu() == pdu
        assert all(frame.is_fd for frame in fd_hubs[0].recent())
        assert {len(frame.data) for frame in fd_hubs[0].recent()} <= {8, 12, 16, 20, 24, 32, 48, 64}


async def test_classic_frames_on_an_fd_bus_unless_told_otherwise(fd_hubs: Hubs) -> None:
    async with _ends(fd_hubs) as (tester, ecu):
        await tester.endpoint.send(bytes(30))
        assert await ecu.pdu() == bytes(30)
        assert not any(frame.is_fd for frame in fd_hubs[0].recent())


async def test_fd_frames_on_a_classic_bus_are_a_mistake_of_the_configuration(hubs: Hubs) -> None:
    with pytest.raises(ValueError, match=r"isotp\.fd is true, but CAN bus 'tester' is classic"):
        End(hubs[0], TESTER, IsoTp(fd=True))


@pytest.mark.parametrize(("padding", "lengths"), [(0xCC, {8}), (None, {2, 3, 4, 8})])
async def test_frames_are_padded_or_not(hubs: Hubs, padding: int | None, lengths: set[int]) -> None:
    settings = IsoTp(padding=padding)
    async with _ends(hubs, settings, settings) as (tester, ecu):
        for length in (1, 8):
            await tester.endpoint.send(bytes(length))
            await ecu.pdu()
        assert {len(frame.data) for frame in hubs[0].recent()} <= lengths


def _consecutive(hub: BusHub) -> list[can.Message]:
    return [frame for frame in hub.recent() if frame.arbitration_id == 0x7E0 and frame.data[0] >> 4 == 2]


@pytest.mark.parametrize("settings", [IsoTp(block_size=2), IsoTp(stmin_ms=2), IsoTp(block_size=1, stmin_ms=0.5)])
async def test_the_receivers_pace_is_kept(hubs: Hubs, settings: IsoTp) -> None:
    async with _ends(hubs, ecu=settings) as (tester, ecu):
        await tester.endpoint.send(bytes(60))
        assert await ecu.pdu() == bytes(60)
        # All frames are out, and this end's reader may not have seen the last of them come back yet.
        async with asyncio.timeout(WAIT_S):
            while len(frames := _consecutive(hubs[0])) < 8:  # noqa: ASYNC110 - another thread fills it
                await asyncio.sleep(0.001)
        controls = [f for f in hubs[0].recent() if f.arbitration_id == 0x7E8]
        assert len(frames) == 8
        assert len(controls) == (1 if settings.block_size == 0 else -(-8 // settings.block_size))
        if settings.block_size == 0:
            gaps = [b.timestamp - a.timestamp for a, b in itertools.pairwise(frames)]
            assert min(gaps) >= settings.stmin_ms / 1000 * 0.9


async def test_29_bit_addresses(hubs: Hubs) -> None:
    first = IsoTpAddress(0x18DA10F1, 0x18DAF110, 0x18DB33F1, extended=True)
    second = IsoTpAddress(0x18DAF110, 0x18DA10F1, 0x18DB33F1, extended=True)
    tester, ecu = End(hubs[0], first, IsoTp()), End(hubs[1], second, IsoTp())
    await tester.endpoint.send(bytes(50))
    assert await ecu.pdu() == bytes(50)
    tester.endpoint.send_functional(b"\x3e\x80")
    assert await asyncio.wait_for(ecu.pdus.get(), WAIT_S) == (b"\x3e\x80", True)
    tester.endpoint.close()
    ecu.endpoint.close()


async def test_functional_requests_are_single_frames(hubs: Hubs) -> None:
    async with _ends(hubs) as (tester, ecu):
        tester.endpoint.send_functional(b"\x3e\x80")
        assert await asyncio.wait_for(ecu.pdus.get(), WAIT_S) == (b"\x3e\x80", True)
        with pytest.raises(IsoTpError, match="8 bytes do not"):
            tester.endpoint.send_functional(bytes(8))


async def test_a_single_frame_in_the_middle_of_a_transfer_replaces_it(hubs: Hubs) -> None:
    async with _ends(hubs) as (tester, _):
        for data in ("10 14 62 F1 90 57 56 57", "03 7F 22 78"):
            hubs[1].send(can.Message(arbitration_id=0x7E8, is_extended_id=False, data=bytes.fromhex(data)))
        assert await tester.pdu() == b"\x7f\x22\x78"


@pytest.mark.parametrize(
    ("answer", "kind", "reason"),
    [
        ("32 00 00", Fault.OVERFLOW, "no room for 20 bytes"),
        ("31 00 00", Fault.TOO_MANY_WAIT, "2 flow controls 'wait' in a row; 1 are borne"),
        ("35 00 00", Fault.INVALID_FRAME, "unknown status 5"),
    ],
)
async def test_a_sender_learns_that_the_receiver_will_not(hubs: Hubs, answer: str, kind: Fault, reason: str) -> None:
    settings = IsoTp(wait_frames=1)
    tester = End(hubs[0], TESTER, settings)
    times = 2 if answer.startswith("31") else 1

    def flow_control(frame: can.Message) -> bytes | None:
        if frame.data[0] >> 4 != 1:
            return None
        for _ in range(times - 1):
            hubs[1].send(can.Message(arbitration_id=0x7E8, is_extended_id=False, data=bytes.fromhex(answer)))
        return bytes.fromhex(answer)

    _answering(hubs[1], flow_control)
    with pytest.raises(IsoTpError, match=reason) as lost:
        await tester.endpoint.send(bytes(20), timeout_s=WAIT_S)
    assert (lost.value.kind, lost.value.frame) == (kind, f"7E8#{answer.replace(' ', '')}")
    assert tester.endpoint.stats.send_errors == 1
    tester.endpoint.close()


async def test_a_receiver_that_stays_silent_is_a_timeout(hubs: Hubs) -> None:
    async with _ends((hubs[0], hubs[0]), IsoTp(n_bs_ms=100)) as (tester, _):
        with pytest.raises(IsoTpError, match=r"no flow control within 100 ms \(N_Bs\) after 6 of 20 bytes") as silence:
            await tester.endpoint.send(bytes(20), timeout_s=WAIT_S)
        assert (silence.value.kind, silence.value.frame) == (Fault.FC_TIMEOUT, "7E0#1014000000000000")
        with pytest.raises(IsoTpError, match=r"not sent within 0\.05 s") as late:
            await tester.endpoint.send(bytes(20), timeout_s=0.05)
        assert late.value.kind is Fault.SEND_TIMEOUT


async def test_after_a_failed_send_the_next_one_goes_through(hubs: Hubs) -> None:
    tester = End(hubs[0], TESTER, IsoTp())
    with pytest.raises(IsoTpError):
        await tester.endpoint.send(bytes(20), timeout_s=0.02)
    task = asyncio.create_task(tester.endpoint.send(bytes(20)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    ecu = End(hubs[1], ECU, IsoTp())
    await tester.endpoint.send(bytes(20), timeout_s=WAIT_S)
    assert await ecu.pdu() == bytes(20)
    tester.endpoint.close()
    ecu.endpoint.close()


async def test_a_wrong_sequence_number_loses_the_pdu_and_says_so(hubs: Hubs) -> None:
    async with _ends(hubs) as (tester, _):
        for data in ("10 14 62 F1 90 57 56 57", "22 01 02 03 04 05 06 07"):
            hubs[1].send(can.Message(arbitration_id=0x7E8, is_extended_id=False, data=bytes.fromhex(data)))
        error = await asyncio.wait_for(tester.errors.get(), WAIT_S)
        assert str(error) == "consecutive frame 2 came instead of 1, after 6 of 20 bytes"
        assert (error.kind, error.frame) == (Fault.WRONG_SEQUENCE_NUMBER, "7E8#2201020304050607")
        assert tester.endpoint.stats.receive_errors == 1


async def test_a_pdu_beyond_the_limit_is_refused_with_overflow(hubs: Hubs) -> None:
    async with _ends(hubs, ecu=IsoTp(max_pdu=50)) as (tester, ecu):
        with pytest.raises(IsoTpError, match="no room for 51 bytes"):
            await tester.endpoint.send(bytes(51), timeout_s=WAIT_S)
        assert ecu.endpoint.stats.receive_errors == 1


async def test_a_bus_that_fails_fails_the_send(hubs: Hubs) -> None:
    tester = End(hubs[0], TESTER, IsoTp())
    hubs[0].close()
    for length in (3, 30):
        with pytest.raises(IsoTpError, match="the bus is closed") as refused:
            await tester.endpoint.send(bytes(length), timeout_s=WAIT_S)
        assert refused.value.kind is Fault.BUS
        assert refused.value.frame.startswith("7E0#")
    tester.endpoint.post(bytes(3))
    assert tester.endpoint.stats.send_errors == 3
    tester.endpoint.close()


async def test_a_bus_that_fails_among_consecutive_frames_names_the_first_that_it_refused(hubs: Hubs) -> None:
    def unplug(_frame: can.Message) -> None:
        hubs[0].error = "unplugged"

    # The flow control is the last that the tester hears.
    hubs[0].subscribe(unplug, ids={0x7E8})
    async with _ends(hubs) as (tester, ecu):
        with pytest.raises(IsoTpError, match="unplugged") as refused:
            await tester.endpoint.send(bytes(range(100)), timeout_s=WAIT_S)
        assert (refused.value.kind, refused.value.frame) == (Fault.BUS, "7E0#21060708090A0B0C")
        assert tester.endpoint.stats.send_errors == 1
        assert ecu.pdus.empty()


async def test_nonsense_is_ignored_and_counted(hubs: Hubs) -> None:
    async with _ends(hubs) as (tester, ecu):
        for data in ("", "00", "09 01 02", "21 00", "FF", "30 00 00"):
            hubs[1].send(can.Message(arbitration_id=0x7E8, is_extended_id=False, data=bytes.fromhex(data)))
        await ecu.endpoint.send(b"\x01")
        assert await tester.pdu() == b"\x01"
        stats = tester.endpoint.stats
        assert stats.ignored + stats.receive_errors == 6


async def test_a_closed_endpoint_refuses(hubs: Hubs) -> None:
    tester = End(hubs[0], TESTER, IsoTp())
    tester.endpoint.close()
    tester.endpoint.close()
    with pytest.raises(IsoTpError, match="closed"):
        await tester.endpoint.send(b"\x01")
    with pytest.raises(IsoTpError, match="closed"):
        tester.endpoint.post(b"\x01")


async def test_an_empty_pdu_is_no_pdu(hubs: Hubs) -> None:
    async with _ends(hubs) as (tester, _):
        with pytest.raises(IsoTpError, match="empty"):
            await tester.endpoint.send(b"")


async def test_a_sender_that_falls_silent_is_a_timeout(hubs: Hubs) -> None:
    async with _ends(hubs, IsoTp(n_cr_ms=50)) as (tester, _):
        hubs[1].send(can.Message(arbitration_id=0x7E8, is_extended_id=False, data=bytes.fromhex("1014620102030405")))
        error = await asyncio.wait_for(tester.errors.get(), WAIT_S)
        assert str(error) == "no consecutive frame within 50 ms (N_Cr) after 6 of 20 bytes"
        assert (error.kind, error.frame) == (Fault.CF_TIMEOUT, "7E8#1014620102030405")


async def test_a_receiver_may_ask_for_patience(hubs: Hubs) -> None:
    async with _ends(hubs, IsoTp(wait_frames=3)) as (tester, ecu):
        ecu.endpoint.policy.waits, ecu.endpoint.policy.wait_s = 3, 0.02
        await tester.endpoint.send(bytes(30), timeout_s=WAIT_S)
        assert await ecu.pdu() == bytes(30)
        controls = [frame.data[0] for frame in hubs[0].recent() if frame.arbitration_id == 0x7E8]
        assert controls == [0x31, 0x31, 0x31, 0x30]


async def test_a_receiver_may_have_no_room_at_all(hubs: Hubs) -> None:
    async with _ends(hubs) as (tester, ecu):
        ecu.endpoint.policy.overflow = True
        with pytest.raises(IsoTpError, match="no room for 30 bytes"):
            await tester.endpoint.send(bytes(30), timeout_s=WAIT_S)


async def test_a_frame_filter_drops_delays_and_alters(hubs: Hubs) -> None:
    async with _ends(hubs, IsoTp(n_cr_ms=100), IsoTp(n_bs_ms=100)) as (tester, ecu):
        ecu.endpoint.frame_filter = lambda data: [(0.02, data)] if data[0] >> 4 == 2 else [(0, data)]
        await ecu.endpoint.send(bytes(10), timeout_s=WAIT_S)
        assert await tester.pdu() == bytes(10)
        ecu.endpoint.frame_filter = lambda data: [] if data[0] == 0x22 else [(0, data)]
        await ecu.endpoint.send(bytes(30), timeout_s=WAIT_S)
        assert (await asyncio.wait_for(tester.errors.get(), WAIT_S)).kind is Fault.WRONG_SEQUENCE_NUMBER
        ecu.endpoint.frame_filter = lambda data: [(0, data[:-1] + b"\x7f")]
        await ecu.endpoint.send(bytes(7))
        assert await tester.pdu() == bytes(6) + b"\x7f"


async def test_short_gaps_are_kept_and_not_stretched(hubs: Hubs) -> None:
    async with _ends(hubs, ecu=IsoTp(stmin_ms=0.5)) as (tester, ecu):
        await tester.endpoint.send(bytes(700))
        assert await ecu.pdu() == bytes(700)
        frames = [f for f in hubs[0].recent() if f.arbitration_id == 0x7E0 and f.data[0] >> 4 == 2]
        gaps = sorted(b.timestamp - a.timestamp for a, b in itertools.pairwise(frames))
        assert gaps[0] >= 0.0005 * 0.9
        # The median: single gaps suffer from whatever else this machine does.
        assert gaps[len(gaps) // 2] < 0.001
        assert len(frames) == 100


async def test_a_long_pdu_leaves_the_loop_to_others(fd_hubs: Hubs) -> None:
    settings = IsoTp(fd=True, max_pdu=200_000)
    async with _ends(fd_hubs, settings, settings) as (tester, ecu):
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        busy = asyncio.create_task(others())
        await tester.endpoint.send(bytes(200_000))
        busy.cancel()
        assert await ecu.pdu() == bytes(200_000)
        assert turns > 200_000 / 63 / 64  # one for each burst at least


async def test_waiting_pdus_keep_their_order_and_are_bounded(hubs: Hubs) -> None:
    async with _ends(hubs) as (tester, ecu):
        for number in range(60):
            tester.endpoint.post(bytes((number,)) * (10 if number % 2 else 3))
        assert [(await ecu.pdu())[0] for _ in range(60)] == list(range(60))
    async with _ends((hubs[0], hubs[0])) as (tester, _):
        with pytest.raises(IsoTpError, match="64 PDUs wait"):
            for _ in range(66):
                tester.endpoint.post(bytes(10))


async def test_frames_that_nobody_here_was_quick_enough_for_are_counted_at_their_bus(hubs: Hubs) -> None:
    async with _ends(hubs):
        for _ in range(5000):
            hubs[1].send(can.Message(arbitration_id=0x7E8, is_extended_id=False, data=b"\x01\x3e"))
        deadline = time.monotonic() + WAIT_S
        while hubs[0].stats.received < 5000 and time.monotonic() < deadline:
            time.sleep(0.01)  # noqa: ASYNC251 - the loop stands still: that is what it is about
        assert hubs[0].stats.late == 5000 - 4096
