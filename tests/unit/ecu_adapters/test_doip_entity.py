"""The simulated DoIP entity, with doipclient as the tester, and with bytes that no tester would send."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from doipclient import messages
from doipclient.client import DoIPClient
from doipclient.connectors import DoIPClientUDSConnector
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from udsoncan.client import Client

from ecu_adapters.description import EcuDescription, load_ecu
from ecu_adapters.doip import discovery, frames
from ecu_adapters.simulator.clock import VirtualClock
from ecu_adapters.simulator.doip_entity import DoIpEntity
from tests.unit.ecu_adapters.conftest import ECU
from tests.unit.ecu_adapters.doip_peer import ALL, ECM, HOST, TCM, WAIT_S, entity_with, eventually, over_doip

pytestmark = pytest.mark.anyio

T = TypeVar("T")
Code = messages.RoutingActivationResponse.ResponseCode


async def _threaded(call: Callable[..., T], *arguments: Any) -> T:
    """doipclient blocks; the entity runs on this loop."""
    return await asyncio.wait_for(asyncio.to_thread(call, *arguments), 4 * WAIT_S)


def _client(entity: DoIpEntity, target: int = ECM, **options: Any) -> DoIPClient:
    return DoIPClient(HOST, target, tcp_port=entity.port, udp_port=entity.port, **options)


@pytest.fixture
async def entity(ecu: EcuDescription) -> AsyncIterator[DoIpEntity]:
    """A node: one ECU."""
    async with entity_with(over_doip(ecu, entity={"eid": "0011223344AA", "sockets": 2})) as (entity, _, _):
        yield entity


async def _raw(entity: DoIpEntity) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.wait_for(asyncio.open_connection(HOST, entity.port), WAIT_S)


async def _activated(entity: DoIpEntity, tester: int = 0x0E00) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await _raw(entity)
    writer.write(frames.encode(2, messages.RoutingActivationRequest(tester, 0)))
    assert (await _message(reader)).payload[4] == Code.Success
    return reader, writer


async def _message(reader: asyncio.StreamReader) -> frames.Message:
    async with asyncio.timeout(WAIT_S):
        version, _, kind, length = frames.HEADER.unpack(await reader.readexactly(8))
        return frames.Message(version, kind, await reader.readexactly(length))


async def _closed(reader: asyncio.StreamReader) -> bool:
    async with asyncio.timeout(WAIT_S):
        try:
            return await reader.read() == b""
        except ConnectionResetError:
            return True


async def test_doipclient_and_udsoncan_talk_to_the_ecu(entity: DoIpEntity) -> None:
    def talk() -> tuple[bytes, int]:
        with _client(entity) as client:
            with Client(DoIPClientUDSConnector(client), request_timeout=WAIT_S) as uds:
                uds.change_session(3)
                uds.tester_present()
            client.send_diagnostic(b"\x22\xf1\x90")
            return bytes(client.receive_diagnostic(timeout=WAIT_S)), client.request_alive_check().source_address

    assert await _threaded(talk) == (b"\x62\xf1\x90WVWZZZ1KZ6W000001", ECM)


async def test_the_entity_is_found_and_tells_about_itself(entity: DoIpEntity) -> None:
    def ask() -> tuple[Any, ...]:
        with _client(entity) as client:
            return (
                client.request_vehicle_identification(),
                client.request_vehicle_identification(eid=bytes.fromhex("0011223344AA")),
                client.request_vehicle_identification(vin="WVWZZZ1KZ6W000001"),
                client.request_entity_status(),
                client.request_diagnostic_power_mode(),
            )

    found, by_eid, by_vin, status, power = await _threaded(ask)
    assert (found.vin, found.logical_address, found.eid.hex()) == ("WVWZZZ1KZ6W000001", ECM, "0011223344aa")
    assert str(found) == str(by_eid) == str(by_vin)
    assert (status.node_type, status.max_concurrent_sockets, status.currently_open_sockets) == (1, 2, 1)
    assert status.max_data_size == 65_539
    assert power.diagnostic_power_mode == 1


async def test_somebody_elses_vin_and_eid_are_not_answered(entity: DoIpEntity) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.setblocking(False)
        udp.connect((HOST, entity.port))
        loop = asyncio.get_running_loop()
        for message in (
            messages.VehicleIdentificationRequestWithVIN("WVWZZZ1KZ6W000002"),
            messages.VehicleIdentificationRequestWithEID(bytes(6)),
            messages.DiagnosticPowerModeRequest(),
        ):
            await loop.sock_sendall(udp, frames.encode(2, message))
        answer = await asyncio.wait_for(loop.sock_recv(udp, 1024), WAIT_S)
        assert answer == frames.encode(2, messages.DiagnosticPowerModeResponse(1))


async def test_discovery_finds_it_with_what_it_says_of_itself(entity: DoIpEntity) -> None:
    (found,) = await discovery.find(HOST, entity.port, wait_s=0.5)
    assert found == discovery.Entity(HOST, ECM, "WVWZZZ1KZ6W000001", "0011223344aa", "000000000000")


async def test_discovery_takes_nothing_else_for_an_entity() -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as fake:
        fake.bind((HOST, 0))
        fake.setblocking(False)
        asking = asyncio.create_task(discovery.find(HOST, fake.getsockname()[1], wait_s=0.5))
        _, asker = await asyncio.wait_for(loop.sock_recvfrom(fake, 1024), WAIT_S)
        for answer in (b"", b"x" * 50, frames.encode(2, messages.DiagnosticPowerModeResponse(1)), b"\x02\xfd\x00\x04"):
            await loop.sock_sendto(fake, answer, asker)
        assert await asking == []


async def test_it_announces_itself_three_times(ecu: EcuDescription) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind((HOST, 0))
        place = f"{HOST}:{udp.getsockname()[1]}"
        clock = VirtualClock()
        async with entity_with(over_doip(ecu, entity={"announce": place}), clock=clock):
            for _ in range(3):
                _, announcement = await _threaded(lambda: DoIPClient.await_vehicle_announcement(timeout=5, sock=udp))
                assert announcement.logical_address == ECM
                clock.advance(0.5)
            clock.advance(60)
            udp.setblocking(False)
            with pytest.raises(BlockingIOError):
                udp.recv(1024)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"client_logical_address": 0x0001}, Code.DeniedUnknownSourceAddress),
        ({"activation_type": 0xE1}, Code.DeniedMissingAuthentication),
        ({"activation_type": 0x01}, Code.DeniedRejectedConfirmation),
        ({"activation_type": 0x55}, Code.DeniedUnsupportedActivationType),
    ],
)
async def test_routing_activation_is_denied_with_its_code(
    ecu: EcuDescription, options: dict[str, int], code: Code
) -> None:
    described = over_doip(ecu, entity={"activation": {0x00: 0x10, 0x01: 0x05, 0xE1: 0x04}})
    async with entity_with(described) as (entity, _, _):

        def ask() -> Code:
            kind = options.get("activation_type", 0)
            tester = options.get("client_logical_address", 0x0E00)
            with _client(entity, client_logical_address=tester, activation_type=None) as client:
                return Code(client.request_activation(kind).response_code)

        assert await _threaded(ask) == code
        assert entity.stats.denials == 1


async def test_missing_authentication_leaves_the_connection_open_for_another_try(ecu: EcuDescription) -> None:
    described = over_doip(ecu, entity={"activation": {0x00: 0x10, 0xE1: 0x04}})
    async with entity_with(described) as (entity, _, _):
        reader, writer = await _raw(entity)
        for kind, code in ((0xE1, Code.DeniedMissingAuthentication), (0x00, Code.Success)):
            writer.write(frames.encode(2, messages.RoutingActivationRequest(0x0E00, kind)))
            assert (await _message(reader)).payload[4] == code
        writer.close()


async def test_another_address_on_an_activated_connection_is_denied(entity: DoIpEntity) -> None:
    reader, writer = await _activated(entity)
    writer.write(frames.encode(2, messages.RoutingActivationRequest(0x0E00, 0)))
    assert (await _message(reader)).payload[4] == Code.Success
    writer.write(frames.encode(2, messages.RoutingActivationRequest(0x0E01, 0)))
    assert (await _message(reader)).payload[4] == Code.DeniedSADoesNotMatch
    assert await _closed(reader)
    writer.close()


async def test_a_tester_that_lives_elsewhere_keeps_its_address(entity: DoIpEntity) -> None:
    first_reader, first = await _activated(entity)
    reader, writer = await _raw(entity)
    writer.write(frames.encode(2, messages.RoutingActivationRequest(0x0E00, 0)))
    assert (await _message(first_reader)).payload_type == 0x0007
    first.write(frames.encode(2, messages.AliveCheckResponse(0x0E00)))
    assert (await _message(reader)).payload[4] == Code.DeniedSARegistered
    assert await _closed(reader)
    first.write(frames.encode(2, messages.DiagnosticMessage(0x0E00, ECM, b"\x3e\x00")))
    assert (await _message(first_reader)).payload_type == 0x8002
    first.close()
    writer.close()


async def test_an_asker_that_leaves_harms_nobody(ecu: EcuDescription) -> None:
    clock = VirtualClock()
    async with entity_with(over_doip(ecu), clock=clock) as (entity, _, _):
        first_reader, first = await _activated(entity)
        for _ in range(5):
            _, writer = await _raw(entity)
            writer.write(frames.encode(2, messages.RoutingActivationRequest(0x0E00, 0)))
            assert (await _message(first_reader)).payload_type == 0x0007
            writer.close()
            await eventually(lambda: len(entity.sessions) == 1, "the asker is gone")
        clock.advance(1)
        assert len(entity.routed) == 1
        assert not any(session._alive for session in entity.sessions)
        first.close()


async def test_a_tester_that_is_dead_loses_its_address(ecu: EcuDescription) -> None:
    clock = VirtualClock()
    async with entity_with(over_doip(ecu), clock=clock) as (entity, _, _):
        dead_reader, dead = await _activated(entity)
        reader, writer = await _raw(entity)
        writer.write(frames.encode(2, messages.RoutingActivationRequest(0x0E00, 0)))
        assert (await _message(dead_reader)).payload_type == 0x0007
        clock.advance(0.499)
        assert len(entity.routed) == 1
        clock.advance(0.001)
        assert (await _message(reader)).payload[4] == Code.Success
        assert await _closed(dead_reader)
        dead.close()
        writer.close()


async def test_no_more_testers_than_sockets(entity: DoIpEntity) -> None:
    pairs = [await _activated(entity, 0x0E01), await _activated(entity, 0x0E02)]
    reader, writer = await _raw(entity)
    writer.write(frames.encode(2, messages.RoutingActivationRequest(0x0E03, 0)))
    for other, _ in pairs:
        assert (await _message(other)).payload_type == 0x0007
    crowd, extra = await _raw(entity)
    assert await _closed(crowd)
    assert entity.stats.turned_away == 1
    for (_, answer), tester in zip(pairs, (0x0E01, 0x0E02), strict=True):
        answer.write(frames.encode(2, messages.AliveCheckResponse(tester)))
    assert (await _message(reader)).payload[4] == Code.DeniedAllSocketsRegisteredActive
    for one in (writer, extra, *(answer for _, answer in pairs)):
        one.close()


@pytest.mark.parametrize(
    ("sent", "code", "closes"),
    [
        ("0102 8001 00000005 0E00100122", 0x00, True),
        ("02FD 4711 00000002 0102", 0x01, False),
        ("02FD 8001 00010010", 0x02, False),
        ("02FD 8001 00000004 0E001001", 0x04, True),
    ],
)
async def test_a_wrong_header_is_refused_with_its_code(entity: DoIpEntity, sent: str, code: int, closes: bool) -> None:
    reader, writer = await _activated(entity)
    writer.write(bytes.fromhex(sent))
    assert await _message(reader) == frames.Message(2, 0x0000, bytes((code,)))
    if closes:
        assert await _closed(reader)
    elif code == 0x02:
        writer.write(bytes(0x10010) + frames.encode(2, messages.AliveCheckRequest()))
        assert (await _message(reader)).payload_type == 0x0008
    writer.close()


async def test_memory_for_messages_in_reception_is_bounded(ecu: EcuDescription) -> None:
    async with entity_with(over_doip(ecu, entity={"memory": 1000})) as (entity, _, _):
        _, first = await _activated(entity, 0x0E00)
        reader, second = await _activated(entity, 0x0E01)
        message = frames.encode(2, messages.DiagnosticMessage(0x0E00, ECM, bytes(600)))
        first.write(message[:-1])
        await eventually(lambda: any(session.pending for session in entity.sessions), "the first is being received")
        second.write(frames.encode(2, messages.DiagnosticMessage(0x0E01, ECM, b"\x3e" * 600)))
        assert await _message(reader) == frames.Message(2, 0x0000, b"\x03")
        first.close()
        second.close()


async def test_diagnostic_messages_that_cannot_be_passed_on(ecu: EcuDescription) -> None:
    async with entity_with(over_doip(ecu, max_pdu=4095), over_doip(ecu, logical_address=TCM)) as (entity, _, _):
        reader, writer = await _activated(entity)
        for target, pdu, code in ((0x2222, b"\x3e\x00", 0x03), (ECM, bytes(4096), 0x04)):
            writer.write(frames.encode(2, messages.DiagnosticMessage(0x0E00, target, pdu)))
            assert (await _message(reader)).unpack() == messages.DiagnosticMessageNegativeAcknowledgement(
                target, 0x0E00, code
            )
        writer.write(frames.encode(2, messages.DiagnosticMessage(0x0E01, ECM, b"\x3e\x00")))
        assert (await _message(reader)).unpack() == messages.DiagnosticMessageNegativeAcknowledgement(ECM, 0x0E01, 0x02)
        assert await _closed(reader)
        assert entity.stats.nacks == 3
        writer.close()


async def test_a_request_before_routing_activation_is_refused(entity: DoIpEntity) -> None:
    reader, writer = await _raw(entity)
    writer.write(frames.encode(2, messages.DiagnosticMessage(0x0E00, ECM, b"\x3e\x00")))
    assert (await _message(reader)).payload == bytes.fromhex("1001 0E00 02")
    assert await _closed(reader)
    writer.close()


async def test_silent_connections_end(ecu: EcuDescription) -> None:
    clock = VirtualClock()
    async with entity_with(over_doip(ecu), clock=clock) as (entity, _, _):
        unrouted, first = await _raw(entity)
        routed, second = await _activated(entity)
        await eventually(lambda: len(entity.sessions) == 2, "both are there")
        clock.advance(2.0)
        assert await _closed(unrouted)
        clock.advance(297.9)
        second.write(frames.encode(2, messages.DiagnosticMessage(0x0E00, ECM, b"\x3e\x00")))
        assert (await _message(routed)).payload_type == 0x8002
        assert (await _message(routed)).payload[4:] == b"\x7e\x00"
        clock.advance(299.9)
        assert len(entity.routed) == 1
        clock.advance(0.2)
        assert await _closed(routed)
        assert entity.stats.inactive == 2
        first.close()
        second.close()


async def test_a_functional_request_reaches_all_ecus_and_each_answers_for_itself(ecu: EcuDescription) -> None:
    async with entity_with(over_doip(ecu), over_doip(ecu, logical_address=TCM)) as (entity, _, _):
        assert entity.node_type == 0
        reader, writer = await _activated(entity)
        writer.write(frames.encode(2, messages.DiagnosticMessage(0x0E00, ALL, b"\x22\x02\x01")))
        received = [(await _message(reader)).unpack() for _ in range(3)]
        assert received[0] == messages.DiagnosticMessagePositiveAcknowledgement(ALL, 0x0E00, 0)
        assert received[1:] == [messages.DiagnosticMessage(who, 0x0E00, b"\x62\x02\x01\x03") for who in (ECM, TCM)]
        writer.close()


async def test_each_tester_gets_the_answers_to_its_own_requests(ecu: EcuDescription) -> None:
    slow = ecu.model_copy(update={"simulation": ecu.simulation.model_copy(update={"service_delay_ms": {0x22: 40}})})
    clock = VirtualClock()
    async with entity_with(over_doip(slow), clock=clock) as (entity, _, _):
        first_reader, first = await _activated(entity, 0x0E01)
        second_reader, second = await _activated(entity, 0x0E02)
        first.write(frames.encode(2, messages.DiagnosticMessage(0x0E01, ECM, b"\x22\x02\x01")))
        assert (await _message(first_reader)).payload_type == 0x8002
        second.write(frames.encode(2, messages.DiagnosticMessage(0x0E02, ECM, b"\x22\xf1\x90")))
        assert (await _message(second_reader)).payload_type == 0x8002
        assert (await _message(second_reader)).unpack() == messages.DiagnosticMessage(ECM, 0x0E02, b"\x7f\x22\x21")
        clock.advance(0.04)
        assert (await _message(first_reader)).unpack() == messages.DiagnosticMessage(ECM, 0x0E01, b"\x62\x02\x01\x03")
        first.close()
        second.close()


async def test_a_tester_that_does_not_read_loses_the_connection(entity: DoIpEntity) -> None:
    _, writer = await _activated(entity)
    request = frames.encode(2, messages.DiagnosticMessage(0x0E00, ECM, b"\x22\x04\x00"))
    with pytest.raises(ConnectionError):
        async with asyncio.timeout(6 * WAIT_S):
            while True:
                writer.write(request * 100)
                await writer.drain()
    assert entity.stats.undeliverable >= 1
    writer.close()


async def test_an_answer_whose_tester_has_gone_is_counted(ecu: EcuDescription) -> None:
    slow = ecu.model_copy(update={"simulation": ecu.simulation.model_copy(update={"response_delay_ms": 30})})
    clock = VirtualClock()
    async with entity_with(over_doip(slow), clock=clock) as (entity, _, _):
        reader, writer = await _activated(entity)
        writer.write(frames.encode(2, messages.DiagnosticMessage(0x0E00, ECM, b"\x3e\x00")))
        assert (await _message(reader)).payload_type == 0x8002
        writer.close()
        await eventually(lambda: not entity.sessions, "the connection is gone")
        clock.advance(1)
        assert entity.stats.undeliverable == 1


async def test_stopping_closes_everything(entity: DoIpEntity) -> None:
    reader, writer = await _activated(entity)
    await entity.stop()
    await entity.stop()
    assert await _closed(reader)
    with pytest.raises(ConnectionError):
        await _raw(entity)
    writer.close()


async def test_a_port_in_use_is_an_error(entity: DoIpEntity, ecu: EcuDescription) -> None:
    doip = over_doip(ecu).doip
    assert doip is not None
    with pytest.raises(OSError, match="address already in use"):
        await DoIpEntity(HOST, entity.port, doip).start()


def test_two_ecus_with_one_address_are_refused(tmp_path: Path) -> None:
    async def run() -> None:
        path = tmp_path / "ecu.yaml"
        path.write_text(ECU)
        ecu = load_ecu(path)
        with pytest.raises(ValueError, match="0x1001 is there twice behind"):
            async with entity_with(over_doip(ecu), over_doip(ecu)):
                pass

    asyncio.run(run())


_HEADERS = st.builds(
    lambda kind, length: frames.HEADER.pack(2, 0xFD, kind, length),
    st.sampled_from([0, 1, 2, 3, 4, 5, 7, 8, 0x4001, 0x4003, 0x8001, 0x8002, 0x8003]) | st.integers(0, 0xFFFF),
    st.integers(0, 40) | st.integers(0, 0xFFFF_FFFF),
)
_ROUTING = st.just(frames.encode(2, messages.RoutingActivationRequest(0x0E00, 0)))
_GARBAGE = st.lists(st.binary(max_size=60) | _HEADERS | _ROUTING, max_size=12)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tcp=_GARBAGE, udp=_GARBAGE)
def test_garbage_never_keeps_the_next_tester_from_the_ecu(tmp_path: Path, tcp: list[bytes], udp: list[bytes]) -> None:
    async def run() -> None:
        path = tmp_path / "ecu.yaml"
        path.write_text(ECU)
        async with entity_with(over_doip(load_ecu(path))) as (entity, _, _):
            failures: list[dict[str, Any]] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
                for data in udp:
                    datagrams.sendto(data, (HOST, entity.port))
            reader, writer = await _raw(entity)
            writer.write(b"".join(tcp))
            writer.write_eof()
            async with asyncio.timeout(WAIT_S):
                with contextlib.suppress(ConnectionError):
                    await reader.read()
            writer.close()
            await eventually(lambda: not entity.sessions, "the connection is gone")
            reader, writer = await _activated(entity)
            writer.write(frames.encode(2, messages.DiagnosticMessage(0x0E00, ECM, b"\x3e\x00")))
            assert (await _message(reader)).payload_type == 0x8002
            assert (await _message(reader)).payload[4:] == b"\x7e\x00"
            writer.close()
            assert not failures

    asyncio.run(run())
