"""J1939 nodes on a virtual bus: messages, requests and addresses, and what goes wrong with them."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import can
import pytest

from ecu_adapters.bus import BusHub
from ecu_adapters.j1939.errors import Fault, J1939Error
from ecu_adapters.j1939.identifier import GLOBAL, IdentifierError
from ecu_adapters.j1939.message import Message
from ecu_adapters.j1939.name import Name
from ecu_adapters.j1939.node import J1939Node
from ecu_adapters.j1939.settings import Settings
from ecu_adapters.j1939.transport import Lost

pytestmark = pytest.mark.anyio

Hubs = tuple[BusHub, BusHub]
WAIT_S = 20.0
TESTER, ENGINE = 0xF9, 0x00


class End:
    """A node and what it has received."""

    def __init__(self, hub: BusHub, address: int, settings: Settings | None = None, name: Name | None = None) -> None:
        self.messages: asyncio.Queue[Message] = asyncio.Queue()
        self.lost: asyncio.Queue[Lost] = asyncio.Queue()
        self.node = J1939Node(
            hub.node(f"node-{address:02X}"),
            address,
            settings,
            name=name,
            on_message=self.messages.put_nowait,
            on_lost=self.lost.put_nowait,
        )

    async def message(self, pgn: int) -> Message:
        while True:
            message = await asyncio.wait_for(self.messages.get(), WAIT_S)
            if message.pgn == pgn:
                return message


@asynccontextmanager
async def _ends(hubs: Hubs, settings: Settings | None = None) -> AsyncIterator[tuple[End, End]]:
    tester, engine = End(hubs[0], TESTER, settings), End(hubs[1], ENGINE, settings)
    try:
        yield tester, engine
    finally:
        tester.node.close()
        engine.node.close()


@asynccontextmanager
async def _end(hub: BusHub, address: int, name: Name) -> AsyncIterator[End]:
    end = End(hub, address, name=name)
    try:
        yield end
    finally:
        end.node.close()


def payload(length: int) -> bytes:
    return bytes(n & 0xFF for n in range(length))


@pytest.mark.parametrize("length", [0, 1, 8, 9, 300, 1785])
async def test_messages_of_all_lengths_to_one_node(hubs: Hubs, length: int) -> None:
    async with _ends(hubs) as (tester, engine):
        await tester.node.send(0xEF00, payload(length), ENGINE, priority=3)
        message = await engine.message(0xEF00)
        assert (message.data, message.source, message.destination) == (payload(length), TESTER, ENGINE)
        assert message.priority == (3 if length <= 8 else 7)
        await engine.node.send(0xEF00, payload(length), TESTER)
        assert (await tester.message(0xEF00)).data == payload(length)


async def test_messages_to_all_and_between_nodes_of_one_hub(hubs: Hubs) -> None:
    async with _ends((hubs[0], hubs[0])) as (tester, engine), _end(hubs[1], 0x03, Name()) as other:
        sent = await tester.node.send(0xFECA, payload(20))
        for end in (engine, other):
            message = await end.message(0xFECA)
            assert (message.data, message.destination) == (payload(20), GLOBAL)
            assert message.timestamp >= sent
        assert tester.messages.empty()


async def test_twenty_messages_at_once_arrive_in_order(hubs: Hubs) -> None:
    async with _ends(hubs) as (tester, engine):
        await asyncio.gather(
            *(tester.node.send(0xEF00, payload(20 + n), ENGINE) for n in range(20)),
            *(engine.node.send(0xEF00, payload(60 + n), TESTER) for n in range(20)),
        )
        assert [len((await engine.message(0xEF00)).data) for _ in range(20)] == list(range(20, 40))
        assert [len((await tester.message(0xEF00)).data) for _ in range(20)] == list(range(60, 80))
        assert (tester.node.stats.sent, tester.node.stats.received) == (20, 20)


async def test_request_is_answered_with_one_frame_or_many(hubs: Hubs) -> None:
    async with _ends(hubs) as (tester, engine):
        engine.node.answers = {0xFEEE: payload(8), 0xFEEC: payload(18), 0xEF00: payload(5)}
        for pgn, destination, length, comes_to in [
            (0xFEEE, ENGINE, 8, GLOBAL), (0xFEEE, GLOBAL, 8, GLOBAL), (0xFEEC, ENGINE, 18, TESTER),
            (0xFEEC, GLOBAL, 18, GLOBAL), (0xEF00, ENGINE, 5, TESTER),
        ]:  # fmt: skip
            answer = await tester.node.request(pgn, destination, timeout_s=WAIT_S)
            assert (answer.pgn, answer.data, answer.destination) == (pgn, payload(length), comes_to)


async def test_request_that_is_refused_names_the_acknowledgement(hubs: Hubs) -> None:
    async with _ends(hubs) as (tester, _):
        with pytest.raises(
            J1939Error, match=r"0x00 refused the request for PGN 0xFEEE: negative ack.*control byte 1"
        ) as e:
            await tester.node.request(0xFEEE, ENGINE, timeout_s=WAIT_S)
        assert (e.value.kind, e.value.code, e.value.frame) == (Fault.REFUSED, 1, "18E8FF00#01FFFFFFF9EEFE00")


async def test_request_that_nobody_answers_ends_in_time(hubs: Hubs) -> None:
    async with _ends(hubs) as (tester, _):
        with pytest.raises(J1939Error, match=r"no answer of 0x21 to the request for PGN 0xFEEE within 0.05 s") as error:
            await tester.node.request(0xFEEE, 0x21, timeout_s=0.05)
        assert (error.value.kind, error.value.frame) == (Fault.NO_ANSWER, "18EA21F9#EEFE00")
        with pytest.raises(J1939Error, match="no answer of anybody"):
            await tester.node.request(0xFEEE, timeout_s=0.05)


async def test_answer_that_takes_too_long_is_told_apart(hubs: Hubs) -> None:
    async with _ends(hubs) as (tester, engine):
        engine.node.answers = {0xFEEC: payload(1785)}
        with pytest.raises(J1939Error, match=r"was not complete within 1.5 s"):
            await tester.node.request(0xFEEC, timeout_s=1.5)


async def test_answer_whose_transfer_is_lost_says_why(hubs: Hubs) -> None:
    async with _ends(hubs, Settings(t1_s=0.1)) as (tester, _):

        def announce(message: can.Message) -> None:
            if message.is_rx:
                data = bytes.fromhex("20120003FFECFE00")
                hubs[1].send(can.Message(arbitration_id=0x1CECFF21, is_extended_id=True, data=data))

        with hubs[1].subscribe(announce, ids={0x98EA21F9}):
            with pytest.raises(
                J1939Error, match=r"no data packet from 0x21 within 100 ms \(T1\) after 0 of 3"
            ) as error:
                await tester.node.request(0xFEEC, 0x21, timeout_s=WAIT_S)
            assert (error.value.kind, error.value.frame) == (Fault.TIMEOUT, "1CECFF21#20120003FFECFE00")
            assert tester.node.stats.receive_errors == 1
            assert (await asyncio.wait_for(tester.lost.get(), WAIT_S)).source == 0x21


async def test_sending_to_nobody_fails_with_the_time_out(hubs: Hubs) -> None:
    async with _ends(hubs, Settings(t3_s=0.05)) as (tester, _):
        with pytest.raises(J1939Error, match=r"from 0x21 within 50 ms \(T3\) after 0 of 3 packets") as error:
            await tester.node.send(0xEF00, payload(20), 0x21)
        assert error.value.kind is Fault.TIMEOUT
        assert error.value.frame == "1CEC21F9#10140003FF00EF00"


async def test_aborted_message_names_the_reason_and_the_frame(hubs: Hubs) -> None:
    def refuse(message: can.Message) -> None:
        if message.is_rx and message.data[0] == 16:
            data = bytes.fromhex("FF02FFFFFF00EF00")
            hubs[1].send(can.Message(arbitration_id=0x1CECF921, is_extended_id=True, data=data))

    async with _ends(hubs) as (tester, _):
        with hubs[1].subscribe(refuse, ids={0x9CEC21F9}), pytest.raises(J1939Error, match="abort reason 2") as error:
            await tester.node.send(0xEF00, payload(20), 0x21)
        assert (error.value.kind, error.value.code) == (Fault.ABORTED, 2)
        assert error.value.frame == "1CECF921#FF02FFFFFF00EF00"
        assert tester.node.stats.send_errors == 1


async def test_message_that_takes_too_long_is_withdrawn(hubs: Hubs) -> None:
    async with _ends(hubs) as (tester, engine):
        with pytest.raises(J1939Error, match=r"was not sent within 0.1 s") as error:
            await tester.node.send(0xFECA, payload(1785), timeout_s=0.1)
        assert error.value.kind is Fault.SEND_TIMEOUT
        # The node goes on: nothing is left in the way.
        await tester.node.send(0xFECA, payload(9))
        assert (await engine.message(0xFECA)).data == payload(9)


async def test_closed_bus_and_closed_node_fail_what_waits(hubs: Hubs) -> None:
    async with _ends(hubs) as (tester, _):
        waiting = asyncio.create_task(tester.node.send(0xFECA, payload(1785)))
        asking = asyncio.create_task(tester.node.request(0xFEEE, 0x21, timeout_s=WAIT_S))
        await asyncio.sleep(0)
        tester.node.close()
        for task in (waiting, asking):
            with pytest.raises(J1939Error, match="the J1939 node is closed") as error:
                await task
            assert error.value.kind is Fault.CLOSED
        with pytest.raises(J1939Error, match="is closed"):
            await tester.node.send(0xFECA, b"1")
    async with _ends(hubs) as (tester, _):
        hubs[0].close()
        for length in (8, 20):
            with pytest.raises(J1939Error, match="is closed") as error:
                await tester.node.send(0xFECA, payload(length))
            assert error.value.kind is Fault.BUS
            assert error.value.frame


@pytest.mark.parametrize(
    ("pgn", "data", "destination", "priority", "reason"),
    [
        (
            0xFECA,
            b"1",
            ENGINE,
            6,
            r"destination address is 0x00, but PGN 0xFECA \(PDU2\) goes to all; only more than 8",
        ),
        (0xEA01, b"1", ENGINE, 6, "PGN is 0xEA01; .* 0xEA00"),
        (0xEF00, b"1", 0xFE, 6, r"destination address is 0xFE; it must be 0x0 \.\. 0xFD"),
        (0xEF00, b"1", TESTER, 6, "destination address is 0xF9, the node's own"),
        (0xEF00, b"1", ENGINE, 9, r"priority is 0x9; it must be 0x0 \.\. 0x7"),
        (0xEF00, bytes(1786), ENGINE, 6, "data has 1786 bytes; a message has at most 1785"),
    ],
)
async def test_what_cannot_be_sent_is_refused(
    hubs: Hubs, pgn: int, data: bytes, destination: int, priority: int, reason: str
) -> None:
    async with _ends(hubs) as (tester, _):
        with pytest.raises(ValueError, match=reason):
            await tester.node.send(pgn, data, destination, priority=priority)


async def test_address_that_no_node_can_have_is_refused(hubs: Hubs) -> None:
    with pytest.raises(IdentifierError, match=r"address is 0xFE; it must be 0x0 \.\. 0xFD"):
        End(hubs[0], 0xFE)


async def test_claimed_address_is_defended_and_told(hubs: Hubs) -> None:
    ours, weaker = Name(identity_number=1), Name(identity_number=2)
    async with _end(hubs[0], TESTER, ours) as tester, _end(hubs[1], TESTER, weaker) as late:
        with pytest.raises(J1939Error, match="address 0xF9 is not claimed yet"):
            await tester.node.send(0xFECA, b"1")
        await tester.node.claim()
        await tester.node.send(0xFECA, b"1")
        with pytest.raises(J1939Error, match="address 0xF9 is taken by NAME 0000810000000001") as error:
            await late.node.claim()
        assert error.value.kind is Fault.ADDRESS
        with pytest.raises(J1939Error, match="is taken by NAME"):
            await late.node.send(0xFECA, b"1")
        assert late.node.stats.conflicts == 2  # a frame, and the contest
        async with _ends((hubs[1], hubs[1])) as (_, engine):
            answer = await engine.node.request(0xEE00, TESTER, timeout_s=WAIT_S)
            assert Name.of(int.from_bytes(answer.data, "little")) == ours


async def test_address_is_lost_to_a_lower_name_later(hubs: Hubs) -> None:
    weaker, stronger = Name(identity_number=9), Name(identity_number=3)
    async with _end(hubs[0], TESTER, weaker) as tester, _end(hubs[1], TESTER, stronger) as late:
        await tester.node.claim()
        await late.node.claim()
        with pytest.raises(J1939Error, match="address 0xF9 is taken by NAME 0000810000000003"):
            await tester.node.send(0xFECA, b"1")


async def test_frames_that_are_none_of_ours_are_left_alone(hubs: Hubs) -> None:
    async with _ends(hubs) as (tester, engine):
        for can_id, extended, data in [
            (0x7E0, False, b"\x02\x3e\x00"),  # 11 bits
            (0x18FECAFF, True, b"1"),  # from 255, which nobody is
            (0x18EF21F9, True, b"1"),  # for another node
            (0x1CEB00F9, True, b"\x01234567"),  # a data packet out of nowhere
            (0x1CEC00F9, True, b"\x10"),  # too short
            (0x18EA00F9, True, b"\xee"),  # a request without a PGN
        ]:
            hubs[0].send(can.Message(arbitration_id=can_id, is_extended_id=extended, data=data))
        await tester.node.send(0xFECA, b"end")
        assert (await engine.message(0xFECA)).data == b"end"
        assert engine.node.stats.ignored == 2
        hubs[0].send(can.Message(arbitration_id=0x18FECA00, is_extended_id=True, data=b"1"))
        await tester.node.send(0xFECB, b"end")
        await engine.message(0xFECB)
        assert engine.node.stats.conflicts == 1


async def test_a_machine_that_stood_still_does_not_blame_the_other_node(hubs: Hubs) -> None:
    quick = Settings(t1_s=0.1, t2_s=0.1, t3_s=0.1)
    async with _ends(hubs, quick) as (tester, engine):
        sending = asyncio.ensure_future(tester.node.send(0xEF00, payload(300), ENGINE, timeout_s=WAIT_S))
        for _ in range(3):
            await asyncio.sleep(0)
            time.sleep(0.3)  # noqa: ASYNC251 the loop stands still, with both nodes
        await sending
        assert (await engine.message(0xEF00)).data == payload(300)
        engine.node.answers[0xFEEC] = b"12345"
        asking = asyncio.ensure_future(tester.node.request(0xFEEC, ENGINE, timeout_s=0.1))
        await asyncio.sleep(0)
        time.sleep(0.3)  # noqa: ASYNC251
        assert (await asking).data[:5] == b"12345"
