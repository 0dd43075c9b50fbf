"""The pod of an attempt of a run, and what comes with it: nothing in it may do more than the run needs.

It keeps to the Pod Security Standard "restricted": https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labd.executors.base import ExecutorError, Job
from labd.executors.kubernetes.names import RUNNER, SOURCE, labels, object_name
from labd.executors.kubernetes.settings import Cluster, Limits, Requests
from labd.model.source import GitSource, too_long_for_a_pod

Json = dict[str, Any]

AUDIENCE = "labd"
"""Of the token by which a pod proves who it is."""
TOKEN_FOLDER = "/var/run/secrets/labd"  # noqa: S105 - where it is
TOKEN_FILE = "token"  # noqa: S105 - its name
TOKEN_LASTS_S = 3600
"""The kubelet puts a fresh one there before that."""
SCRATCH_FOLDER = "/scratch"
"""The working directory, and the only place that can be written to."""
GIVEN_FOLDER = "/etc/labd"
CREDENTIALS_FOLDER = "/var/run/secrets/git"
CREDENTIALS_FILE = "credentials"
"""Of the Secret, and of the file in that folder."""
CA_FILE = "ca.pem"
SCRIPT_FILE = "script.lua"
SOURCE_FOLDER = f"{SCRATCH_FOLDER}/source"
"""Where the init container puts what it fetched."""
RUNNER_COMMAND = ("python", "-P", "-m", "scenarios", "pod")
SOURCE_COMMAND = ("python", "-P", "-m", "runners.git_source")
_SECURITY: Mapping[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


@dataclass(frozen=True, slots=True)
class Door:
    """How pods reach labd."""

    url: str
    """Of its REST API; several with commas."""
    ca: str | None = None
    """The authorities (PEM) that its certificate is by; None without TLS, or with a certificate that all know."""
    server_name: str | None = None
    """The name in the certificate, when it is by labd's own authority."""


def check_script(job: Job) -> None:
    """Raises ExecutorError when a pod cannot have it."""
    if message := too_long_for_a_pod(job.script or ""):
        raise ExecutorError(message)


def pod(job: Job, cluster: Cluster, door: Door, lab: str) -> Json:
    """What to create. It needs what `config_map` gives, and `secret` where the cluster's identity is ``secret``."""
    name = object_name(job.run_id, job.attempt)
    security = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    if cluster.user is not None:
        security |= {"runAsUser": cluster.user, "runAsGroup": cluster.user, "fsGroup": cluster.user}
    spec: Json = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": _deadline_s(job, cluster),
        "terminationGracePeriodSeconds": cluster.stop_grace_s,
        "enableServiceLinks": False,
        "serviceAccountName": cluster.service_account,
        "automountServiceAccountToken": False,
        "securityContext": security,
        "containers": [_runner(job, cluster, door)],
        "volumes": [
            {"name": "scratch", "emptyDir": {"sizeLimit": cluster.scratch}},
            {"name": "given", "configMap": {"name": name, "defaultMode": 0o444}},
            {"name": "token", **_token(cluster, name)},
        ],
    }
    if job.git is not None:
        spec["initContainers"] = [_source(job.git, cluster)]
        if name_of_secret := cluster.git.secret_for(job.git.url):
            # Optional: that it is missing is told by whom it is for, not waited for.
            mounted = {"secretName": name_of_secret, "defaultMode": _secret_mode(cluster), "optional": True}
            spec["volumes"].append({"name": "git", "secret": mounted})
    if cluster.pull_secrets:
        spec["imagePullSecrets"] = [{"name": one} for one in cluster.pull_secrets]
    if cluster.node_selector:
        spec["nodeSelector"] = dict(cluster.node_selector)
    if cluster.tolerations:
        spec["tolerations"] = [
            {"tolerationSeconds" if key == "seconds" else key: value for key, value in one.items()}
            for one in (toleration.model_dump(exclude_none=True) for toleration in cluster.tolerations)
        ]
    if cluster.priority_class is not None:
        spec["priorityClassName"] = cluster.priority_class
    if cluster.scheduler is not None:
        spec["schedulerName"] = cluster.scheduler
    metadata = _metadata(job, lab)
    metadata["labels"] = {**cluster.labels, **metadata["labels"]}
    if cluster.annotations:
        metadata["annotations"] = dict(cluster.annotations)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def config_map(job: Job, door: Door, lab: str, owner: Json) -> Json:
    """What the pod ``owner`` of the attempt is given to read; it goes with the pod."""
    data = {} if door.ca is None else {CA_FILE: door.ca}
    if job.git is None and job.script is not None:
        data[SCRIPT_FILE] = job.script
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(job, lab, owner),
        "immutable": True,
        "data": data,
    }


