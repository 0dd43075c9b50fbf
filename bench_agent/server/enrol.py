"""Enrolment, the agent's side: a one-time token becomes a certificate.

The token names labd's authority by its fingerprint. So the agent can ask whoever answers for the authority's
certificate, compare, and give its token only to somebody who proves to have that authority's blessing.
"""

import contextlib
import json
import socket
import ssl
from dataclasses import dataclass
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.serialization import Encoding

from bench_agent.protocol.certificates import certificates_of, fingerprint, new_request
from bench_agent.protocol.identity import CONTROLLER_NAME
from bench_agent.server.certificate import AgentCertificate

_TIMEOUT_S = 20.0
_ANSWER_MAX = 1024 * 1024
_API = "/api/v1"


class EnrolError(Exception):
    """The agent was not enrolled; says why, and what would help."""


@dataclass(frozen=True, slots=True)
class _Labd:
    host: str
    port: int
    path: str


def enrol(url: str, token: str, name: str, data_dir: Path) -> AgentCertificate:
    """Enrols agent ``name`` with the labd at ``url``, and keeps key and certificate in ``data_dir``.

    Raises EnrolError or CertificateError, with nothing changed.
    """
    labd, pin = _parse(url), _pin(token)
    try:
        trust = _ask(labd, _unverified(), "GET", "/authority")["trust"].encode()
        root = next((one for one in certificates_of(trust) if fingerprint(one) == pin), None)
        if root is None:
            raise EnrolError(f"the labd at {url} is not the one that made the token: its authority is another")
        context = ssl.create_default_context(cadata=root.public_bytes(Encoding.PEM).decode())
        mine = new_request(name)
        body = {"token": token, "request": mine.request.decode()}
        answer = _ask(labd, context, "POST", "/agents/enrol", body)
        return AgentCertificate.save(data_dir, mine.key, answer["certificate"].encode(), answer["trust"].encode())
    except ssl.SSLCertVerificationError as error:
        raise EnrolError(f"the labd at {url} is not the one that made the token: {error.verify_message}") from error
    except (OSError, HTTPException) as error:
        raise EnrolError(f"{url} does not answer: {error}") from error
    except (ValueError, KeyError, AttributeError) as error:
        raise EnrolError(f"{url} does not answer as labd does: {type(error).__name__}: {error}") from error


def _ask(labd: _Labd, context: ssl.SSLContext, method: str, path: str, body: object | None = None) -> dict[str, Any]:
    with contextlib.closing(HTTPSConnection(labd.host, labd.port, timeout=_TIMEOUT_S)) as connection:
        plain = socket.create_connection((labd.host, labd.port), _TIMEOUT_S)
        # labd shows the certificate by its own authority to who asks for it by this name, whatever its address.
        connection.sock = context.wrap_socket(plain, server_hostname=CONTROLLER_NAME)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        content = None if body is None else json.dumps(body)
        connection.request(method, labd.path + _API + path, content, headers)
        response = connection.getresponse()
        answer = json.loads(response.read(_ANSWER_MAX))
    if not isinstance(answer, dict):
        raise ValueError("no JSON object")
    if response.status >= 300:
        raise EnrolError(f"labd refuses: {answer.get('detail') or response.reason}")
    return answer


def _unverified() -> ssl.SSLContext:
    """For what is compared with the fingerprint afterwards, and nothing else."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _pin(token: str) -> str:
    parts = token.strip().split(".")
    if len(parts) != 3 or len(parts[2]) != 64:
        raise EnrolError("this is no enrolment token; 'labctl agent enrol NAME' makes one")
    return parts[2].lower()


def _parse(url: str) -> _Labd:
    try:
        parts = urlsplit(url)
        port = parts.port or 443
    except ValueError as error:
        raise EnrolError(f"{url!r} is no URL: {error}") from error
    if parts.scheme != "https" or not parts.hostname:
        raise EnrolError(f"{url!r} is no URL of a labd that enrols agents; it would look like https://lab.example:8470")
    return _Labd(parts.hostname, port, parts.path.rstrip("/"))
