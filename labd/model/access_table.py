"""The authorisation table: who may call what, for every REST route and every gRPC method of labd and of the agents.

An operation without an entry is open to nobody. ``docs/reference/authorisation.md`` shows this table to people.
"""

from types import MappingProxyType

from bench_agent.protocol.access import METHODS
from bench_agent.protocol.claims import Scope as LeaseScope
from labd.model.access import Admits, Reason, Rule, TeamOf
from labd.model.identity import Role, Scope

_PUBLIC = Rule(admits=Admits.PUBLIC)
_SIGNED_IN = Rule(admits=Admits.SIGNED_IN)
_SEE = Rule()
_SEE_BENCH = Rule(team=TeamOf.BENCH)
_SEE_RUN = Rule(team=TeamOf.RUN)
_END_LEASE = Rule(role=Role.ENGINEER, scope=Scope.LEASE, team=TeamOf.LEASE, own=True, reason=Reason.OTHERS)
_HOLD_LEASE = Rule(role=Role.ENGINEER, scope=Scope.LEASE, team=TeamOf.LEASE, own=True)
_END_RUN = Rule(role=Role.ENGINEER, scope=Scope.RUN, team=TeamOf.RUN, own=True, reason=Reason.OTHERS)
_OPERATE_BENCH = Rule(role=Role.OPERATOR, scope=Scope.OPERATE, team=TeamOf.BENCH, reason=Reason.ALWAYS)
_RUNNER = Rule(admits=Admits.RUNNER, team=TeamOf.RUN)
_SEE_LAB = Rule(role=Role.OPERATOR, scope=Scope.OPERATE, team=TeamOf.LAB)
_OPERATE_LAB = Rule(role=Role.OPERATOR, scope=Scope.OPERATE, team=TeamOf.LAB)
_FORCE_AGENT = Rule(role=Role.OPERATOR, scope=Scope.OPERATE, team=TeamOf.LAB, reason=Reason.ALWAYS)
_ADMIN = Rule(role=Role.ADMIN, scope=Scope.ADMIN, team=TeamOf.LAB)
_REVOKE = Rule(role=Role.ADMIN, scope=Scope.ADMIN, team=TeamOf.LAB, reason=Reason.ALWAYS)
_TEAM_ADMIN = Rule(role=Role.ADMIN, scope=Scope.ADMIN, team=TeamOf.PATH)
_KEEP = Rule(role=Role.ENGINEER, scope=Scope.ADMIN)

_API = "/api/v1"

