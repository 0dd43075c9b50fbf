"""Agents, and the certificates of labd's authority."""

from http import HTTPStatus
from typing import Annotated

from fastapi import Path, Query
from pydantic import StringConstraints

from labd.api import schemas
from labd.api.context import ActorOf, LabOf, LeaseId, ReasonOf, SpanOf
from labd.api.idempotency import REPEATABLE
from labd.api.paging import Page, PagingOf
from labd.api.problems import body_responses, responses
from labd.api.routing import Router
from labd.api.schemas.common import PLAIN
from labd.api.times import to_text
from labd.model.agent import Agent
from labd.services.enrolment import AgentView
from labd.services.errors import Conflict

AgentName = Annotated[str, Path(max_length=253, examples=["hil-host-1"])]
router = Router(tags=["agents"])


@router.get("/authority", responses=responses(HTTPStatus.CONFLICT), summary="labd's certificate authority")
def get_authority(lab: LabOf) -> schemas.Authority:
    """What everybody may know of it. Who was told the fingerprint by other means can trust it from here on."""
    if lab.authority is None:
        raise Conflict("this labd runs with --insecure: it has no certificate authority")
    return schemas.Authority(fingerprint=lab.authority.fingerprint, trust=lab.authority.trust.decode())


@router.get("/agents", responses=responses(), summary="List agents")
def list_agents(
    lab: LabOf,
    actor: ActorOf,
    paging: PagingOf,
    heard_of: SpanOf,
    state: Annotated[list[schemas.AgentState], Query(description="Only in these states.")] = [],  # noqa: B006 - FastAPI copies
    attached: Annotated[bool | None, Query(description="Only those that are attached, or are not.")] = None,
) -> Page[schemas.Agent]:
    """Every agent that was invited or is attached, by name."""

    def wanted(view: AgentView) -> bool:
        return (
            (not state or _state(view) in state)
            and attached in (None, view.address is not None)
            and heard_of.holds(view.last_seen)
        )

    return paging.cut(filter(wanted, lab.enrolment.agents(actor)), lambda view: view.name, agent_answer)


@router.get("/agents/{name}", responses=responses(HTTPStatus.NOT_FOUND), summary="One agent")
def get_agent(lab: LabOf, actor: ActorOf, name: AgentName) -> schemas.Agent:
    """An agent, its certificate, and those of its benches that one may see."""
    return agent_answer(lab.enrolment.agent(name, actor))


@router.post(
    "/agents/enrol",
    status_code=HTTPStatus.CREATED,
    responses=body_responses(HTTPStatus.FORBIDDEN, HTTPStatus.CONFLICT),
    summary="Enrol an agent",
)
def enrol_agent(lab: LabOf, wish: schemas.EnrolmentRequest) -> schemas.Certificate:
    """Uses up a one-time token for a certificate. The common name of the request has to be the agent's name."""
    issued = lab.enrolment.enrol(wish.token, wish.request.encode())
    trust = b"" if lab.authority is None else lab.authority.trust
    return schemas.Certificate(
        certificate=issued.chain.decode(), trust=trust.decode(), expires_at=to_text(issued.expires_at)
    )


@router.post(
    "/agents/{name}/invite",
    status_code=HTTPStatus.CREATED,
    responses=body_responses(HTTPStatus.CONFLICT),
    summary="Make a one-time token for an agent",
)
def invite_agent(lab: LabOf, actor: ActorOf, name: AgentName, wish: schemas.InvitationRequest) -> schemas.Invitation:
    """For a new agent, or to enrol a known one anew. A former token for it is void."""
    made = lab.enrolment.invite(actor, name, lifetime_s=wish.lifetime_s)
    return schemas.Invitation(
        agent=made.agent, token=made.token, expires_at=to_text(made.expires_at), fingerprint=made.fingerprint
    )


@router.delete("/agents/{name}", responses=responses(HTTPStatus.NOT_FOUND), summary="Revoke an agent")
def revoke_agent(
    lab: LabOf,
    actor: ActorOf,
    name: AgentName,
    reason: Annotated[
        str,
        StringConstraints(min_length=1, max_length=500, pattern=PLAIN),
        Query(description="Why; goes into the audit log, and to the agent.", examples=["the machine was stolen"]),
    ],
) -> schemas.Agent:
    """Ends its stream, the leases of its benches, and its right to come back with the certificate that it has."""
    return agent_answer(lab.enrolment.revoke(actor, name, reason))


@router.post(
    "/leases/{lease_id}/certificate",
    tags=["leases"],
    status_code=HTTPStatus.CREATED,
    openapi_extra=REPEATABLE,
    responses=body_responses(HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    summary="A certificate to reach the lease's benches",
)
def certify_lease(
    lab: LabOf, actor: ActorOf, lease_id: LeaseId, wish: schemas.LeaseCertificateRequest
) -> schemas.LeaseCertificate:
    """For the holder, and those with whom the lease is shared. Agents ask for it beside the token of the same lease."""
    made = lab.lease_certificates.issue(actor, lease_id, wish.request.encode())
    return schemas.LeaseCertificate(
        certificate=made.issued.chain.decode(),
        trust=made.trust.decode(),
        expires_at=to_text(made.issued.expires_at),
        servers=made.servers,
    )


@router.put("/agents/{name}/drain", responses=responses(HTTPStatus.NOT_FOUND), summary="Drain an agent")
def drain_agent(lab: LabOf, actor: ActorOf, name: AgentName, reason: ReasonOf) -> schemas.Agent:
    """Nobody new gets one of its benches, also of those that it attaches later; present leases end as planned."""
    lab.fleet.drain_agent(actor, name, True, reason)
    return agent_answer(lab.enrolment.agent(name))


@router.delete("/agents/{name}/drain", responses=responses(HTTPStatus.NOT_FOUND), summary="End an agent's draining")
def undrain_agent(lab: LabOf, actor: ActorOf, name: AgentName, reason: ReasonOf) -> schemas.Agent:
    """Its benches can be leased again, but for those that are drained by themselves."""
    lab.fleet.drain_agent(actor, name, False, reason)
    return agent_answer(lab.enrolment.agent(name))


def agent_answer(view: AgentView) -> schemas.Agent:
    """An agent."""
    agent = view.agent or Agent(view.name)
    return schemas.Agent(
        name=view.name,
        state=_state(view),
        attached=view.address is not None,
        address=view.address,
        last_seen=to_text(view.last_seen),
        benches=view.benches,
        enrolled_at=to_text(agent.enrolled_at),
        certificate_expires_at=to_text(agent.certificate_expires_at),
        invited_until=to_text(agent.token_expires_at),
        revoked_at=to_text(agent.revoked_at),
        revoked_by=agent.revoked_by,
        revoked_reason=agent.revoked_reason,
        draining=view.drain is not None,
        drain_reason=view.drain or "",
    )


def _state(view: AgentView) -> schemas.AgentState:
    if view.agent is None:
        return "unproved"
    if view.agent.revoked_at is not None:
        return "revoked"
    return "enrolled" if view.agent.enrolment else "invited"
