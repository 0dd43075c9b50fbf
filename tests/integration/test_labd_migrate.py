"""``labd migrate``, and what ``labd serve`` says of databases that it does not take."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from labd.store.schema import SCHEMA_HEAD
from tests.integration.labd_support import DEADLINE_S, Daemon
from tests.postgresql import PostgresServer


@pytest.fixture
def url(postgresql: PostgresServer) -> Iterator[str]:
    url = postgresql.new_database()
    yield url
    postgresql.drop(url)


def _labd(*arguments: str, database: str = "") -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "labd.daemon", *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        env={"LABD_HTTP": "127.0.0.1:0", "LABD_AGENTS": "127.0.0.1:0", "LABD_DATABASE": database},
    )
    assert "Traceback" not in done.stderr
    return done


def test_a_postgresql_database_goes_up_and_down_and_back_and_serves(tmp_path: Path, url: str) -> None:
    name = url
    data = ("--data", str(tmp_path / "data"))
    assert _labd("migrate", *data, database=url).stdout == f"{name}: schema base -> {SCHEMA_HEAD}\n"
    down = _labd("migrate", *data, "--database", url, "--to", "0004")
    assert (down.returncode, down.stdout) == (0, f"{name}: schema {SCHEMA_HEAD} -> 0004\n")
    refused = _labd("serve", *data, database=url)
    assert refused.returncode == 1
    assert "has the schema '0004'" in refused.stderr
    assert "run `labd migrate`" in refused.stderr
    assert _labd("migrate", *data, database=url).stdout == f"{name}: schema 0004 -> {SCHEMA_HEAD}\n"
    with Daemon(tmp_path / "data", "--database", url) as daemon:
        assert daemon.client.benches() == []
        in_use = _labd("migrate", *data, "--to", "0004", database=url)
        assert (in_use.returncode, in_use.stdout) == (1, "")
        assert "stop every labd that serves with it" in in_use.stderr
        assert daemon.client.benches() == []


def test_an_sqlite_file_in_use_is_not_migrated(tmp_path: Path) -> None:
    with Daemon(tmp_path):
        in_use = _labd("migrate", "--data", str(tmp_path), "--to", "0004")
        assert in_use.returncode == 1
        assert "locked by another labd" in in_use.stderr
    assert f"schema {SCHEMA_HEAD} -> 0004" in _labd("migrate", "--data", str(tmp_path), "--to", "0004").stdout
    with Daemon(tmp_path) as daemon:  # which is alone, and migrates it itself
        assert daemon.client.benches() == []


@pytest.mark.parametrize(
    ("database", "what"),
    [
        ("postgresql://labd:dont-tell@127.0.0.1:1/labd", "postgresql://labd@127.0.0.1:1/labd cannot be reached"),
        ("mysql://labd:dont-tell@127.0.0.1/labd", "must look like postgresql://USER@HOST:PORT/NAME"),
    ],
)
@pytest.mark.parametrize("command", ["serve", "migrate"])
def test_no_password_is_shown_when_the_database_cannot_be_used(
    tmp_path: Path, command: str, database: str, what: str
) -> None:
    done = _labd(command, "--data", str(tmp_path), database=database)
    assert done.returncode == 1
    assert what in done.stderr
    assert "dont-tell" not in done.stdout + done.stderr
