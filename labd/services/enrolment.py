"""Enrolment: how agents come by their certificates, and lose them.

An operator invites an agent; the one-time token goes to the agent's machine by hand, with the fingerprint of labd's
authority in it, so that the first contact is with this labd and no other. The agent makes its key itself, and gets a
certificate that it renews over its stream for as long as nobody revokes it.
"""

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import NoReturn

import structlog

from bench_agent.protocol.identity import AgentIdentity
from labd.model.agent import Agent
from labd.model.identity import SYSTEM, Actor, ActorKind
from labd.services.authority import Authority, Issued, RequestRefused, common_name
from labd.services.core import Core
from labd.services.errors import Conflict, FieldError, Forbidden, Invalid, NotFound
from labd.services.fleet import Fleet
from labd.services.tenancy import may_see

TOKEN_LIFETIME_S = 3600.0
"""How long a one-time token may be used, unless told otherwise."""
TOKEN_LIFETIME_MAX_S = 7 * 86_400.0
"""Who finds one that nobody used can be an agent: it lies about for a week at most."""
_TOKEN_PREFIX = "labd-enrol"  # noqa: S105 - what a token begins with
_SECRET_BYTES = 24
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")

_log = structlog.get_logger()


class NotAdmitted(Exception):
    """An agent's certificate is not taken; the message says why."""

    def __init__(self, message: str, *, revoked: bool) -> None:
        super().__init__(message)
        self.revoked = revoked
        """It was good once: the agent has to end what it serves."""


@dataclass(frozen=True, slots=True)
class Invitation:
    """What an operator hands to an agent's machine."""

    agent: str
    token: str
    """For one enrolment; labd keeps only its hash."""
    expires_at: float
    """s since the Unix epoch."""
    fingerprint: str
    """Of labd's authority; it is in the token too."""


@dataclass(frozen=True, slots=True)
class AgentView:
    """An agent as people see it."""

    name: str
    agent: Agent | None
    """None: it was never invited, and is attached to a labd without certificates."""
    address: str | None
    """host:port for lease holders, while it is attached."""
    last_seen: float | None
    benches: list[str]
    drain: str | None = None
    """Why its benches get no new lease; None: they do."""


