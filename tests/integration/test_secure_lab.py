"""A labd process as it is started in earnest: people sign in, others are turned away."""

import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deploy.demo.lab import service
from labd.cli.main import main
from tests.integration.labd_support import until

Labctl = Callable[..., Result]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("secure")
    options = ["--http", "127.0.0.1:0", "--agents", "127.0.0.1:0"]
    with service("labd", ["labd.daemon", "serve", "--data", str(folder / "labd"), *options], folder) as process:
        until(lambda: (folder / "labd" / "labd.json").exists() or process.poll() is not None, "labd serves")
        assert process.poll() is None, (folder / "labd.log").read_text()
        yield folder / "labd"


@pytest.fixture
def labctl(data: Path, tmp_path: Path) -> Labctl:
    addresses = json.loads((data / "labd.json").read_text())
    environment = {"XDG_CONFIG_HOME": str(tmp_path), "LABD_URL": addresses["http"], "LABD_TOKEN": None}
    environment |= {"LABD_CA": addresses.get("ca"), "LABD_HOLDER": None}

    def call(*arguments: str, token: str | None = None) -> Result:
        return CliRunner().invoke(main, arguments, prog_name="labctl", env=environment | {"LABD_TOKEN": token})

    return call


def test_the_first_admin_signs_in_and_lets_a_colleague_in(labctl: Labctl, data: Path, tmp_path: Path) -> None:
    stranger = labctl("bench", "ls")
    assert (stranger.exit_code, "labctl login" in stranger.stderr) == (65, True)
    signed_in = labctl("login", "--token-file", str(data / "admin.token"))
    assert signed_in.exit_code == 0, signed_in.output
    assert "as admin (admin in the whole lab)" in signed_in.stdout
    assert stat.S_IMODE((tmp_path / "labd" / "credentials.json").stat().st_mode) == 0o600
    for command in ("team create blue", "user create ada", "team add blue ada --role engineer"):
        assert labctl(*command.split()).exit_code == 0, command
    made = labctl("token", "create", "laptop", "--user", "ada", "--scope", "read", "--scope", "lease")
    token = made.stdout.strip()
    assert token.startswith("labd_")
    who = json.loads(labctl("whoami", "-o", "json", token=token).stdout)
    assert who == {"name": "ada", "kind": "person", "roles": {"blue": "engineer"}, "scopes": ["lease", "read"]}
    assert "ada" in labctl("user", "ls").stdout
    assert labctl("user", "ls", token=token).exit_code == 65
    assert "laptop" in labctl("token", "ls", token=token).stdout
    assert labctl("token", "revoke", token).exit_code == 65, "another's takes a reason"
    assert labctl("token", "revoke", token, "--reason", "lost").exit_code == 0
    assert labctl("whoami", token=token).exit_code == 65
    assert "signed out" in labctl("logout").stdout
    assert labctl("whoami").exit_code == 65


def test_a_token_that_labd_does_not_know_is_not_stored(labctl: Labctl, tmp_path: Path) -> None:
    refused = labctl("login", token="labd_0123456789_" + "0" * 64)
    assert (refused.exit_code, "does not take that token" in refused.stderr) == (65, True)
    assert not (tmp_path / "labd").exists()
    nobody = labctl("login")
    assert (nobody.exit_code, "no identity provider" in nobody.stderr) == (65, True)
