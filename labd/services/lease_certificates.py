"""Certificates for lease holders: an agent takes no call over the network without one for the lease of its token."""

from dataclasses import dataclass

from bench_agent.protocol.identity import agent_server_name
from labd.model.identity import Actor
from labd.model.lease import Lease
from labd.services.authority import Authority, Issued, RequestRefused
from labd.services.core import Core
from labd.services.errors import Conflict, FieldError, Forbidden, Invalid, NotFound


@dataclass(frozen=True, slots=True)
class LeaseCertificate:
    """What a holder needs to reach the agents of its benches."""

    issued: Issued
    trust: bytes
    """The authorities that the agents are known by: PEM."""
    servers: dict[str, str]
    """By bench, the name that its agent shows."""


class LeaseCertificates:
    """The use case of a holder's certificate."""

    def __init__(self, core: Core, authority: Authority | None) -> None:
        """Without an authority, agents ask for none, and none is given."""
        self._core = core
        self._authority = authority

    def issue(self, actor: Actor, lease_id: str, request: bytes) -> LeaseCertificate:
        """For whoever has a token of a lease that has its benches; good until its hard end, and the clocks' difference.

        The end of the lease, whenever that is, ends its use: agents ask for the lease's token too. Raises NotFound,
        Forbidden when the actor neither holds nor shares it, Conflict when it holds no bench or there is no TLS here,
        Invalid when the request is none.
        """
        if self._authority is None:
            raise Conflict("this labd runs with --insecure: agents ask lease holders for no certificate")
        with self._core.view() as unit:
            lease = unit.lease(lease_id)
            if lease is None:
                raise NotFound(f"there is no lease {lease_id!r}")
            sharers = {share.holder for share in unit.shares(lease_id)}
            if not actor.is_holder(lease.holder, lease.run_id) and actor.name not in sharers:
                raise Forbidden(f"lease {lease_id} is held by {lease.holder}, and not shared with {actor.name}")
            if not lease.state.held or lease.expires_at is None:
                raise Conflict(f"lease {lease_id} is {lease.state}: it has no bench to be reached")
            agents = {bench.name: bench.agent for bench in unit.benches()}
            servers = {name: agent_server_name(agents[name]) for name in _benches(lease)}
        try:
            lasts_s = lease.expires_at - self._core.clock.now()
            issued = self._authority.lease_certificate(request, lease.id, lasts_s)
        except RequestRefused as error:
            raise Invalid(str(error), FieldError("request", None, str(error))) from error
        return LeaseCertificate(issued, self._authority.trust, servers)


def _benches(lease: Lease) -> list[str]:
    return [one.bench for one in lease.benches if one.live]
