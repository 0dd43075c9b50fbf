"""labd's certificate authority, judged by what verifies its certificates: the x509 verifier, as TLS does it."""

import datetime
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import verification

from bench_agent.protocol import certificates
from bench_agent.protocol.identity import AgentIdentity, Credentials, agent_server_name, lease_of, lease_uri
from labd.services.authority import Authority, AuthorityUnusable, RequestRefused, common_name, rotate

NOW = 1_800_000_000.0
AGENT = AgentIdentity("bench host/ä.1", 3)


def _authority(folder: Path, now: float = NOW, lifetime_s: float = 1000.0) -> Authority:
    return Authority(folder, lambda: now, lifetime_s=lifetime_s)


def _moment(at: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(at, datetime.UTC)


def _as_client(chain: bytes, trust: bytes, at: float = NOW) -> list[str]:
    """The URIs of a client whose chain was verified."""
    leaf, *between = certificates.certificates_of(chain)
    store = verification.Store(certificates.certificates_of(trust))
    verified = verification.PolicyBuilder().store(store).time(_moment(at)).build_client_verifier()
    subjects = verified.verify(leaf, between).subjects
    assert subjects is not None
    return [name.value for name in subjects if isinstance(name, x509.UniformResourceIdentifier)]


def _as_server(chain: bytes, trust: bytes, name: str, at: float = NOW) -> None:
    leaf, *between = certificates.certificates_of(chain)
    store = verification.Store(certificates.certificates_of(trust))
    builder = verification.PolicyBuilder().store(store).time(_moment(at))
    builder.build_server_verifier(x509.DNSName(name)).verify(leaf, between)


def test_agent_is_client_and_server(tmp_path: Path) -> None:
    authority = _authority(tmp_path)
    identity = AgentIdentity("Host_1", 3)
    issued = authority.agent_certificate(certificates.new_request("Host_1").request, identity)
    assert _as_client(issued.chain, authority.trust) == [identity.uri]
    assert issued.expires_at == NOW + 1000


def test_agent_shows_its_name_as_a_server(tmp_path: Path) -> None:
    authority = _authority(tmp_path)
    chain = authority.agent_certificate(certificates.new_request("x").request, AgentIdentity("Host-1", 1)).chain
    _as_server(chain, authority.trust, agent_server_name("Host-1"))
    for other in ("labd.internal", agent_server_name("host-2")):
        with pytest.raises(verification.VerificationError):
            _as_server(chain, authority.trust, other)


def test_holder_is_a_client_only(tmp_path: Path) -> None:
    authority = _authority(tmp_path)
    issued = authority.lease_certificate(certificates.new_request("").request, "l-1", 60)
    assert [lease_of(uri) for uri in _as_client(issued.chain, authority.trust)] == ["l-1"]
    with pytest.raises(verification.VerificationError):
        _as_server(issued.chain, authority.trust, "l-1")
    with pytest.raises(verification.VerificationError):  # over, and the clocks' difference with it
        _as_client(issued.chain, authority.trust, NOW + 60 + 86_400 + 1)


def test_labd_is_known_by_its_name_and_where_it_is_reached(tmp_path: Path) -> None:
    authority = _authority(tmp_path)
    own = authority.server_credentials(["lab.example.com", "127.0.0.1", "::1", "lab.example.com"])
    for name in ("labd.internal", "lab.example.com"):
        _as_server(own.chain, authority.trust, name)


def test_key_is_private_and_stays(tmp_path: Path) -> None:
    first = _authority(tmp_path / "ca")
    assert stat.S_IMODE((tmp_path / "ca" / "authority.pem").stat().st_mode) == 0o600
    second = _authority(tmp_path / "ca")
    assert (first.fingerprint, first.trust) == (second.fingerprint, second.trust)
    assert first.trust_file.read_bytes() == first.trust
    assert b"PRIVATE" not in first.trust


def test_another_authoritys_certificate_is_refused(tmp_path: Path) -> None:
    ours, other = _authority(tmp_path / "a"), _authority(tmp_path / "b")
    issued = other.agent_certificate(certificates.new_request("x").request, AgentIdentity("x", 1))
    with pytest.raises(verification.VerificationError):
        _as_client(issued.chain, ours.trust)


def test_rotation_keeps_both_sides_going(tmp_path: Path) -> None:
    old = _authority(tmp_path)
    old_chain = old.agent_certificate(certificates.new_request("x").request, AgentIdentity("x", 1)).chain
    announced = rotate(tmp_path, NOW)
    new = _authority(tmp_path)
    assert new.fingerprint == announced != old.fingerprint
    server = new.server_credentials()
    _as_server(server.chain, old.trust, "labd.internal")  # an agent that has not heard of it
    _as_server(server.chain, new.trust, "labd.internal")
    assert _as_client(old_chain, new.trust) == ["labd:agent/x#1"]
    rotate(tmp_path, NOW)
    _as_server(_authority(tmp_path).server_credentials().chain, old.trust, "labd.internal")


def test_rotation_may_end_all_trust_in_the_former_one(tmp_path: Path) -> None:
    old = _authority(tmp_path)
    old_chain = old.agent_certificate(certificates.new_request("x").request, AgentIdentity("x", 1)).chain
    rotate(tmp_path, NOW, distrust_former=True)
    with pytest.raises(verification.VerificationError):
        _as_client(old_chain, _authority(tmp_path).trust)


def test_short_certificates_are_renewed_in_their_second_half(tmp_path: Path) -> None:
    request = certificates.new_request("x").request
    short = _authority(tmp_path, lifetime_s=6).agent_certificate(request, AgentIdentity("x", 1)).chain
    assert NOW < certificates.renewal_at(short) < certificates.expires_at(short) == NOW + 6
    long = _authority(tmp_path, lifetime_s=30 * 86_400).agent_certificate(request, AgentIdentity("x", 1)).chain
    assert NOW + 15 * 86_400 < certificates.renewal_at(long) < NOW + 25 * 86_400


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (b"nonsense", "no certificate request"),
        (b"x" * 5000, "5000 bytes"),
        (
            x509.CertificateSigningRequestBuilder()
            .subject_name(x509.Name([]))
            .sign(ec.generate_private_key(ec.SECP384R1()), hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM),
            "P-256",
        ),
    ],
)
def test_bad_requests_are_refused(tmp_path: Path, request_: bytes, why: str) -> None:
    with pytest.raises(RequestRefused, match=why):
        _authority(tmp_path).agent_certificate(request_, AgentIdentity("x", 1))


def test_request_names_whom_it_is_for() -> None:
    assert common_name(certificates.new_request("host-1").request) == "host-1"


@pytest.mark.parametrize("content", [b"", b"nonsense"])
def test_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "authority.pem").write_bytes(content)
    with pytest.raises(AuthorityUnusable, match=r"authority\.pem"):
        _authority(tmp_path)


def test_expired_authority_does_not_start(tmp_path: Path) -> None:
    _authority(tmp_path)
    with pytest.raises(AuthorityUnusable, match="run out"):
        _authority(tmp_path, NOW + 11 * 365 * 86_400)


def test_names_survive_the_way_through_a_certificate() -> None:
    assert AgentIdentity.from_uri(AGENT.uri) == AGENT
    assert AgentIdentity.from_uri(lease_uri("l-1")) is None
    assert AgentIdentity.from_uri("labd:agent/x") is None
    assert lease_of(AGENT.uri) is None
    assert "secret" not in repr(Credentials(b"secret", b"", b""))
