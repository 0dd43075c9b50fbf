"""An agent with a certificate: who may call it, how it renews itself, and what a revocation does."""

import hashlib
import queue
import socket
import ssl
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from click.testing import CliRunner

from bench_agent.client import BenchClient, BenchUnavailable, LeaseRefused
from bench_agent.main import main
from bench_agent.protocol import lab_pb2
from bench_agent.protocol.certificates import certificates_of, fingerprint, new_request
from bench_agent.protocol.identity import AgentIdentity, AgentTls, Credentials, agent_server_name
from bench_agent.protocol.transport import expecting, server_credentials
from bench_agent.server import attach
from bench_agent.server.certificate import AgentCertificate, CertificateError
from labd.services.authority import Authority, rotate
from tests.running_time import running_time
from tests.unit.bench_agent.harness import AgentFile, FakeLabd, RunningAgent, Signer, make_agent

DEADLINE_S = 60.0
ME = AgentIdentity("agent-1", 1)


class _Lab:
    """An authority, an agent that it has enrolled, and labd's door."""

    def __init__(self, agent_file: AgentFile, signer: Signer, portal: BlockingPortal, lifetime_s: float = 1000) -> None:
        self.signer = signer
        self.folder = agent_file.folder / "ca"
        self.authority = Authority(self.folder, time.time, lifetime_s=lifetime_s)
        self.own = self.authority.server_credentials()
        self.labd = FakeLabd(signer, server_credentials(lambda: self.own))
        self.labd.welcome.trust = self.authority.trust
        agent_file.labd = self.labd.address
        mine = new_request("agent-1")
        chain = self.authority.agent_certificate(mine.request, ME).chain
        self.certificate = AgentCertificate.save(agent_file.data, mine.key, chain, self.authority.trust)
        self.revoked: queue.SimpleQueue[str] = queue.SimpleQueue()
        agent = portal.call(make_agent, agent_file.write(), self.certificate, self.revoked.put)
        portal.call(agent.start)
        self.running = RunningAgent(agent, portal, agent_file)
        self.labd.wait(lambda message: message.HasField("report"))  # after the Welcome
        self._portal = portal

    def stop(self) -> None:
        self._portal.call(self.running.agent.stop)
        self.labd.stop()

    def holder(self, lease: str = "lease-1", authority: Authority | None = None) -> Credentials:
        mine = new_request("")
        chain = (authority or self.authority).lease_certificate(mine.request, lease, 60).chain
        return Credentials(mine.key, chain, self.authority.trust)

    def bench(self, own: Credentials | None = None, server: str = "agent-1", *, epoch: int = 1) -> BenchClient:
        tls = AgentTls(own or self.holder(f"lease-{epoch}"), agent_server_name(server))
        return BenchClient(self.running.address, "bench-1", self.signer.token(epoch=epoch), timeout_s=5, tls=tls)


@pytest.fixture(autouse=True)
def frequent_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attach, "REPORT_S", 0.1)
    monkeypatch.setattr(attach, "RENEWAL_LOOK_S", 0.05)


@pytest.fixture
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal() as portal:
        yield portal


@pytest.fixture
def secure(agent_file: AgentFile, signer: Signer, portal: BlockingPortal) -> Iterator[_Lab]:
    lab = _Lab(agent_file, signer, portal)
    yield lab
    lab.stop()


def _vin(bench: BenchClient) -> object:
    return bench.ecu("ECM").call("read", did="VIN")


def test_a_holder_with_the_certificate_of_its_lease_works(secure: _Lab) -> None:
    with secure.bench() as bench:
        assert "WVWZZZ1KZ6W000001" in str(_vin(bench))


def test_the_key_is_private(secure: _Lab, agent_file: AgentFile) -> None:
    assert stat.S_IMODE((agent_file.data / "identity.pem").stat().st_mode) == 0o600


def test_nobody_gets_in_without_a_certificate(secure: _Lab) -> None:
    with (
        BenchClient(secure.running.address, "bench-1", secure.signer.token(), timeout_s=5) as bench,
        pytest.raises(BenchUnavailable),
    ):
        bench.describe()
    credentials = grpc.ssl_channel_credentials(secure.authority.trust)
    options = expecting(agent_server_name("agent-1"))
    with (
        grpc.secure_channel(secure.running.address, credentials, options=options) as channel,
        pytest.raises(grpc.FutureTimeoutError),
    ):
        grpc.channel_ready_future(channel).result(2)


def test_the_certificate_of_another_lease_is_refused(secure: _Lab) -> None:
    with (
        secure.bench(secure.holder("lease-2")) as bench,
        pytest.raises(LeaseRefused, match="of lease lease-1, the caller's certificate of lease-2"),
    ):
        bench.describe()


def test_an_agents_certificate_is_no_holders(secure: _Lab) -> None:
    with secure.bench(secure.certificate.current()) as bench, pytest.raises(LeaseRefused, match="certificate of none"):
        bench.describe()


