"""The images as they are built, started as restricted as they are deployed: `make test-images`."""

import json
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.demo.lab import DEMO_AGENT, ROOT, running_lab
from labd.client.types import GitSource
from tests.git_server import git_server, make_repository
from tests.images.engine import RESTRICTED, Engine, mount
from tests.kubernetes.cluster import Cluster, namespaced
from tests.kubernetes.containers import Inside
from tests.kubernetes.fake import FakeApiServer
from tests.kubernetes.node import LocalNode

WITHIN_S = 180.0
ENDS = ("PASSED", "FAILED", "ERROR", "CANCELLED")
DATA = "/var/lib/labd"
ROLES = ["daemon", "agent", "runner"]
SCENARIO = """
local test, uds = require("test"), require("uds")
test.case("the VIN is well-formed", function() test.matches(uds.ecu():read("VIN"), "^[0-9A-HJ-NPR-Z]+$") end)
test.case("there are no files", function() test.is_true(io == nil) end)
"""


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine()


def until(condition: Callable[[], object], said: Callable[[], str]) -> None:
    ends = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < ends, said()
        time.sleep(0.2)


def ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return found


def health(engine: Engine, name: str) -> list[str]:
    """The command that the image asks for its health by."""
    [found] = json.loads(engine.do("inspect", name).stdout)
    config = found["Config"]
    test = (config.get("Healthcheck") or config["HealthCheck"])["Test"]
    assert test[0] == "CMD"
    return [str(word) for word in test[1:]]


@pytest.mark.parametrize("role", ROLES)
def test_nothing_that_installs_is_left_in_an_image(engine: Engine, role: str) -> None:
    places = (
        "/src /opt/build /wheel /own /root/.cache /var/lib/apt/lists /var/cache/apt /opt/labd/bin/pip /var/lib/labd"
    )
    looks = f"find {places} -type f -not -name lock 2>/dev/null; command -v gcc make; id -u"
    done = engine.do("run", "--rm", *RESTRICTED, "--entrypoint=sh", engine.image(role), "-c", looks)
    assert done.stdout.split() == ["10001"]


def test_a_lab_of_containers(engine: Engine, tmp_path: Path) -> None:
    """labd and an agent, enrolled; both say that they are well, and leave in order when they are stopped."""
    http, agents, listen = ports(3)
    folder = tmp_path / "agent"
    shutil.copytree(ROOT / "deploy/demo", folder, ignore=shutil.ignore_patterns("__pycache__", "*.py"))
    shutil.copytree(ROOT / "dbc", folder / "dbc")
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    settings: dict[str, Any] = yaml.safe_load(DEMO_AGENT.read_text().replace("../../dbc", "dbc"))
    settings["agent"] |= {"listen": f"127.0.0.1:{listen}", "labd": f"127.0.0.1:{agents}", "data_dir": DATA}
    (folder / "agent.yaml").write_text(yaml.safe_dump(settings))
    given = mount(folder, "/etc/labd")
    serve = ["serve", "--data", DATA, "--http", f"127.0.0.1:{http}", "--agents", f"127.0.0.1:{agents}"]
    with (
        engine.volume() as of_labd,
        engine.volume() as of_agent,
        engine.running("daemon", [f"--volume={of_labd}:{DATA}", "--tmpfs=/tmp"], serve) as labd,
    ):
        well = health(engine, labd)
        until(lambda: not engine.do("exec", labd, *well, check=False).returncode, lambda: engine.logs(labd))

        def labctl(command: str) -> str:
            before = f"LABD_TOKEN=$(cat {DATA}/admin.token) LABD_CA={DATA}/ca/ca.pem"
            shell = f"{before} LABD_URL=https://127.0.0.1:{http} labctl {command}"
            return engine.do("exec", labd, "sh", "-euc", shell).stdout

        token = labctl("agent enrol demo").splitlines()[0]
        data = [f"--volume={of_agent}:{DATA}", "--tmpfs=/tmp", given]
        enrol = ["enrol", "/etc/labd/agent.yaml", "--data", DATA, "--labd", f"https://127.0.0.1:{http}"]
        image = engine.image("agent")
        engine.do("run", "--rm", "--interactive", *RESTRICTED, *data, image, *enrol, "--token", "-", stdin=token)
        with engine.running("agent", data) as agent:
            asks = health(engine, agent)
            until(lambda: not engine.do("exec", agent, *asks, check=False).returncode, lambda: engine.logs(agent))
            until(lambda: labctl("bench ls").count("available") == 2, lambda: labctl("bench ls"))
            engine.do("stop", "--time=30", agent)
            [ended] = json.loads(engine.do("inspect", agent).stdout)
            assert ended["State"]["ExitCode"] == 0, engine.logs(agent)
        engine.do("stop", "--time=30", labd)
        [ended] = json.loads(engine.do("inspect", labd).stdout)
        assert ended["State"]["ExitCode"] == 0, engine.logs(labd)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    server = FakeApiServer()
    try:
        with namespaced(server.kubeconfig(tmp_path / "kubeconfig"), server) as found:
            yield found
    finally:
        server.close()


