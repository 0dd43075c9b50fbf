"""The doctor says what is wrong with the lab, and what to do about it."""

import shutil
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from labd.api.app import create_app
from labd.api.routing import PREFIX
from labd.model.agent import Agent
from labd.model.check import Check, CheckState
from labd.model.point import Point
from labd.services.authority import Authority
from labd.services.doctor import certificate_checks
from labd.services.lab import Lab
from labd.store.errors import DatabaseUnwritable
from labd.store.schema import SCHEMA_HEAD
from labd.telemetry.admission import Admission
from labd.telemetry.counters import Counters
from labd.telemetry.influx import Answer, InfluxSettings, Meaning
from labd.telemetry.writer import Writer
from tests.unit.labd.fakes import EPOCH, FakeClock, attach, open_lab, report

Usage = namedtuple("Usage", "total used free")


class Refusing:
    """An InfluxDB that knows no such bucket."""

    def send(self, lines: list[bytes]) -> Answer:
        return Answer(Meaning.MISCONFIGURED, 'HTTP 404: bucket "labd" not found')


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(100e9, 50e9, 50e9))
    clock = FakeClock()
    settings = InfluxSettings("http://influx.test", "lab", "labd")
    writer = Writer(tmp_path / "points", settings, target=Refusing(), clock=clock.now)
    lab = open_lab(tmp_path, clock, authority=Authority(tmp_path / "ca", clock.now), writer=writer)
    lab.writer = writer  # type: ignore[attr-defined]
    yield lab
    writer.stop()
    lab.core.store.close()


def of(lab: Lab, name: str) -> list[tuple[CheckState, str, str]]:
    return [(check.state, check.message, check.remedy) for check in lab.doctor.checks() if check.name == name]


def test_a_lab_that_is_well_has_no_remedies(lab: Lab) -> None:
    attach(lab, report("bench-1"), agent="rack-1")
    checks = lab.doctor.checks()
    assert {check.state for check in checks} == {CheckState.OK}
    assert {check.name for check in checks} >= {"database", "disk", "agents", "certificate authority", "InfluxDB"}
    assert not [check for check in checks if check.remedy]


def test_a_wrong_bucket_is_an_error_with_the_option_to_correct(lab: Lab) -> None:
    writer: Writer = lab.writer  # type: ignore[attr-defined]
    writer.start()
    writer.write([Point("labd_points_dropped", {"replica": "labd", "cause": "disk"}, {"points": 1}, EPOCH)])
    while not writer.counters.requests:
        writer.write([])
    [(state, message, remedy)] = of(lab, "InfluxDB")
    assert state is CheckState.ERROR
    assert 'bucket "labd" not found' in message
    assert "--influx-bucket" in remedy


@pytest.mark.parametrize(("free", "state"), [(2e9, CheckState.ERROR), (10e9, CheckState.WARNING)])
def test_a_disk_that_fills_is_told_before_it_is_full(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, free: float, state: CheckState
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(100e9, 100e9 - free, free))
    [found] = of(lab, "disk")
    assert found[0] is state
    assert "labctl retention" in found[2]


def test_agents_that_are_away_or_cannot_come_back_are_named(lab: Lab) -> None:
    with lab.core.transaction() as ledger:
        ledger.unit.save_agent(Agent("away", 1, enrolled_at=EPOCH - 100, certificate_expires_at=EPOCH + 20 * 86_400))
        ledger.unit.save_agent(Agent("late", 1, enrolled_at=EPOCH - 100, certificate_expires_at=EPOCH - 1))
        ledger.unit.save_agent(replace(Agent("gone", 1, enrolled_at=EPOCH), revoked_at=EPOCH))
    assert [state for state, _, _ in of(lab, "agent away")] == [CheckState.WARNING]
    assert [state for state, _, _ in of(lab, "agent late")] == [CheckState.WARNING, CheckState.ERROR]
    assert "labctl agent invite late" in of(lab, "agent late")[1][2]
    assert of(lab, "agent gone") == []


