"""What happens to leases and runs, in the log: each line with the run, the lease and the benches that it is about."""

import structlog

from bench_agent.protocol import tracing
from labd.model.lease import Lease
from labd.model.run import Run
from labd.services.happenings import Granted, Happening, LeaseOver, Retried, RunOver
from labd.services.ledger import Effects

_log = structlog.get_logger()


def log_events(effects: Effects) -> None:
    """A follower of transactions: what is in the log is durable."""
    for one in effects.happened:
        _log_one(one)


def _log_one(happening: Happening) -> None:
    match happening:
        case Granted(lease):
            _log.info("lease granted", **_about(lease), holder=lease.holder, team=lease.team)
        case LeaseOver(lease):
            reason = None if lease.end_reason is None else lease.end_reason.value
            _log.info("lease over", **_about(lease), holder=lease.holder, reason=reason)
        case RunOver(run, served_by):
            about = {} if served_by is None else _about(served_by)
            _log.info("run over", **about | _about_run(run), state=run.state.value, reason=run.reason)
        case Retried(run, cause):
            _log.warning("run goes on with another attempt", **_about_run(run), attempt=run.attempt, cause=cause.value)


def _about(lease: Lease) -> dict[str, str]:
    about = {"lease": lease.id}
    if lease.run_id is not None:
        about["run"] = lease.run_id
    if lease.benches:
        about["bench"] = ",".join(one.bench for one in lease.benches)
    return about


def _about_run(run: Run) -> dict[str, str]:
    about = {"run": run.id, "lease": run.lease_id}
    if (trace := tracing.checked(run.traceparent)) is not None:
        about["trace"] = trace.split("-")[1]
    return about
