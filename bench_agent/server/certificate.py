"""The agent's certificate: what labd gave it when it enrolled, and gives it anew over the attach stream.

Key and certificate are one file, so that they always belong together.
"""

import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from bench_agent.protocol.certificates import (
    KeyAndRequest,
    certificates_of,
    expires_at,
    new_request,
    renewal_at,
    uris,
)
from bench_agent.protocol.identity import AgentIdentity, Credentials
from bench_agent.server import files

FILE_NAME = "identity.pem"
TRUST_NAME = "labd-ca.pem"
_KEY_END = b"-----END PRIVATE KEY-----\n"


class CertificateError(Exception):
    """The agent has no certificate that it could use; says what to do."""


class AgentCertificate:
    """Used on one asyncio loop; `current` also on the threads of gRPC."""

    def __init__(self, data_dir: Path) -> None:
        """Raises CertificateError when the agent was never enrolled, or the files are not sound."""
        self._path = data_dir / FILE_NAME
        self.trust_file = data_dir / TRUST_NAME
        """The authorities that the agent trusts."""
        self._pending: KeyAndRequest | None = None
        try:
            self._current = self._read()
            self.identity = _identity_in(self._current)
        except FileNotFoundError as error:
            raise CertificateError(
                f"this agent was not enrolled: {error.filename} is missing. Have a token made with 'labctl agent enrol "
                "NAME', then run 'bench-agent enrol' with it; for a labd that runs with --insecure, serve with "
                "--insecure too"
            ) from error
        except (OSError, ValueError) as error:
            raise CertificateError(
                f"the agent's certificate {self._path} is not usable: {error}; enrol anew"
            ) from error

    @classmethod
    def save(cls, data_dir: Path, key: bytes, chain: bytes, trust: bytes) -> "AgentCertificate":
        """Puts the first certificate on the disk. Raises OSError, or CertificateError when the parts do not match."""
        _check(Credentials(key, chain, trust))
        files.replace(data_dir / TRUST_NAME, trust)
        files.replace(data_dir / FILE_NAME, key + chain, mode=0o600)
        return cls(data_dir)

    def current(self) -> Credentials:
        """The same object until the certificate is renewed, or another authority trusted."""
        return self._current

    @property
    def renewal_at(self) -> float:
        """When to renew it: s since the Unix epoch."""
        return renewal_at(self._current.chain)

    @property
    def expired(self) -> str | None:
        """Since when it cannot be used any more; None while it can. By this machine's clock, as TLS judges it."""
        end = expires_at(self._current.chain)
        if time.time() < end:
            return None
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(end))

    def new_request(self) -> bytes:
        """Makes a new key, and returns the request for its certificate (PEM)."""
        self._pending = new_request(self.identity.name)
        return self._pending.request

    def take(self, chain: bytes, trust: bytes) -> None:
        """The answer to the last request. Raises CertificateError or OSError, and keeps the former certificate."""
        pending = self._pending
        if pending is None:
            raise CertificateError("labd sent a certificate that was not asked for")
        renewed = Credentials(pending.key, chain, trust)
        _check(renewed)
        files.replace(self._path, renewed.key + renewed.chain, mode=0o600)
        self._current, self._pending = renewed, None
        self.trust(trust)

    def trust(self, authorities: bytes) -> None:
        """Trusts these authorities (PEM) and no others from now on. Raises CertificateError or OSError."""
        own = self._current
        if authorities in (b"", self.trust_file.read_bytes()):
            return
        try:
            certificates_of(authorities)
        except ValueError as error:
            raise CertificateError(f"labd sent authorities that are none: {error}") from error
        files.replace(self.trust_file, authorities)
        self._current = Credentials(own.key, own.chain, authorities)

    def refresh(self) -> None:
        """Takes over what is on the disk: the agent may have been enrolled anew meanwhile.

        Raises CertificateError or OSError, and keeps the former certificate.
        """
        found = self._read()
        if (found.key, found.chain) == (self._current.key, self._current.chain):
            return
        _check(found)
        identity = _identity_in(found)
        if identity.name != self.identity.name:
            raise CertificateError(f"{self._path} is of agent {identity.name!r} now")
        self._current, self._pending, self.identity = found, None, identity

    def put_aside(self) -> None:
        """The agent was revoked: it does not come up again before it has enrolled anew. Raises OSError.

        Leaves a certificate alone that it has got since.
        """
        found = self._read()
        if (found.key, found.chain) == (self._current.key, self._current.chain):
            self._path.replace(self._path.with_name(f"revoked-{FILE_NAME}"))

    def _read(self) -> Credentials:
        text, trust = self._path.read_bytes(), self.trust_file.read_bytes()
        key, end, chain = text.partition(_KEY_END)
        return Credentials(key + end, chain, trust)


def _check(own: Credentials) -> None:
    try:
        certificates_of(own.trust)
        key = serialization.load_pem_private_key(own.key, password=None)
        if certificates_of(own.chain)[0].public_key() != key.public_key():
            raise CertificateError("labd's certificate is for another key than this agent's")
        _identity_in(own)
    except ValueError as error:
        raise CertificateError(f"labd sent no usable certificate: {error}") from error


def _identity_in(own: Credentials) -> AgentIdentity:
    leaf: x509.Certificate = certificates_of(own.chain)[0]
    identity = next(filter(None, map(AgentIdentity.from_uri, uris(leaf))), None)
    if identity is None:
        raise ValueError(f"it names no agent, but {uris(leaf)}")
    return identity
