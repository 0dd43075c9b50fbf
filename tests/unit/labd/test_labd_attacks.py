"""A lab of two teams, attacked from within: what one team has is neither seen nor touched by the other."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog
from fastapi.testclient import TestClient

from labd.api.app import create_app
from labd.executors.bench import RunnerReport, StopOrder
from labd.log import set_up_logging
from labd.model.access_table import REST
from labd.model.identity import SYSTEM, WHOLE_LAB, Role
from labd.model.run import ExecutorName, RunState
from labd.services.lab import Lab
from tests.unit.labd.fakes import FakeClock, FakeExecutor, FakeLink, attach, open_lab, report, settle
from tests.unit.labd.test_labd_secure import client, token_of

STREAMS = ("/events", "/backup")


@dataclass
class Target:
    """What team blue has."""

    names: dict[str, str]
    marks: tuple[str, ...]
    """Nothing that another team is told has any of these in it."""
    run_token: str


@pytest.fixture
def database() -> None:
    """The database plays no part here."""


@pytest.fixture
def lab(tmp_path: Path, clock: FakeClock, executor: FakeExecutor, database: None) -> Iterator[Lab]:
    lab = open_lab(tmp_path, clock, executor, secure=True)
    attach(lab, report("shared"), report("private", {"team": "blue"}))
    for team in ("blue", "red"):
        lab.identities.create_team(SYSTEM, team)
    yield lab
    lab.core.store.close()


@pytest.fixture
def web(lab: Lab) -> Iterator[TestClient]:
    with TestClient(create_app(lab), base_url="http://labd.test/api/v1/", raise_server_exceptions=False) as web:
        yield web


@pytest.fixture
def target(lab: Lab, web: TestClient, executor: FakeExecutor) -> Target:
    """Somebody of blue has an environment, a run with all that belongs to it, and a lease of a shared bench."""
    ada = {"Authorization": f"Bearer {token_of(lab, 'blue-ada', {'blue': Role.ADMIN})}"}
    web.put("secrets/blue-key", json={"value": "blue-value-1"}, params={"team": "blue"}, headers=ada).raise_for_status()
    environment = {
        "name": "blue-staging",
        "team": "blue",
        "variables": {"HOST": "blue-host"},
        "secrets": {"KEY": "blue-key"},
    }
    web.post("environments", json=environment, headers=ada).raise_for_status()
    wish = {
        "script": "-- blue script",
        "name": "blue-run",
        "selector": "name=private",
        "team": "blue",
        "environment": "blue-staging",
        "data_files": {"blue.bin": base64.b64encode(b"blue").decode()},
    }
    run = web.post("runs", json=wish, headers=ada).raise_for_status().json()
    settle(lab)
    lease = web.post("leases", json={"selector": "name=shared", "team": "blue"}, headers=ada).raise_for_status().json()
    job = executor.jobs[-1]
    runner = {"Authorization": f"Bearer {job.token}"}
    web.get(f"runs/{run['id']}/assignment", headers=runner).raise_for_status()
    lines = [{"time": "2027-01-15T08:00:00Z", "level": "info", "text": "blue line"}]
    web.post(f"runs/{run['id']}/log", json={"first_seq": 1, "lines": lines}, headers=runner).raise_for_status()
    names = {"run_id": run["id"], "lease_id": run["lease_id"], "name": "private", "team": "blue"}
    names |= {"prefix": "0123456789", "path": "blue.bin", "member": "blue-ada", "holder": "blue-ada"}
    marks = (run["id"], run["lease_id"], lease["id"], lease["token"], job.token, "private", "blue-")
    return Target(names, (*marks, "blue line", "blue script", "blue.bin"), job.token)


ROLES: list[dict[str, Role]] = [{"red": Role.VIEWER}, {"red": Role.ADMIN}, {}]


@pytest.mark.parametrize("roles", ROLES, ids=str)
def test_nothing_of_a_team_is_told_to_another(
    lab: Lab, web: TestClient, target: Target, roles: dict[str, Role], clock: FakeClock
) -> None:
    bob = {"Authorization": f"Bearer {token_of(lab, 'bob', roles)}"}
    asked = 0
    for operation in REST:
        method, template = operation.split(" ")
        # What all may see of everything: the policy may name teams, and the document has examples.
        if template.endswith((*STREAMS, "/openapi.json", "/docs")):
            continue
        clock.advance(1)
        # What the path says the asker knows already: it may be repeated, in a refusal.
        path = template.format(**target.names)
        queries: tuple[dict[str, str], ...] = ({}, {"team": "blue"}, {"all": "true"}, {"holder": "blue-ada"})
        for query in queries if method == "GET" else queries[:1]:
            answer = web.request(method, f"http://labd.test{path}", params=query, headers=bob)
            asked += 1
            assert answer.status_code < 500, (operation, answer.text)
            known = {mark for mark in target.marks if mark in path or mark in str(query)}
            told = {mark for mark in target.marks if mark in answer.text} - known
            assert not told, (operation, query, answer.status_code, answer.text[:500])
    assert asked > 150
    with lab.core.view() as unit:
        run = unit.run(target.names["run_id"])
        lease = unit.lease(target.names["lease_id"])
    assert run is not None and run.state is RunState.RUNNING
    assert lease is not None and lease.state.held


def test_a_runs_token_opens_that_run_and_nothing_else(
    lab: Lab, web: TestClient, target: Target, executor: FakeExecutor
) -> None:
    bob = token_of(lab, "bob", {"red": Role.ENGINEER, "default": Role.ENGINEER})
    boss = client(web.app, token_of(lab, "boss", {WHOLE_LAB: Role.ADMIN}))  # type: ignore[arg-type]  # it is a FastAPI
    for lease in boss.get("leases", params={"state": ["GRANTED", "ACTIVE"], "selector": "name=shared"}).json()["items"]:
        boss.delete(f"leases/{lease['id']}", params={"reason": "makes room"}).raise_for_status()
    attach(lab, report("shared", fenced=99), report("private", {"team": "blue"}))
    own = web.post("runs", json={"script": "return 1"}, headers={"Authorization": f"Bearer {bob}"}).json()
    settle(lab)
    token = executor.jobs[-1].token
    assert executor.jobs[-1].run_id == own["id"]
    hostile = {"Authorization": f"Bearer {token}"}
    for method, path in (
        ("GET", "assignment"),
        ("GET", "data-files/blue.bin"),
        ("POST", "log"),
        ("PUT", "result"),
        ("GET", ""),
        ("GET", "log?follow=false"),
        ("POST", "cancel"),
    ):
        answer = web.request(method, f"runs/{target.names['run_id']}/{path}".rstrip("/"), headers=hostile)
        assert answer.status_code in (401, 403), (path, answer.text)
    for path in ("", "/heartbeat", "/certificate", "/extend", "/shares"):
        method = "POST" if path else "GET"
        answer = web.request(method, f"leases/{target.names['lease_id']}{path}", headers=hostile)
        assert answer.status_code in (401, 403), (path, answer.text)
    # A run cannot be named in another way to get at its token's doors.
    for name in (f"{own['id']}/../{target.names['run_id']}", f"{own['id']}%2F..%2F{target.names['run_id']}"):
        assert web.get(f"runs/{name}/assignment", headers=hostile).status_code in (401, 403, 404)


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/../../b", "..", "a\\..\\b", "a/./b", "a//b", "a\0b", "a\nb", "\x1b[2J", ".", ""]
)
def test_data_files_stay_in_their_place(lab: Lab, web: TestClient, target: Target, name: str) -> None:
    bob = {"Authorization": f"Bearer {token_of(lab, 'bob', {'red': Role.ENGINEER})}"}
    for kind in ("files", "data_files"):
        wish = {"script": "return 1", "selector": "name=shared", kind: {name: "eA=="}}
        assert web.post("runs", json=wish, headers=bob).status_code == 422
    runner = {"Authorization": f"Bearer {target.run_token}"}
    for path in ("../assignment", "..%2F..%2Fetc%2Fpasswd", "%2Fetc%2Fpasswd", "blue.bin%00.txt"):
        answer = web.get(f"runs/{target.names['run_id']}/data-files/{path}", headers=runner)
        assert answer.status_code == 404 or "blue.bin" in answer.text, (path, answer.text)


def test_an_idempotency_key_of_another_opens_nothing(lab: Lab, web: TestClient, target: Target) -> None:
    ada, bob = (token_of(lab, name, {team: Role.ENGINEER}) for name, team in (("eve", "blue"), ("bob", "red")))
    wish = {"selector": "name=shared"}
    first = web.post(
        "leases", json=wish, headers={"Authorization": f"Bearer {ada}", "Idempotency-Key": "the-same"}
    ).json()
    second = web.post(
        "leases", json=wish, headers={"Authorization": f"Bearer {bob}", "Idempotency-Key": "the-same"}
    ).json()
    assert first["id"] != second["id"]
    assert (second["holder"], second["team"]) == ("bob", "red")


def test_no_header_and_no_log_line_can_be_forged(
    lab: Lab, web: TestClient, target: Target, capsys: pytest.CaptureFixture[str]
) -> None:
    bob = {"Authorization": f"Bearer {token_of(lab, 'bob', {'red': Role.ADMIN})}"}
    before = structlog.get_config()
    capsys.readouterr()
    set_up_logging("info")
    try:
        for path in (
            "benches/x%0D%0ASet-Cookie:%20a=b",
            "runs/x%0Alevel=info%20event=forged",
            "leases/x%1B[2J%C2%9B2J",
            "teams/x%0D%0A%0D%0Abody/members",
        ):
            answer = web.get(path, headers=bob)
            assert answer.status_code in (404, 422), answer.text
            assert "set-cookie" not in answer.headers
            assert not any("\n" in value or "\r" in value for value in answer.headers.values())
    finally:
        structlog.configure(**before)
    logged = capsys.readouterr().err
    assert logged.count("request refused") == len(logged.splitlines()) == 4
    assert not set(logged) & set("\r\x1b\x9b")


def test_an_agent_speaks_for_its_own_benches_only(lab: Lab, web: TestClient, target: Target) -> None:
    run_id = target.names["run_id"]
    mine, link = FakeLink(), FakeLink()
    lab.hearing.attach("mine", "mine.test:8472", [report("at-mine")], mine)
    owner = lab.running.create(
        SYSTEM,
        script="return 1",
        name="x.lua",
        files={},
        selector="name=at-mine",
        holder="ci",
        timeout_s=60.0,
        executor=ExecutorName.BENCH,
    ).run
    settle(lab)
    hostile, _ = lab.hearing.attach("hostile", "hostile.test:8472", [report("other"), report("private")], link)
    # A bench of another agent's stays that agent's, and its fences are confirmed by nobody else.
    assert "private" not in hostile.benches
    lab.hearing.fenced(hostile, "private", 10_000)
    lab.hearing.report(hostile, report("private", healthy=False, reason="burns"))
    assert lab.fleet.bench("private").bench.healthy
    assert lab.fleet.bench("private").bench.agent == "agent-1"
    lab.hearing.runner_changed(hostile, RunnerReport(owner.id, False, "killed by another"))
    settle(lab)
    assert lab.running.get(owner.id).run.state is RunState.RUNNING
    lab.hearing.runner_changed(hostile, RunnerReport(owner.id, True, ""))
    assert link.runner_orders[-1] == StopOrder(owner.id), "what it has no business to run, it is to stop"
    assert lab.running.get(run_id).run.state is RunState.RUNNING
