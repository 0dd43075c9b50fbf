"""Who gets in, and who does not any more: through a real server, with real tokens."""

import threading
import time
from typing import Any

import can
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc  # type: ignore[import-untyped]

from bench_agent.client import BenchClient, BenchUnavailable, FrameFilter, LeaseRefused, NotFound
from bench_agent.protocol import bench_pb2, bench_pb2_grpc
from bench_agent.server.door import OPEN_SERVICES
from bench_agent.server.services import GUARDED, OFFERED
from tests.unit.bench_agent.harness import AgentFile, OpenBench, RunningAgent, Signer, StartAgent


def test_a_good_token_opens_the_bench(bench: BenchClient) -> None:
    description = bench.describe()
    assert description.name == "bench-1"
    assert description.labels == {"platform": "meb"}
    assert description.healthy, description.health_reason
    assert [ecu.name for ecu in description.ecus] == ["ECM"]
    assert "EngineStatus" in description.buses[0].messages


@pytest.mark.parametrize(
    ("token", "says"),
    [
        ("", "no lease token"),
        ("garbage", "malformed"),
        ("a.b.c", "malformed"),
        ("x" * 5000, "at most 4096"),
    ],
)
def test_what_is_no_token_is_refused(open_bench: OpenBench, token: str, says: str) -> None:
    with pytest.raises(LeaseRefused, match=says):
        open_bench(token).describe()


def test_an_expired_token_is_refused(open_bench: OpenBench, signer: Signer) -> None:
    with pytest.raises(LeaseRefused, match=r"expired \d+ s ago"):
        open_bench(signer.token(lasts_s=-5)).describe()


def test_a_token_for_another_bench_is_refused(open_bench: OpenBench, signer: Signer) -> None:
    with pytest.raises(LeaseRefused, match="for bench 'bench-2', not for 'bench-1'"):
        open_bench(signer.token("bench-2"), bench="bench-1").describe()


def test_a_token_with_a_wrong_signature_is_refused(open_bench: OpenBench) -> None:
    stranger = Signer()  # another key under the same key id
    with pytest.raises(LeaseRefused, match="wrong signature"):
        open_bench(stranger.token()).describe()


def test_a_token_that_is_signed_with_none_is_refused(open_bench: OpenBench, signer: Signer) -> None:
    payload = signer.token().split(".")[1]
    unsigned = f"eyJhbGciOiJub25lIn0.{payload}."  # {"alg":"none"}
    with pytest.raises(LeaseRefused, match="malformed"):
        open_bench(unsigned).describe()


@pytest.mark.parametrize("changes", [{"iss": "else"}, {"epoch": "1"}, {"epoch": True}, {"sub": None}])
def test_a_token_with_wrong_claims_is_refused(open_bench: OpenBench, signer: Signer, changes: dict[str, Any]) -> None:
    with pytest.raises(LeaseRefused, match=f"claim {next(iter(changes))}"):
        open_bench(signer.token(**changes)).describe()


def test_a_token_of_an_unknown_scope_is_refused(open_bench: OpenBench, signer: Signer) -> None:
    with pytest.raises(LeaseRefused, match="claim scope is 'look'; it must be one of 'observer', 'co-driver', 'bench'"):
        open_bench(signer.token(scope="look")).describe()


def test_an_unknown_bench_is_named_with_those_there_are(open_bench: OpenBench, signer: Signer) -> None:
    with pytest.raises(NotFound, match="no bench 'bench-9'; it has bench-1, bench-2"):
        open_bench(signer.token("bench-9"), bench="bench-9").describe()


def test_before_labd_was_ever_reached_nobody_gets_in(start_agent: StartAgent, signer: Signer) -> None:
    agent = start_agent(keys=False)
    with (
        BenchClient(agent.address, "bench-1", signer.token()) as bench,
        pytest.raises(BenchUnavailable, match="has not reached labd yet"),
    ):
        bench.describe()


def test_an_older_epoch_is_refused_after_a_newer_one(open_bench: OpenBench) -> None:
    old, new = open_bench(epoch=3), open_bench(epoch=4)
    old.describe()
    new.describe()
    with pytest.raises(LeaseRefused, match="epoch 3"):
        old.describe()
    new.describe()


def test_an_older_epoch_is_refused_after_a_restart_too(
    start_agent: StartAgent, agent_file: AgentFile, signer: Signer
) -> None:
    first = start_agent()
    with BenchClient(first.address, "bench-1", signer.token(epoch=7)) as bench:
        bench.describe()
    first.portal.call(first.agent.stop)
    second = start_agent()
    with BenchClient(second.address, "bench-1", signer.token(epoch=6)) as bench, pytest.raises(LeaseRefused):
        bench.describe()
    with BenchClient(second.address, "bench-1", signer.token(epoch=7)) as bench:
        bench.describe()  # its lease still lives: the restart did not end it


