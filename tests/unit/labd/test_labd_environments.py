from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from labd.model.environment import Environment
from labd.model.identity import ANONYMOUS, Actor, ActorKind, Role
from labd.services.errors import Forbidden
from labd.services.lab import Lab
from labd.services.rotation import rotate
from labd.services.signing import KeyUnusable
from labd.services.vault import KEY_FILE, SecretUnreadable, Vault
from labd.store.tables import metadata
from tests.unit.labd.fakes import RESULT, FakeClock, FakeExecutor, application, attach, open_lab, report, settle

PASSWORD = "correct horse battery"
RUN = {"script": "return 1", "holder": "ci", "environment": "staging"}
TIME = "2026-11-21T09:30:00.125Z"


@pytest.fixture
def web(lab: Lab) -> Iterator[TestClient]:
    attach(lab, report("bench-1"))
    with TestClient(application(lab), base_url="http://labd.test/api/v1/") as client:
        yield client


@pytest.fixture
def staging(web: TestClient) -> TestClient:
    web.put("secrets/db", json={"value": PASSWORD}).raise_for_status()
    wish = {"name": "staging", "variables": {"DB_HOST": "db.test"}, "secrets": {"DB_PASSWORD": "db"}}
    web.post("environments", json=wish).raise_for_status()
    return web


def _started(web: TestClient, lab: Lab, executor: FakeExecutor) -> tuple[str, dict[str, str]]:
    run_id = web.post("runs", json=RUN).json()["id"]
    settle(lab)
    return run_id, {"Authorization": f"Bearer {executor.jobs[-1].token}"}


def _line(text: str) -> dict[str, str]:
    return {"time": TIME, "level": "info", "text": text}


def _log(web: TestClient, run_id: str) -> str:
    return web.get(f"runs/{run_id}/log", params={"follow": False}).text


def _everything(lab: Lab) -> str:
    """All that the database holds."""
    with lab.core.store.database.engine.connect() as connection:
        return "\n".join(repr(row) for table in metadata.sorted_tables for row in connection.execute(table.select()))


def test_only_the_runner_of_the_run_gets_the_values(staging: TestClient, lab: Lab, executor: FakeExecutor) -> None:
    run_id, runner = _started(staging, lab, executor)
    assignment = staging.get(f"runs/{run_id}/assignment", headers=runner).json()
    assert assignment["environment"] == {"DB_HOST": "db.test", "DB_PASSWORD": PASSWORD}
    assert assignment["secrets"] == ["DB_PASSWORD"]
    for path in ("secrets", "environments", "environments/staging", f"runs/{run_id}", "audit", "runs"):
        assert PASSWORD not in staging.get(path).text
    given = staging.get("audit", params={"action": "environment.given"}).json()["items"]
    assert [(entry["subject"], entry["after"]["secrets"]) for entry in given] == [
        (f"run/{run_id}", {"DB_PASSWORD": "db"})
    ]
    assert PASSWORD not in _everything(lab)


def test_a_run_keeps_what_it_was_given(staging: TestClient, lab: Lab, executor: FakeExecutor) -> None:
    run_id, runner = _started(staging, lab, executor)
    first = staging.get(f"runs/{run_id}/assignment", headers=runner).json()
    staging.put("secrets/db", json={"value": "another one"})
    staging.delete("environments/staging")
    assert staging.get(f"runs/{run_id}/assignment", headers=runner).json()["environment"] == first["environment"]
    staging.post(f"runs/{run_id}/log", json={"first_seq": 1, "lines": [_line(PASSWORD)]}, headers=runner)
    assert PASSWORD not in _log(staging, run_id)


def test_secrets_are_masked_in_log_and_result(staging: TestClient, lab: Lab, executor: FakeExecutor) -> None:
    run_id, runner = _started(staging, lab, executor)
    staging.get(f"runs/{run_id}/assignment", headers=runner)
    encoded = b64encode(f"admin:{PASSWORD}".encode()).decode()
    texts = (f"login {PASSWORD}", f"Basic {encoded}", f"a {PASSWORD[:9]}", PASSWORD[9:] + " b", *PASSWORD, "end")
    for number, text in enumerate(texts, 1):
        body = {"first_seq": number, "lines": [_line(text)]}
        staging.post(f"runs/{run_id}/log", json=body, headers=runner).raise_for_status()
    document: dict[str, Any] = {**RESULT, "verdict": "failed", "reason": f"refused {PASSWORD}"}
    report_ = {"document": document, "junit": f"<x>{PASSWORD}</x>"}
    for _ in range(2):
        staging.put(f"runs/{run_id}/result", json=report_, headers=runner).raise_for_status()
    log = _log(staging, run_id)
    assert "login ***" in log
    assert "a ***" in log
    for hidden in (PASSWORD, encoded[-8:], PASSWORD[:9], PASSWORD[9:]):
        assert hidden not in log
    assert staging.get(f"runs/{run_id}").json()["reason"] == "refused ***"
    assert staging.get(f"runs/{run_id}/junit").text == "<x>***</x>"
    assert PASSWORD not in _everything(lab)


def test_why_a_runner_died_is_masked_too(staging: TestClient, lab: Lab, executor: FakeExecutor) -> None:
    run_id, runner = _started(staging, lab, executor)
    staging.get(f"runs/{run_id}/assignment", headers=runner)
    executor.die(run_id, f"killed: {PASSWORD}")
    settle(lab)
    assert staging.get(f"runs/{run_id}").json()["reason"] == "killed: ***"


def test_a_run_whose_environment_went_before_it_began_is_told(
    staging: TestClient, lab: Lab, executor: FakeExecutor
) -> None:
    run_id, runner = _started(staging, lab, executor)
    staging.delete("environments/staging")
    refused = staging.get(f"runs/{run_id}/assignment", headers=runner)
    assert (refused.status_code, "was removed before" in refused.json()["detail"]) == (409, True)


