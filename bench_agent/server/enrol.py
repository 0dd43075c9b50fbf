"""Enrolment, the agent's side: a one-time token becomes a certificate.

The token names labd's authority by its fingerprint. So the agent can ask whoever answers for the authority's
certificate, compare, and give its token only to somebody who proves to have that authority's blessing.
"""

import contextlib
import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from bench_agent.protocol.certificates import certificates_of, dns_names, fingerprint, new_request
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


def enrol(url: str, token: str, name: str, data_dir: Path, *, ca: Path | None = None) -> AgentCertificate:
    """Enrols agent ``name`` with the labd at ``url``, and keeps key and certificate in ``data_dir``.

    ``ca`` is the file of the authorities (PEM) that labd's REST API is known by, where that is not labd's own one.
    Raises EnrolError, with nothing changed.
    """
    labd, pin = _parse(url), _pin(token)
    try:
        first = _unverified() if ca is None else ssl.create_default_context(cafile=str(ca))
        trust = _ask(labd, first, "GET", "/authority", own=False)["trust"].encode()
        root = next((one for one in certificates_of(trust) if fingerprint(one) == pin), None)
        if root is None:
            raise EnrolError(f"the labd at {url} is not the one that the token was made by: its authority is another")
        context = first
        if ca is None:
            context = ssl.create_default_context(cadata=root.public_bytes(Encoding.PEM).decode())
            context.check_hostname = False  # its name is checked instead, which is the same at every address
        mine = new_request(name)
        body = {"token": token, "request": mine.request.decode()}
        answer = _ask(labd, context, "POST", "/agents/enrol", body, own=ca is None)
        return AgentCertificate.save(data_dir, mine.key, answer["certificate"].encode(), answer["trust"].encode())
    except ssl.SSLCertVerificationError as error:
        raise EnrolError(
            f"the labd at {url} cannot be verified: {error.verify_message}. If its REST API shows a certificate of "
            "another authority than labd's own, name that authority's file with --ca"
        ) from error
    except (OSError, HTTPException) as error:
        raise EnrolError(f"{url} does not answer: {error}") from error
    except (ValueError, KeyError, AttributeError) as error:
        raise EnrolError(f"{url} does not answer as labd does: {type(error).__name__}: {error}") from error


def _ask(
    labd: _Labd, context: ssl.SSLContext, method: str, path: str, body: object | None = None, *, own: bool
) -> dict[str, Any]:
    with _connected(labd, context) as connection:
        if own:
            _require_controller(connection)
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


@contextlib.contextmanager
def _connected(labd: _Labd, context: ssl.SSLContext) -> Iterator[HTTPSConnection]:
    connection = HTTPSConnection(labd.host, labd.port, timeout=_TIMEOUT_S, context=context)
    try:
        connection.connect()
        yield connection
    finally:
        connection.close()


def _require_controller(connection: HTTPSConnection) -> None:
    shown = connection.sock.getpeercert(binary_form=True)
    names = [] if shown is None else dns_names(x509.load_der_x509_certificate(shown))
    if CONTROLLER_NAME not in names:
        raise EnrolError(f"who answers is known to labd's authority, but is not labd: {', '.join(names) or 'no name'}")


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
