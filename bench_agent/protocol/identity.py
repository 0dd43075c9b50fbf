"""Who is who in the certificates of labd's own authority.

Peers are known by names that stay, not by the address that a machine has today: an agent may move, sit behind a NAT or
in a container, and its certificate still says which agent it is. Servers show a DNS name under ``.internal``, which is
set aside for private use and resolved by nobody; clients show a URI.
"""

from dataclasses import dataclass
from urllib.parse import quote, unquote

CONTROLLER_NAME = "labd.internal"
"""The name that labd itself shows to agents and runners."""
CERTIFICATE_REQUEST_MAX = 4096
"""The longest certificate request (PEM) that is read, in bytes."""
_AGENT_SUFFIX = ".agent.labd.internal"
_AGENT_URI = "labd:agent/"
_LEASE_URI = "labd:lease/"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What one side of a mutually authenticated TLS connection needs."""

    key: bytes
    """The private key: PKCS #8 as PEM."""
    chain: bytes
    """The own certificate first, then those between it and an authority: PEM."""
    trust: bytes
    """Every authority whose certificates are taken: PEM."""

    def __repr__(self) -> str:
        return "Credentials(...)"  # no key in a log


@dataclass(frozen=True, slots=True)
class AgentTls:
    """How the holder of a lease reaches its agent over TLS."""

    credentials: Credentials
    """The holder's, for this lease."""
    server_name: str
    """What the agent has to show."""


@dataclass(frozen=True, slots=True)
class AgentIdentity:
    """An agent, as its certificate names it."""

    name: str
    enrolment: int
    """Counts the times that this name was enrolled: only the last one holds."""

    @property
    def uri(self) -> str:
        """As in the certificate."""
        return f"{_AGENT_URI}{quote(self.name, safe='')}#{self.enrolment}"

    @classmethod
    def from_uri(cls, uri: str) -> "AgentIdentity | None":
        """None when the URI is no agent's."""
        name, hash_, number = uri.removeprefix(_AGENT_URI).partition("#")
        if not uri.startswith(_AGENT_URI) or not hash_ or not number.isdecimal():
            return None
        return cls(unquote(name), int(number))


def agent_server_name(agent: str) -> str:
    """The name that an agent shows to lease holders. TLS does not tell upper case from lower case."""
    return f"{agent.lower()}{_AGENT_SUFFIX}"


def lease_uri(lease: str) -> str:
    """The name in the certificate of a lease's holder."""
    return f"{_LEASE_URI}{quote(lease, safe='')}"


def lease_of(uri: str) -> str | None:
    """The lease that a holder's certificate was given for; None when the URI is no lease's."""
    return unquote(uri.removeprefix(_LEASE_URI)) if uri.startswith(_LEASE_URI) else None
