"""J1939 over gRPC: nodes on a bus of the bench, what they send, ask for and hear, and how they end."""

import threading
import time
from collections.abc import Iterator

import can
import pytest

from bench_agent.client import (
    BenchClient,
    BenchError,
    BenchUnavailable,
    Compare,
    InvalidRequest,
    J1939Client,
    J1939Failure,
    J1939Filter,
    LeaseRefused,
    NotFound,
    Within,
)
from bench_agent.server.j1939_waits import Stream
from bench_agent.server.lease_nodes import Wanted
from ecu_adapters.j1939.message import Message
from tests.unit.bench_agent.harness import ROOT, AgentFile, OpenBench, RunningAgent, bench_entry

WAIT_S = 60.0
TESTER, ENGINE = 0xF9, 0x00
SOFT = bytes(range(40))


@pytest.fixture
def agent_file(agent_file: AgentFile) -> AgentFile:
    entry = bench_entry("bench-1", ecus=False)
    entry["can"][0]["dbc"] = str(ROOT / "dbc/truck.dbc")
    other = entry["can"][0] | {"name": "body", "channel": entry["can"][0]["channel"] + "-body"}
    del other["dbc"]
    entry["can"].append(other)
    agent_file.benches = [entry]
    return agent_file


@pytest.fixture
def tester(bench: BenchClient) -> Iterator[J1939Client]:
    with bench.bus("powertrain").j1939(TESTER) as node:
        yield node


@pytest.fixture
def engine(bench: BenchClient) -> Iterator[J1939Client]:
    answers = {0xFEDA: SOFT, 0xFEEE: bytes.fromhex("6EFFFFFFFFFFFFFF")}
    with bench.bus("powertrain").j1939(ENGINE, answers=answers) as node:
        yield node


def test_message_of_the_dbc_by_name_whatever_its_source(tester: J1939Client, engine: J1939Client) -> None:
    with tester.receive([J1939Filter(source=ENGINE)]) as messages:
        sent = engine.send("EEC1", {"EngineSpeed": 1500})
        assert (sent.pgn, sent.priority, sent.data.hex()) == (0xF004, 3, "ffffffe02effffff")
        message = next(iter(messages))
        assert (message.name, message.source, message.destination) == ("EEC1", ENGINE, 255)
        assert message.signals["EngineSpeed"] == 1500
        assert message.signals["ActualEngineTorque"] is None
        assert message.data == sent.data
        assert messages.dropped == 0


@pytest.mark.parametrize("length", [0, 8, 9, 300, 1785])
def test_data_of_all_lengths_to_one_node(tester: J1939Client, engine: J1939Client, length: int) -> None:
    data = bytes(n & 0xFF for n in range(length))
    sent = tester.send(0xEF00, data, ENGINE)
    found = engine.expect(0xEF00, timeout_s=WAIT_S, source=TESTER, data=data, since_ns=sent.timestamp_ns)
    assert found.met
    assert found.message is not None
    assert (found.message.data, found.message.destination) == (data, ENGINE)
    assert engine.state().received == tester.state().sent == 1


def test_broadcast_is_heard_by_all(tester: J1939Client, engine: J1939Client, bench: BenchClient) -> None:
    with bench.bus("powertrain").j1939(0x03) as third:
        sent = engine.send("DM1", {"RedStopLamp": "On", "SPN": 91, "FMI": 3})
        assert len(sent.data) == 14
        for node in (tester, third):
            found = node.expect("DM1", [Within("SPN", 91, 91)], WAIT_S, source=ENGINE, since_ns=sent.timestamp_ns)
            assert found.met
            assert found.message is not None
            assert found.message.signals["RedStopLamp"] == "On"


def test_request_is_answered(tester: J1939Client, engine: J1939Client) -> None:
    assert tester.request("SOFT", ENGINE, WAIT_S).data == SOFT
    coolant = tester.request(0xFEEE, timeout_s=WAIT_S)
    assert (coolant.name, coolant.source, coolant.signals["CoolantTemperature"]) == ("ET1", ENGINE, 70)


