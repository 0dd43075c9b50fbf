"""What a pod's status means for the attempt of a run that it is.

A runner reports its result to labd before it ends. So an end that is seen here is one without a result, and never a
success, whatever the exit code says. Times of the cluster are compared with the cluster's own clock.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from labd.executors.base import Alive, Exited, Status
from labd.executors.kubernetes.names import RUNNER, attempt_of
from labd.executors.kubernetes.settings import Cluster
from labd.model.run import Cause

Json = Mapping[str, Any]

_NOT_TAKEN = ("Evicted", "Preempting", "Shutdown", "NodeShutdown", "Terminated", "NodeAffinity")
"""Of a pod that its node put out, or would not take: elsewhere it may go well."""
_NEVER_COMES = ("InvalidImageName", "ErrImageNeverPull")
_PULLING_FAILS = ("ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable")
_LAST_WORDS_MAX = 2000


def judge(pod: Json, cluster: Cluster, now: float) -> Status:
    """What has become of the runner in a pod that is there. ``now``: s since the Unix epoch, by the cluster's clock."""
    attempt = attempt_of(pod)
    found = _ended(pod, cluster) if _is_over(pod) else _stuck(pod, cluster, now)
    if found is None:
        return Alive(attempt)
    cause, reason = found
    return Exited(reason, cause, attempt)


def judge_gone(last: Json) -> Exited:
    """What has become of the runner in a pod that is not there any more, by what was seen of it at last."""
    attempt = attempt_of(last)
    disrupted = _disruption(last)
    if disrupted is not None:
        return Exited(f"the cluster took the pod away: {disrupted}", Cause.EVICTED, attempt)
    if "deletionTimestamp" in last["metadata"]:
        return Exited("somebody deleted the pod", Cause.POD_LOST, attempt)
    return Exited("the pod is gone: deleted, or lost with its node", Cause.POD_LOST, attempt)


def waits_for(pod: Json) -> str | None:
    """What a pod waits for whose runner does not run yet, as the cluster has it; None once it does, or will not."""
    if _is_over(pod) or "running" in _state(_runner(pod)) or "deletionTimestamp" in pod["metadata"]:
        return None
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") != "True":
        return "a node" + (_sentence(scheduled.get("message", "")) or ": no scheduler has looked at it")
    busy = next((one["name"] for one in _containers(pod, init=True) if "running" in _state(one)), None)
    if busy is not None:
        return f"its init container {busy}"
    for one in _containers(pod):
        wait = _state(one).get("waiting")
        if wait is not None:
            why, said = wait.get("reason", "waiting"), _sentence(wait.get("message", ""))
            what = f"the image {_image(pod, one['name'])}" if why in _PULLING_FAILS else "its containers"
            return f"{what} ({why}){said}"
    return "its node to start it"


