"""Faults of the simulated ECU: what a tester meets."""

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ecu_adapters.bus import BusHub
from ecu_adapters.description import EcuDescription, load_ecu
from ecu_adapters.simulation import Fault
from ecu_adapters.simulator import SimulatedEcu, UdsServer, VirtualClock
from ecu_adapters.simulator.faults import MOST, FaultInjector, TooManyFaults
from ecu_adapters.uds.tester import UdsError, UdsTester, UdsTimeout, UdsTransportError
from ecu_adapters.yaml_file import ConfigError

pytestmark = pytest.mark.anyio

WAIT_S = 30.0
VIN = b"\x62\xf1\x90WVWZZZ1KZ6W000001"


class Server:
    def __init__(self, ecu: EcuDescription, *faults: dict[str, Any]) -> None:
        self.clock = VirtualClock()
        self.said: list[tuple[float, str]] = []
        injector = FaultInjector(map(Fault.model_validate, faults))
        self.server = UdsServer(ecu, self.clock, self._hear, faults=injector)
        self.faults = injector

    def _hear(self, pdu: bytes) -> None:
        self.said.append((round(self.clock.now(), 3), pdu.hex(" ").upper()))

    def ask(self, request: str, wait_s: float = 0) -> list[str]:
        before = len(self.said)
        self.server.receive(bytes.fromhex(request))
        self.clock.advance(wait_s)
        return [answer for _, answer in self.said[before:]]


async def test_a_forced_refusal_strikes_as_often_as_asked(ecu: EcuDescription) -> None:
    server = Server(ecu, {"kind": "nrc", "nrc": 0x22, "service": 0x22, "times": 2})
    assert [server.ask(request) for request in ("22 02 01", "3E 00", "22 02 01", "22 02 01")] == [
        ["7F 22 22"],
        ["7E 00"],
        ["7F 22 22"],
        ["62 02 01 03"],
    ]


async def test_spoilt_answers(ecu: EcuDescription) -> None:
    for fault, answer in (
        ({"kind": "no_answer"}, []),
        ({"kind": "garbage", "data": "0102"}, ["01 02"]),
        ({"kind": "other_service"}, ["63 02 01 03"]),
        ({"kind": "truncated", "length": 2}, ["62 02"]),
    ):
        server = Server(ecu, fault)
        assert server.ask("22 02 01") == answer
        server.faults.clear()
        assert server.ask("22 02 01") == ["62 02 01 03"]


async def test_without_an_answer_the_service_is_done_all_the_same(ecu: EcuDescription) -> None:
    server = Server(ecu, {"kind": "no_answer", "service": 0x10})
    assert server.ask("10 03") == []
    assert server.server.state.session == 3


async def test_pending_n_times_and_then_the_answer(ecu: EcuDescription) -> None:
    server = Server(ecu, {"kind": "pending", "count": 3, "times": 1})
    assert server.ask("22 02 01", 10) == ["7F 22 78"] * 3 + ["62 02 01 03"]
    assert server.ask("22 02 01") == ["62 02 01 03"]
    times = [at for at, answer in server.said if answer == "7F 22 78"]
    assert max(after - before for before, after in pairwise(times)) <= 0.5


async def test_pending_for_ever_until_somebody_relents(ecu: EcuDescription) -> None:
    server = Server(ecu, {"kind": "pending"})
    assert set(server.ask("22 02 01", 100)) == {"7F 22 78"}
    server.faults.clear()
    server.server.relent()
    assert server.said[-1][1] == "62 02 01 03"
    assert server.ask("3E 00") == ["7E 00"]


async def test_a_slow_answer_comes_without_a_word_before(ecu: EcuDescription) -> None:
    server = Server(ecu, {"kind": "slow", "delay_ms": 700})
    assert server.ask("22 02 01", 0.69) == []
    server.clock.advance(0.02)
    assert [answer for _, answer in server.said] == ["62 02 01 03"]


