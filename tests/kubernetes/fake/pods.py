"""What a server adds to pods, and what it lets nobody change in them."""

import copy
import secrets
from collections.abc import Callable, Iterator
from typing import Any

from tests.kubernetes.fake.errors import ApiError, Cause, Object, forbidden
from tests.kubernetes.fake.pod_security import violations
from tests.kubernetes.fake.resources import NAMESPACES, PODS, SERVICE_ACCOUNTS
from tests.kubernetes.fake.storage import Storage
from tests.kubernetes.fake.strategies import Strategy

_TOKEN_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"
_CHANGEABLE = (
    "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
    "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing "
    "tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


class Pods(Strategy):
    """Defaults, admission (service account, priority, Pod Security) and the rules of updates."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def create(self, thing: Object) -> None:
        spec = thing.setdefault("spec", {})
        for name, value in (
            ("restartPolicy", "Always"),
            ("dnsPolicy", "ClusterFirst"),
            ("schedulerName", "default-scheduler"),
            ("terminationGracePeriodSeconds", 30),
            ("enableServiceLinks", True),
            ("preemptionPolicy", "PreemptLowerPriority"),
        ):
            spec.setdefault(name, value)
        spec.setdefault("securityContext", {})
        for container in _containers(spec):
            latest = str(container.get("image", "")).rpartition(":")[2] in {"latest", container.get("image")}
            container.setdefault("imagePullPolicy", "Always" if latest else "IfNotPresent")
            container.setdefault("terminationMessagePath", "/dev/termination-log")
            container.setdefault("terminationMessagePolicy", "File")
            container.setdefault("resources", {})
            limits = container["resources"].get("limits") or {}
            if limits:
                container["resources"]["requests"] = {**limits, **(container["resources"].get("requests") or {})}
            for port in container.get("ports") or []:
                port.setdefault("protocol", "TCP")
        for volume in spec.get("volumes") or []:
            for source, fields in _VOLUME_DEFAULTS.items():
                if source in volume:
                    volume[source] = {**fields, **(volume[source] or {})}
            for source in (volume.get("projected") or {}).get("sources") or []:
                if "serviceAccountToken" in source:
                    source["serviceAccountToken"].setdefault("expirationSeconds", 3600)
        self._account(thing, spec)
        self._priority(thing, spec)
        thing["status"] = {"phase": "Pending", "qosClass": _quality(spec)}
        self._security(thing)

    def _account(self, thing: Object, spec: Object) -> None:
        name: str = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        place = thing["metadata"]["namespace"]
        account = self._storage.get(SERVICE_ACCOUNTS.key, (place, name))
        if account is None:
            why = f'error looking up service account {place}/{name}: serviceaccount "{name}" not found'
            raise forbidden(PODS, thing["metadata"].get("name", ""), why)
        wanted = spec.get("automountServiceAccountToken", account.get("automountServiceAccountToken", True))
        if wanted and not any(
            mount["mountPath"] == _TOKEN_FOLDER for one in _containers(spec) for mount in one.get("volumeMounts") or []
        ):
            volume = f"kube-api-access-{secrets.token_hex(3)[:5]}"
            spec.setdefault("volumes", []).append({"name": volume, "projected": copy.deepcopy(_API_ACCESS)})
            for container in _containers(spec):
                mount = {"name": volume, "readOnly": True, "mountPath": _TOKEN_FOLDER}
                container.setdefault("volumeMounts", []).append(mount)

    def _priority(self, thing: Object, spec: Object) -> None:
        name: str = spec.get("priorityClassName") or ""
        if not name:
            spec.setdefault("priority", 0)
            return
        found = self._storage.get(("scheduling.k8s.io", "priorityclasses"), ("", name))
        if found is None and not name.startswith("system-"):
            why = f"no PriorityClass with name {name} was found"
            raise forbidden(PODS, thing["metadata"].get("name", ""), why)
        spec["priority"] = found["value"] if found else 2_000_000_000

    def _security(self, thing: Object) -> None:
        place = self._storage.get(NAMESPACES.key, ("", thing["metadata"]["namespace"]))
        level = ((place or {}).get("metadata", {}).get("labels") or {}).get("pod-security.kubernetes.io/enforce", "")
        if level not in {"restricted", "baseline"}:
            return
        found = violations(thing["spec"], restricted=level == "restricted")
        if found:
            why = f'violates PodSecurity "{level}:latest": {", ".join(found)}'
            raise forbidden(PODS, thing["metadata"].get("name", ""), why)

    def faults(self, thing: Object, before: Object | None) -> Iterator[Cause]:
        spec = thing["spec"]
        if before is None:
            yield from _spec_faults(spec)
            return
        old, new = copy.deepcopy(before["spec"]), copy.deepcopy(spec)
        yield from _deadline(old.get("activeDeadlineSeconds"), new.get("activeDeadlineSeconds"))
        for one in (old, new):
            for name in ("activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds"):
                one.pop(name, None)
            for container in _containers(one):
                container.pop("image", None)
        if old != new:
            yield {"field": "spec", "message": _CHANGEABLE}


def _deadline(old: int | None, new: int | None) -> Iterator[Cause]:
    field = "spec.activeDeadlineSeconds"
    if old is not None and new is None:
        yield {"field": field, "message": "Invalid value: null: must not update from a positive integer to nil value"}
    elif old is not None and new is not None and new > old:
        yield {"field": field, "message": f"Invalid value: {new}: must be less than or equal to previous value"}


def _spec_faults(spec: Object) -> Iterator[Cause]:
    if not spec.get("containers"):
        yield {"field": "spec.containers", "message": "Required value"}
    volumes = {volume["name"] for volume in spec.get("volumes") or []}
    for where in ("initContainers", "containers"):
        for n, container in enumerate(spec.get(where) or []):
            if not container.get("image"):
                yield {"field": f"spec.{where}[{n}].image", "message": "Required value"}
            for m, mount in enumerate(container.get("volumeMounts") or []):
                if mount["name"] not in volumes:
                    field = f"spec.{where}[{n}].volumeMounts[{m}].name"
                    yield {"field": field, "message": f'Not found: "{mount["name"]}"'}
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline < 2**31:
        said = f"Invalid value: {deadline}: must be between 1 and 2147483647, inclusive"
        yield {"field": "spec.activeDeadlineSeconds", "message": said}
    if spec["restartPolicy"] not in {"Always", "OnFailure", "Never"}:
        choices = 'supported values: "Always", "Never", "OnFailure"'
        said = f'Unsupported value: "{spec["restartPolicy"]}": {choices}'
        yield {"field": "spec.restartPolicy", "message": said}
    for n, volume in enumerate(spec.get("volumes") or []):
        for m, source in enumerate((volume.get("projected") or {}).get("sources") or []):
            seconds = (source.get("serviceAccountToken") or {}).get("expirationSeconds", 3600)
            if seconds < 600:
                field = f"spec.volumes[{n}].projected.sources[{m}].serviceAccountToken.expirationSeconds"
                yield {
                    "field": field,
                    "message": f"Invalid value: {seconds}: may not specify a duration less than 10 minutes",
                }


def _containers(spec: Object) -> list[Object]:
    return [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]


_VOLUME_DEFAULTS: dict[str, Object] = {
    "configMap": {"defaultMode": 420},
    "secret": {"defaultMode": 420},
    "projected": {"defaultMode": 420},
    "emptyDir": {},
}

_API_ACCESS: Object = {
    "defaultMode": 420,
    "sources": [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {
            "downwardAPI": {
                "items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]
            }
        },
    ],
}


def _quality(spec: Object) -> str:
    resources = [container.get("resources") or {} for container in _containers(spec)]
    if not any(one.get("requests") or one.get("limits") for one in resources):
        return "BestEffort"
    same = all(
        {"cpu", "memory"} <= set(one.get("limits") or {})
        and all(one["requests"].get(name) == one["limits"][name] for name in ("cpu", "memory"))
        for one in resources
    )
    return "Guaranteed" if same else "Burstable"


def grace_s(pod: Object, asked: int | None) -> int:
    """What a pod gets to end by itself (s); none when no node has it, or it has ended."""
    if not pod["spec"].get("nodeName") or pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}:
        return 0
    granted: int = pod["spec"].get("terminationGracePeriodSeconds", 30) if asked is None else asked
    return granted


def bound(pod: Object, binding: Object, now: str) -> Object:
    """The pod on the node that a Binding names; raises ApiError 409 when it is on one."""
    if pod["spec"].get("nodeName"):
        name = pod["metadata"]["name"]
        taken = f'pod {name} is already assigned to node "{pod["spec"]["nodeName"]}"'
        message = f'Operation cannot be fulfilled on pods/binding "{name}": {taken}'
        raise ApiError(409, "Conflict", message, details={"name": name, "kind": "pods/binding"})
    result = copy.deepcopy(pod)
    result["spec"]["nodeName"] = binding["target"]["name"]
    conditions = [one for one in result["status"].get("conditions") or [] if one["type"] != "PodScheduled"]
    scheduled = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now}
    result["status"]["conditions"] = [*conditions, scheduled]
    return result


Logs = Callable[[str, str, str, dict[str, str]], Iterator[bytes]]
"""(namespace, pod's uid, container, query) -> what the container has written; raises KeyError for an unknown one."""


def container_of(pod: Object, asked: str) -> str:
    """Whose log is meant; raises ApiError 400 as the real server does."""
    names: list[Any] = [one["name"] for one in _containers(pod["spec"])]
    name = pod["metadata"]["name"]
    if asked:
        if asked not in names:
            raise ApiError(400, "BadRequest", f"container {asked} is not valid for pod {name}")
        return asked
    if len(pod["spec"]["containers"]) > 1:
        choices = f"[{' '.join(one['name'] for one in pod['spec']['containers'])}]"
        said = f"a container name must be specified for pod {name}, choose one of: {choices}"
        raise ApiError(400, "BadRequest", said)
    only: str = pod["spec"]["containers"][0]["name"]
    return only
