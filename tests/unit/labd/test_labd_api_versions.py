import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from labd.api.etags import UNSTEADY, etag, matches
from labd.services.lab import Lab
from tests.unit.labd.fakes import FakeClock, application, attach, report


@pytest.fixture
def app(lab: Lab) -> FastAPI:
    attach(lab, report("bench-1"))
    return application(lab)


@pytest.fixture
def web(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, base_url="http://labd.test/api/v1/", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def lease(web: TestClient) -> str:
    return str(web.post("leases", json={"holder": "ada"}).json()["id"])


def test_what_has_not_changed_is_not_sent_again(web: TestClient, lease: str, clock: FakeClock) -> None:
    web.post(f"leases/{lease}/heartbeat")
    tag = web.get(f"leases/{lease}").headers["etag"]
    clock.advance(1)
    web.post(f"leases/{lease}/heartbeat")
    again = web.get(f"leases/{lease}", headers={"If-None-Match": f'"other", {tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    web.delete(f"leases/{lease}")
    changed = web.get(f"leases/{lease}", headers={"If-None-Match": tag})
    assert (changed.status_code, changed.json()["state"]) == (200, "ENDING")
    assert changed.headers["etag"] != tag


def test_a_change_answers_with_the_tag_of_the_next_get(web: TestClient, lease: str) -> None:
    ended = web.delete(f"leases/{lease}")
    assert ended.headers["etag"] == web.get(f"leases/{lease}").headers["etag"]


def test_a_change_is_made_to_the_version_that_was_seen_only(web: TestClient, lease: str) -> None:
    tag = web.get(f"leases/{lease}").headers["etag"]
    refused = web.delete(f"leases/{lease}", headers={"If-Match": '"another"'})
    assert (refused.status_code, refused.headers["etag"]) == (412, tag)
    assert refused.headers["content-type"] == "application/problem+json"
    assert web.get(f"leases/{lease}").json()["state"] == "GRANTED"
    assert web.delete(f"leases/{lease}", headers={"If-Match": tag}).json()["state"] == "ENDING"
    assert web.delete(f"leases/{lease}", headers={"If-Match": tag}).status_code == 412
    assert web.delete(f"leases/{lease}", headers={"If-Match": "*"}).status_code == 200
    assert web.delete("leases/l-0", headers={"If-Match": "*"}).status_code == 412


def test_a_refusal_for_its_version_leaves_the_key_free(web: TestClient) -> None:
    run = web.post("runs", json={"holder": "ci", "script": "return"}).json()["id"]
    key = {"Idempotency-Key": "k-1"}
    assert web.post(f"runs/{run}/cancel", headers={**key, "If-Match": '"old"'}).status_code == 412
    tag = web.get(f"runs/{run}").headers["etag"]
    first = web.post(f"runs/{run}/cancel", headers={**key, "If-Match": tag})
    assert first.json()["state"] == "CANCELLED"
    # The answer of the first time, although the version is another by now.
    assert web.post(f"runs/{run}/cancel", headers={**key, "If-Match": tag}).json() == first.json()


def test_of_two_that_change_the_same_version_one_wins(web: TestClient) -> None:
    run = web.post("runs", json={"holder": "ci", "script": "return"}).json()["id"]
    tag = web.get(f"runs/{run}").headers["etag"]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: web.post(f"runs/{run}/cancel", headers={"If-Match": tag}), range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412]


def test_a_get_waits_for_the_next_version(web: TestClient, lab: Lab) -> None:
    run = web.post("runs", json={"holder": "ci", "script": "return"})
    tag, path = run.headers["etag"], f"runs/{run.json()['id']}"
    with ThreadPoolExecutor(2) as pool:
        by_tag = pool.submit(web.get, path, params={"wait": 60}, headers={"If-None-Match": tag})
        without = pool.submit(web.get, path, params={"wait": 60})
        while len(lab.core.changes._listeners.get(run.json()["id"], ())) < 2:
            assert not by_tag.done()
            threading.Event().wait(0.01)
        web.post(f"{path}/cancel")
        assert by_tag.result(30).json()["state"] == without.result(30).json()["state"] == "CANCELLED"
    assert web.get(path, params={"wait": 60}, headers={"If-None-Match": tag}).json()["state"] == "CANCELLED"


def test_a_wait_that_is_over_says_that_nothing_changed(web: TestClient, lease: str) -> None:
    first = web.get(f"leases/{lease}")
    unchanged = web.get(f"leases/{lease}", params={"wait": 0.05}, headers={"If-None-Match": first.headers["etag"]})
    assert unchanged.status_code == 304
    assert web.get(f"leases/{lease}", params={"wait": 0.05}).json() == first.json()
    for wait in ("-1", "61", "nan", "long"):
        assert web.get(f"leases/{lease}", params={"wait": wait}).status_code == 422


def test_a_bench_is_asked_for_and_waited_for_in_one_request(web: TestClient, lab: Lab, lease: str) -> None:
    key = {"Idempotency-Key": "one-and-the-same"}
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(web.post, "leases", json={"ttl_s": 600}, params={"wait": 60}, headers=key)
        while not lab.core.changes._listeners:
            assert not asked.done()
            threading.Event().wait(0.01)
        web.delete(f"leases/{lease}")
        attach(lab, report("bench-1"))  # its agent confirms the end of the first lease
        got = asked.result(30)
    assert (got.status_code, got.json()["state"], got.json()["bench"]) == (201, "GRANTED", "bench-1")
    assert got.json()["token"] and got.headers["etag"] == web.get(f"leases/{got.json()['id']}").headers["etag"]
    again = web.post("leases", json={"ttl_s": 600}, params={"wait": 60}, headers=key)  # sent again: the same lease
    assert (again.json()["id"], again.json()["state"]) == (got.json()["id"], "GRANTED")
    assert again.headers["idempotent-replayed"] == "true"


def test_who_waits_for_a_bench_hears_in_time_that_a_heartbeat_is_due(web: TestClient, lease: str) -> None:
    waiting = web.post("leases", json={"ttl_s": 1}, params={"wait": 60})
    assert (waiting.status_code, waiting.json()["state"], waiting.json()["position"]) == (201, "QUEUED", 1)
    assert web.post("leases", json={}, params={"wait": 61}).status_code == 422
    assert len(web.get("leases").json()["items"]) == 2, "nothing is asked for that cannot be waited for"


def test_nobody_waits_for_a_labd_that_stops(web: TestClient, lab: Lab, lease: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        waited = pool.submit(web.get, f"leases/{lease}", params={"wait": 60})
        while not lab.core.changes._listeners:
            threading.Event().wait(0.01)
        lab.hang_up()
        assert waited.result(20).status_code == 200


def test_every_change_of_one_thing_knows_what_shows_it(app: FastAPI) -> None:
    document = app.openapi()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            names = {parameter["name"] for parameter in operation.get("parameters", [])}
            assert ("If-Match" in names) == (method != "get" and ("{" in path or method != "post")), (method, path)


@given(st.dictionaries(st.sampled_from(["id", "state", *UNSTEADY]), st.integers()), st.integers())
def test_a_tag_stands_for_all_but_what_is_unsteady(thing: dict[str, int], number: int) -> None:
    tag = etag(json.dumps({"things": [thing]}).encode())
    for field in UNSTEADY:
        assert etag(json.dumps({"things": [{**thing, field: number}]}).encode()) == tag
    assert etag(json.dumps({"things": [{**thing, "new": number}]}).encode()) != tag
    assert matches(tag, tag) and matches(f"W/{tag}", tag) and matches("*", tag) and not matches('"x"', tag)


def test_waiting_costs_no_thread(web: TestClient, lab: Lab) -> None:
    """More wait than the pool has threads, and others are answered all the same."""
    run = web.post("runs", json={"holder": "ci", "script": "return"}).json()["id"]

    async def crowd() -> None:
        transport = httpx2.ASGITransport(web.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://labd.test/api/v1/") as client:
            waits = [asyncio.create_task(client.get(f"runs/{run}", params={"wait": 60})) for _ in range(100)]
            while len(lab.core.changes._listeners.get(run, ())) < 100:  # noqa: ASYNC110 - listeners tell nobody
                await asyncio.sleep(0.01)
            assert (await client.get("benches")).status_code == 200
            await client.post(f"runs/{run}/cancel")
            assert {answer.json()["state"] for answer in await asyncio.gather(*waits)} == {"CANCELLED"}

    asyncio.run(crowd())
