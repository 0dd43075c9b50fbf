"""Several ECUs on one bus: functional requests collect every answer, physical ones never meet another's."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import pytest

from ecu_adapters.bus import BusHub
from ecu_adapters.description import EcuDescription
from ecu_adapters.isotp import IsoTpAddress, IsoTpEndpoint
from ecu_adapters.uds import functional, services
from ecu_adapters.uds.services import NegativeResponse, Outcome, UdsInvalid
from ecu_adapters.uds.tester import UdsError, UdsTester, UdsTimeout, UdsUnexpected

pytestmark = pytest.mark.anyio

Hubs = tuple[BusHub, BusHub]
Step = bytes | float
Script = Callable[[bytes], list[Step]]
WAIT_S = 30.0


def _ecu(index: int, **dids: Mapping[str, object]) -> EcuDescription:
    return EcuDescription.model_validate(
        {
            "name": f"ECU{index}",
            "addressing": {"request_id": 0x700 + index, "response_id": 0x780 + index, "functional_id": 0x7DF},
            "timing": {"p2_ms": 50, "p2_star_ms": 500, "transit_ms": 250},
            "dids": dids or {"Name": {"did": 0xF190, "type": "ascii", "length": 20}},
        }
    )


class Peer:
    """An ECU that answers with the steps of its script: bytes, and seconds to wait."""

    def __init__(self, hub: BusHub, ecu: EcuDescription, script: Script) -> None:
        self.requests: list[tuple[bytes, bool]] = []
        self.heard: asyncio.Queue[bytes] = asyncio.Queue()
        self._script = script
        self._tasks: set[asyncio.Task[None]] = set()
        self._endpoint = IsoTpEndpoint(hub, IsoTpAddress.ecu(ecu.addressing), ecu.isotp, self._hear)

    def _hear(self, pdu: bytes, broadcast: bool) -> None:
        self.requests.append((pdu, broadcast))
        self.heard.put_nowait(pdu)
        task = asyncio.get_running_loop().create_task(self._answer(self._script(pdu)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, steps: list[Step]) -> None:
        for step in steps:
            if isinstance(step, bytes):
                await self._endpoint.send(step)
            else:
                await asyncio.sleep(step)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._endpoint.close()


@asynccontextmanager
async def _bus(
    hubs: Hubs, *scripts: Script, ecus: list[EcuDescription] | None = None
) -> AsyncIterator[tuple[list[UdsTester], list[Peer]]]:
    ecus = ecus or [_ecu(index) for index in range(len(scripts))]
    peers = [Peer(hubs[1], ecu, script) for ecu, script in zip(ecus, scripts, strict=True)]
    testers = [UdsTester(hubs[0], ecu) for ecu in ecus]
    try:
        yield testers, peers
    finally:
        for tester in testers:
            tester.session = 1
            await tester.close()
        for peer in peers:
            peer.close()


def _says(*steps: str | float) -> Script:
    return lambda _pdu: [bytes.fromhex(step) if isinstance(step, str) else step for step in steps]


async def test_every_answer_is_collected(hubs: Hubs) -> None:
    name = "62 F1 90" + b"a name of 20 letters".hex()
    async with _bus(
        hubs,
        _says(name),
        _says("7F 22 22"),
        _says("7F 22 78", 0.4, "62 F1 90 41"),
        _says(),
        _says("7F 22"),
        _says("7F 22 78"),
        _says("62 99 99 00", "50 03", "62 F1 90 42"),
    ) as (testers, peers):
        answers = await functional.request(testers, b"\x22\xf1\x90", timeout_s=WAIT_S)
        assert [peer.requests for peer in peers] == [[(b"\x22\xf1\x90", True)]] * 7
    shown = {name: answer.result if isinstance(answer, Outcome) else answer for name, answer in answers.items()}
    assert shown["ECU0"] == bytes.fromhex(name)
    assert isinstance(shown["ECU1"], NegativeResponse)
    assert shown["ECU1"].nrc == 0x22
    assert shown["ECU2"] == b"\x62\xf1\x90A"
    assert shown["ECU3"] is None
    assert isinstance(shown["ECU4"], UdsUnexpected)
    assert isinstance(shown["ECU5"], UdsTimeout)
    assert shown["ECU6"] == b"\x62\xf1\x90B"


async def test_a_service_by_name_is_decoded_for_each_ecu(hubs: Hubs) -> None:
    number = {"did": 0xF190, "type": "uint", "length": 2}
    ecus = [_ecu(0, Name={"did": 0xF190, "type": "ascii", "length": 2}), _ecu(1, Name=number), _ecu(2, Other=number)]
    async with _bus(hubs, *[_says("62 F1 90 41 42")] * 3, ecus=ecus) as (testers, _):
        answers = await functional.call(testers, "read", {"did": "Name"}, timeout_s=WAIT_S)
    results = {name: answer.result for name, answer in answers.items() if isinstance(answer, Outcome)}
    assert results == {"ECU0": "AB", "ECU1": 0x4142, "ECU2": b"\x62\xf1\x90AB"}


@pytest.mark.parametrize(
    ("service", "arguments", "message"),
    [
        ("read", {"did": "Mame"}, "unknown data identifier 'Mame' of ECU0; did you mean Name"),
        ("raed", {}, "did you mean read"),
        ("unlock", {"level": 1}, "unlock is not one exchange"),
        ("events", {}, "events is not one exchange"),
        ("read", {"did": "Name"}, r"another request for each ECU: 22 F1 90 for ECU0, 22 00 01 for ECU1"),
    ],
)
async def test_requests_that_cannot_be_functional(
    hubs: Hubs, service: str, arguments: dict[str, str | int], message: str
) -> None:
    ecus = [_ecu(0), _ecu(1, Name={"did": 1, "type": "uint", "length": 1})]
    async with _bus(hubs, _says(), _says(), ecus=ecus) as (testers, peers):
        with pytest.raises(UdsInvalid, match=message):
            await functional.call(testers, service, {**arguments}, timeout_s=WAIT_S)
        assert [peer.requests for peer in peers] == [[], []]


async def test_a_request_longer_than_a_frame_is_refused(hubs: Hubs) -> None:
    async with _bus(hubs, _says()) as (testers, peers):
        with pytest.raises(UdsError, match="functional"):
            await functional.request(testers, bytes((0x2E, 0xF1, 0x90)) + bytes(20), timeout_s=WAIT_S)
        assert peers[0].requests == []


async def test_a_functional_request_waits_for_physical_ones(hubs: Hubs) -> None:
    def script(pdu: bytes) -> list[Step]:
        return [0.1, b"\x71\x01\x02\x03"] if pdu[0] == 0x31 else [b"\x62\xf1\x90A"]

    async with _bus(hubs, script, _says("62 F1 90 42")) as (testers, peers):
        physical = asyncio.create_task(testers[0].request(b"\x31\x01\x02\x03", timeout_s=WAIT_S))
        await asyncio.wait_for(peers[0].heard.get(), WAIT_S)
        answers = await functional.request(testers, b"\x22\xf1\x90", timeout_s=WAIT_S)
        assert physical.done()
        assert (await physical).response == b"\x71\x01\x02\x03"
        assert [answer.result for answer in answers.values() if isinstance(answer, Outcome)] == [
            b"\x62\xf1\x90A",
            b"\x62\xf1\x90B",
        ]
        await testers[1].take_turn(WAIT_S)
        with pytest.raises(UdsTimeout, match="ECU1 was busy with other requests"):
            await functional.request(testers, b"\x22\xf1\x90", timeout_s=0.05)
        testers[1].end_turn()
        # Nobody's turn was lost on the way.
        assert (await testers[0].request(b"\x22\xf1\x90", timeout_s=WAIT_S)).response == b"\x62\xf1\x90A"


async def test_a_functional_session_is_kept_for_every_ecu_that_took_it(hubs: Hubs) -> None:
    async with _bus(hubs, _says("50 03 00 32 01 F4"), _says("7F 10 22")) as (testers, _):
        await functional.call(testers, "session", {"session": "extended"}, timeout_s=WAIT_S)
        assert [tester.session for tester in testers] == [3, 1]


async def test_five_ecus_asked_at_once_never_meet_anothers_answer(hubs: Hubs) -> None:
    """Short and long answers, late ones and 0x78, mixed with functional requests."""
    turns = itertools.count()

    def script(index: int) -> Script:
        def answer(pdu: bytes) -> list[Step]:
            if pdu == b"\x3e\x00":
                return [bytes((0x7E, 0x00))]
            text = f"{index}".encode() * (20 if pdu[2] % 2 else 1)
            steps: list[Step] = [b"\x7f\x22\x78", 0.005] if next(turns) % 3 == 0 else []
            return [*steps, b"\x62" + pdu[1:3] + text]

        return answer

    ecus = [
        _ecu(
            index,
            **{
                f"D{number}": {"did": 0xF100 + number, "type": "ascii", "length": 20 if number % 2 else 1}
                for number in range(4)
            },
        )
        for index in range(5)
    ]
    async with _bus(hubs, *(script(index) for index in range(5)), ecus=ecus) as (testers, _):

        async def read(index: int) -> None:
            for turn in range(40):
                outcome = await services.call(testers[index], "read", {"did": f"D{turn % 4}"}, timeout_s=WAIT_S)
                assert outcome.result == f"{index}" * (20 if turn % 2 else 1)

        async def everybody() -> None:
            for _ in range(10):
                answers = await functional.call(testers, "tester_present", {}, timeout_s=WAIT_S)
                assert all(isinstance(answer, Outcome) for answer in answers.values())

        await asyncio.gather(*(read(index) for index in range(5)), *(read(index) for index in range(5)), everybody())
        assert [tester.stats.skipped for tester in testers] == [0] * 5
