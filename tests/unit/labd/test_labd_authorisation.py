"""Who may do what: the decision, the table, and the table against what labd really serves."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench_agent.protocol import lab_pb2
from bench_agent.server.services import GUARDED, OFFERED
from labd.api.app import openapi_document
from labd.api.operations import find
from labd.model.access import Admits, Decision, Outcome, Reason, Resource, Rule, TeamOf, decide
from labd.model.access_table import AGENT_GRPC, LABD_GRPC, REST
from labd.model.identity import ANONYMOUS, WHOLE_LAB, Actor, ActorKind, Role, Scope

TEAMS = ("blue", "red")
roles = st.sampled_from(Role)
actors = st.builds(
    Actor,
    name=st.sampled_from(["ada", "bob"]),
    kind=st.just(ActorKind.PERSON),
    roles=st.dictionaries(st.sampled_from([*TEAMS, WHOLE_LAB]), roles),
    scopes=st.none() | st.frozensets(st.sampled_from(Scope)),
)
resources = st.builds(Resource, team=st.sampled_from([*TEAMS, None]), holder=st.sampled_from(["ada", "bob"]))
rules = st.builds(
    Rule,
    role=roles,
    scope=st.sampled_from(Scope),
    team=st.sampled_from(TeamOf),
    own=st.booleans(),
    reason=st.sampled_from(Reason),
)


def operations() -> Iterator[str]:
    for path, methods in openapi_document()["paths"].items():
        for method in methods:
            yield f"{method.upper()} {path}"


def test_every_rest_operation_has_an_entry() -> None:
    unlisted = set(operations()) - set(REST)
    assert not unlisted, f"add these to labd/model/access_table.py: {sorted(unlisted)}"


def test_every_operation_says_that_it_may_be_refused() -> None:
    for path, methods in openapi_document()["paths"].items():
        for method, operation in methods.items():
            rule = REST[f"{method.upper()} {path}"]
            refusals = {"429"} if rule.admits is Admits.PUBLIC else {"401", "403", "429"}
            assert refusals <= set(operation["responses"]), (method, path)
            reason = [one for one in operation.get("parameters", []) if one["name"] == "reason"]
            assert reason or rule.reason is Reason.NEVER, (method, path)


def test_every_operation_says_how_to_authenticate_and_what_it_takes() -> None:
    document = openapi_document()
    schemes = document["components"]["securitySchemes"]
    assert {one["type"] + " " + one["scheme"] for one in schemes.values()} == {"http bearer"}
    assert all(re.fullmatch(r"[a-zA-Z0-9._-]+", name) for name in schemes)
    used = set()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            rule, ways = REST[f"{method.upper()} {path}"], operation["security"]
            named = {name for way in ways for name in way}
            used |= named
            runner = rule.admits is Admits.RUNNER or rule.runner
            people = rule.admits in (Admits.MEMBER, Admits.SIGNED_IN)
            assert ("runToken" in named, {"apiToken", "providerToken"} <= named) == (runner, people), (method, path)
            assert bool(ways) is (rule.admits is not Admits.PUBLIC), (method, path)
            needs = operation["x-labd-access"]
            assert needs["who"] == rule.admits
            if rule.admits is Admits.MEMBER:
                assert (needs["role"], needs["in"], needs["scope"]) == (rule.role, rule.team, rule.scope)
                assert f"`{rule.role}`" in operation["description"]
    assert used == set(schemes), "a way that no operation takes"


def test_no_entry_is_left_over() -> None:
    known = {*operations(), "GET /api/v1/openapi.json", "GET /api/v1/docs"}
    assert not set(REST) - known


def test_every_grpc_method_of_both_doors_has_an_entry() -> None:
    offered = {
        f"/{service.full_name}/{method.name}"
        for service in (one.definition for one in OFFERED)
        for method in service.methods
    }
    assert (
        {method for method, rule in AGENT_GRPC.items() if rule.admits is not Admits.PUBLIC} == offered == set(GUARDED)
    )
    lab = lab_pb2.DESCRIPTOR.services_by_name["Lab"]
    assert {method for method, rule in LABD_GRPC.items() if rule.admits is not Admits.PUBLIC} == {
        f"/{lab.full_name}/{method.name}" for method in lab.methods
    }


def test_every_proto_is_offered_by_one_of_the_doors() -> None:
    defined = {
        f"{package}.{service}"
        for path in Path(lab_pb2.__file__).parent.glob("*.proto")
        for package in re.findall(r"^package ([\w.]+);", path.read_text(), re.MULTILINE)
        for service in re.findall(r"^service (\w+)", path.read_text(), re.MULTILINE)
    }
    assert defined <= {method.split("/")[1] for method in (*AGENT_GRPC, *LABD_GRPC)}


@pytest.mark.parametrize("operation", sorted(REST))
def test_the_guard_finds_the_entry_of_every_operation(operation: str) -> None:
    method, template = operation.split(" ")
    names = {name: name for name in ("lease_id", "run_id", "name", "team", "prefix")} | {
        "path": "a/b.lua",
        "holder": "github:acme/firmware",
        "member": "github:acme/firmware",
    }
    found = find(method, template.format(**names))
    assert found is not None
    listed, named = found
    assert listed == operation
    assert template.format(**named) == template.format(**names)


@given(rules, actors, resources)
def test_more_rights_never_lose_anything(rule: Rule, actor: Actor, resource: Resource) -> None:
    before = decide(rule, actor, resource)
    if before.outcome is not Outcome.ALLOWED:
        return
    for team, role in itertools.product([*TEAMS, WHOLE_LAB], Role):
        if team in actor.roles and actor.roles[team].rank >= role.rank:
            continue
        more = Actor(actor.name, actor.kind, {**actor.roles, team: role}, actor.scopes)
        assert decide(rule, more, resource).outcome is Outcome.ALLOWED
    unscoped = Actor(actor.name, actor.kind, actor.roles)
    assert decide(rule, unscoped, resource) == before


@given(rules, actors, resources)
def test_another_teams_things_do_not_exist(rule: Rule, actor: Actor, resource: Resource) -> None:
    if rule.team in (TeamOf.ANY, TeamOf.LAB) or resource.team is None or actor.may(Role.VIEWER, resource.team):
        return
    assert decide(rule, actor, resource) == decide(rule, actor, None) == Decision(Outcome.HIDDEN)


@given(rules, actors, resources)
def test_what_another_holds_takes_an_operator_with_the_scope(rule: Rule, actor: Actor, resource: Resource) -> None:
    decision = decide(rule, actor, resource)
    if decision.outcome is not Outcome.ALLOWED or not decision.forced:
        return
    assert resource.holder != actor.name
    assert actor.may(Role.OPERATOR, resource.team or WHOLE_LAB)
    assert actor.has_scope(Scope.OPERATE)
    assert decision.needs_reason == (rule.reason in (Reason.OTHERS, Reason.ALWAYS))


@given(rules, resources)
def test_nobody_gets_nothing_and_anonymous_everything(rule: Rule, resource: Resource) -> None:
    assert decide(rule, None, resource).outcome is Outcome.UNAUTHENTICATED
    allowed = decide(rule, ANONYMOUS, resource)
    assert (allowed.outcome, allowed.forced, allowed.needs_reason) == (Outcome.ALLOWED, False, False)


@given(actors, resources)
def test_people_are_no_runners_agents_or_holders(actor: Actor, resource: Resource) -> None:
    for admits in (Admits.RUNNER, Admits.AGENT, Admits.HOLDER, Admits.OBSERVER):
        assert decide(Rule(admits=admits), actor, resource).outcome is Outcome.FORBIDDEN


@given(rules, resources, st.sampled_from(["r-1", "r-2", None]))
def test_a_runner_gets_at_its_own_run_only(rule: Rule, resource: Resource, run_id: str | None) -> None:
    runner = Actor("run r-1", ActorKind.RUN, run_id="r-1")
    assert decide(rule, runner, resource).outcome is Outcome.FORBIDDEN
    own = Resource(resource.team, resource.holder, run_id)
    expected = Outcome.ALLOWED if run_id == "r-1" else Outcome.FORBIDDEN
    assert decide(Rule(admits=Admits.RUNNER, team=TeamOf.RUN), runner, own).outcome is expected
    assert decide(Rule(team=TeamOf.LEASE, runner=True), runner, own).outcome is expected
