"""CAN through the agent: both directions, filters, drops, expectations, memory, traces."""

import json
import threading
import time
from collections.abc import Iterator
from unittest.mock import patch

import can
import pytest

from bench_agent.client import (
    BenchClient,
    BenchUnavailable,
    BusFault,
    Compare,
    Condition,
    Equals,
    Frame,
    FrameFilter,
    FrameStream,
    InvalidRequest,
    LeaseRefused,
    NotFound,
    UdsTimeout,
    UdsTransport,
    Within,
    frame_stream,
)
from bench_agent.client.connection import Connection
from bench_agent.protocol import bench_pb2, frames
from bench_agent.server.frame_queue import FrameQueue
from tests.unit.bench_agent.harness import AgentFile, OpenBench, RunningAgent, StartAgent, bench_entry


@pytest.fixture
def agent_file(agent_file: AgentFile) -> AgentFile:
    """bench-1 with a simulated ECU, bench-2 a bare CAN FD bus."""
    agent_file.benches = [bench_entry("bench-1"), bench_entry("bench-2", ecus=False, fd=True)]
    return agent_file


@pytest.fixture
def fd_bench(open_bench: OpenBench) -> BenchClient:
    return open_bench(bench="bench-2")


@pytest.fixture
def node(running: RunningAgent) -> Iterator[can.BusABC]:
    """Another node on the bus of bench-2."""
    with running.node("bench-2") as bus:
        yield bus


def collect(stream: FrameStream, count: int, timeout_s: float = 10) -> list[Frame]:
    """The next ``count`` frames, in blocks whose sequence numbers must join up."""
    received: list[Frame] = []
    deadline = time.monotonic() + timeout_s
    while len(received) < count and time.monotonic() < deadline:
        block = stream.read(deadline - time.monotonic())
        if block is not None:
            assert block.sequence == len(received) + block.dropped
            received += block.frames
    return received


def test_frames_arrive_in_order_with_their_flags(fd_bench: BenchClient, node: can.BusABC) -> None:
    with fd_bench.bus("powertrain").stream() as stream:
        node.send(can.Message(arbitration_id=0x123, data=b"\x01\x02", is_extended_id=False))
        node.send(can.Message(arbitration_id=0x18DAF110, data=b"", is_extended_id=True))
        node.send(
            can.Message(arbitration_id=0x7FF, is_fd=True, bitrate_switch=True, data=bytes(64), is_extended_id=False)
        )
        node.send(can.Message(arbitration_id=0x100, is_remote_frame=True, is_extended_id=False))
        received = collect(stream, 4)
    assert [str(frame) for frame in received] == ["123#0102", "18DAF110#", "7FF##1" + "00" * 64, "100#R"]
    assert abs(received[0].timestamp_ns / 1e9 - time.time()) < 10


def test_many_frames_arrive_once_each(fd_bench: BenchClient, node: can.BusABC) -> None:
    with fd_bench.bus("powertrain").stream() as stream:
        for number in range(5000):
            node.send(can.Message(arbitration_id=0x1, data=number.to_bytes(4, "big"), is_extended_id=False))
        received = collect(stream, 5000)
        assert [int.from_bytes(frame.data, "big") for frame in received] == list(range(5000))
        assert stream.dropped == 0


def test_a_subscriber_that_stalls_loses_its_own_frames_only(
    fd_bench: BenchClient, node: can.BusABC, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FrameQueue.__init__, "__kwdefaults__", {"own_frames": False, "bound": 100})
    bus = fd_bench.bus("powertrain")
    with bus.stream() as lively:
        monkeypatch.setattr(frame_stream, "_WINDOW", 40)
        with bus.stream() as stalled:
            for number in range(2000):
                node.send(can.Message(arbitration_id=number, is_extended_id=False, data=b""))
                if number % 50 == 49:
                    collect_more(lively, 50)
            # 40 frames of credit were sent, 100 waited, and the rest was dropped, oldest kept.
            received: list[Frame] = []
            while len(received) < 140:
                block = stalled.read(10)
                assert block is not None
                received += block
            assert [frame.can_id for frame in received] == list(range(140))
            assert stalled.dropped == 2000 - 140
        assert lively.dropped == 0