async def test_faults_are_bounded_and_cleared_one_by_one() -> None:
    injector = FaultInjector()
    first = injector.inject(Fault(kind="no_answer"))
    for _ in range(MOST - 1):
        injector.inject(Fault(kind="garbage"))
    with pytest.raises(TooManyFaults, match="100 faults are in force"):
        injector.inject(Fault(kind="garbage"))
    assert injector.clear(first) == 1
    assert injector.clear(first) == 0
    assert injector.clear() == MOST - 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{kind: nrcc}", "kind"),
        ("{kind: drop_frame, service: 0x22}", "frames do not know their service"),
        ("{kind: fc_wait, times: 2}", "until cleared"),
        ("{kind: nrc, nrc: 0}", "greater than or equal to 1"),
    ],
)
async def test_faults_in_a_description_are_checked(write: Callable[[str], Path], text: str, message: str) -> None:
    head = "name: ECM\naddressing: {request_id: 1, response_id: 2}\n"
    with pytest.raises(ConfigError, match=message):
        load_ecu(write(f"{head}simulation: {{faults: [{text}]}}\n"))


@pytest.fixture
async def simulated(hubs: tuple[BusHub, BusHub], ecu: EcuDescription) -> AsyncIterator[SimulatedEcu]:
    simulated = SimulatedEcu(ecu, hubs[1])
    await simulated.start()
    yield simulated
    await simulated.stop()


@pytest.fixture
async def tester(hubs: tuple[BusHub, BusHub], ecu: EcuDescription) -> AsyncIterator[UdsTester]:
    tester = UdsTester(hubs[0], ecu)
    yield tester
    await tester.close()


async def read(tester: UdsTester, request: str = "22 F1 90") -> bytes | None:
    return (await tester.request(bytes.fromhex(request), timeout_s=WAIT_S)).response


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"kind": "drop_frame", "frame": 1}, "frame 2 came instead of 1"),
        ({"kind": "wrong_sequence", "frame": 2}, "frame 3 came instead of 2"),
        ({"kind": "drop_frame", "frame": 2}, "no consecutive frame within 1000 ms .* after 13 of 20 bytes"),
    ],
)
async def test_frames_go_wrong_on_the_way_to_the_tester(
    simulated: SimulatedEcu, tester: UdsTester, fault: dict[str, Any], message: str
) -> None:
    simulated.faults.inject(Fault.model_validate({**fault, "times": 1}))
    with pytest.raises(UdsError, match=message):
        await read(tester)
    assert await read(tester) == VIN


async def test_a_delayed_frame_is_late_but_comes(simulated: SimulatedEcu, tester: UdsTester) -> None:
    simulated.faults.inject(Fault(kind="delay_frame", frame=2, delay_ms=100, times=1))
    exchange = await tester.request(bytes.fromhex("22 F1 90"), timeout_s=WAIT_S)
    assert exchange.response == VIN
    assert exchange.elapsed_s >= 0.09


async def test_a_single_frame_can_be_dropped(simulated: SimulatedEcu, tester: UdsTester) -> None:
    simulated.faults.inject(Fault(kind="drop_frame", frame=0, times=1))
    with pytest.raises(UdsTimeout):
        await read(tester, "22 02 01")
    assert await read(tester, "22 02 01") == b"\x62\x02\x01\x03"


LONG = "22" + "F190" * 10


@pytest.mark.parametrize("fault", [{"kind": "fc_overflow"}, {"kind": "fc_none"}, {"kind": "fc_wait"}])
async def test_flow_control_that_stops_the_tester(
    simulated: SimulatedEcu, tester: UdsTester, fault: dict[str, Any]
) -> None:
    simulated.faults.inject(Fault.model_validate(fault))
    with pytest.raises(UdsTransportError):
        await read(tester, LONG)
    simulated.faults.clear()
    assert await read(tester, LONG) is not None


async def test_flow_control_that_slows_the_tester(simulated: SimulatedEcu, tester: UdsTester) -> None:
    simulated.faults.inject(Fault(kind="fc_pace", block_size=1, stmin=20))
    exchange = await tester.request(bytes.fromhex(LONG), timeout_s=WAIT_S)
    assert exchange.response is not None
    simulated.faults.inject(Fault(kind="fc_wait", count=2))
    assert await read(tester, LONG) is not None


async def test_a_frame_that_the_ecu_does_not_hear(simulated: SimulatedEcu, tester: UdsTester) -> None:
    simulated.faults.inject(Fault(kind="lose_frame", frame=1, times=1))
    with pytest.raises(UdsError):
        await read(tester, LONG)
    await asyncio.sleep(0)
    assert await read(tester, "22 02 01") == b"\x62\x02\x01\x03"
