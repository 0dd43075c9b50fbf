"""Every end that a pod can have, as the Kubernetes API tells it, and what it means for the run."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.executors.base import Alive, Exited, Status
from labd.executors.kubernetes.names import RUNNER, SOURCE, labels, object_name
from labd.executors.kubernetes.settings import Cluster
from labd.executors.kubernetes.verdict import judge, judge_gone, over_since, waits_for
from labd.model.run import Cause, RunState

CLUSTER = Cluster(
    name="lab", image="runner:1", unschedulable_limit_s=100, image_pull_limit_s=50, start_limit_s=80, lost_limit_s=40
)
T0 = 1_800_000_000.0
Json = dict[str, Any]


def _at(seconds: float) -> str:
    return datetime.fromtimestamp(T0 + seconds, UTC).isoformat().replace("+00:00", "Z")


def _condition(kind: str, status: str, at: float = 0, **more: str) -> Json:
    return {"type": kind, "status": status, "lastTransitionTime": _at(at), **more}


SCHEDULED = _condition("PodScheduled", "True", 1)


def _pod(phase: str, *states: Json, init: Json | None = None, conditions: tuple[Json, ...] = (), **status: Any) -> Json:
    containers = [{"name": RUNNER, "state": state, "ready": "running" in state} for state in states]
    found: Json = {
        "metadata": {"name": "labd-r-1-2", "creationTimestamp": _at(0), "labels": labels("lab", "r-1", 2)},
        "spec": {
            "activeDeadlineSeconds": 60,
            "containers": [{"name": RUNNER, "image": "runner:1"}],
            "initContainers": [{"name": SOURCE, "image": "git:1"}],
        },
        "status": {"phase": phase, "conditions": list(conditions), "containerStatuses": containers, **status},
    }
    if init is not None:
        found["status"]["initContainerStatuses"] = [{"name": SOURCE, "state": init}]
    return found


def _ended(code: int, **more: Any) -> Json:
    return {"terminated": {"exitCode": code, "finishedAt": _at(10), **more}}


def _waiting(reason: str, message: str = "") -> Json:
    return {"waiting": {"reason": reason, "message": message}}


def _deleted(pod: Json, at: float) -> Json:
    pod["metadata"]["deletionTimestamp"] = _at(at)
    return pod


RUNNING: Json = {"running": {"startedAt": _at(5)}}
DISRUPTED = _condition("DisruptionTarget", "True", 8, reason="EvictionByEvictionAPI", message="Eviction API: evicting")


def _status(pod: Json, after: float = 20) -> Status:
    return judge(pod, CLUSTER, T0 + after)


def _end(pod: Json, after: float = 20) -> Exited:
    status = _status(pod, after)
    assert isinstance(status, Exited)
    assert status.attempt == 2
    return status


# The table, row by row. That a result has come is known in labd's store, and settles the run before its pod ends.


def test_no_success_without_a_result() -> None:
    end = _end(_pod("Succeeded", _ended(0)))
    assert end.cause is Cause.NO_RESULT
    assert end.reason == "the runner gave no result: it exited with code 0"


def test_longer_than_its_deadline() -> None:
    end = _end(_pod("Failed", _ended(137, reason="Error"), reason="DeadlineExceeded"))
    assert end.cause is Cause.TIMEOUT
    assert Cause(end.cause).verdict is RunState.FAILED
    assert "60 s" in end.reason


def test_deadline_of_a_pod_that_never_began() -> None:
    assert _end(_pod("Failed", reason="DeadlineExceeded")).cause is Cause.TIMEOUT


def test_out_of_memory() -> None:
    end = _end(_pod("Failed", _ended(137, reason="OOMKilled")))
    assert end.cause is Cause.OUT_OF_MEMORY
    assert Cause(end.cause).verdict is RunState.FAILED
    assert "512Mi" in end.reason


@pytest.mark.parametrize("state", [_ended(137, reason="Error"), _ended(137, reason="OOMKilled"), _ended(0)])
def test_disruption_is_an_eviction_whatever_the_container_made_of_it(state: Json) -> None:
    end = _end(_pod("Failed", state, conditions=(DISRUPTED,)))
    assert end.cause is Cause.EVICTED
    assert Cause(end.cause).transient
    assert "Eviction API: evicting" in end.reason


@pytest.mark.parametrize(
    "reason", ["Evicted", "Preempting", "Terminated", "OutOfcpu", "OutOfmemory", "NodeAffinity", "NodeShutdown"]
)
def test_its_node_puts_it_out_or_does_not_take_it(reason: str) -> None:
    end = _end(_pod("Failed", reason=reason, message="Node was low on memory"))
    assert end.cause is Cause.EVICTED
    assert "low on memory" in end.reason


def test_init_container_failed() -> None:
    end = _end(_pod("Failed", _waiting("PodInitializing"), init=_ended(128, message="fatal: no such revision\n")))
    assert end.cause is Cause.SETUP_FAILED
    assert end.reason == "the init container source exited with code 128; it wrote: fatal: no such revision"


def test_init_container_out_of_memory_is_a_failed_setup_that_says_so() -> None:
    end = _end(_pod("Failed", _waiting("PodInitializing"), init=_ended(137, reason="OOMKilled")))
    assert end.cause is Cause.SETUP_FAILED
    assert "more memory than its limit of 512Mi" in end.reason


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff"])
def test_image_that_does_not_come_past_its_limit(reason: str) -> None:
    pod = _pod("Pending", _waiting(reason, "manifest unknown"), conditions=(SCHEDULED,))
    assert _status(pod, 50) == Alive(2)
    end = _end(pod, 51)
    assert end.cause is Cause.IMAGE_PULL
    assert end.reason == f"the image runner:1 does not come ({reason}): manifest unknown"


def test_image_of_the_init_container_counts_too() -> None:
    pod = _pod("Pending", _waiting("PodInitializing"), init=_waiting("ImagePullBackOff"), conditions=(SCHEDULED,))
    end = _end(pod, 60)
    assert end.cause is Cause.IMAGE_PULL
    assert "git:1" in end.reason


@pytest.mark.parametrize("reason", ["InvalidImageName", "ErrImageNeverPull"])
def test_image_that_never_can_come_is_not_waited_for(reason: str) -> None:
    assert _end(_pod("Pending", _waiting(reason), conditions=(SCHEDULED,)), 1).cause is Cause.IMAGE_PULL


def test_time_for_the_image_counts_from_the_end_of_the_init_container() -> None:
    pod = _pod("Pending", _waiting("ErrImagePull"), init=_ended(0), conditions=(SCHEDULED,))
    assert isinstance(_status(pod, 59), Alive)
    assert _end(pod, 60).cause is Cause.IMAGE_PULL


def test_unschedulable_past_its_limit() -> None:
    why = _condition("PodScheduled", "False", 2, reason="Unschedulable", message="0/3 nodes: 3 Insufficient cpu.")
    pod = _pod("Pending", conditions=(why,))
    assert _status(pod, 101) == Alive(2)
    end = _end(pod, 102)
    assert end.cause is Cause.UNSCHEDULABLE
    assert "3 Insufficient cpu" in end.reason


def test_no_scheduler_at_all() -> None:
    pod = _pod("Pending")
    assert isinstance(_status(pod, 99), Alive)
    assert _end(pod, 100).cause is Cause.UNSCHEDULABLE


@pytest.mark.parametrize("reason", ["ContainerCreating", "CreateContainerConfigError", "CreateContainerError"])
def test_never_starts_on_its_node(reason: str) -> None:
    pod = _pod("Pending", _waiting(reason, "configmap not found"), conditions=(SCHEDULED,))
    assert isinstance(_status(pod, 80), Alive)
    end = _end(pod, 81)
    assert end.cause is Cause.SETUP_FAILED
    assert f"({reason}): configmap not found" in end.reason


def test_runner_whose_command_cannot_be_started() -> None:
    end = _end(_pod("Failed", _ended(128, reason="StartError", message="exec: not found")))
    assert end.cause is Cause.SETUP_FAILED
    assert "exec: not found" in end.reason


def test_long_clone_is_no_failed_start() -> None:
    pod = _pod("Pending", _waiting("PodInitializing"), init=RUNNING, conditions=(SCHEDULED,))
    assert _status(pod, 10_000) == Alive(2)


# Lost


def test_unknown_past_its_limit() -> None:
    pod = _pod("Unknown", RUNNING, conditions=(SCHEDULED, _condition("Ready", "Unknown", 10)))
    assert isinstance(_status(pod, 49), Alive)
    end = _end(pod, 50)
    assert end.cause is Cause.POD_LOST
    assert Cause(end.cause).transient


def test_node_that_is_silent_about_a_running_pod() -> None:
    """Kubernetes leaves the container's last word as it was, and takes its readiness back."""
    pod = _pod("Running", RUNNING, conditions=(SCHEDULED, _condition("Ready", "False", 10)))
    assert _status(pod, 49) == Alive(2)
    assert _end(pod, 50).cause is Cause.POD_LOST


