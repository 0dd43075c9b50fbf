"""Tester and simulated ECU on one virtual bus: services by name, functional requests, cyclic messages."""

import asyncio
import errno
import queue
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import can
import isotp
import pytest
import udsoncan
from udsoncan.client import Client
from udsoncan.connections import PythonIsoTpConnection

from ecu_adapters.bus import BusHub, CanConfig
from ecu_adapters.dbc import Database, DatabaseError
from ecu_adapters.description import EcuDescription, load_ecu
from ecu_adapters.doip import Gateways
from ecu_adapters.simulation import CyclicMessage
from ecu_adapters.simulator import SimulatedEcu
from ecu_adapters.simulator.clock import VirtualClock
from ecu_adapters.simulator.cyclic import CyclicSender
from ecu_adapters.uds import services
from ecu_adapters.uds.services import NegativeResponse, Plain, UdsInvalid
from ecu_adapters.uds.tester import UdsTester, UdsUnexpected
from tests.running_time import running_time
from tests.unit.ecu_adapters.doip_peer import entity_with, over_doip

pytestmark = pytest.mark.anyio

Hubs = tuple[BusHub, BusHub]
WAIT_S = 30.0
REPOSITORY = Path(__file__).parents[3]
POWERTRAIN = Database.load(REPOSITORY / "dbc" / "powertrain.dbc")

Call = Callable[..., Any]


both_ways = pytest.mark.parametrize("way", ["isotp", "doip"], indirect=True)


@pytest.fixture
def way(request: pytest.FixtureRequest) -> str:
    """How the tester reaches the ECU."""
    return str(getattr(request, "param", "isotp"))


@pytest.fixture
async def simulated(hubs: Hubs, ecu: EcuDescription, way: str) -> AsyncIterator[SimulatedEcu]:
    if way == "doip":
        async with entity_with(over_doip(ecu)) as (_, _, (behind,)):
            yield behind
        return
    simulated = SimulatedEcu(ecu, hubs[1])
    await simulated.start()
    yield simulated
    await simulated.stop()


@pytest.fixture
async def tester(hubs: Hubs, simulated: SimulatedEcu, way: str) -> AsyncIterator[UdsTester]:
    tester = UdsTester(hubs[0] if way == "isotp" else Gateways(), simulated.ecu)
    yield tester
    await tester.close()


@pytest.fixture
def call(tester: UdsTester) -> Call:
    async def run(service: str, **arguments: Plain) -> Plain:
        return (await services.call(tester, service, arguments, timeout_s=WAIT_S)).result

    return run


@both_ways
async def test_values_are_read_by_name_and_number(call: Call) -> None:
    assert await call("read", did="VIN") == "WVWZZZ1KZ6W000001"
    assert await call("read", did=0xF190) == "WVWZZZ1KZ6W000001"
    assert await call("read", did="IdleSpeed") == 800
    assert await call("read", did="Gear") == "Park"
    assert await call("read", did="Block") == bytes(600)
    assert await call("read", did=["Gear", "VIN", 0x0200]) == {
        "Gear": "Park",
        "VIN": "WVWZZZ1KZ6W000001",
        "IdleSpeed": 800,
    }


@both_ways
async def test_the_outcome_carries_the_pdus(tester: UdsTester) -> None:
    outcome = await services.call(tester, "read", {"did": "Gear"}, timeout_s=WAIT_S)
    assert outcome.exchange is not None
    assert (outcome.exchange.request, outcome.exchange.response) == (b"\x22\x02\x01", b"\x62\x02\x01\x03")


@both_ways
async def test_unlocking_opens_what_was_refused(call: Call) -> None:
    assert await call("session", session="extended") == {"session": "extended", "p2_ms": 50, "p2_star_ms": 500}
    with pytest.raises(NegativeResponse) as caught:
        await call("write", did="RepairShopCode", value="xyz")
    error = caught.value
    assert str(error) == "WriteDataByIdentifier (0x2E) refused: securityAccessDenied (NRC 0x33)"
    assert (error.service, error.nrc, error.service_name, error.nrc_name) == (
        0x2E,
        0x33,
        "WriteDataByIdentifier",
        "securityAccessDenied",
    )
    assert error.exchange is not None
    assert error.exchange.response == b"\x7f\x2e\x33"
    await call("unlock", level=1)
    await call("unlock", level=1)
    await call("write", did="RepairShopCode", value="xyz")
    assert await call("read", did="RepairShopCode") == "xyz"
    assert await call("read", did="Secret") == bytes.fromhex("DEADBEEF")


