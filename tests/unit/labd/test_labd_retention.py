import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.exc import DatabaseError

from labd.model.audit import Fault, Head
from labd.model.identity import ANONYMOUS
from labd.model.retention import DAY_S, Retention, Swept, TeamRetention
from labd.model.run import LogLevel
from labd.services import audit_retention, retaining
from labd.services.lab import Lab
from labd.services.reporting import NewLine
from labd.store.schema import WRITE
from tests.unit.labd.fakes import FakeClock, application, attach, report

NOTHING = Swept()


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that every loop goes round."""
    for name, count in {"RUNS": 1, "LEASES": 1, "LINES": 2, "FILES": 1}.items():
        monkeypatch.setattr(retaining, f"{name}_AT_ONCE", count)
    for name, count in {"ENTRIES": 2, "GAPS": 2, "NUMBERS": 3}.items():
        monkeypatch.setattr(audit_retention, f"{name}_AT_ONCE", count)
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
    lab.reporting.append_log(run.id, 1, [NewLine(1.0, LogLevel.INFO, "0123456789")] * lines)
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
    lab.reporting.append_log(run.id, 1, [NewLine(1.0, LogLevel.INFO, "0123456789")])
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


def _write(lab: Lab, *teams: str) -> None:
    """An entry for each of them."""
    for team in teams:
        with lab.core.transaction(ANONYMOUS) as ledger:
            ledger.audit("bench.drained", f"bench/of-{team}", team=team)


def _drained(lab: Lab) -> list[str]:
    """The teams of the entries that are left."""
    with lab.core.view() as unit:
        return [entry.deed.team for entry in unit.audit_entries() if entry.deed.action == "bench.drained"]


def _sound(lab: Lab, *expected: Head | None) -> bool:
    return all(lab.auditing.verify(one).fault is None for one in expected or (None,))


MANUAL = Path(__file__).parents[3] / "docs/reference/audit.md"


def _exported(lab: Lab, folder: Path, without: int = 0) -> int:
    """The exit code of the manual's script on an export, of which entry number ``without`` was removed."""
    with lab.core.view() as unit:
        lines = [json.dumps(entry.record) for entry in unit.audit_entries() if entry.seq != without]
    (folder / "audit.jsonl").write_text("\n".join(lines))
    (script,) = re.findall(r"```python\n(.*?)```", MANUAL.read_text(), re.DOTALL)
    return subprocess.run([sys.executable, "-c", script], cwd=folder, check=False, capture_output=True).returncode


def test_a_teams_entries_go_by_age_and_the_log_stays_sound(lab: Lab, clock: FakeClock, tmp_path: Path) -> None:
    before = "chassis", "chassis", "body", "chassis", "", "chassis", "chassis", "body", "chassis"
    heads = []
    for team in before:
        _write(lab, team)
        heads.append(lab.auditing.verify().head)
    clock.advance(10 * DAY_S)
    _write(lab, "chassis", "body")
    lab.retaining.replace(ANONYMOUS, Retention(teams={"chassis": TeamRetention(audit_days=5)}, audit_days=100))
    assert lab.retaining.preview().audit_entries == lab.retaining.sweep().audit_entries == 6
    assert _drained(lab) == ["body", "", "body", "chassis", "body"]
    assert _sound(lab, *heads)
    assert [_exported(lab, tmp_path, gone) for gone in (0, 5)] == [0, 1]
    assert lab.retaining.sweep() == NOTHING

    # The whole log is cut over the gaps, and in between.
    lab.retaining.replace(ANONYMOUS, Retention(audit_days=5))
    assert lab.retaining.preview().audit_entries == lab.retaining.sweep().audit_entries == 3
    assert _drained(lab) == ["chassis", "body"]
    assert _sound(lab, *heads)
    assert _exported(lab, tmp_path) == 0
    clock.advance(10 * DAY_S)
    lab.retaining.sweep()
    assert (_drained(lab), _sound(lab, *heads)) == ([], True)
    with lab.core.store.database.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM audit_gaps").scalar() == 0


def test_every_team_without_rules_of_its_own_has_the_default(lab: Lab, clock: FakeClock) -> None:
    _write(lab, "chassis", "body", "", "doors")
    clock.advance(10 * DAY_S)
    rules = Retention(TeamRetention(audit_days=5), {"chassis": TeamRetention(), "doors": TeamRetention(audit_days=20)})
    lab.retaining.replace(ANONYMOUS, rules)
    assert lab.retaining.preview().audit_entries == lab.retaining.sweep().audit_entries == 1
    assert (_drained(lab), _sound(lab)) == (["chassis", "", "doors"], True)


