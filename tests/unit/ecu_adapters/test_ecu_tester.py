"""The tester against an ECU that does as the test says: P2, P2*, 0x78, late and foreign answers, sessions."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import can
import pytest

from ecu_adapters.bus import BusHub
from ecu_adapters.description import EcuDescription
from ecu_adapters.isotp import IsoTpAddress, IsoTpEndpoint
from ecu_adapters.uds.pending import Pending
from ecu_adapters.uds.tester import UdsTester, UdsTimeout, UdsTransportError, UdsUnexpected

pytestmark = pytest.mark.anyio

Hubs = tuple[BusHub, BusHub]
WAIT_S = 30.0


Script = dict[str, list[str | float | asyncio.Event]]


class ScriptedEcu:
    """Answers each request with the next of its lists: PDUs in hex, or what to wait for before the next one.

    That is a number of seconds, or an event.
    """

    def __init__(self, hub: BusHub, ecu: EcuDescription, script: Script) -> None:
        self.requests: asyncio.Queue[tuple[str, bool]] = asyncio.Queue()
        self.script = script
        self._endpoint = IsoTpEndpoint(hub, IsoTpAddress.ecu(ecu.addressing), ecu.isotp, self._hear)
        self._tasks: set[asyncio.Task[None]] = set()

    def _hear(self, pdu: bytes, functional: bool) -> None:
        request = pdu.hex(" ").upper()
        self.requests.put_nowait((request, functional))
        task = asyncio.get_running_loop().create_task(self._answer(self.script.get(request, [])))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, steps: list[str | float | asyncio.Event]) -> None:
        for step in steps:
            if isinstance(step, str):
                self._endpoint.post(bytes.fromhex(step))
            elif isinstance(step, asyncio.Event):
                await step.wait()
            else:
                await asyncio.sleep(step)

    async def next_request(self) -> tuple[str, bool]:
        return await asyncio.wait_for(self.requests.get(), WAIT_S)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._endpoint.close()


@asynccontextmanager
async def _pair(hubs: Hubs, ecu: EcuDescription, script: Script) -> AsyncIterator[tuple[UdsTester, ScriptedEcu]]:
    scripted = ScriptedEcu(hubs[1], ecu, script)
    tester = UdsTester(hubs[0], ecu)
    try:
        yield tester, scripted
    finally:
        await tester.close()
        scripted.close()


def _quick(ecu: EcuDescription, **timing: int) -> EcuDescription:
    """The same ECU with short times."""
    fields = {"p2_ms": 20, "p2_star_ms": 100, "transit_ms": 50, **timing}
    return ecu.model_copy(update={"timing": ecu.timing.model_copy(update=fields)})


async def test_an_exchange_carries_request_response_and_time(hubs: Hubs, ecu: EcuDescription) -> None:
    async with _pair(hubs, ecu, {"22 F1 90": ["62 F1 90 41"]}) as (tester, _):
        exchange = await tester.request(b"\x22\xf1\x90", timeout_s=WAIT_S)
        assert (exchange.request, exchange.response) == (b"\x22\xf1\x90", b"\x62\xf1\x90A")
        assert (exchange.pending, exchange.nrc) == (Pending(), None)
        assert 0 < exchange.elapsed_s < WAIT_S


async def test_a_negative_response_is_a_response(hubs: Hubs, ecu: EcuDescription) -> None:
    async with _pair(hubs, ecu, {"BA": ["7F BA 11"]}) as (tester, _):
        assert (await tester.request(b"\xba", timeout_s=WAIT_S)).nrc == 0x11
        assert tester.stats.negative == 1


def _slowly(hub: BusHub, *frames: str, every_s: float = 0.06) -> None:
    """A node that answers a single frame with the first of these, and sends the others in its own time."""
    timers = asyncio.get_running_loop()

    def put(data: str) -> None:
        hub.send(can.Message(arbitration_id=0x7E8, is_extended_id=False, data=bytes.fromhex(data)))

    def answer(frame: can.Message) -> None:
        if frame.is_rx and frame.data[0] < 8:
            put(frames[0])
            for number, data in enumerate(frames[1:], start=1):
                timers.call_soon_threadsafe(timers.call_later, number * every_s, put, data)

    hub.subscribe(answer, ids={0x7E0})


async def test_p2_ends_with_the_first_frame_however_long_the_rest_takes(hubs: Hubs, ecu: EcuDescription) -> None:
    tester = UdsTester(hubs[0], _quick(ecu))  # P2 is over after 70 ms, the response comes in 180 ms
    _slowly(hubs[1], "10 17 62 F1 90 00 01 02", "21 03 04 05 06 07 08 09", "22 0A 0B 0C 0D 0E 0F 10", "23 11 12 13")
    exchange = await tester.request(b"\x22\xf1\x90", timeout_s=WAIT_S)
    assert exchange.response == b"\x62\xf1\x90" + bytes(range(20))
    assert exchange.elapsed_s > 0.07
    await tester.close()


async def test_a_response_that_begins_and_never_ends_is_a_lost_one(hubs: Hubs, ecu: EcuDescription) -> None:
    quick = _quick(ecu)
    tester = UdsTester(hubs[0], quick.model_copy(update={"isotp": quick.isotp.model_copy(update={"n_cr_ms": 150})}))
    _slowly(hubs[1], "10 17 62 F1 90 00 01 02", "21 03 04 05 06 07 08 09")
    with pytest.raises(
        UdsTransportError, match=r"was lost: no consecutive frame within 150 ms .* after 13 of 23 bytes"
    ):
        await tester.request(b"\x22\xf1\x90", timeout_s=WAIT_S)
    await tester.close()
    tester = UdsTester(hubs[0], quick)  # N_Cr is a second
    with pytest.raises(UdsTimeout, match=r"no response within 0\.1 s"):
        await tester.request(b"\x22\xf1\x90", timeout_s=0.1)
    await tester.close()


async def test_0x78_extends_the_wait_as_often_as_it_comes(hubs: Hubs, ecu: EcuDescription) -> None:
    script: Script = {"31 01 FF 00": ["7F 31 78", 0.1, "7F 31 78", 0.1, "7F 31 78", 0.1, "71 01 FF 00"]}
    async with _pair(hubs, _quick(ecu), script) as (tester, _):
        exchange = await tester.request(b"\x31\x01\xff\x00", timeout_s=WAIT_S)
        assert exchange.response == b"\x71\x01\xff\x00"
        first, second, third = exchange.pending.times
        assert exchange.pending.count == 3
        assert first < second < third < exchange.elapsed_s
        assert exchange.pending.last_s == third
        gaps = (second - first, third - second, exchange.elapsed_s - third)
        assert exchange.pending.longest_gap_s == max(gaps)
        assert exchange.elapsed_s >= 0.29


@pytest.mark.parametrize(
    ("steps", "limit_s", "message"),
    [
        ([], WAIT_S, r"ReadDataByIdentifier \(22 F1 90\) to ECM: no response within P2 of 1050 ms"),
        ([], 0.7, r"no response within 0\.7 s"),
        (["7F 22 78"], WAIT_S, r"1 x 0x78 \(response pending\), then no final response within P2\* of 1150 ms"),
        (["7F 22 78", 0.05, "7F 22 78"], 1.0, r"2 x 0x78 .* within 1 s"),
    ],
)
async def test_silence_ends_in_time_and_says_which(
    hubs: Hubs, ecu: EcuDescription, steps: list[str | float | asyncio.Event], limit_s: float, message: str
) -> None:
    async with _pair(hubs, _quick(ecu, p2_ms=1000, p2_star_ms=1100), {"22 F1 90": steps}) as (tester, _):
        with pytest.raises(UdsTimeout, match=message) as caught:
            await tester.request(b"\x22\xf1\x90", timeout_s=limit_s)
        assert caught.value.exchange is not None
        assert caught.value.exchange.pending.count == sum(isinstance(step, str) for step in steps)
        assert tester.stats.timeouts == 1


@pytest.mark.parametrize("response", ["62 F1 90 41", "62 F1 90 " + "41 " * 60])
async def test_a_machine_that_stood_still_does_not_blame_the_ecu(
    hubs: Hubs, ecu: EcuDescription, response: str
) -> None:
    slow = _quick(ecu)
    slow = slow.model_copy(update={"isotp": slow.isotp.model_copy(update={"n_cr_ms": 60, "n_bs_ms": 60})})
    async with _pair(hubs, slow, {"22 F1 90": [0.01, response]}) as (tester, scripted):
        asking = asyncio.ensure_future(tester.request(b"\x22\xf1\x90", timeout_s=WAIT_S))
        await scripted.next_request()
        time.sleep(0.3)  # noqa: ASYNC251 the loop stands still, with tester and ECU
        assert (await asking).response == bytes.fromhex(response)


async def test_a_machine_that_stood_still_between_two_waits_does_not_blame_the_ecu(
    hubs: Hubs, ecu: EcuDescription, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _pair(hubs, _quick(ecu), {"22 F1 90": ["62 F1 98 42", 0.01, "62 F1 90 41"]}) as (tester, _):
        monkeypatch.setattr(tester.unsolicited, "put", lambda foreign: time.sleep(0.3))
        assert (await tester.request(b"\x22\xf1\x90", timeout_s=WAIT_S)).response == b"\x62\xf1\x90A"


async def test_a_machine_that_stands_still_again_and_again_does_not_wait_for_ever(
    hubs: Hubs, ecu: EcuDescription, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign: list[str | float | asyncio.Event] = ["62 F1 98 42", 0.02]
    async with _pair(hubs, _quick(ecu), {"22 F1 90": foreign * 500}) as (tester, _):
        monkeypatch.setattr(tester.unsolicited, "put", lambda foreign: time.sleep(0.05))
        with pytest.raises(UdsTimeout, match="no response within P2 of 70 ms"):
            await tester.request(b"\x22\xf1\x90", timeout_s=WAIT_S)
        assert tester.stats.skipped < 250


async def test_p2_counts_from_the_end_of_a_long_request(hubs: Hubs, ecu: EcuDescription) -> None:
    ecu = _quick(ecu).model_copy(update={"isotp": ecu.isotp.model_copy(update={"stmin_ms": 5})})
    request = bytes((0x36, 0x01)) + bytes(298)
    async with _pair(hubs, ecu, {request.hex(" ").upper(): ["76 01"]}) as (tester, _):
        began = time.monotonic()
        exchange = await tester.request(request, timeout_s=WAIT_S)
        took_s = time.monotonic() - began
        assert exchange.response == b"\x76\x01"
        assert took_s - exchange.elapsed_s > 0.2, "43 frames, 5 ms apart, came before"


@pytest.mark.parametrize(
    ("request_hex", "foreign", "answer"),
    [
        ("22 F1 90", "50 03 00 32 01 F4", "62 F1 90 41"),
        ("22 F1 90", "62 F1 98 42", "62 F1 90 41"),
        ("22 F1 90", "7F 3E 12", "62 F1 90 41"),
        ("19 02 FF", "59 01 FF 01 00 00", "59 02 FF"),
        ("2E F1 98 41", "6E F1 90", "6E F1 98"),
        ("3E 00", "7E 01", "7E 00"),
    ],
)
async def test_answers_to_other_requests_are_skipped(
    hubs: Hubs, ecu: EcuDescription, request_hex: str, foreign: str, answer: str
) -> None:
    async with _pair(hubs, ecu, {request_hex: [foreign, answer]}) as (tester, _):
        exchange = await tester.request(bytes.fromhex(request_hex), timeout_s=WAIT_S)
        assert exchange.response == bytes.fromhex(answer)
        assert tester.stats.skipped == 1


async def test_a_late_answer_is_not_taken_for_the_next_one(hubs: Hubs, ecu: EcuDescription) -> None:
    asked_again = asyncio.Event()
    script: Script = {"22 F1 90": [asked_again, "62 F1 90 41"], "22 F1 98": [0.1, "62 F1 98 42"]}
    async with _pair(hubs, _quick(ecu, transit_ms=230), script) as (tester, scripted):
        with pytest.raises(UdsTimeout):
            await tester.request(b"\x22\xf1\x90", timeout_s=WAIT_S)
        second = asyncio.create_task(tester.request(b"\x22\xf1\x98", timeout_s=WAIT_S))
        assert [await scripted.next_request() for _ in range(2)] == [("22 F1 90", False), ("22 F1 98", False)]
        asked_again.set()
        assert (await second).response == b"\x62\xf1\x98B"
        assert tester.stats.skipped == 1


async def test_malformed_negative_responses_are_unexpected(hubs: Hubs, ecu: EcuDescription) -> None:
    async with _pair(hubs, ecu, {"22 F1 90": ["7F 22"]}) as (tester, _):
        with pytest.raises(UdsUnexpected, match="is 7f22"):
            await tester.request(b"\x22\xf1\x90", timeout_s=WAIT_S)
        with pytest.raises(UdsUnexpected, match="at least one byte"):
            await tester.request(b"", timeout_s=WAIT_S)


async def test_a_suppressed_positive_response_is_none(hubs: Hubs, ecu: EcuDescription) -> None:
    script: Script = {"10 85": ["7F 10 12"]}
    async with _pair(hubs, _quick(ecu), script) as (tester, _):
        exchange = await tester.request(b"\x3e\x80", timeout_s=WAIT_S)
        assert exchange.response is None
        assert exchange.elapsed_s >= 0.06
        assert (await tester.request(b"\x10\x85", timeout_s=WAIT_S)).nrc == 0x12
        assert tester.session == 1
        await tester.request(b"\x10\x83", timeout_s=WAIT_S)
        assert tester.session == 3


async def test_after_a_0x78_a_suppressed_answer_is_awaited(hubs: Hubs, ecu: EcuDescription) -> None:
    async with _pair(hubs, _quick(ecu), {"11 81": ["7F 11 78", 0.09, "51 01"]}) as (tester, _):
        assert (await tester.request(b"\x11\x81", timeout_s=WAIT_S)).response == b"\x51\x01"


async def test_the_timing_that_a_session_announces_is_used(hubs: Hubs, ecu: EcuDescription) -> None:
    script: Script = {"10 03": ["50 03 00 C8 01 F4"], "22 F1 90": [0.15, "62 F1 90 41"]}
    async with _pair(hubs, _quick(ecu), script) as (tester, _):
        await tester.request(b"\x10\x03", timeout_s=WAIT_S)
        assert (await tester.request(b"\x22\xf1\x90", timeout_s=WAIT_S)).response == b"\x62\xf1\x90A"


async def test_requests_take_their_turn(hubs: Hubs, ecu: EcuDescription) -> None:
    script: Script = {"22 F1 90": [0.03, "62 F1 90 41"], "22 F1 98": ["62 F1 98 42"]}
    async with _pair(hubs, ecu, script) as (tester, scripted):
        first = asyncio.create_task(tester.request(b"\x22\xf1\x90", timeout_s=WAIT_S))
        second = asyncio.create_task(tester.request(b"\x22\xf1\x98", timeout_s=WAIT_S))
        assert (await first).response == b"\x62\xf1\x90A"
        assert (await second).response == b"\x62\xf1\x98B"
        assert [await scripted.next_request() for _ in range(2)] == [("22 F1 90", False), ("22 F1 98", False)]


async def test_waiting_for_the_turn_counts_towards_the_limit(hubs: Hubs, ecu: EcuDescription) -> None:
    told = asyncio.Event()
    script: Script = {"22 F1 90": ["7F 22 78", told, "62 F1 90 41"]}
    async with _pair(hubs, ecu, script) as (tester, scripted):
        first = asyncio.create_task(tester.request(b"\x22\xf1\x90", timeout_s=WAIT_S))
        await scripted.next_request()
        with pytest.raises(UdsTimeout, match="busy with other requests"):
            await tester.request(b"\x3e\x00", timeout_s=0.02)
        told.set()
        assert (await first).response == b"\x62\xf1\x90A"


async def test_a_cancelled_request_frees_the_turn(hubs: Hubs, ecu: EcuDescription) -> None:
    async with _pair(hubs, ecu, {"22 F1 98": ["62 F1 98 42"]}) as (tester, scripted):
        first = asyncio.create_task(tester.request(b"\x22\xf1\x90", timeout_s=WAIT_S))
        await scripted.next_request()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert (await tester.request(b"\x22\xf1\x98", timeout_s=WAIT_S)).response == b"\x62\xf1\x98B"


async def test_tester_present_keeps_a_session_and_stops_with_it(hubs: Hubs, ecu: EcuDescription) -> None:
    script: Script = {"10 03": ["50 03 00 32 01 F4"], "10 01": ["50 01 00 32 01 F4"]}
    async with _pair(hubs, _quick(ecu, s3_client_ms=50), script) as (tester, scripted):
        await tester.request(b"\x10\x03", timeout_s=WAIT_S)
        assert [await scripted.next_request() for _ in range(3)] == [
            ("10 03", False),
            ("3E 80", False),
            ("3E 80", False),
        ]
        await tester.request(b"\x10\x01", timeout_s=WAIT_S)
        while (await scripted.next_request())[0] != "10 01":
            pass
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(scripted.requests.get(), 0.12)


async def test_tester_present_goes_to_all_while_a_request_is_in_work(hubs: Hubs, ecu: EcuDescription) -> None:
    script: Script = {
        "10 03": ["50 03 00 32 01 F4"],
        "31 01 FF 00": ["7F 31 78", 0.2, "71 01 FF 00"],
        "10 01": ["50 01 00 32 01 F4"],
    }
    async with _pair(hubs, _quick(ecu, s3_client_ms=50), script) as (tester, scripted):
        await tester.request(b"\x10\x03", timeout_s=WAIT_S)
        exchange = await tester.request(b"\x31\x01\xff\x00", timeout_s=WAIT_S)
        assert exchange.response == b"\x71\x01\xff\x00"
        heard = [scripted.requests.get_nowait() for _ in range(scripted.requests.qsize())]
        assert ("3E 80", True) in heard[2:]


@pytest.mark.parametrize(("request_hex", "answer"), [("10 01", "50 01 00 32 01 F4"), ("11 01", "51 01")])
async def test_closing_leaves_the_default_session(
    hubs: Hubs, ecu: EcuDescription, request_hex: str, answer: str
) -> None:
    script: Script = {"10 03": ["50 03 00 32 01 F4"], request_hex: [answer]}
    async with _pair(hubs, ecu, script) as (tester, scripted):
        await tester.request(b"\x10\x03", timeout_s=WAIT_S)
        if request_hex == "11 01":
            await tester.request(b"\x11\x01", timeout_s=WAIT_S)
        await tester.close()
        heard = [scripted.requests.get_nowait()[0] for _ in range(scripted.requests.qsize())]
        assert heard == ["10 03", request_hex]
        with pytest.raises(UdsTransportError, match="closed"):
            await tester.request(b"\x3e\x00", timeout_s=WAIT_S)


async def test_closing_takes_bounded_time_when_the_ecu_is_gone(hubs: Hubs, ecu: EcuDescription) -> None:
    async with _pair(hubs, _quick(ecu), {"10 03": ["50 03 00 14 00 0A"]}) as (tester, _):
        await tester.request(b"\x10\x03", timeout_s=WAIT_S)
        async with asyncio.timeout(10):
            await tester.close()


async def test_a_lost_response_and_a_dead_bus_are_transport_errors(hubs: Hubs, ecu: EcuDescription) -> None:
    async with _pair(hubs, ecu, {}) as (tester, scripted):
        task = asyncio.create_task(tester.request(b"\x22\xf1\x90", timeout_s=WAIT_S))
        await scripted.next_request()
        raw = hubs[1]
        for data in ("10 14 62 F1 90 57 56 57", "22 01 02 03 04 05 06 07"):
            raw.send(can.Message(arbitration_id=0x7E8, is_extended_id=False, data=bytes.fromhex(data)))
        with pytest.raises(
            UdsTransportError, match=r"the response to .* was lost: consecutive frame 2 came instead of 1"
        ):
            await task
        hubs[0].close()
        with pytest.raises(UdsTransportError, match=r"was not sent: .*closed"):
            await tester.request(b"\x22\xf1\x90", timeout_s=WAIT_S)


@pytest.mark.parametrize("how", ["cut off", "unanswered"])
async def test_closing_leaves_a_session_whose_answer_nobody_saw(hubs: Hubs, ecu: EcuDescription, how: str) -> None:
    async with _pair(hubs, _quick(ecu), {"10 01": ["50 01 00 32 01 F4"]}) as (tester, scripted):
        request = asyncio.create_task(tester.request(b"\x10\x03", timeout_s=WAIT_S))
        assert await scripted.next_request() == ("10 03", False)
        if how == "cut off":
            request.cancel()
        with pytest.raises((asyncio.CancelledError, UdsTimeout)):
            await request
        await tester.close()
        assert await scripted.next_request() == ("10 01", False)
        assert tester.session == 1


async def test_a_refused_session_is_not_entered(hubs: Hubs, ecu: EcuDescription) -> None:
    async with _pair(hubs, ecu, {"10 03": ["7F 10 22"]}) as (tester, _):
        await tester.request(b"\x10\x03", timeout_s=WAIT_S)
        assert tester.session == 1


async def test_frames_of_no_known_type_are_ignored(hubs: Hubs, ecu: EcuDescription) -> None:
    async with _pair(hubs, ecu, {}) as (tester, scripted):
        task = asyncio.create_task(tester.request(b"\x22\xf1\x90", timeout_s=WAIT_S))
        await scripted.next_request()
        for data in ("FF FF FF FF FF FF FF FF", "40 01", "04 62 F1 90 41"):
            hubs[1].send(can.Message(arbitration_id=0x7E8, is_extended_id=False, data=bytes.fromhex(data)))
        assert (await task).response == b"\x62\xf1\x90A"
