"""The wire's messages to and from the fleet's words."""

import math
from typing import Any

from bench_agent.protocol import bench_pb2, lab_pb2
from labd.executors.bench import ForgetOrder, RunnerReport, StartOrder, StopOrder
from labd.model.point import Point, Value
from labd.model.retention import DAY_S, Retention, TeamRetention
from labd.services.agent_points import Batch
from labd.services.attachment import BenchReport, CertificateAnswer, Order, PointsTaken, PowerReading
from labd.services.ledger import ClearOrder, ExtendOrder, FenceOrder, UnshareOrder


def report_of(message: lab_pb2.BenchReport) -> BenchReport:
    """A bench as its agent reports it."""
    bench = message.description
    return BenchReport(
        name=bench.name,
        labels=dict(bench.labels),
        healthy=bench.health == bench_pb2.HEALTHY,
        health_reason=bench.health_reason,
        buses=[
            {
                "name": bus.name,
                "interface": bus.interface,
                "channel": bus.channel,
                "fd": bus.fd,
                "messages": list(bus.messages),
                "state": _BUS_STATES.get(bus.state, "unknown"),
            }
            for bus in bench.buses
        ],
        ecus=[
            {
                "name": ecu.name,
                "bus": ecu.bus,
                "request_id": ecu.request_id,
                "response_id": ecu.response_id,
                "simulated": ecu.simulated,
                "dids": [{"name": did.name, "did": did.did, "type": did.type, "unit": did.unit} for did in ecu.dids],
            }
            for ecu in bench.ecus
        ],
        fenced_epoch=message.fenced_epoch,
        quarantined=bench.health == bench_pb2.QUARANTINED,
        last_clean_up=[
            {"name": step.name, "elapsed_ms": step.elapsed_ms, "fault": step.fault or None}
            for step in bench.last_clean_up
        ],
        equipment=_equipment_of(bench),
        power={one.name: _reading_of(one) for one in bench.power},
        counters={bus.name: {"lost": bus.lost, "error_frames": bus.error_frames} for bus in bench.buses},
        active_epoch=message.active_epoch,
        idle_s=message.idle_ms / 1000,
    )


_BUS_STATES = {
    bench_pb2.BUS_ERROR_ACTIVE: "error-active",
    bench_pb2.BUS_ERROR_WARNING: "error-warning",
    bench_pb2.BUS_ERROR_PASSIVE: "error-passive",
    bench_pb2.BUS_OFF: "bus-off",
}


def _equipment_of(bench: bench_pb2.BenchDescription) -> dict[str, Any]:
    return {
        "consoles": [{"name": one.name, "port": one.port, "baudrate": one.baudrate} for one in bench.consoles],
        "power": [
            {"name": one.name, "supply": one.supply, "driver": one.driver, "terminal": one.terminal}
            for one in bench.power
        ],
        "adapters": [{"name": one.name, "driver": one.driver, "methods": list(one.methods)} for one in bench.adapters],
    }


def _reading_of(channel: bench_pb2.PowerChannelDescription) -> PowerReading:
    return PowerReading(
        on=channel.on if channel.HasField("on") else None,
        voltage=channel.measured_voltage if channel.HasField("measured_voltage") else None,
        current=channel.measured_current if channel.HasField("measured_current") else None,
        at=channel.measured_ns / 1e9 if channel.HasField("measured_ns") else None,
    )


def trace_rules_of(retention: Retention) -> lab_pb2.TraceRules:
    """What an agent is told of how long traces may stay."""
    rules = lab_pb2.TraceRules(default=_trace_bounds(retention.default))
    for team, one in retention.teams.items():
        rules.teams[team].CopyFrom(_trace_bounds(one))
    return rules


def _trace_bounds(rules: TeamRetention) -> lab_pb2.TraceBounds:
    bounds = lab_pb2.TraceBounds()
    if rules.traces_days is not None:
        bounds.max_age_s = rules.traces_days * DAY_S
    if rules.traces_mb is not None:
        bounds.max_bytes = round(rules.traces_mb * 1e6)
    return bounds


def runner_of(message: lab_pb2.RunnerReport) -> RunnerReport:
    """What became of a runner."""
    return RunnerReport(message.run_id, message.alive, message.reason)


def batch_of(message: lab_pb2.Metrics) -> Batch:
    """Points as an agent has measured them."""
    return Batch(message.spool[:_SPOOL_LENGTH], message.number, [_point_of(one) for one in message.points])


_SPOOL_LENGTH = 64


def _point_of(message: lab_pb2.Point) -> Point:
    fields: dict[str, Value] = {}
    for name, field in message.fields.items():
        kind = field.WhichOneof("value")
        if kind is not None:
            fields[name] = getattr(field, kind)
    return Point(message.measurement, dict(message.tags), fields, message.time_us / 1e6)


def fence_of(order: FenceOrder) -> lab_pb2.Fence:
    """An order to an agent."""
    return lab_pb2.Fence(bench=order.bench, epoch=order.epoch, reason=order.reason)


def message_of(order: Order) -> dict[str, Any]:
    """An order as the field of LabMessage that carries it, by the field's name."""
    match order:
        case FenceOrder():
            return {"fence": fence_of(order)}
        case ClearOrder(bench, by):
            return {"clear_quarantine": lab_pb2.ClearQuarantine(bench=bench, by=by)}
        case UnshareOrder(bench, epoch, holder, number):
            unshare = lab_pb2.Unshare(bench=bench, epoch=epoch, holder=holder, share=number)
            return {"unshare": unshare}
        case ExtendOrder(bench, epoch, expires_at):
            # Rounded as in the tokens.
            return {"extend": lab_pb2.Extend(bench=bench, epoch=epoch, expires_at=math.ceil(expires_at))}
        case CertificateAnswer(chain, trust, refusal):
            return {"certificate": lab_pb2.Certificate(chain=chain, trust=trust, refusal=refusal)}
        case PointsTaken(spool, number, held_s):
            return {"metrics_taken": lab_pb2.MetricsTaken(spool=spool, number=number, held_s=held_s)}
        case StartOrder(job):
            start = lab_pb2.StartRunner(
                run_id=job.run_id,
                bench=job.bench,
                url=job.url,
                run_token=job.token,
                lease_token=job.lease_token,
                traceparent=job.traceparent or "",
            )
            return {"start_runner": start}
        case StopOrder(run_id):
            return {"stop_runner": lab_pb2.StopRunner(run_id=run_id)}
        case ForgetOrder(run_id):
            return {"forget_runner": lab_pb2.ForgetRunner(run_id=run_id)}
