"""Flashing through the agent: image up, progress down, and a verdict that says where it stopped."""

import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench_agent.client import BenchClient, FlashFailed, FlashProgress, InvalidRequest, LeaseRefused, NotFound
from bench_agent.protocol import flash_pb2, flash_pb2_grpc
from ecu_adapters.isotp import IsoTpEndpoint
from tests.unit.bench_agent.harness import AgentFile, OpenBench, RunningAgent, Signer

START = 0x0800_0000
ECU: dict[str, Any] = {
    "name": "ECM",
    "addressing": {"request_id": 0x7E0, "response_id": 0x7E8, "functional_id": 0x7DF},
    "timing": {"p2_ms": 50, "p2_star_ms": 500, "transit_ms": 300},
    "isotp": {"n_cr_ms": 200},
    "security": {1: {"algorithm": "xor", "key": "A5A5A5A5"}},
    "memory": {
        "max_block": 0x102,
        "regions": {"app": {"address": START, "size": 0x10000, "write": {"session": ["programming"], "security": 1}}},
    },
    "flash": {"session": "programming", "security": 1, "resume": True},
}


@pytest.fixture
def agent_file(agent_file: AgentFile, tmp_path: Path) -> AgentFile:
    (tmp_path / "ecm.yaml").write_text(yaml.safe_dump(ECU))
    return agent_file


def _memory(running: RunningAgent, size: int, offset: int = 0) -> bytes:
    bench = running.agent.benches["bench-1"]
    simulated = bench._nodes["ECM"].ecu
    assert simulated is not None
    return bytes(simulated.server.state.memory._bytes("app")[offset : offset + size])


def test_an_image_is_written_and_progress_told(running: RunningAgent, bench: BenchClient) -> None:
    image = bytes(n * 5 & 0xFF for n in range(60_000))
    events: list[FlashProgress] = []
    result = bench.ecu("ECM").flash(image, file_name="app.bin", address=START, on_progress=events.append)
    assert (result.bytes, _memory(running, 60_000)) == (60_000, image)
    assert events[0].phase == "prepare"
    assert any(event.phase == "transfer" and event.block > 0 for event in events)
    assert [event.done for event in events] == sorted(event.done for event in events)
    assert {event.total for event in events} == {60_000}


def test_a_file_is_read_by_its_suffix(running: RunningAgent, bench: BenchClient, tmp_path: Path) -> None:
    path = tmp_path / "app.hex"
    path.write_text(":020000040800F2\n:04000000DEADBEEFC4\n:00000001FF\n")
    bench.ecu("ECM").flash(path)
    assert _memory(running, 5) == b"\xde\xad\xbe\xef\xff"


@pytest.mark.parametrize(
    ("content", "name", "address", "says"),
    [
        (b":04000000DEADBEEFC4", "app.hex", None, r"app\.hex:1: the end record .* is missing: the file is truncated"),
        (bytes(0x10001), "app.bin", START, r"0x8010000 .. 0x8010000 of the image is outside the memory of ECM"),
        (bytes(10), "app.bin", None, "give an address"),
        (b"", "app.bin", START, "size is 0"),
    ],
)
def test_what_does_not_suit_the_ecu_is_refused_before_anything_is_sent(
    bench: BenchClient, content: bytes, name: str, address: int | None, says: str
) -> None:
    with pytest.raises(InvalidRequest, match=says):
        bench.ecu("ECM").flash(content, file_name=name, address=address)
    assert bench.recent(10)["powertrain"] == [] or all(
        frame.can_id not in (0x7E0, 0x7E8) for frame in bench.recent(10)["powertrain"]
    )


def test_the_upload_must_be_what_was_announced(bench: BenchClient) -> None:
    stub = flash_pb2_grpc.FlashStub(bench._connection.channel)

    def ask(*requests: flash_pb2.FlashRequest) -> None:
        list(stub.Write(iter(requests), metadata=bench._connection.metadata, timeout=10))

    start = flash_pb2.FlashRequest(start=flash_pb2.FlashStart(ecu="ECM", file_name="a.bin", size=4, sha256=bytes(32)))
    data = flash_pb2.FlashRequest(data=b"abcd")
    for requests, says in [
        ((), "the first request must be the start"),
        ((data,), "the first request must be the start"),
        ((start,), r"a\.bin ended after 0 of 4 bytes"),
        ((start, data), "SHA-256"),
        ((start, flash_pb2.FlashRequest(data=b"abcde")), "longer than the 4 bytes"),
    ]:
        with pytest.raises(Exception, match=says):
            ask(*requests)


