import json
import threading
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from labd.api import events
from labd.client import LabClient, ProblemError
from labd.services.lab import Lab
from tests.unit.labd.fakes import FakeLink, application, attach, report
from tests.unit.labd.serving import serving


@pytest.fixture
def link(lab: Lab) -> FakeLink:
    return attach(lab, report("bench-1"))[1]


@pytest.fixture
def client(lab: Lab, link: FakeLink) -> Iterator[LabClient]:
    with serving(lab) as (host, port), LabClient(f"http://{host}:{port}") as client:
        yield client


def test_a_lease_is_followed_from_the_queue_to_its_end(client: LabClient, lab: Lab) -> None:
    first = client.create_lease(holder="ada")
    lease_id = client.create_lease(holder="ada")["id"]
    follower = client.follow_lease(lease_id)
    assert next(follower)["state"] == "QUEUED"
    client.release(lease_id)
    states, last = list[str](), None
    while last is None:
        try:
            states.append(next(follower)["state"])
        except StopIteration as end:
            last = end.value
    assert last["state"] == "ENDED"
    assert last["end_reason"] == "cancelled"
    with pytest.raises(ProblemError):
        next(client.follow_lease("l-0"))
    assert client.lease(first["id"])["state"] == "GRANTED"


def test_all_leases_are_followed(client: LabClient, lab: Lab) -> None:
    mine = client.create_lease(holder="ada")["id"]
    follower = client.follow_leases(holder="ada")
    assert next(follower)["id"] == mine
    client.create_lease(holder="bob")
    second = client.create_lease(holder="ada")
    changed = next(lease for lease in follower if lease["id"] != mine)
    assert (changed["id"], changed["state"], changed.get("token")) == (second["id"], "QUEUED", None)


def test_a_run_is_followed_to_its_end(client: LabClient, lab: Lab) -> None:
    run_id = client.create_run(script="return", holder="ci")["id"]
    follower = client.follow_run(run_id)
    assert next(follower)["state"] == "RUNNING"
    client.cancel_run(run_id)
    with pytest.raises(StopIteration) as end:
        while True:
            next(follower)
    assert end.value.value["state"] == "CANCELLED"


def test_a_version_that_was_seen_is_not_sent_again(lab: Lab, link: FakeLink) -> None:
    with TestClient(application(lab), base_url="http://labd.test/api/v1/") as web:
        lease = web.post("leases", json={"holder": "ada"})
        lab.closing = False
        seen = lease.headers["etag"].strip('"')
        waiting = threading.Thread(target=_hang_up_on_a_follower, args=(lab, lease.json()["id"]))
        waiting.start()
        text = web.get(f"leases/{lease.json()['id']}/events", headers={"Last-Event-ID": seen}).text
        waiting.join()
        assert "event:" not in text
        lab.closing = False
        text = _ended_stream(web, lab, lease.json()["id"])
        assert f"id: {seen}" in text
        assert json.loads(text.split("data: ", 1)[1].split("\n")[0])["id"] == lease.json()["id"]


def _hang_up_on_a_follower(lab: Lab, topic: str) -> None:
    while not lab.core.changes._listeners.get(topic):
        threading.Event().wait(0.01)
    threading.Event().wait(0.3)
    lab.hang_up()


def _ended_stream(web: TestClient, lab: Lab, lease_id: str) -> str:
    stopping = threading.Thread(target=_hang_up_on_a_follower, args=(lab, lease_id))
    stopping.start()
    text = web.get(f"leases/{lease_id}/events").text
    stopping.join()
    return text


def test_a_stream_ends_so_that_who_comes_back_is_admitted_anew(
    lab: Lab, link: FakeLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "STREAM_S", 0.0)
    with TestClient(application(lab), base_url="http://labd.test/api/v1/") as web:
        lease_id = web.post("leases", json={"holder": "ada"}).json()["id"]
        assert web.get(f"leases/{lease_id}/events").text == ""
        assert web.get("leases/events").text.count("event:") == 1


def test_a_follower_that_falls_behind_is_cut_off(lab: Lab, link: FakeLink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_PENDING_MAX", -1)
    with TestClient(application(lab), base_url="http://labd.test/api/v1/") as web:
        assert "ready" in web.get("leases/events").text
