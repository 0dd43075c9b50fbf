"""Twenty simulated ECUs on one bus: each behaves as it does alone, all at once, and none hears another's requests."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from ecu_adapters.bus import BusHub, CanConfig
from ecu_adapters.description import EcuDescription, load_ecu
from ecu_adapters.simulator import SimulatedEcu
from ecu_adapters.uds import functional
from ecu_adapters.uds.services import Outcome
from ecu_adapters.uds.tester import UdsTester
from tests.unit.ecu_adapters.full_ecu import FULL

pytestmark = pytest.mark.anyio

ECUS = 20
WAIT_S = 30.0
KEY = 0xA5A5A5A5
CODE = "<code>"

WALK = (
    # Sessions, and refusals of every kind.
    "22 F190", "22 F190 0200", "22 0400", "22", "22 F1", "22 1234", "BA", "10", "10 05", "10 01 00", "3E 01", "3E 00",
    "27 01", "2E 0200 0320", "31 01 FF00", "36 01 00", "37", "10 02", "10 03",
    # The extended session: written values, trouble codes, control.
    "2E 0200 0320", "22 0200", "2E 0200 FFFF", "2E F198 313233343536", "22 0300", "27 02 00000000", "27 01", "<key>",
    "27 01", f"2E F198 {CODE}", "22 F198", "22 0300", "19 02 FF", "19 04 030100 01", "19 06 030100 01", "19 02",
    "85 02", "85 01", "28 03 01", "28 00 01", "2F 0500 03 32", "22 0500", "2F 0500 00", "14 FFFFFF", "19 02 08",
    "2C 01 F301 F190 01 04", "22 F301", "23 22 4000 0004", "3D 22 4000 0002 CAFE", "23 22 4000 0004", "24 0200",
    # The programming session: a download, blocks in a wrong order, the end.
    "10 02", "27 01", "<key>", "31 01 FF00 00002000 00000100", "34 00 22 2000 0010", "36 02 00",
    "36 01 000102030405060708090A0B0C0D0E0F", "36 01 000102030405060708090A0B0C0D0E0F", "37", "23 22 2000 0010",
    "11 01",
)  # fmt: skip
"""<key> answers the seed before, <code> is the ECU's own."""

_numbers = count()


@dataclass
class Network:
    hub: BusHub
    ecus: list[SimulatedEcu]
    testers: list[UdsTester]


Build = Callable[[int], Awaitable[Network]]


@pytest.fixture
async def network(write: Callable[[str], Path]) -> AsyncIterator[Build]:
    """Puts so many ECUs on a new bus, as an agent does: nodes of the tester's own connection."""
    async with AsyncExitStack() as stack:

        async def build(ecus: int) -> Network:
            config = CanConfig(interface="virtual", channel=f"twenty-{next(_numbers)}")
            hub = stack.enter_context(BusHub.open("powertrain", config))
            found = Network(hub, [], [])
            for number in range(ecus):
                ecu = description(write, number)
                simulated = SimulatedEcu(ecu, hub.node(ecu.name))
                await simulated.start()
                stack.push_async_callback(simulated.stop)
                found.ecus.append(simulated)
                found.testers.append(UdsTester(hub, ecu))
                stack.push_async_callback(found.testers[-1].close)
            return found

        yield build


def description(write: Callable[[str], Path], number: int) -> EcuDescription:
    """The ECU that has every service, under a name, addresses and a VIN of its own."""
    head = f"name: ECU{number}\naddressing: {{request_id: {0x600 + number}, response_id: {0x680 + number}, "
    text = FULL.replace("name: ECM\naddressing: {request_id: 0x7E0, response_id: 0x7E8, ", head)
    text = text.replace("timing: {", "timing: {transit_ms: 20000, s3_ms: 600000, s3_client_ms: 500000, ")
    return load_ecu(write(text.replace("WVWZZZ1KZ6W000001", vin(number))))


def vin(number: int) -> str:
    return f"WVWZZZ1KZ6W{number:06}"


async def walk(tester: UdsTester, number: int) -> list[str]:
    """The answers in hexadecimal, what differs between ECUs and runs made alike."""
    said, seed = [], b""
    code = f"{number:06}".encode().hex()
    for step in WALK:
        request = bytes.fromhex(step.replace(CODE, code)) if step != "<key>" else _key(seed)
        response = (await tester.request(request, timeout_s=WAIT_S)).response
        assert response is not None, step
        if response[:1] == b"\x67" and len(response) > 2 and any(response[2:]):
            seed, response = response[2:], response[:2]
        said.append(response.hex().replace(code, CODE).replace(vin(number).encode().hex(), "<vin>"))
    return said


def _key(seed: bytes) -> bytes:
    return b"\x27\x02" + (int.from_bytes(seed, "big") ^ KEY).to_bytes(4, "big")


def responses(answers: Mapping[str, functional.Answer]) -> dict[str, object]:
    """Of those that have answered."""
    return {name: answer.result for name, answer in answers.items() if isinstance(answer, Outcome)}


async def test_twenty_behave_as_one_does(network: Build) -> None:
    alone = await network(1)
    expected = await walk(alone.testers[0], 0)
    answered = dict(zip(WALK, expected, strict=True))
    assert answered["22 F198"] == f"62f198{CODE}", "the walk gets to where it wants"
    assert answered["23 22 2000 0010"] == "63000102030405060708090a0b0c0d0e0f"
    together = await network(ECUS)
    said = await asyncio.gather(*(walk(tester, number) for number, tester in enumerate(together.testers)))
    for number, one in enumerate(said):
        assert one == expected, f"ECU{number}"
    for ecu in together.ecus:
        assert ecu.server.stats.requests == len(WALK), "it heard its own requests and no others"


async def test_a_functional_request_reaches_all_and_is_answered_by_all(network: Build) -> None:
    together = await network(ECUS)
    answers = await functional.request(together.testers, b"\x22\xf1\x90", timeout_s=WAIT_S)
    assert responses(answers) == {f"ECU{number}": b"\x62\xf1\x90" + vin(number).encode() for number in range(ECUS)}
    entered = await functional.request(together.testers, b"\x10\x03", timeout_s=WAIT_S)
    assert len(responses(entered)) == ECUS
    assert {ecu.server.state.session for ecu in together.ecus} == {3}


async def test_the_fault_of_one_is_nobody_elses(network: Build) -> None:
    together = await network(ECUS)
    together.ecus[7].power.set_voltage("kl30", 0)
    others = [tester for number, tester in enumerate(together.testers) if number != 7]
    answers = await functional.request(others, b"\x22\xf1\x90", timeout_s=WAIT_S)
    assert len(responses(answers)) == ECUS - 1
    assert together.ecus[7].server.stats.requests == 0