def test_request_that_is_refused_or_not_answered(tester: J1939Client, engine: J1939Client) -> None:
    with pytest.raises(
        J1939Failure, match="0x00 refused the request for PGN 0xFECA: negative acknowledgement"
    ) as error:
        tester.request("DM1", ENGINE, WAIT_S)
    assert (error.value.kind, error.value.code) == ("refused", 1)
    assert error.value.frame == "18E8FF00#01FFFFFFF9CAFE00"
    with pytest.raises(J1939Failure, match="no answer of 0x21 to the request for PGN 0xFEEE within") as error:
        tester.request(0xFEEE, 0x21, 0.05)
    assert (error.value.kind, error.value.frame) == ("no_answer", "18EA21F9#EEFE00")


def test_what_does_not_arrive_says_why_and_with_which_frame(tester: J1939Client) -> None:
    with pytest.raises(J1939Failure, match=r"no CTS or acknowledgement from 0x21 within 1250 ms \(T3\)") as error:
        tester.send(0xEF00, bytes(20), 0x21)
    assert (error.value.kind, error.value.frame) == ("timeout", "1CEC21F9#10140003FF00EF00")
    assert tester.state().send_errors == 1


def test_abort_of_the_peer_is_told_with_its_reason(tester: J1939Client, running: RunningAgent) -> None:
    with running.node() as node:

        def refuse() -> None:
            node.set_filters([{"can_id": 0x1CEC21F9, "can_mask": 0x1FFFFFFF, "extended": True}])
            if node.recv(WAIT_S) is not None:
                data = bytes.fromhex("FF01FFFFFF00EF00")
                node.send(can.Message(arbitration_id=0x1CECF921, is_extended_id=True, data=data))

        peer = threading.Thread(target=refuse)
        peer.start()
        with pytest.raises(J1939Failure, match=r"0x21 aborted: it is in a session already .*abort reason 1") as error:
            tester.send(0xEF00, bytes(20), 0x21)
        peer.join()
    assert (error.value.kind, error.value.code) == ("aborted", 1)
    assert error.value.frame == "1CECF921#FF01FFFFFF00EF00"


def test_expect_tells_what_was_not_met(tester: J1939Client, engine: J1939Client) -> None:
    sent = engine.send("EEC1", {"EngineSpeed": 800})
    since = sent.timestamp_ns
    found = tester.expect("EEC1", [Compare("EngineSpeed", ">", 1000)], 0.05, since_ns=since)
    assert (found.met, found.seen, found.unmet) == (False, 1, ("EngineSpeed = 800, expected > 1000",))
    found = tester.expect("EEC1", [Compare("ActualEngineTorque", ">", 10)], 0.05, since_ns=since)
    assert found.unmet == ("ActualEngineTorque is not available, expected > 10",)
    assert tester.expect("ET1", timeout_s=0.05, since_ns=since).seen == 0
    assert tester.expect("EEC1", timeout_s=0.05, source=0x21, since_ns=since).seen == 0


def test_transfer_lost_on_its_way_is_on_record(tester: J1939Client, running: RunningAgent) -> None:
    with running.node() as node, tester.receive() as messages:
        for data in ("20140003FFCAFE00", "0101020304050607", "0315161718191A1B"):
            can_id = 0x1CECFF21 if data.startswith("20") else 0x1CEBFF21
            node.send(can.Message(arbitration_id=can_id, is_extended_id=True, data=bytes.fromhex(data)))
        node.send(can.Message(arbitration_id=0x18FEF121, is_extended_id=True, data=b"end"))
        assert next(iter(messages)).data == b"end"
        [lost] = messages.lost
    assert (lost.pgn, lost.source, lost.error.kind) == (0xFECA, 0x21, "sequence")
    assert str(lost.error) == "packet 3 came from 0x21 instead of 2, after 1 of 3"
    state = tester.state()
    assert (state.receive_errors, state.lost[0].error.frame) == (1, "1CEBFF21#0315161718191A1B")