def _size(lab: Lab, team: str) -> int:
    """Of an entry of the team, as it is counted."""
    with lab.core.view() as unit:
        entry = next(one for one in unit.audit_entries() if one.deed.team == team)
    deed = entry.deed
    texts = deed.actor, deed.kind, deed.team, deed.action, deed.subject, deed.why, entry.previous, entry.hash
    return sum(len(text.encode()) for text in texts) + 16


def test_audit_entries_go_by_size_of_a_team_and_of_the_whole_log(lab: Lab, clock: FakeClock) -> None:
    _write(lab, *["chassis", "bödy"] * 4)
    clock.advance(2 * DAY_S)
    three = (3 * _size(lab, "bödy") + 0.5) * 1e-6
    rules = Retention(teams={"bödy": TeamRetention(audit_mb=three)})
    assert lab.retaining.preview(rules).audit_entries == 1
    lab.retaining.replace(ANONYMOUS, rules)
    assert lab.retaining.sweep().audit_entries == 1
    assert _drained(lab) == ["chassis", "chassis", "bödy", "chassis", "bödy", "chassis", "bödy"]
    lab.retaining.replace(ANONYMOUS, Retention(audit_mb=1e-6))
    assert lab.retaining.preview().audit_entries == lab.retaining.sweep().audit_entries == 7
    assert (_drained(lab), _sound(lab)) == ([], True)


def test_the_last_day_of_the_audit_log_stays_however_much_it_is(lab: Lab, clock: FakeClock) -> None:
    _write(lab, "chassis")
    clock.advance(DAY_S - 1)
    _write(lab, *["chassis"] * 5)
    everything = TeamRetention(audit_days=0, audit_mb=0)
    lab.retaining.replace(ANONYMOUS, Retention(everything, audit_days=0, audit_mb=0))
    assert lab.retaining.preview() == lab.retaining.sweep() == NOTHING
    clock.advance(2)
    assert lab.retaining.sweep() == Swept(audit_entries=1)
    assert (_drained(lab), _sound(lab)) == (["chassis"] * 5, True)


def test_what_retention_left_vouches_for_nothing_else(lab: Lab, clock: FakeClock) -> None:
    _write(lab, "body", "chassis", "chassis", "body", "chassis", "body", "body")
    clock.advance(10 * DAY_S)
    lab.retaining.replace(ANONYMOUS, Retention(teams={"chassis": TeamRetention(audit_days=5)}))
    lab.retaining.sweep()
    assert (_drained(lab), _sound(lab)) == (["body"] * 4, True)
    database = lab.core.store.database
    with pytest.raises(DatabaseError, match="append-only"), database.engine.connect() as connection:
        connection.execution_options(**{WRITE: True}).exec_driver_sql("DELETE FROM audit WHERE seq = 6")
    for statement in ("UPDATE audit_gaps SET last = 9", "DELETE FROM audit_gaps"):
        with pytest.raises(DatabaseError, match="append-only"), database.engine.connect() as connection:
            connection.execution_options(**{WRITE: True}).exec_driver_sql(statement)
    with database.engine.connect().execution_options(**{WRITE: True}) as connection, connection.begin():
        connection.exec_driver_sql("INSERT INTO audit_gaps VALUES (6, 6)")
        connection.exec_driver_sql("DELETE FROM audit WHERE seq = 6")
    verdict = lab.auditing.verify()
    assert (verdict.fault, verdict.seq) == (Fault.REMOVED, 6), "no entry lists that gap"


def test_rules_are_set_through_the_api_and_on_record(web: TestClient) -> None:
    default = {"runs_days": 365, "runs_mb": 50000, "logs_days": 90, "logs_mb": None}
    default |= {"traces_days": 30, "traces_mb": None, "audit_days": None, "audit_mb": 100}
    rules = {"default": default, "teams": {}, "audit_days": 1095, "audit_mb": 2000}
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
        ({"default": {"audit_days": 2}, "audit_days": 1}, "default.audit_days"),
        ({"teams": {"a": {"audit_mb": 2}}, "audit_mb": 1}, "teams.a.audit_mb"),
        ({"teams": {"a": {"runs_days": -1}}}, "teams.a.runs_days"),
        ({"default": {"run_days": 1}}, "default.run_days"),
    ],
)
def test_rules_without_sense_are_refused_naming_the_field(web: TestClient, rules: object, field: str) -> None:
    refused = web.put("retention", json=rules, headers={"If-Match": "*"})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, field)
