"""labd's own certificate authority: who agents, holders and labd itself are, in X.509 (RFC 5280).

All of it is one file, ``authority.pem``: the private key, the certificate of the authority that issues, then those of
former ones that are still trusted, and the certificates by which a former one vouches for its successor. Hence who
trusts only the former one accepts what the new one issues, and nobody has to be told in time. A line for each authority
that it has replaced says that this one is of the same lab.
"""

import contextlib
import datetime
import ipaddress
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bench_agent.protocol.certificates import certificates_of, fingerprint, private_pem, seconds
from bench_agent.protocol.identity import (
    CERTIFICATE_REQUEST_MAX,
    CONTROLLER_NAME,
    AgentIdentity,
    Credentials,
    agent_server_name,
    lease_uri,
)

FILE_NAME = "authority.pem"
TRUST_NAME = "ca.pem"
"""Beside it: what everybody may know, for LABD_CA."""
DAY_S = 86_400.0
LIFETIME_S = 30 * DAY_S
"""How long the certificates of agents and of labd itself last, unless told otherwise."""
AUTHORITY_LIFETIME_S = 10 * 365 * DAY_S
BACKDATED_S = DAY_S
"""How far the clocks of labd and its peers may differ."""
_P256 = "secp256r1"
_REPLACED = b"replaced: "
"""Before a fingerprint, outside of what PEM encodes (RFC 7468, 5.2)."""


class AuthorityUnusable(Exception):
    """The authority's file cannot be read or made; the message names it."""


class RequestRefused(Exception):
    """No certificate for this request; the message says why."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that was made for somebody's request."""

    chain: bytes
    """PEM: the certificate, then those between it and the authorities."""
    expires_at: float
    """s since the Unix epoch."""


@dataclass(frozen=True, slots=True)
class _Material:
    key: ec.EllipticCurvePrivateKey
    roots: list[x509.Certificate]
    """The one that issues first."""
    links: list[x509.Certificate]
    """By which a former root vouches for a newer one."""
    replaced: list[str] = field(default_factory=list)
    """Fingerprints of all former roots, the last one first."""

    def pem(self) -> bytes:
        notes = b"".join(_REPLACED + one.encode("ascii") + b"\n" for one in self.replaced)
        return private_pem(self.key) + _pem(*self.roots, *self.links) + notes