@both_ways
async def test_keys_can_be_computed_by_the_caller(call: Call, ecu: EcuDescription) -> None:
    await call("session", session=3)
    seed = await call("seed", level=3)
    assert len(seed) == 16
    await call("key", level=3, key=ecu.security[3].key_for(seed, 3))
    assert await call("seed", level=3) == bytes(16)
    with pytest.raises(NegativeResponse, match="invalidKey"):
        await call("seed", level=1)
        await call("key", level=1, key=b"\0\0\0\0")


@both_ways
async def test_trouble_codes(call: Call) -> None:
    found = await call("read_dtcs")
    assert [(dtc["code"], dtc["dtc"], dtc["status"]) for dtc in found] == [
        ("P0301", 0x030100, 0x2F),
        ("U0100", 0xC10000, 0x28),
    ]
    assert found[1]["confirmed"]
    assert not found[1]["test_failed"]
    assert [dtc["code"] for dtc in await call("read_dtcs", mask=0x01)] == ["P0301"]
    assert await call("count_dtcs") == 2
    assert [dtc["code"] for dtc in await call("supported_dtcs")] == ["P0301", "U0100", "P0420"]
    await call("clear_dtcs", group="U0100")
    assert await call("count_dtcs", mask=255.0) == 1
    await call("clear_dtcs")
    assert await call("read_dtcs") == []


@both_ways
async def test_a_reset_leads_to_the_default_session(call: Call, tester: UdsTester, simulated: SimulatedEcu) -> None:
    await call("session", session="extended")
    await call("tester_present")
    await call("reset", kind="hard")
    assert (tester.session, simulated.server.state.session) == (1, 1)
    assert simulated.server.booting


@pytest.mark.parametrize(
    ("service", "arguments", "message"),
    [
        ("raed", {}, r"unknown service 'raed'; did you mean read\?"),
        ("read", {}, "read needs the argument 'did'"),
        ("read", {"dod": "VIN"}, r"read has no argument 'dod'; did you mean did\?"),
        ("read", {"did": "VINN"}, r"unknown data identifier 'VINN' of ECM; did you mean VIN\?"),
        ("read", {"did": 0x10000}, "did is 65536; it must be an integer from 0 to 0xFFFF"),
        ("read", {"did": 1.5}, "did is 1.5"),
        ("read", {"did": []}, "empty list"),
        ("read", {"did": ["VIN", 0x1234]}, "0x1234 is not in the description of ECM; read it alone"),
        ("write", {"did": "IdleSpeed", "value": 5000}, r"value of IdleSpeed: 5000 is out of range 600 \.\. 1200"),
        ("write", {"did": "IdleSpeed", "value": [1]}, "expected a number, not"),
        ("write", {"did": 0x1234, "value": 1}, "value of 0x1234, which ECM does not describe, must be bytes"),
        ("session", {"session": "extnded"}, r"unknown session 'extnded'; did you mean extended\?"),
        ("reset", {"kind": "softly"}, r"unknown kind 'softly'; did you mean soft\?"),
        ("unlock", {"level": 2}, "it must be odd"),
        ("unlock", {"level": 5}, r"security level 5 of ECM is not described \(levels: 1, 3\)"),
        ("key", {"level": 1, "key": "abc"}, "key must be bytes"),
        ("read_dtcs", {"mask": 256}, "mask is 256"),
        ("clear_dtcs", {"group": "X"}, "no trouble code"),
        ("clear_dtcs", {"group": True}, "group is True"),
    ],
)
async def test_calls_that_cannot_be_say_what_would_be_right(
    call: Call, tester: UdsTester, service: str, arguments: dict[str, Plain], message: str
) -> None:
    with pytest.raises(UdsInvalid, match=message):
        await call(service, **arguments)
    assert tester.stats.requests == 0