class Enrolment:
    """The use cases of agents' certificates."""

    def __init__(self, core: Core, fleet: Fleet, authority: Authority | None) -> None:
        """Without an authority, agents attach unproved, and nobody is invited."""
        self._core = core
        self._fleet = fleet
        self._authority = authority

    def invite(self, actor: Actor, name: str, *, lifetime_s: float = TOKEN_LIFETIME_S) -> Invitation:
        """Makes a one-time token for an agent, known or new; a former token for it is void.

        Its present certificate holds until the token is used. Raises Invalid, or Conflict in an insecure lab.
        """
        authority = self._require_authority()
        if not _NAME.fullmatch(name):
            raise _bad_name(name, "expected letters, digits and -_. within, at most 63")
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        with self._core.transaction(actor) as ledger:
            known = ledger.unit.agent(name)
            if known is not None and known.name != name:
                raise _bad_name(name, f"there is agent {known.name} already; names must differ in more than their case")
            expires_at = ledger.now + lifetime_s
            ledger.unit.save_agent((known or Agent(name)).invited(_hash(secret), expires_at))
            ledger.audit("agent.invited", f"agent/{name}", after={"token_expires_at": expires_at})
        _log.info("agent invited", agent=name, by=actor.name)
        token = f"{_TOKEN_PREFIX}.{secret}.{authority.fingerprint}"
        return Invitation(name, token, expires_at, authority.fingerprint)

    def enrol(self, token: str, request: bytes) -> Issued:
        """Uses up a one-time token for the agent's first certificate, or its first after a revocation.

        Raises Forbidden when the token is unknown, used or too old; Invalid when the request is for another agent.
        """
        authority = self._require_authority()
        parts = token.split(".")
        token_hash = _hash(parts[1]) if len(parts) == 3 and parts[0] == _TOKEN_PREFIX else ""
        asked_by = _name_in(request)
        with self._core.transaction(Actor(asked_by or "nobody", ActorKind.AGENT)) as ledger:
            agent = ledger.unit.agent_by_token(token_hash) if token_hash else None
            if agent is None:
                raise Forbidden("this enrolment token is none that labd has given out, or it was used already")
            if agent.token_expires_at is None or agent.token_expires_at <= ledger.now:
                raise Forbidden(f"the enrolment token for agent {agent.name} has expired; have a new one made")
            if asked_by != agent.name:
                raise Invalid(
                    f"the enrolment token is for agent {agent.name!r}, the request is by {asked_by!r}",
                    FieldError("request", asked_by, f"expected the common name {agent.name!r}"),
                )
            try:
                issued = authority.agent_certificate(request, AgentIdentity(agent.name, agent.enrolment + 1))
            except RequestRefused as error:
                raise _bad_request(error) from error
            if not ledger.unit.use_token(token_hash):
                raise Forbidden("this enrolment token was used already")
            ledger.unit.save_agent(agent.enrolled(ledger.now, issued.expires_at))
            ledger.audit(
                "agent.enrolled",
                f"agent/{agent.name}",
                before={"enrolment": agent.enrolment},
                after={"enrolment": agent.enrolment + 1, "certificate_expires_at": issued.expires_at},
            )
            ledger.effects.hang_ups.add(agent.name)
        _log.info("agent enrolled", agent=agent.name, enrolment=agent.enrolment + 1)
        return issued

    def admit(self, identity: AgentIdentity) -> None:
        """Returns when a certificate with this identity is good today. Raises NotAdmitted."""
        with self._core.view() as unit:
            agent = unit.agent(identity.name)
        if agent is None:
            raise _unheard_of(identity)
        refusal = agent.refusal(identity.enrolment)
        if refusal is not None:
            raise NotAdmitted(refusal, revoked=True)

    def renew(self, identity: AgentIdentity, request: bytes) -> Issued:
        """A new certificate for an agent that has a good one. Raises NotAdmitted, or Invalid."""
        authority = self._require_authority()
        self.admit(identity)
        try:
            issued = authority.agent_certificate(request, identity)
        except RequestRefused as error:
            raise _bad_request(error) from error
        with self._core.transaction(Actor(identity.name, ActorKind.AGENT)) as ledger:
            agent = ledger.unit.agent(identity.name)
            if agent is None:
                raise _unheard_of(identity)
            refusal = agent.refusal(identity.enrolment)
            if refusal is not None:
                raise NotAdmitted(refusal, revoked=True)
            ledger.unit.save_agent(agent.renewed(issued.expires_at))
            ledger.audit("agent.renewed", f"agent/{agent.name}", after={"certificate_expires_at": issued.expires_at})
        _log.info("agent's certificate renewed", agent=identity.name)
        return issued

    def revoke(self, actor: Actor, name: str, reason: str) -> AgentView:
        """Ends an agent's right to attach, its stream, and every lease of its benches. Raises NotFound."""
        link, revoked = None, False
        told = f"agent {name} was revoked by {actor.name}: {reason}"
        try:
            with self._core.transaction(actor) as ledger:
                agent = ledger.unit.agent(name)
                if agent is None:
                    self._unknown(name, [one.name for one in ledger.unit.agents()])
                ledger.unit.save_agent(agent.revoked(ledger.now, actor.name, reason))
                ledger.audit("agent.revoked", f"agent/{agent.name}", after={"revoked": True}, why=reason)
                link = self._fleet.expel(ledger, agent.name, told)
            revoked = True
        finally:
            if link is not None:  # also when the database has failed: then the agent attaches anew
                link.close(told, revoked=revoked)
        _log.warning("agent revoked", agent=agent.name, by=actor.name, reason=reason)
        return self.agent(agent.name)

    def agents(self, actor: Actor = SYSTEM) -> list[AgentView]:
        """Every agent that was invited, is attached or drained, by name, with the benches that the actor may see."""
        sessions = self._fleet.sessions()
        with self._core.view() as unit:
            enrolled = {agent.name: agent for agent in unit.agents()}
            drains = unit.agent_drains()
            benches = [bench for bench in unit.benches() if not bench.removed]
        views = []
        elsewhere = {bench.agent for bench in benches if self._core.presence.elsewhere(bench.agent)}
        for name in sorted({*enrolled, *sessions, *elsewhere, *drains}):
            session = sessions.get(name)
            mine = [bench for bench in benches if bench.agent == name]
            address = mine[0].address if name in elsewhere else None
            seen = max((bench.last_seen for bench in mine if bench.last_seen is not None), default=None)
            views.append(
                AgentView(
                    name,
                    enrolled.get(name),
                    address if session is None else session.address,
                    seen if session is None else session.last_seen,
                    sorted(bench.name for bench in mine if may_see(actor, bench)),
                    drains.get(name),
                )
            )
        return views

    def agent(self, name: str, actor: Actor = SYSTEM) -> AgentView:
        """One agent. Raises NotFound, naming those there are."""
        views = self.agents(actor)
        found = next((view for view in views if view.name == name), None)
        return found or self._unknown(name, [view.name for view in views])

    def _unknown(self, name: str, known: list[str]) -> NoReturn:
        raise NotFound(f"there is no agent {name!r}; the lab knows {', '.join(known) or 'none yet'}")

    def _require_authority(self) -> Authority:
        if self._authority is None:
            raise Conflict("this labd runs with --insecure: agents attach to it without certificates")
        return self._authority


def _unheard_of(identity: AgentIdentity) -> NotAdmitted:
    # A database that was restored to before the enrolment, or another lab's that has the same authority.
    return NotAdmitted(f"labd knows of no agent {identity.name!r}; enrol it anew", revoked=False)


def _name_in(request: bytes) -> str:
    try:
        return common_name(request)
    except RequestRefused as error:
        raise _bad_request(error) from error


def _bad_request(error: RequestRefused) -> Invalid:
    return Invalid(str(error), FieldError("request", None, str(error)))


def _bad_name(name: str, message: str) -> Invalid:
    return Invalid(f"agent name {name!r}: {message}", FieldError("name", name, message))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
