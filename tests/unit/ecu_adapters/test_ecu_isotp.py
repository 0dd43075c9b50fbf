"""ISO-TP between two nodes of a virtual bus: lengths, flow control, and what goes wrong on the way."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import can
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecu_adapters.bus import BusHub
from ecu_adapters.description import IsoTp
from ecu_adapters.isotp import IsoTpAddress, IsoTpEndpoint, IsoTpError, parse_single_frame, single_frame

pytestmark = pytest.mark.anyio

Hubs = tuple[BusHub, BusHub]
WAIT_S = 5.0
TESTER = IsoTpAddress(0x7E0, 0x7E8)
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


@pytest.mark.parametrize("settings", [IsoTp(block_size=2), IsoTp(stmin_ms=2), IsoTp(block_size=1, stmin_ms=0.5)])
async def test_the_receivers_pace_is_kept(hubs: Hubs, settings: IsoTp) -> None:
    async with _ends(hubs, ecu=settings) as (tester, ecu):
        await tester.endpoint.send(bytes(60))
        assert await ecu.pdu() == bytes(60)
        frames = [f for f in hubs[0].recent() if f.arbitration_id == 0x7E0 and f.data[0] >> 4 == 2]
        controls = [f for f in hubs[0].recent() if f.arbitration_id == 0x7E8]
        assert len(frames) == 8
        assert len(controls) == (1 if settings.block_size == 0 else -(-8 // settings.block_size))
        if settings.block_size == 0:
            gaps = [b.timestamp - a.timestamp for a, b in itertools.pairwise(frames)]
            assert min(gaps) >= settings.stmin_ms / 1000 * 0.9


async def test_29_bit_addresses(hubs: Hubs) -> None:
    first = IsoTpAddress(0x18DA10F1, 0x18DAF110, extended=True)
    second = IsoTpAddress(0x18DAF110, 0x18DA10F1, 0x18DB33F1, extended=True)
    tester, ecu = End(hubs[0], first, IsoTp()), End(hubs[1], second, IsoTp())
    await tester.endpoint.send(bytes(50))
    assert await ecu.pdu() == bytes(50)
    tester.endpoint.send_functional(b"\x3e\x80", 0x18DB33F1)
    assert await asyncio.wait_for(ecu.pdus.get(), WAIT_S) == (b"\x3e\x80", True)
    tester.endpoint.close()
    ecu.endpoint.close()


async def test_functional_requests_are_single_frames(hubs: Hubs) -> None:
    async with _ends(hubs) as (tester, ecu):
        tester.endpoint.send_functional(b"\x3e\x80", 0x7DF)
        assert await asyncio.wait_for(ecu.pdus.get(), WAIT_S) == (b"\x3e\x80", True)
        with pytest.raises(IsoTpError, match="8 bytes do not"):
            tester.endpoint.send_functional(bytes(8), 0x7DF)


async def test_a_single_frame_in_the_middle_of_a_transfer_replaces_it(hubs: Hubs) -> None:
    async with _ends(hubs) as (tester, _):
        for data in ("10 14 62 F1 90 57 56 57", "03 7F 22 78"):
            hubs[1].send(can.Message(arbitration_id=0x7E8, is_extended_id=False, data=bytes.fromhex(data)))
        assert await tester.pdu() == b"\x7f\x22\x78"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("32 00 00", "Overflow"),
        ("31 00 00", "wait frame which is the maximum"),
    ],
)
async def test_a_sender_learns_that_the_receiver_will_not(hubs: Hubs, answer: str, reason: str) -> None:
    settings = IsoTp(wait_frames=0 if "32" in answer else 1)
    tester = End(hubs[0], TESTER, settings)
    times = 2 if answer.startswith("31") else 1

    def flow_control(frame: can.Message) -> bytes | None:
        if frame.data[0] >> 4 != 1:
            return None
        for _ in range(times - 1):
            hubs[1].send(can.Message(arbitration_id=0x7E8, is_extended_id=False, data=bytes.fromhex(answer)))
        return bytes.fromhex(answer)

    _answering(hubs[1], flow_control)
    with pytest.raises(IsoTpError, match=reason):
        await tester.endpoint.send(bytes(20), timeout_s=WAIT_S)
    assert tester.endpoint.stats.send_errors == 1
    tester.endpoint.close()


async def test_a_receiver_that_stays_silent_is_a_timeout(hubs: Hubs) -> None:
    async with _ends((hubs[0], hubs[0])) as (tester, _):
        with pytest.raises(IsoTpError, match="FlowControl timed out"):
            await tester.endpoint.send(bytes(20), timeout_s=WAIT_S)
        with pytest.raises(IsoTpError, match=r"not sent within 0\.05 s|stopped"):
            await tester.endpoint.send(bytes(20), timeout_s=0.05)


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
        assert "wrong SequenceNumber" in str(error)
        assert tester.endpoint.stats.receive_errors == 1


async def test_a_pdu_beyond_the_limit_is_refused_with_overflow(hubs: Hubs) -> None:
    async with _ends(hubs, ecu=IsoTp(max_pdu=50)) as (tester, ecu):
        with pytest.raises(IsoTpError, match="Overflow"):
            await tester.endpoint.send(bytes(51), timeout_s=WAIT_S)
        assert ecu.endpoint.stats.receive_errors == 1


async def test_a_bus_that_fails_fails_the_send(hubs: Hubs) -> None:
    tester = End(hubs[0], TESTER, IsoTp())
    hubs[0].close()
    for length in (3, 30):
        with pytest.raises(IsoTpError, match="the bus is closed"):
            await tester.endpoint.send(bytes(length), timeout_s=WAIT_S)
    tester.endpoint.post(bytes(3))
    assert tester.endpoint.stats.send_errors == 3
    tester.endpoint.close()


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


@given(st.binary(min_size=1, max_size=62), st.sampled_from([8, 64]), st.sampled_from([None, 0x00, 0xCC]))
def test_single_frames_come_back_as_they_went(pdu: bytes, frame_length: int, padding: int | None) -> None:
    data = single_frame(pdu, frame_length, padding)
    if data is None:
        assert len(pdu) > frame_length - 2 or (frame_length == 8 and len(pdu) > 7)
    else:
        assert parse_single_frame(data) == pdu
