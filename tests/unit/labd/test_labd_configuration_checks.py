"""The doctor on how labd was set up: what it was told, and the files that it was given."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from labd.api.limits import limits_of
from labd.api.proxies import Proxies
from labd.daemon.checks import configuration_checks
from labd.daemon.options import key_files
from labd.daemon.settings import Door, Settings, Tls
from labd.model.check import Check, CheckState
from labd.services.authority import Authority
from labd.telemetry.options import InfluxOptions

NO_INFLUX = InfluxOptions(None, None, None, None, None, 10**9)
INFLUX = InfluxOptions("https://influx.test:8086", "lab", "labd", None, None, 10**6)


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    tls = Tls(tmp_path / "ca", (), None, None, 86_400)
    for file in key_files(tmp_path, None).values():
        file.parent.mkdir(exist_ok=True)
        file.write_text("secret")
        file.chmod(0o600)
    yield Settings(
        data=tmp_path,
        database=None,
        keys=tmp_path,
        http=("192.0.2.1", 8470),
        agents=("192.0.2.1", 8471),
        public_url=None,
        runner=None,
        secrets_key=None,
        tls=tls,
        providers=(),
        door=Door(limits_of([]), Proxies()),
        influx=NO_INFLUX,
        clusters=None,
        metrics=None,
    )


def found(settings: Settings) -> list[Check]:
    """What is not well."""
    first, *others = configuration_checks(settings)
    assert (first.name, first.state) == ("configuration", CheckState.OK)
    assert all(check.remedy for check in others if check.state is not CheckState.OK)
    return [check for check in others if check.state is not CheckState.OK]


def test_a_sound_set_up_is_told_in_a_line(settings: Settings) -> None:
    [check] = configuration_checks(settings)
    assert check.message.startswith(f"data in {settings.data}, SQLite, TLS, no InfluxDB, no Prometheus, no clusters")


def test_no_tls_on_the_network_is_told(settings: Settings) -> None:
    assert [check.name for check in found(replace(settings, tls=None))] == ["--insecure-on-network"]
    assert not found(replace(settings, tls=None, http=("127.0.0.1", 8470)))


def test_a_token_in_the_clear_is_told(settings: Settings, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("t")
    token.chmod(0o600)
    plain = replace(INFLUX, url="http://influx.test:8086", token_file=token)
    [check] = found(replace(settings, influx=plain))
    assert (check.name, check.state) == ("--influx-url", CheckState.WARNING)
    assert "use https" in check.remedy
    assert not found(replace(settings, influx=replace(plain, url="http://127.0.0.1:8086")))


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://labd@db.test/labd", True),
        ("postgresql://labd@db.test/labd?sslmode=disable", True),
        ("postgresql://labd@db.test/labd?sslmode=verify-full", False),
        ("postgresql://labd@127.0.0.1/labd", False),
        ("postgresql:///labd?host=/run/postgresql", False),
    ],
)
def test_a_database_across_the_network_without_tls_is_told(settings: Settings, url: str, told: bool) -> None:
    assert [check.name for check in found(replace(settings, database=url))] == (["--database"] if told else [])


def test_a_secret_that_others_may_read_is_told(settings: Settings) -> None:
    [(name, path), *_] = key_files(settings.keys, None).items()
    path.chmod(0o644)
    [check] = found(settings)
    assert (check.name, check.remedy) == (f"file: {name}", f"chmod o= {path}")
    assert "0644" in check.message


def test_a_file_that_is_gone_is_an_error(settings: Settings, tmp_path: Path) -> None:
    [check] = found(replace(settings, influx=replace(INFLUX, token_file=tmp_path / "token")))
    assert (check.name, check.state) == ("file: --influx-token-file", CheckState.ERROR)


def test_an_authority_of_influxdb_that_ends_soon_is_told(settings: Settings, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "theirs")
    given = replace(settings, influx=replace(INFLUX, ca_file=authority.trust_file))
    assert not found(given)
    years = 10 * 365 * 86_400
    [_, check] = configuration_checks(given, now=lambda: authority.now() + years - 3 * 86_400)
    assert (check.name, check.state) == ("--influx-ca", CheckState.WARNING)


def test_a_spool_that_may_fill_the_disk_is_told(settings: Settings) -> None:
    [check] = found(replace(settings, influx=replace(INFLUX, spool_bytes=10**18)))
    assert check.name == "--influx-spool-mb"
