"""`Idempotency-Key` at every POST of the OpenAPI document: none can be added without saying here what a key does."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from bench_agent.protocol.certificates import new_request
from labd.api.app import openapi_document
from labd.api.etags import steady
from labd.api.routing import PREFIX
from labd.model.identity import WHOLE_LAB, Role
from labd.services.authority import Authority
from labd.services.lab import Lab
from tests.unit.labd.fakes import FakeClock, FakeClusters, FakeExecutor, application, attach, open_lab, report, settle
from tests.unit.labd.pods import FakePodApi, cluster
from tests.unit.labd.test_labd_attempt_tokens import submit
from tests.unit.labd.test_labd_secure import client, token_of

DAY_S = 24 * 3600
POSTS = {
    path.removeprefix(f"{PREFIX}/"): methods["post"]
    for path, methods in openapi_document()["paths"].items()
    if "post" in methods
}
REPEATABLE = {path for path, operation in POSTS.items() if operation.get("x-repeatable")}


@dataclass
class World:
    """A lab with things to post to, and people with all rights in it."""

    lab: Lab
    app: FastAPI
    clock: FakeClock
    ada: TestClient
    bob: TestClient
    executor: FakeExecutor
    pods: FakePodApi
    pod_token: str = ""

    def lease(self, **wish: Any) -> str:
        return str(self.ada.post("leases", json={"ttl_s": 3600, **wish}).json()["id"])

    def run(self) -> str:
        run = str(self.ada.post("runs", json={"script": "return", "timeout_s": 7 * DAY_S}).json()["id"])
        settle(self.lab)
        return run

    def runner(self) -> TestClient:
        return client(self.app, self.executor.jobs[-1].token)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One for all: each test has a key of its own, and a day of its own."""
    directory, clock, executor = tmp_path_factory.mktemp("lab"), FakeClock(), FakeExecutor()
    pods, authority = FakePodApi(), Authority(directory / "ca", clock.now)
    clusters = {"lab-a": cluster(pods)}
    lab = open_lab(
        directory, clock, executor, authority=authority, secure=True, clusters=FakeClusters(), pod_clusters=clusters
    )
    attach(lab, *(report(f"bench-{number}") for number in range(20)))
    attach(lab, report("spare-1"), agent="agent-2")
    app = application(lab)
    ada, bob = (
        client(app, token_of(lab, name, {WHOLE_LAB: Role.ADMIN}, lifetime_s=90 * DAY_S)) for name in ("ada", "bob")
    )
    token_of(lab, "carol", {WHOLE_LAB: Role.ENGINEER})
    yield World(lab, app, clock, ada, bob, executor, pods)
    lab.core.store.close()


Case = tuple[str, Any, Any]
"""A path, a body, and another body that would be taken, too; None: the route takes none."""


def _log(text: str) -> dict[str, Any]:
    return {"first_seq": 1, "lines": [{"time": "2026-11-21T09:30:00Z", "level": "info", "text": text}]}


def _enrolment(world: World) -> Case:
    name = f"host-{uuid4()}"
    token = world.ada.post(f"agents/{name}/invite", json={}).json()["token"]
    one, other = ({"token": token, "request": new_request(name).request.decode()} for _ in range(2))
    return "agents/enrol", one, other


def _certificate(world: World) -> Case:
    one, other = ({"request": new_request("").request.decode()} for _ in range(2))
    return f"leases/{world.lease()}/certificate", one, other


def _quarantined(world: World) -> Case:
    attach(world.lab, replace(report("sick"), quarantined=True), agent="agent-3")
    return "benches/sick/clear-quarantine?reason=looked", None, None


def _ended_run(world: World) -> Case:
    run = world.run()
    world.ada.post(f"runs/{run}/cancel")
    return f"runs/{run}/again", {}, {"holder": "eve"}


def _pod(world: World) -> Case:
    run = submit(world.lab, "lab-a")
    settle(world.lab)
    world.pod_token = world.pods.token(world.clock.now(), world.pods.pod(run))
    return f"runs/{run}/runner-token", {"attempt": 1}, None


