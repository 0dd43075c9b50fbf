"""A test pod proves by its service account's token which attempt at which run it is, and gets that attempt's token."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient

from labd.model.identity import SYSTEM
from labd.model.run import ExecutorName
from labd.services.errors import Forbidden
from labd.services.lab import Lab
from labd.store.units.audit import AuditFilter
from tests.unit.labd.fakes import RESULT, FakeClock, FakeClusters, application, attach, open_lab, report, settle
from tests.unit.labd.pods import ACCOUNT, FakePodApi, cluster


class World:
    """A secure lab with a cluster, and a run that RUNs there."""

    def __init__(self, directory: Path, clock: FakeClock, database: str | None) -> None:
        self.clock = clock
        self.api, self.other_api = FakePodApi(), FakePodApi()
        self.executor = FakeClusters()
        clusters = {"lab-a": cluster(self.api), "lab-b": cluster(self.other_api, "lab-b", identity="secret")}
        self.lab = open_lab(
            directory, clock, database=database, secure=True, clusters=self.executor, pod_clusters=clusters
        )
        attach(self.lab, *(report(f"bench-{number}") for number in range(4)))
        self.app = application(self.lab)
        self.run_id = self.submit()
        self.pod = self.api.pod(self.run_id)

    def submit(self, where: str = "lab-a") -> str:
        run = submit(self.lab, where)
        settle(self.lab)
        return run

    def web(self, token: str | None) -> TestClient:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return TestClient(self.app, base_url="http://labd.test/api/v1/", headers=headers)

    def token(self, pod: str | None = None, **changes: Any) -> str:
        return self.api.token(self.clock.now(), pod or self.pod, **changes)

    def ask(self, token: str | None, run_id: str | None = None, attempt: int = 1) -> httpx2.Response:
        path = f"runs/{run_id or self.run_id}/runner-token"
        answer: httpx2.Response = self.web(token).post(path, json={"attempt": attempt})
        return answer

    def refusal(self, token: str | None, run_id: str | None = None, attempt: int = 1) -> tuple[int, str]:
        answer = self.ask(token, run_id, attempt)
        assert "token" not in answer.json()
        return answer.status_code, answer.json()["detail"]


def submit(lab: Lab, where: str) -> str:
    run = lab.running.create(
        SYSTEM,
        script="return 1",
        name="x.lua",
        files={},
        holder="ada",
        timeout_s=60.0,
        executor=ExecutorName.KUBERNETES,
        cluster=where,
    )
    return run.run.id


@pytest.fixture
def world(tmp_path: Path, clock: FakeClock, database: str | None) -> Iterator[World]:
    world = World(tmp_path, clock, database)
    yield world
    world.lab.core.store.close()


def test_a_pod_gets_the_token_of_its_attempt(world: World) -> None:
    own = world.token()
    answer = world.ask(own)
    assert answer.status_code == 200, answer.text
    token = answer.json()["token"]
    assert token == world.executor.jobs[-1].token
    assert world.api.reviewed == [(own, "labd")]
    assert world.web(token).get(f"runs/{world.run_id}/assignment").json()["script"] == "return 1"
    assert world.web(own).get(f"runs/{world.run_id}/assignment").status_code == 401, "its own token opens nothing"
    again = world.ask(world.token())
    assert again.json() == answer.json(), "the answer was lost, and the token renewed"
    (entry,) = admissions(world)
    assert entry.subject == f"run/{world.run_id}"
    assert entry.after == {"attempt": 1, "cluster": "lab-a", "pod": world.pod, "uid": "uid-1"}
    assert token not in str(entry)


def admissions(world: World) -> list[Any]:
    entries = world.lab.auditing.page(AuditFilter(), after=None, limit=100, newest_first=True)
    return [entry.deed for entry in entries if entry.deed.action == "run.admitted"]


def test_another_pods_token_is_refused_and_says_why(world: World) -> None:
    other = world.api.pod(world.submit(), uid="uid-2")
    token = world.token(other, uid="uid-2")
    said = f"the token is of the pod {other}; attempt 1 of run {world.run_id} is {world.pod}"
    assert world.refusal(token) == (403, said)
    assert admissions(world) == []


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ("system:serviceaccount:ci:default", "the token is of the service account ci/default; pods of cluster lab-a"),
        ("system:serviceaccount:labd:admin", "the token is of the service account labd/admin; pods of cluster lab-a"),
    ],
)
def test_another_account_or_namespace_is_refused(world: World, user: str, said: str) -> None:
    status, detail = world.refusal(world.token(user=user))
    assert (status, detail.startswith(said)) == (403, True), detail


def test_what_the_api_server_does_not_confirm_is_refused(world: World) -> None:
    assert world.refusal(None)[0] == 401
    assert world.refusal(world.token(authenticated=False)) == (401, "cluster lab-a does not know that token")
    assert world.refusal(world.token(audiences=["vault"])) == (401, "the token of cluster lab-a is not for 'labd'")
    assert world.refusal(world.token(user="ada"))[0] == 401
    unbound = world.api.token(world.clock.now(), None)
    assert "bound to no pod" in world.refusal(unbound)[1]
    late = world.token()
    world.clock.advance(3601)
    assert "expired" in world.refusal(late)[1]
    assert world.refusal("labd_abc_def")[0] == 401


def test_a_pod_that_came_in_its_place_is_refused(world: World) -> None:
    world.api.pods.clear()
    said = f"the pod {world.pod} that the token is of is not the one that labd made"
    assert world.refusal(world.token()) == (403, said)
    world.api.pods[world.pod] = {"metadata": {"name": world.pod, "uid": "uid-1", "labels": {}}}
    assert world.refusal(world.token()) == (403, said), "somebody else's, of that name"
    world.api.pod(world.run_id)
    assert world.ask(world.token()).status_code == 200
    world.api.pod(world.run_id, uid="uid-9")
    status, detail = world.refusal(world.token(uid="uid-9"))
    assert (status, "is of another pod" in detail) == (403, True)


def test_a_former_attempt_gets_nothing(world: World) -> None:
    token = world.token()
    assert world.ask(token).status_code == 200
    world.executor.die(world.run_id, "the node is gone", "PodLost")
    settle(world.lab)
    status, detail = world.refusal(token)
    assert status == 409
    assert "RUNNING" in detail or "is over" in detail


def test_a_run_that_is_over_gives_no_token(world: World) -> None:
    token = world.ask(world.token()).json()["token"]
    report = {"document": RESULT, "junit": "<testsuites/>"}
    assert world.web(token).put(f"runs/{world.run_id}/result", json=report).status_code == 200
    status, detail = world.refusal(world.token())
    assert (status, detail) == (409, f"run {world.run_id} is PASSED: only a RUNNING one has a runner")


def test_a_runner_has_nothing_to_say_of_another_run(world: World) -> None:
    other = world.submit()
    token = world.ask(world.token()).json()["token"]
    web = world.web(token)
    line = {"time": "2026-11-21T09:30:00Z", "level": "info", "text": "x"}
    lease = world.lab.running.get(other).run.lease_id
    answers = [
        web.put(f"runs/{other}/result", json={"document": RESULT, "junit": "<testsuites/>"}),
        web.post(f"runs/{other}/log", json={"first_seq": 1, "lines": [line]}),
        web.get(f"runs/{other}/assignment"),
        web.get(f"runs/{other}/data-files/x.bin"),
    ]
    assert [answer.status_code for answer in answers] == [403] * 4
    assert {answer.json()["detail"] for answer in answers} == {f"the token is not the one of run {other!r}"}
    assert web.post(f"leases/{lease}/heartbeat").status_code in (401, 403, 404)
    run = world.lab.running.get(other).run
    assert (run.state, run.log_lines) == ("RUNNING", 0)


def test_strangers_learn_nothing_of_runs(world: World) -> None:
    for run_id in ("r-000000000000", world.submit("lab-b")):
        status, detail = world.refusal(world.token(), run_id)
        assert status == 403
        assert "RUNNING" not in detail
    assert world.refusal("x.y.z")[0] == 401
    assert world.api.reviewed == []


def test_an_api_server_that_is_away_is_to_be_asked_again(world: World) -> None:
    world.api.away = "connection refused"
    answer = world.ask(world.token())
    assert (answer.status_code, answer.json()["detail"]) == (503, "labd cannot ask cluster lab-a at present: try again")
    assert answer.headers["retry-after"]
    world.api.away = ""
    assert world.ask(world.token()).status_code == 200


def test_forged_tokens_do_not_swamp_the_api_server(world: World) -> None:
    tokens = [world.token(jti=number) for number in range(70)]
    world.api.reviews.clear()
    answers = [world.ask(token).status_code for token in tokens]
    assert (answers.count(401), answers.count(503), len(world.api.reviewed)) == (50, 20, 50)


def test_too_many_questions_from_one_address_wait(world: World) -> None:
    answers = [world.ask(None).status_code for _ in range(210)]
    assert (answers.count(401), answers.count(429)) == (200, 10)


def test_the_account_is_the_settings_one(tmp_path: Path, clock: FakeClock) -> None:
    api, executor = FakePodApi(), FakeClusters()
    place = cluster(api, namespace="tests", service_account="runner")
    lab = open_lab(tmp_path, clock, secure=True, clusters=executor, pod_clusters={"lab-a": place})
    attach(lab, report("bench-1"))
    run_id = submit(lab, "lab-a")
    settle(lab)
    pod = api.pod(run_id)
    good = api.token(clock.now(), pod, user="system:serviceaccount:tests:runner")
    assert lab.attempt_tokens.exchange(run_id, 1, good) == executor.jobs[-1].token
    with pytest.raises(Forbidden, match="pods of cluster lab-a have tests/runner"):
        lab.attempt_tokens.exchange(run_id, 1, api.token(clock.now(), pod, user=ACCOUNT))
    lab.core.store.close()
