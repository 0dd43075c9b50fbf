"""The tester over DoIP: against the simulated entity, and against one that does as the test says."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecu_adapters.description import EcuDescription, load_ecu
from ecu_adapters.doip import DoIpEndpoint, Gateways, frames
from ecu_adapters.doip.errors import DiagnosticNack, DoIpError, HeaderNack, RoutingDenied
from ecu_adapters.transport import Fault
from ecu_adapters.uds import functional, services
from ecu_adapters.uds.services import Outcome
from ecu_adapters.uds.tester import UdsError, UdsTester, UdsTimeout, UdsTransportError
from tests.unit.ecu_adapters.conftest import ECU
from tests.unit.ecu_adapters.doip_peer import HOST, TCM, WAIT_S, entity_with, eventually, over_doip

pytestmark = pytest.mark.anyio

Steps = list[str | float | None]
"""Messages in hex without their headers (payload type, payload), raw bytes after ``raw``, seconds, or None: close."""


class ScriptedEntity:
    """Activates routing and answers each diagnostic message by its PDU in hex."""

    def __init__(self, script: dict[str, Steps], *, activation: Steps | None = None) -> None:
        self.script = script
        self.activation: Steps = ["0006 0E80 1001 10 00000000"] if activation is None else activation
        self.heard: list[str] = []
        """PDUs, and whole messages of other types."""
        self.connections = 0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, HOST, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        try:
            while True:
                _, _, kind, length = frames.HEADER.unpack(await reader.readexactly(8))
                payload = await reader.readexactly(length)
                if kind == 0x8001:
                    self.heard.append(payload[4:].hex(" ").upper())
                    target = payload[2:4].hex()
                    steps = self.script.get(self.heard[-1], [f"8002 {target} 0E80 00"])
                elif kind == 0x0005:
                    steps = self.activation
                else:
                    self.heard.append(f"{kind:04X}{payload.hex()}".upper())
                    steps = []
                if not await self._play(writer, steps):
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    @staticmethod
    async def _play(writer: asyncio.StreamWriter, steps: Steps) -> bool:
        for step in steps:
            if step is None:
                return False
            if isinstance(step, float):
                await asyncio.sleep(step)
            elif step.startswith("raw"):
                writer.write(bytes.fromhex(step[3:]))
            else:
                data = bytes.fromhex(step)
                writer.write(frames.encode_raw(2, int.from_bytes(data[:2], "big"), data[2:]))
        return True


ACK = "8002 1001 0E80 00"
VIN = "22 F1 90"


@asynccontextmanager
async def _pair(
    ecu: EcuDescription, script: dict[str, Steps], *, activation: Steps | None = None, **doip: Any
) -> AsyncIterator[tuple[UdsTester, ScriptedEntity]]:
    entity = ScriptedEntity(script, activation=activation)
    await entity.start()
    tester = UdsTester(Gateways(), over_doip(ecu, entity.port, **doip))
    try:
        yield tester, entity
    finally:
        await tester.close()
        await entity.stop()


@asynccontextmanager
async def _simulated(*ecus: EcuDescription) -> AsyncIterator[tuple[list[UdsTester], Any]]:
    async with entity_with(*ecus) as (entity, placed, _):
        gateways = Gateways()
        testers = [UdsTester(gateways, ecu) for ecu in placed]
        try:
            yield testers, entity
        finally:
            for tester in testers:
                await tester.close()


async def _cause(tester: UdsTester, pdu: bytes = b"\x22\xf1\x90") -> Any:
    with pytest.raises(UdsTransportError) as caught:
        await tester.request(pdu, timeout_s=WAIT_S)
    return caught.value.cause


async def test_services_by_name_work_as_over_can(ecu: EcuDescription) -> None:
    async with _simulated(over_doip(ecu)) as ((tester,), _):
        assert (await services.call(tester, "read", {"did": "VIN"}, timeout_s=WAIT_S)).result == "WVWZZZ1KZ6W000001"
        await services.call(tester, "session", {"session": "extended"}, timeout_s=WAIT_S)
        await services.call(tester, "unlock", {"level": 1}, timeout_s=WAIT_S)
        await services.call(tester, "write", {"did": "RepairShopCode", "value": "ABC123"}, timeout_s=WAIT_S)
        assert (await services.call(tester, "read", {"did": "RepairShopCode"}, timeout_s=WAIT_S)).result == "ABC123"


async def test_ecus_behind_one_gateway_share_a_connection_and_no_answers(ecu: EcuDescription) -> None:
    async with _simulated(over_doip(ecu), over_doip(ecu, logical_address=TCM)) as ((ecm, tcm), entity):
        requests = [
            tester.request(pdu, timeout_s=WAIT_S) for tester, pdu in ((ecm, b"\x22\x02\x01"), (tcm, b"\x3e\x00"))
        ]
        first, second = await asyncio.gather(*requests)
        assert (first.response, second.response) == (b"\x62\x02\x01\x03", b"\x7e\x00")
        assert (ecm.stats.skipped, tcm.stats.skipped) == (0, 0)
        assert entity.stats.connections == 1
        await ecm.close()
        assert (await tcm.request(b"\x3e\x00", timeout_s=WAIT_S)).response == b"\x7e\x00"
        await tcm.close()
        await eventually(lambda: not entity.sessions, "the last one closes the connection")


async def test_an_ecu_has_one_tester(ecu: EcuDescription) -> None:
    gateways = Gateways()
    tester = UdsTester(gateways, over_doip(ecu))
    with pytest.raises(ValueError, match=r"0x1001 behind 127\.0\.0\.1:13400 has a tester already"):
        UdsTester(gateways, over_doip(ecu))
    await tester.close()
    await UdsTester(gateways, over_doip(ecu)).close()


async def test_a_functional_request_is_sent_once_and_answered_by_all(ecu: EcuDescription) -> None:
    async with _simulated(over_doip(ecu), over_doip(ecu, logical_address=TCM)) as (testers, _):
        testers[1].ecu = testers[1].ecu.model_copy(update={"name": "TCM"})
        answers = await functional.request(testers, b"\x22\x02\x01", timeout_s=WAIT_S)
        assert {name: answer.result for name, answer in answers.items() if isinstance(answer, Outcome)} == {
            "ECM": b"\x62\x02\x01\x03",
            "TCM": b"\x62\x02\x01\x03",
        }


async def test_response_pending_and_long_pdus(ecu: EcuDescription) -> None:
    behaviour = ecu.simulation.model_copy(update={"service_delay_ms": {0x22: 120}})
    async with _simulated(over_doip(ecu.model_copy(update={"simulation": behaviour}))) as ((tester,), _):
        exchange = await tester.request(b"\x22\x04\x00", timeout_s=WAIT_S)
        assert exchange.response == b"\x62\x04\x00" + bytes(600)
        assert exchange.pending.count == 1
        assert (await tester.request(b"\x3e" + bytes(60_000), timeout_s=WAIT_S)).nrc == 0x13


async def test_tester_present_keeps_the_session_and_closing_ends_it(ecu: EcuDescription) -> None:
    timing = ecu.timing.model_copy(update={"s3_ms": 1500, "s3_client_ms": 100})
    async with entity_with(over_doip(ecu.model_copy(update={"timing": timing}))) as (_, (placed,), (simulated,)):
        tester = UdsTester(Gateways(), placed)
        await tester.request(b"\x10\x03", timeout_s=WAIT_S)
        await eventually(lambda: tester.stats.keep_alives >= 20, "TesterPresent goes on by itself")
        assert simulated.server.state.session == 3
        assert simulated.server.stats.session_timeouts == 0
        await tester.close()
        assert simulated.server.state.session == 1
        assert tester.stats.timeouts == 0


async def test_a_connection_that_the_ecu_closed_is_made_anew(ecu: EcuDescription) -> None:
    script: dict[str, Steps] = {"3E 00": [ACK, "8001 1001 0E80 7E00", None]}
    async with _pair(ecu, script) as (tester, entity):
        for number in (1, 2):
            assert (await tester.request(b"\x3e\x00", timeout_s=WAIT_S)).response == b"\x7e\x00"
            endpoint = tester._endpoint
            assert isinstance(endpoint, DoIpEndpoint)
            gateway = endpoint.gateway
            await eventually(lambda g=gateway, n=number: g.stats.lost == n, "the close was noticed")
        assert entity.connections == 2


async def test_tester_present_makes_a_lost_connection_anew(ecu: EcuDescription) -> None:
    timing = ecu.timing.model_copy(update={"s3_client_ms": 50})
    script: dict[str, Steps] = {"10 03": [ACK, "8001 1001 0E80 5003003201F4", None]}
    async with _pair(ecu.model_copy(update={"timing": timing}), script) as (tester, entity):
        await tester.request(b"\x10\x03", timeout_s=WAIT_S)
        await eventually(lambda: "3E 80" in entity.heard, "TesterPresent came on the second connection")
        assert entity.connections == 2
        entity.script["10 01"] = [ACK, "8001 1001 0E80 5001003201F4"]


async def test_alive_checks_are_answered_while_a_request_waits(ecu: EcuDescription) -> None:
    script: dict[str, Steps] = {VIN: [ACK, "0007", "8001 1001 0E80 62F19041"]}
    async with _pair(ecu, script) as (tester, entity):
        assert (await tester.request(b"\x22\xf1\x90", timeout_s=WAIT_S)).response == b"\x62\xf1\x90A"
        await eventually(lambda: "00080E80" in entity.heard, "the alive check was answered")


async def test_what_is_for_others_is_counted_and_not_taken(ecu: EcuDescription) -> None:
    foreign = ["8001 1002 0E80 62F19042", "8001 1001 0E81 62F19043", "8002 1002 0E80 00", "4004 01"]
    script: dict[str, Steps] = {VIN: [*foreign, ACK, *foreign, "8001 1001 0E80 62F19041"]}
    async with _pair(ecu, script) as (tester, _):
        assert (await tester.request(b"\x22\xf1\x90", timeout_s=WAIT_S)).response == b"\x62\xf1\x90A"
        assert isinstance(tester._endpoint, DoIpEndpoint)
        assert tester._endpoint.gateway.stats.unexpected == 2 * len(foreign)


@pytest.mark.parametrize("code", [0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x99])
async def test_denied_routing_activation_is_typed(ecu: EcuDescription, code: int) -> None:
    async with _pair(ecu, {}, activation=[f"0006 0E80 1001 {code:02X} 00000000", None]) as (tester, entity):
        cause = await _cause(tester)
        assert isinstance(cause, RoutingDenied)
        assert (cause.code, cause.kind) == (code, Fault.REFUSED)
        assert "denied routing activation to tester 0x0E80: " in str(cause)
        assert cause.frame == f"02FD0006000000090E801001{code:02X}00000000"
        entity.activation = ["0006 0E80 1001 10 00000000"]
        with pytest.raises(UdsTimeout):
            await tester.request(b"\x22\xf1\x90", timeout_s=WAIT_S)


async def test_an_activation_that_must_be_confirmed_is_waited_for(ecu: EcuDescription) -> None:
    steps: Steps = ["0006 0E80 1001 11 00000000", 0.05, "0006 0E80 1001 10 00000000"]
    async with _pair(ecu, {VIN: [ACK, "8001 1001 0E80 62F19041"]}, activation=steps) as (tester, _):
        assert (await tester.request(b"\x22\xf1\x90", timeout_s=WAIT_S)).response == b"\x62\xf1\x90A"


@pytest.mark.parametrize("code", [0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x99])
async def test_a_refused_diagnostic_message_is_typed(ecu: EcuDescription, code: int) -> None:
    async with _pair(ecu, {VIN: [f"8003 1001 0E80 {code:02X}"]}) as (tester, _):
        cause = await _cause(tester)
        assert isinstance(cause, DiagnosticNack)
        assert (cause.code, cause.kind) == (code, Fault.REFUSED)
        assert cause.frame == f"02FD80030000000510010E80{code:02X}"


@pytest.mark.parametrize("code", range(5))
async def test_a_refused_header_is_typed(ecu: EcuDescription, code: int) -> None:
    async with _pair(ecu, {VIN: [f"0000 {code:02X}"]}) as (tester, _):
        cause = await _cause(tester)
        assert isinstance(cause, HeaderNack)
        assert (cause.code, cause.kind) == (code, Fault.REFUSED)


async def test_an_unknown_logical_address_is_the_entitys_answer(ecu: EcuDescription) -> None:
    async with entity_with(over_doip(ecu)) as (_, (placed,), _):
        tester = UdsTester(Gateways(), over_doip(ecu, placed.doip.port if placed.doip else 0, logical_address=0x2222))
        with pytest.raises(UdsTransportError, match=r"refused a message to 0x2222: unknown target address \(0x03\)"):
            await tester.request(b"\x3e\x00", timeout_s=WAIT_S)
        await tester.close()


async def test_an_ecu_without_power_is_unreachable_and_the_others_are_not(ecu: EcuDescription) -> None:
    async with entity_with(over_doip(ecu), over_doip(ecu, logical_address=TCM)) as (_, placed, simulated):
        gateways = Gateways()
        ecm, tcm = (UdsTester(gateways, one) for one in placed)
        simulated[0].power.set_voltage("kl30", 0.0)
        cause = await _cause(ecm)
        assert isinstance(cause, DiagnosticNack)
        assert (cause.code, str(cause).endswith("refused a message to 0x1001: target unreachable (0x06)")) == (
            0x06,
            True,
        )
        assert (await tcm.request(b"\x3e\x00", timeout_s=WAIT_S)).response == b"\x7e\x00"
        simulated[0].power.set_voltage("kl30", 13.0)
        await eventually(lambda: not simulated[0].server.booting, "it has booted")
        assert (await ecm.request(b"\x3e\x00", timeout_s=WAIT_S)).response == b"\x7e\x00"
        await ecm.close()
        await tcm.close()


@pytest.mark.parametrize(
    ("steps", "kind", "text"),
    [
        (["raw 02FE800100000005"], Fault.INVALID_FRAME, "sent no DoIP header: 02FE800100000005"),
        ([ACK, "raw 48545450 2F312E31"], Fault.INVALID_FRAME, "sent no DoIP header"),
        ([ACK, "raw 02FD8001 00000004 10010E80"], Fault.INVALID_FRAME, "sent no DoIP header"),
        ([ACK, "raw 02FD8001 00100000"], Fault.OVERFLOW, "sent more than max_pdu allows"),
        ([ACK, None], Fault.CONNECTION, "closed the connection"),
        ([ACK, "raw 02FD8001 00000100 10010E8062F190", None], Fault.CONNECTION, "closed the connection"),
        ([None], Fault.CONNECTION, "closed the connection"),
    ],
)
async def test_an_ecu_that_talks_nonsense_or_leaves(ecu: EcuDescription, steps: Steps, kind: Fault, text: str) -> None:
    async with _pair(ecu, {VIN: steps}) as (tester, entity):
        cause = await _cause(tester)
        assert isinstance(cause, DoIpError)
        assert cause.kind is kind
        assert text in str(cause)
        entity.script[VIN] = [ACK, "8001 1001 0E80 62F19041"]
        assert (await tester.request(b"\x22\xf1\x90", timeout_s=WAIT_S)).response == b"\x62\xf1\x90A"


async def test_a_pdu_longer_than_this_ecu_may_send(ecu: EcuDescription) -> None:
    entity = ScriptedEntity({VIN: [ACK, "8001 1001 0E80 62F190" + "41" * 20]})
    await entity.start()
    gateways = Gateways()
    tester = UdsTester(gateways, over_doip(ecu, entity.port, max_pdu=10))
    other = UdsTester(gateways, over_doip(ecu, entity.port, logical_address=TCM))
    cause = await _cause(tester)
    assert (cause.kind, str(cause)) == (Fault.OVERFLOW, "a PDU of 23 bytes is more than doip.max_pdu = 10")
    await tester.close()
    await other.close()
    await entity.stop()


async def test_a_refused_connection(ecu: EcuDescription) -> None:
    entity = ScriptedEntity({})
    await entity.start()
    await entity.stop()
    tester = UdsTester(Gateways(), over_doip(ecu, entity.port))
    cause = await _cause(tester)
    assert cause.kind is Fault.CONNECTION
    assert f"127.0.0.1:{entity.port} cannot be connected: " in str(cause)
    await tester.close()


@pytest.mark.parametrize(
    ("activation", "script", "doip", "error", "text"),
    [
        ([], [], {"control_ms": 50}, UdsTransportError, "did not answer the routing activation within 50 ms"),
        (None, [], {"ack_ms": 50}, UdsTransportError, "did not acknowledge the message to 0x1001 within 50 ms"),
        (None, [ACK], {}, UdsTimeout, "no response within P2 of 250 ms"),
        (None, [ACK, "8001 1001 0E80 7F2278"], {}, UdsTimeout, "1 x 0x78"),
    ],
)
async def test_an_answer_that_never_comes(
    ecu: EcuDescription, activation: Steps | None, script: Steps, doip: dict[str, int], error: type, text: str
) -> None:
    async with _pair(ecu, {VIN: script}, activation=activation, **doip) as (tester, _):
        with pytest.raises(error, match=text):
            await tester.request(b"\x22\xf1\x90", timeout_s=WAIT_S)


async def test_the_callers_limit_holds_everywhere(ecu: EcuDescription) -> None:
    async with _pair(ecu, {}, activation=[]) as (tester, _):
        with pytest.raises(UdsTransportError, match=r"was not connected and routed to within 0\.05 s"):
            await tester.request(b"\x3e\x00", timeout_s=0.05)
    async with _pair(ecu, {"3E 00": []}) as (tester, _):
        with pytest.raises(UdsTransportError, match=r"did not take the message to 0x1001 within 0\.\d+ s"):
            await tester.request(b"\x3e\x00", timeout_s=0.9)


async def test_a_functional_address_that_the_entity_does_not_know(ecu: EcuDescription) -> None:
    async with _pair(ecu, {"3E 00": ["8003 E400 0E80 03"]}) as (tester, _):
        answers = await functional.request([tester], b"\x3e\x00", timeout_s=WAIT_S)
        assert isinstance(answers["ECM"], UdsTransportError)
        assert isinstance(answers["ECM"].cause, DiagnosticNack)
    async with _pair(ecu, {}, functional_address=None) as (tester, _):
        with pytest.raises(UdsTransportError, match=r"names no doip\.functional_address"):
            await functional.request([tester], b"\x3e\x00", timeout_s=WAIT_S)


async def test_an_entity_that_reads_no_more_does_not_pile_up_messages(ecu: EcuDescription) -> None:
    async with _pair(ecu, {"3E 80": []}) as (tester, _):
        endpoint = tester._endpoint
        assert isinstance(endpoint, DoIpEndpoint)
        await endpoint.connect(timeout_s=WAIT_S)
        for _ in range(70):
            endpoint.post(b"\x3e\x80")
        assert endpoint.gateway.stats.send_errors == 6
        endpoint.close()
        endpoint.close()
        endpoint.post(b"\x3e\x80")
        with pytest.raises(DoIpError, match="closed"):
            await endpoint.send(b"\x3e\x00")


async def test_a_message_that_was_never_acknowledged_costs_the_next_one_nothing(ecu: EcuDescription) -> None:
    script: dict[str, Steps] = {"3E 80": [], VIN: [ACK, "8001 1001 0E80 62F19041"]}
    async with _pair(ecu, script, ack_ms=1000) as (tester, entity):
        endpoint = tester._endpoint
        assert isinstance(endpoint, DoIpEndpoint)
        await endpoint.connect(timeout_s=WAIT_S)
        endpoint.post(b"\x3e\x80")
        await eventually(lambda: entity.heard == ["3E 80"], "it came")
        await asyncio.sleep(1.1)
        assert (await tester.request(b"\x22\xf1\x90", timeout_s=WAIT_S)).response == b"\x62\xf1\x90A"
        assert endpoint.gateway.stats.send_errors == 1


async def test_messages_for_a_connection_in_the_making_are_bounded(ecu: EcuDescription) -> None:
    async with _pair(ecu, {}, activation=[0.2, "0006 0E80 1001 10 00000000"]) as (tester, entity):
        endpoint = tester._endpoint
        assert isinstance(endpoint, DoIpEndpoint)
        for _ in range(20):
            endpoint.post(b"\x3e\x80")
        assert endpoint.gateway.stats.send_errors == 4
        await eventually(lambda: entity.heard == ["3E 80"] * 16, "the others were sent")


_ANSWERS = st.lists(
    st.binary(max_size=40).map(lambda data: "raw" + data.hex())
    | st.builds(
        lambda kind, body: f"{kind:04X}{body.hex()}",
        st.sampled_from([0x0000, 0x0006, 0x0007, 0x8001, 0x8002, 0x8003]),
        st.binary(max_size=9),
    )
    | st.sampled_from([ACK, "8001 1001 0E80 7F2278", "8001 1001 0E80 62F19041"]),
    max_size=6,
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answers=_ANSWERS)
def test_whatever_an_entity_sends_a_request_ends_with_an_answer_or_an_error(
    write: Callable[[str], Path], answers: list[str]
) -> None:
    async def run() -> None:
        failures: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        described = load_ecu(write(ECU))
        timing = described.timing.model_copy(update={"p2_ms": 10, "p2_star_ms": 10, "transit_ms": 10})
        script: dict[str, Steps] = {VIN: [*answers], "3E 00": [ACK, "8001 1001 0E80 7E00"]}
        async with _pair(described.model_copy(update={"timing": timing}), script, ack_ms=30) as (tester, _):
            with contextlib.suppress(UdsError):
                exchange = await tester.request(b"\x22\xf1\x90", timeout_s=WAIT_S)
                assert exchange.response is not None
        assert not failures

    asyncio.run(run())