def is_over(pod: Json) -> bool:
    """Whether nothing runs in the pod any more, by what its node says."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def is_settled(pod: Json) -> bool:
    """Whether the verdict on a pod stays as it is while nothing is heard of it."""
    if is_over(pod):
        return True
    runs = "running" in _state(_runner(pod)) and _condition(pod, "Ready").get("status") == "True"
    return runs and "deletionTimestamp" not in pod["metadata"]


def over_since(pod: Json) -> float:
    """When a pod that is over ended (s since the Unix epoch)."""
    ends = [
        _time(state["terminated"].get("finishedAt")) for state in map(_state, _containers(pod)) if _has_ended(state)
    ]
    return max((end for end in ends if end is not None), default=created_at(pod))


def deleted_at(pod: Json) -> float | None:
    """When the containers of a pod that is to go have to have ended (s since the Unix epoch); None: it may stay."""
    return _time(pod["metadata"].get("deletionTimestamp"))


def created_at(of: Json) -> float:
    """When the object was made (s since the Unix epoch)."""
    return _time(of["metadata"].get("creationTimestamp")) or 0.0


def _is_over(pod: Json) -> bool:
    # A container that somebody's webhook has put beside the runner may go on; it is of no interest.
    return is_over(pod) or _has_ended(_state(_runner(pod)))


def _ended(pod: Json, cluster: Cluster) -> tuple[Cause, str]:
    status = pod["status"]
    why, said = status.get("reason", ""), _sentence(status.get("message", ""))
    disrupted = _disruption(pod)
    state = _state(_runner(pod)).get("terminated", {})
    if disrupted is not None:
        return Cause.EVICTED, f"the cluster took the pod away: {disrupted}"
    if why == "DeadlineExceeded":
        return Cause.TIMEOUT, f"the pod ran longer than its {pod['spec'].get('activeDeadlineSeconds')} s"
    if why == "NodeLost" or state.get("reason") == "ContainerStatusUnknown":
        return Cause.POD_LOST, f"the pod's node was lost{said}"
    if why in _NOT_TAKEN or why.startswith(("OutOf", "UnexpectedAdmissionError")):
        return Cause.EVICTED, f"its node put the pod out, or would not take it ({why}){said}"
    failed = next((one for one in _containers(pod, init=True) if _failed(one)), None)
    if failed is not None:
        return Cause.SETUP_FAILED, f"the init container {failed['name']} {_how(failed, cluster)}"
    if state.get("reason") == "OOMKilled":
        return Cause.OUT_OF_MEMORY, f"the runner used more memory than its limit of {cluster.limits.memory}"
    if state.get("reason") in ("StartError", "ContainerCannotRun"):
        return Cause.SETUP_FAILED, f"the runner could not be started{_sentence(state.get('message', ''))}"
    if "deletionTimestamp" in pod["metadata"]:
        return Cause.POD_LOST, "somebody deleted the pod"
    if not state:
        return Cause.POD_LOST, f"the pod ended before its runner did ({why or status['phase']}){said}"
    return Cause.NO_RESULT, f"the runner gave no result: it {_how(_runner(pod), cluster)}"


def _stuck(pod: Json, cluster: Cluster, now: float) -> tuple[Cause, str] | None:
    going_since = deleted_at(pod)
    if going_since is not None:
        if now < going_since + cluster.lost_limit_s:
            return None
        gone = judge_gone(pod)
        return Cause(gone.cause), f"{gone.reason}, and its node does not say that it has ended"
    lost_at = _lost_since(pod)
    if lost_at is not None:
        overdue = now >= lost_at + cluster.lost_limit_s
        return (
            (Cause.POD_LOST, f"the pod's node says nothing of it for {cluster.lost_limit_s:g} s") if overdue else None
        )
    if "running" in _state(_runner(pod)):
        return None
    return _waiting(pod, cluster, now)


def _waiting(pod: Json, cluster: Cluster, now: float) -> tuple[Cause, str] | None:
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") != "True":
        since = _time(scheduled.get("lastTransitionTime")) or created_at(pod)
        if now < since + cluster.unschedulable_limit_s:
            return None
        said = _sentence(scheduled.get("message", "")) or ": no scheduler has looked at it"
        return Cause.UNSCHEDULABLE, f"the pod got no node within {cluster.unschedulable_limit_s:g} s{said}"
    if any("running" in _state(one) for one in _containers(pod, init=True)):
        return None
    ends = [_time(_state(one)["terminated"].get("finishedAt")) for one in _containers(pod) if _has_ended(_state(one))]
    since = max(end or 0.0 for end in (*ends, _time(scheduled.get("lastTransitionTime")), created_at(pod)))
    waits = [(one["name"], _state(one)["waiting"]) for one in _containers(pod) if "waiting" in _state(one)]
    for name, wait in waits:
        why = wait.get("reason", "")
        if why in _NEVER_COMES or (why in _PULLING_FAILS and now >= since + cluster.image_pull_limit_s):
            said = _sentence(wait.get("message", ""))
            return Cause.IMAGE_PULL, f"the image {_image(pod, name)} does not come ({why}){said}"
    if now < since + cluster.start_limit_s:
        return None
    said = next((f" ({one.get('reason', 'waiting')}){_sentence(one.get('message', ''))}" for _, one in waits), "")
    return Cause.SETUP_FAILED, f"the pod did not start on its node within {cluster.start_limit_s:g} s{said}"


def _lost_since(pod: Json) -> float | None:
    status, ready = pod.get("status", {}), _condition(pod, "Ready")
    unknown = status.get("phase") == "Unknown" or status.get("reason") == "NodeLost" or ready.get("status") == "Unknown"
    # Its node, when it is reachable, says "not ready" of the pod and of a container together.
    told_apart = ready.get("status") == "False" and bool(_runner(pod).get("ready"))
    if unknown or told_apart:
        return _time(ready.get("lastTransitionTime")) or created_at(pod)
    return None


def _disruption(pod: Json) -> str | None:
    condition = _condition(pod, "DisruptionTarget")
    if condition.get("status") != "True":
        return None
    return str(condition.get("message") or condition.get("reason") or "without a reason")


def _condition(pod: Json, kind: str) -> Json:
    conditions = pod.get("status", {}).get("conditions") or []
    return next((one for one in conditions if one["type"] == kind), {})


def _containers(pod: Json, *, init: bool | None = None) -> Iterator[Json]:
    """The statuses of its containers, init containers first."""
    status = pod.get("status", {})
    if init is not False:
        yield from status.get("initContainerStatuses") or []
    if not init:
        yield from status.get("containerStatuses") or []


def _runner(pod: Json) -> Json:
    return next((one for one in _containers(pod, init=False) if one["name"] == RUNNER), {})


def _state(container: Json) -> Json:
    return container.get("state") or {}


def _has_ended(state: Json) -> bool:
    return "terminated" in state


def _failed(container: Json) -> bool:
    return bool(_state(container).get("terminated", {}).get("exitCode", 0))


def _how(container: Json, cluster: Cluster) -> str:
    end = _state(container).get("terminated", {})
    if end.get("reason") == "OOMKilled":
        return f"used more memory than its limit of {cluster.limits.memory}"
    said = end.get("message", "").strip()[-_LAST_WORDS_MAX:]
    return f"exited with code {end.get('exitCode')}" + (f"; it wrote: {said}" if said else "")


def _image(pod: Json, container: str) -> str:
    spec = pod["spec"]
    every = (*(spec.get("initContainers") or ()), *spec["containers"])
    return next((str(one.get("image")) for one in every if one["name"] == container), "")


def _sentence(text: str) -> str:
    return f": {text.strip()}" if text.strip() else ""


def _time(text: str | None) -> float | None:
    return None if text is None else datetime.fromisoformat(text).timestamp()