def test_another_authoritys_certificate_is_refused(secure: _Lab, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other", time.time)
    with secure.bench(secure.holder(authority=other)) as bench, pytest.raises(BenchUnavailable):
        bench.describe()


def test_a_holder_does_not_take_another_agent_for_its_own(secure: _Lab) -> None:
    with secure.bench(server="agent-2") as bench, pytest.raises(BenchUnavailable):
        bench.describe()


def test_the_unix_socket_needs_no_certificate(secure: _Lab) -> None:
    local = secure.running.agent._socket
    assert local is not None
    with BenchClient(local.address, "bench-1", secure.signer.token()) as bench:
        assert bench.describe().healthy


def _listen(bench: BenchClient, heard: threading.Event, ended: "queue.SimpleQueue[BaseException]") -> threading.Thread:
    def listen() -> None:
        try:
            with bench.bus("powertrain").stream() as frames:
                while True:
                    if frames.read(DEADLINE_S) is not None:
                        heard.set()
        except Exception as error:
            ended.put(error)

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    assert heard.wait(DEADLINE_S)
    return thread


def test_the_end_of_a_lease_cuts_its_stream_within_a_second(secure: _Lab) -> None:
    heard, ended = threading.Event(), queue.SimpleQueue[BaseException]()
    with secure.bench() as bench:
        thread = _listen(bench, heard, ended)
        started = running_time()
        secure.labd.say(lab_pb2.LabMessage(fence=lab_pb2.Fence(bench="bench-1", epoch=1, reason="cancelled")))
        assert isinstance(ended.get(timeout=DEADLINE_S), LeaseRefused)
        assert running_time() - started < 1.0
        thread.join(DEADLINE_S)


def test_a_revoked_agent_cuts_everybody_within_a_second(secure: _Lab, agent_file: AgentFile) -> None:
    heard, ended = threading.Event(), queue.SimpleQueue[BaseException]()
    with secure.bench() as bench:
        thread = _listen(bench, heard, ended)
        started = running_time()
        secure.labd.say(lab_pb2.LabMessage(revoked=lab_pb2.Revoked(reason="stolen")))
        error = ended.get(timeout=DEADLINE_S)
        assert running_time() - started < 1.0
        assert isinstance(error, LeaseRefused | BenchUnavailable)
        assert secure.revoked.get(timeout=DEADLINE_S) == "stolen"
        with pytest.raises(BenchUnavailable):
            bench.describe()
        thread.join(DEADLINE_S)
    with pytest.raises(CertificateError, match="not enrolled"):
        AgentCertificate(agent_file.data)


def _shown(address: str, own: Credentials) -> str:
    """The fingerprint of the certificate that new callers are shown."""
    host, _, port = address.rpartition(":")
    context = ssl.create_default_context(cadata=own.trust.decode())
    context.check_hostname = False
    with tempfile.NamedTemporaryFile() as file:
        file.write(own.key + own.chain)
        file.flush()
        context.load_cert_chain(file.name)
    with socket.create_connection((host, int(port)), timeout=DEADLINE_S) as raw, context.wrap_socket(raw) as tls:
        shown = tls.getpeercert(binary_form=True)
    assert shown is not None
    return hashlib.sha256(shown).hexdigest()


def test_certificates_renew_themselves_while_a_lease_streams_on(secure: _Lab, agent_file: AgentFile) -> None:
    heard, ended = threading.Event(), queue.SimpleQueue[BaseException]()
    with secure.bench() as bench:
        thread = _listen(bench, heard, ended)
        former = secure.certificate.current()
        due = pytest.MonkeyPatch()
        due.setattr(AgentCertificate, "renewal_at", 0.0)
        asked = secure.labd.wait(lambda message: message.HasField("renewal")).renewal
        issued = secure.authority.agent_certificate(asked.request, ME)
        answer = lab_pb2.Certificate(chain=issued.chain, trust=secure.authority.trust)
        secure.labd.say(lab_pb2.LabMessage(certificate=answer))
        deadline = time.monotonic() + DEADLINE_S
        while secure.certificate.current() is former:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        due.undo()
        assert ended.empty()
        heard.clear()
        assert heard.wait(DEADLINE_S)
        shown = _shown(secure.running.address, secure.holder())
        assert shown == fingerprint(certificates_of(issued.chain)[0])
        with secure.bench() as another:
            assert another.describe().healthy
    thread.join(DEADLINE_S)
    assert AgentCertificate(agent_file.data).current() == secure.certificate.current()


def test_a_rotated_authority_is_taken_over(secure: _Lab) -> None:
    rotate(secure.folder, time.time())
    new = Authority(secure.folder, time.time)
    secure.own = new.server_credentials()
    secure.labd.welcome.trust = new.trust
    secure.labd.drop_stream()
    secure.labd.wait(lambda message: message.HasField("hello"))
    secure.labd.wait(lambda message: message.HasField("report"))
    mine = new_request("")
    chain = new.lease_certificate(mine.request, "lease-1", 60).chain
    deadline = time.monotonic() + DEADLINE_S
    while secure.certificate.current().trust != new.trust:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with secure.bench(Credentials(mine.key, chain, new.trust)) as bench:
        assert bench.describe().healthy


def test_an_agent_that_is_enrolled_anew_takes_that_over_when_it_dials(secure: _Lab, agent_file: AgentFile) -> None:
    again, mine = AgentIdentity("agent-1", 2), new_request("agent-1")
    chain = secure.authority.agent_certificate(mine.request, again).chain
    AgentCertificate.save(agent_file.data, mine.key, chain, secure.authority.trust)
    secure.labd.drop_stream()
    secure.labd.wait(lambda message: message.HasField("hello"))
    assert secure.certificate.identity == again
    secure.labd.say(lab_pb2.LabMessage(revoked=lab_pb2.Revoked(reason="stolen")))
    secure.revoked.get(timeout=DEADLINE_S)
    with pytest.raises(CertificateError, match="not enrolled"):
        AgentCertificate(agent_file.data)


def test_a_revocation_leaves_a_certificate_alone_that_came_after_it(secure: _Lab, agent_file: AgentFile) -> None:
    mine = new_request("agent-1")
    chain = secure.authority.agent_certificate(mine.request, AgentIdentity("agent-1", 2)).chain
    AgentCertificate.save(agent_file.data, mine.key, chain, secure.authority.trust)
    secure.labd.say(lab_pb2.LabMessage(revoked=lab_pb2.Revoked(reason="of a former enrolment")))
    secure.revoked.get(timeout=DEADLINE_S)
    assert AgentCertificate(agent_file.data).identity.enrolment == 2


def test_a_labd_that_is_none_hears_nothing(agent_file: AgentFile, signer: Signer, portal: BlockingPortal) -> None:
    authority = Authority(agent_file.folder / "ca", time.time)
    impostor, agent = new_request("agent-2"), new_request("agent-1")
    chain = authority.agent_certificate(impostor.request, AgentIdentity("agent-2", 1)).chain
    as_labd = Credentials(impostor.key, chain, authority.trust)
    labd = FakeLabd(signer, server_credentials(lambda: as_labd))
    agent_file.labd = labd.address
    certificate = AgentCertificate.save(
        agent_file.data, agent.key, authority.agent_certificate(agent.request, ME).chain, authority.trust
    )
    running = portal.call(make_agent, agent_file.write(), certificate)
    portal.call(running.start)
    try:
        with pytest.raises(queue.Empty):
            labd.wait(lambda message: message.HasField("hello"), timeout_s=2)
        assert not running.attached.is_set()
    finally:
        portal.call(running.stop)
        labd.stop()


def _serve(agent_file: AgentFile, *options: str) -> str:
    result = CliRunner().invoke(main, ["serve", str(agent_file.write()), *options])
    assert result.exit_code == 1
    return result.stderr


def test_an_agent_that_was_not_enrolled_says_what_to_do(agent_file: AgentFile) -> None:
    said = _serve(agent_file)
    assert "was not enrolled" in said
    assert "labctl agent enrol" in said


def test_insecure_is_for_loopback_unless_it_is_meant(agent_file: AgentFile) -> None:
    assert "--insecure-on-network" in _serve(agent_file, "--insecure", "--listen", "0.0.0.0:0")


def test_the_certificate_of_another_agent_is_no_use(agent_file: AgentFile) -> None:
    authority, mine = Authority(agent_file.folder / "ca"), new_request("agent-2")
    chain = authority.agent_certificate(mine.request, AgentIdentity("agent-2", 1)).chain
    AgentCertificate.save(agent_file.data, mine.key, chain, authority.trust)
    assert "is of agent 'agent-2', but agent.name is 'agent-1'" in _serve(agent_file)


def test_a_certificate_that_ran_out_is_told(agent_file: AgentFile) -> None:
    authority = Authority(agent_file.folder / "ca", lambda: time.time() - 5000, lifetime_s=1000)
    mine = new_request("agent-1")
    chain = authority.agent_certificate(mine.request, ME).chain
    AgentCertificate.save(agent_file.data, mine.key, chain, authority.trust)
    assert "ran out at" in _serve(agent_file)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"-----BEGIN PRIVATE KEY-----\n"])
def test_broken_files_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "identity.pem").write_bytes(content)
    (tmp_path / "labd-ca.pem").write_bytes(content)
    with pytest.raises(CertificateError, match=r"identity\.pem"):
        AgentCertificate(tmp_path)


def test_what_does_not_belong_together_is_not_kept(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca", time.time)
    chain = authority.agent_certificate(new_request("agent-1").request, ME).chain
    with pytest.raises(CertificateError, match="another key"):
        AgentCertificate.save(tmp_path, new_request("agent-1").key, chain, authority.trust)
    assert not (tmp_path / "identity.pem").exists()
