import json
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from labd.model.audit import Fault
from labd.model.identity import ANONYMOUS
from labd.model.retention import DAY_S, Retention, Swept, TeamRetention
from labd.model.run import LogLevel
from labd.services import retaining
from labd.services.lab import Lab
from labd.services.running import NewLine
from labd.store.schema import WRITE
from tests.unit.labd.fakes import FakeClock, application, attach, report

NOTHING = Swept()


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that every loop goes round."""
    for name, count in {"RUNS": 1, "LEASES": 1, "LINES": 2, "FILES": 1, "ENTRIES": 2}.items():
        monkeypatch.setattr(retaining, f"{name}_AT_ONCE", count)
    monkeypatch.setattr(retaining, "PAUSE_S", 0)


@pytest.fixture
def web(lab: Lab) -> Iterator[TestClient]:
    attach(lab, report("bench-1"))
    with TestClient(application(lab), base_url="http://labd.test/api/v1/") as client:
        yield client


def _run(lab: Lab, *, team: str = "default", lines: int = 3, file: bytes = b"image") -> str:
    """A run that has come to its end."""
    run = lab.running.create(
        ANONYMOUS,
        script="return 1",
        name="x.lua",
        files={},
        holder="ci",
        team=team,
        timeout_s=60,
        data_files={"a.bin": file},
    ).run
    lab.running.append_log(run.id, 1, [NewLine(1.0, LogLevel.INFO, "0123456789")] * lines)
    lab.running.cancel(ANONYMOUS, run.id)
    _fence(lab)
    return run.id


def _fence(lab: Lab) -> None:
    with lab.core.view() as unit:
        epoch = unit.benches()[0].epoch
    session = next(iter(lab.fleet.sessions().values()))
    lab.hearing.fenced(session, "bench-1", epoch)


def _runs(web: TestClient) -> list[str]:
    return [run["id"] for run in web.get("runs").json()["items"]]


def _log(web: TestClient, run_id: str) -> int:
    return web.get(f"runs/{run_id}/log", params={"follow": False}).text.count("0123456789")


def test_without_rules_everything_stays(web: TestClient, lab: Lab, clock: FakeClock) -> None:
    run = _run(lab)
    clock.advance(10_000 * DAY_S)
    assert lab.retaining.preview() == lab.retaining.sweep() == NOTHING
    assert (_runs(web), _log(web, run)) == ([run], 3)


def test_old_runs_go_with_their_leases_and_files_and_young_ones_stay(
    web: TestClient, lab: Lab, clock: FakeClock
) -> None:
    old, older_team = _run(lab, file=b"old"), _run(lab, team="chassis", file=b"shared")
    clock.advance(20 * DAY_S)
    young = _run(lab, file=b"shared")
    rules = Retention(TeamRetention(runs_days=10), {"chassis": TeamRetention(runs_days=30)})
    lab.retaining.replace(ANONYMOUS, rules)
    would = lab.retaining.preview()
    assert (would.runs, would.leases, would.logs) == (1, 0, 0)
    assert lab.retaining.sweep() == Swept(runs=1, leases=1, files=1)
    assert set(_runs(web)) == {older_team, young}
    assert web.get(f"runs/{old}").status_code == 404
    with lab.core.view() as unit:
        assert unit.data_file(young, "a.bin") == b"shared"
        assert len(unit.unused_contents()) == 0
    assert lab.retaining.sweep() == NOTHING


KILOBYTE = b"\x00" * 1000


def test_runs_go_by_size_those_first_that_ended_first(web: TestClient, lab: Lab, clock: FakeClock) -> None:
    runs = []
    for number in range(4):
        runs.append(_run(lab, file=KILOBYTE + bytes([number])))
        clock.advance(1)
    other = _run(lab, team="chassis", file=KILOBYTE * 9)
    rules = Retention(TeamRetention(runs_mb=2500e-6), {"chassis": TeamRetention()})
    assert lab.retaining.preview(rules).runs == 2
    lab.retaining.replace(ANONYMOUS, rules)
    assert lab.retaining.sweep() == Swept(runs=2, files=2)
    assert set(_runs(web)) == {*runs[2:], other}
    assert lab.retaining.preview() == lab.retaining.sweep() == NOTHING
    clock.advance(8 * DAY_S)
    assert lab.retaining.sweep() == NOTHING, "leases stay as long as something that is as old"
    _run(lab, file=KILOBYTE)
    assert lab.retaining.sweep() == Swept(runs=1, leases=3, files=1)


def test_a_file_that_several_runs_have_counts_once(web: TestClient, lab: Lab, clock: FakeClock) -> None:
    runs = []
    for _ in range(3):
        runs.append(_run(lab, file=KILOBYTE * 5))
        clock.advance(1)
    with lab.core.view() as unit:
        assert unit.runs_beyond("default", 6000) is None
        assert unit.runs_beyond("default", 4000) == clock.time - 1
    lab.retaining.replace(ANONYMOUS, Retention(TeamRetention(runs_mb=6000e-6)))
    assert lab.retaining.sweep() == NOTHING
    assert set(_runs(web)) == set(runs)


def test_script_log_and_result_count_as_bytes_of_a_run(web: TestClient, lab: Lab) -> None:
    run = lab.running.create(
        ANONYMOUS, script="-- ü", name="x.lua", files={"ä.lua": "ö"}, holder="ci", timeout_s=60
    ).run
    lab.running.append_log(run.id, 1, [NewLine(1.0, LogLevel.INFO, "0123456789")])
    with lab.core.view() as unit:
        assert unit.runs_beyond("default", 0) is None, "what is not over is not too much"
    lab.running.cancel(ANONYMOUS, run.id)
    _fence(lab)
    with lab.core.view() as unit:
        result = unit.result(run.id)
        size = len("-- ü".encode()) + len(json.dumps({"ä.lua": "ö"})) + 10
        size += 0 if result is None else len(result.document.encode()) + len(result.junit.encode())
        assert unit.runs_beyond("default", size) is None
        assert unit.runs_beyond("default", size - 1) is not None


def test_leases_stay_as_long_as_quotas_count_them(web: TestClient, lab: Lab, clock: FakeClock) -> None:
    _run(lab)
    lab.retaining.replace(ANONYMOUS, Retention(TeamRetention(runs_days=0)))
    clock.advance(DAY_S)
    assert lab.retaining.sweep() == Swept(runs=1, files=1)
    clock.advance(8 * DAY_S)
    assert lab.retaining.sweep() == Swept(leases=1)


def test_logs_go_by_age_and_the_verdict_stays(web: TestClient, lab: Lab, clock: FakeClock) -> None:
    run = _run(lab, lines=5)
    lab.retaining.replace(ANONYMOUS, Retention(TeamRetention(runs_days=30, logs_days=1)))
    clock.advance(2 * DAY_S)
    assert lab.retaining.preview() == lab.retaining.sweep() == Swept(logs=1, log_bytes=50)
    assert (_runs(web), _log(web, run)) == ([run], 0)
    assert lab.retaining.preview() == NOTHING


def test_logs_go_by_size_the_oldest_first(web: TestClient, lab: Lab, clock: FakeClock) -> None:
    runs = []
    for _ in range(3):
        runs.append(_run(lab, lines=10))
        clock.advance(1)
    other = _run(lab, team="chassis", lines=10)
    rules = Retention(TeamRetention(logs_mb=200e-6), {"chassis": TeamRetention()})
    assert lab.retaining.preview(rules) == Swept(logs=1, log_bytes=100)
    lab.retaining.replace(ANONYMOUS, rules)
    lab.retaining.sweep()
    assert [_log(web, run) for run in [*runs, other]] == [0, 10, 10, 10]


def test_what_runs_stays_whatever_the_rules(web: TestClient, lab: Lab, clock: FakeClock) -> None:
    run = web.post("runs", json={"script": "return 1", "holder": "ci", "timeout_s": 600000}).json()["id"]
    lab.retaining.replace(ANONYMOUS, Retention(TeamRetention(runs_days=0, runs_mb=0, logs_days=0, logs_mb=0)))
    clock.advance(DAY_S)
    assert lab.retaining.sweep() == NOTHING
    assert _runs(web) == [run]


def test_the_audit_log_is_cut_at_its_beginning_and_stays_sound(lab: Lab, clock: FakeClock) -> None:
    for number in range(5):
        with lab.core.transaction(ANONYMOUS) as ledger:
            ledger.audit("bench.drained", f"bench/{number}")
    head = lab.auditing.verify().head
    clock.advance(10 * DAY_S)
    lab.retaining.replace(ANONYMOUS, Retention(audit_days=5))
    assert lab.retaining.preview().audit_entries == 5
    assert lab.retaining.sweep().audit_entries == 5
    verdict = lab.auditing.verify()
    assert (verdict.fault, verdict.head is not None) == (None, True)
    with lab.core.view() as unit:
        actions = [entry.deed.action for entry in unit.audit_entries()]
    assert actions == ["retention.changed", "audit.pruned", "audit.pruned", "audit.pruned", "retention.swept"]
    assert lab.auditing.verify(head).fault is None
    with lab.core.store.database.engine.connect().execution_options(**{WRITE: True}) as connection, connection.begin():
        connection.exec_driver_sql("INSERT INTO audit_checkpoints VALUES (6, 'forged', 0)")
        connection.exec_driver_sql("DELETE FROM audit WHERE seq <= 6")
    assert lab.auditing.verify().fault in (Fault.ALTERED, Fault.REMOVED)


def test_rules_are_set_through_the_api_and_on_record(web: TestClient) -> None:
    default = {"runs_days": 365, "runs_mb": 50000, "logs_days": 90, "logs_mb": None}
    default |= {"traces_days": 30, "traces_mb": None}
    rules = {"default": default, "teams": {}, "audit_days": 1095}
    assert web.put("retention", json=rules, headers={"If-Match": "*"}).json() == rules
    assert web.get("retention").json() == rules
    assert web.post("retention/preview", json=rules).json()["runs"] == 0
    assert web.post("retention/sweep").json()["runs"] == 0
    (entry,) = web.get("audit", params={"action": "retention"}).json()["items"]
    assert entry["after"]["audit_days"] == 1095


@pytest.mark.parametrize(
    ("rules", "field"),
    [
        ({"default": {"runs_days": 1, "logs_days": 2}}, "default.logs_days"),
        ({"default": {"runs_mb": 1, "logs_mb": 2}}, "default.logs_mb"),
        ({"teams": {"a": {"runs_days": -1}}}, "teams.a.runs_days"),
        ({"default": {"run_days": 1}}, "default.run_days"),
    ],
)
def test_rules_without_sense_are_refused_naming_the_field(web: TestClient, rules: object, field: str) -> None:
    refused = web.put("retention", json=rules, headers={"If-Match": "*"})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, field)