def test_node_lost() -> None:
    assert _end(_pod("Failed", reason="NodeLost", message="node n1 is gone")).cause is Cause.POD_LOST
    assert _end(_pod("Failed", _ended(137, reason="ContainerStatusUnknown"))).cause is Cause.POD_LOST


def test_deleted_by_hand_lives_until_its_grace_is_over_and_ends_as_lost() -> None:
    assert _status(_deleted(_pod("Running", RUNNING), 40), 79) == Alive(2)
    end = _end(_deleted(_pod("Running", RUNNING), 40), 80)
    assert end.cause is Cause.POD_LOST
    assert "does not say that it has ended" in end.reason
    assert _end(_deleted(_pod("Failed", _ended(143)), 40)).reason == "somebody deleted the pod"


def test_taken_from_a_node_that_is_gone() -> None:
    assert _end(_deleted(_pod("Running", RUNNING, conditions=(DISRUPTED,)), 10), 50).cause is Cause.EVICTED


def test_disruption_that_is_only_announced_lets_the_runner_end() -> None:
    assert _status(_pod("Running", RUNNING, conditions=(DISRUPTED,))) == Alive(2)


def test_gone() -> None:
    assert judge_gone(_pod("Running", RUNNING)).cause is Cause.POD_LOST
    assert judge_gone(_deleted(_pod("Running", RUNNING), 1)).reason == "somebody deleted the pod"
    assert judge_gone(_pod("Running", RUNNING, conditions=(DISRUPTED,))).cause is Cause.EVICTED


