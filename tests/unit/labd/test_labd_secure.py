"""A labd that asks who people are: identities, tokens, every role against every route, tenancy."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from labd.api.app import create_app
from labd.api.guard import Guard
from labd.model.access import Outcome, Resource, TeamOf, decide
from labd.model.access_table import REST
from labd.model.identity import SYSTEM, WHOLE_LAB, Actor, ActorKind, Role, Scope
from labd.services.identities import ADMIN_TOKEN_FILE
from labd.services.lab import Lab
from labd.services.oidc import KEYS_LAST_S, LEEWAY_S, OidcProvider
from labd.services.providers import Grant, Oidc
from tests.fake_issuer import fake_issuer
from tests.unit.labd.fakes import FakeClock, FakeExecutor, application, attach, open_lab, report, settle

STREAMS = ("/log", "/events", "/backup")
NARROW = (frozenset({Scope.READ}), frozenset({Scope.LEASE, Scope.RUN}), frozenset({Scope.OPERATE}))
NAMES = {
    "name": "own-bench",
    "member": "own-bench",
    "holder": "bob",
    "team": "blue",
    "prefix": "0123456789",
    "path": "a/b.lua",
}


@pytest.fixture
def lab(tmp_path: Path, clock: FakeClock, executor: FakeExecutor, database: str | None) -> Iterator[Lab]:
    lab = open_lab(tmp_path, clock, executor, database=database, secure=True)
    attach(lab, report("shared"), report("own-bench", {"team": "blue"}))
    for team in ("blue", "red"):
        lab.identities.create_team(SYSTEM, team)
    yield lab
    lab.core.store.close()


@pytest.fixture
def app(lab: Lab) -> FastAPI:
    return application(lab)


@pytest.fixture
def web(app: FastAPI) -> Iterator[TestClient]:
    with client(app, None) as web:
        yield web


def token_of(
    lab: Lab, name: str, roles: Mapping[str, Role], scopes: frozenset[Scope] | None = None, lifetime_s: float = 3600
) -> str:
    lab.identities.create_user(SYSTEM, name, ActorKind.PERSON)
    for team, role in roles.items():
        lab.identities.save_member(SYSTEM, team, name, role)
    _, text = lab.identities.create_token(SYSTEM, "test", scopes=scopes, lifetime_s=lifetime_s, owner=name)
    return text


def client(app: FastAPI, token: str | None) -> TestClient:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return TestClient(app, base_url="http://labd.test/api/v1/", headers=headers, raise_server_exceptions=False)


def test_without_a_token_there_is_a_401_and_a_hint(app: FastAPI) -> None:
    for token in (None, "labd_0123456789_" + "0" * 64, "rubbish", "a.b.c"):
        answer = client(app, token).get("benches")
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.headers["content-type"] == "application/problem+json"
    basic = client(app, None).get("benches", headers={"Authorization": "Basic YTpi"})
    assert (basic.status_code, basic.json()["detail"]) == (401, "the header Authorization has to be: Bearer TOKEN")


def test_a_route_without_an_entry_is_closed_to_everybody(lab: Lab) -> None:
    app = create_app(lab)  # of its own: the other tests' applications share their routes
    for path in ("/api/v1/forgotten", "/api/v1/environments/forgotten", "/api/v1/leases/forgotten"):
        app.add_api_route(path, lambda: "open to all")
        app.router.routes.insert(0, app.router.routes.pop())
    admin = client(app, token_of(lab, "root", {WHOLE_LAB: Role.ADMIN}))
    answer = admin.get("forgotten")
    assert (answer.status_code, "authorisation table" in answer.json()["detail"]) == (403, True), answer.text
    for listed in ("environments/forgotten", "leases/forgotten"):  # the route that the table names answers
        assert admin.get(listed).status_code == 404
    assert client(app, None).get("environments/forgotten").status_code == 401


def test_health_version_keys_and_login_are_public(app: FastAPI) -> None:
    web = client(app, None)
    assert web.get("healthz").status_code == web.get("version").status_code == 200
    assert web.get("http://labd.test/.well-known/jwks.json").status_code == 200
    assert web.get("login").json() == {"insecure": False, "providers": []}


def test_the_first_start_leaves_a_token_for_an_admin(lab: Lab, app: FastAPI, tmp_path: Path) -> None:
    path = lab.identities.bootstrap(tmp_path)
    assert path == tmp_path / ADMIN_TOKEN_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    who = client(app, path.read_text().strip()).get("whoami").json()
    assert who == {"name": "admin", "kind": "person", "roles": {"*": "admin"}, "scopes": None}
    assert lab.identities.bootstrap(tmp_path) is None


def test_an_admin_lets_people_in(lab: Lab, app: FastAPI) -> None:
    admin = client(app, token_of(lab, "root", {WHOLE_LAB: Role.ADMIN}))
    assert admin.post("users", json={"name": "ada"}).status_code == 201
    assert admin.put("teams/blue/members/ada", json={"role": "engineer"}).status_code == 200
    made = admin.post("tokens", json={"name": "laptop", "owner": "ada", "scopes": ["read", "lease"]}).json()
    ada = client(app, made["token"])
    assert ada.get("whoami").json()["roles"] == {"blue": "engineer"}
    assert ada.get("whoami").json()["scopes"] == ["lease", "read"]
    assert [one["name"] for one in ada.get("teams").json()["items"]] == ["blue"]
    assert "token" not in ada.get("tokens").json()["items"][0]
    assert ada.get("tokens").json()["items"][0]["last_used_at"] is not None
    assert ada.get("tokens", params={"all": True}).status_code == 403
    wider = ada.post("tokens", json={"name": "wider"})
    assert (wider.status_code, "more than itself" in wider.json()["detail"]) == (403, True)
    unexplained = admin.delete(f"tokens/{made['prefix']}")
    assert (unexplained.status_code, unexplained.json()["errors"][0]["field"]) == (422, "reason")
    assert ada.get("whoami").status_code == 200
    assert admin.delete(f"tokens/{made['prefix']}", params={"reason": "laptop lost"}).status_code == 200
    assert ada.get("whoami").status_code == 401
    (entry,) = admin.get("audit", params={"action": "token.revoked"}).json()["items"]
    assert (entry["actor"], entry["why"]) == ("root", "laptop lost")


def test_tokens_expire(lab: Lab, app: FastAPI, clock: FakeClock) -> None:
    ada = client(app, token_of(lab, "ada", {"blue": Role.VIEWER}, lifetime_s=60))
    assert ada.get("benches").status_code == 200
    clock.advance(61)
    answer = ada.get("benches")
    assert (answer.status_code, "has expired" in answer.json()["detail"]) == (401, True)


def test_a_removed_user_is_out_at_once_and_for_good(lab: Lab, app: FastAPI) -> None:
    admin = client(app, token_of(lab, "root", {WHOLE_LAB: Role.ADMIN}))
    ada = client(app, token_of(lab, "ada", {"blue": Role.ENGINEER}))
    assert ada.get("benches").status_code == 200
    assert admin.delete("users/ada", params={"reason": "left"}).status_code == 204
    assert ada.get("benches").status_code == 401
    assert admin.post("users", json={"name": "ada"}).status_code == 409
    assert admin.get("teams/blue/members").json()["items"] == []


def test_the_last_admin_of_the_lab_stays(lab: Lab, app: FastAPI) -> None:
    admin = client(app, token_of(lab, "root", {WHOLE_LAB: Role.ADMIN}))
    assert admin.delete("users/root", params={"reason": "oops"}).status_code == 409
    assert admin.put("teams/*/members/root", json={"role": "viewer"}).status_code == 409
    assert admin.delete("teams/*/members/root").status_code == 409


def test_an_admin_of_a_team_is_none_of_the_lab(lab: Lab, app: FastAPI) -> None:
    token_of(lab, "ada", {})
    chief = client(app, token_of(lab, "chief", {"blue": Role.ADMIN}))
    assert chief.put("teams/blue/members/ada", json={"role": "viewer"}).status_code == 200
    assert chief.put("teams/red/members/ada", json={"role": "viewer"}).status_code == 404
    assert chief.put("teams/*/members/chief", json={"role": "admin"}).status_code == 404
    assert chief.post("users", json={"name": "eve"}).status_code == 403


@pytest.mark.parametrize("database", [None])
def test_every_role_and_scope_against_every_route(lab: Lab, app: FastAPI, web: TestClient, clock: FakeClock) -> None:
    holder = client(app, token_of(lab, "holder", {"blue": Role.ENGINEER, "default": Role.ENGINEER}))
    lease = holder.post("leases", json={"selector": "name=own-bench", "ttl_s": 3600, "team": "blue"}).json()["id"]
    run = holder.post("runs", json={"script": "return 1", "selector": "name=shared"}).json()["id"]
    settle(lab)
    names = {**NAMES, "lease_id": lease, "run_id": run}
    people: list[tuple[Actor | None, str | None]] = [(None, None)]
    for team in ("blue", "red", "default", WHOLE_LAB):
        for role in Role:
            for scopes in (None, *NARROW) if role is Role.ADMIN and team in ("blue", WHOLE_LAB) else (None,):
                name = f"u{len(people)}"
                text = token_of(lab, name, {team: role}, scopes)
                people.append((Actor(name, ActorKind.PERSON, {team: role}, scopes), text))
    with lab.core.view() as unit:
        found = {TeamOf.LEASE: unit.lease_resource(lease), TeamOf.RUN: unit.run_resource(run)}
    resources: dict[TeamOf, Resource | None] = {**found, TeamOf.BENCH: Resource("blue"), TeamOf.PATH: Resource("blue")}
    checked = 0
    for operation, rule in REST.items():
        method, template = operation.split(" ")
        clock.advance(4)  # who comes without a token is let ask so many times only
        # These end what the others need, or never end.
        refusals_only = method == "DELETE" or template.endswith(("/cancel", "/result", *STREAMS))
        for actor, secret in people:
            outcome = decide(rule, actor, resources.get(rule.team)).outcome
            if outcome is Outcome.ALLOWED and refusals_only:
                continue
            answer = _ask(web, secret, method, template.format(**names))
            _agrees(answer, outcome, f"{operation} as {actor}")
            checked += 1
    assert checked > 700


def _ask(web: TestClient, token: str | None, method: str, path: str) -> httpx2.Response:
    # Without a body where one is needed: the answer of who is let in is then 422, and nothing happens.
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    answer: httpx2.Response = web.request(method, f"http://labd.test{path}", headers=headers)
    return answer


def _agrees(answer: httpx2.Response, outcome: Outcome, what: str) -> None:
    refused = {Outcome.UNAUTHENTICATED: 401, Outcome.FORBIDDEN: 403, Outcome.HIDDEN: 404}
    if outcome is Outcome.ALLOWED:
        assert answer.status_code not in (401, 403), f"{what}: {answer.text}"
        assert answer.status_code < 500, f"{what}: {answer.text}"
    else:
        assert answer.status_code == refused[outcome], f"{what}: {answer.text}"


def test_teams_see_their_own(lab: Lab, app: FastAPI) -> None:
    ada = client(app, token_of(lab, "ada", {"blue": Role.ENGINEER}))
    bob = client(app, token_of(lab, "bob", {"red": Role.ENGINEER}))
    lease = ada.post("leases", json={"selector": "name=shared"}).json()
    assert (lease["team"], lease["holder"]) == ("blue", "ada")
    run = ada.post("runs", json={"script": "return 1", "selector": "name=own-bench"}).json()
    for path in (f"leases/{lease['id']}", f"runs/{run['id']}", f"runs/{run['id']}/log", "benches/own-bench"):
        assert bob.get(path).status_code == 404, path
        assert ada.get(path, params={"follow": False}).status_code == 200, path
    assert bob.get("leases").json()["items"] == bob.get("runs").json()["items"] == []
    assert {one["id"] for one in ada.get("leases").json()["items"]} == {lease["id"], run["lease_id"]}
    assert [one["name"] for one in bob.get("benches").json()["items"]] == ["shared"]
    seen = bob.get("benches/shared").json()
    assert (seen["state"], seen["holder"], seen["lease_id"]) == ("leased", None, None)
    assert ada.get("benches/shared").json()["holder"] == "ada"
    assert bob.post("leases", json={"team": "blue"}).status_code == 403
    never = bob.post("leases", json={"selector": "name=own-bench"})
    assert (never.status_code, "own-bench" in never.json()["detail"].replace("name=own-bench", "")) == (422, False)


def test_environments_go_to_the_team_that_one_belongs_to(lab: Lab, app: FastAPI) -> None:
    ada = client(app, token_of(lab, "ada", {"red": Role.VIEWER, "blue": Role.ENGINEER}))
    eve = client(app, token_of(lab, "eve", {"blue": Role.VIEWER}))
    assert ada.put("secrets/db", json={"value": "correct horse"}).json()["team"] == "blue"
    kept = ada.post("environments", json={"name": "staging", "variables": {"HOST": "a"}, "secrets": {"PASS": "db"}})
    assert (kept.status_code, kept.json()["team"]) == (201, "blue")
    assert ada.put("environments/staging", json={"variables": {"HOST": "b"}}).json()["team"] == "blue"
    for reader in (ada, eve):
        assert reader.get("environments/staging").json()["variables"] == {"HOST": "b"}
    assert eve.put("environments/staging", json={}).status_code == 403
    assert ada.put("environments/staging", params={"team": "red"}, json={}).status_code == 403
    assert ada.delete("environments/staging").status_code == ada.delete("secrets/db").status_code == 204


def test_a_bench_of_another_team_is_not_handed_out(lab: Lab, app: FastAPI) -> None:
    ada = client(app, token_of(lab, "ada", {"blue": Role.ENGINEER}))
    bob = client(app, token_of(lab, "bob", {"red": Role.ENGINEER}))
    assert ada.post("leases", json={"selector": "name=shared"}).json()["state"] == "GRANTED"
    waiting = bob.post("leases", json={}).json()
    assert (waiting["state"], waiting["bench"]) == ("QUEUED", None)
    assert ada.post("leases", json={}).json()["bench"] == "own-bench"


def test_who_holds_a_lease_sees_its_token_and_nobody_else(lab: Lab, app: FastAPI) -> None:
    ada = client(app, token_of(lab, "ada", {"blue": Role.ENGINEER}))
    mate = client(app, token_of(lab, "mate", {"blue": Role.ENGINEER}))
    chief = client(app, token_of(lab, "chief", {WHOLE_LAB: Role.ADMIN}))
    lease = ada.post("leases", json={"selector": "name=shared"}).json()
    assert lease["token"] and lease["benches"][0]["token"]
    assert ada.get(f"leases/{lease['id']}").json()["token"] == lease["token"]
    for other in (mate, chief):
        seen = other.get(f"leases/{lease['id']}").json()
        assert (seen["id"], seen["token"], seen["benches"][0]["token"]) == (lease["id"], None, None)
    assert mate.post(f"leases/{lease['id']}/heartbeat").status_code == 403


def test_an_operator_ends_what_another_holds_and_says_why(lab: Lab, app: FastAPI, executor: FakeExecutor) -> None:
    ada = client(app, token_of(lab, "ada", {"blue": Role.ENGINEER}))
    chief = client(app, token_of(lab, "chief", {"blue": Role.OPERATOR}))
    boss = client(app, token_of(lab, "boss", {WHOLE_LAB: Role.ADMIN}))
    lease = ada.post("leases", json={"selector": "name=shared"}).json()
    run = ada.post("runs", json={"script": "return 1", "selector": "name=own-bench"}).json()
    for method, path in (("DELETE", f"leases/{lease['id']}"), ("POST", f"runs/{run['id']}/cancel")):
        unexplained = chief.request(method, path)
        assert (unexplained.status_code, unexplained.json()["errors"][0]["field"]) == (422, "reason")
    ended = chief.delete(f"leases/{lease['id']}", params={"reason": "the bench smokes"}).json()
    assert (ended["end_reason"], ended["end_note"]) == ("revoked", "chief: the bench smokes")
    cancelled = chief.post(f"runs/{run['id']}/cancel", params={"reason": "wrong firmware"}).json()
    assert (cancelled["state"], cancelled["reason"]) == ("CANCELLED", "cancelled by chief: wrong firmware")
    whys = {entry["action"]: entry["why"] for entry in boss.get("audit").json()["items"]}
    assert (whys["lease.forced"], whys["run.cancelled"]) == ("the bench smokes", "wrong firmware")
    own = ada.post("leases", json={"selector": "name=shared"}).json()
    assert ada.delete(f"leases/{own['id']}").status_code == 200, "nobody says why for their own"


def test_asking_for_another_takes_an_operator(lab: Lab, app: FastAPI) -> None:
    ada = client(app, token_of(lab, "ada", {"blue": Role.ENGINEER}))
    chief = client(app, token_of(lab, "chief", {"blue": Role.OPERATOR}))
    refused = ada.post("leases", json={"holder": "bob"})
    assert (refused.status_code, "operator" in refused.json()["detail"]) == (403, True)
    granted = chief.post("leases", json={"holder": "ada", "team": "blue"}).json()
    assert (granted["holder"], granted["token"]) == ("ada", None)
    assert ada.get(f"leases/{granted['id']}").json()["token"]


def test_a_runner_works_with_its_runs_token(lab: Lab, app: FastAPI, executor: FakeExecutor) -> None:
    ada = client(app, token_of(lab, "ada", {"blue": Role.ENGINEER}))
    run = ada.post("runs", json={"script": "return 1", "selector": "name=shared"}).json()
    other = ada.post("leases", json={"selector": "name=own-bench"}).json()
    settle(lab)
    runner = client(app, executor.jobs[-1].token)
    assert runner.get(f"runs/{run['id']}/assignment").json()["run_id"] == run["id"]
    assert runner.post(f"leases/{run['lease_id']}/heartbeat").json()["token"]
    assert runner.post(f"leases/{other['id']}/heartbeat").status_code in (401, 403)
    assert runner.get("benches").status_code == 401
    assert ada.get(f"runs/{run['id']}/assignment").status_code == 403
    assert client(app, None).get(f"runs/{run['id']}/assignment").status_code == 401


def test_who_asks_too_often_is_told_when_to_come_back(lab: Lab, app: FastAPI, clock: FakeClock) -> None:
    ada, bob = (client(app, token_of(lab, name, {"blue": Role.VIEWER})) for name in ("ada", "bob"))
    with ada, bob:
        answers = [ada.get("whoami") for _ in range(405)]
        assert [one.status_code for one in answers[:400]] == [200] * 400
        assert (answers[-1].status_code, answers[-1].headers["retry-after"]) == (429, "1")
        assert answers[-1].headers["content-type"] == "application/problem+json"
        assert bob.get("whoami").status_code == 200
        clock.advance(1)
        assert ada.get("whoami").status_code == 200


def is_cut(
    app: FastAPI,
    token: str,
    by: Callable[[], object],
    not_by: Callable[[], object] = lambda: None,
    request: str = "GET /api/v1/leases/events",
) -> bool:
    """Whether a stream of the token's is cut by what ``by`` does, and not by what ``not_by`` does before."""
    method, _, url = request.partition(" ")
    path, _, query = url.partition("?")
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(b"authorization", f"Bearer {token}".encode())],
        "query_string": query.encode(),
        "client": ("192.0.2.1", 1),
        "app": app,
    }
    cut = False

    async def follow() -> None:
        streaming = asyncio.Event()

        async def endless(*_: object) -> None:
            nonlocal cut
            streaming.set()
            try:
                await asyncio.Event().wait()
            finally:
                cut = True

        async def nothing(*_: Any) -> Any:
            raise AssertionError("neither side says anything")

        open_stream = asyncio.create_task(Guard(endless, look_again_s=0.05)(scope, nothing, nothing))
        await streaming.wait()
        await asyncio.to_thread(not_by)
        done, _ = await asyncio.wait({open_stream}, timeout=0.3)
        assert not done
        await asyncio.to_thread(by)
        await asyncio.wait_for(open_stream, 20)

    asyncio.run(follow())
    return cut


