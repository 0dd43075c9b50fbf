"""Enrolment, from invitation to revocation."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench_agent.protocol.certificates import certificates_of, new_request, uris
from bench_agent.protocol.identity import AgentIdentity
from labd.model.identity import ANONYMOUS
from labd.model.lease import LeaseState
from labd.services.authority import Authority
from labd.services.enrolment import NotAdmitted
from labd.services.errors import Conflict, Forbidden, Invalid, NotFound
from labd.services.lab import Lab
from tests.unit.labd.fakes import FakeClock, FakeLink, open_lab, report


@pytest.fixture
def secure(tmp_path: Path, clock: FakeClock) -> Iterator[Lab]:
    lab = open_lab(tmp_path, clock, authority=Authority(tmp_path / "ca", clock.now, lifetime_s=1000))
    yield lab
    lab.core.store.close()


def _enrol(lab: Lab, name: str = "agent-1") -> AgentIdentity:
    invitation = lab.enrolment.invite(ANONYMOUS, name)
    issued = lab.enrolment.enrol(invitation.token, new_request(name).request)
    found = AgentIdentity.from_uri(uris(certificates_of(issued.chain)[0])[0])
    assert found is not None
    return found


def test_an_invited_agent_enrols_once(secure: Lab) -> None:
    invitation = secure.enrolment.invite(ANONYMOUS, "agent-1")
    assert secure.authority is not None
    assert invitation.token.endswith(secure.authority.fingerprint)
    secure.enrolment.enrol(invitation.token, new_request("agent-1").request)
    secure.enrolment.admit(AgentIdentity("agent-1", 1))
    with pytest.raises(Forbidden, match="used already"):
        secure.enrolment.enrol(invitation.token, new_request("agent-1").request)


def test_the_token_itself_is_not_stored(secure: Lab, tmp_path: Path) -> None:
    secret = secure.enrolment.invite(ANONYMOUS, "agent-1").token.split(".")[1].encode()
    assert not any(secret in path.read_bytes() for path in tmp_path.glob("labd.db*"))


def test_a_token_expires(secure: Lab, clock: FakeClock) -> None:
    token = secure.enrolment.invite(ANONYMOUS, "agent-1", lifetime_s=60).token
    clock.advance(60)
    with pytest.raises(Forbidden, match="expired"):
        secure.enrolment.enrol(token, new_request("agent-1").request)


def test_a_second_invitation_voids_the_first(secure: Lab) -> None:
    first = secure.enrolment.invite(ANONYMOUS, "agent-1").token
    second = secure.enrolment.invite(ANONYMOUS, "agent-1").token
    with pytest.raises(Forbidden):
        secure.enrolment.enrol(first, new_request("agent-1").request)
    secure.enrolment.enrol(second, new_request("agent-1").request)


def test_a_token_is_for_one_agent(secure: Lab) -> None:
    token = secure.enrolment.invite(ANONYMOUS, "agent-1").token
    with pytest.raises(Invalid, match="'agent-1', the request is by 'agent-2'"):
        secure.enrolment.enrol(token, new_request("agent-2").request)
    secure.enrolment.enrol(token, new_request("agent-1").request)  # it is not used up


@pytest.mark.parametrize("token", ["", "nonsense", "labd-enrol.guess.0000", "labd-enrol..0000", "x" * 300])
def test_other_tokens_are_refused(secure: Lab, token: str) -> None:
    with pytest.raises(Forbidden):
        secure.enrolment.enrol(token, new_request("agent-1").request)


@pytest.mark.parametrize("name", ["", "-x", "a b", "a/b", "x" * 64])
def test_bad_names_are_refused(secure: Lab, name: str) -> None:
    with pytest.raises(Invalid, match="agent name"):
        secure.enrolment.invite(ANONYMOUS, name)


def test_names_differ_in_more_than_case(secure: Lab) -> None:
    _enrol(secure, "Host-1")
    with pytest.raises(Invalid, match="Host-1"):
        secure.enrolment.invite(ANONYMOUS, "host-1")


def test_a_new_enrolment_voids_the_former_certificate(secure: Lab) -> None:
    first = _enrol(secure)
    link = FakeLink()
    secure.hearing.attach("agent-1", "h:1", [report("bench-1")], link)
    second = _enrol(secure)
    assert link.closed is not None
    with pytest.raises(NotAdmitted, match="former enrolment"):
        secure.enrolment.admit(first)
    secure.enrolment.admit(second)


def test_renewal_keeps_the_enrolment(secure: Lab, clock: FakeClock) -> None:
    identity = _enrol(secure)
    clock.advance(500)
    issued = secure.enrolment.renew(identity, new_request("agent-1").request)
    assert issued.expires_at == clock.now() + 1000
    assert uris(certificates_of(issued.chain)[0]) == [identity.uri]
    with pytest.raises(Invalid, match="certificate request"):
        secure.enrolment.renew(identity, b"nonsense")


def test_revocation_ends_leases_and_stream(secure: Lab) -> None:
    identity = _enrol(secure)
    link = FakeLink()
    session, _ = secure.hearing.attach("agent-1", "h:1", [report("bench-1")], link)
    lease = secure.leasing.create(ANONYMOUS, selector="", holder="me", duration_s=60, ttl_s=60).lease
    assert lease.state is LeaseState.GRANTED
    view = secure.enrolment.revoke(ANONYMOUS, "agent-1", "stolen laptop")
    assert (view.address, view.benches) == (None, [])
    assert link.revoked
    assert "stolen laptop" in (link.closed or "")
    assert secure.leasing.get(lease.id).lease.state is LeaseState.ENDED
    secure.hearing.report(session, report("bench-1"))  # on its way when the stream was cut
    assert secure.fleet.benches("") == []
    with pytest.raises(NotAdmitted, match="revoked by anonymous: stolen laptop") as refused:
        secure.enrolment.admit(identity)
    assert refused.value.revoked
    with pytest.raises(NotAdmitted):
        secure.enrolment.renew(identity, new_request("agent-1").request)


def test_a_revoked_agent_may_be_invited_again(secure: Lab) -> None:
    former = _enrol(secure)
    secure.enrolment.revoke(ANONYMOUS, "agent-1", "stolen")
    secure.enrolment.admit(_enrol(secure))
    with pytest.raises(NotAdmitted):
        secure.enrolment.admit(former)


def test_an_invitation_alone_keeps_a_revoked_agent_out(secure: Lab) -> None:
    former = _enrol(secure)
    secure.enrolment.revoke(ANONYMOUS, "agent-1", "stolen")
    secure.enrolment.invite(ANONYMOUS, "agent-1")
    with pytest.raises(NotAdmitted):
        secure.enrolment.admit(former)


def test_unknown_agents(secure: Lab) -> None:
    _enrol(secure, "agent-1")
    with pytest.raises(NotFound, match="agent-1"):
        secure.enrolment.revoke(ANONYMOUS, "agent-2", "why not")
    with pytest.raises(NotAdmitted, match="enrol it anew"):
        secure.enrolment.admit(AgentIdentity("agent-2", 1))


def test_agents_are_listed(secure: Lab, clock: FakeClock) -> None:
    _enrol(secure, "agent-1")
    secure.enrolment.invite(ANONYMOUS, "agent-2")
    secure.hearing.attach("agent-1", "h:1", [report("bench-1")], FakeLink())
    first, second = secure.enrolment.agents()
    assert (first.name, first.address, first.last_seen, first.benches) == ("agent-1", "h:1", clock.now(), ["bench-1"])
    assert first.agent is not None
    assert first.agent.certificate_expires_at == clock.now() + 1000
    assert (second.name, second.address, second.benches) == ("agent-2", None, [])


def test_an_insecure_lab_invites_nobody(lab: Lab) -> None:
    with pytest.raises(Conflict, match="--insecure"):
        lab.enrolment.invite(ANONYMOUS, "agent-1")
    lab.hearing.attach("agent-1", "h:1", [report("bench-1")], FakeLink())
    assert [(view.name, view.agent) for view in lab.enrolment.agents()] == [("agent-1", None)]