async def test_undescribed_identifiers_are_raw_bytes(hubs: Hubs, ecu: EcuDescription, simulated: SimulatedEcu) -> None:
    poor = ecu.model_copy(update={"dids": {}})
    tester = UdsTester(hubs[0], poor)
    outcome = await services.call(tester, "read", {"did": 0x0201}, timeout_s=WAIT_S)
    assert outcome.result == b"\x03"
    await services.call(tester, "session", {"session": 3}, timeout_s=WAIT_S)
    await services.call(tester, "write", {"did": 0x0200, "value": b"\x03\x00"}, timeout_s=WAIT_S)
    assert simulated.server.state.data.read(0x0200) == b"\x03\x00"
    await tester.close()


async def test_a_description_that_does_not_match_the_ecu_is_noticed(
    hubs: Hubs, ecu: EcuDescription, simulated: SimulatedEcu
) -> None:
    vin = ecu.dids["VIN"].model_copy(update={"length": 10})
    tester = UdsTester(hubs[0], ecu.model_copy(update={"dids": {**ecu.dids, "VIN": vin}}))
    with pytest.raises(UdsUnexpected, match=r"VIN of ECM has 17 bytes .*; its description says 10"):
        await services.call(tester, "read", {"did": "VIN"}, timeout_s=WAIT_S)
    with pytest.raises(UdsUnexpected, match="does not add up"):
        await services.call(tester, "read", {"did": ["VIN", "Gear"]}, timeout_s=WAIT_S)
    await tester.close()


async def test_a_functional_request_reaches_every_ecu_and_who_must_be_silent_is(
    hubs: Hubs, ecu: EcuDescription, simulated: SimulatedEcu
) -> None:
    addressing = ecu.addressing.model_copy(update={"request_id": 0x7E1, "response_id": 0x7E9})
    other = SimulatedEcu(ecu.model_copy(update={"name": "TCM", "addressing": addressing, "dids": {}}), hubs[1])
    await other.start()
    answers: queue.Queue[tuple[int, bytes]] = queue.Queue()
    hubs[0].subscribe(lambda f: answers.put((f.arbitration_id, bytes(f.data[1 : 1 + f.data[0]]))), ids={0x7E8, 0x7E9})

    def ask(request: str) -> None:
        data = bytes.fromhex(request)
        hubs[0].send(can.Message(arbitration_id=0x7DF, is_extended_id=False, data=bytes((len(data),)) + data))

    async def heard(count: int) -> set[tuple[int, bytes]]:
        return {await asyncio.to_thread(answers.get, timeout=WAIT_S) for _ in range(count)}

    ask("3E 00")
    assert await heard(2) == {(0x7E8, b"\x7e\x00"), (0x7E9, b"\x7e\x00")}
    ask("22 02 01")
    assert await heard(1) == {(0x7E8, b"\x62\x02\x01\x03")}
    ask("10 83")
    ask("27 01")
    assert {identifier for identifier, _ in await heard(2)} == {0x7E8, 0x7E9}
    assert (simulated.server.state.session, other.server.state.session) == (3, 3)
    assert answers.empty()
    await other.stop()


