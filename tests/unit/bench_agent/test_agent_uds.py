"""Diagnostics through the agent."""

import threading
import time
from typing import Any

import can
import pytest

from bench_agent.client import BenchClient, NegativeResponse, NotFound, UdsInvalid, UdsTimeout, UdsTransport
from bench_agent.protocol import bench_pb2
from tests.unit.bench_agent.harness import AgentFile, OpenBench, RunningAgent, Signer, StartAgent


def test_a_whole_pdu_goes_there_and_back(bench: BenchClient) -> None:
    exchange = bench.ecu("ECM").raw(bytes.fromhex("22F190"))
    assert exchange.response == b"\x62\xf1\x90WVWZZZ1KZ6W000001"
    assert exchange.request == b"\x22\xf1\x90"
    assert 0 < exchange.elapsed_us < 2_000_000
    assert (exchange.pending_count, exchange.pending_us) == (0, ())
    assert (exchange.service_name, exchange.negative) == ("ReadDataByIdentifier", None)


def test_services_by_name(bench: BenchClient) -> None:
    ecm = bench.ecu("ECM")
    assert ecm.call("read", did="VIN") == "WVWZZZ1KZ6W000001"
    assert ecm.call("read", did=0xF190) == "WVWZZZ1KZ6W000001"
    assert ecm.call("read", did="Voltage") == pytest.approx(12.6)
    ecm.call("session", session="extended")
    ecm.call("unlock", level=1)
    ecm.call("write", did="Code", value="1234")
    assert ecm.call("read", did="Code") == "1234"
    assert ecm.last is not None
    assert ecm.last.request == b"\x22\xf1\x98"


def test_response_pending_is_reported_with_its_times(bench: BenchClient) -> None:
    ecm = bench.ecu("ECM")
    ecm.call("clear_dtcs")
    assert ecm.last is not None
    assert (ecm.last.pending_count, len(ecm.last.pending_us)) == (1, 1)
    assert ecm.last.pending_last_us == ecm.last.pending_us[0]
    assert ecm.last.pending_longest_gap_us <= ecm.last.elapsed_us
    assert 0 < ecm.last.pending_us[0] < ecm.last.elapsed_us
    assert ecm.last.elapsed_us >= 100_000


def test_a_refusal_names_service_and_reason(bench: BenchClient) -> None:
    ecm = bench.ecu("ECM")
    with pytest.raises(NegativeResponse) as refused:
        ecm.call("write", did="Code", value="1234")
    assert (refused.value.service, refused.value.nrc) == (0x2E, 0x31)
    assert str(refused.value) == "WriteDataByIdentifier (0x2E) refused: requestOutOfRange (NRC 0x31)"
    assert ecm.last is not None
    assert ecm.last.response == b"\x7f\x2e\x31"
    meaning = "a parameter, such as the data identifier, is unknown or out of range"
    assert refused.value.meaning == meaning
    assert ecm.last.service_name == "WriteDataByIdentifier"
    assert ecm.last.negative is not None
    assert (ecm.last.negative.nrc_name, ecm.last.negative.meaning) == ("requestOutOfRange", meaning)


def test_raw_takes_a_refusal_as_an_answer_and_explains_it(bench: BenchClient) -> None:
    exchange = bench.ecu("ECM").raw(b"\xba")
    assert exchange.response == b"\x7f\xba\x11"
    assert exchange.service_name == "service 0xBA"
    assert exchange.negative is not None
    assert vars(exchange.negative) == {
        "service": 0xBA,
        "nrc": 0x11,
        "service_name": "service 0xBA",
        "nrc_name": "serviceNotSupported",
        "meaning": "the ECU does not have this service",
    }