class Authority:
    """Issues certificates with the key in ``directory``, which is made on first use; replicas share the directory."""

    def __init__(
        self, directory: Path, now: Callable[[], float] = time.time, *, lifetime_s: float = LIFETIME_S
    ) -> None:
        """``now`` is the machine's time in s since the Unix epoch: TLS goes by that, not by labd's own.

        Raises AuthorityUnusable.
        """
        self._now = now
        self.lifetime_s = lifetime_s
        """Of the certificates of agents and of labd."""
        path = directory / FILE_NAME
        try:
            if not path.exists():
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                _publish(path, _new_material(now()).pem())
            material = _load(path.read_bytes(), now())
            self.trust_file = directory / TRUST_NAME
            """The public half, for LABD_CA."""
            self.trust = _pem(*material.roots)
            """Every authority that is trusted, as PEM."""
            _write_public(self.trust_file, self.trust)
        except (OSError, ValueError, UnsupportedAlgorithm) as error:
            raise AuthorityUnusable(f"the certificate authority {path} cannot be used: {error}") from error
        self._key = material.key
        self._root = material.roots[0]
        self._links = material.links
        self.fingerprint = fingerprint(self._root)
        """SHA-256 of the issuing authority's certificate, in hexadecimal: who has it knows labd at first contact."""

    def agent_certificate(self, request: bytes, identity: AgentIdentity) -> Issued:
        """For an agent, as client of labd and as server of lease holders. Raises RequestRefused."""
        return self._issue(
            _public_key(request),
            identity.name,
            [x509.DNSName(agent_server_name(identity.name)), x509.UniformResourceIdentifier(identity.uri)],
            [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH],
            self._now() + self.lifetime_s,
        )

    def lease_certificate(self, request: bytes, lease: str, lasts_s: float) -> Issued:
        """For the holder of a lease that lasts so long yet, as client of agents. Raises RequestRefused."""
        names = [x509.UniformResourceIdentifier(lease_uri(lease))]
        until = self._now() + lasts_s + BACKDATED_S
        return self._issue(_public_key(request), lease, names, [ExtendedKeyUsageOID.CLIENT_AUTH], until)

    def now(self) -> float:
        """The machine's time in s since the Unix epoch."""
        return self._now()

    def server_credentials(self, hosts: Sequence[str] = ()) -> Credentials:
        """For labd itself, with a new key; ``hosts`` are names and addresses by which people reach it."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName(CONTROLLER_NAME), *(_general_name(host) for host in dict.fromkeys(hosts))]
        until = self._now() + self.lifetime_s
        issued = self._issue(key.public_key(), "labd", names, [ExtendedKeyUsageOID.SERVER_AUTH], until)
        return Credentials(private_pem(key), issued.chain, self.trust)

    def _issue(
        self,
        key: ec.EllipticCurvePublicKey,
        common_name: str,
        names: Sequence[x509.GeneralName],
        usages: Sequence[x509.ObjectIdentifier],
        until: float,
    ) -> Issued:
        now = self._now()
        until = min(until, seconds(self._root.not_valid_after_utc))
        # Never longer before its issue than after: what lasts for seconds is renewed after seconds.
        begin = now - min(BACKDATED_S, max(until - now, 0.0))
        certificate = (
            _builder(_name(common_name), self._root.subject, key, begin, until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_data=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(_authority_of(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return Issued(_pem(certificate, *self._links), seconds(certificate.not_valid_after_utc))


def rotate(directory: Path, now: float | None = None, *, distrust_former: bool = False) -> str:
    """Puts a new authority in the place of the present one; returns its fingerprint. Takes effect when labd starts.

    Those who trust the former one go on unless ``distrust_former``: then everybody has to enrol anew. Raises
    AuthorityUnusable.
    """
    path = directory / FILE_NAME
    now = time.time() if now is None else now
    try:
        former = _load(path.read_bytes(), now)
        new = _new_material(now)
        if not distrust_former:
            link = _authority_certificate(
                new.key.public_key(), new.roots[0].subject, former.roots[0].subject, former.key, now
            )
            new = _Material(new.key, [*new.roots, *former.roots], [link, *former.links])
        new = replace(new, replaced=[fingerprint(former.roots[0]), *former.replaced])
        draft = path.with_name(path.name + ".new")
        draft.unlink(missing_ok=True)
        _write(draft, new.pem(), 0o600)
        draft.replace(path)
        _write_public(directory / TRUST_NAME, _pem(*new.roots))
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise AuthorityUnusable(f"the certificate authority {path} cannot be rotated: {error}") from error
    return fingerprint(new.roots[0])


def authorities_in(pem: bytes) -> tuple[str, ...]:
    """The fingerprints of the authority in such a file, and of those that it has replaced. Raises ValueError."""
    present, *others = certificates_of(pem)
    former = [fingerprint(one) for one in others if one.issuer == one.subject]
    return tuple(dict.fromkeys([fingerprint(present), *_replaced_in(pem), *former]))


def common_name(request: bytes) -> str:
    """Whom a certificate request says it is for. Raises RequestRefused."""
    names = _request_of(request).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def _request_of(pem: bytes) -> x509.CertificateSigningRequest:
    if len(pem) > CERTIFICATE_REQUEST_MAX:
        raise RequestRefused(f"the certificate request has {len(pem)} bytes; at most {CERTIFICATE_REQUEST_MAX}")
    try:
        return x509.load_pem_x509_csr(pem)
    except ValueError as error:
        raise RequestRefused("no certificate request (RFC 2986) as PEM") from error


def _public_key(pem: bytes) -> ec.EllipticCurvePublicKey:
    request = _request_of(pem)
    try:
        key, sound = request.public_key(), request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise RequestRefused(f"the certificate request cannot be verified: {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != _P256:
        raise RequestRefused("the certificate request has no key of the curve P-256")
    if not sound:
        raise RequestRefused("the certificate request is not signed with its own key")
    return key


def _new_material(now: float) -> _Material:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(f"labd authority {os.urandom(4).hex()}")
    return _Material(key, [_authority_certificate(key.public_key(), subject, subject, key, now)], [])


def _authority_certificate(
    key: ec.EllipticCurvePublicKey,
    subject: x509.Name,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    now: float,
) -> x509.Certificate:
    return (
        _builder(subject, issuer, key, now - BACKDATED_S, now + AUTHORITY_LIFETIME_S)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(signs_data=False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(_authority_of(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, begin: float, end: float
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime.fromtimestamp(int(begin), datetime.UTC))
        .not_valid_after(datetime.datetime.fromtimestamp(int(end), datetime.UTC))
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _authority_of(key: ec.EllipticCurvePublicKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)


def _usage(*, signs_data: bool) -> x509.KeyUsage:
    """Of an end's certificate, or of an authority's."""
    return x509.KeyUsage(
        digital_signature=signs_data,
        key_cert_sign=not signs_data,
        crl_sign=not signs_data,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host.encode("idna").decode("ascii"))


def _load(pem: bytes, now: float) -> _Material:
    """Raises ValueError. Authorities that have run out are left out."""
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("its key is none of an elliptic curve")
    certificates = certificates_of(pem)
    root = certificates[0]
    if root.public_key() != key.public_key():
        raise ValueError("its key and its first certificate do not belong together")
    valid = [one for one in certificates if seconds(one.not_valid_after_utc) > now]
    if root not in valid:
        raise ValueError("it has run out; a new one has to be made, and every agent enrolled anew")
    roots = [one for one in valid if one.issuer == one.subject]
    return _Material(key, roots, [one for one in valid if one.issuer != one.subject], _replaced_in(pem))


def _replaced_in(pem: bytes) -> list[str]:
    notes = [line.removeprefix(_REPLACED) for line in pem.splitlines() if line.startswith(_REPLACED)]
    return [one.decode("ascii") for one in notes]


def _pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)


def _publish(path: Path, content: bytes) -> None:
    """Makes a file that nobody else may read; leaves the one of a replica that was faster."""
    number, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # of mode 0600
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            Path(path).hardlink_to(draft)
    finally:
        Path(draft).unlink()


def _write_public(path: Path, content: bytes) -> None:
    if path.exists() and path.read_bytes() == content:
        return  # the directory may be one that labd cannot write to
    draft = path.with_name(f"{path.name}.new-{secrets.token_hex(4)}")  # another labd may be about to do the same
    _write(draft, content, 0o644)
    draft.replace(path)


def _write(path: Path, content: bytes, mode: int) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        os.write(file, content)
        os.fsync(file)
    finally:
        os.close(file)