async def test_an_independent_client_agrees(hubs: Hubs, simulated: SimulatedEcu) -> None:
    """udsoncan's own client over can-isotp's own stack, which share nothing with our tester but the wire."""
    bus = can.Bus(interface="virtual", channel=hubs[0].config.channel)
    stack = isotp.CanStack(bus, address=isotp.Address(txid=0x7E0, rxid=0x7E8))
    config: dict[str, Any] = {
        "data_identifiers": {0xF190: udsoncan.AsciiCodec(17), 0x0200: ">H", 0xF198: udsoncan.AsciiCodec(6)},
        "security_algo": lambda level, seed, params: bytes(byte ^ 0xA5 for byte in seed),
        "p2_timeout": WAIT_S,
        "request_timeout": WAIT_S,
    }

    def talk() -> None:
        with Client(PythonIsoTpConnection(stack), config=config) as client:  # type: ignore[arg-type]
            assert client.read_data_by_identifier(0xF190).service_data.values[0xF190] == "WVWZZZ1KZ6W000001"
            client.change_session(3)
            client.unlock_security_access(1)
            client.write_data_by_identifier(0xF198, "abcdef")
            assert client.read_data_by_identifier_first(0xF198) == "abcdef"
            answer = client.get_dtc_by_status_mask(0xFF)
            assert [dtc.id for dtc in answer.service_data.dtcs] == [0x030100, 0xC10000]
            client.clear_dtc()
            client.change_session(3)
            with pytest.raises(udsoncan.exceptions.NegativeResponseException):
                client.read_data_by_identifier(0x0300)

    config["data_identifiers"][0x0300] = ">L"
    try:
        await asyncio.to_thread(talk)
    finally:
        bus.shutdown()


async def test_cyclic_messages_follow_and_fall_silent_while_booting(hubs: Hubs, write: Callable[[str], Path]) -> None:
    ecu = load_ecu(
        write(
            """\
name: ECM
addressing: {request_id: 0x7E0, response_id: 0x7E8}
simulation: {reset_ms: 150}
cyclic:
  - message: EngineStatus
    period_ms: 5
    signals: {EngineSpeed: 800, EngineState: Running}
    follow: {EngineSpeed: {message: EngineControl, signal: TargetSpeed, rate_per_s: 20000}}
  - {message: EngineInfo, signals: {FuelLevel: 40}}
"""
        )
    )
    simulated = SimulatedEcu(ecu, hubs[1], POWERTRAIN)
    frames: asyncio.Queue[can.Message] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def hear(frame: can.Message) -> None:
        loop.call_soon_threadsafe(frames.put_nowait, frame)

    hubs[0].subscribe(hear, ids={0x200, 0x210})
    await simulated.start()

    async def status() -> dict[str, Any]:
        while True:
            decoded = POWERTRAIN.decode(await asyncio.wait_for(frames.get(), WAIT_S))
            if decoded is not None and decoded[0] == "EngineStatus":
                return decoded[1]

    first = await status()
    assert (first["EngineSpeed"], first["EngineState"]) == (800.0, "Running")
    hubs[0].send(POWERTRAIN.encode("EngineControl", {"TargetSpeed": 1500}))
    speeds = [(await status())["EngineSpeed"] for _ in range(60)]
    assert speeds[-1] == 1500.0
    assert max(after - before for before, after in zip([800.0, *speeds], speeds, strict=False)) <= 100.0
    assert simulated.cyclic["EngineInfo"].stats.sent >= 2

    sent = simulated.cyclic["EngineStatus"].stats.sent
    tester = UdsTester(hubs[0], ecu)
    await services.call(tester, "reset", {}, timeout_s=WAIT_S)
    muted = simulated.cyclic["EngineStatus"]
    assert muted.muted
    after_reset = muted.stats.sent
    while muted.muted:
        assert muted.stats.sent == after_reset
        await asyncio.sleep(0.01)
    await status()
    assert muted.stats.sent >= sent
    await tester.close()
    await simulated.stop()
    stopped = muted.stats.sent
    await asyncio.sleep(0.02)
    assert muted.stats.sent == stopped


@pytest.mark.parametrize(
    ("cyclic", "message"),
    [
        ("{message: EngineStatsu}", "unknown message 'EngineStatsu'; did you mean EngineStatus"),
        ("{message: EngineStatus, signals: {EngineSped: 1}}", "did you mean EngineSpeed"),
        ("{message: EngineStatus, signals: {EngineSpeed: 9000}}", r"out of range 0 \.\. 8000"),
        ("{message: EngineControl}", "no cycle time .*; give period_ms"),
        (
            "{message: EngineStatus, follow: {EngineSpeed: {message: EngineControl, signal: Target}}}",
            "EngineControl has no signal 'Target'; did you mean TargetSpeed",
        ),
        (
            "{message: EngineStatus, follow: {EngineState: {message: EngineControl, signal: TargetSpeed}}}",
            "names, no numbers",
        ),
    ],
)
async def test_cyclic_messages_that_do_not_fit_the_database(
    hubs: Hubs, write: Callable[[str], Path], cyclic: str, message: str
) -> None:
    head = "name: ECM\naddressing: {request_id: 1, response_id: 2}\n"
    ecu = load_ecu(write(f"{head}cyclic: [{cyclic}]\n"))
    with pytest.raises(DatabaseError, match=message):
        SimulatedEcu(ecu, hubs[1], POWERTRAIN)
    with pytest.raises(DatabaseError, match=r"has no database \(dbc\)"):
        SimulatedEcu(ecu, hubs[1])


