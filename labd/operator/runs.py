"""labd's side: the runs that are made of TestRuns, asked for through the SDK."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, cast

from labd.client import ExecutorName, LabClient, LabError, LabUnreachable, ProblemError, Run, UnexpectedAnswer
from labd.client.credentials import SignInError
from labd.operator.status import Trouble
from labd.operator.testrun import SCRIPT_BYTES_MAX, TestRun, moment, origin, run_name, timeout_s

CLOCKS_S = 3600.0
"""By how much the clocks of labd and of the cluster may differ when a lost run is looked for."""
KEY_KEPT_S = 20 * 3600.0
"""labd keeps an Idempotency-Key for a day; a TestRun that is older than this is looked for before it is sent again."""
_KEY = "Idempotency-Key"


class LabdAway(Exception):
    """labd cannot be asked at present, about whatever it is."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.message)
        self.trouble = trouble


class Refused(Exception):
    """labd takes no such run, now or later; the text says why, ``status`` is HTTP's."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class RunOptions:
    """What the operator adds to what a TestRun says."""

    executor: str | None = None
    """Where scripts run; None: where the team has them run."""
    cluster: str | None = None
    """labd's name of the cluster in which pods are to run; None: its default."""
    team: str | None = None
    """Whose quota pays; None: the first in which the operator may."""
    teams: Mapping[str, str] = field(default_factory=dict)
    """Others by namespace."""


class Runs:
    """The runs of labd. Every method raises LabdAway, but for what it says itself."""

    def __init__(self, lab: LabClient, options: RunOptions, public_url: str | None = None) -> None:
        self._lab = lab
        self._options = options
        self._public_url = (public_url or lab.url.partition(",")[0]).rstrip("/")

    def active(self) -> dict[str, Run]:
        """All that are not over, by ID."""
        return {run["id"]: run for run in self._asked(lambda: self._lab.runs("PENDING", "RUNNING", limit=None))}

    def get(self, run_id: str) -> Run | None:
        """One of them; None when labd has none of that ID (any more)."""
        try:
            return cast(Run, self._asked(lambda: self._lab.run(run_id)))
        except Refused as refusal:
            if refusal.status == HTTPStatus.NOT_FOUND:
                return None
            raise LabdAway(Trouble("Forbidden", str(refusal))) from refusal

    def submit(self, test: TestRun, owner: str, now: float) -> Run:
        """The TestRun's run: made, or the one that was made before. Raises Refused.

        ``owner`` tells this operator from others.
        """
        wanted = self._wanted(test, owner)
        if now - test.created_at > KEY_KEPT_S and (former := self.find(test)) is not None:
            return former
        try:
            return cast(Run, self._asked(lambda: self._lab.create_run(**wanted, idempotency_key=f"testrun-{test.uid}")))
        except Refused as refusal:
            # Sent before, with other options of the operator: that run counts.
            if _KEY in str(refusal) and (former := self.find(test)) is not None:
                return former
            raise

    def find(self, test: TestRun) -> Run | None:
        """The TestRun's run, if labd has one."""
        since = moment(test.created_at - CLOCKS_S)
        for run in self._asked(lambda: self._lab.runs(since=since, limit=None)):
            found = origin(run["name"])
            if found is not None and found.is_of(test):
                return cast(Run, run)
        return None

    def cancel(self, run_id: str, why: str) -> None:
        """Stops a run; one that is over, or unknown to labd, is as good as stopped. Raises Refused."""
        try:
            self._asked(lambda: self._lab.cancel_run(run_id, why))
        except Refused as refusal:
            if self.get(run_id) is not None:
                raise refusal

    def log_address(self, run_id: str) -> str:
        """Where the log of a run is."""
        return f"{self._public_url}/api/v1/runs/{run_id}/log"

    def _wanted(self, test: TestRun, owner: str) -> dict[str, Any]:
        spec, options = test.spec, self._options
        script = spec.get("script")
        if (script is None) == (spec.get("git") is None):  # a cluster before Kubernetes 1.25 lets it through
            raise Refused("expected exactly one of script and git")
        if script is not None and len(script.encode()) > SCRIPT_BYTES_MAX:
            raise Refused(f"the script has {len(script.encode())} bytes; a TestRun takes at most {SCRIPT_BYTES_MAX}")
        try:
            limit_s = timeout_s(spec)
        except ValueError as error:
            raise Refused(str(error)) from error
        benches = [
            {"selector": one.get("selector", ""), "count": one.get("count", 1)} for one in spec.get("benches", ())
        ]
        wanted: dict[str, Any] = {
            "name": run_name(test, owner),
            "timeout_s": limit_s,
            "affinity": f"app/{spec['appName']}",
            "benches": benches,
            "team": options.teams.get(test.namespace, options.team),
            "priority": spec.get("priority", "normal"),
            "environment": spec.get("environment"),
        }
        if options.executor is not None:
            wanted["executor"] = cast(ExecutorName, options.executor)
        if options.cluster is not None:
            wanted["cluster"] = options.cluster
        if spec.get("git") is not None:
            wanted["git"] = {"revision": "HEAD"} | dict(spec["git"])
        else:
            wanted["script"] = script
        return wanted

    def _asked(self, ask: Any) -> Any:
        try:
            return ask()
        except SignInError as error:
            raise LabdAway(Trouble("Unauthorized", str(error))) from error
        except ProblemError as error:
            if error.status == 401:
                raise LabdAway(Trouble("Unauthorized", f"labd does not take the operator's token: {error}")) from error
            if error.status >= 500 or error.status == 429 or error.retry_after_s is not None:
                raise LabdAway(Trouble("LabdBusy", f"labd cannot do it now: {error}")) from error
            raise Refused(str(error), error.status) from error
        except LabUnreachable as error:
            raise LabdAway(Trouble("LabdUnreachable", str(error))) from error
        except (UnexpectedAnswer, LabError) as error:
            raise LabdAway(Trouble("LabdUnreachable", str(error))) from error