def collect_more(stream: FrameStream, count: int) -> None:
    seen = 0
    while seen < count:
        block = stream.read(10)
        assert block is not None
        seen += len(block)


def test_packed_frames_go_both_ways(fd_bench: BenchClient, node: can.BusABC) -> None:
    bus = fd_bench.bus("powertrain")
    with bus.stream(own_frames=True) as stream:
        batch = frames.batch([Frame(0, number % 0x800, 0, number.to_bytes(4, "big")) for number in range(10_000)])
        stream.send_batch(batch.records, batch.record_size)
        stream.flush(30)
        seen = 0
        while seen < 10_000:
            block = stream.read(10)
            assert block is not None
            array = block.array()
            numbers = array["data"][:, :4].copy().view(">u4").ravel()
            assert numbers.tolist() == list(range(seen, seen + len(block)))
            assert (array["flags"] & frames.OWN).all()
            assert block[0].data == seen.to_bytes(4, "big")
            seen += len(block)
        for _ in range(10_000):
            assert node.recv(10) is not None
        wide = frames.batch([Frame(0, 0x1, frames.FD | frames.BITRATE_SWITCH, bytes(64))])
        stream.send_batch(wide.records, 80)
        stream.flush(10)
        received = node.recv(10)
        assert received is not None
        assert (received.is_fd, received.bitrate_switch, len(received.data)) == (True, True, 64)


@pytest.mark.parametrize(
    ("records", "size", "says"),
    [
        (bytes(23), 24, "records has 23 bytes, which is no multiple of record_size 24"),
        (bytes(24), 16, "record_size is 16; it must be 24 or 80"),
        (bytes(12) + b"\x09" + bytes(11), 24, "a record claims 9 data bytes; record_size 24 holds 8"),
    ],
)
def test_a_batch_that_is_none_is_refused_at_both_ends(
    fd_bench: BenchClient, records: bytes, size: int, says: str
) -> None:
    bus = fd_bench.bus("powertrain")
    with bus.stream() as stream, pytest.raises(BusFault, match=says):
        stream.send_batch(records, size)
    batch = bench_pb2.FrameBatch(records=records, record_size=size)
    with pytest.raises(InvalidRequest, match=f"frames: {says}"):
        fd_bench._connection.ask(fd_bench._connection.stub.Send, bench_pb2.SendRequest(bus="powertrain", frames=batch))
    with bus.stream() as stream:
        stream._send(batch, 1)
        with pytest.raises(InvalidRequest, match=f"frames: {says}"):
            stream.flush(10)


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (FrameFilter(0x105, 0x7F0), r"filters\[1\].id 0x105 has bits outside mask 0x7F0; no frame can match it"),
        (FrameFilter(0x800), r"filters\[1\].id 0x800 is above 0x7FF; set bit 31 of id for a 29-bit ID"),
        (FrameFilter(1 << 32), r"filters\[1\].id is 0x100000000; it must have 32 bits"),
        (FrameFilter(0, -1), r"filters\[1\].mask is -0x1; it must have 32 bits"),
    ],
)
def test_a_filter_that_nothing_can_pass_is_refused(fd_bench: BenchClient, wanted: FrameFilter, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says), fd_bench.bus("powertrain").stream([FrameFilter(0x1), wanted]):
        pass


def test_a_stream_without_credit_is_refused(fd_bench: BenchClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_stream, "_WINDOW", 0)
    with pytest.raises(InvalidRequest, match="credit is 0"), fd_bench.bus("powertrain").stream():
        pass


def test_filters_choose_by_id_and_mask(fd_bench: BenchClient, node: can.BusABC) -> None:
    extended = frames.EXTENDED | 0x200
    with fd_bench.bus("powertrain").stream([FrameFilter(0x100, 0xFFFF_FFF0), FrameFilter(extended)]) as stream:
        for identifier, is_extended in ((0x0FF, False), (0x105, False), (0x200, False), (0x200, True), (0x110, False)):
            node.send(can.Message(arbitration_id=identifier, is_extended_id=is_extended))
        received = collect(stream, 2)
    assert [frame.can_id for frame in received] == [0x105, extended]


