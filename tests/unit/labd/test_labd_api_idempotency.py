import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi import APIRouter
from fastapi.testclient import TestClient
from sqlalchemy import select

from labd.api.routing import Router, routes_of
from labd.model.identity import ANONYMOUS, SYSTEM
from labd.services.errors import Conflict
from labd.services.lab import Lab
from labd.store.errors import DatabaseBusy
from labd.store.store import Store
from labd.store.tables import idempotency_keys
from tests.unit.labd.fakes import FakeClock, application, attach, open_lab, report

KEY = {"Idempotency-Key": "5f1d7a84-3c0e-4b52-9d51-7a1f3f0e6c2b"}
LEASE = {"holder": "ada"}


@pytest.fixture
def web(lab: Lab) -> Iterator[TestClient]:
    attach(lab, report("bench-1"))
    with TestClient(application(lab), base_url="http://labd.test/api/v1/", raise_server_exceptions=False) as client:
        yield client


def _leases(web: TestClient) -> int:
    return len(web.get("leases").json()["items"])


def test_a_request_sent_again_acts_once_and_is_answered_alike(web: TestClient, clock: FakeClock) -> None:
    first = web.post("leases", json=LEASE, headers=KEY)
    clock.advance(5)
    again = web.post("leases", json=LEASE, headers=KEY)
    assert (again.status_code, again.content) == (first.status_code, first.content) == (201, first.content)
    assert (first.headers.get("idempotent-replayed"), again.headers["idempotent-replayed"]) == (None, "true")
    assert again.headers["content-type"] == first.headers["content-type"]
    assert _leases(web) == 1
    assert web.post("leases", json=LEASE, headers={"Idempotency-Key": "other"}).json()["id"] != first.json()["id"]


def test_an_answer_is_what_it_would_be_without_a_key(web: TestClient) -> None:
    for path, body in (("leases", LEASE), ("runs", {"holder": "ci", "script": "return"})):
        without = web.post(path, json=body)
        with_key = web.post(path, json=body, headers={"Idempotency-Key": path})
        assert list(without.json()) == list(with_key.json())
        assert without.status_code == with_key.status_code
        assert without.headers["content-type"] == with_key.headers["content-type"]


def test_a_key_with_another_request_is_refused(web: TestClient) -> None:
    web.post("leases", json=LEASE, headers=KEY)
    for path, body in (("leases", {"holder": "bob"}), ("runs", {"holder": "ada", "script": "return"})):
        refused = web.post(path, json=body, headers=KEY)
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "Idempotency-Key")
    assert _leases(web) == 1


@pytest.mark.parametrize("key", ["", " ", "a b", "ä", "x" * 201])
def test_a_key_is_printable_ascii(web: TestClient, key: str) -> None:
    refused = web.post("leases", json=LEASE, headers=[(b"Idempotency-Key", key.encode())])
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "Idempotency-Key")
    assert _leases(web) == 0


def test_a_refusal_that_did_nothing_is_not_kept(web: TestClient, lab: Lab) -> None:
    wish = {**LEASE, "selector": "platform=meb"}
    assert web.post("leases", json=wish, headers=KEY).status_code == 422
    attach(lab, report("bench-2", {"platform": "meb"}), agent="agent-2")
    assert web.post("leases", json=wish, headers=KEY).status_code == 201


