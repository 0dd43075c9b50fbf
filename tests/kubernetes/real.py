"""Runs a command with a real API server beside it: `python -m tests.kubernetes.real FOLDER make test-kubernetes`.

FOLDER has the binaries `etcd` and `kube-apiserver`, as `setup-envtest use -p path` fetches them, and may have
`kube-controller-manager` and `kube-scheduler`, which are started as well. All listen on the loopback only and end with
the command, which gets KUBECONFIG of somebody who may do everything. The exit code is the command's.
"""

import argparse
import json
import os
import secrets
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.kubernetes.cluster import free_ports

START_S = 120.0
STOP_S = 20.0
ISSUER = "https://kubernetes.default.svc"


@contextmanager
def served(binaries: Path) -> Iterator[Path]:
    """The kubeconfig of an API server that runs meanwhile; raises RuntimeError when it does not come up."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="labd-kubernetes-")))
        store, peer, port = free_ports(3)
        url, token = f"https://127.0.0.1:{port}", secrets.token_hex()
        key, kubeconfig = _key(folder / "service-accounts.pem"), folder / "kubeconfig"
        (folder / "tokens.csv").write_text(f"{token},test,test,system:masters\n")
        kubeconfig.write_text(json.dumps(_kubeconfig(url, folder / "apiserver.crt", token)))

        def start(program: str, **options: object) -> None:
            words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
            stack.enter_context(_running(binaries / program, words, folder / f"{program}.log"))

        start(
            "etcd",
            data_dir=folder / "etcd",
            listen_client_urls=f"http://127.0.0.1:{store}",
            advertise_client_urls=f"http://127.0.0.1:{store}",
            listen_peer_urls=f"http://127.0.0.1:{peer}",
        )
        managed = (binaries / "kube-controller-manager").exists()
        start(
            "kube-apiserver",
            etcd_servers=f"http://127.0.0.1:{store}",
            bind_address="127.0.0.1",
            secure_port=port,
            cert_dir=folder,
            authorization_mode="RBAC",
            token_auth_file=folder / "tokens.csv",
            service_account_issuer=ISSUER,
            service_account_key_file=key,
            service_account_signing_key_file=key,
            service_cluster_ip_range="10.0.0.0/24",
            allow_privileged="true",
            endpoint_reconciler_type="none",
            # nobody else makes the account `default` that each pod would have to have
            disable_admission_plugins="" if managed else "ServiceAccount",
        )
        _wait_until_ready(url, token, folder)
        if managed:
            # it signs tokens of accounts, collects what has lost its owner, empties namespaces that go
            start(
                "kube-controller-manager",
                kubeconfig=kubeconfig,
                service_account_private_key_file=key,
                root_ca_file=folder / "apiserver.crt",
                leader_elect="false",
                bind_address="127.0.0.1",
                secure_port=free_ports(1)[0],
            )
        if (binaries / "kube-scheduler").exists():
            start(
                "kube-scheduler",
                kubeconfig=kubeconfig,
                leader_elect="false",
                bind_address="127.0.0.1",
                secure_port=free_ports(1)[0],
            )
        yield kubeconfig


def _key(path: Path) -> Path:
    """Of service accounts' tokens."""
    key = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PrivateFormat.TraditionalOpenSSL
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    return path


def _kubeconfig(url: str, authority: Path, token: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": {"server": url, "certificate-authority": str(authority)}}],
        "users": [{"name": "test", "user": {"token": token}}],
    }


@contextmanager
def _running(program: Path, options: list[str], log: Path) -> Iterator[None]:
    with log.open("wb") as output, subprocess.Popen([program, *options], stdout=output, stderr=output) as process:
        try:
            yield
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
            process.kill()


def _wait_until_ready(url: str, token: str, folder: Path) -> None:
    request = Request(f"{url}/readyz", headers={"Authorization": f"Bearer {token}"})  # noqa: S310 - it is https
    ends = time.monotonic() + START_S
    while time.monotonic() < ends:
        with suppress(URLError, OSError):
            trusted = ssl.create_default_context(cafile=folder / "apiserver.crt")
            with urlopen(request, timeout=5, context=trusted):  # noqa: S310
                return
        time.sleep(0.2)
    said = "\n".join(f"{log.name}: {log.read_text(errors='replace')[-2000:]}" for log in folder.glob("*.log"))
    raise RuntimeError(f"the API server is not ready after {START_S:.0f} s\n{said}")


def main() -> int:
    description, _, rest = (__doc__ or "").partition("\n\n")
    options = argparse.ArgumentParser("python -m tests.kubernetes.real", description=description, epilog=rest)
    options.add_argument("folder", type=Path, help="where the binaries are")
    options.add_argument("command", nargs=argparse.REMAINDER)
    chosen = options.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the servers end too
    with served(chosen.folder) as kubeconfig:
        return subprocess.run(chosen.command, check=False, env={**os.environ, "KUBECONFIG": str(kubeconfig)}).returncode


if __name__ == "__main__":
    sys.exit(main())
