"""The pod of a run: what it may do, what it is told, and that three releases of Kubernetes take it."""

import math
from dataclasses import replace
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest

from labd.executors.base import ExecutorError, Job
from labd.executors.kubernetes.pod import Door, check_script, config_map, pod, secret
from labd.executors.kubernetes.settings import Cluster, Git, GitCredentials, Toleration
from labd.model.source import GitSource

RELEASES = ("1.34", "1.35", "1.36")
DOOR = Door("https://lab.example.com:8470", "-----BEGIN CERTIFICATE-----\n", "controller.labd")
PLAIN = Cluster(name="lab", image="runner:1")
EVERYTHING = Cluster(
    name="lab",
    image="registry.example.com/labd/runner@sha256:" + "0" * 64,
    pull_policy="Always",
    pull_secrets=("registry",),
    service_account="runs",
    identity="secret",
    url="https://labd.lab.svc:8470",
    node_selector={"pool": "hil"},
    tolerations=(
        Toleration(key="hil", value="yes", effect="NoSchedule"),
        Toleration(key="node.kubernetes.io/unreachable", operator="Exists", effect="NoExecute", seconds=30),
    ),
    priority_class="batch",
    scheduler="bin-packing",
    labels={"cost": "lab"},
    annotations={"sidecar.istio.io/inject": "false"},
)
SCRIPT = Job("r-1", "http://127.0.0.1:8470", "s3cret", "hil-1", "l3ase", attempt=2, timeout_s=60, script="return 1\n")
GIT = Job(
    "r-2",
    "http://127.0.0.1:8470",
    "s3cret",
    "hil-1",
    "l3ase",
    cluster="lab",
    git=GitSource("https://git.example.com/$(HOME)/t.git", "a/b.lua", "main"),
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)
Json = dict[str, Any]


def _owner(made: Json) -> Json:
    return {**made, "metadata": {**made["metadata"], "uid": "5f3a0000-0000-4000-8000-000000000001"}}


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("cluster", [PLAIN, EVERYTHING, PLAIN.model_copy(update={"user": None})])
@pytest.mark.parametrize("job", [SCRIPT, GIT])
def test_kubernetes_takes_every_object(release: str, cluster: Cluster, job: Job) -> None:
    made = pod(job, cluster, DOOR, "lab1")
    owner = _owner(made)
    for one in (made, config_map(job, DOOR, "lab1", owner), secret(job, "lab1", owner)):
        kubernetes_validate.validate(one, release, strict=True)