@pytest.mark.parametrize(
    ("service", "arguments", "says"),
    [
        ("read", {"did": "VINN"}, "unknown data identifier 'VINN' of ECM; did you mean VIN"),
        ("reed", {}, "unknown service 'reed'; did you mean"),
        ("read", {"dids": 1}, "no argument 'dids'"),
        ("unlock", {"level": 5}, "level 5 of ECM is not described"),
        ("write", {"did": "Code", "value": "12345"}, "Code"),
        ("write", {"did": "Code", "value": object()}, "arguments of write"),
    ],
)
def test_what_cannot_be_asked_is_not_sent(
    bench: BenchClient, service: str, arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(UdsInvalid, match=says):
        bench.ecu("ECM").call(service, **arguments)


def test_an_unknown_ecu_is_named_with_those_there_are(bench: BenchClient) -> None:
    with pytest.raises(NotFound, match="no ECU 'TCM'; it has ECM"):
        bench.ecu("TCM")


def test_an_ecu_that_says_nothing_is_a_timeout(agent_file: AgentFile, start_agent: StartAgent, signer: Signer) -> None:
    agent_file.benches[0]["ecus"][0]["simulated"] = False
    with BenchClient(start_agent().address, "bench-1", signer.token()) as bench:
        ecm = bench.ecu("ECM")
        with pytest.raises(UdsTimeout, match="no response within P2"):
            ecm.raw(b"\x3e\x00")
        with pytest.raises(UdsTimeout, match=r"no response within 0\.05 s"):
            ecm.raw(b"\x3e\x00", timeout_s=0.05)
        assert ecm.last is not None
        assert ecm.last.response == b""
        assert (ecm.last.service_name, ecm.last.negative) == ("TesterPresent", None)


def test_a_lost_response_names_kind_and_frame(agent_file: AgentFile, start_agent: StartAgent, signer: Signer) -> None:
    agent_file.benches[0]["ecus"][0]["simulated"] = False
    running = start_agent()
    with BenchClient(running.address, "bench-1", signer.token()) as bench, running.node() as ecu:

        def answer() -> None:
            while (frame := ecu.recv(10)) is not None and frame.arbitration_id != 0x7E0:
                pass
            for data in ("101462F190575657", "2201020304050607"):
                ecu.send(can.Message(arbitration_id=0x7E8, is_extended_id=False, data=bytes.fromhex(data)))

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(UdsTransport, match="consecutive frame 2 came instead of 1") as lost:
            bench.ecu("ECM").raw(b"\x22\xf1\x90")
        thread.join(10)
        assert (lost.value.kind, lost.value.frame) == ("wrong_sequence_number", "7E8#2201020304050607")


def test_threads_share_a_bench(bench: BenchClient) -> None:
    failures: list[object] = []

    def read(expected: object, **arguments: Any) -> None:
        ecm = bench.ecu("ECM")
        for _ in range(20):
            result = ecm.call("read", **arguments)
            if result != expected:
                failures.append(result)

    threads = [
        threading.Thread(target=read, args=("WVWZZZ1KZ6W000001",), kwargs={"did": "VIN"}),
        threading.Thread(target=read, args=("0000",), kwargs={"did": "Code"}),
        threading.Thread(target=read, args=(12.6,), kwargs={"did": "Voltage"}),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not failures


def test_seed_and_key_are_not_torn_apart_by_another_thread(bench: BenchClient) -> None:
    ecm = bench.ecu("ECM")
    ecm.call("session", session="extended")
    failures: list[BaseException] = []

    def unlock() -> None:
        try:
            for _ in range(5):
                bench.ecu("ECM").call("unlock", level=1)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=unlock) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not failures


def test_a_session_lasts_beyond_s3_while_the_lease_lives(bench: BenchClient) -> None:
    ecm = bench.ecu("ECM")
    ecm.call("session", session="extended")
    deadline = time.monotonic() + 2.0  # S3 of this ECU is 1.5 s
    while time.monotonic() < deadline:
        bench.bus("powertrain").expect_frame(0x7E0, timeout_s=0.3)  # lets time pass, with nothing asked of the ECU
    ecm.call("unlock", level=1)  # refused in the default session


def test_the_next_holder_finds_the_ecu_as_described(running: RunningAgent, open_bench: OpenBench) -> None:
    ecm = open_bench().ecu("ECM")
    ecm.call("session", session="extended")
    ecm.call("unlock", level=1)
    ecm.call("write", did="Code", value="1234")
    ecm.call("clear_dtcs")
    assert ecm.call("count_dtcs", mask=0x08) == 0
    running.fence(1)
    ecm = open_bench(epoch=2).ecu("ECM")
    assert ecm.raw(b"\x27\x01").response == b"\x7f\x27\x7f"  # default session, locked
    assert ecm.call("read", did="Code") == "0000"
    assert ecm.call("count_dtcs", mask=0x08) == 1


def test_an_exchange_in_work_is_cut_with_the_lease(running: RunningAgent, open_bench: OpenBench) -> None:
    bench = open_bench()
    ecm = bench.ecu("ECM")
    ecm.call("read", did="VIN")
    outcome: list[BaseException] = []

    def ask() -> None:
        try:
            while True:
                ecm.call("clear_dtcs", timeout_s=30)
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert bench.bus("powertrain").expect_frame(0x7E8, timeout_s=5).met  # the 0x78: it is in work
    started = time.monotonic()
    running.fence(1)
    thread.join(10)
    assert "has ended: released" in str(outcome[0])
    assert time.monotonic() - started < 5


def test_an_ecu_on_a_bus_that_is_down_is_a_transport_error(
    agent_file: AgentFile, start_agent: StartAgent, signer: Signer
) -> None:
    agent_file.benches[0]["can"][0] |= {"interface": "socketcan", "channel": "nocan7"}
    with (
        BenchClient(start_agent().address, "bench-1", signer.token()) as bench,
        pytest.raises(UdsTransport, match="nocan7"),
    ):
        bench.ecu("ECM").raw(b"\x3e\x00")


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (bench_pb2.UdsRequest(ecu="TCM", timeout_ms=10, pdu=b"\x3e"), "no ECU 'TCM'"),
        (bench_pb2.UdsRequest(ecu="ECM", pdu=b"\x3e"), "timeout_ms is 0"),
        (bench_pb2.UdsRequest(ecu="ECM", timeout_ms=10), "neither a service nor a request PDU"),
        (bench_pb2.UdsRequest(ecu="ECM", timeout_ms=10, pdu=b""), "neither a service nor a request PDU"),
    ],
)
def test_other_clients_get_errors_that_say_what_is_wrong(
    bench: BenchClient, request_: bench_pb2.UdsRequest, says: str
) -> None:
    request = bench_pb2.UdsRequest()
    request.CopyFrom(request_)
    reply = bench._uds.exchange(request)
    assert reply.error.kind == bench_pb2.UdsError.INVALID
    assert (reply.request, reply.service_name) == (b"", "")
    assert says in reply.error.message