async def test_an_fd_message_needs_an_fd_bus(hubs: Hubs, fd_hubs: Hubs, write: Callable[[str], Path]) -> None:
    chassis = Database.load(REPOSITORY / "dbc" / "chassis_fd.dbc")
    head = "name: ESP\naddressing: {request_id: 1, response_id: 2}\nisotp: {fd: true}\n"
    ecu = load_ecu(write(f"{head}cyclic: [{{message: WheelSpeeds, signals: {{FrontLeft: 50}}}}]\n"))
    with pytest.raises(DatabaseError, match="WheelSpeeds takes CAN FD, but bus 'ecu' is classic"):
        SimulatedEcu(ecu, hubs[1], chassis)
    simulated = SimulatedEcu(ecu, fd_hubs[1], chassis)
    frames: queue.Queue[can.Message] = queue.Queue()
    fd_hubs[0].subscribe(frames.put, ids={0x120})
    await simulated.start()
    frame = await asyncio.to_thread(frames.get, timeout=WAIT_S)
    assert (frame.is_fd, len(frame.data)) == (True, 24)
    tester = UdsTester(fd_hubs[0], ecu)
    assert (await tester.request(b"\x3e\x00", timeout_s=WAIT_S)).response == b"\x7e\x00"
    await tester.close()
    await simulated.stop()


@pytest.mark.parametrize("name", ["ecm", "bcm"])
async def test_the_demo_ecus_run_with_the_demo_database(hubs: Hubs, name: str) -> None:
    ecu = load_ecu(REPOSITORY / "deploy" / "demo" / f"{name}.yaml")
    simulated = SimulatedEcu(ecu, hubs[1], POWERTRAIN)
    await simulated.start()
    tester = UdsTester(hubs[0], ecu)

    async def call(service: str, **arguments: Plain) -> Plain:
        return (await services.call(tester, service, arguments, timeout_s=WAIT_S)).result

    assert await call("read", did="VIN") == "WVWZZZ1KZ6W000001"
    await call("session", session="extended")
    await call("unlock", level=1)
    await call("write", did="RepairShopCode", value="SHOP 42")
    assert await call("read", did="RepairShopCode") == "SHOP 42"
    await call("clear_dtcs")
    assert await call("read_dtcs") == []
    await tester.close()
    await simulated.stop()


async def test_what_is_not_started_has_no_server(hubs: Hubs, ecu: EcuDescription) -> None:
    simulated = SimulatedEcu(ecu, hubs[1])
    with pytest.raises(RuntimeError, match="not started"):
        _ = simulated.server
    await simulated.stop()


async def test_a_bus_that_takes_nothing_does_not_hold_up_the_loop() -> None:
    class Full(can.BusABC):
        def __init__(self) -> None:
            super().__init__(channel="full")
            self.ended = threading.Event()

        def recv(self, timeout: float | None = None) -> can.Message | None:
            self.ended.wait(timeout)
            return None

        def send(self, msg: can.Message, timeout: float | None = None) -> None:
            raise can.CanOperationError("no buffer space", errno.ENOBUFS)

    with BusHub("full", Full(), CanConfig(interface="virtual", channel="full")) as hub:
        sender = CyclicSender("ECM", CyclicMessage(message="EngineStatus", period_ms=2000), POWERTRAIN, hub)
        started = running_time()
        sender.start(VirtualClock())
        assert running_time() - started < 0.5
        assert sender.stats.failed == 1
        sender.stop()