@pytest.mark.parametrize("cluster", [PLAIN, EVERYTHING])
@pytest.mark.parametrize("job", [SCRIPT, GIT])
def test_it_keeps_to_the_restricted_standard(cluster: Cluster, job: Job) -> None:
    spec = pod(job, cluster, DOOR, "lab1")["spec"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["runAsUser"] == 10001
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    assert all({"emptyDir", "configMap", "projected", "secret"} & one.keys() for one in spec["volumes"])
    for container in (*spec["containers"], *spec.get("initContainers", ())):
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["readOnlyRootFilesystem"]
        assert not {"privileged", "procMount"} & security.keys()
        for kind in ("requests", "limits"):
            assert container["resources"][kind].keys() == {"cpu", "memory", "ephemeral-storage"}
        writable = [one["mountPath"] for one in container["volumeMounts"] if not one.get("readOnly")]
        assert writable == ["/scratch"]


def test_it_is_bounded_and_started_once() -> None:
    spec = pod(SCRIPT, PLAIN, DOOR, "lab1")["spec"]
    assert spec["restartPolicy"] == "Never"
    assert spec["activeDeadlineSeconds"] == 60 + 300 + 30
    assert spec["terminationGracePeriodSeconds"] == 30
    assert {"name": "scratch", "emptyDir": {"sizeLimit": "512Mi"}} in spec["volumes"]
    assert spec["enableServiceLinks"] is False


def test_it_gets_one_token_for_labd_alone_and_none_for_the_api() -> None:
    spec = pod(SCRIPT, PLAIN, DOOR, "lab1")["spec"]
    assert spec["automountServiceAccountToken"] is False
    (token,) = [one for one in spec["volumes"] if "projected" in one]
    (source,) = token["projected"]["sources"]
    assert source == {"serviceAccountToken": {"audience": "labd", "expirationSeconds": 3600, "path": "token"}}
    assert {"name": "token", "mountPath": "/var/run/secrets/labd", "readOnly": True} in spec["containers"][0][
        "volumeMounts"
    ]


def test_no_secret_is_in_the_pod_or_in_the_config_map() -> None:
    for job in (SCRIPT, GIT):
        made = pod(job, EVERYTHING, DOOR, "lab1")
        assert "s3cret" not in str(made)
        assert "l3ase" not in str(made)
        assert "s3cret" not in str(config_map(job, DOOR, "lab1", _owner(made)))
    assert secret(SCRIPT, "lab1", _owner(pod(SCRIPT, EVERYTHING, DOOR, "lab1")))["stringData"] == {"token": "s3cret"}


def _variables(container: Json) -> dict[str, str]:
    return {one["name"]: one["value"] for one in container["env"]}


def test_the_runner_is_told_its_run_and_where_labd_is() -> None:
    (runner,) = pod(SCRIPT, PLAIN, DOOR, "lab1")["spec"]["containers"]
    assert _variables(runner) == {
        "LABD_URL": "https://lab.example.com:8470",
        "LABD_RUN_ID": "r-1",
        "LABD_ATTEMPT": "2",
        "LABD_TOKEN_FILE": "/var/run/secrets/labd/token",
        "LABD_CA": "/etc/labd/ca.pem",
        "LABD_SERVER_NAME": "controller.labd",
        "LABD_SCRIPT": "/etc/labd/script.lua",
        "HOME": "/scratch",
        "TMPDIR": "/scratch/tmp",
    }
    (runner,) = pod(GIT, EVERYTHING, Door("http://lab:1"), "lab1")["spec"]["containers"]
    variables = _variables(runner)
    assert variables["LABD_URL"] == "https://labd.lab.svc:8470"
    assert variables["LABD_SOURCE"] == "/scratch/source"
    assert variables["TRACEPARENT"] == GIT.traceparent
    assert not {"LABD_CA", "LABD_SERVER_NAME", "LABD_SCRIPT"} & variables.keys()


def test_git_is_fetched_first_by_a_container_that_has_no_token() -> None:
    (source,) = pod(GIT, PLAIN, DOOR, "lab1")["spec"]["initContainers"]
    assert source["command"][:4] == ["python", "-P", "-m", "runners.git_source"]
    assert source["command"][4:] == [
        *("--url", "https://git.example.com/$$(HOME)/t.git", "--revision", "main"),
        *("--path", "a/b.lua", "--into", "/scratch/source"),
        *("--within", "120", "--bytes-max", str(256 * 1024 * 1024)),
    ]
    assert [one["name"] for one in source["volumeMounts"]] == ["scratch"]
    assert "initContainers" not in pod(SCRIPT, PLAIN, DOOR, "lab1")["spec"]


def test_credentials_for_git_are_mounted_where_it_is_fetched_from_their_host_and_nowhere_else() -> None:
    private = Git(
        within_s=300, size="100Mi", credentials=GitCredentials(secret="git-reader", hosts=("git.example.com",))
    )
    cluster = PLAIN.model_copy(update={"git": private})
    made = pod(GIT, cluster, DOOR, "lab1")
    kubernetes_validate.validate(made, RELEASES[-1], strict=True)
    (volume,) = [one for one in made["spec"]["volumes"] if one["name"] == "git"]
    assert volume["secret"] == {"secretName": "git-reader", "defaultMode": 0o440, "optional": True}
    (source,), (runner,) = made["spec"]["initContainers"], made["spec"]["containers"]
    assert {"name": "git", "mountPath": "/var/run/secrets/git", "readOnly": True} in source["volumeMounts"]
    assert source["command"][-2:] == ["--credentials", "/var/run/secrets/git/credentials"]
    assert source["command"][-6:-2] == ["--within", "300", "--bytes-max", str(100 * 1024 * 1024)]
    assert "git" not in [one["name"] for one in runner["volumeMounts"]], "a scenario never sees them"
    assert made["spec"]["activeDeadlineSeconds"] == math.ceil(GIT.timeout_s) + 300 + 300 + 30
    assert GIT.git is not None
    for url in (
        "https://git.example.com.evil.org/t.git",
        "https://evil.org/git.example.com",
        "https://git.example.com:81/t",
    ):
        elsewhere = replace(GIT, git=replace(GIT.git, url=url))
        assert "git-reader" not in str(pod(elsewhere, cluster, DOOR, "lab1"))
    assert "git-reader" not in str(pod(SCRIPT, cluster, DOOR, "lab1"))


def test_what_comes_with_it_goes_with_it() -> None:
    made = pod(SCRIPT, PLAIN, DOOR, "lab1")
    assert made["metadata"]["name"] == "labd-r-1-2"
    owner = _owner(made)
    for one in (config_map(SCRIPT, DOOR, "lab1", owner), secret(SCRIPT, "lab1", owner)):
        (reference,) = one["metadata"]["ownerReferences"]
        assert (reference["kind"], reference["name"]) == ("Pod", "labd-r-1-2")
        assert reference["uid"] == owner["metadata"]["uid"]
        assert one["metadata"]["labels"] == made["metadata"]["labels"]
    assert config_map(SCRIPT, DOOR, "lab1", owner)["data"] == {"script.lua": "return 1\n", "ca.pem": DOOR.ca}
    assert config_map(GIT, DOOR, "lab1", owner)["data"].keys() == {"ca.pem"}


def test_settings_reach_the_pod() -> None:
    made = pod(SCRIPT, EVERYTHING, DOOR, "lab1")
    spec = made["spec"]
    assert spec["nodeSelector"] == {"pool": "hil"}
    assert spec["tolerations"] == [
        {"key": "hil", "operator": "Equal", "value": "yes", "effect": "NoSchedule"},
        {
            "key": "node.kubernetes.io/unreachable",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": 30,
        },
    ]
    assert spec["priorityClassName"] == "batch"
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert spec["serviceAccountName"] == "runs"
    assert made["metadata"]["labels"]["cost"] == "lab"
    assert made["metadata"]["labels"]["labd.dev/lab"] == "lab1"
    assert made["metadata"]["annotations"] == {"sidecar.istio.io/inject": "false"}


def test_a_script_larger_than_a_config_map_may_be_is_refused() -> None:
    check_script(Job("r-1", "", "", "", "", script="x" * 262_144))
    with pytest.raises(ExecutorError, match="the script has 262145 bytes, and a pod gets at most 262144"):
        check_script(Job("r-1", "", "", "", "", script="x" * 262_143 + "é"))
