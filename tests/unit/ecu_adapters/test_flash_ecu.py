"""Flashing the simulated ECU over a simulated CAN FD bus: what arrives, and what is said when it does not."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ecu_adapters.bus import BusHub, CanConfig
from ecu_adapters.description import EcuDescription, load_ecu
from ecu_adapters.flash.flasher import Flasher, FlashError, Phase, Progress
from ecu_adapters.flash.image import Segment
from ecu_adapters.flash.plan import make
from ecu_adapters.isotp import IsoTpEndpoint
from ecu_adapters.raw_socket import SUPPORTED, RawSocket
from ecu_adapters.simulator import SimulatedEcu
from ecu_adapters.simulator.memory import Range
from ecu_adapters.transport import Fault
from ecu_adapters.uds.tester import UdsTester
from ecu_adapters.yaml_file import ConfigError

pytestmark = pytest.mark.anyio

Hubs = tuple[BusHub, BusHub]
START = 0x0800_0000
ECU = """
name: ECM
addressing: {request_id: 0x7E0, response_id: 0x7E8, functional_id: 0x7DF}
timing: {p2_ms: 50, p2_star_ms: 500, transit_ms: 200}
isotp: {fd: true, max_pdu: 4095, n_cr_ms: 200}
session_entry: {programming: [extended]}
security: {1: {algorithm: xor, key: A5A5A5A5}}
memory:
  max_block: MAX_BLOCK
  exit_crc: true
  regions:
    app: {address: 0x08000000, size: 0x100000, fill: 0, write: {session: [programming], security: 1}}
    data: {address: 0x08100000, size: 0x10000, fill: 0, write: {session: [programming], security: 1}}
routines:
  Erase:
    id: 0xFF00
    action: erase
    access: {session: [programming], security: 1}
    start:
      options:
        - {name: address, type: uint, length: 4}
        - {name: size, type: uint, length: 4}
      status: [{name: result, type: uint, length: 1}]
  Check:
    id: 0x0202
    action: check
    start:
      options: [{name: crc, type: uint, length: 4}]
      status: [{name: result, type: uint, length: 1}]
flash:
  {before: ["10 03"], session: programming, security: 1, erase: Erase, check: Check, resume: true, after: ["11 01"]}
