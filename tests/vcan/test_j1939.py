"""J1939 nodes on vcan0, with the kernel's own J1939 stack at the other end and can-utils as witness."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from ecu_adapters.bus import BusHub, CanConfig
from ecu_adapters.j1939.errors import Fault, J1939Error
from ecu_adapters.j1939.identifier import GLOBAL
from ecu_adapters.j1939.message import Message
from ecu_adapters.j1939.node import J1939Node
from ecu_adapters.j1939.settings import Settings
from tests.vcan.can_utils import Candump

pytestmark = pytest.mark.anyio

WAIT_S = 60.0
TESTER, KERNEL, NOBODY = 0xF9, 0x21, 0x22
PDU1, PDU2 = 0xEF00, 0xFECA
LENGTHS = [0, 1, 8, 9, 14, 15, 1784, 1785]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@contextmanager
def kernel_socket(address: int = KERNEL) -> Iterator[socket.socket]:
    """The kernel's node. Without the module can-j1939 there is none."""
    try:
        node = socket.socket(socket.AF_CAN, socket.SOCK_DGRAM, socket.CAN_J1939)
    except OSError as error:
        pytest.skip(f"no J1939 in this kernel: {error}")
    with node:
        node.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        node.bind(("vcan0", socket.J1939_NO_NAME, socket.J1939_NO_PGN, address))
        node.settimeout(WAIT_S)
        yield node


class End:
    """Our node."""

    def __init__(self, hub: BusHub, settings: Settings | None = None) -> None:
        self.messages: asyncio.Queue[Message] = asyncio.Queue()
        self.node = J1939Node(hub.node("tester"), TESTER, settings, on_message=self.messages.put_nowait)

    async def message(self) -> Message:
        return await asyncio.wait_for(self.messages.get(), WAIT_S)


@asynccontextmanager
async def our_node(settings: Settings | None = None) -> AsyncIterator[End]:
    with BusHub.open("vcan0", CanConfig(interface="socketcan", channel="vcan0")) as hub:
        end = End(hub, settings)
        try:
            yield end
        finally:
            end.node.close()


def payload(length: int) -> bytes:
    return bytes((n * 7 + n // 251) & 0xFF for n in range(length))


async def received(node: socket.socket) -> tuple[bytes, int, int]:
    """Data, PGN and source address of what the kernel's node gets."""
    data, (_, _, pgn, source) = await asyncio.to_thread(node.recvfrom, 4096)
    return data, pgn, source


@pytest.mark.parametrize("length", LENGTHS)
async def test_messages_to_and_from_the_kernels_node(length: int) -> None:
    with kernel_socket() as kernel:
        async with our_node() as ours:
            await ours.node.send(PDU1, payload(length), KERNEL, timeout_s=WAIT_S)
            assert await received(kernel) == (payload(length), PDU1, TESTER)
            where = ("vcan0", socket.J1939_NO_NAME, PDU1, TESTER)
            await asyncio.to_thread(kernel.sendto, payload(length), where)
            message = await ours.message()
            assert (message.data, message.pgn, message.source) == (payload(length), PDU1, KERNEL)
            assert message.destination == TESTER


@pytest.mark.parametrize("length", [9, 300])
async def test_broadcasts_to_and_from_the_kernels_node(length: int, candump: Candump) -> None:
    with kernel_socket() as kernel:
        async with our_node() as ours:
            await ours.node.send(PDU2, payload(length), timeout_s=WAIT_S)
            assert await received(kernel) == (payload(length), PDU2, TESTER)
            # BAM: the length, the number of packets, no limit, the PGN.
            packets = -(-length // 7)
            candump.wait_for(f"1CECFFF9#20{length.to_bytes(2, 'little').hex().upper()}{packets:02X}FFCAFE00")
            where = ("vcan0", socket.J1939_NO_NAME, PDU2, socket.J1939_NO_ADDR)
            await asyncio.to_thread(kernel.sendto, payload(length), where)
            message = await ours.message()
            assert (message.data, message.pgn, message.source) == (payload(length), PDU2, KERNEL)
            assert message.destination == GLOBAL


@pytest.mark.parametrize("packets", [1, 7, 255])
async def test_the_kernel_obeys_blocks(packets: int) -> None:
    """Holds are left out: Linux aborts at the CTS that follows one, as a duplicate (reason 8)."""
    with kernel_socket() as kernel:
        async with our_node(Settings(packets_per_cts=packets)) as ours:
            where = ("vcan0", socket.J1939_NO_NAME, PDU1, TESTER)
            await asyncio.to_thread(kernel.sendto, payload(300), where)
            assert (await ours.message()).data == payload(300)


async def test_both_ways_at_once() -> None:
    with kernel_socket() as kernel:
        async with our_node() as ours:
            where = ("vcan0", socket.J1939_NO_NAME, PDU1, TESTER)
            await asyncio.gather(
                ours.node.send(PDU1, payload(200), KERNEL, timeout_s=WAIT_S),
                asyncio.to_thread(kernel.sendto, payload(150), where),
            )
            assert (await received(kernel))[0] == payload(200)
            assert (await ours.message()).data == payload(150)


async def test_nobody_at_the_address_is_a_time_out_that_candump_sees(candump: Candump) -> None:
    async with our_node() as ours:
        with pytest.raises(J1939Error, match=r"no CTS or acknowledgement from 0x22 within 1250 ms \(T3\)") as error:
            await ours.node.send(PDU1, payload(20), NOBODY)
    assert error.value.kind is Fault.TIMEOUT
    assert candump.wait_for("1CEC22F9#FF") == "1CEC22F9#FF03FFFFFF00EF00"


async def test_request_is_answered_by_the_kernels_node() -> None:
    """The kernel hands requests to the program behind its socket, which answers."""

    def answer(kernel: socket.socket) -> None:
        data, (_, _, pgn, source) = kernel.recvfrom(4096)
        assert (data, pgn) == (bytes.fromhex("ECFE00"), 0xEA00)
        kernel.sendto(b"WVWZZZ1KZ6W000001*", ("vcan0", socket.J1939_NO_NAME, 0xFEEC, source))

    with kernel_socket() as kernel:
        async with our_node() as ours:
            answering = asyncio.create_task(asyncio.to_thread(answer, kernel))
            found = await ours.node.request(0xFEEC, KERNEL, timeout_s=WAIT_S)
            await answering
    assert (found.data, found.source) == (b"WVWZZZ1KZ6W000001*", KERNEL)
