import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from labd.backup_file import MANIFEST, BackupDamaged, BackupFile, BackupWriter
from labd.model.bench import epoch_floor
from labd.model.environment import Environment
from labd.model.identity import ANONYMOUS
from labd.model.lease import LeaseEnd, LeaseState
from labd.model.run import RunState
from labd.services.attachment import Session
from labd.services.errors import Invalid
from labd.services.lab import Lab
from labd.services.ledger import FenceOrder
from labd.services.restoring import restore
from labd.services.signing import KEY_NAME
from labd.services.vault import KEY_FILE
from labd.store.database import DATABASE_NAME
from labd.store.errors import DatabaseNewer, DatabaseNotEmpty
from tests.postgresql import PostgresServer
from tests.unit.labd.fakes import (
    EPOCH,
    FakeClock,
    FakeExecutor,
    FakeLink,
    application,
    attach,
    open_lab,
    report,
    settle,
)

PASSPHRASE = "twelve characters"


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """Where the backup is restored to: None is SQLite."""
    if request.param == "sqlite":
        yield None
        return
    server: PostgresServer = request.getfixturevalue("postgresql")
    url = server.new_database()
    yield url
    server.drop(url)


def _lively(lab: Lab) -> tuple[str, str, str]:
    """A lab with a bit of everything; returns its granted lease, its running run and its waiting lease."""
    attach(lab, report("bench-1", {"platform": "meb"}), report("bench-2", {"platform": "mqb"}))
    lab.environments.set_secret(ANONYMOUS, "default", "db", "correct horse")
    lab.environments.put_environment(ANONYMOUS, Environment("default", "staging", {"A": "b"}, {"DB": "db"}))
    with TestClient(application(lab), base_url="http://labd.test/api/v1/") as web:
        lease = web.post("leases", json={"holder": "ada", "selector": "name=bench-1"}).json()["id"]
        wish = {"script": "return 1", "holder": "ci", "selector": "name=bench-2", "data_files": {"a.bin": "AAEC/w=="}}
        run = web.post("runs", json=wish).json()["id"]
        waiting = web.post("leases", json={"holder": "bob", "selector": "name=bench-1"}).json()["id"]
    settle(lab)
    return lease, run, waiting


def _backup(lab: Lab, path: Path, passphrase: str | None = None) -> Path:
    with lab.backups.make(ANONYMOUS, passphrase) as made:
        path.write_bytes(made.read())
    return path


def test_a_backup_is_restored_into_either_database(
    tmp_path: Path, clock: FakeClock, lab: Lab, target: str | None
) -> None:
    lease, run, waiting = _lively(lab)
    backup = _backup(lab, tmp_path / "backup.zip", PASSPHRASE)
    audited = lab.auditing.verify()
    new = tmp_path / "new"
    said = restore(backup, new, target, passphrase=PASSPHRASE, now=lambda: EPOCH + 60)
    assert any("2 live leases ended (restored), 1 wait" in line for line in said)

    again = open_lab(new, clock, FakeExecutor(), database=target)
    with again.core.view() as unit:
        ended, queued, failed = unit.lease(lease), unit.lease(waiting), unit.run(run)
        assert unit.data_file(run, "a.bin") == b"\x00\x01\x02\xff"
        assert {bench.epoch for bench in unit.benches()} == {epoch_floor(EPOCH + 60)}
        entries = list(unit.audit_entries())
    assert ended is not None
    assert queued is not None
    assert failed is not None
    assert (ended.state.over, ended.end_reason) == (True, LeaseEnd.RESTORED)
    assert queued.state is LeaseState.QUEUED
    assert (failed.state, failed.reason) == (RunState.ERROR, "labd was restored from a backup")
    since = [entry.deed.action for entry in entries if entry.seq > (audited.head.seq if audited.head else 0)]
    assert since == ["lease.ending", "lease.ending", "run.ended", "backup.restored"], "each once"
    assert again.auditing.verify(audited.head).fault is None
    with TestClient(application(again), base_url="http://labd.test/api/v1/") as web:
        new_run = web.post("runs", json={"script": "return 1", "holder": "ci", "environment": "staging"}).json()["id"]
    assert again.environments.give(new_run).secrets == {"DB": "correct horse"}
    assert (new / KEY_NAME).read_bytes() == (tmp_path / KEY_NAME).read_bytes()
    assert (new / KEY_FILE).stat().st_mode & 0o777 == 0o600
    again.core.store.close()


def test_an_agent_that_has_moved_on_ends_what_it_serves_before_its_bench_is_handed_out(
    tmp_path: Path, clock: FakeClock, lab: Lab
) -> None:
    _, _, waiting = _lively(lab)
    backup = _backup(lab, tmp_path / "backup.zip")
    new = tmp_path / "new"
    restore(backup, new, None, now=lambda: EPOCH + 60)
    again = open_lab(new, clock, FakeExecutor())
    again.core.forgive()
    # Since the backup the agent has served leases of epochs that labd knows nothing of any more: it serves the sixth.
    session, orders = _attached(again, fenced=5, active=6)
    assert [order.epoch for order in orders] == [epoch_floor(EPOCH + 60)], "all that it serves has to end"
    with again.core.view() as unit:
        still = unit.lease(waiting)
        assert still is not None
        assert still.state is LeaseState.QUEUED, "nobody gets the bench before the agent has confirmed"
    again.hearing.fenced(session, "bench-1", orders[0].epoch)
    with again.core.view() as unit:
        granted = unit.lease(waiting)
        assert granted is not None
        assert [part.epoch for part in granted.benches] == [epoch_floor(EPOCH + 60) + 1]
    again.core.store.close()


