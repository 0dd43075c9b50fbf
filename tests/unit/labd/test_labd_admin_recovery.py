"""An admin whose tokens are all lost gets in again, by a command on the machine of the database."""

import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fastapi.testclient import TestClient

from labd.daemon import main
from labd.model.identity import SYSTEM, WHOLE_LAB, ActorKind, Role
from labd.services.identities import TOKENS_MAX
from labd.services.lab import Lab
from labd.store.database import DATABASE_NAME
from tests.unit.labd.fakes import FakeClock, application, open_lab

LOST = "the admin's laptop was stolen"


@pytest.fixture
def lab(tmp_path: Path, clock: FakeClock, database: str | None) -> Lab:
    clock.time = time.time()  # what the command goes by
    return open_lab(tmp_path, clock, database=database, secure=True)


def recover(data: Path, database: str | None, *options: str, reason: str = LOST) -> Result:
    where = ["--data", str(data), *([] if database is None else ["--database", database])]
    return CliRunner().invoke(main, ["admin-token", *where, "--reason", reason, *options])


def test_a_lost_admin_gets_in_again_while_labd_serves(lab: Lab, tmp_path: Path, database: str | None) -> None:
    old = lab.identities.bootstrap(tmp_path)
    assert old is not None
    recovered = recover(tmp_path, database, "--revoke-others")
    assert recovered.exit_code == 0, recovered.output
    token = recovered.stdout.strip()
    with TestClient(application(lab), base_url="http://labd.test/api/v1/") as web:
        web.headers["Authorization"] = f"Bearer {token}"
        assert web.get("whoami").json()["roles"] == {"*": "admin"}
        assert web.get("whoami", headers={"Authorization": f"Bearer {old.read_text().strip()}"}).status_code == 401
        by_hand = [one for one in web.get("audit").json()["items"] if one["actor"] == "local operator"]
        assert {(one["action"], one["why"]) for one in by_hand} == {("token.created", LOST), ("token.revoked", LOST)}
        assert token not in str(by_hand)
        assert web.get("audit/verify").json()["sound"] is True
    lab.core.store.close()


def test_who_is_nobody_yet_or_no_admin_becomes_one(lab: Lab, tmp_path: Path, database: str | None) -> None:
    lab.identities.create_user(SYSTEM, "ada", ActorKind.PERSON)
    lab.identities.save_member(SYSTEM, WHOLE_LAB, "ada", Role.VIEWER)
    for name in ("ada", "grace"):
        assert recover(tmp_path, database, "--user", name).exit_code == 0
    assert lab.identities.members(WHOLE_LAB) == {"ada": Role.ADMIN, "grace": Role.ADMIN}
    lab.core.store.close()


def test_what_cannot_be_recovered_is_said_and_nothing_is_changed(
    lab: Lab, tmp_path: Path, database: str | None
) -> None:
    lab.identities.bootstrap(tmp_path)
    lab.identities.create_user(SYSTEM, "gone", ActorKind.PERSON)
    lab.identities.remove_user(SYSTEM, "gone", "left")
    for _ in range(TOKENS_MAX - 1):
        lab.identities.create_token(SYSTEM, "one of many", scopes=None, lifetime_s=3600, owner="admin")
    with lab.core.view() as unit:
        before = unit.audit_head()
    for options, reason, said in (
        (["--user", "gone"], LOST, "choose another with --user"),
        (["--user", "corp:ada"], LOST, "no name for a user"),
        ([], " ", "takes a reason"),
        ([], LOST, "revoke one first"),
    ):
        refused = recover(tmp_path, database, *options, reason=reason)
        assert (refused.exit_code, refused.stdout, said in refused.stderr) == (1, "", True), refused.stderr
    with lab.core.view() as unit:
        assert unit.audit_head() == before
    assert recover(tmp_path, database, "--revoke-others").exit_code == 0
    lab.core.store.close()


def test_no_database_is_made(tmp_path: Path) -> None:
    missing = recover(tmp_path, None)
    assert (missing.exit_code, "is --data right?" in missing.stderr) == (1, True)
    assert not (tmp_path / DATABASE_NAME).exists()
