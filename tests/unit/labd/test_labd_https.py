"""Which certificate a caller of the REST API is shown: handshakes in memory."""

import contextlib
import os
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from bench_agent.protocol.certificates import fingerprint
from labd.api.https import CertificateUnusable, GivenContext, OwnContext, server_context
from labd.services.authority import Authority
from labd.services.own_certificate import OwnCertificate


class _Clock:
    time = 1_800_000_000.0

    def now(self) -> float:
        return self.time


def _shown(server: ssl.SSLContext, asked_for: str | None) -> str:
    """The fingerprint of what a handshake shows."""
    client = ssl.create_default_context()
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = client.wrap_bio(to_client, to_server, server_hostname=asked_for)
    there = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (here, there):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    shown = here.getpeercert(binary_form=True)
    assert shown is not None
    return fingerprint(x509.load_der_x509_certificate(shown))


def _given(folder: Path, authority: Authority) -> tuple[Path, Path]:
    own = authority.server_credentials(["lab.example.com"])
    certificate, key = folder / "fullchain.pem", folder / "key.pem"
    certificate.write_bytes(own.chain)
    key.write_bytes(own.key)
    return certificate, key


def _of(chain: bytes) -> str:
    return fingerprint(x509.load_pem_x509_certificates(chain)[0])


def test_the_own_certificate_is_renewed_when_its_time_comes(tmp_path: Path) -> None:
    clock = _Clock()
    own = OwnCertificate(Authority(tmp_path, clock.now, lifetime_s=90 * 86_400))
    context = server_context(OwnContext(own), None)
    first = _shown(context, None)
    assert first == _shown(context, "lab.example.com") == _of(own.current().chain)
    clock.time += 80 * 86_400
    second = _shown(context, None)
    assert second != first
    assert second == _of(own.current().chain)


def test_a_given_certificate_is_for_everybody_but_agents_and_runners(tmp_path: Path) -> None:
    own = OwnCertificate(Authority(tmp_path / "ca"))
    certificate, key = _given(tmp_path, Authority(tmp_path / "other"))
    context = server_context(OwnContext(own), GivenContext(certificate, key))
    given = _of(certificate.read_bytes())
    assert _shown(context, "lab.example.com") == _shown(context, None) == given
    assert _shown(context, "labd.internal") == _of(own.current().chain) != given


def test_a_given_certificate_is_read_again_when_it_changes(tmp_path: Path) -> None:
    own = OwnCertificate(Authority(tmp_path / "ca"))
    other = Authority(tmp_path / "other")
    certificate, key = _given(tmp_path, other)
    context = server_context(OwnContext(own), GivenContext(certificate, key))
    former = _shown(context, "lab.example.com")
    renewed = other.server_credentials(["lab.example.com"])
    certificate.write_bytes(renewed.chain)  # half replaced: its key is still the former one
    os.utime(certificate, ns=(1, 1))
    assert _shown(context, "lab.example.com") == former
    key.write_bytes(renewed.key)
    os.utime(key, ns=(1, 1))
    assert _shown(context, "lab.example.com") == _of(renewed.chain) != former


def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    certificate, _ = _given(tmp_path, Authority(tmp_path / "ca"))
    with pytest.raises(CertificateUnusable, match=r"fullchain\.pem"):
        GivenContext(certificate, None)  # no key in it
    with pytest.raises(CertificateUnusable, match=r"missing\.pem"):
        GivenContext(tmp_path / "missing.pem", None)
