"""One trace from the request for a run to the ECU, over real processes, as a collector gets to see it."""

from pathlib import Path

import pytest

from bench_agent.protocol import tracing
from deploy.demo.lab import DEMO_AGENT, ROOT, running_lab
from labd.client.types import ExecutorName
from tests.collector import Collector

IDENTIFY = ROOT / "scenarios" / "examples" / "identify.lua"
JOB = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CHAIN = (
    ("POST /api/v1/runs", "labd"),
    ("run identify.lua", "labd-runner"),
    ("labd.bench.v1.Bench/Uds", "bench-agent"),
    ("UDS read", "bench-agent"),
)


@pytest.mark.parametrize("executor", ["process", "bench"])
def test_a_run_is_one_trace_from_the_job_that_asked_to_the_ecu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executor: ExecutorName
) -> None:
    with Collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        with running_lab(tmp_path, DEMO_AGENT) as lab:
            lab.wait_for_benches("bench-1")
            with lab.client() as client, tracing.span("job", parent=JOB):
                run = client.create_run(
                    script=IDENTIFY.read_text(), name="identify.lua", selector="name=bench-1", executor=executor
                )
                lab.wait_for("the run's end", lambda: client.run(run["id"])["state"] == "PASSED")
        spans = collector.wait_for(*(name for name, _ in CHAIN), "lease wait", "start runner")
    above = JOB.split("-")[2]
    for name, service in CHAIN:
        span = spans[name]
        assert (span.service, span.trace, span.parent) == (service, JOB.split("-")[1], above), name
        above = span.id
    request = spans["POST /api/v1/runs"]
    assert {spans[name].parent for name in ("lease wait", "start runner")} == {request.id}
    assert spans["start runner"].attributes["labd.executor"] == executor
    assert spans["run identify.lua"].attributes["labd.run"] == run["id"]
    exchange = spans["UDS read"]
    assert exchange.attributes["labd.bench"] == "bench-1" and exchange.end_s >= exchange.start_s