def test_a_refusal_after_something_was_done_is_kept_with_it(
    web: TestClient, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = lab.leasing.create

    def create_then_refuse(*actor: object, **wish: object) -> None:
        create(*actor, **wish)  # type: ignore[arg-type]
        raise Conflict("too late")

    monkeypatch.setattr(lab.leasing, "create", create_then_refuse)
    for _ in range(2):
        answer = web.post("leases", json=LEASE, headers=KEY)
        assert (answer.status_code, answer.json()["detail"]) == (409, "too late")
    assert _leases(web) == 1


def test_a_mistake_after_the_effect_undoes_it(web: TestClient, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(lab.idempotency, "keep", lambda *_: 1 / 0)
        assert web.post("leases", json=LEASE, headers=KEY).status_code == 500
    assert _leases(web) == 0
    assert web.post("leases", json=LEASE, headers=KEY).status_code == 201
    assert _leases(web) == 1


def test_the_effect_is_told_only_once_it_is_durable(web: TestClient, lab: Lab) -> None:
    seen = []
    lab.core.follow(lambda effects: seen.append(_leases(web)))
    web.post("leases", json=LEASE, headers=KEY)
    assert seen == [1]


def test_a_request_that_is_worked_on_is_not_begun_twice(
    web: TestClient, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go_on = threading.Event(), threading.Event()
    create = lab.leasing.create

    def slow(*actor: object, **wish: object) -> object:
        began.set()
        assert go_on.wait(30)
        return create(*actor, **wish)  # type: ignore[arg-type]

    monkeypatch.setattr(lab.leasing, "create", slow)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(web.post, "leases", json=LEASE, headers=KEY)
        assert began.wait(30)
        second = web.post("leases", json=LEASE, headers=KEY)
        assert (second.status_code, second.headers["retry-after"]) == (409, "1")
        go_on.set()
        assert first.result(30).status_code == 201
    assert web.post("leases", json=LEASE, headers=KEY).content == first.result().content


def test_a_request_sent_again_is_answered_alike_also_when_it_would_be_refused_by_now(web: TestClient) -> None:
    lease = web.post("leases", json=LEASE).json()["id"]
    first = web.post(f"leases/{lease}/extend", json={"by_s": 60}, headers=KEY)
    assert first.status_code == 200
    web.delete(f"leases/{lease}")
    assert web.post(f"leases/{lease}/extend", json={"by_s": 60}).status_code == 409
    again = web.post(f"leases/{lease}/extend", json={"by_s": 60}, headers=KEY)
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert web.post("leases", json={**LEASE, "selector": "no=such"}, headers=KEY).json()["errors"][0]["field"] == (
        "Idempotency-Key"
    )


def test_a_request_sent_again_begins_nothing(web: TestClient, lab: Lab) -> None:
    """Not to be undone either: those who write at the same time would have to wait for it."""
    web.post("leases", json=LEASE, headers=KEY)
    told: list[object] = []
    lab.core.follow(told.append)
    with lab.core.view() as unit:
        before = unit.audit_head()
    assert web.post("leases", json=LEASE, headers=KEY).headers["idempotent-replayed"] == "true"
    with lab.core.view() as unit:
        assert unit.audit_head() == before
    assert told == []


def test_keys_are_forgotten_after_a_day(web: TestClient, lab: Lab, clock: FakeClock) -> None:
    first = web.post("runs", json={"holder": "ci", "script": "return"}, headers=KEY).json()["id"]
    clock.advance(24 * 3600 - 1)
    assert web.post("runs", json={"holder": "ci", "script": "return"}, headers=KEY).json()["id"] == first
    clock.advance(2)
    assert web.post("runs", json={"holder": "ci", "script": "return"}, headers=KEY).json()["id"] != first


def test_the_database_does_not_tell_answers_or_keys(web: TestClient, lab: Lab) -> None:
    lease = web.post("leases", json=LEASE, headers=KEY).json()
    with lab.core.store.database.engine.connect() as connection:
        (row,) = connection.execute(select(idempotency_keys)).all()
    content = repr(tuple(bytes(value) if isinstance(value, memoryview) else value for value in row))
    assert len(row.answer) > 200
    for secret in (lease["id"], lease["token"], KEY["Idempotency-Key"]):
        assert secret not in content


def test_answers_outlive_labd(
    web: TestClient, lab: Lab, clock: FakeClock, tmp_path: Path, database: str | None
) -> None:
    first = web.post("leases", json=LEASE, headers=KEY)
    lab.core.store.close()
    later = open_lab(tmp_path, clock, database=database)
    with TestClient(application(later), base_url="http://labd.test/api/v1/") as client:
        assert client.post("leases", json=LEASE, headers=KEY).content == first.content
    later.core.store.close()


def test_a_busy_database_undoes_and_says_so(web: TestClient, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(*_: object) -> None:
        raise DatabaseBusy("busy")

    with monkeypatch.context() as patch:
        patch.setattr(lab.idempotency, "keep", busy)
        assert web.post("leases", json=LEASE, headers=KEY).status_code == 503
    assert _leases(web) == 0


def test_uses_in_one_transaction_see_each_other_and_end_together(
    lab: Lab, tmp_path: Path, database: str | None
) -> None:
    attach(lab, report("bench-1"))
    other = Store(tmp_path, database)
    wish = {"selector": "", "holder": "ada", "duration_s": 60.0, "ttl_s": 30.0}
    with pytest.raises(ZeroDivisionError), lab.core.together.scope():
        made = lab.leasing.create(ANONYMOUS, **wish).lease.id  # type: ignore[arg-type]
        assert lab.leasing.get(made).lease.holder == "ada"
        with other.read() as unit:
            assert unit.lease(made) is None
        raise ZeroDivisionError
    with lab.core.together.scope():
        first, second = (lab.leasing.create(ANONYMOUS, **wish).lease.id for _ in range(2))  # type: ignore[arg-type]
    with other.read() as unit:
        assert unit.lease(made) is None
        assert unit.lease(first) is not None
        assert unit.lease(second) is not None
    other.close()


def test_a_failure_that_is_passed_over_leaves_nothing_half_done(lab: Lab) -> None:
    attach(lab, report("bench-1"))
    wish = {"selector": "", "holder": "ada", "duration_s": 60.0, "ttl_s": 30.0}
    with pytest.raises(RuntimeError, match="undone"), lab.core.together.scope():
        made = lab.leasing.create(ANONYMOUS, **wish).lease.id  # type: ignore[arg-type]
        with pytest.raises(Conflict), lab.core.transaction(SYSTEM):
            raise Conflict("no")
    with lab.core.view() as unit:
        assert unit.lease(made) is None


def test_every_post_takes_a_key_and_no_router_can_forget_it(web: TestClient) -> None:
    for path, operations in web.get("openapi.json").json()["paths"].items():
        if "post" in operations:
            names = {parameter["name"] for parameter in operations["post"].get("parameters", [])}
            assert "Idempotency-Key" in names, path
    plain = APIRouter(prefix="/forgetful")
    plain.get("/thing")(lambda: None)
    with pytest.raises(TypeError, match="/forgetful is served by a APIRouter: use"):
        routes_of([Router(), plain])
