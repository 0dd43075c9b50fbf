"""The log on leases and runs: each line says which run, lease and bench it is about."""

import pytest
import structlog

from bench_agent.protocol import tracing
from labd.model.identity import ANONYMOUS
from labd.services.lab import Lab
from tests.unit.labd.fakes import RESULT, attach, report, settle

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def database() -> None:
    """The same on both: what happened is told after the transaction."""


def test_a_run_and_its_lease_are_told_with_their_names(lab: Lab) -> None:
    attach(lab, report("bench-1"))
    with structlog.testing.capture_logs() as said:
        with tracing.span("request", parent=f"00-{TRACE}-b7ad6b7169203331-01"):
            run = lab.running.create(ANONYMOUS, script="return 1", name="x", files={}, holder="ci", timeout_s=60.0).run
        settle(lab)
        lab.reporting.put_result(run.id, RESULT, "<testsuites/>")
        settle(lab)
    lines = {entry["event"]: entry for entry in said if entry["event"] in ("lease granted", "run over", "lease over")}
    assert len(lines) == 3
    for line in lines.values():
        assert (line["run"], line["lease"], line["bench"]) == (run.id, run.lease_id, "bench-1")
    assert lines["run over"]["trace"] == TRACE
    assert lines["run over"]["state"] == "PASSED"
    assert lines["lease over"]["reason"] == "released"


def test_a_lease_of_a_person_is_told_without_a_run(lab: Lab) -> None:
    attach(lab, report("bench-1"))
    with structlog.testing.capture_logs() as said:
        lease = lab.leasing.create(ANONYMOUS, selector="", holder="bob", duration_s=600.0, ttl_s=300.0)
        settle(lab)
    [line] = [entry for entry in said if entry["event"] == "lease granted"]
    assert (line["lease"], line["bench"], line["holder"]) == (lease.lease.id, "bench-1", "bob")
    assert "run" not in line