def test_a_fenced_epoch_stays_out_after_a_restart(start_agent: StartAgent, signer: Signer) -> None:
    first = start_agent()
    first.fence(5)
    first.portal.call(first.agent.stop)
    second = start_agent()
    assert second.fenced() == 5
    with BenchClient(second.address, "bench-1", signer.token(epoch=5)) as bench, pytest.raises(LeaseRefused):
        bench.describe()


def test_revocation_cuts_streams_and_waiting_calls(
    running: RunningAgent, open_bench: OpenBench, signer: Signer
) -> None:
    bench = open_bench()
    bus = bench.bus("powertrain")
    outcomes: dict[str, BaseException] = {}

    def wait_for_a_frame() -> None:
        try:
            bus.expect_frame(0x555, timeout_s=60)
        except LeaseRefused as error:
            outcomes["expect"] = error

    waiting = threading.Thread(target=wait_for_a_frame)
    with bus.stream() as stream:
        waiting.start()
        assert stream.read(5) is not None
        bench.ecu("ECM").raw(b"\x3e\x00")
        running.fence(1, "released")
        with pytest.raises(LeaseRefused, match="lease-1 on bench bench-1 has ended: released"):
            for _ in stream.blocks():
                pass
    waiting.join(10)
    assert "released" in str(outcomes["expect"])
    with pytest.raises(LeaseRefused, match="has ended"):
        bench.ecu("ECM").raw(b"\x3e\x00")
    assert running.fenced() == 1
    open_bench(epoch=2).describe()


def test_a_stream_that_is_cut_as_soon_as_it_is_open_is_told_so(open_bench: OpenBench, running: RunningAgent) -> None:
    """While its first message is on its way, at one moment or another."""
    for epoch in range(1, 31):
        with open_bench(epoch=epoch).bus("powertrain").stream() as stream:
            running.fence(epoch)
            with pytest.raises(LeaseRefused, match="released"):
                while stream.read(10) is not None:
                    pass


def test_a_newer_lease_cuts_the_streams_of_the_older(open_bench: OpenBench) -> None:
    old = open_bench(epoch=1)
    with old.bus("powertrain").stream() as stream:
        open_bench(epoch=2).describe()
        with pytest.raises(LeaseRefused, match="a newer lease has begun"):
            for _ in stream.blocks():
                pass


def test_a_lease_that_runs_out_is_cut_and_cleaned_up(
    running: RunningAgent, open_bench: OpenBench, signer: Signer
) -> None:
    bench = open_bench(signer.token(lasts_s=2))
    with bench.bus("powertrain").stream() as stream, pytest.raises(LeaseRefused, match="expired"):
        for _ in stream.blocks():
            pass
    running.fence(1)  # waits for the clean-up that the expiry began
    with pytest.raises(LeaseRefused, match="expired"):
        bench.describe()


def test_a_stalled_reader_does_not_hold_up_the_revocation(running: RunningAgent, open_bench: OpenBench) -> None:
    """It reads nothing, so that gRPC's windows fill up; the bench must be free all the same."""
    bench = open_bench()
    channel = grpc.insecure_channel(running.address)
    metadata = bench._connection.metadata
    requests = iter([bench_pb2.CanRequest(open=bench_pb2.CanOpen(bus="powertrain"))])
    never_read = bench_pb2_grpc.BenchStub(channel).Can(requests, metadata=metadata)
    bench.describe()
    node = running.node()
    try:
        with bench.bus("powertrain").stream([FrameFilter(0x123)]) as witness:
            for _ in range(8000):
                node.send(_frame())
            count = 0
            while count < 8000:
                block = witness.read(10)
                assert block is not None
                count += len(block.frames)
    finally:
        node.shutdown()
    started = time.monotonic()
    running.fence(1)
    assert time.monotonic() - started < 4
    never_read.cancel()
    channel.close()


def test_every_method_of_every_service_needs_a_lease(running: RunningAgent) -> None:
    assert len(GUARDED) >= 6
    channel = grpc.insecure_channel(running.address)
    for path in sorted(GUARDED):
        call = channel.stream_stream(path, lambda request: request, lambda reply: reply)
        with pytest.raises(grpc.RpcError) as refused:
            list(call(iter([b""])))
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED, path
    channel.close()


def test_health_and_reflection_are_open_to_all(running: RunningAgent) -> None:
    channel = grpc.insecure_channel(running.address)
    reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="labd.bench.v1.Bench"))
    assert reply.status == health_pb2.HealthCheckResponse.SERVING
    ask = reflection_pb2.ServerReflectionRequest(list_services="")
    answers = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([ask]))
    names = {service.name for service in next(answers).list_services_response.service}
    assert names == OPEN_SERVICES & names | {service.definition.full_name for service in OFFERED}
    channel.close()


def _frame() -> can.Message:
    return can.Message(arbitration_id=0x123, data=bytes(8), is_extended_id=False)