@pytest.mark.parametrize("request_line", ["GET /api/v1/leases/events", "POST /api/v1/leases?wait=60"])
def test_revoking_a_token_cuts_its_open_streams_and_waits(lab: Lab, app: FastAPI, request_line: str) -> None:
    root = token_of(lab, "root", {WHOLE_LAB: Role.ADMIN})
    token = token_of(lab, "ada", {"blue": Role.ENGINEER})
    (known,) = [one for one in lab.identities.tokens(SYSTEM, everybody=True) if one.owner == "ada"]
    assert is_cut(app, token, by=lambda: lab.identities.revoke_token(SYSTEM, known.prefix), request=request_line)
    assert client(app, root).get("whoami").status_code == 200


def test_a_stream_does_not_outlive_the_rights_it_was_opened_with(lab: Lab, app: FastAPI) -> None:
    token = token_of(lab, "ada", {"blue": Role.VIEWER, "red": Role.VIEWER})
    assert is_cut(
        app,
        token,
        not_by=lambda: lab.identities.save_member(SYSTEM, "red", "ada", Role.VIEWER),
        by=lambda: lab.identities.remove_member(SYSTEM, "red", "ada"),
    )


@pytest.mark.parametrize("database", [None])
def test_streams_of_a_providers_people_are_cut_too(tmp_path: Path, clock: FakeClock, database: None) -> None:
    with fake_issuer() as issuer:
        grants = (Grant(claims={"groups": "hil"}, team="default", role=Role.VIEWER),)
        settings = Oidc(name="corp", issuer=issuer.url, client_id="labd", grants=grants)
        provider = OidcProvider(settings)
        lab = open_lab(tmp_path, clock, secure=True, providers=[provider])
        app = application(lab)

        def token(name: str, lifetime_s: float = 300) -> str:
            return issuer.token(now=clock.now(), lifetime_s=lifetime_s, aud="labd", sub=name, groups=["hil"])

        def providers_keys_are_away() -> None:
            issuer.broken = True
            clock.advance(KEYS_LAST_S + 1)

        eternal = token("x/eve", 1e6)
        assert is_cut(
            app,
            eternal,
            not_by=providers_keys_are_away,
            by=lambda: lab.identities.remove_user(SYSTEM, "corp:x/eve", "left the company"),
        )
        issuer.broken = False
        with client(app, None) as web:
            web.headers["Authorization"] = f"Bearer {eternal}"
            refused = web.get("whoami")
            assert (refused.status_code, "was removed from this lab" in refused.json()["detail"]) == (401, True)
            admin = client(app, token_of(lab, "root", {WHOLE_LAB: Role.ADMIN}))
            assert admin.post("users", json={"name": "corp:x/eve"}).status_code == 201
            assert web.get("whoami").status_code == 200
            assert admin.delete("users/corp:x%2Feve", params={"reason": "again"}).status_code == 204
            assert web.get("whoami").status_code == 401
            assert admin.post("users", json={"name": "corp:ada"}).status_code == 422
            assert admin.delete("users/:ada", params={"reason": "who?"}).status_code == 422
        expires = token("ada")
        assert is_cut(app, expires, not_by=lambda: clock.advance(300), by=lambda: clock.advance(LEEWAY_S + 1))
        lab.core.store.close()