"""


@pytest.fixture
def describe(write: Callable[[str], Path]) -> Callable[..., EcuDescription]:
    def make_description(max_block: int = 0x402, **flash: object) -> EcuDescription:
        ecu = load_ecu(write(ECU.replace("MAX_BLOCK", str(max_block))))
        return ecu.model_copy(update={"flash": ecu.flash.model_copy(update=flash)})

    return make_description


@asynccontextmanager
async def _bench(hubs: Hubs, ecu: EcuDescription) -> AsyncIterator[tuple[UdsTester, SimulatedEcu]]:
    simulated = SimulatedEcu(ecu, hubs[1])
    await simulated.start()
    tester = UdsTester(hubs[0], ecu)
    try:
        yield tester, simulated
    finally:
        await tester.close()
        await simulated.stop()


def _content(simulated: SimulatedEcu, segment: Segment) -> bytes:
    return simulated.server.state.memory.read(Range(segment.address, len(segment.data)))


def _endpoint(tester: UdsTester) -> IsoTpEndpoint:
    endpoint = tester._endpoint
    assert isinstance(endpoint, IsoTpEndpoint)
    return endpoint


def _dropping(tester: UdsTester, number: int) -> None:
    """Loses one frame on the way to the ECU: consecutive frame ``number`` of all that are sent from now on."""
    seen = 0

    def drop(data: bytes) -> list[tuple[float, bytes]]:
        nonlocal seen
        if data[0] >> 4 == 2:
            seen += 1
            if seen == number:
                return []
        return [(0, data)]

    _endpoint(tester).frame_filter = drop


async def test_an_image_arrives_byte_by_byte(fd_hubs: Hubs, describe: Callable[..., EcuDescription]) -> None:
    image = Segment(START + 0xFF000, bytes(n * 7 & 0xFF for n in range(0x3000)))  # over a border of regions
    events: list[Progress] = []
    ecu = describe()
    async with _bench(fd_hubs, ecu) as (tester, simulated):
        await Flasher(tester, events.append).run(make([image], ecu.memory, ecu.name))
        memory = simulated.server.state.memory
        assert memory.read(Range(image.address, 0x1000)) + memory.read(Range(START + 0x100000, 0x2000)) == image.data
    phases = [event.phase for event in events]
    order = ["prepare", "erase", "request", "transfer", "exit", "check"]
    assert list(dict.fromkeys(phases)) == [*order, "finish", "done"]
    assert (events[-1].done, events[-1].total) == (0x3000, 0x3000)
    assert [event.done for event in events] == sorted(event.done for event in events)
    assert events[-1].rate > 0


@pytest.mark.skipif(not SUPPORTED, reason="recvmmsg is Linux'")
@pytest.mark.parametrize("fd", [False, True])
async def test_an_image_arrives_over_raw_sockets(describe: Callable[..., EcuDescription], *, fd: bool) -> None:
    # What SocketCAN's sockets do, without CAN in the kernel: a full queue is met and waited for.
    image = Segment(START, bytes(n * 11 & 0xFF for n in range(100_000)))
    ecu = describe(max_block=4095)
    patient = {
        "isotp": ecu.isotp.model_copy(update={"fd": fd, "n_cr_ms": 2000}),
        "timing": ecu.timing.model_copy(update={"transit_ms": 2000}),
    }
    ecu = ecu.model_copy(update=patient)
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    config = CanConfig(interface="unix", channel="pair", fd=fd)
    with (
        BusHub("tester", RawSocket(ends[0], fd=fd, channel="pair"), config) as near,
        BusHub("ecu", RawSocket(ends[1], fd=fd, channel="pair"), config) as far,
    ):
        async with _bench((near, far), ecu) as (tester, simulated):
            await Flasher(tester, lambda _: None).run(make([image], ecu.memory, ecu.name))
            assert _content(simulated, image) == image.data
            assert near.recent()[-1].is_fd is fd


async def test_more_than_255_blocks_wrap_the_counter(fd_hubs: Hubs, describe: Callable[..., EcuDescription]) -> None:
    image = Segment(START, bytes(n & 0xFF for n in range(600 * 32)))
    ecu = describe(max_block=34)
    async with _bench(fd_hubs, ecu) as (tester, simulated):
        await Flasher(tester, lambda _: None).run(make([image], ecu.memory, ecu.name))
        assert _content(simulated, image) == image.data


async def test_a_lost_frame_is_told_with_its_place(fd_hubs: Hubs, describe: Callable[..., EcuDescription]) -> None:
    image = Segment(START, bytes(n & 0xFF for n in range(20_000)))
    ecu = describe(resume=False)
    async with _bench(fd_hubs, ecu) as (tester, _):
        per_block = -(-(1026 - 62) // 63)
        _dropping(tester, 4 * per_block + 3)
        with pytest.raises(
            FlashError, match=r"transfer at 0x8001000, block 5 of 20 .counter 0x05.: .*no response within P2"
        ) as lost:
            await Flasher(tester, lambda _: None).run(make([image], ecu.memory, ecu.name))
        at = lost.value.at
        assert (at.phase, at.address, at.block, at.blocks) == (Phase.TRANSFER, START + 0x1000, 5, 20)
        assert at.done == 0x1000
        assert lost.value.resume_at is None


async def test_a_broken_transfer_goes_on_where_it_stopped(
    fd_hubs: Hubs, describe: Callable[..., EcuDescription]
) -> None:
    image = Segment(START, bytes(n * 3 & 0xFF for n in range(20_000)))
    ecu = describe()
    async with _bench(fd_hubs, ecu) as (tester, simulated):
        plan = make([image], ecu.memory, ecu.name)
        _dropping(tester, 100)
        with pytest.raises(FlashError) as lost:
            await Flasher(tester, lambda _: None).run(plan)
        resume_at = lost.value.resume_at
        assert resume_at == lost.value.at.address > START
        _endpoint(tester).frame_filter = None
        events: list[Progress] = []
        await Flasher(tester, events.append).run(plan, resume_at=resume_at)
        assert _content(simulated, image) == image.data
        assert events[0].done == resume_at - START
        assert not any(event.phase is Phase.ERASE for event in events)


async def test_a_download_in_work_admits_no_other(fd_hubs: Hubs, describe: Callable[..., EcuDescription]) -> None:
    # What a resumed attempt would meet without a change of session before it (ISO 14229-1, 14.2.4).
    ecu = describe()
    async with _bench(fd_hubs, ecu) as (tester, _):
        _dropping(tester, 20)
        with pytest.raises(FlashError):
            await Flasher(tester, lambda _: None).run(make([Segment(START, bytes(5000))], ecu.memory, ecu.name))
        place = ecu.memory.encode(START + 0x8000, 16)
        assert (await tester.request(b"\x34\x00" + place, timeout_s=5)).nrc == 0x22


async def test_resume_needs_something_that_ends_the_broken_transfer(write: Callable[[str], Path]) -> None:
    text = ECU.replace("MAX_BLOCK", "1026").replace('before: ["10 03"], session: programming', "session: null")
    with pytest.raises(ConfigError, match=r"flash\.resume: needs session, or 0x10 or 0x11 in before"):
        load_ecu(write(text))
    load_ecu(write(text.replace("session: null", 'before: ["10 03", "10 02"], session: null')))


async def test_a_lost_answer_is_made_good_by_sending_the_block_again(
    fd_hubs: Hubs, describe: Callable[..., EcuDescription]
) -> None:
    image = Segment(START, bytes(n & 0xFF for n in range(5000)))
    ecu = describe(retries=1)
    async with _bench(fd_hubs, ecu) as (tester, simulated):
        _dropping(tester, 20)
        await Flasher(tester, lambda _: None).run(make([image], ecu.memory, ecu.name))
        assert _content(simulated, image) == image.data


@pytest.mark.parametrize(
    ("settings", "phase", "nrc"),
    [
        ({"security": None}, Phase.ERASE, 0x33),
        ({"before": []}, Phase.PREPARE, 0x7E),
        ({"erase": None}, Phase.REQUEST, 0x70),
        ({"data_format": 0x11}, Phase.REQUEST, 0x31),
        ({"after": [b"\xba"]}, Phase.FINISH, 0x11),
    ],
)
async def test_a_refusal_is_told_with_phase_and_code(
    fd_hubs: Hubs, describe: Callable[..., EcuDescription], settings: dict[str, object], phase: Phase, nrc: int
) -> None:
    ecu = describe(**settings)
    async with _bench(fd_hubs, ecu) as (tester, _):
        with pytest.raises(FlashError) as refused:
            await Flasher(tester, lambda _: None).run(make([Segment(START, bytes(100))], ecu.memory, ecu.name))
        assert (refused.value.at.phase, refused.value.nrc) == (phase, nrc)
        assert f"(NRC 0x{nrc:02X})" in str(refused.value)
        assert refused.value.resume_at is None


async def test_what_was_written_wrong_is_found_by_the_check(
    fd_hubs: Hubs, describe: Callable[..., EcuDescription]
) -> None:
    ecu = describe()
    ecu = ecu.model_copy(update={"memory": ecu.memory.model_copy(update={"exit_crc": False})})
    async with _bench(fd_hubs, ecu) as (tester, _):
        # One bit falls over in a consecutive frame; CAN's own CRC does not exist on this bus.
        _endpoint(tester).frame_filter = lambda data: [
            (0, data[:-1] + bytes((data[-1] ^ 1,)) if data[0] == 0x25 else data)
        ]
        with pytest.raises(FlashError, match=r"check at 0x8000000: routine 0x0202 says that it failed: result 1"):
            await Flasher(tester, lambda _: None).run(make([Segment(START, bytes(1024))], ecu.memory, ecu.name))


async def test_an_ecu_that_asks_for_patience_for_ever_meets_the_deadline(
    fd_hubs: Hubs, describe: Callable[..., EcuDescription]
) -> None:
    ecu = describe(step_timeout_s=1.5)
    erase = ecu.routines["Erase"].model_copy(update={"duration_ms": 600_000})
    ecu = ecu.model_copy(update={"routines": {**ecu.routines, "Erase": erase}})
    async with _bench(fd_hubs, ecu) as (tester, _):
        expected = (
            r"erase at 0x8000000: RoutineControl .*\d x 0x78 \(response pending\), then no final .* within 1\.5 s"
        )
        with pytest.raises(FlashError, match=expected) as stopped:
            await Flasher(tester, lambda _: None).run(make([Segment(START, bytes(100))], ecu.memory, ecu.name))
        assert (stopped.value.at.phase, stopped.value.nrc, stopped.value.resume_at) == (Phase.ERASE, None, None)
        assert stopped.value.is_silence


async def test_a_bus_that_goes_down_in_the_middle_is_told_with_the_place(
    fd_hubs: Hubs, describe: Callable[..., EcuDescription]
) -> None:
    ecu = describe()
    async with _bench(fd_hubs, ecu) as (tester, _):

        def unplug(at: Progress) -> None:
            if at.block == 7:
                fd_hubs[0].close()

        with pytest.raises(FlashError, match=r"block 7 of 20 .*the bus is closed") as broken:
            await Flasher(tester, unplug).run(make([Segment(START, bytes(20_000))], ecu.memory, ecu.name))
        assert (broken.value.fault, broken.value.frame[:8]) == (Fault.BUS, "7E0##114")
        assert broken.value.resume_at == START + 6 * 1024


async def test_a_cancelled_flashing_leaves_the_tester_usable(
    fd_hubs: Hubs, describe: Callable[..., EcuDescription]
) -> None:
    ecu = describe()
    async with _bench(fd_hubs, ecu) as (tester, _):
        begun = asyncio.Event()
        flashing = asyncio.create_task(
            Flasher(tester, lambda at: begun.set() if at.block == 3 else None).run(
                make([Segment(START, bytes(0x80000))], ecu.memory, ecu.name)
            )
        )
        await asyncio.wait_for(begun.wait(), 10)
        flashing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await flashing
        assert (await tester.request(b"\x3e\x00", timeout_s=5)).response == b"\x7e\x00"
