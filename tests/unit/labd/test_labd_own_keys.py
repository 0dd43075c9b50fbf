"""labd goes on with its own keys only."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from labd.api.limits import Limits
from labd.api.proxies import Proxies
from labd.daemon import main
from labd.daemon.assembly import assembled
from labd.daemon.errors import StartError
from labd.daemon.settings import Door, Settings, Tls
from labd.model.identity import ANONYMOUS
from labd.services.authority import rotate
from labd.services.errors import Conflict
from labd.services.lab import Lab
from labd.services.own_keys import AUTHORITY_KEY
from labd.services.restoring import restore
from labd.services.signing import KEY_NAME
from labd.services.vault import KEY_FILE
from labd.store.database import DATABASE_NAME
from labd.telemetry.options import InfluxOptions
from tests.unit.labd.fakes import new_sqlite_database

PASSPHRASE = "twelve characters"
NO_INFLUX = InfluxOptions(None, None, None, None, None, 1)
ALL = [KEY_NAME, AUTHORITY_KEY, KEY_FILE]
WORDS = {KEY_NAME: "signing key", AUTHORITY_KEY: "certificate authority", KEY_FILE: "secrets key"}


@contextmanager
def _open(folder: Path, database: str | None, *, secure: bool = True) -> Iterator[Lab]:
    """A labd as `labd serve` puts it together, without its doors."""
    if database is None and not (folder / DATABASE_NAME).exists():
        (folder / DATABASE_NAME).write_bytes(new_sqlite_database())
    settings = Settings(
        data=folder,
        database=database,
        keys=folder,
        http=("127.0.0.1", 0),
        agents=("127.0.0.1", 0),
        public_url=None,
        runner=None,
        secrets_key=None,
        tls=Tls(folder / "ca", (), None, None, 3600.0) if secure else None,
        providers=[],
        door=Door(Limits(), Proxies(())),
        influx=NO_INFLUX,
        clusters=None,
        metrics=None,
    )
    with assembled(settings, "https://127.0.0.1:1", None) as lab:
        yield lab


def _refusal(folder: Path, database: str | None) -> str:
    with pytest.raises(StartError) as refused, _open(folder, database):
        pass
    return str(refused.value)


def _labd(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def home(tmp_path: Path, database: str | None) -> Path:
    """Of a labd that was started once and has a secret."""
    folder = tmp_path / "home"
    folder.mkdir()
    with _open(folder, database) as lab:
        lab.environments.set_secret(ANONYMOUS, "default", "db", "correct horse")
    return folder


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Of another lab."""
    folder = tmp_path / "other"
    folder.mkdir()
    with _open(folder, None):
        pass
    return folder


def _options(folder: Path, database: str | None) -> list[object]:
    return ["--data", folder, *([] if database is None else ["--database", database])]


def test_keys_of_another_lab_are_refused_naming_the_file(home: Path, other: Path, database: str | None) -> None:
    for name in ALL:
        own = (home / name).read_bytes()
        shutil.copy(other / name, home / name)
        said = _refusal(home, database)
        assert f"the {WORDS[name]} {home / name} has the ID " in said
        assert "but this lab's has " in said
        assert "labd accept-keys" in said
        assert sum(word in said for word in WORDS.values()) == 1, "nothing is said of those that are right"
        (home / name).write_bytes(own)
    with _open(home, database) as lab:
        assert lab.auditing.verify().fault is None


def test_a_key_that_is_missing_is_not_made_anew(home: Path, database: str | None) -> None:
    for name in ALL:
        (home / name).rename(home / "away")
        assert f"the {WORDS[name]} {home / name} is missing" in _refusal(home, database)
        assert not (home / name).exists()
        (home / "away").rename(home / name)


def test_all_that_is_wrong_is_said_at_once(home: Path, other: Path, database: str | None) -> None:
    shutil.copy(other / KEY_NAME, home / KEY_NAME)
    (home / KEY_FILE).unlink()
    said = _refusal(home, database)
    assert WORDS[KEY_NAME] in said
    assert WORDS[KEY_FILE] in said


def test_keys_that_are_no_keys_are_refused(home: Path, database: str | None) -> None:
    for name in ALL:
        own = (home / name).read_bytes()
        (home / name).write_bytes(b"rubbish")
        assert f"the {WORDS[name]} {home / name} cannot be read" in _refusal(home, database)
        (home / name).write_bytes(own)


def test_the_database_of_another_lab_is_refused(home: Path, other: Path, database: str | None) -> None:
    """Beside keys that were there."""
    if database is None:
        shutil.copy(home / DATABASE_NAME, other / DATABASE_NAME)
    said = _refusal(other, database)
    assert all(word in said for word in WORDS.values())


