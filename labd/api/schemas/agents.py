"""Agents and certificates. All certificates and requests are PEM text (RFC 7468)."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints

from bench_agent.protocol.identity import CERTIFICATE_REQUEST_MAX
from labd.api.schemas.common import Request, Time
from labd.services.enrolment import TOKEN_LIFETIME_MAX_S, TOKEN_LIFETIME_S

AgentState = Literal["invited", "enrolled", "revoked", "unproved"]
RequestText = Annotated[
    str,
    StringConstraints(min_length=1, max_length=CERTIFICATE_REQUEST_MAX),
    Field(description="A certificate request (RFC 2986) with a key of the curve P-256, as PEM."),
]
_TRUST = "The certificates of labd's authorities, as PEM."


class Agent(BaseModel):
    """A bench agent as labd knows it."""

    name: str
    state: AgentState = Field(description="`unproved`: it is attached to a labd that runs with --insecure.")
    attached: bool
    address: str | None = Field(description="host:port for lease holders, while it is attached.")
    last_seen: Time | None
    benches: list[str]
    enrolled_at: Time | None
    certificate_expires_at: Time | None = Field(description="Of the newest certificate; it is renewed long before.")
    invited_until: Time | None = Field(description="Until when a one-time token for it may be used.")
    revoked_at: Time | None
    revoked_by: str | None
    revoked_reason: str | None
    draining: bool = Field(description="An operator keeps new leases from all its benches.")
    drain_reason: str


class InvitationRequest(Request):
    """A one-time token is wanted."""

    lifetime_s: float = Field(
        default=TOKEN_LIFETIME_S, gt=0, le=TOKEN_LIFETIME_MAX_S, description="How long it may be used."
    )


class Invitation(BaseModel):
    """A one-time token, shown this once."""

    agent: str
    token: str
    expires_at: Time
    fingerprint: str = Field(description="SHA-256 of the certificate of labd's authority; the token has it in it.")


class EnrolmentRequest(Request):
    """What an agent sends to be enrolled."""

    token: Annotated[str, StringConstraints(min_length=1, max_length=300)]
    request: RequestText


class Certificate(BaseModel):
    """A new certificate."""

    certificate: str = Field(description="The certificate, then those between it and an authority, as PEM.")
    trust: str = Field(description=_TRUST)
    expires_at: Time


class LeaseCertificateRequest(Request):
    """What a lease holder sends to reach the agents of its benches."""

    request: RequestText


class LeaseCertificate(Certificate):
    """A certificate for the holder of a lease."""

    servers: dict[str, str] = Field(description="By bench, the name that its agent's certificate has to show.")


class Authority(BaseModel):
    """labd's certificate authority."""

    fingerprint: str = Field(description="SHA-256 of the certificate of the one that issues.")
    trust: str = Field(description=_TRUST)
