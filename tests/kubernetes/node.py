"""A node without a kubelet: it runs containers' commands as local processes and reports them through the API alone.

So it works on any API server, the fake and a real one, as long as nobody else binds the pods of its namespace.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.kubernetes.containers import Inside, Program
from tests.kubernetes.fake import FakeApiServer
from tests.kubernetes.json_api import AWAY, MERGE, JsonApi, Object, Refused, stamp
from tests.kubernetes.kubelet import Kubelet
from tests.kubernetes.pod_life import PodLife, Span

__all__ = ["Inside", "LocalNode", "Program", "Span"]

_AGAIN_S = 0.1
Wanted = Callable[[Object], bool]
"""Which pods: by default all."""


def _every(pod: Object) -> bool:
    return True


class LocalNode:
    """Binds the pending pods of a namespace to itself and runs them.

    ``programs`` maps a container's name to a function that stands in for its command. ``variables`` are added to each
    container's environment; paths in them are the container's (`/var/run/secrets/x`) and become those of this machine,
    as in its own environment and command.
    """

    def __init__(
        self,
        kubeconfig: Path,
        namespace: str,
        folder: Path,
        *,
        fake: FakeApiServer | None = None,
        programs: Mapping[str, Program] | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.name = f"{namespace}-node"
        self.spans: list[Span] = []
        """Which containers really ran, and when."""
        self._api = JsonApi(kubeconfig)
        self._namespace = namespace
        self._folder = folder
        self._programs = dict(programs or {})
        self._variables = dict(variables or {})
        self._lives: dict[str, PodLife] = {}
        self._lock = threading.Lock()
        self._full: list[tuple[Wanted, str]] = []
        self._unpullable: list[Wanted] = []
        self._silent = False
        self._ended = threading.Event()
        self._kubelet = None if fake is not None else Kubelet(self._api, self.name, folder / "kubelet", self._output)
        if fake is not None:
            fake.logs = self.logs
        self._thread = threading.Thread(target=self._watch, name=self.name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Kills every container and waits, at most 10 s each, until they are gone."""
        self._ended.set()
        lives = self._known()
        for life in lives:
            life.orders.give(closing=True)
        for life in lives:
            life.thread.join(10)
        self._api.hang_up()
        self._thread.join(10)
        if self._kubelet is not None:
            self._kubelet.close()

    # What tests do to it

    @contextmanager
    def full(
        self, wanted: Wanted = _every, message: str = "0/1 nodes are available: 1 Insufficient cpu."
    ) -> Iterator[None]:
        """Leaves new pods unscheduled meanwhile, and says so in them."""
        self._full.append((wanted, message))
        try:
            yield
        finally:
            self._full = [one for one in self._full if one[0] is not wanted]
            self._look_again()

    @contextmanager
    def no_image(self, wanted: Wanted = _every) -> Iterator[None]:
        """No image can be pulled meanwhile: ErrImagePull, then ImagePullBackOff."""
        self._unpullable.append(wanted)
        try:
            yield
        finally:
            self._unpullable.remove(wanted)
            for life in self._known():
                if not any(one(life.pod) for one in self._unpullable):
                    life.orders.give(pull=True)

    def run_out_of_memory(self, pod: str, container: str = "") -> None:
        """Kills a container as the kernel does when it takes more than its limit."""
        life = self.life(pod)
        running = [name for name, one in life.containers.items() if one.exit_code is None]
        life.orders.give(starved=container or running[-1])

    def evict(self, pod: str, message: str = "The node was low on resource: memory.") -> None:
        """Ends a pod for the node's need, with the condition DisruptionTarget."""
        self.life(pod).orders.give(evicted=message)

    @contextmanager
    def lost(self, *, unknown: bool = True) -> Iterator[None]:
        """Cannot reach the server meanwhile, though its containers go on; its pods' phase becomes Unknown."""
        self._silent = True
        for life in self._known():
            life.orders.give(silent=True)
            if unknown:
                body = {"status": {"phase": "Unknown", "reason": "NodeLost"}}
                meta = life.pod["metadata"]
                try:
                    self._api.request("PATCH", f"{self._pods}/{meta['name']}/status", body, kind=MERGE)
                except Refused as error:
                    if error.code != 404:
                        raise
        try:
            yield
        finally:
            self._silent = False
            for life in self._known():
                life.orders.give(silent=False)
            self._look_again()

    def life(self, pod: str, timeout_s: float = 30) -> PodLife:
        """The pod of that name that runs here; raises TimeoutError."""
        ends = time.monotonic() + timeout_s
        while time.monotonic() < ends:
            for life in reversed(self._known()):
                if life.pod["metadata"]["name"] == pod and life.running:
                    return life
            time.sleep(0.02)
        raise TimeoutError(f"no pod {pod} runs on {self.name}")

    @property
    def running(self) -> int:
        """How many pods have a container that runs."""
        return sum(life.running for life in self._known())

    def logs(self, namespace: str, uid: str, container: str, query: dict[str, str]) -> Iterator[bytes]:
        """What a container wrote; raises KeyError."""
        with self._lock:
            own = self._lives[uid].containers[container]
        return _tail(own.log, query, lambda: own.exit_code is not None)

    def _output(self, namespace: str, pod: str, container: str, query: dict[str, str]) -> Iterator[bytes]:
        """The same, by the pod's name."""
        lives = [life for life in self._known() if life.pod["metadata"]["name"] == pod]
        if not lives:
            raise KeyError(pod)
        return self.logs(namespace, lives[-1].uid, container, query)

    # Watching

    @property
    def _pods(self) -> str:
        return f"/api/v1/namespaces/{self._namespace}/pods"

    def _known(self) -> list[PodLife]:
        with self._lock:
            return [*self._lives.values()]

    def _watch(self) -> None:
        while not self._ended.is_set():
            try:
                version = self._look()
                for event in self._api.watch(self._pods, version, self._ended):
                    if event["type"] == "ERROR":
                        break
                    if event["type"] == "DELETED":
                        self._removed(event["object"])
                    elif event["type"] != "BOOKMARK":
                        self._see(event["object"])
            except Refused:
                pass  # it may be the namespace that goes, or a server that is hurt: list again
            except AWAY:
                pass
            self._ended.wait(_AGAIN_S)

    def _look(self) -> str:
        """At all pods; answers the version from which to watch."""
        found = self._api.request("GET", self._pods)
        present = {pod["metadata"]["uid"] for pod in found["items"]}
        for life in self._known():
            if life.uid not in present and not self._silent:
                life.orders.give(gone=True)
        for pod in found["items"]:
            self._see(pod)
        version: str = found["metadata"]["resourceVersion"]
        return version

    def _look_again(self) -> None:
        try:
            self._look()
        except AWAY:
            return  # the watch begins with a look when the server is back

    def _removed(self, pod: Object) -> None:
        with self._lock:
            life = self._lives.get(pod["metadata"]["uid"])
        if life is not None and not self._silent:
            life.orders.give(gone=True)

    def _see(self, pod: Object) -> None:
        meta = pod["metadata"]
        with self._lock:
            life = self._lives.get(meta["uid"])
            new = life is None and not self._silent and self._takes(pod)
            if new:
                life = PodLife(self._api, pod, self.name, self._folder, self._program, self._variables, self.spans)
                self._lives[meta["uid"]] = life
        if life is None:
            return
        if new:
            life.orders.give(pull=not any(one(pod) for one in self._unpullable))
            life.thread.start()
        if meta.get("deletionTimestamp") and not self._silent:
            life.orders.give(grace_s=float(meta.get("deletionGracePeriodSeconds", 0)))

    def _takes(self, pod: Object) -> bool:
        if pod["metadata"].get("deletionTimestamp") or pod.get("status", {}).get("phase") not in {"Pending", None, ""}:
            return False
        place = pod["spec"].get("nodeName")
        if place:
            return bool(place == self.name)
        for wanted, message in self._full:
            if wanted(pod):
                threading.Thread(target=self._refuse, args=(pod, message), daemon=True).start()
                return False
        return True

    def _refuse(self, pod: Object, message: str) -> None:
        if any(one["type"] == "PodScheduled" for one in pod.get("status", {}).get("conditions") or []):
            return
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastTransitionTime": stamp(),
        }
        path = f"{self._pods}/{pod['metadata']['name']}/status"
        try:
            self._api.request("PATCH", path, {"status": {"conditions": [condition]}}, kind=MERGE)
        except Refused as error:
            if error.code not in {404, 409}:
                raise

    def _program(self, pod: Object, container: str) -> Program | None:
        return self._programs.get(container)


def _tail(log: Path, query: dict[str, str], ended: Callable[[], bool]) -> Iterator[bytes]:
    """A log from its beginning or its last lines; empty pieces while there is nothing new to follow."""
    follow = query.get("follow") in {"true", "1"}
    with log.open("rb") as file:
        if "tailLines" in query:
            count = int(query["tailLines"])
            lines = file.readlines()
            yield b"".join(lines[max(0, len(lines) - count) :])
        while True:
            over = ended()
            text = file.read()
            yield text
            if not text and (over or not follow):
                return
            if not text:
                time.sleep(0.05)
