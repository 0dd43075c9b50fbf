"""Enrolment, the agent's side: a one-time token becomes a certificate.

The token names labd's authority by its fingerprint, so that it is given to this labd and no other.
"""

import contextlib
from pathlib import Path

from bench_agent.protocol.certificates import new_request
from bench_agent.protocol.first_contact import FirstContactError, ask, authority
from bench_agent.server.certificate import AgentCertificate


class EnrolError(Exception):
    """The agent was not enrolled; says why, and what would help."""


def enrol(url: str, token: str, name: str, data_dir: Path) -> AgentCertificate:
    """Enrols agent ``name`` with the labd at ``url``, and keeps key and certificate in ``data_dir``.

    ``url`` may name several labds of one lab, with commas: the first that answers is asked. Raises EnrolError or
    CertificateError, with nothing changed.
    """
    pin = _pin(token)
    mine = new_request(name)
    try:
        url, root = _known([one.strip() for one in url.split(",")], pin)
        answer = ask(url, root, "POST", "/agents/enrol", {"token": token, "request": mine.request.decode()})
        return AgentCertificate.save(data_dir, mine.key, answer["certificate"].encode(), answer["trust"].encode())
    except FirstContactError as error:
        raise EnrolError(str(error)) from error
    except (KeyError, AttributeError) as error:
        raise EnrolError(f"{url} does not answer as labd does: {type(error).__name__}: {error}") from error


def _known(urls: list[str], pin: str) -> tuple[str, str]:
    """The first labd that answers and has the authority, and that. Raises FirstContactError."""
    for url in urls[:-1]:
        with contextlib.suppress(FirstContactError):
            return url, authority(url, pin)
    return urls[-1], authority(urls[-1], pin)


def _pin(token: str) -> str:
    parts = token.strip().split(".")
    if len(parts) != 3 or len(parts[2]) != 64:
        raise EnrolError("this is no enrolment token; 'labctl agent enrol NAME' makes one")
    return parts[2]