def test_without_tls_nobody_asks_for_the_authority(home: Path, database: str | None) -> None:
    (home / AUTHORITY_KEY).rename(home / "away")
    with _open(home, database, secure=False):
        pass
    (home / "away").rename(home / AUTHORITY_KEY)
    with _open(home, database):
        pass


@pytest.mark.parametrize("distrust_former", [False, True])
def test_a_rotated_authority_is_the_labs_own(home: Path, database: str | None, distrust_former: bool) -> None:
    former = (home / AUTHORITY_KEY).read_bytes()
    for _ in range(2):
        rotate(home / "ca", distrust_former=distrust_former)
    with _open(home, database):
        pass
    rotate(home / "ca", distrust_former=distrust_former)
    with _open(home, database):
        pass
    (home / AUTHORITY_KEY).write_bytes(former)
    assert WORDS[AUTHORITY_KEY] in _refusal(home, database), "the one before is not"


def test_a_rotated_secrets_key_is_the_labs_own(home: Path, database: str | None) -> None:
    done = _labd("secrets", "rotate", *_options(home, database))
    assert done.exit_code == 0, done.output
    new = (home / KEY_FILE).read_text()
    with _open(home, database):
        pass
    # By hand: a new key before the present one, which goes later.
    by_hand = "A" * 43 + "="
    (home / KEY_FILE).write_text(f"{by_hand}\n{new}")
    with _open(home, database):
        pass
    (home / KEY_FILE).write_text(f"{by_hand}\n")
    with _open(home, database):
        pass


def test_lost_keys_are_accepted_with_a_reason_on_record(home: Path, other: Path, database: str | None) -> None:
    shutil.copy(other / KEY_FILE, home / KEY_FILE)
    (home / KEY_NAME).unlink()
    refused = _labd("accept-keys", *_options(home, database), "--reason", " ")
    assert (refused.exit_code, "reason" in refused.output) == (1, True)
    done = _labd("accept-keys", *_options(home, database), "--reason", "the disk is gone")
    assert done.exit_code == 0, done.output
    assert f"the signing key {home / KEY_NAME} will be made when labd starts" in done.output
    assert "1 secrets have to be set anew" in done.output
    assert WORDS[AUTHORITY_KEY] not in done.output
    with _open(home, database) as lab:
        with lab.core.view() as unit:
            (entry,) = (one for one in unit.audit_entries() if one.deed.action == "keys.accepted")
        assert (entry.deed.actor, entry.deed.why) == ("local operator", "the disk is gone")
        assert set(entry.deed.after or {}) == {KEY_NAME, KEY_FILE}
    again = _labd("accept-keys", *_options(home, database), "--reason", "once more")
    assert again.output == "the keys are the lab's own already\n"


def test_a_restored_lab_starts_with_its_own_keys_only(
    home: Path, other: Path, tmp_path: Path, database: str | None
) -> None:
    backup, new = tmp_path / "backup", tmp_path / "new"
    with _open(home, database) as lab, lab.backups.make(ANONYMOUS, PASSPHRASE) as made:
        backup.write_bytes(made.read())
    said = restore(backup, new, None)
    assert "will not start before its own keys are there" in said[-1]
    assert all(f"{word} {new / name} is missing" in said[-1] for name, word in WORDS.items())
    assert "is missing" in _refusal(new, None)
    shutil.copytree(other / "ca", new / "ca")
    for name in (KEY_NAME, KEY_FILE):
        shutil.copy(home / name, new / name)
    assert WORDS[AUTHORITY_KEY] in _refusal(new, None)
    shutil.copy(home / AUTHORITY_KEY, new / AUTHORITY_KEY)
    with _open(new, None) as lab:
        assert lab.auditing.verify().fault is None


def test_what_is_restored_with_its_keys_starts(home: Path, tmp_path: Path, database: str | None) -> None:
    backup, new = tmp_path / "backup", tmp_path / "new"
    with _open(home, database) as lab, lab.backups.make(ANONYMOUS, PASSPHRASE) as made:
        backup.write_bytes(made.read())
    said = restore(backup, new, None, passphrase=PASSPHRASE)
    assert not any("not start" in line for line in said)
    with _open(new, None) as lab:
        assert lab.auditing.verify().fault is None


def test_a_backup_takes_no_keys_of_another_lab(home: Path, other: Path, database: str | None) -> None:
    with _open(home, database) as lab:
        shutil.copy(other / AUTHORITY_KEY, home / AUTHORITY_KEY)
        with pytest.raises(Conflict, match="certificate authority"), lab.backups.make(ANONYMOUS, PASSPHRASE):
            pass
        with lab.backups.make(ANONYMOUS, None):
            pass
