"""Agents and certificates over REST."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from bench_agent.protocol.certificates import certificates_of, fingerprint, new_request, uris
from labd.api.routing import PREFIX
from labd.model.identity import DEFAULT_TEAM, SYSTEM, Actor, ActorKind, Role
from labd.model.lease import Share, ShareMode
from labd.services.authority import Authority
from labd.services.enrolment import TOKEN_LIFETIME_MAX_S
from labd.services.errors import Forbidden
from labd.services.lab import Lab
from tests.unit.labd.fakes import FakeClock, FakeLink, application, open_lab, report

LEASE = {"holder": "ada", "selector": "", "duration_s": 60, "ttl_s": 30}


@pytest.fixture
def secure(tmp_path: Path, clock: FakeClock) -> Iterator[Lab]:
    lab = open_lab(tmp_path, clock, authority=Authority(tmp_path / "ca", clock.now))
    yield lab
    lab.core.store.close()


@pytest.fixture
def web(secure: Lab) -> TestClient:
    return TestClient(application(secure), base_url=f"http://labd.test{PREFIX}/")


def _request(name: str = "") -> str:
    return new_request(name).request.decode()


def test_from_invitation_to_revocation(web: TestClient) -> None:
    invited = web.post("agents/host-1/invite", json={"lifetime_s": 60})
    assert invited.status_code == 201
    token = invited.json()["token"]
    assert web.get("agents/host-1").json()["state"] == "invited"
    enrolled = web.post("agents/enrol", json={"token": token, "request": _request("host-1")})
    assert enrolled.status_code == 201
    chain, trust = enrolled.json()["certificate"].encode(), enrolled.json()["trust"].encode()
    assert uris(certificates_of(chain)[0]) == ["labd:agent/host-1#1"]
    assert fingerprint(certificates_of(trust)[0]) == invited.json()["fingerprint"] == token.rpartition(".")[2]
    again = web.post("agents/enrol", json={"token": token, "request": _request("host-1")})
    assert again.status_code == 403
    (listed,) = web.get("agents").json()["items"]
    assert (listed["name"], listed["state"], listed["attached"]) == ("host-1", "enrolled", False)
    assert web.delete("agents/host-1").status_code == 422  # no reason
    revoked = web.delete("agents/host-1", params={"reason": "stolen"}).json()
    assert (revoked["state"], revoked["revoked_reason"]) == ("revoked", "stolen")
    assert web.delete("agents/host-2", params={"reason": "stolen"}).status_code == 404


def test_no_token_of_an_agent_lies_about_for_longer_than_a_week(web: TestClient) -> None:
    assert web.post("agents/host-1/invite", json={"lifetime_s": TOKEN_LIFETIME_MAX_S}).status_code == 201
    refused = web.post("agents/host-1/invite", json={"lifetime_s": TOKEN_LIFETIME_MAX_S + 1})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "lifetime_s")


def test_what_was_done_to_agents_is_on_record(web: TestClient) -> None:
    token = web.post("agents/host-1/invite", json={}).json()["token"]
    web.post("agents/enrol", json={"token": token, "request": _request("host-1")})
    web.delete("agents/host-1", params={"reason": "stolen"})
    entries = web.get("audit", params={"subject": "agent/host-1"}).json()["items"]
    told = [(entry["action"], entry["actor"], entry["why"]) for entry in entries]
    assert sorted(told) == [
        ("agent.enrolled", "host-1", ""),
        ("agent.invited", "anonymous", ""),
        ("agent.revoked", "anonymous", "stolen"),
    ]
    assert token.split(".")[1] not in str(entries)


def test_the_holder_of_a_lease_gets_its_certificate(web: TestClient, secure: Lab) -> None:
    secure.hearing.attach("host-1", "h:1", [report("bench-1")], FakeLink())
    held = web.post("leases", json=LEASE).json()
    made = web.post(f"leases/{held['id']}/certificate", json={"request": _request()})
    assert made.status_code == 201
    assert uris(certificates_of(made.json()["certificate"].encode())[0]) == [f"labd:lease/{held['id']}"]
    assert made.json()["servers"] == {"bench-1": "host-1.agent.labd.internal"}
    waiting = web.post("leases", json=LEASE).json()
    assert web.post(f"leases/{waiting['id']}/certificate", json={"request": _request()}).status_code == 409
    web.delete(f"leases/{held['id']}")
    assert web.post(f"leases/{held['id']}/certificate", json={"request": _request()}).status_code == 409
    assert web.post("leases/l-none/certificate", json={"request": _request()}).status_code == 404


@pytest.mark.parametrize("request_", ["", "nonsense", "x" * 5000])
def test_bad_requests_are_refused(web: TestClient, secure: Lab, request_: str) -> None:
    secure.hearing.attach("host-1", "h:1", [report("bench-1")], FakeLink())
    held = web.post("leases", json=LEASE).json()
    refused = web.post(f"leases/{held['id']}/certificate", json={"request": request_})
    assert refused.status_code == 422
    assert "request" in refused.json()["errors"][0]["field"]


def test_the_authority_is_shown(web: TestClient, secure: Lab) -> None:
    assert secure.authority is not None
    shown = web.get("authority").json()
    assert shown == {"fingerprint": secure.authority.fingerprint, "trust": secure.authority.trust.decode()}
    assert "PRIVATE" not in str(shown)


def test_an_insecure_lab_says_so(lab: Lab) -> None:
    web = TestClient(application(lab), base_url=f"http://labd.test{PREFIX}/")
    lab.hearing.attach("host-1", "h:1", [report("bench-1")], FakeLink())
    held = web.post("leases", json=LEASE).json()
    for answer in (
        web.get("authority"),
        web.post("agents/host-1/invite", json={}),
        web.post(f"leases/{held['id']}/certificate", json={"request": _request()}),
    ):
        assert answer.status_code == 409
        assert "--insecure" in answer.json()["detail"]
    assert web.get("agents/host-1").json()["state"] == "unproved"


def test_only_who_has_a_token_of_the_lease_gets_its_certificate(secure: Lab) -> None:
    ada, bob = (Actor(name, ActorKind.PERSON, {DEFAULT_TEAM: Role.ENGINEER}) for name in ("ada", "bob"))
    secure.identities.create_user(SYSTEM, "bob", ActorKind.PERSON)
    secure.identities.save_member(SYSTEM, DEFAULT_TEAM, "bob", Role.ENGINEER)
    secure.hearing.attach("host-1", "h:1", [report("bench-1")], FakeLink())
    lease = secure.leasing.create(ada, selector="", holder="ada", duration_s=60, ttl_s=30).lease.id
    request = new_request("").request
    with pytest.raises(Forbidden, match="held by ada, and not shared with bob"):
        secure.lease_certificates.issue(bob, lease, request)
    secure.lease_certificates.issue(ada, lease, request)
    secure.holding.share(ada, lease, Share("bob", ShareMode.OBSERVER))
    secure.lease_certificates.issue(bob, lease, request)
