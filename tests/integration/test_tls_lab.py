"""A lab as it runs by default: TLS everywhere, enrolled agents, people with tokens; real processes."""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from bench_agent.client import BenchClient, BenchError, BenchUnavailable, LeaseRefused
from bench_agent.protocol.certificates import certificates_of, fingerprint
from deploy.demo.lab import DEMO_AGENT, ROOT, Lab, agent_command, enrol, running_lab, service
from labd.client import LabClient, LabError, LabUnreachable, ProblemError
from labd.client.trust import trust, trusted
from labd.client.types import Lease
from tests.running_time import running_time

DEADLINE_S = 90.0
IDENTIFY = ROOT / "scenarios" / "examples" / "identify.lua"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running_lab(tmp_path_factory.mktemp("secure"), DEMO_AGENT, secure=True) as running:
        running.wait_for_benches("bench-1", "bench-2")
        yield running


@pytest.fixture
def client(lab: Lab) -> Iterator[LabClient]:
    with lab.client() as client:
        yield client


@contextmanager
def _held(client: LabClient, bench: str = "bench-1") -> Iterator[Lease]:
    lease = client.create_lease(selector=f"name={bench}", holder="admin", ttl_s=60)
    deadline = time.monotonic() + DEADLINE_S
    while not lease.get("token"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
        lease = client.lease(lease["id"])
    try:
        yield lease
    finally:
        client.release(lease["id"])


def _bench(client: LabClient, lease: Lease, certified: Lease | None = None) -> BenchClient:
    """The bench of a lease, opened with its token, and the certificate of ``certified``."""
    name, certified = str(lease["bench"]), certified or lease
    tls = client.agent_tls(certified["id"], str(certified["bench"]))
    return BenchClient(str(lease["address"]), name, str(lease["token"]), tls=tls)


def _vin(bench: BenchClient) -> str:
    return str(bench.ecu("ECM").call("read", did="VIN"))


@contextmanager
def _listening(bench: BenchClient) -> Iterator[Callable[[], float]]:
    """A stream of a bus that has begun; the function waits for its end, and says when that was (running time, s)."""
    heard, ended = threading.Event(), queue.SimpleQueue[float]()

    def listen() -> None:
        try:
            with bench.bus("powertrain").stream() as frames:
                while True:
                    if frames.read(DEADLINE_S) is not None:
                        heard.set()
        except BenchError:
            ended.put(running_time())

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    assert heard.wait(DEADLINE_S)
    yield lambda: ended.get(timeout=DEADLINE_S)
    thread.join(DEADLINE_S)


def test_a_holder_reads_over_mutual_tls(client: LabClient) -> None:
    with _held(client) as lease, _bench(client, lease) as bench:
        assert "WVW" in _vin(bench)


@pytest.mark.parametrize("executor", ["process", "bench"])
def test_runs_reach_labd_and_their_bench(client: LabClient, executor: str) -> None:
    run = client.create_run(
        script=IDENTIFY.read_text(),
        name="identify.lua",
        holder="admin",
        executor=executor,  # type: ignore[arg-type]
    )
    lines = [line["text"] for line in client.follow_log(run["id"])]
    ended = client.run(run["id"])
    assert ended["state"] == "PASSED", (ended["reason"], lines)


def test_nobody_reaches_a_bench_without_a_certificate(client: LabClient) -> None:
    with (
        _held(client) as lease,
        BenchClient(str(lease["address"]), "bench-1", str(lease["token"]), timeout_s=5) as bench,
        pytest.raises(BenchUnavailable),
    ):
        bench.describe()


def test_the_certificate_of_another_lease_is_refused(client: LabClient) -> None:
    with (
        _held(client, "bench-1") as lease,
        _held(client, "bench-2") as other,
        _bench(client, lease, certified=other) as bench,
        pytest.raises(LeaseRefused, match="the caller's certificate of"),
    ):
        bench.describe()


def test_labd_is_known_by_its_authority(lab: Lab) -> None:
    with LabClient(lab.http, token=lab.token) as stranger, pytest.raises(LabUnreachable, match="LABD_CA"):
        stranger.benches()
    plain = LabClient(lab.http.replace("https:", "http:"), token=lab.token)
    with plain, pytest.raises(LabUnreachable, match="https://"):
        plain.benches()
    with LabClient(lab.http, ca=lab.ca) as nobody, pytest.raises(ProblemError) as refused:
        nobody.benches()
    assert refused.value.status == 401
    with LabClient(lab.http, ca=lab.ca, server_name="labd.internal", token=lab.token) as by_name:
        assert by_name.benches()
    with (
        LabClient(lab.http, ca=lab.ca, server_name="other.internal") as wrong,
        pytest.raises(LabUnreachable, match="not trusted"),
    ):
        wrong.authority()


def test_the_authority_is_the_one_of_the_tokens(client: LabClient, lab: Lab) -> None:
    token = client.invite_agent("agent-9")["token"]
    assert lab.ca is not None
    shown = [fingerprint(one) for one in certificates_of(Path(lab.ca).read_bytes())]
    assert token.rpartition(".")[2] == client.authority()["fingerprint"] == shown[0]


def test_who_knows_the_fingerprint_knows_labd(lab: Lab, client: LabClient, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("XDG_CONFIG_HOME", folder)
        pin = client.authority()["fingerprint"]
        with pytest.raises(LabError, match="its authority is another"):
            trust(lab.http, "0" * 64)
        assert trusted(lab.http) is None
        trust(lab.http, pin.upper())
        with LabClient(lab.http, token=lab.token) as known:
            assert known.benches()


def test_a_token_of_another_lab_is_not_given_away(client: LabClient, lab: Lab, tmp_path: Path) -> None:
    token = client.invite_agent("demo-agent")["token"]
    forged = token[:-1] + ("0" if token[-1] != "0" else "1")
    command = ["bench_agent.main", "enrol", str(DEMO_AGENT), "--data", str(tmp_path), "--labd", lab.http]
    done = subprocess.run(
        [sys.executable, "-m", *command, "--token", forged], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "is not the one that was meant" in done.stderr
    assert not (tmp_path / "identity.pem").exists()


def test_the_end_of_a_lease_cuts_its_traffic_within_a_second(client: LabClient) -> None:
    with _held(client) as lease, _bench(client, lease) as bench, _listening(bench) as ended:
        released = running_time()
        client.release(lease["id"])
        assert ended() - released < 1.0


def test_a_revoked_agent_is_out_within_a_second(tmp_path: Path) -> None:
    with ExitStack() as stack:
        lab = stack.enter_context(running_lab(tmp_path, DEMO_AGENT, secure=True))
        client = stack.enter_context(lab.client())
        lab.wait_for_benches("bench-1")
        (agent,) = client.agents()
        lease = client.create_lease(selector="name=bench-1", holder="admin", ttl_s=60)
        process = lab.processes.pop("agent")
        with _bench(client, lease) as bench, _listening(bench) as ended:
            revoked = running_time()
            client.revoke_agent(agent["name"], "the machine was stolen")
            assert ended() - revoked < 1.0
        assert client.lease(lease["id"])["state"] == "ENDED"
        assert client.benches() == []
        assert process.wait(DEADLINE_S) == 1
        log = (lab.folder / "agent.log").read_text()
        assert "the machine was stolen" in log
        again = [sys.executable, "-m", *agent_command(DEMO_AGENT, lab.agents, tmp_path / "agent", secure=True)]
        refused = subprocess.run(again, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        assert refused.returncode == 1
        assert "was not enrolled" in refused.stderr
        # Who has kept a copy of the certificate gets no further.
        (tmp_path / "agent" / "revoked-identity.pem").rename(tmp_path / "agent" / "identity.pem")
        copied = subprocess.run(again, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        assert copied.returncode == 1
        assert "the machine was stolen" in copied.stderr
        enrol(lab, DEMO_AGENT, tmp_path / "agent")
        stack.enter_context(service("agent", again[2:], tmp_path))
        lab.wait_for_benches("bench-1")


def test_certificates_renew_themselves_while_a_lease_streams_on(tmp_path: Path) -> None:
    with ExitStack() as stack:
        short = ["--certificate-lifetime", "15"]
        lab = stack.enter_context(running_lab(tmp_path, DEMO_AGENT, secure=True, options=short))
        client = stack.enter_context(lab.client())
        lab.wait_for_benches("bench-1")
        lease = stack.enter_context(_held(client))
        bench = stack.enter_context(_bench(client, lease))
        stream = stack.enter_context(bench.bus("powertrain").stream())
        first = (tmp_path / "agent" / "identity.pem").read_bytes()
        deadline = time.monotonic() + 3 * 15
        seen = {first}
        while len(seen) < 4 and time.monotonic() < deadline:  # past the end of the first one
            assert stream.read(DEADLINE_S) is not None
            seen.add((tmp_path / "agent" / "identity.pem").read_bytes())
        assert len(seen) >= 4
        with _bench(client, lease) as another:
            assert "WVW" in _vin(another)
        assert json.loads((tmp_path / "labd" / "labd.json").read_text())["http"] == lab.http
        with lab.client() as fresh:  # labd's own certificate is a new one, too
            assert fresh.agents()[0]["attached"]


def test_a_rotated_authority_needs_nobody_to_do_anything(tmp_path: Path) -> None:
    with ExitStack() as stack:
        lab = stack.enter_context(running_lab(tmp_path, DEMO_AGENT, secure=True))
        lab.wait_for_benches("bench-1")
        former = (tmp_path / "agent" / "labd-ca.pem").read_bytes()
        rotate = [sys.executable, "-m", "labd.daemon", "rotate-ca", "--data", str(tmp_path / "labd")]
        done = subprocess.run(rotate, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
        assert "SHA-256" in done.stdout
        labd = lab.processes.pop("labd")
        labd.terminate()
        labd.wait(DEADLINE_S)
        command = ["labd.daemon", "serve", "--data", str(tmp_path / "labd"), "--agents", lab.agents]
        lab.processes["labd"] = stack.enter_context(
            service("labd", [*command, "--http", lab.http.removeprefix("https://")], tmp_path)
        )
        ready = tmp_path / "labd" / "labd.json"
        lab.wait_for("restarted labd", ready.exists)
        lab.wait_for("the agent's new trust", lambda: (tmp_path / "agent" / "labd-ca.pem").read_bytes() != former)
        lab.wait_for_benches("bench-1")
        with lab.client() as client, _held(client) as lease, _bench(client, lease) as bench:
            assert "WVW" in _vin(bench)


def test_commands_go_over_tls_too(lab: Lab, client: LabClient) -> None:
    environment = {**os.environ, "LABD_URL": lab.http, "LABD_CA": str(lab.ca), "LABD_TOKEN": str(lab.token)}
    read = ["labd.cli", "uds", "bench-1", "ECM", "22F190"]
    done = subprocess.run(
        [sys.executable, "-m", *read], env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "62 F1 90" in done.stdout or "62F190" in done.stdout, done.stdout


def test_the_images_health_check_knows_a_secure_labd(lab: Lab) -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text().replace("\\\n", "")
    check = json.loads(next(line for line in dockerfile.splitlines() if "HEALTHCHECK" in line).partition("CMD ")[2])
    healthy = [sys.executable, *(part.replace("/var/lib/labd", str(lab.folder / "labd")) for part in check[1:])]
    done = subprocess.run(healthy, capture_output=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr
