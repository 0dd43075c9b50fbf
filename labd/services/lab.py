"""The lab, put together: what the doors (REST and gRPC) are given."""

from labd.executors.base import Executor
from labd.services.clock import Clock
from labd.services.conductor import Conductor
from labd.services.core import Core
from labd.services.fleet import Fleet
from labd.services.leasing import Leasing
from labd.services.limits import RunLimits
from labd.services.running import Running
from labd.services.signing import Signer
from labd.store.store import Store


class Lab:
    """All use cases on one store."""

    def __init__(
        self, store: Store, clock: Clock, signer: Signer, executor: Executor, *, url: str, limits: RunLimits
    ) -> None:
        """``url`` is the REST API as runners reach it."""
        self.core = Core(store, clock, signer, limits)
        self.fleet = Fleet(self.core)
        self.leasing = Leasing(self.core)
        self.running = Running(self.core)
        self.conductor = Conductor(self.core, self.running, executor, url)
        self.closing = False
        self._executor = executor

    def start(self) -> None:
        """Goes on where a former labd stopped, or was stopped."""
        self.core.forgive()
        self.conductor.recover()
        self.conductor.start()

    def hang_up(self) -> None:
        """Ends what follows a run for ever, so that the doors can close."""
        self.closing = True
        self.core.changes.publish_all()

    def stop(self) -> None:
        """Ends every running run and its runner; leases and queue stay for the next labd."""
        self.core.granting = False
        self.conductor.stop()
        try:
            self.running.fail_all("labd was stopped")
        finally:
            self._executor.close()
