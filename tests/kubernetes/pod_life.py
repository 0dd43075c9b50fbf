"""The life of one pod on the test node: bound, its volumes made, its containers run, its end reported."""

import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.kubernetes.containers import Container, Program
from tests.kubernetes.json_api import AWAY, MERGE, JsonApi, Object, Refused, stamp
from tests.kubernetes.volumes import MissingPart, Parts, Paths, environment, expanded, materialise

_AGAIN_S = 0.1
"""Between looks for something that is missing, and attempts to reach the server."""


class _Ended(Exception):
    """The pod is to be left as it is: it is gone, or the node."""


@dataclass
class Span:
    """When a container of a pod really ran; the witness of tests."""

    pod: str
    uid: str
    labels: dict[str, str]
    container: str
    began: float
    """Monotonic time (s), like ``ended``."""
    ended: float | None = None
    exit_code: int | None = None


@dataclass
class Orders:
    """What the node, the server or a test want of a pod."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    grace_s: float | None = None
    """Set when it is to end."""
    gone: bool = False
    """Removed from the server."""
    silent: bool = False
    """The node cannot reach the server."""
    evicted: str = ""
    """The message of its eviction."""
    starved: str = ""
    """The container that is to be killed for its memory."""
    pull: bool = True
    """Whether its images can be pulled."""
    closing: bool = False
    """The node is closed: everything ends now."""

    def give(self, **orders: Any) -> None:
        with self.changed:
            for name, value in orders.items():
                setattr(self, name, value)
            self.changed.notify_all()

    def poke(self) -> None:
        with self.changed:
            self.changed.notify_all()


class PodLife:
    """Runs on a thread of its own."""

    def __init__(
        self,
        api: JsonApi,
        pod: Object,
        node: str,
        folder: Path,
        programs: Callable[[Object, str], Program | None],
        variables: dict[str, str],
        spans: list[Span],
    ) -> None:
        self.pod = pod
        self.orders = Orders()
        self.containers: dict[str, Container] = {}
        meta = pod["metadata"]
        self.uid: str = meta["uid"]
        self._api = api
        self._node = node
        self._folder = folder / self.uid
        self._programs = programs
        self._variables = variables
        self._spans = spans
        self._path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        self._states: dict[str, Object] = {}
        self._began: dict[str, str] = {}
        self._deadline: float | None = None
        self._status: Object = {}
        self.thread = threading.Thread(target=self._live, name=f"pod {meta['name']}", daemon=True)

    @property
    def running(self) -> bool:
        return any(one.exit_code is None for one in self.containers.values())

    # Talking to the server

    def _report(self, phase: str, **more: Any) -> None:
        """The status as it is now; what a field had before stays, save that None takes it away."""
        spec = self.pod["spec"]
        initial = all(
            (self._states.get(one["name"], {}).get("terminated") or {}).get("exitCode") == 0
            for one in spec.get("initContainers") or []
        )
        ready = phase == "Running"
        conditions = [
            _condition("PodScheduled", True),
            _condition("Initialized", initial),
            _condition("ContainersReady", ready),
            _condition("Ready", ready, "PodCompleted" if phase == "Succeeded" else ""),
            *more.pop("conditions", []),
        ]
        before = {one["type"]: one for one in self._status.get("conditions", ())}
        for one in conditions:
            former = before.get(one["type"], {})
            if former.get("status") == one["status"]:
                one["lastTransitionTime"] = former["lastTransitionTime"]
        self._status = {
            "phase": phase,
            "conditions": conditions,
            "hostIP": "127.0.0.1",
            "podIP": "127.0.0.1",
            "startTime": self._status.get("startTime") or stamp(),
            "containerStatuses": [self._state(one) for one in spec["containers"]],
            **more,
        }
        if spec.get("initContainers"):
            self._status["initContainerStatuses"] = [self._state(one) for one in spec["initContainers"]]
        self._patch(self._status)

    def _patch(self, status: Object) -> None:
        body = {"metadata": {"uid": self.uid}, "status": status}
        self._ask(lambda: self._api.request("PATCH", f"{self._path}/status", body, kind=MERGE))

    def _ask(self, request: Callable[[], Any]) -> Any:
        """Until the server answers; raises _Ended when the pod is no more."""
        while True:
            with self.orders.changed:
                while self.orders.silent and not self.orders.closing:
                    self.orders.changed.wait(1)
                if self.orders.closing:
                    raise _Ended
            try:
                return request()
            except Refused as error:
                if error.code in {404, 409}:
                    raise _Ended from error
                if error.code not in {429, 500, 503, 504}:
                    raise
            except AWAY:
                pass  # it is away; again, for as long as the node lives
            time.sleep(_AGAIN_S)

    def _state(self, container: Object) -> Object:
        name = container["name"]
        state = self._states.get(name) or {"waiting": {"reason": "PodInitializing"}}
        ready = "running" in state or (state.get("terminated") or {}).get("exitCode") == 0
        return {
            "name": name,
            "image": container["image"],
            "imageID": "",
            "ready": ready,
            "started": "running" in state,
            "restartCount": 0,
            "state": state,
            "lastState": {},
        }

    # Living

    def _live(self) -> None:
        try:
            self._bind()
            self._run()
        except _Ended:
            self._end_all(0.0 if self.orders.closing else self._grace())
        finally:
            if not self.orders.closing:
                self._vanish()

    def _grace(self) -> float:
        if self.orders.grace_s is not None:
            return self.orders.grace_s
        return float(self.pod["spec"].get("terminationGracePeriodSeconds", 30))

    def _bind(self) -> None:
        if self.pod["spec"].get("nodeName"):
            return
        meta = self.pod["metadata"]
        target = {"apiVersion": "v1", "kind": "Node", "name": self._node}
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": meta["name"]}, "target": target}
        self._ask(lambda: self._api.request("POST", f"{self._path}/binding", body))
        self.pod = {**self.pod, "spec": {**self.pod["spec"], "nodeName": self._node}}

    def _run(self) -> None:
        spec = self.pod["spec"]
        if spec.get("activeDeadlineSeconds"):
            self._deadline = time.monotonic() + spec["activeDeadlineSeconds"]
        for container in spec["containers"]:
            self._states[container["name"]] = {"waiting": {"reason": "ContainerCreating"}}
        if spec.get("initContainers"):
            for container in spec["containers"]:
                self._states[container["name"]] = {"waiting": {"reason": "PodInitializing"}}
        self._report("Pending")
        self._make_volumes()
        for container in spec.get("initContainers") or []:
            self._start(container)
            self._report("Pending")
            self._watch_over()
            if self.containers[container["name"]].exit_code != 0:
                self._finish()
                return
        for container in spec["containers"]:
            self._start(container)
        self._report("Running")
        self._watch_over()
        self._finish()

    def _pause(self, seconds: float = _AGAIN_S) -> None:
        """Raises _Ended when the pod is to end before it has begun."""
        with self.orders.changed:
            self.orders.changed.wait(seconds)
        if self.orders.closing or self.orders.gone:
            raise _Ended
        if self.orders.grace_s is not None:
            self._finish()
            raise _Ended
        if self.orders.evicted or (self._deadline is not None and time.monotonic() >= self._deadline):
            self._finish()
            raise _Ended

    def _make_volumes(self) -> None:
        while True:
            try:
                self._ask(self._materialise)
                return
            except MissingPart:
                self._pause()  # as the kubelet does: it stays in ContainerCreating

    def _materialise(self) -> None:
        parts = Parts(self._api, self.pod)
        for volume in self.pod["spec"].get("volumes") or []:
            materialise(parts, volume, self._folder / "volumes" / volume["name"])

    def _start(self, container: Object) -> None:
        name = container["name"]
        reason = "ErrImagePull"
        while not self.orders.pull:
            image = container["image"]
            said = f'Back-off pulling image "{image}"' if reason != "ErrImagePull" else f'failed to pull "{image}"'
            self._states[name] = {"waiting": {"reason": reason, "message": said}}
            self._report("Pending")
            self._pause(1.0 if reason != "ErrImagePull" else _AGAIN_S)
            reason = "ImagePullBackOff"
        parts, paths = Parts(self._api, self.pod), Paths(container, self._folder / "volumes")
        variables = self._variables_of(container, parts, paths)
        command = [*(container.get("command") or []), *(container.get("args") or [])]
        command = [paths.mapped(expanded(word, variables)) for word in command]
        folder = Path(paths.mapped(container["workingDir"])) if container.get("workingDir") else self._folder
        folder = folder if folder.is_dir() else self._folder
        own = Container(name, self._folder / "logs" / name, self._folder / f"message-{name}")
        span = Span(
            self.pod["metadata"]["name"],
            self.uid,
            dict(self.pod["metadata"].get("labels") or {}),
            name,
            time.monotonic(),
        )

        def ended() -> None:
            span.ended, span.exit_code = time.monotonic(), own.exit_code
            self.orders.poke()

        self._began[name] = stamp()
        try:
            own.start(command, variables, folder, self.pod, self._programs(self.pod, name), ended)
        except OSError as error:
            own.log.write_text(f"{error}\n")
            own.exit_code = 127
        else:
            self._spans.append(span)
        self.containers[name] = own
        self._states[name] = {"running": {"startedAt": self._began[name]}}

    def _variables_of(self, container: Object, parts: Parts, paths: Paths) -> dict[str, str]:
        while True:
            try:
                own: dict[str, str] = self._ask(lambda: environment(parts, container, paths.mapped))
                return {name: paths.mapped(value) for name, value in self._variables.items()} | own
            except MissingPart as error:
                waiting = {"reason": "CreateContainerConfigError", "message": str(error)}
                self._states[container["name"]] = {"waiting": waiting}
                self._report("Pending")
                self._pause()

    def _watch_over(self) -> None:
        """Until all that run have ended, or are made to."""
        while self.running:
            with self.orders.changed:
                if not (self._all_ended() or self._must_end() or self.orders.starved or self.orders.closing):
                    left = 60.0 if self._deadline is None else max(0.0, self._deadline - time.monotonic())
                    self.orders.changed.wait(left)
            if self.orders.closing:
                raise _Ended
            if self.orders.starved:
                self.containers[self.orders.starved].kill(for_memory=True)
                self.orders.starved = ""
            elif self._must_end():
                self._end_all(self._grace())
                return

    def _all_ended(self) -> bool:
        return not self.running

    def _must_end(self) -> bool:
        late = self._deadline is not None and time.monotonic() >= self._deadline
        return late or self.orders.gone or self.orders.grace_s is not None or bool(self.orders.evicted)

    def _end_all(self, grace_s: float) -> None:
        for one in self.containers.values():
            if one.exit_code is None:
                one.terminate()
        ends = time.monotonic() + grace_s
        while self.running and time.monotonic() < ends and not self.orders.closing:
            with self.orders.changed:
                if self.running:
                    self.orders.changed.wait(min(ends - time.monotonic(), 0.5))
        for one in self.containers.values():
            one.kill()
            one.join(10)

    def _finish(self) -> None:
        """Says how it ended."""
        spec, orders = self.pod["spec"], self.orders
        for container in [*(spec.get("initContainers") or []), *spec["containers"]]:
            own = self.containers.get(container["name"])
            if own is None or own.exit_code is None:
                continue
            reason = "OOMKilled" if own.killed_for_memory else "Error" if own.exit_code else "Completed"
            terminated = {
                "exitCode": own.exit_code,
                "reason": reason,
                "startedAt": self._began[own.name],
                "finishedAt": stamp(),
                "containerID": f"local://{self.uid}/{own.name}",
            }
            if message := own.message(container.get("terminationMessagePolicy", "File")):
                terminated["message"] = message
            self._states[own.name] = {"terminated": terminated}
        if orders.evicted:
            condition = _condition("DisruptionTarget", True, "TerminationByKubelet", orders.evicted)
            self._report("Failed", reason="Evicted", message=orders.evicted, conditions=[condition])
            return
        codes = [own.exit_code for own in self.containers.values()]
        if self._deadline is not None and time.monotonic() >= self._deadline and any(codes):
            said = "Pod was active on the node longer than the specified deadline"
            self._report("Failed", reason="DeadlineExceeded", message=said)
            return
        started = len(self.containers) == len(spec["containers"]) + len(spec.get("initContainers") or [])
        self._report("Succeeded" if started and not any(codes) else "Failed")

    def _vanish(self) -> None:
        """Once it is deleted and has ended, the node is who takes it off the server."""
        with self.orders.changed:
            while self.orders.grace_s is None and not self.orders.gone and not self.orders.closing:
                self.orders.changed.wait(60)
        if not self.orders.gone and not self.orders.closing:
            body = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
            try:
                self._ask(lambda: self._api.request("DELETE", self._path, body))
            except _Ended:
                return
            finally:
                shutil.rmtree(self._folder, ignore_errors=True)


def _condition(kind: str, good: bool, reason: str = "", message: str = "") -> Object:
    found = {
        "type": kind,
        "status": "True" if good else "False",
        "lastProbeTime": None,
        "lastTransitionTime": stamp(),
        "reason": reason,
        "message": message,
    }
    return {key: value for key, value in found.items() if value != ""}