def _attached(lab: Lab, *, fenced: int, active: int) -> tuple[Session, list[FenceOrder]]:
    """An agent that has not done yet what Welcome asks of it."""
    seen = replace(report("bench-1", {"platform": "meb"}, fenced=fenced), active_epoch=active)
    return lab.hearing.attach("agent-1", "agent-1.test:8472", [seen], FakeLink())


def test_a_bench_that_only_a_lost_database_knew_is_fenced_first(lab: Lab) -> None:
    session, orders = _attached(lab, fenced=5, active=6)
    assert [order.epoch for order in orders] == [7]
    lab.hearing.fenced(session, "bench-1", 7)
    lease = lab.leasing.create(ANONYMOUS, selector="", holder="ada", duration_s=60, ttl_s=30).lease
    assert [part.epoch for part in lease.benches] == [8]


# What is refused


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    lab = open_lab(tmp_path, FakeClock())
    _backup(lab, tmp_path / "backup.zip", PASSPHRASE)
    lab.core.store.close()
    return tmp_path / "backup.zip"


def _altered(path: Path, change: str) -> None:
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    match change:
        case "row":
            members["tables/audit.jsonl"] = members["tables/audit.jsonl"].replace(b"backup.made", b"backup.maid")
        case "missing":
            del members["tables/benches.jsonl"]
        case "more":
            members["tables/else.jsonl"] = b"{}\n"
        case "manifest":
            del members[MANIFEST]
        case "format":
            members[MANIFEST] = json.dumps({**json.loads(members[MANIFEST]), "format": 2}).encode()
        case "newer":
            members[MANIFEST] = json.dumps({**json.loads(members[MANIFEST]), "schema": "9999"}).encode()
    with zipfile.ZipFile(path, "w") as new:
        for name, content in members.items():
            new.writestr(name, content)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("row", "tables/audit.jsonl was altered"),
        ("missing", "tables/benches.jsonl is missing"),
        ("more", "tables/else.jsonl is missing, or there"),
        ("manifest", "no backup"),
        ("format", "format 2"),
    ],
)
def test_an_altered_backup_is_refused_naming_what(tmp_path: Path, backup: Path, change: str, words: str) -> None:
    _altered(backup, change)
    with pytest.raises(BackupDamaged, match=words):
        restore(backup, tmp_path / "new", None)
    assert not (tmp_path / "new" / DATABASE_NAME).exists()


def test_a_damaged_or_cut_off_file_is_refused(backup: Path) -> None:
    content = backup.read_bytes()
    backup.write_bytes(content[:-100])
    with pytest.raises(BackupDamaged, match="cut off"):
        BackupFile(backup)
    backup.write_bytes(content[:200] + bytes(byte ^ 0xFF for byte in content[200:260]) + content[260:])
    with pytest.raises(BackupDamaged), BackupFile(backup) as opened:
        opened.verify()


def test_a_newer_schema_is_refused(tmp_path: Path, backup: Path) -> None:
    _altered(backup, "newer")
    with pytest.raises(DatabaseNewer, match="9999"):
        restore(backup, tmp_path / "new", None)


def test_only_what_is_empty_is_restored_into(tmp_path: Path, backup: Path) -> None:
    restore(backup, tmp_path / "new", None)
    with pytest.raises(DatabaseNotEmpty, match="exists already"):
        restore(backup, tmp_path / "new", None)


def test_keys_need_their_passphrase(tmp_path: Path, backup: Path) -> None:
    with pytest.raises(BackupDamaged, match="passphrase"):
        restore(backup, tmp_path / "new", None, passphrase="another passphrase")
    said = restore(backup, tmp_path / "new", None)
    assert any("NOT restored" in line for line in said)
    assert not (tmp_path / "new" / KEY_NAME).exists()
    with zipfile.ZipFile(backup) as opened:
        assert b"PRIVATE KEY" not in b"".join(opened.read(name) for name in opened.namelist())


def test_a_restore_that_fails_leaves_nothing(
    tmp_path: Path, backup: Path, target: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("labd.services.restoring._begin_anew", fail)
        with pytest.raises(OSError, match="disk full"):
            restore(backup, tmp_path / "new", target)
    restore(backup, tmp_path / "new", target)


def test_a_short_passphrase_is_refused(lab: Lab) -> None:
    with pytest.raises(Invalid, match="at least 12"):
        lab.backups.make(ANONYMOUS, "short")


def test_a_backup_comes_through_the_api(lab: Lab, tmp_path: Path) -> None:
    with TestClient(application(lab), base_url="http://labd.test/api/v1/") as web:
        answer = web.get("backup", headers={"Labd-Passphrase": PASSPHRASE})
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip")
        assert web.get("backup", headers={"Labd-Passphrase": "short"}).status_code == 422
    (tmp_path / "b.zip").write_bytes(answer.content)
    with BackupFile(tmp_path / "b.zip") as opened:
        assert opened.verify() > 0
        assert opened.keys is not None


def test_bytes_and_text_come_back_as_they_were() -> None:
    file = io.BytesIO()
    row = {"a": b"\x00\xff", "b": "ü\u2028\n", "c": None, "d": 0.1, "e": {"x": [1]}}
    writer = BackupWriter(file)
    writer.add_table("t", [row])
    writer.finish({"schema": "0001", "created_at": 1.0})
    file.seek(0)
    with BackupFile(file) as opened:  # type: ignore[arg-type]  # as zipfile does, it takes an open file too
        assert opened.verify() == 1
        assert list(opened.rows("t")) == [row]
