"""Keys that are made before the first labd: what a deployment with read-only keys needs."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from kubernetes import client, config

from labd import new_keys
from labd.daemon import main
from labd.services.authority import Authority
from labd.services.signing import Signer
from labd.services.vault import Vault


def test_they_are_made_once_and_serve_a_labd_that_may_not_write_there(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    first = CliRunner().invoke(main, ["make-keys", "--keys", str(keys)])
    again = CliRunner().invoke(main, ["make-keys", "--keys", str(keys)])
    assert (first.exit_code, first.output) == (again.exit_code, again.output) == (0, first.output)
    assert sorted(new_keys.files_of(keys)) == ["authority.pem", "ca.pem", "secrets-key", "signing-key.pem"]

    for folder in (keys / "ca", keys):
        folder.chmod(0o500)
    before = {path: path.read_bytes() for path in keys.rglob("*") if path.is_file()}
    fingerprint = Authority(keys / "ca").fingerprint
    assert fingerprint in first.output
    assert Signer(keys).key_id
    assert Vault(keys / "secrets-key").key_id
    assert {path: path.read_bytes() for path in keys.rglob("*") if path.is_file()} == before
    for folder in (keys / "ca", keys):
        folder.chmod(0o700)


class Cluster(ThreadingHTTPServer):
    """An API server that takes Secrets, and answers as it is told."""

    status = 201
    seen: list[tuple[str, dict[str, Any]]]

    def __init__(self) -> None:
        self.seen = []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Cluster)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.seen.append((self.path, body))
        content = json.dumps(body if server.status == 201 else {"kind": "Status", "code": server.status}).encode()
        self.send_response(server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
        pass


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    server = Cluster()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    settings = client.Configuration(host=f"http://127.0.0.1:{server.server_port}")
    settings.retries = False

    def inside() -> None:
        client.Configuration.set_default(settings)

    monkeypatch.setattr(config, "load_incluster_config", inside)
    yield server
    client.Configuration.set_default(None)
    server.shutdown()
    thread.join()
    server.server_close()


def test_they_become_a_secret(cluster: Cluster) -> None:
    done = CliRunner().invoke(main, ["make-keys", "--secret", "lab/labd-keys"])
    assert (done.exit_code, done.output) == (0, "Secret lab/labd-keys is made\n")
    [(path, body)] = cluster.seen
    assert path == "/api/v1/namespaces/lab/secrets"
    assert body["metadata"]["name"] == "labd-keys"
    assert sorted(body["data"]) == ["authority.pem", "ca.pem", "secrets-key", "signing-key.pem"]


def test_a_secret_that_is_there_stays(cluster: Cluster) -> None:
    cluster.status = 409
    done = CliRunner().invoke(main, ["make-keys", "--secret", "lab/labd-keys"])
    assert (done.exit_code, done.output) == (0, "Secret lab/labd-keys is there already\n")


def test_a_cluster_that_refuses_is_told(cluster: Cluster) -> None:
    cluster.status = 403
    done = CliRunner().invoke(main, ["make-keys", "--secret", "lab/labd-keys"])
    assert done.exit_code == 1
    assert "the cluster refuses Secret lab/labd-keys: 403" in done.output


def test_outside_of_a_cluster_there_is_no_secret() -> None:
    done = CliRunner().invoke(main, ["make-keys", "--secret", "lab/labd-keys"])
    assert done.exit_code == 1
    assert "the cluster cannot be asked" in done.output


def test_a_secret_has_a_namespace() -> None:
    done = CliRunner().invoke(main, ["make-keys", "--secret", "labd-keys"])
    assert done.exit_code == 2
    assert "expected NAMESPACE/NAME" in done.output