CASES: dict[str, Callable[[World], Case]] = {
    "agents/enrol": _enrolment,
    "agents/{name}/invite": lambda world: ("agents/host-1/invite", {}, {"lifetime_s": 60}),
    "benches/{name}/clear-quarantine": _quarantined,
    "environments": lambda world: ("environments", {"name": "staging"}, {"name": "production"}),
    "leases": lambda world: ("leases", {"holder": "ada"}, {"holder": "ada", "ttl_s": 60}),
    "leases/{lease_id}/certificate": _certificate,
    "leases/{lease_id}/extend": lambda world: (f"leases/{world.lease(duration_s=60)}/extend", {"by_s": 5}, {"by_s": 6}),
    "leases/{lease_id}/heartbeat": lambda world: (f"leases/{world.lease()}/heartbeat", None, None),
    "leases/{lease_id}/shares": lambda world: (
        f"leases/{world.lease()}/shares",
        {"holder": "bob"},
        {"holder": "carol"},
    ),
    "leases/{lease_id}/transfer": lambda world: (
        f"leases/{world.lease()}/transfer",
        {"holder": "bob"},
        {"holder": "carol"},
    ),
    "retention/preview": lambda world: ("retention/preview", {}, {"audit_days": 1}),
    "retention/sweep": lambda world: ("retention/sweep", None, None),
    "runs": lambda world: ("runs", {"script": "return"}, {"script": "return 1"}),
    "runs/{run_id}/again": _ended_run,
    "runs/{run_id}/cancel": lambda world: (f"runs/{world.run()}/cancel", None, None),
    "runs/{run_id}/log": lambda world: (f"runs/{world.run()}/log", _log("one"), _log("other")),
    "runs/{run_id}/runner-token": _pod,
    "teams": lambda world: ("teams", {"name": "blue"}, {"name": "red"}),
    "tokens": lambda world: ("tokens", {"name": "ci"}, {"name": "cd"}),
    "users": lambda world: ("users", {"name": "eve"}, {"name": "mallory"}),
}


def test_there_is_a_case_for_every_post() -> None:
    assert set(POSTS) == set(CASES)


@pytest.fixture
def key() -> dict[str, str]:
    return {"Idempotency-Key": str(uuid4())}


def _post(who: TestClient, path: str, body: Any, key: dict[str, str]) -> httpx2.Response:
    answer: httpx2.Response = who.post(path, headers=key) if body is None else who.post(path, json=body, headers=key)
    return answer


def _written(world: World) -> object:
    """What is on record: it grows with everything that is done."""
    with world.lab.core.view() as unit:
        return unit.audit_head()


def _who(world: World, template: str) -> TestClient:
    if template == "runs/{run_id}/log":
        return world.runner()
    if template == "runs/{run_id}/runner-token":
        return client(world.app, world.pod_token)
    return client(world.app, None) if template == "agents/enrol" else world.ada


@pytest.mark.parametrize("template", sorted(set(POSTS) - REPEATABLE))
def test_a_post_sent_again_acts_once_and_is_answered_alike(template: str, world: World, key: dict[str, str]) -> None:
    path, body, other = CASES[template](world)
    who = _who(world, template)
    first = _post(who, path, body, key)
    assert first.status_code in (200, 201, 202), first.text
    done = _written(world)
    world.clock.advance(5)
    again = _post(who, path, body, key)
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    assert _written(world) == done
    changed = _post(who, path, other, key) if other is not None else who.post(f"{path}?reason=why", headers=key)
    if template == "agents/enrol":
        assert changed.status_code == 403  # a stranger's key goes with the request: this is another, with a used token
    else:
        assert (changed.status_code, changed.json()["errors"][0]["field"]) == (422, "Idempotency-Key")
    assert _written(world) == done
    if template != "agents/enrol":
        another = _post(world.bob, f"{path}?reason=his", body, key)  # what bob forces on ada's he says why
        assert "idempotent-replayed" not in another.headers
        assert "Idempotency-Key" not in another.text
    world.clock.advance(DAY_S)
    assert "idempotent-replayed" not in _post(who, path, body, key).headers


@pytest.mark.parametrize("template", sorted(REPEATABLE))
def test_a_repeatable_post_sent_again_does_nothing_more(template: str, world: World, key: dict[str, str]) -> None:
    path, body, other = CASES[template](world)
    who = _who(world, template)
    first = _post(who, path, body, key)
    assert first.status_code in (200, 201), first.text
    done = _written(world)
    again = _post(who, path, body, key)
    assert again.status_code == first.status_code
    assert "idempotent-replayed" not in again.headers
    assert _written(world) == done
    if template == "leases/{lease_id}/certificate":  # another one for the same key: both are good
        assert again.json()["servers"] == first.json()["servers"]
    else:
        assert steady(again.json()) == steady(first.json())
    if other is not None:
        assert _post(who, path, other, key).status_code == first.status_code


def test_a_log_line_sent_again_is_not_stored_twice(world: World, key: dict[str, str]) -> None:
    path, body, other = CASES["runs/{run_id}/log"](world)
    for content in (body, body, other):
        assert _post(world.runner(), path, content, key).json() == {"acknowledged": 1}
    log = world.ada.get(path, params={"follow": False}).text
    assert (log.count('"text":"one"'), log.count('"text":"other"')) == (1, 0)


def test_a_stranger_cannot_take_a_strangers_key(world: World, key: dict[str, str]) -> None:
    _, one, _ = _enrolment(world)
    web = client(world.app, None)
    squatter = _post(web, "agents/enrol", {"token": "labd-enrol.guess.0", "request": one["request"]}, key)
    assert squatter.status_code == 403
    assert _post(web, "agents/enrol", one, key).status_code == 201
