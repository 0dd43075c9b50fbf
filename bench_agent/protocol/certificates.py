"""Keys, certificate requests and what certificates say: for all who ask labd's authority for one."""

import datetime
import hashlib
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

RENEW_AFTER = 2 / 3
"""The part of its validity after which a certificate is renewed."""


@dataclass(frozen=True, slots=True)
class KeyAndRequest:
    """A new private key, which stays here, and the request for its certificate (RFC 2986), which goes to labd."""

    key: bytes
    """PKCS #8 as PEM."""
    request: bytes
    """PEM."""

    def __repr__(self) -> str:
        return "KeyAndRequest(...)"


def new_request(name: str) -> KeyAndRequest:
    """An ECDSA key on P-256, and the request to certify it for ``name``."""
    key = ec.generate_private_key(ec.SECP256R1())
    # ub-common-name of RFC 5280 is 64 characters.
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])] if name else [])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return KeyAndRequest(private_pem(key), request.public_bytes(serialization.Encoding.PEM))


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as PEM, not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def certificates_of(pem: bytes) -> list[x509.Certificate]:
    """Those in a PEM text, in their order. Raises ValueError when there is none, or one is broken."""
    return x509.load_pem_x509_certificates(pem)


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 over the certificate (DER), in hexadecimal."""
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()


def uris(certificate: x509.Certificate) -> list[str]:
    """The URIs among its names."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def seconds(moment: datetime.datetime) -> float:
    """Since the Unix epoch."""
    return moment.timestamp()


def expires_at(chain: bytes) -> float:
    """When the first certificate of a chain runs out, in s since the Unix epoch. Raises ValueError."""
    return seconds(certificates_of(chain)[0].not_valid_after_utc)


def renewal_at(chain: bytes) -> float:
    """When the first certificate of a chain should be renewed, in s since the Unix epoch. Raises ValueError."""
    own = certificates_of(chain)[0]
    begin, end = seconds(own.not_valid_before_utc), seconds(own.not_valid_after_utc)
    return begin + (end - begin) * RENEW_AFTER