def test_a_refusal_is_told_with_phase_and_code(
    agent_file: AgentFile, tmp_path: Path, open_bench: OpenBench, bench: BenchClient
) -> None:
    ecm = bench.ecu("ECM")
    ecm.flash(bytes(100), file_name="app.bin", address=START)
    with pytest.raises(FlashFailed, match=r"request at 0x8000000: RequestDownload refused") as refused:
        ecm.flash(bytes(200), file_name="app.bin", address=START)  # nothing erases what is there
    assert (refused.value.at.phase, refused.value.nrc, refused.value.resumable) == ("request", 0x70, False)
    assert refused.value.nrc_name == "uploadDownloadNotAccepted"


def test_a_broken_transfer_is_resumed_on_request(running: RunningAgent, bench: BenchClient) -> None:
    image = bytes(n * 5 & 0xFF for n in range(20_000))
    broken = threading.Event()

    def drop(data: bytes) -> list[tuple[float, bytes]]:
        if broken.is_set() or not bench_is_at_block_five(data):
            return [(0, data)]
        broken.set()
        return []

    def bench_is_at_block_five(data: bytes) -> bool:
        if data[0] >> 4 == 1 and data[2:4] == b"\x36\x05":
            state.append(True)
        return bool(state) and data[0] >> 4 == 2

    state: list[bool] = []
    ecm = bench.ecu("ECM")
    ecm.raw(b"\x3e\x00")
    tenancy = running.agent.benches["bench-1"].tenancy
    assert tenancy is not None
    endpoint = tenancy._testers["ECM"][1]._endpoint
    assert isinstance(endpoint, IsoTpEndpoint)
    endpoint.frame_filter = drop
    with pytest.raises(
        FlashFailed, match=r"transfer at 0x8000400, block 5 of 79 \(counter 0x05\): .*no response"
    ) as lost:
        ecm.flash(image, file_name="app.bin", address=START)
    assert (lost.value.at.block, lost.value.at.address, lost.value.resumable) == (5, START + 0x400, True)
    assert lost.value.at.done == 0x400
    events: list[FlashProgress] = []
    ecm.flash(image, file_name="app.bin", address=START, resume=True, on_progress=events.append)
    assert events[0].done == 0x400
    assert _memory(running, len(image)) == image


def test_an_image_for_another_place_is_not_resumed(running: RunningAgent, bench: BenchClient) -> None:
    ecm = bench.ecu("ECM")
    ecm.raw(b"\x3e\x00")
    tenancy = running.agent.benches["bench-1"].tenancy
    assert tenancy is not None
    endpoint = tenancy._testers["ECM"][1]._endpoint
    assert isinstance(endpoint, IsoTpEndpoint)
    endpoint.frame_filter = lambda data: [] if data[0] == 0x22 else [(0, data)]
    with pytest.raises(FlashFailed) as lost:
        ecm.flash(bytes(2000), file_name="app.bin", address=START)
    assert lost.value.resumable
    endpoint.frame_filter = None
    events: list[FlashProgress] = []
    ecm.flash(bytes(2000), file_name="app.bin", address=START + 0x8000, resume=True, on_progress=events.append)
    assert (events[0].done, events[0].address) == (0, START + 0x8000)
    assert _memory(running, 2000, 0x8000) == bytes(2000)


def test_an_unknown_ecu_and_a_foreign_token(bench: BenchClient, open_bench: OpenBench, signer: Signer) -> None:
    with pytest.raises(NotFound, match="no ECU 'TCM'"):
        bench.ecu("ECM")._flashing.write("TCM", b"x", file_name="a.bin", address=0)
    with pytest.raises(LeaseRefused):
        open_bench(token="nonsense").ecu("ECM").flash(b"x", file_name="a.bin", address=0)


def test_a_client_that_goes_away_stops_the_flashing(running: RunningAgent, bench: BenchClient) -> None:
    ecm = bench.ecu("ECM")
    events = ecm.flashing(bytes(0x10000), file_name="app.bin", address=START)
    assert isinstance(next(events), FlashProgress)
    events.close()
    # Served once the flashing has let go of the ECU, whose transfer is not complete.
    assert ecm.raw(b"\x37").response in (b"\x7f\x37\x24", b"\x7f\x37\x7f")
    assert b"\xff" in _memory(running, 0x10000)


def test_the_end_of_the_lease_ends_the_flashing(running: RunningAgent, bench: BenchClient) -> None:
    outcome: list[BaseException] = []
    begun = threading.Event()

    def flash() -> None:
        try:
            bench.ecu("ECM").flash(
                bytes(0x10000), file_name="app.bin", address=START, on_progress=lambda at: begun.set()
            )
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=flash)
    thread.start()
    assert begun.wait(10)
    running.fence(1)
    thread.join(20)
    assert len(outcome) == 1
    assert "has ended: released" in str(outcome[0])
