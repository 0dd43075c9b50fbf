"""What a real agent measures, sends to labd, and sends again."""

import queue
import socket
import time
import urllib.request
from collections.abc import Callable

import can
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from bench_agent.client import BenchClient, NegativeResponse, UdsTimeout
from bench_agent.protocol import lab_pb2
from bench_agent.server.agent import ListenError
from bench_agent.server.bus_watch import Totals
from bench_agent.server.prometheus import COUNTED
from labd.agents.messages import batch_of
from labd.model.measurements import CATALOGUE, Kind, Source, fault
from labd.model.point import Point
from tests.unit.bench_agent.harness import AgentFile, FakeLabd, RunningAgent, Signer, StartAgent


@pytest.fixture
def agent_file(agent_file: AgentFile) -> AgentFile:
    agent_file.settings = {"metrics": {"interval_s": 3600}}  # the tests say when
    channels = {"battery": {"terminal": "kl30", "voltage": 13.5}}
    agent_file.benches[0]["power"] = [{"name": "supply", "driver": "simulated", "channels": channels, "poll_s": 60}]
    return agent_file


def received(labd: FakeLabd) -> lab_pb2.Metrics:
    return labd.wait(lambda message: message.HasField("metrics"), 30).metrics


def acknowledge(labd: FakeLabd, metrics: lab_pb2.Metrics) -> None:
    answer = lab_pb2.MetricsTaken(spool=metrics.spool, number=metrics.number)
    labd.say(lab_pb2.LabMessage(metrics_taken=answer))


def measured(running: RunningAgent) -> None:
    running.portal.call(running.agent.measuring.measure)


def points_of(metrics: lab_pb2.Metrics) -> dict[tuple[str, ...], Point]:
    """By measurement and values of the tags; each is as the catalogue says."""
    found = {}
    for sent in batch_of(metrics).points:
        point = Point(sent.measurement, {**sent.tags, "agent": "agent-1"}, sent.fields, sent.time)
        assert fault(point) is None
        found[(point.measurement, *sorted(sent.tags.values()))] = point
    return found


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_exchanges_with_an_ecu_are_measured(labd: FakeLabd, running: RunningAgent, bench: BenchClient) -> None:
    ecm = bench.ecu("ECM")
    for _ in range(3):
        ecm.call("read", did="VIN")
    ecm.call("clear_dtcs")  # with one 0x78
    with pytest.raises(NegativeResponse):
        ecm.call("write", did="Code", value="1234")
    measured(running)
    points = points_of(received(labd))
    uds = points["ecu_uds", "ECM", "bench-1"].fields
    assert (uds["requests"], uds["responses"], uds["negative"], uds["timeouts"], uds["pending"]) == (5, 5, 1, 0, 1)
    assert (uds["p2_ms"], uds["p2_star_ms"]) == (1050, 1500)
    assert 0 < float(uds["latency_p50_ms"]) < 100 <= float(uds["latency_max_ms"])
    assert 0 < float(uds["p2_used_ms"]) <= float(uds["latency_max_ms"])
    assert 0 < float(uds["p2_star_used_ms"]) <= float(uds["latency_max_ms"])
    assert points["ecu_nrc", "31", "ECM", "bench-1"].fields == {"responses": 1}


def test_an_ecu_that_is_left_alone_has_no_points(labd: FakeLabd, running: RunningAgent) -> None:
    measured(running)
    assert not [key for key in points_of(received(labd)) if key[0] == "ecu_uds"]


def test_requests_without_an_answer_are_timeouts(labd: FakeLabd, running: RunningAgent, bench: BenchClient) -> None:
    bench.simulation("ECM").inject("no_answer")
    with pytest.raises(UdsTimeout):
        bench.ecu("ECM").raw(b"\x22\xf1\x91", timeout_s=0.05)
    measured(running)
    uds = points_of(received(labd))["ecu_uds", "ECM", "bench-1"].fields
    assert (uds["requests"], uds["responses"], uds["timeouts"]) == (1, 0, 1)
    assert "latency_mean_ms" not in uds


def test_a_bus_is_measured_by_what_passes(labd: FakeLabd, running: RunningAgent, agent_file: AgentFile) -> None:
    with running.node() as node:
        for number in range(100):
            node.send(can.Message(arbitration_id=0x321, data=bytes(8), is_extended_id=False))
            if number % 10 == 9:
                time.sleep(0.001)
        bus = running.agent.benches["bench-1"].bus("powertrain")
        eventually(lambda: bus.watch.totals.received >= 100)
        measured(running)
    points = points_of(received(labd))
    fields = points["can_bus", "bench-1", "powertrain"].fields
    assert int(fields["frames_in"]) >= 100
    assert int(fields["frames_out"]) > 0  # the simulated ECU's own
    assert (fields["error_frames"], fields["bus_off"], fields["open"]) == (0, 0, True)
    measured(running)
    acknowledge(labd, received(labd))


def test_counts_are_of_the_interval_and_survive_that_a_bus_is_opened_anew() -> None:
    assert Totals(5, 4, 3, 2, 1, 1) + Totals(1, 1, 1, 1, 1, 1) - Totals(2, 2, 2, 2, 2, 2) == Totals(4, 3, 2, 1, 0, 0)