def secret(job: Job, lab: str, owner: Json) -> Json:
    """The run's token, for a pod that cannot prove itself by one of its own; it goes with the pod ``owner``.

    It is made after the pod, which waits for it. So none can be left over: the cluster's garbage collector takes it
    also when its owner has gone in between, and labd need not be allowed to list or delete what is secret.
    """
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": _metadata(job, lab, owner),
        "immutable": True,
        "stringData": {TOKEN_FILE: job.token},
    }


def _metadata(job: Job, lab: str, owner: Json | None = None) -> Json:
    metadata: Json = {"name": object_name(job.run_id, job.attempt), "labels": labels(lab, job.run_id, job.attempt)}
    if owner is not None:
        known = owner["metadata"]
        metadata["ownerReferences"] = [
            {"apiVersion": "v1", "kind": "Pod", "name": known["name"], "uid": known["uid"], "controller": True}
        ]
    return metadata


def _runner(job: Job, cluster: Cluster, door: Door) -> Json:
    variables = {
        "LABD_URL": job.urls(cluster.url or door.url),
        "LABD_RUN_ID": job.run_id,
        "LABD_ATTEMPT": str(job.attempt),
        "LABD_TOKEN_FILE": f"{TOKEN_FOLDER}/{TOKEN_FILE}",
        "HOME": SCRATCH_FOLDER,
        "TMPDIR": f"{SCRATCH_FOLDER}/tmp",  # noqa: S108 - in a volume of the pod alone
    }
    if door.ca is not None:
        variables["LABD_CA"] = f"{GIVEN_FOLDER}/{CA_FILE}"
    if door.server_name is not None:
        variables["LABD_SERVER_NAME"] = door.server_name
    if job.git is not None:
        variables["LABD_SOURCE"] = SOURCE_FOLDER
    elif job.script is not None:
        variables["LABD_SCRIPT"] = f"{GIVEN_FOLDER}/{SCRIPT_FILE}"
    if job.traceparent is not None:
        variables["TRACEPARENT"] = job.traceparent
    mounts = [
        {"name": "given", "mountPath": GIVEN_FOLDER, "readOnly": True},
        {"name": "token", "mountPath": TOKEN_FOLDER, "readOnly": True},
    ]
    return _container(RUNNER, RUNNER_COMMAND, variables, cluster, mounts)


def _source(git: GitSource, cluster: Cluster) -> Json:
    options = ["--url", git.url, "--revision", git.revision, "--path", git.path, "--into", SOURCE_FOLDER]
    options += ["--within", f"{cluster.git.within_s:g}", "--bytes-max", str(cluster.git_bytes)]
    mounts = []
    if cluster.git.secret_for(git.url):
        options += ["--credentials", f"{CREDENTIALS_FOLDER}/{CREDENTIALS_FILE}"]
        mounts.append({"name": "git", "mountPath": CREDENTIALS_FOLDER, "readOnly": True})
    return _container(SOURCE, (*SOURCE_COMMAND, *options), {"HOME": SCRATCH_FOLDER}, cluster, mounts)


def _deadline_s(job: Job, cluster: Cluster) -> int:
    """Of all its containers, from its start; labd ends a run on time before."""
    fetching_s = 0.0 if job.git is None else cluster.git.within_s
    return math.ceil(job.timeout_s + fetching_s + cluster.start_limit_s + cluster.stop_grace_s)


def _container(
    name: str, command: tuple[str, ...], variables: Mapping[str, str], cluster: Cluster, mounts: list[Json]
) -> Json:
    return {
        "name": name,
        "image": cluster.image,
        "imagePullPolicy": cluster.pull_policy,
        # Kubernetes takes $(NAME) in a command for a variable, and $$ for a dollar.
        "command": [word.replace("$", "$$") for word in command],
        "workingDir": SCRATCH_FOLDER,
        "env": [{"name": key, "value": value.replace("$", "$$")} for key, value in variables.items()],
        "resources": {"requests": _amounts(cluster.requests), "limits": _amounts(cluster.limits)},
        "securityContext": dict(_SECURITY),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "scratch", "mountPath": SCRATCH_FOLDER}, *mounts],
    }


def _amounts(resources: Requests | Limits) -> dict[str, str]:
    return {name.replace("_", "-"): amount for name, amount in resources.model_dump().items()}


def _secret_mode(cluster: Cluster) -> int:
    return 0o444 if cluster.user is None else 0o440


def _token(cluster: Cluster, name: str) -> Json:
    """A file that only the runner's user reads, of the user that the kubelet gives it to."""
    if cluster.identity == "secret":
        return {"secret": {"secretName": name, "defaultMode": _secret_mode(cluster)}}
    wanted = {"audience": AUDIENCE, "expirationSeconds": TOKEN_LASTS_S, "path": TOKEN_FILE}
    return {"projected": {"sources": [{"serviceAccountToken": wanted}], "defaultMode": 0o440}}