def test_own_frames_are_seen_on_request_and_marked(fd_bench: BenchClient, node: can.BusABC) -> None:
    bus = fd_bench.bus("powertrain")
    with bus.stream() as without, bus.stream(own_frames=True) as with_own:
        bus.send(Frame(0, 0x10, 0, b"\x01"))
        node.send(can.Message(arbitration_id=0x11, is_extended_id=False))
        assert [frame.can_id for frame in collect(without, 1)] == [0x11]
        own = collect(with_own, 2)
    assert [(frame.can_id, bool(frame.flags & frames.OWN)) for frame in own] == [(0x10, True), (0x11, False)]


def test_frames_are_sent_by_call_and_by_stream(fd_bench: BenchClient, node: can.BusABC) -> None:
    bus = fd_bench.bus("powertrain")
    before = time.time_ns()
    stamp = bus.send([Frame(0, 0x20, 0, b"\xaa"), Frame(0, 0x21, frames.FD, bytes(12))])
    assert before <= stamp <= time.time_ns()
    with bus.stream() as stream:
        stream.send([Frame(0, 0x22 + number, 0, b"") for number in range(3)])
        stream.flush(5)
    received = [node.recv(5) for _ in range(5)]
    assert [message.arbitration_id for message in received if message] == [0x20, 0x21, 0x22, 0x23, 0x24]


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (Frame(0, 0x800, 0, b""), "0x800 is above 0x7FF"),
        (Frame(0, 0x1, 0, bytes(9)), "9 bytes; a classic CAN frame takes at most 8"),
        (Frame(0, 0x1, frames.FD, bytes(9)), "9 bytes; a CAN FD frame takes one of"),
        (Frame(0, frames.ERROR | 1, 0, b""), "an error frame cannot be sent"),
        (Frame(0, frames.REMOTE | 1, frames.FD, b""), "CAN FD knows no remote frames"),
    ],
)
def test_a_frame_that_cannot_exist_is_refused(bench: BenchClient, frame: Frame, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        bench.bus("powertrain").send(frame)


def test_an_fd_frame_on_a_classic_bus_is_refused(bench: BenchClient) -> None:
    with pytest.raises(InvalidRequest, match="FD"):
        bench.bus("powertrain").send(Frame(0, 0x1, frames.FD, bytes(12)))
    with bench.bus("powertrain").stream() as stream:
        stream.send([Frame(0, 0x1, frames.FD, bytes(12)), Frame(0, 0x2, 0, b"")])
        with pytest.raises(BusFault, match="1 frames were not sent"):
            stream.flush(5)


def test_an_unknown_bus_is_named_with_those_there_are(bench: BenchClient) -> None:
    with pytest.raises(NotFound, match="no bus 'chassis'; it has powertrain"):
        bench.bus("chassis")


def test_signals_make_the_round_trip(bench: BenchClient) -> None:
    bus = bench.bus("powertrain")
    sent = bus.send_message("EngineControl", {"TargetSpeed": 1500})
    assert sent.frame.flags & frames.OWN
    conditions: list[Condition] = [
        Within("EngineSpeed", 1450, 1550),
        Equals("EngineState", "Running"),
        Compare("EngineSpeed", ">=", 1450),
        Compare("EngineState", "!=", "Off"),
    ]
    found = bus.expect_message("EngineStatus", conditions, timeout_s=5, since_ns=sent.timestamp_ns)
    assert found.met, found.unmet
    assert found.signals["EngineState"] == "Running"
    assert found.frame is not None
    assert found.seen >= 1
    assert found.unmet == ()


def test_what_is_not_met_is_said(bench: BenchClient) -> None:
    bus = bench.bus("powertrain")
    first = bus.expect_message("EngineStatus", timeout_s=30).frame
    assert first is not None
    conditions = [Within("EngineSpeed", 5000, 5100)]
    found = bus.expect_message("EngineStatus", conditions, timeout_s=0.2, since_ns=first.timestamp_ns)
    assert not found.met
    assert found.seen > 0
    assert found.unmet == ("EngineSpeed = 800, expected 5000 .. 5100",)


def test_a_value_with_a_name_can_be_expected_by_number(bench: BenchClient) -> None:
    bus = bench.bus("powertrain")
    running = bus.expect_message("EngineStatus", timeout_s=5).frame
    assert running is not None
    found = bus.expect_message("EngineStatus", [Compare("EngineState", ">", 0)], timeout_s=5)
    assert found.met
    assert found.signals["EngineState"] == "Running"


def test_remembered_frames_count_from_the_given_moment(fd_bench: BenchClient, node: can.BusABC) -> None:
    bus = fd_bench.bus("powertrain")
    fd_bench.describe()
    with bus.stream() as stream:
        node.send(can.Message(arbitration_id=0x77, data=b"\x01", is_extended_id=False))
        [first] = collect(stream, 1)
    assert bus.expect_frame(0x77, timeout_s=0.05).met is False
    assert bus.expect_frame(0x77, timeout_s=0.05, since_ns=first.timestamp_ns - 1000).met is True
    assert bus.expect_frame(0x77, b"\x02", timeout_s=0.05, since_ns=first.timestamp_ns - 1000).unmet == (
        "data = 01, expected 02",
    )
    assert bus.expect_frame(0x77, timeout_s=0.05, since_ns=first.timestamp_ns + 1000).met is False


def test_a_live_frame_ends_the_wait_at_once(fd_bench: BenchClient, node: can.BusABC) -> None:
    bus = fd_bench.bus("powertrain")
    stop = threading.Event()

    def keep_sending() -> None:
        while not stop.wait(0.02):
            node.send(can.Message(arbitration_id=0x88, data=b"\x05", is_extended_id=False))

    sender = threading.Thread(target=keep_sending)
    sender.start()
    started = time.monotonic()
    found = bus.expect_frame(0x88, b"\x05", timeout_s=30)
    stop.set()
    sender.join()
    assert found.met
    assert time.monotonic() - started < 5


def test_own_frames_do_not_meet_an_expectation(fd_bench: BenchClient) -> None:
    bus = fd_bench.bus("powertrain")
    stamp = bus.send(Frame(0, 0x99, 0, b""))
    assert not bus.expect_frame(0x99, timeout_s=0.05, since_ns=stamp - 1).met


@pytest.mark.parametrize(
    ("message", "conditions", "says"),
    [
        ("EngineStatu", [], "unknown message 'EngineStatu'; did you mean EngineStatus"),
        ("EngineStatus", [Equals("EngineSped", 1)], "no signal 'EngineSped'; did you mean EngineSpeed"),
        ("EngineStatus", [Equals("EngineState", "Runing")], "no value named 'Runing'; did you mean Running"),
        ("EngineStatus", [Compare("EngineState", "<", "Running")], "< needs a number"),
        ("EngineStatus", [Within("EngineSpeed", 2, 1)], "low 2 is above high 1"),
    ],
)
def test_expectations_that_make_no_sense_are_refused(
    bench: BenchClient, message: str, conditions: list[Condition], says: str
) -> None:
    with pytest.raises(InvalidRequest, match=says):
        bench.bus("powertrain").expect_message(message, conditions)


@pytest.mark.parametrize(
    ("message", "signals", "says"),
    [
        ("EngineControll", {}, "unknown message 'EngineControll'; did you mean EngineControl"),
        ("EngineControl", {"Target": 1}, "no signal 'Target'"),
        ("EngineControl", {"TargetSpeed": 1e9}, "TargetSpeed"),
        ("EngineControl", {"TargetSpeed": "fast"}, "TargetSpeed"),
        ("EngineControl", {"TargetSpeed": [1]}, "a value is a number or a name"),
    ],
)
def test_messages_that_cannot_be_encoded_are_refused(
    bench: BenchClient, message: str, signals: dict[str, object], says: str
) -> None:
    with pytest.raises(InvalidRequest, match=says):
        bench.bus("powertrain").send_message(message, signals)


def test_a_new_holder_sees_nothing_of_the_former(
    running: RunningAgent, open_bench: OpenBench, node: can.BusABC
) -> None:
    first = open_bench(bench="bench-2", epoch=1)
    bus = first.bus("powertrain")
    with bus.stream() as stream:
        node.send(can.Message(arbitration_id=0x42, is_extended_id=False))
        collect(stream, 1)
    assert [frame.can_id for frame in first.recent(10)["powertrain"]] == [0x42]
    second = open_bench(bench="bench-2", epoch=2)
    assert second.recent(10) == {"powertrain": []}
    assert not second.bus("powertrain").expect_frame(0x42, timeout_s=0.05, since_ns=1).met
    with pytest.raises(LeaseRefused):
        first.recent(10)


def test_a_bus_that_fails_ends_streams_with_the_reason_and_is_opened_again(
    running: RunningAgent, fd_bench: BenchClient
) -> None:
    bus = fd_bench.bus("powertrain")
    agent_bus = running.agent.benches["bench-2"].bus("powertrain")
    with bus.stream() as stream:
        assert agent_bus.hub is not None
        agent_bus.hub._driver.close()  # the driver gives up
        with pytest.raises(BenchUnavailable, match="powertrain"):
            for _ in stream.blocks():
                pass
    deadline = time.monotonic() + 10
    while not fd_bench.describe().healthy:
        assert time.monotonic() < deadline
    bus.send(Frame(0, 0x1, 0, b""))


def test_every_lease_leaves_a_trace_that_other_tools_read(
    running: RunningAgent, open_bench: OpenBench, node: can.BusABC, agent_file: AgentFile
) -> None:
    bench = open_bench(bench="bench-2")
    bus = bench.bus("powertrain")
    bus.send(Frame(0, 0x10, 0, b"\xaa"))
    with bus.stream() as stream:
        node.send(can.Message(arbitration_id=0x11, is_fd=True, data=bytes(12), is_extended_id=False))
        collect(stream, 1)
    running.fence(1, bench="bench-2")
    trace = agent_file.data / "traces/lease-1/powertrain-0001.blf"
    with can.LogReader(trace) as reader:
        logged = [(message.arbitration_id, message.is_fd, message.is_rx) for message in reader]
    assert logged == [(0x10, False, False), (0x11, True, True)]
    counts = json.loads(trace.with_name("powertrain.json").read_text())
    assert (counts["written"], counts["dropped"]) == (2, 0)


def test_an_interface_that_does_not_exist_costs_only_its_bench(
    agent_file: AgentFile, start_agent: StartAgent, signer: object
) -> None:
    agent_file.benches[1]["can"][0] |= {"interface": "socketcan", "channel": "nocan7"}
    running = start_agent()
    assert running.health("bench-1") == ""
    assert "powertrain" in running.health("bench-2")
    assert "socketcan nocan7" in running.health("bench-2")


def test_a_database_that_does_not_load_costs_only_its_bench(
    agent_file: AgentFile, start_agent: StartAgent, signer: object
) -> None:
    broken = agent_file.folder / "broken.dbc"
    broken.write_text("BO_ what?")
    agent_file.benches[1]["can"][0]["dbc"] = str(broken)
    running = start_agent()
    assert running.health("bench-1") == ""
    assert "broken.dbc: does not load" in running.health("bench-2")


def test_a_description_with_mistakes_costs_only_its_bench(agent_file: AgentFile, start_agent: StartAgent) -> None:
    (agent_file.folder / "bad.yaml").write_text("name: X\naddressing: {request_id: 0x7E0}\n")
    agent_file.benches[1]["ecus"] = [{"file": "bad.yaml", "bus": "powertrain"}]
    running = start_agent()
    assert running.health("bench-1") == ""
    assert "bad.yaml:2: addressing.response_id: is missing" in running.health("bench-2")


def test_a_simulated_ecu_that_the_database_does_not_suit_costs_only_its_bench(
    agent_file: AgentFile, start_agent: StartAgent
) -> None:
    agent_file.benches[1] = bench_entry("bench-2")
    del agent_file.benches[1]["can"][0]["dbc"]
    running = start_agent()
    assert running.health("bench-1") == ""
    assert running.health("bench-2") == (
        "simulated ECU ECM: ECM needs EngineStatus, but bus 'bench-2/ECM' has no database (dbc)"
    )


def test_a_bus_that_opens_but_fails_at_once_is_not_opened_all_the_time(
    agent_file: AgentFile, start_agent: StartAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Down(can.BusABC):
        def __init__(self) -> None:
            super().__init__(channel="down")

        def recv(self, timeout: float | None = None) -> can.Message | None:
            opened.append(self)
            raise can.CanOperationError("Network is down")

        def send(self, msg: can.Message, timeout: float | None = None) -> None:
            raise can.CanOperationError("Network is down")

    opened: list[can.BusABC] = []
    driver = can.Bus
    monkeypatch.setattr(can, "Bus", lambda **given: Down() if given["channel"] == "down" else driver(**given))
    agent_file.benches[1]["can"][0]["channel"] = "down"
    running = start_agent()
    assert running.health("bench-1") == ""
    deadline = time.monotonic() + 10
    while "Network is down" not in running.health("bench-2"):
        assert time.monotonic() < deadline
    # The first pause is half a second at least.
    with running.node() as node:
        node.recv(0.3)
    assert len(opened) <= 2


def test_a_stream_that_the_agent_ends_says_so() -> None:
    class Call:
        def __iter__(self) -> Iterator[bench_pb2.CanEvent]:
            return iter([bench_pb2.CanEvent(opened=bench_pb2.BusDescription(name="c"))])

        def cancel(self) -> bool:
            return True

    connection = Connection("127.0.0.1:9", "bench-1", "token", timeout_s=5)
    with patch.object(connection.stub, "Can", lambda requests, metadata: Call()):
        stream = FrameStream(connection, "c")
        with pytest.raises(BenchUnavailable, match="has ended the stream"), stream:
            stream.read(5)
    connection.close()


def test_a_session_outlives_a_bus_that_fails_and_is_closed_with_the_lease(
    running: RunningAgent, bench: BenchClient
) -> None:
    ecm = bench.ecu("ECM")
    ecm.call("session", session="extended")
    hub = running.agent.benches["bench-1"].bus("powertrain").hub
    assert hub is not None
    hub._driver.close()
    deadline = time.monotonic() + 10
    while True:
        try:
            ecm.call("read", did="VIN")
            break
        except (UdsTimeout, UdsTransport):  # the bus comes back, and then the ECU boots
            assert time.monotonic() < deadline
    with running.node() as node:
        running.fence(1)
        heard = []
        while (message := node.recv(0)) is not None:
            heard.append((message.arbitration_id, bytes(message.data[:3])))
    assert (0x7E0, b"\x02\x10\x01") in heard


def test_a_simulated_ecu_keeps_what_it_knows_while_its_bus_is_away(running: RunningAgent, bench: BenchClient) -> None:
    ecm = bench.ecu("ECM")
    ecm.call("session", session="extended")
    ecm.call("unlock", level=1)
    ecm.call("write", did="Code", value="1234")
    hub = running.agent.benches["bench-1"].bus("powertrain").hub
    assert hub is not None
    hub._driver.close()
    deadline = time.monotonic() + 10
    while True:
        try:
            assert ecm.call("read", did="Code") == "1234"
            return
        except (UdsTimeout, UdsTransport):
            assert time.monotonic() < deadline


def test_frames_of_a_simulated_ecu_are_received_ones(bench: BenchClient) -> None:
    with bench.bus("powertrain").stream([FrameFilter(0x200)]) as stream:
        [frame] = collect(stream, 1)
    assert not frame.flags & frames.OWN
