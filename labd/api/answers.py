"""The services' views as answers."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from labd.api import schemas
from labd.api.times import to_text
from labd.model.identity import Actor, Role
from labd.model.lease import Share, Wanted
from labd.model.run import LogLine
from labd.services.calendar import CalendarView
from labd.services.explaining import WhyView
from labd.services.fleet import BenchView
from labd.services.leasing import LeaseView
from labd.services.reporting import AssignmentView
from labd.services.running import RunView


def bench_answer(view: BenchView, actor: Actor) -> schemas.Bench:
    """A bench. Who has it is for the holder's team to see."""
    bench, lease = view.bench, view.lease
    if lease is not None and not actor.may(Role.VIEWER, lease.team):
        lease = None
    return schemas.Bench(
        name=bench.name,
        agent=bench.agent,
        address=bench.address,
        labels=bench.labels,
        health=view.health,
        health_reason=bench.health_reason,
        state=view.state,
        lease_id=None if lease is None else lease.id,
        holder=None if lease is None else lease.holder,
        epoch=bench.epoch,
        last_seen=to_text(view.last_seen),
        draining=bench.drained_for is not None,
        drain_reason=bench.drained_for or "",
        buses=[schemas.Bus(**bus) for bus in bench.buses],
        ecus=[schemas.Ecu(**ecu) for ecu in bench.ecus],
        equipment=_equipment(view),
        last_clean_up=[schemas.CleanUpStep(**step) for step in bench.last_clean_up],
    )


def calendar_answer(view: CalendarView, actor: Actor) -> schemas.Calendar:
    """A calendar. Who has the bench is for the holder's team to see."""
    entries = []
    for one in view.entries:
        seen = actor.may(Role.VIEWER, one.lease.team)
        entries.append(
            schemas.CalendarEntry(
                starts_at=to_text(one.starts_at),
                ends_at=to_text(one.ends_at),
                taken=one.taken,
                lease_id=one.lease.id if seen else None,
                holder=one.lease.holder if seen else None,
            )
        )
    return schemas.Calendar(bench=view.bench, entries=entries, next_free=to_text(view.next_free))


def _equipment(view: BenchView) -> schemas.Equipment:
    equipment = schemas.Equipment(**view.bench.equipment)
    for channel in equipment.power:
        reading = view.power.get(channel.name)
        if reading is not None:
            channel.state = "unknown" if reading.on is None else "on" if reading.on else "off"
            channel.measured_voltage, channel.measured_current = reading.voltage, reading.current
            channel.measured_at = to_text(reading.at)
    return equipment


def wanted_of(benches: Iterable[schemas.WantedBenches]) -> list[Wanted]:
    """What a request asks for."""
    return [Wanted(one.selector, one.count) for one in benches]


def lease_summary(view: LeaseView) -> schemas.LeaseSummary:
    """A lease in a list."""
    return schemas.LeaseSummary(**_lease(view))


def _lease(view: LeaseView) -> dict[str, Any]:
    lease = view.lease
    return {
        "id": lease.id,
        "state": lease.state,
        "selector": lease.selector,
        "wanted": [schemas.WantedBenches(selector=one.selector, count=one.count) for one in lease.wanted],
        "same_site": lease.same_site,
        "affinity": lease.affinity,
        "holder": lease.holder,
        "team": lease.team,
        "priority": lease.priority,
        "held": lease.held,
        "duration_s": lease.duration_s,
        "ttl_s": lease.ttl_s,
        "position": view.position,
        "obstacle": view.obstacle,
        "bench": lease.bench,
        "address": view.address,
        "epoch": lease.epoch,
        "benches": [
            schemas.LeasedBench(
                name=one.part.bench, address=one.address, epoch=one.part.epoch, selector=one.part.selector
            )
            for one in view.benches
        ],
        "run_id": lease.run_id,
        "created_at": to_text(lease.created_at),
        "granted_at": to_text(lease.granted_at),
        "active_at": to_text(lease.active_at),
        "expires_at": to_text(lease.expires_at),
        "heartbeat_by": to_text(lease.heartbeat_by),
        "starts_at": to_text(lease.starts_at),
        "reserved": list(lease.reserved),
        "avoid": list(lease.avoid),
        "idle_release_at": to_text(view.idle_release_at),
        "revoke_at": to_text(lease.revoke_at),
        "revoke_reason": lease.revoke_reason,
        "ending_at": to_text(lease.ending_at),
        "ended_at": to_text(lease.ended_at),
        "end_reason": lease.end_reason,
        "end_note": lease.end_note,
    }