@pytest.mark.anyio
async def test_reader_that_is_too_slow_loses_the_newest_and_is_told() -> None:
    stream = Stream([Wanted(pgn=0xFEF1)], bound=3)
    heard = [Message(pgn, 0x21, 255, 6, bytes([n]), float(n)) for n in range(5) for pgn in (0xFEF1, 0xFEEE)]
    for message in heard:
        stream.put(message)
    assert [message.data for message in await stream.take() if isinstance(message, Message)] == [b"\0", b"\1", b"\2"]
    assert stream.dropped == 2
    stream.put(heard[0])
    assert (len(await stream.take()), stream.dropped) == (1, 2)


def test_claimed_address(bench: BenchClient) -> None:
    bus = bench.bus("powertrain")
    with bus.j1939(0x80, name=0x0000_8100_0000_0001) as first, bus.j1939(TESTER) as tester:
        claim = tester.request(0xEE00, 0x80, WAIT_S)
        assert int.from_bytes(claim.data, "little") == 0x0000_8100_0000_0001
        assert first.state().fault == ""


def test_claim_that_another_node_wins(bench: BenchClient, running: RunningAgent) -> None:
    with running.node() as node:
        node.set_filters([{"can_id": 0x18EEFF80, "can_mask": 0x1FFFFFFF, "extended": True}])

        def contest() -> None:
            if node.recv(WAIT_S) is not None:
                node.send(can.Message(arbitration_id=0x18EEFF80, is_extended_id=True, data=bytes(8)))

        rival = threading.Thread(target=contest)
        rival.start()
        with pytest.raises(BenchUnavailable, match="address 0x80 is taken by NAME 0000000000000000"):
            bench.bus("powertrain").j1939(0x80, name=0x0000_8100_0000_0001)
        rival.join()
    # Nothing of it is left: the address is free for another try.
    bench.bus("powertrain").j1939(0x80).close()


def test_node_ends_with_the_lease(running: RunningAgent, open_bench: OpenBench, bench: BenchClient) -> None:
    node = bench.bus("powertrain").j1939(TESTER)
    going = threading.Event()

    def send() -> None:
        going.set()
        with pytest.raises(BenchError):
            node.send("DM1", {}, timeout_s=WAIT_S)
            node.send(0xFECA, bytes(1785), timeout_s=WAIT_S)

    sender = threading.Thread(target=send)
    sender.start()
    assert going.wait(WAIT_S)
    with running.node() as witness:
        assert witness.recv(WAIT_S) is not None
        running.fence(1)
        again = open_bench(epoch=2)
        with pytest.raises(NotFound, match="the lease has no J1939 node 1; it has none"):
            J1939Client.state(_borrowed(again, node))
        # The new holder's first call is answered after the clean-up: from here on, the former holder is silent.
        while witness.recv(0) is not None:
            pass
        assert witness.recv(0.3) is None
        with pytest.raises(LeaseRefused):
            node.state()
    sender.join(WAIT_S)
    assert not sender.is_alive()


def _borrowed(bench: BenchClient, node: J1939Client) -> J1939Client:
    """The same number, asked for under another lease."""
    other = bench.bus("powertrain").j1939(0x42)
    other.close()
    other._number = node._number
    return other


