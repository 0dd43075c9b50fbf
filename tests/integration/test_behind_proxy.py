"""labd behind a proxy that ends TLS: people come in that way, agents do not."""

import json
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from click.testing import CliRunner, Result

from bench_agent.protocol.identity import CONTROLLER_NAME
from bench_agent.server.enrol import EnrolError, enrol
from deploy.demo.lab import service
from labd.cli.main import main
from labd.services.authority import Authority
from tests.integration.labd_support import until
from tests.tls_proxy import tls_proxy

Labctl = Callable[..., Result]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("behind")
    options = ["--http", "127.0.0.1:0", "--agents", "127.0.0.1:0", "--trusted-proxy", "127.0.0.1"]
    with service("labd", ["labd.daemon", "serve", "--data", str(folder / "labd"), *options], folder) as process:
        until(lambda: (folder / "labd" / "labd.json").exists() or process.poll() is not None, "labd serves")
        assert process.poll() is None, (folder / "labd.log").read_text()
        yield folder / "labd"


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Another authority, which the company's browsers trust."""
    return Authority(tmp_path_factory.mktemp("company"))


@pytest.fixture(scope="module")
def front(data: Path, company: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of labd as people know it."""
    own = company.server_credentials(["127.0.0.1"])
    file = tmp_path_factory.mktemp("proxy") / "proxy.pem"
    file.write_bytes(own.key + own.chain)
    shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shown.load_cert_chain(file)
    trust = ssl.create_default_context(cafile=str(data / "ca" / "ca.pem"))
    host, _, port = json.loads((data / "labd.json").read_text())["http"].removeprefix("https://").rpartition(":")
    with tls_proxy(shown, (host, int(port)), trust, CONTROLLER_NAME) as address:
        yield f"https://{address[0]}:{address[1]}"


@pytest.fixture
def labctl(front: str, company: Authority, tmp_path: Path) -> Labctl:
    environment = {"XDG_CONFIG_HOME": str(tmp_path), "LABD_URL": front, "LABD_TOKEN": None, "LABD_HOLDER": None}
    environment["LABD_CA"] = str(company.trust_file)

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(main, arguments, prog_name="labctl", env=environment)

    return call


def test_people_sign_in_and_follow_streams_through_the_proxy(
    labctl: Labctl, data: Path, front: str, company: Authority
) -> None:
    signed_in = labctl("login", "--token-file", str(data / "admin.token"))
    assert signed_in.exit_code == 0, signed_in.output
    assert json.loads(labctl("whoami", "-o", "json").stdout)["name"] == "admin"
    token = (data / "admin.token").read_text().strip()
    with (
        httpx2.Client(verify=ssl.create_default_context(cafile=str(company.trust_file)), timeout=30) as web,
        web.stream("GET", f"{front}/api/v1/leases/events", headers={"Authorization": f"Bearer {token}"}) as answer,
    ):
        assert "event: ready" in next(line for line in answer.iter_lines() if line)


def test_an_agent_is_told_that_it_has_to_go_to_labd_itself(
    labctl: Labctl, data: Path, front: str, tmp_path: Path
) -> None:
    labctl("login", "--token-file", str(data / "admin.token"))
    token = labctl("agent", "enrol", "hil-1").stdout.strip()
    with pytest.raises(EnrolError, match=r"a proxy that ends TLS stands before it.*to labd itself"):
        enrol(front, token, "hil-1", tmp_path / "agent")
    # The token was not spent on it.
    direct = json.loads((data / "labd.json").read_text())["http"]
    assert enrol(direct, token, "hil-1", tmp_path / "agent").current().chain
