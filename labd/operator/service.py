"""The operator as a process: its threads, its pace, and how it does."""

import json
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from labd.operator.cache import Cache, Follower
from labd.operator.cluster import ClusterError, Place, TestRuns
from labd.operator.election import Election, NotLeading, Times
from labd.operator.figures import Figures
from labd.operator.reconciler import Reconciler, Rules
from labd.operator.recorder import Recorder
from labd.operator.runs import Runs

POLL_S = 2.0
"""Between two looks at labd while something is under way."""
IDLE_S = 30.0
GAP_S = 0.2
"""Between two passes at least, however much news there is."""
STUCK_S = 300.0
"""An operator that has finished no pass for so long, though it could, is not well."""
_log = structlog.get_logger()


class Operator:
    """One replica. `run` lasts until it is told to stop."""

    def __init__(
        self,
        place: Place,
        runs: Runs,
        rules: Rules,
        *,
        identity: str,
        lease_namespace: str,
        namespaces: Sequence[str | None] = (None,),
        times: Times | None = None,
        poll_s: float = POLL_S,
    ) -> None:
        source = TestRuns(place)
        self._cache = Cache()
        self.election = Election(
            place, identity, namespace=lease_namespace, times=times, became_leader=self._cache.changed.set
        )
        self._followers = [Follower(source, namespace, self._cache) for namespace in namespaces]
        self._reconciler = Reconciler(
            source,
            runs,
            self._cache,
            rules,
            Recorder(place, identity),
            fence=self.election.check,
            owner=lambda: self.election.lease_uid,
        )
        self._poll_s = poll_s
        self._ticked_at = time.monotonic()

    @property
    def ready(self) -> bool:
        """Whether it could act, or could take over."""
        return all(one.listed for one in self._followers)

    @property
    def well(self) -> bool:
        """Whether it does not hang."""
        return time.monotonic() - self._ticked_at < STUCK_S

    def state(self) -> dict[str, object]:
        """How it does, for people who look."""
        trouble = self._reconciler.trouble
        return {
            "leading": self.election.leading,
            "ready": self.ready,
            "well": self.well,
            "testruns": len(self._cache.tests()),
            "labd": "ok" if trouble is None else trouble.message,
        }

    def run(self, stop: threading.Event) -> None:
        """Turns TestRuns into runs until ``stop`` is set."""
        threads = [
            threading.Thread(target=work, args=(stop,), daemon=True, name=name)
            for name, work in [("election", self.election.run), *(("follower", one.run) for one in self._followers)]
        ]
        for thread in threads:
            thread.start()
        pause_s = self._poll_s
        while not stop.is_set():
            self._cache.changed.wait(pause_s)
            self._cache.changed.clear()
            pause_s = self._pass()
            self._ticked_at = time.monotonic()
            stop.wait(GAP_S)
        for thread in threads[:1]:
            thread.join(timeout=5)  # gives the Lease up; a watch ends with the process

    def _pass(self) -> float:
        """One pass, if this replica leads; how long to wait for news after it."""
        if not (self.election.leading and self.ready):
            return self._poll_s
        try:
            return self._poll_s if self._reconciler.step() else IDLE_S
        except NotLeading:
            return self._poll_s
        except ClusterError as error:
            _log.warning("the pass broke off", error=str(error))
            return self._poll_s
        except Exception:
            # A fault of ours in one pass is no reason to drop the Lease and all other TestRuns: it is told, each time.
            _log.exception("the pass failed")
            return IDLE_S


def serve_health(host: str, port: int, operator: Operator) -> ThreadingHTTPServer:
    """Answers ``/healthz`` (it does not hang), ``/readyz`` (it has read the TestRuns) and Prometheus' ``/metrics``."""
    checks: dict[str, Callable[[], bool]] = {"/healthz": lambda: operator.well, "/readyz": lambda: operator.ready}

    figures = Figures(operator.state)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            check = checks.get(self.path)
            if self.path == "/metrics":
                kind, body, status = CONTENT_TYPE_LATEST, generate_latest(figures.registry), 200
            else:
                kind, body = "application/json", json.dumps(operator.state()).encode() + b"\n"
                status = 404 if check is None else 200 if check() else 503
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Probes are no news."""

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True, name="health").start()
    return server