@pytest.mark.parametrize(
    ("act", "error", "reason"),
    [
        (lambda n: n.send("EEC2", {}), InvalidRequest, "unknown message 'EEC2'; .*EEC1"),
        (lambda n: n.send("EEC1", {"EngineSped": 1}), InvalidRequest, "no signal 'EngineSped'; .*EngineSpeed"),
        (lambda n: n.send("EEC1", {"EngineSpeed": 9000}), InvalidRequest, r"EngineSpeed = 9000 is out of range 0 \.\."),
        (lambda n: n.send("EEC1", {}, 0x21), InvalidRequest, r"PGN 0xF004 \(PDU2\) goes to all"),
        (lambda n: n.send(0xEF01, b""), InvalidRequest, "PGN is 0xEF01; .* 0xEF00"),
        (lambda n: n.send(0xEF00, bytes(1786)), InvalidRequest, "data has 1786 bytes; a message has at most 1785"),
        (lambda n: n.send(0xEF00, b"", TESTER), InvalidRequest, "destination address is 0xF9, the node's own"),
        (lambda n: n.send(0xEF00, b"", 0xFE), InvalidRequest, r"destination address is 0xFE; it must be 0x0 \.\. 0xFD"),
        (lambda n: n.send(0xEF00, b"", priority=8), InvalidRequest, r"priority is 0x8; it must be 0x0 \.\. 0x7"),
        (lambda n: n.request("EEC2"), InvalidRequest, "unknown message 'EEC2'"),
        (lambda n: n.request(0xEF01), InvalidRequest, "PGN is 0xEF01"),
        (lambda n: n.expect(0xEF01), InvalidRequest, "filter: PGN is 0xEF01"),
        (lambda n: n.expect(0xF004, [Within("EngineSpeed", 1, 2)]), InvalidRequest, "conditions go with the name"),
        (lambda n: n.expect("EEC1", [Within("Speed", 1, 2)]), InvalidRequest, "EEC1 has no signal 'Speed'"),
        (lambda n: n.expect("EEC1", source=255), InvalidRequest, r"filter: source address is 0xFF; .* 0x0 \.\. 0xFE"),
        (lambda n: n.expect(source=256), ValueError, r"source is 256; it must be 0 \.\. 255"),
        (lambda n: n.send(0x40000, b""), ValueError, r"PGN is 0x40000; it must be 0x0 \.\. 0x3FFFF"),
        (lambda n: n.send(0xF004, {"EngineSpeed": 1}), TypeError, "PGN 0xF004 takes bytes; signals go with the name"),
        (lambda n: n.send("EEC1", b"1"), TypeError, "message 'EEC1' takes signals, not bytes"),
        (lambda n: n.send("EEC1", {}, timeout_s=0), ValueError, "timeout_s is 0; it must be above 0"),
    ],
)
def test_bad_input_names_the_field(tester: J1939Client, act: "object", error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        act(tester)  # type: ignore[operator]


def test_bad_node_is_refused(bench: BenchClient, tester: J1939Client) -> None:
    bus = bench.bus("powertrain")
    with pytest.raises(ValueError, match=r"address is 254; it must be 0 \.\. 253"):
        bus.j1939(254)
    with pytest.raises(InvalidRequest, match=r"bam_spacing_s is 0.01; it must be 0.05 \.\. 0.2"):
        bus.j1939(1, bam_spacing_s=0.01)
    with pytest.raises(InvalidRequest, match="the answer for PGN 0xFECA has 1786 bytes; a message has at most 1785"):
        bus.j1939(1, answers={0xFECA: bytes(1786)})
    with pytest.raises(InvalidRequest, match="address 0xF9 on bus powertrain is that of node 1 of this lease"):
        bus.j1939(TESTER)
    with bench.bus("body").j1939(TESTER) as other, pytest.raises(InvalidRequest, match="'EEC1': it has no DBC"):
        other.send("EEC1", {})


def test_node_whose_bus_failed_is_to_be_opened_anew(tester: J1939Client, running: RunningAgent) -> None:
    hub = running.agent.benches["bench-1"].bus("powertrain").hub
    assert hub is not None
    with tester.receive() as messages:
        hub._driver.close()
        with pytest.raises(BenchUnavailable):
            next(iter(messages))
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        with pytest.raises(BenchUnavailable) as error:
            tester.send(0xFEF1, b"1")
        if "open the J1939 node again" in str(error.value):
            break
        time.sleep(0.05)
    assert "was opened anew; open the J1939 node again" in str(error.value)