def test_power_is_told_as_measured_and_once(labd: FakeLabd, running: RunningAgent, bench: BenchClient) -> None:
    kl30 = bench.power.channel("kl30")
    kl30.on()
    kl30.measure()
    measured(running)
    first = received(labd)
    fields = points_of(first)["power", "battery", "bench-1"].fields
    assert (fields["voltage_v"], fields["on"]) == (13.5, True)
    acknowledge(labd, first)
    measured(running)
    assert points_of(received(labd))["power", "battery", "bench-1"].fields == {"on": True}


def test_the_agent_measures_itself_and_the_way_to_labd(labd: FakeLabd, running: RunningAgent) -> None:
    labd.clock_offset_s = 5.0
    measured(running)
    first = received(labd)
    alone = points_of(first)["agent",].fields
    assert int(alone["memory_bytes"]) > 1_000_000 and int(alone["disk_free_bytes"]) > 0
    assert "round_trip_ms" not in alone
    acknowledge(labd, first)
    eventually(lambda: running.agent.measuring._spool.head() is None)
    measured(running)
    fields = points_of(received(labd))["agent",].fields
    assert 0 < float(fields["round_trip_ms"]) < 10_000
    assert abs(float(fields["clock_offset_ms"]) - 5000) <= float(fields["round_trip_ms"]) / 2 + 2


def test_a_batch_comes_again_over_the_next_stream_until_it_is_acknowledged(
    labd: FakeLabd, running: RunningAgent
) -> None:
    measured(running)
    first = received(labd)
    measured(running)  # waits for the first
    labd.drop_stream()
    labd.wait(lambda message: message.HasField("hello"), 30)
    again = received(labd)
    assert again == first
    acknowledge(labd, again)
    second = received(labd)
    assert (second.spool, second.number) == (first.spool, first.number + 1)
    assert min(one.time_us for one in second.points) > max(one.time_us for one in first.points)


def test_another_agent_process_goes_on_where_the_former_stopped(
    labd: FakeLabd, start_agent: StartAgent, agent_file: AgentFile
) -> None:
    del agent_file.benches[0]["power"]  # a supply is not stopped twice
    former = start_agent()
    measured(former)
    first = received(labd)
    former.portal.call(former.agent.stop)
    while True:
        try:
            labd.heard.get_nowait()
        except queue.Empty:
            break
    start_agent()
    assert received(labd) == first
    acknowledge(labd, first)
    # What was measured as it stopped is not lost either.
    last = received(labd)
    assert (last.spool, last.number) == (first.spool, first.number + 1)


def test_prometheus_is_told_the_same(
    labd: FakeLabd, agent_file: AgentFile, start_agent: StartAgent, signer: Signer
) -> None:
    agent_file.settings["metrics"] |= {"listen": "127.0.0.1:0"}
    running = start_agent()
    door = running.agent._metrics
    assert door is not None
    with BenchClient(running.address, "bench-1", signer.token(), timeout_s=20) as bench:
        for _ in range(2):
            bench.ecu("ECM").call("read", did="VIN")
            measured(running)
    url = f"http://127.0.0.1:{door.port}/metrics"
    request = urllib.request.Request(url, headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 - our own
        assert list(openmetrics_families(answer.read().decode()))  # type: ignore[no-untyped-call]
    with urllib.request.urlopen(url, timeout=20) as answer:
        text = answer.read().decode()
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["bench_agent_ecu_uds_requests_total", "ECM", "bench-1"] == 2  # of both intervals
    assert 0 < samples["bench_agent_ecu_uds_latency_max_ms", "ECM", "bench-1"] < 20_000
    assert samples["bench_agent_can_bus_open", "bench-1", "powertrain"] == 1
    assert samples["bench_agent_can_bus_frames_out_total", "bench-1", "powertrain"] > 0
    assert samples["process_resident_memory_bytes",] > 1_000_000


def test_what_prometheus_adds_up_are_the_counts_of_the_catalogue() -> None:
    own = {name: one for name, one in CATALOGUE.items() if one.source is Source.AGENT}
    gauges = {("agent", "memory_bytes"), ("agent", "disk_free_bytes"), ("agent", "spooled_bytes")}
    counts = {(name, field.name) for name, one in own.items() for field in one.fields if field.kind is Kind.INTEGER}
    assert {(name, field) for name, fields in COUNTED.items() for field in fields} == counts - gauges


def test_a_port_for_prometheus_that_is_taken_keeps_the_agent_from_starting(
    agent_file: AgentFile, start_agent: StartAgent
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        agent_file.settings["metrics"] |= {"listen": f"127.0.0.1:{taken.getsockname()[1]}"}
        with pytest.raises(ListenError, match="for Prometheus: Address already in use"):
            start_agent()


def test_every_measurement_of_an_agents_is_made_and_drops_are_told_by_cause(
    labd: FakeLabd, running: RunningAgent, bench: BenchClient
) -> None:
    bench.power.channel("kl30").on()
    with pytest.raises(NegativeResponse):
        bench.ecu("ECM").call("write", did="Code", value="1234")
    drops = running.agent.benches["bench-1"].bus("powertrain").watch.drops
    drops.add("trace", 3)
    drops.add("stream", 4)
    running.agent.measuring._spool.drop("disk", 2)
    measured(running)
    points = points_of(received(labd))
    assert {point.measurement for point in points.values()} == {
        name for name, one in CATALOGUE.items() if one.source is Source.AGENT
    }
    assert points["can_bus_drops", "bench-1", "powertrain", "trace"].fields == {"dropped": 3}
    assert points["can_bus_drops", "bench-1", "powertrain", "stream"].fields == {"dropped": 4}
    assert points["points_dropped", "disk"].fields == {"points": 2}