def test_operators_read_what_was_done_to_their_teams_things(lab: Lab, app: FastAPI) -> None:
    ada = client(app, token_of(lab, "ada", {"blue": Role.ENGINEER}))
    bob = client(app, token_of(lab, "bob", {"red": Role.ENGINEER}))
    of_blue = client(app, token_of(lab, "chief", {"blue": Role.OPERATOR, "red": Role.VIEWER}))
    of_lab = client(app, token_of(lab, "boss", {WHOLE_LAB: Role.OPERATOR}))
    narrow = client(app, token_of(lab, "narrow", {"blue": Role.OPERATOR}, frozenset({Scope.READ})))
    own = ada.post("leases", json={"selector": "name=own-bench"}).json()["id"]
    run = ada.post("runs", json={"script": "return 1", "selector": "name=own-bench"}).json()["id"]
    other = bob.post("leases", json={"selector": "name=shared"}).json()["id"]
    of_blue.delete(f"leases/{own}", params={"reason": "the bench smokes"}).raise_for_status()
    of_blue.put("benches/own-bench/drain", params={"reason": "it smokes"}).raise_for_status()
    ada.post(f"runs/{run}/cancel").raise_for_status()

    def read(web: TestClient, **wanted: str) -> list[tuple[str, str]]:
        found = web.get("audit", params={"limit": 500, **wanted}).raise_for_status().json()["items"]
        return [(one["action"], one["subject"]) for one in found]

    everything, mine = read(of_lab), read(of_blue)
    assert ("lease.queued", f"lease/{other}") in everything
    assert {team for _, team in mine if team.startswith("team/")} == {"team/blue"}
    assert not [one for one in mine if other in one[1]]
    for entry in (
        ("lease.queued", f"lease/{own}"),
        ("lease.forced", f"lease/{own}"),
        ("run.created", f"run/{run}"),
        ("run.cancelled", f"run/{run}"),
        ("run.ended", f"run/{run}"),
        ("bench.drained", "bench/own-bench"),
        ("member.saved", "team/blue"),
    ):
        assert entry in mine, entry
    assert read(of_blue, team="red") == []
    assert read(of_blue, subject=f"lease/{other}") == []
    for web, path in ((ada, "audit"), (narrow, "audit"), (of_blue, "audit/verify")):
        assert web.get(path).status_code == 403, path
    assert of_lab.get("audit/verify").json()["sound"] is True