@pytest.mark.parametrize(
    ("path", "body", "field", "words"),
    [
        ("secrets/x", {"value": "abc"}, "value", "at least 4 characters"),
        ("secrets/x", {"value": "  a  "}, "value", "at least 4 characters"),
        ("secrets/x", {"value": "hidden-" * 4000}, "value", "at most"),
        ("secrets/x", {"value": {"hidden": 1}}, "value", "valid string"),
        ("secrets/x", {"value": "good enough", "hidden": 1}, "hidden", "no such field"),
        ("secrets/Bad Name", {"value": "good enough"}, "name", "lower-case"),
        ("environments/e", {"variables": {"1X": ""}}, "variables.1X", "not a digit first"),
        ("environments/e", {"secrets": {"X": "nothere"}}, "secrets.X", "no such secret; it has db"),
        ("environments/e", {"variables": {"X": ""}, "secrets": {"X": "db"}}, "secrets.X", "variable of this name"),
    ],
)
def test_what_cannot_be_is_refused_without_telling_a_value(
    staging: TestClient, path: str, body: dict[str, Any], field: str, words: str
) -> None:
    refused = staging.put(path, json=body)
    assert refused.status_code == 422
    (error,) = refused.json()["errors"]
    assert (error["field"], words in error["message"]) == (field, True), error
    if path.startswith("secrets"):
        assert error["value"] is None or field == "name"


def test_an_unknown_environment_is_refused_naming_those_there_are(staging: TestClient) -> None:
    refused = staging.post("runs", json={**RUN, "environment": "stagin"})
    assert refused.status_code == 422
    assert "it has staging" in refused.json()["errors"][0]["message"]
    assert staging.post("environments", json={"name": "staging"}).status_code == 409
    assert staging.delete("secrets/db").status_code == 409
    assert staging.delete("environments/staging").status_code == 204
    assert staging.delete("secrets/db").status_code == 204
    assert staging.delete("secrets/db").status_code == 404


def test_teams_keep_their_secrets_from_each_other(lab: Lab) -> None:
    chassis = Actor("ada", ActorKind.PERSON, {"chassis": Role.ENGINEER})
    viewer = Actor("eve", ActorKind.PERSON, {"chassis": Role.VIEWER, "body": Role.ENGINEER})
    lab.environments.set_secret(chassis, "chassis", "key", PASSWORD)
    lab.environments.put_environment(chassis, Environment("chassis", "staging", {}, {"KEY": "key"}))
    assert lab.environments.secrets(Actor("bob", ActorKind.PERSON, {"body": Role.ADMIN})) == []
    for act in (
        lambda: lab.environments.set_secret(viewer, "chassis", "key", PASSWORD),
        lambda: lab.environments.remove_secret(viewer, "chassis", "key"),
        lambda: lab.environments.put_environment(viewer, Environment("chassis", "staging")),
        lambda: lab.environments.remove_environment(viewer, "chassis", "staging"),
    ):
        with pytest.raises(Forbidden):
            act()
    with pytest.raises(Forbidden), lab.core.transaction(viewer) as ledger:
        lab.environments.promise(ledger, "r-1", "chassis", "staging")


# At rest


def test_a_sealed_value_opens_at_its_place_only(tmp_path: Path) -> None:
    vault = Vault(tmp_path / KEY_FILE)
    sealed = vault.seal(PASSWORD, "secret a/x")
    assert PASSWORD.encode() not in sealed
    assert sealed != vault.seal(PASSWORD, "secret a/x")
    assert Vault(tmp_path / KEY_FILE).open(sealed, "secret a/x") == PASSWORD
    with pytest.raises(SecretUnreadable, match="altered"):
        vault.open(sealed, "secret a/y")
    with pytest.raises(SecretUnreadable, match="altered"):
        vault.open(sealed[:-1] + bytes([sealed[-1] ^ 1]), "secret a/x")
    with pytest.raises(SecretUnreadable, match="does not hold"):
        Vault(tmp_path / "other").open(sealed, "secret a/x")
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "short", "not base 64!", b64encode(b"x" * 16).decode()])
def test_a_file_without_a_key_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / KEY_FILE).write_text(text)
    with pytest.raises(KeyUnusable, match="secrets key"):
        Vault(tmp_path / KEY_FILE)


def test_a_rotated_key_opens_everything_and_the_old_one_nothing(
    tmp_path: Path, clock: FakeClock, database: str | None
) -> None:
    executor = FakeExecutor()
    lab = open_lab(tmp_path, clock, executor, database=database)
    lab.environments.set_secret(ANONYMOUS, "default", "db", PASSWORD)
    lab.environments.put_environment(ANONYMOUS, Environment("default", "staging", {}, {"KEY": "db"}))
    attach(lab, report("bench-1"))
    with TestClient(application(lab), base_url="http://labd.test/api/v1/") as web:
        run_id, _ = _started(web, lab, executor)
    lab.environments.give(run_id)
    lab.core.store.close()
    old = (tmp_path / KEY_FILE).read_text()

    assert "2 values" in rotate(tmp_path, database, tmp_path / KEY_FILE)
    assert old.strip() not in (tmp_path / KEY_FILE).read_text()
    again = open_lab(tmp_path, clock, executor, database=database)
    assert again.environments.give(run_id).secrets == {"KEY": PASSWORD}
    with again.core.view() as unit:
        sealed = unit.sealed_secret("default", "db")
    assert sealed is not None
    (tmp_path / "old").write_text(old)
    with pytest.raises(SecretUnreadable):
        Vault(tmp_path / "old").open(sealed, "secret default/db")
    again.core.store.close()