@pytest.mark.parametrize(("offset", "states"), [(900.0, []), (-5000.0, ["warning"]), (40_000.0, ["error"])])
def test_clocks_that_differ_are_told(lab: Lab, offset: float, states: list[str]) -> None:
    fields = {
        "cpu_percent": 1.0,
        "memory_bytes": 1,
        "disk_free_bytes": 1,
        "spooled_bytes": 0,
        "clock_offset_ms": offset,
    }
    writer: Writer = lab.writer  # type: ignore[attr-defined]
    writer.day.take(Admission(Counters()).admit([Point("agent", {"agent": "rack-1"}, fields, EPOCH - 30)]), EPOCH)
    writer.day.flush(EPOCH)
    assert [state.value for state, _, _ in of(lab, "agent rack-1")] == states


def test_a_certificate_is_told_before_it_expires(tmp_path: Path) -> None:
    clock = FakeClock()
    path = Authority(tmp_path / "ca", clock.now).trust_file
    years = 365 * 86_400

    def state(now: float) -> CheckState:
        [check] = certificate_checks("it", path, now, "renew it")
        return check.state

    assert state(EPOCH) is CheckState.OK
    assert state(EPOCH + 10 * years - 86_400) is CheckState.WARNING
    assert state(EPOCH + 11 * years) is CheckState.ERROR
    path.write_text("nothing")
    assert state(EPOCH) is CheckState.ERROR


def test_a_database_that_does_not_answer_is_one_error_and_not_five(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def read() -> None:
        raise DatabaseUnwritable("the server is not there")

    monkeypatch.setattr(lab.core.store, "read", read)
    errors = [check for check in lab.doctor.checks() if check.state is CheckState.ERROR]
    assert [check.name for check in errors] == ["database"]
    assert "the server is not there" in errors[0].message


def test_a_part_that_fails_is_a_finding_and_keeps_nobody_else_from_theirs(lab: Lab) -> None:
    def broken() -> list[Check]:
        raise RuntimeError("oops")

    lab.doctor.add("clusters", broken)
    [(state, message, _)] = of(lab, "clusters")
    assert (state, message) == (CheckState.ERROR, "cannot be looked at: oops")
    assert of(lab, "database")


def test_a_schema_that_was_changed_under_labd_is_told(lab: Lab) -> None:
    with lab.core.transaction() as ledger:
        ledger.unit._connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    [(state, message, remedy)] = of(lab, "schema")
    assert state is CheckState.ERROR
    assert f"has the schema 0001, this labd was made for {SCHEMA_HEAD}" in message
    assert "labd migrate" in remedy


def test_an_agent_whose_certificate_is_not_renewed_is_told_before_it_ends(lab: Lab) -> None:
    with lab.core.transaction() as ledger:
        ledger.unit.save_agent(Agent("stuck", 1, enrolled_at=EPOCH, certificate_expires_at=EPOCH + 3 * 86_400))
        ledger.unit.save_agent(Agent("fresh", 1, enrolled_at=EPOCH, certificate_expires_at=EPOCH + 12 * 86_400))
    [_, (state, message, remedy)] = of(lab, "agent stuck")
    assert state is CheckState.WARNING
    assert "ends in 3.0 days" in message
    assert "labctl agent invite stuck" in remedy
    assert len(of(lab, "agent fresh")) == 1


def test_several_labds_without_influxdb_have_the_figures_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(tmp_path / "points")
    lab = open_lab(tmp_path, FakeClock(), writer=writer)
    monkeypatch.setattr(lab.core.peers, "others", ("labd-1",))
    [(state, _, remedy)] = of(lab, "figures")
    assert (state, remedy) == (CheckState.WARNING, "labd serve --influx-url, at each of them")
    with TestClient(create_app(lab), base_url=f"http://labd.test{PREFIX}/") as web:
        answer = web.get("series", params={"measurement": "labd", "field": "commits"}).json()
    assert (answer["replica"], answer["others"]) == ("labd", ["labd-1"])
    writer.stop()
    lab.core.store.close()


def test_it_is_served(lab: Lab) -> None:
    with TestClient(create_app(lab), base_url=f"http://labd.test{PREFIX}/") as web:
        answer = web.get("doctor")
    assert answer.status_code == 200
    assert {"name", "state", "message", "remedy"} == answer.json()["checks"][0].keys()