@pytest.mark.parametrize(
    ("pod", "awaited"),
    [
        (
            _pod("Pending", conditions=(_condition("PodScheduled", "False", 1, message="0/3 nodes are available"),)),
            "a node: 0/3 nodes are available",
        ),
        (_pod("Pending"), "a node: no scheduler has looked at it"),
        (_pod("Pending", conditions=(SCHEDULED,)), "its node to start it"),
        (
            _pod("Pending", _waiting("ImagePullBackOff", "not found"), conditions=(SCHEDULED,)),
            "the image runner:1 (ImagePullBackOff): not found",
        ),
        (_pod("Pending", _waiting("ContainerCreating"), conditions=(SCHEDULED,)), "its containers (ContainerCreating)"),
        (
            _pod("Pending", _waiting("PodInitializing"), init=RUNNING, conditions=(SCHEDULED,)),
            "its init container source",
        ),
        (_pod("Running", RUNNING, conditions=(SCHEDULED,)), None),
        (_pod("Succeeded", _ended(0)), None),
        (_deleted(_pod("Pending"), 5), None),
    ],
)
def test_what_a_pod_waits_for_is_told_as_the_cluster_has_it(pod: Json, awaited: str | None) -> None:
    assert waits_for(pod) == awaited


# Odd ones


def test_runner_that_breaks_shows_its_last_words() -> None:
    end = _end(_pod("Failed", _ended(1, reason="Error", message="Traceback ...\nOSError: no space left\n")))
    assert end.cause is Cause.NO_RESULT
    assert end.reason.startswith("the runner gave no result: it exited with code 1; it wrote: Traceback")
    assert len(_end(_pod("Failed", _ended(1, message="x" * 9999))).reason) < 2100


def test_container_put_beside_the_runner_does_not_keep_the_run_alive() -> None:
    pod = _pod("Running", _ended(1), conditions=(SCHEDULED,))
    pod["status"]["containerStatuses"].append({"name": "istio-proxy", "state": RUNNING, "ready": True})
    assert _end(pod).cause is Cause.NO_RESULT


def test_pod_failed_without_a_word() -> None:
    assert _end(_pod("Failed")).cause is Cause.POD_LOST


def test_new_pod_without_a_status() -> None:
    pod = _pod("Pending")
    del pod["status"]
    assert _status(pod, 0) == Alive(2)


def test_finished_counts_from_the_end_of_its_containers() -> None:
    assert over_since(_pod("Succeeded", _ended(0))) == T0 + 10
    assert over_since(_pod("Failed", reason="Evicted")) == T0


states = st.sampled_from(
    [RUNNING, _ended(0), _ended(1), _ended(137, reason="OOMKilled"), _waiting("ErrImagePull"), _waiting("Odd"), {}]
)
conditions = st.lists(
    st.builds(
        _condition,
        st.sampled_from(["PodScheduled", "Ready", "DisruptionTarget", "PodReadyToStartContainers"]),
        st.sampled_from(["True", "False", "Unknown"]),
        st.integers(0, 300),
    ),
    max_size=4,
).map(tuple)
pods = st.builds(
    lambda phase, state, init, found, reason, deleted: (_deleted if deleted else lambda pod, _: pod)(
        _pod(phase, *([state] if state is not None else []), init=init, conditions=found, **reason), 30
    ),
    st.sampled_from(["Pending", "Running", "Succeeded", "Failed", "Unknown"]),
    st.none() | states,
    st.none() | states,
    conditions,
    st.sampled_from([{}, {"reason": "Evicted"}, {"reason": "DeadlineExceeded"}, {"reason": "Odd", "message": "odd"}]),
    st.booleans(),
)


@given(pods, st.integers(0, 1000))
def test_whatever_a_pod_says_there_is_one_verdict_with_a_reason(pod: Json, after: int) -> None:
    status = _status(pod, after)
    if pod["status"]["phase"] in ("Succeeded", "Failed"):
        assert isinstance(status, Exited), "nothing runs in it any more"
    if isinstance(status, Exited):
        assert Cause(status.cause).verdict in (RunState.FAILED, RunState.ERROR)
        assert status.reason
        assert isinstance(_status(pod, after + 1), Exited), "an end is not taken back"


@given(pods)
def test_no_pod_waits_for_ever_unless_it_runs(pod: Json) -> None:
    status = _status(pod, 100_000)
    running = any(
        "running" in one["state"]
        for kind in ("containerStatuses", "initContainerStatuses")
        for one in pod["status"].get(kind, [])
    )
    assert isinstance(status, Exited) or running


def test_names_say_run_and_attempt() -> None:
    assert object_name("r-0b6e7715c9aa", 3) == "labd-r-0b6e7715c9aa-3"
