"""TLS of the REST API: which certificate a caller is shown.

Agents and runners ask for labd by the name that its own authority has certified, and are always shown that
certificate. Everybody else is shown the certificate that the operator has given, if there is one. Both may be replaced
while labd serves.
"""

import ssl
import tempfile
from pathlib import Path
from typing import Protocol

from bench_agent.protocol.identity import CONTROLLER_NAME, Credentials
from labd.services.own_certificate import OwnCertificate


class CertificateUnusable(Exception):
    """The certificate cannot be served; the message names the files."""


class Shown(Protocol):
    """A certificate with its key, as TLS needs it."""

    def context(self) -> ssl.SSLContext:
        """The present one."""


class OwnContext:
    """The certificate by labd's own authority, renewed when its time comes."""

    def __init__(self, own: OwnCertificate) -> None:
        self._own = own
        self._loaded: Credentials | None = None
        self._context = _context()

    def context(self) -> ssl.SSLContext:
        """The present one."""
        current = self._own.current()
        if current is not self._loaded:
            context = _context()
            with tempfile.NamedTemporaryFile() as file:  # of mode 0600; OpenSSL reads files only
                file.write(current.key + current.chain)
                file.flush()
                context.load_cert_chain(file.name)
            self._loaded, self._context = current, context
        return self._context


class GivenContext:
    """A certificate in files, which are read again when they change, as tools that renew certificates do."""

    def __init__(self, certificate: Path, key: Path | None) -> None:
        """Raises CertificateUnusable."""
        self._certificate = certificate
        self._key = key or certificate
        try:
            self._state = self._files()
            self._context = self._load()
        except (OSError, ssl.SSLError) as error:
            raise CertificateUnusable(
                f"the certificate {certificate} with the key {self._key} cannot be used: {error}"
            ) from error

    def context(self) -> ssl.SSLContext:
        """The present one; the former one while the files are being replaced."""
        try:
            state = self._files()
            if state != self._state:
                self._context, self._state = self._load(), state
        except (OSError, ssl.SSLError):
            return self._context  # half replaced: looked at again at the next handshake
        return self._context

    def _files(self) -> tuple[tuple[int, int], ...]:
        states = (path.stat() for path in (self._certificate, self._key))
        return tuple((state.st_mtime_ns, state.st_ino) for state in states)

    def _load(self) -> ssl.SSLContext:
        context = _context()
        context.load_cert_chain(self._certificate, self._key)
        return context


def server_context(own: Shown, given: Shown | None) -> ssl.SSLContext:
    """For the web server. Each handshake takes the certificate as it is then."""
    context = _context()

    def choose(connection: ssl.SSLObject, asked_for: str | None, _context: ssl.SSLContext) -> None:
        shown = own if given is None or asked_for == CONTROLLER_NAME else given
        connection.context = shown.context()

    context.sni_callback = choose
    return context


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context
