"""A lease goes only to who may have it, and ends when its holder loses the right to it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from labd.model.identity import ANONYMOUS, SYSTEM, WHOLE_LAB, Actor, ActorKind, Role, Scope
from labd.model.lease import Lease, LeaseEnd, LeaseState, Share, ShareMode
from labd.model.policy import TeamPolicy
from labd.model.run import RunState
from labd.services.errors import Conflict, Invalid, Unauthenticated
from labd.services.lab import Lab
from labd.services.ledger import UnshareOrder
from labd.services.sign_in import LoginView, Vouched
from tests.unit.labd.fakes import FakeClock, FakeExecutor, FakeLink, application, attach, open_lab, report, settle

ROLES = {
    "ada": {"blue": Role.ENGINEER},
    "mate": {"blue": Role.ENGINEER},
    "looker": {"blue": Role.VIEWER},
    "chief": {"blue": Role.OPERATOR, "red": Role.ENGINEER},
    "boss": {WHOLE_LAB: Role.OPERATOR},
    "rita": {"red": Role.ENGINEER},
}
DAY_S = 86400.0


class Corp:
    """An identity provider whose tokens are names, and that says of everybody what it is told to."""

    login: LoginView | None = None
    lifetime_s = 300.0

    def __init__(self) -> None:
        self.roles: dict[str, Role] = {"blue": Role.ENGINEER}
        self.scopes: frozenset[Scope] | None = None
        self.kind = ActorKind.PERSON

    def issued(self, issuer: str) -> bool:
        return True

    def vouch(self, token: str, now: float) -> Vouched:
        return Vouched("corp:eve", self.kind, self.roles, self.scopes, now + self.lifetime_s)


@pytest.fixture
def corp() -> Corp:
    return Corp()


@pytest.fixture
def lab(tmp_path: Path, clock: FakeClock, executor: FakeExecutor, database: str | None, corp: Corp) -> Iterator[Lab]:
    lab = open_lab(tmp_path, clock, executor, database=database, secure=True, providers=[corp])
    for team in ("blue", "red"):
        lab.identities.create_team(SYSTEM, team)
    for name, roles in ROLES.items():
        lab.identities.create_user(SYSTEM, name, ActorKind.PERSON)
        for team, role in roles.items():
            lab.identities.save_member(SYSTEM, team, name, role)
    yield lab
    lab.core.store.close()


@pytest.fixture
def link(lab: Lab) -> FakeLink:
    return attach(lab, report("blue-1", {"team": "blue"}), report("shared-1"), report("shared-2"))[1]


def by(name: str) -> Actor:
    return Actor(name, ActorKind.PERSON, ROLES[name])


def ask(lab: Lab, name: str = "ada", team: str = "blue", **changes: Any) -> Lease:
    wish: dict[str, Any] = {"holder": name, "duration_s": 600.0, "ttl_s": 3600.0, "selector": "name=shared-1"}
    return lab.leasing.create(by(name), **{**wish, "team": team, **changes}).lease


def refusal(lab: Lab, actor: str, lease: Lease, holder: str, team: str | None = None) -> tuple[str, Any, str]:
    """Field, value and message of a transfer that is refused; nothing has changed then."""
    with pytest.raises(Invalid) as caught:
        lab.holding.transfer(by(actor), lease.id, holder, team)
    now = lab.leasing.get(lease.id).lease
    assert (now.holder, now.team, now.epoch) == (lease.holder, lease.team, lease.epoch)
    (error,) = caught.value.errors
    return error.field, error.value, str(caught.value)


def sign_in(lab: Lab) -> None:
    assert lab.sign_in is not None
    lab.sign_in.authenticate("eyJhbGciOiJub25lIn0.eyJpc3MiOiJjb3JwIn0.e30")  # {"alg": "none"}, {"iss": "corp"}


@pytest.mark.parametrize(
    ("holder", "message"),
    [
        ("nobody", "holder 'nobody' is not in team 'blue'; there are"),
        ("maet", "is not in team 'blue'; did you mean 'mate'?"),
        ("looker", "holder 'looker' is 'viewer' in team 'blue': leasing takes the role 'engineer'"),
        ("rita", "holder 'rita' is not in team 'blue'"),
        ("corp:eve", "is not in team 'blue'; .* once they have signed in, for 30 days"),
    ],
)
@pytest.mark.usefixtures("link")
def test_a_lease_goes_to_nobody_who_could_not_have_it(lab: Lab, holder: str, message: str) -> None:
    lease = ask(lab)
    field, value, told = refusal(lab, "ada", lease, holder)
    assert (field, value) == ("holder", holder)
    with pytest.raises(Invalid, match=message):
        lab.holding.share(by("ada"), lease.id, Share(holder, ShareMode.CO_DRIVER))
    with pytest.raises(Invalid, match=message):
        lab.leasing.create(by("chief"), holder=holder, team="blue", duration_s=60.0, ttl_s=30.0)
    assert lab.leasing.get(lease.id).shares == ()
    assert told


@pytest.mark.usefixtures("link")
def test_who_may_only_look_may_look_on(lab: Lab) -> None:
    lease = ask(lab)
    assert lab.holding.share(by("ada"), lease.id, Share("looker", ShareMode.OBSERVER)).token
    with pytest.raises(Invalid, match="'rita' is not in team 'blue'"):
        lab.holding.share(by("ada"), lease.id, Share("rita", ShareMode.OBSERVER))
    assert lab.holding.share(by("ada"), lease.id, Share("boss", ShareMode.CO_DRIVER)).token, "he may in every team"


@pytest.mark.usefixtures("link")
def test_a_class_of_priority_asks_the_same_of_the_recipient(lab: Lab) -> None:
    lease = ask(lab, "chief", priority="urgent")
    field, _, told = refusal(lab, "chief", lease, "mate")
    assert field == "holder"
    assert "a lease of priority 'urgent' takes the role 'operator'" in told
    assert lab.holding.transfer(by("chief"), lease.id, "boss", None).lease.holder == "boss"


@pytest.mark.usefixtures("link")
def test_another_team_gets_only_what_is_open_to_it_and_within_its_rules(lab: Lab, clock: FakeClock) -> None:
    rules = (TeamPolicy("red", benches=1, longest_lease_s=1000.0),)
    lab.policing.replace(SYSTEM, replace(lab.policing.policy(), teams=rules))
    held = ask(lab, "chief", selector="name=blue-1")
    assert refusal(lab, "chief", held, "rita", "red")[0] == "team"
    waiting = ask(lab, "chief", selector="name=blue-1")
    field, _, told = refusal(lab, "chief", waiting, "rita", "red")
    assert (field, "this can never be granted" in told) == ("selector", True)
    booked = ask(lab, "chief", selector="name=blue-1", starts_at=clock.now() + 5000.0)
    assert refusal(lab, "chief", booked, "rita", "red")[2] == "team 'red': bench blue-1 is not open to this team"
    too_long = ask(lab, "chief", selector="name=shared-1", duration_s=2000.0)
    assert refusal(lab, "chief", too_long, "rita", "red")[0] == "duration_s"
    ask(lab, "rita", "red", selector="name=shared-2", starts_at=clock.now() + 5000.0)
    one_more = ask(lab, "chief", selector="name=shared-1", starts_at=clock.now() + 5000.0)
    with pytest.raises(Conflict, match="team red may have 1 benches at once"):
        lab.holding.transfer(by("chief"), one_more.id, "rita", "red")
    later = ask(lab, "chief", selector="name=shared-1", starts_at=clock.now() + 9000.0)
    assert lab.holding.transfer(by("chief"), later.id, "rita", "red").lease.team == "red"


@pytest.mark.usefixtures("link")
def test_a_team_that_is_not_there_gets_nothing(lab: Lab) -> None:
    lease = ask(lab, "boss", "blue")
    field, value, told = refusal(lab, "boss", lease, "boss", "blau")
    assert (field, value, "did you mean 'blue'" in told) == ("team", "blau", True)
    with pytest.raises(Invalid, match="there is no such team"):
        ask(lab, "boss", "blau")


@pytest.mark.usefixtures("link")
def test_whom_a_provider_vouches_for_is_known_once_they_have_signed_in(lab: Lab, clock: FakeClock, corp: Corp) -> None:
    lease = ask(lab)
    sign_in(lab)
    assert lab.holding.share(by("ada"), lease.id, Share("corp:eve", ShareMode.CO_DRIVER)).token
    assert lab.holding.transfer(by("ada"), lease.id, "corp:eve", None).lease.holder == "corp:eve"
    clock.advance(31 * DAY_S)
    another = ask(lab, selector="name=shared-2")
    assert refusal(lab, "ada", another, "corp:eve")[1] == "corp:eve"
    lab.identities.save_member(SYSTEM, "blue", "corp:eve", Role.ENGINEER)
    assert lab.holding.transfer(by("ada"), another.id, "corp:eve", None).lease.holder == "corp:eve"
    lab.identities.remove_member(SYSTEM, "blue", "corp:eve")
    corp.scopes, corp.kind = frozenset({Scope.READ, Scope.RUN}), ActorKind.PROGRAM
    clock.advance(1.0)
    sign_in(lab)
    third = ask(lab, selector="name=blue-1")
    assert (
        "signs in with the scopes read, run only: leasing takes the scope 'lease'"
        in refusal(lab, "ada", third, "corp:eve")[2]
    )


@pytest.mark.usefixtures("link")
def test_where_nobody_is_asked_who_they_are_every_name_will_do(lab: Lab) -> None:
    lease = lab.leasing.create(ANONYMOUS, holder="who", duration_s=60.0, ttl_s=60.0).lease
    assert lab.holding.transfer(ANONYMOUS, lease.id, "ever", "green").lease.holder == "ever"


def test_what_a_removed_user_had_ends_and_says_why(
    lab: Lab, link: FakeLink, clock: FakeClock, executor: FakeExecutor
) -> None:
    held = ask(lab)
    waiting = ask(lab)
    booked = ask(lab, selector="name=shared-2", starts_at=clock.now() + 5000.0)
    wish: dict[str, Any] = {
        "script": "return",
        "name": "x.lua",
        "files": {},
        "selector": "name=blue-1",
        "timeout_s": 60.0,
    }
    run = lab.running.create(by("ada"), holder="ada", team="blue", **wish).run
    others = ask(lab, "mate", selector="name=shared-2")
    lab.holding.share(by("mate"), others.id, Share("ada", ShareMode.CO_DRIVER))
    settle(lab)
    assert lab.running.get(run.id).run.state is RunState.RUNNING
    lab.identities.remove_user(by("boss"), "ada", "left the company")
    settle(lab)
    why = "ada was removed from the lab: left the company"
    for lease, state in ((held, LeaseState.ENDING), (waiting, LeaseState.ENDED), (booked, LeaseState.ENDED)):
        ended = lab.leasing.get(lease.id).lease
        assert (ended.state, ended.end_reason, ended.end_note) == (state, LeaseEnd.REVOKED, why)
    assert ("shared-1", held.epoch) in [(order.bench, order.epoch) for order in link.orders]
    ended_run = lab.running.get(run.id).run
    assert (ended_run.state, ended_run.reason) == (RunState.CANCELLED, why)
    assert executor.stopped == [run.id]
    assert lab.leasing.get(others.id).shares == ()
    assert UnshareOrder("shared-2", others.epoch or 0, "ada", 0) in link.unshares
    assert lab.leasing.get(others.id).lease.state.held


@pytest.mark.usefixtures("link")
def test_who_loses_a_role_keeps_what_the_others_give(lab: Lab) -> None:
    blue = ask(lab, "chief")
    red = ask(lab, "chief", "red", selector="name=shared-2")
    lab.identities.save_member(SYSTEM, "blue", "chief", Role.ENGINEER)
    assert lab.leasing.get(blue.id).lease.state.held, "an engineer may have it"
    lab.identities.save_member(SYSTEM, "blue", "chief", Role.VIEWER)
    ended = lab.leasing.get(blue.id).lease
    assert (ended.end_reason, ended.end_note) == (LeaseEnd.REVOKED, "chief is only viewer in team blue by now")
    assert lab.leasing.get(red.id).lease.state.held
    lab.identities.save_member(SYSTEM, WHOLE_LAB, "chief", Role.ENGINEER)
    lab.identities.remove_member(SYSTEM, "red", "chief")
    assert lab.leasing.get(red.id).lease.state.held, "an engineer of the whole lab may have it"
    lab.identities.remove_member(SYSTEM, WHOLE_LAB, "chief")
    assert lab.leasing.get(red.id).lease.end_note == "chief was taken out of the whole lab"


@pytest.mark.usefixtures("link")
def test_what_a_removed_team_had_ends(lab: Lab) -> None:
    blue, red = ask(lab), ask(lab, "rita", "red", selector="name=shared-2")
    lab.identities.remove_team(SYSTEM, "blue", "reorganised")
    ended = lab.leasing.get(blue.id).lease
    assert (ended.end_reason, ended.end_note) == (LeaseEnd.REVOKED, "team blue was removed: reorganised")
    assert lab.leasing.get(red.id).lease.state.held


@pytest.mark.usefixtures("link")
def test_who_signs_in_with_fewer_rights_loses_what_they_held(lab: Lab, clock: FakeClock, corp: Corp) -> None:
    sign_in(lab)
    lease = ask(lab)
    lab.holding.transfer(by("ada"), lease.id, "corp:eve", None)
    corp.roles = {"blue": Role.VIEWER}
    clock.advance(1.0)
    sign_in(lab)
    assert lab.leasing.get(lease.id).lease.end_note == "corp:eve has fewer rights by the identity provider"
    lab.identities.remove_user(SYSTEM, "corp:eve", "left")
    clock.advance(1.0)
    with pytest.raises(Unauthenticated):
        sign_in(lab)


@pytest.mark.usefixtures("link")
def test_a_revoked_token_ends_nothing_that_its_owner_has(lab: Lab) -> None:
    web = TestClient(application(lab), base_url="http://labd.test/api/v1/")
    tokens = [lab.identities.create_token(SYSTEM, "x", scopes=None, lifetime_s=600.0, owner="ada") for _ in range(2)]
    headers = [{"Authorization": f"Bearer {text}"} for _, text in tokens]
    lease = web.post("leases", json={"selector": "name=shared-1"}, headers=headers[0]).json()
    lab.identities.revoke_token(SYSTEM, tokens[0][0].prefix, "lost")
    assert web.post(f"leases/{lease['id']}/heartbeat", headers=headers[0]).status_code == 401
    assert web.post(f"leases/{lease['id']}/heartbeat", headers=headers[1]).json()["state"] == "ACTIVE"
