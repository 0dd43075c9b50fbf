"""First contact with a labd whose authority is known by its fingerprint only.

Whoever answers is asked for the authority's certificate, which is compared with the fingerprint. From then on, only
somebody whom that authority calls labd is talked to.
"""

import contextlib
import json
import socket
import ssl
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPSConnection, IncompleteRead
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.serialization import Encoding

from bench_agent.protocol.certificates import certificates_of, fingerprint
from bench_agent.protocol.identity import CONTROLLER_NAME

_TIMEOUT_S = 20.0
_PAUSE_S = 0.5
"""Before a request whose connection broke is sent again."""
_ANSWER_MAX = 1024 * 1024
_API = "/api/v1"


class FirstContactError(Exception):
    """labd was not reached, or is another; says why."""


@dataclass(frozen=True, slots=True)
class _Labd:
    host: str
    port: int
    path: str


def authority(url: str, pin: str) -> str:
    """The certificate (PEM) of the authority with this fingerprint (SHA-256, hexadecimal), from the labd at ``url``.

    Raises FirstContactError, also when labd's authority is another.
    """
    trust = _asked(url, _unverified(), "GET", "/authority", None).get("trust")
    try:
        found = certificates_of(str(trust).encode())
    except ValueError as error:
        raise FirstContactError(f"{url} does not answer as labd does: {error}") from error
    root = next((one for one in found if fingerprint(one) == pin.lower()), None)
    if root is None:
        raise FirstContactError(f"the labd at {url} is not the one that was meant: its authority is another")
    return root.public_bytes(Encoding.PEM).decode()


def ask(url: str, root: str, method: str, path: str, body: object | None = None) -> dict[str, Any]:
    """What the labd at ``url`` answers, if its certificate is by the authority ``root`` (PEM).

    When the connection breaks, the request is sent again for up to 20 s; a change acts once all the same, as it has an
    Idempotency-Key. Raises FirstContactError.
    """
    return _asked(url, ssl.create_default_context(cadata=root), method, path, body)


def _asked(url: str, context: ssl.SSLContext, method: str, path: str, body: object | None) -> dict[str, Any]:
    labd = _parse(url)
    headers = {} if method == "GET" else {"Idempotency-Key": str(uuid.uuid4())}
    give_up, broken = time.monotonic() + _TIMEOUT_S, False
    while True:
        try:
            return _exchange(labd, context, method, path, headers, body)
        except ssl.SSLCertVerificationError as error:
            message = (
                f"the labd at {url} is not the one that was meant, or a proxy that ends TLS stands before it: "
                f"{error.verify_message}; agents need the way to labd itself"
            )
            raise FirstContactError(message) from error
        except (OSError, HTTPException) as error:
            broken = broken or (isinstance(error, _BROKEN) and not isinstance(error, ConnectionRefusedError))
            if not broken or time.monotonic() + _PAUSE_S > give_up:
                raise FirstContactError(f"{url} does not answer: {error}") from error
        except ValueError as error:
            raise FirstContactError(f"{url} does not answer as labd does: {error}") from error
        time.sleep(_PAUSE_S)


_BROKEN = (ConnectionError, ssl.SSLEOFError, IncompleteRead)
"""It ended a connection that was there: labd may have done what it was asked."""


def _exchange(
    labd: _Labd, context: ssl.SSLContext, method: str, path: str, key: Mapping[str, str], body: object | None
) -> dict[str, Any]:
    with contextlib.closing(HTTPSConnection(labd.host, labd.port, timeout=_TIMEOUT_S)) as connection:
        plain = socket.create_connection((labd.host, labd.port), _TIMEOUT_S)
        # labd shows the certificate by its own authority to who asks for it by this name, whatever its address.
        connection.sock = context.wrap_socket(plain, server_hostname=CONTROLLER_NAME)
        headers = {**key, **({"Content-Type": "application/json"} if body is not None else {})}
        content = None if body is None else json.dumps(body)
        connection.request(method, labd.path + _API + path, content, headers)
        response = connection.getresponse()
        text = response.read(_ANSWER_MAX)
        if response.length and len(text) < _ANSWER_MAX:
            raise IncompleteRead(text, response.length)
        answer = json.loads(text)
    if not isinstance(answer, dict):
        raise ValueError("no JSON object")
    if response.status >= 300:
        raise FirstContactError(f"labd refuses: {answer.get('detail') or response.reason}")
    return answer


def _unverified() -> ssl.SSLContext:
    """For what is compared with the fingerprint afterwards, and nothing else."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _parse(url: str) -> _Labd:
    try:
        parts = urlsplit(url)
        port = parts.port or 443
    except ValueError as error:
        raise FirstContactError(f"{url!r} is no URL: {error}") from error
    if parts.scheme != "https" or not parts.hostname:
        raise FirstContactError(f"{url!r} is no URL of a labd with TLS; it would look like https://lab.example:8470")
    return _Labd(parts.hostname, port, parts.path.rstrip("/"))