def in_container(engine: Engine) -> Callable[[Inside], int]:
    """Runs a container of a pod as its manifest says: image, user, volumes, variables, and what it may not do."""

    def run(inside: Inside) -> int:
        spec = inside.pod["spec"]
        [own] = [
            one for one in [*spec.get("initContainers", []), *spec["containers"]] if one["name"] == inside.log.name
        ]
        user = spec["securityContext"]["runAsUser"]
        volumes = inside.log.parents[1] / "volumes"
        for path in volumes.rglob("*"):
            # The kubelet gives a pod's files to its fsGroup, and its empty folders to everybody.
            shutil.chown(path, group=spec["securityContext"]["fsGroup"])
        (volumes / "scratch").chmod(0o777)
        security = own["securityContext"]
        assert security["readOnlyRootFilesystem"]
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["allowPrivilegeEscalation"] is False
        options = [
            *RESTRICTED,
            f"--user={user}:{spec['securityContext']['runAsGroup']}",
            f"--workdir={own['workingDir']}",
            *(
                mount(volumes / one["name"], one["mountPath"], writable=not one.get("readOnly", False))
                for one in own["volumeMounts"]
            ),
            *(f"--env={one['name']}={one['value']}" for one in own["env"]),
            f"--entrypoint={own['command'][0]}",
        ]
        done = engine.do("run", "--rm", *options, own["image"], *own["command"][1:], check=False)
        inside.say(done.stdout + done.stderr)
        return done.returncode

    return run


def test_runs_in_restricted_pods_pass(engine: Engine, cluster: Cluster, tmp_path: Path) -> None:
    """The pod that labd makes, on a node that starts real containers: read-only, no rights, seccomp, not root."""
    here = {
        "name": "here",
        "kubeconfig": str(cluster.kubeconfig),
        "namespace": cluster.namespace,
        "image": engine.image("runner"),
    }
    file = tmp_path / "clusters.yaml"
    file.write_text(json.dumps({"clusters": [here]}))
    programs = {"runner": in_container(engine), "source": in_container(engine)}
    node = LocalNode(cluster.kubeconfig, cluster.namespace, tmp_path / "node", fake=cluster.fake, programs=programs)
    try:
        with running_lab(tmp_path / "lab", DEMO_AGENT, secure=True, options=("--clusters", str(file))) as lab:
            lab.wait_for_benches("bench-1", "bench-2")
            commit = make_repository(tmp_path / "served" / "tests", {"vin.lua": SCENARIO})
            with lab.client() as client, git_server(tmp_path / "served") as server:
                git = GitSource(url=f"{server}/tests", path="vin.lua", revision="main")
                given = client.create_run(script=SCENARIO, executor="kubernetes", selector="platform=meb")["id"]
                cloned = client.create_run(git=git, executor="kubernetes", selector="platform=meb")["id"]

                def verdicts() -> list[str]:
                    return [f"{run['state']} {run['reason']}".strip() for run in map(client.run, (given, cloned))]

                until(lambda: all(one.split()[0] in ENDS for one in verdicts()), lambda: str(verdicts()))
                assert verdicts() == ["PASSED", "PASSED"]
                assert client.run(cloned)["commit"] == commit
    finally:
        node.close()