REST = MappingProxyType(
    {
        # labd itself
        f"GET {_API}/healthz": _PUBLIC,
        f"GET {_API}/version": _PUBLIC,
        f"GET {_API}/openapi.json": _PUBLIC,
        f"GET {_API}/docs": _PUBLIC,
        "GET /.well-known/jwks.json": _PUBLIC,
        f"GET {_API}/status": _SEE,
        f"GET {_API}/doctor": _SEE_LAB,
        f"GET {_API}/series": _SEE,  # the use case leaves out what is of other teams
        # Who one is
        f"GET {_API}/login": _PUBLIC,
        f"GET {_API}/whoami": _SIGNED_IN,
        f"GET {_API}/tokens": _SIGNED_IN,
        f"POST {_API}/tokens": _SIGNED_IN,
        f"DELETE {_API}/tokens/{{prefix}}": _SIGNED_IN,
        f"GET {_API}/users": _ADMIN,
        f"POST {_API}/users": _ADMIN,
        f"DELETE {_API}/users/{{member}}": _REVOKE,
        f"GET {_API}/teams": _SEE,
        f"POST {_API}/teams": _ADMIN,
        f"DELETE {_API}/teams/{{team}}": _REVOKE,
        f"GET {_API}/teams/{{team}}/members": Rule(team=TeamOf.PATH),
        f"PUT {_API}/teams/{{team}}/members/{{member}}": _TEAM_ADMIN,
        f"DELETE {_API}/teams/{{team}}/members/{{member}}": _TEAM_ADMIN,
        # What was done
        f"GET {_API}/audit": Rule(role=Role.OPERATOR, scope=Scope.OPERATE),
        f"GET {_API}/audit/verify": _SEE_LAB,
        # Agents, and the certificates of labd's authority
        f"GET {_API}/authority": _PUBLIC,
        f"GET {_API}/agents": _SEE,
        f"GET {_API}/agents/{{name}}": _SEE,
        f"POST {_API}/agents/enrol": _PUBLIC,  # with a one-time token
        f"POST {_API}/agents/{{name}}/invite": _OPERATE_LAB,
        f"DELETE {_API}/agents/{{name}}": _FORCE_AGENT,
        f"PUT {_API}/agents/{{name}}/drain": _FORCE_AGENT,
        f"DELETE {_API}/agents/{{name}}/drain": _FORCE_AGENT,
        # What is kept
        f"GET {_API}/backup": _ADMIN,
        f"GET {_API}/retention": _SEE,
        f"PUT {_API}/retention": _ADMIN,
        f"POST {_API}/retention/preview": _ADMIN,
        f"POST {_API}/retention/sweep": _ADMIN,
        # Environments: the use cases look at the team, which is in the query or in the body
        f"GET {_API}/secrets": _SEE,
        f"PUT {_API}/secrets/{{name}}": _KEEP,
        f"DELETE {_API}/secrets/{{name}}": _KEEP,
        f"GET {_API}/environments": _SEE,
        f"POST {_API}/environments": _KEEP,
        f"GET {_API}/environments/{{name}}": _SEE,
        f"PUT {_API}/environments/{{name}}": _KEEP,
        f"DELETE {_API}/environments/{{name}}": _KEEP,
        # Benches
        f"GET {_API}/benches": _SEE,
        f"GET {_API}/benches/{{name}}": _SEE_BENCH,
        f"POST {_API}/benches/{{name}}/clear-quarantine": _OPERATE_BENCH,
        f"GET {_API}/benches/{{name}}/calendar": _SEE_BENCH,
        f"PUT {_API}/benches/{{name}}/drain": _OPERATE_BENCH,
        f"DELETE {_API}/benches/{{name}}/drain": _OPERATE_BENCH,
        # What the lab allows
        f"GET {_API}/policy": _SEE,
        f"PUT {_API}/policy": _ADMIN,
        # Leases
        f"GET {_API}/leases": _SEE,
        f"POST {_API}/leases": Rule(role=Role.ENGINEER, scope=Scope.LEASE),
        f"GET {_API}/leases/{{lease_id}}": Rule(team=TeamOf.LEASE, runner=True),
        f"GET {_API}/leases/events": _SEE,
        f"GET {_API}/leases/{{lease_id}}/events": Rule(team=TeamOf.LEASE, runner=True),
        f"POST {_API}/leases/{{lease_id}}/heartbeat": Rule(
            role=Role.ENGINEER, scope=Scope.LEASE, team=TeamOf.LEASE, own=True, runner=True
        ),
        # for the holder, and those with whom the lease is shared: the use case looks
        f"POST {_API}/leases/{{lease_id}}/certificate": Rule(scope=Scope.LEASE, team=TeamOf.LEASE, runner=True),
        f"GET {_API}/leases/{{lease_id}}/why": Rule(team=TeamOf.LEASE),
        f"POST {_API}/leases/{{lease_id}}/extend": _HOLD_LEASE,
        f"POST {_API}/leases/{{lease_id}}/transfer": _HOLD_LEASE,
        f"POST {_API}/leases/{{lease_id}}/shares": _HOLD_LEASE,
        f"DELETE {_API}/leases/{{lease_id}}/shares/{{holder}}": _END_LEASE,
        f"DELETE {_API}/leases/{{lease_id}}": _END_LEASE,
        # Runs
        f"GET {_API}/runs": _SEE,
        f"POST {_API}/runs": Rule(role=Role.ENGINEER, scope=Scope.RUN),
        f"GET {_API}/runs/{{run_id}}": _SEE_RUN,
        f"POST {_API}/runs/{{run_id}}/again": Rule(role=Role.ENGINEER, scope=Scope.RUN, team=TeamOf.RUN),
        f"POST {_API}/runs/{{run_id}}/cancel": _END_RUN,
        f"GET {_API}/runs/{{run_id}}/events": _SEE_RUN,
        f"GET {_API}/runs/{{run_id}}/log": _SEE_RUN,
        f"GET {_API}/runs/{{run_id}}/result": _SEE_RUN,
        f"GET {_API}/runs/{{run_id}}/junit": _SEE_RUN,
        f"POST {_API}/runs/{{run_id}}/runner-token": _PUBLIC,  # with the token of the run's pod, which is reviewed
        f"GET {_API}/runs/{{run_id}}/assignment": _RUNNER,
        f"GET {_API}/runs/{{run_id}}/data-files/{{path}}": _RUNNER,
        f"PUT {_API}/runs/{{run_id}}/commit": _RUNNER,
        f"POST {_API}/runs/{{run_id}}/log": _RUNNER,
        f"PUT {_API}/runs/{{run_id}}/result": _RUNNER,
    }
)
"""By method and path, as the OpenAPI document has them."""

_AGENT = Rule(admits=Admits.AGENT)
_HOLDER = Rule(admits=Admits.HOLDER)
_OBSERVER = Rule(admits=Admits.OBSERVER)
_TO_ALL = MappingProxyType(
    {
        "/grpc.health.v1.Health/Check": _PUBLIC,
        "/grpc.health.v1.Health/List": _PUBLIC,
        "/grpc.health.v1.Health/Watch": _PUBLIC,
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": _PUBLIC,
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _PUBLIC,
    }
)

LABD_GRPC = MappingProxyType({"/labd.lab.v1.Lab/Attach": _AGENT, **_TO_ALL})
"""The door of labd that agents come in by."""
AGENT_GRPC = MappingProxyType(
    {
        f"/labd.bench.v1.{service}/{method}": _OBSERVER if access.scope is LeaseScope.OBSERVER else _HOLDER
        for service, methods in METHODS.items()
        for method, access in methods.items()
    }
    | _TO_ALL
)
"""The door of an agent that lease holders come in by; the agent keeps to the same entries."""