def lease_answer(view: LeaseView, actor: Actor, shared: LeaseView | None = None) -> schemas.Lease:
    """A lease by itself; its holder sees its tokens, somebody with whom it is shared theirs, and nobody else any."""
    shares = [schemas.LeaseShare(holder=one.holder, mode=one.mode) for one in view.shares]
    seen = view if actor.is_holder(view.lease.holder, view.lease.run_id) else shared
    answer = schemas.Lease(**_lease(view), token=None if seen is None else seen.token, shares=shares)
    for bench, access in zip(answer.benches, () if seen is None else seen.benches, strict=False):
        bench.token = access.token
    return answer


def shared_answer(view: LeaseView, share: Share) -> schemas.SharedLease:
    """A lease for somebody with whom it is shared, with their tokens."""
    benches: list[schemas.LeasedBench] = _lease(view)["benches"]
    for bench, access in zip(benches, view.benches, strict=True):
        bench.token = access.token
    return schemas.SharedLease(
        id=view.lease.id,
        holder=share.holder,
        mode=share.mode,
        expires_at=to_text(view.lease.expires_at),
        benches=benches,
    )


def why_answer(view: WhyView) -> schemas.LeaseWhy:
    """Why a lease waits."""
    found = view.explanation
    return schemas.LeaseWhy(
        id=view.lease.id,
        position=found.position,
        ahead=list(found.ahead),
        parts=[
            schemas.PartInQuestion(
                selector=part.selector,
                count=part.count,
                excluded={term: list(names) for term, names in part.excluded.items()},
                matching=[
                    schemas.BenchInQuestion(
                        bench=one.bench, why=one.why, detail=one.detail, by=one.by, until=to_text(one.until)
                    )
                    for one in part.matching
                ],
            )
            for part in found.parts
        ],
        quota=None if found.over_quota is None else str(found.over_quota),
        limit=None if found.at_limit is None else str(found.at_limit),
        held_for_it_from=None if found.reservation is None else to_text(found.reservation.starts_at),
        short_of={site: [found.parts[number].selector for number in parts] for site, parts in found.short_of.items()},
        expected_start=to_text(found.expected_start),
    )


def run_answer(view: RunView) -> schemas.Run:
    """A run."""
    run = view.run
    return schemas.Run(
        id=run.id,
        name=run.name,
        state=run.state,
        reason=run.reason,
        selector=run.selector,
        holder=run.holder,
        team=run.team,
        priority=run.priority,
        timeout_s=run.timeout_s,
        executor=run.executor,
        cluster=run.cluster,
        git=None if run.git is None else schemas.GitSource(**asdict(run.git)),
        commit=run.commit,
        lease_id=run.lease_id,
        bench=view.benches[0] if len(view.benches) == 1 else None,
        benches=list(view.benches),
        position=view.position,
        obstacle=view.obstacle,
        created_at=to_text(run.created_at),
        started_at=to_text(run.started_at),
        ended_at=to_text(run.ended_at),
        cases=None if run.cases is None else schemas.CaseCounts(**asdict(run.cases)),
        cause=run.cause,
        attempts=[
            schemas.Attempt(
                number=one.number,
                lease_id=one.lease_id,
                benches=list(benches),
                started_at=to_text(one.started_at),
                ended_at=to_text(one.ended_at),
                cause=one.cause,
                reason=one.reason,
            )
            for one, benches in view.attempts
        ],
    )


def line_answer(line: LogLine) -> schemas.LogLine:
    """A log line."""
    return schemas.LogLine(seq=line.seq, time=to_text(line.time), level=line.level, text=line.text)


def assignment_answer(view: AssignmentView) -> schemas.Assignment:
    """What a runner is to do."""
    run, lease = view.run, view.lease
    return schemas.Assignment(
        run_id=run.id,
        attempt=run.attempt,
        log_lines=run.log_lines,
        name=run.name,
        script=view.inputs.script,
        git=None if run.git is None else schemas.GitSource(**asdict(run.git)),
        files=view.inputs.files,
        data_files=view.data_files,
        lease_id=lease.id,
        ttl_s=lease.ttl_s,
        benches=[
            schemas.AssignedBench(
                name=one.part.bench,
                address=one.address or "",
                token=one.token or "",
                labels=labels,
                epoch=one.part.epoch,
            )
            for one, labels in view.benches
        ],
        environment={**view.given.variables, **view.given.secrets},
        secrets=sorted(view.given.secrets),
        limits=schemas.Limits(
            timeout_s=run.timeout_s, memory_bytes=view.limits.memory_bytes, output_bytes=view.limits.output_bytes
        ),
    )
