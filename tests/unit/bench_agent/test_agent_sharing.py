"""One lease, several people: the holder, co-drivers who may act, observers who may look on."""

from collections.abc import Iterator

import grpc
import pytest

from bench_agent.client import BenchClient, LeaseRefused
from bench_agent.protocol import bench_pb2, bench_pb2_grpc, console_pb2, console_pb2_grpc
from bench_agent.protocol.access import METHODS
from bench_agent.protocol.claims import BENCH_METADATA, Scope
from bench_agent.server.services import GUARDED, OFFERED
from tests.unit.bench_agent.harness import OpenBench, RunningAgent, Signer

DEFINED = sorted(
    (f"/{service.definition.full_name}/{method.name}", method.client_streaming)
    for service in OFFERED
    for method in service.definition.methods
)


def test_every_method_has_an_entry_and_every_entry_a_method() -> None:
    assert set(GUARDED) == {path for path, _ in DEFINED}
    assert {service: set(methods) for service, methods in METHODS.items()} == {
        service.definition.name: {method.name for method in service.definition.methods} for service in OFFERED
    }


@pytest.mark.parametrize("path", [path for path, _ in DEFINED if GUARDED[path].scope is not Scope.OBSERVER])
def test_an_observer_may_call_no_method_that_acts(running: RunningAgent, signer: Signer, path: str) -> None:
    with grpc.insecure_channel(running.address) as channel:
        call = channel.stream_stream(path, lambda request: request, lambda reply: reply)
        token = signer.token(scope="observer", holder="bob")
        metadata = (("authorization", f"Bearer {token}"), (BENCH_METADATA, "bench-1"))
        with pytest.raises(grpc.RpcError) as refused:
            list(call(iter([b""]), metadata=metadata, timeout=10))
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        method = path.rpartition("/")[2]
        assert (
            refused.value.details()
            == f"{method} needs a co-driver of lease lease-1: it is shared with bob as observer only"
        )


def test_holder_co_driver_and_observer_use_the_bench_side_by_side(
    bench: BenchClient, open_bench: OpenBench, signer: Signer
) -> None:
    driver = open_bench(signer.token(scope="co-driver", holder="carol"))
    looker = open_bench(signer.token(scope="observer", holder="bob"))
    with looker.bus("powertrain").stream(own_frames=True) as frames:
        bench.bus("powertrain").send_message("EngineControl", {"TargetSpeed": 1000})
        driver.bus("powertrain").send_message("EngineControl", {"TargetSpeed": 2000})
        seen = 0
        while seen < 2:
            block = frames.read(10)
            assert block is not None
            seen += sum(frame.arbitration_id == 0x200 for frame in block.frames) or 1
    assert driver.ecu("ECM").call("read", did="VIN") == "WVWZZZ1KZ6W000001"
    assert looker.describe().name == "bench-1"
    with pytest.raises(LeaseRefused, match="Send needs a co-driver"):
        looker.bus("powertrain").send_message("EngineControl", {"TargetSpeed": 3000})
    bench.describe()  # nobody was thrown out


def test_an_observer_may_watch_a_bus_by_a_stream_but_not_send_on_it(running: RunningAgent, signer: Signer) -> None:
    def requests() -> Iterator[bench_pb2.CanRequest]:
        yield bench_pb2.CanRequest(open=bench_pb2.CanOpen(bus="powertrain", credit=100))
        yield bench_pb2.CanRequest(frames=bench_pb2.FrameBatch())

    token = signer.token(scope="observer", holder="bob")
    metadata = (("authorization", f"Bearer {token}"), (BENCH_METADATA, "bench-1"))
    with grpc.insecure_channel(running.address) as channel:
        events = bench_pb2_grpc.BenchStub(channel).Can(requests(), metadata=metadata, timeout=10)
        assert next(events).opened.name == "powertrain"
        with pytest.raises(grpc.RpcError) as refused:
            for _ in events:
                pass
        assert "sending frames needs a co-driver of lease lease-1" in str(refused.value)
        opening = console_pb2.ConsoleRequest(open=console_pb2.ConsoleOpen(console="none", write=True))
        with pytest.raises(grpc.RpcError, match="writing to a console needs a co-driver"):
            list(console_pb2_grpc.ConsoleStub(channel).Stream(iter([opening]), metadata=metadata, timeout=10))


def test_the_end_of_the_lease_ends_what_it_was_shared_for(
    running: RunningAgent, bench: BenchClient, open_bench: OpenBench, signer: Signer
) -> None:
    bench.describe()
    looker = open_bench(signer.token(scope="observer", holder="bob"))
    with looker.bus("powertrain").stream() as frames:
        running.fence(1, "released")
        with pytest.raises(LeaseRefused, match="has ended: released"):
            for _ in frames.blocks():
                pass
    with pytest.raises(LeaseRefused, match="has ended"):
        looker.describe()


def test_who_is_let_look_on_no_more_is_cut_off_while_the_others_go_on(
    running: RunningAgent, bench: BenchClient, open_bench: OpenBench, signer: Signer
) -> None:
    bench.describe()
    carol = open_bench(signer.token(scope="co-driver", holder="carol"))
    bob = open_bench(signer.token(scope="observer", holder="bob"))
    with bob.bus("powertrain").stream() as frames:
        running.unshare(1, "bob", 0)
        with pytest.raises(LeaseRefused, match="lease-1 on bench bench-1 is shared with bob as observer no more"):
            for _ in frames.blocks():
                pass
    with pytest.raises(LeaseRefused, match="no more"):
        bob.describe()
    assert open_bench(signer.token(scope="observer", holder="bob", share=1)).describe().name == "bench-1"
    carol.bus("powertrain").send_message("EngineControl", {"TargetSpeed": 2000})
    bench.describe()


def test_a_co_driver_who_came_first_takes_nothing_along(
    running: RunningAgent, open_bench: OpenBench, signer: Signer
) -> None:
    carol = open_bench(signer.token(scope="co-driver", holder="carol"))
    carol.describe()
    running.unshare(1, "carol", 0)
    with pytest.raises(LeaseRefused, match="no more"):
        carol.describe()
    assert open_bench(signer.token()).describe().name == "bench-1", "the holder comes in later"
    assert running.fenced() == 0
