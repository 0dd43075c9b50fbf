"""Benches as their agents report them: whose they are, what becomes of their leases, and what agents have to refuse."""

from dataclasses import replace

import structlog

from labd.model.bench import Bench
from labd.model.lease import LeaseState
from labd.services.attachment import BenchReport, Session
from labd.services.ledger import ExtendOrder, FenceOrder, Ledger, UnshareOrder, extend_orders, unshare_orders
from labd.store.unit import Unit

_log = structlog.get_logger()


def take_report(ledger: Ledger, session: Session, report: BenchReport, *, attaching: bool) -> bool:
    """Stores how a bench stands, and what that means for its lease; whether others can lease it now than before.

    ``attaching``: the agent has just come, and may have lost its memory.
    """
    known, live = ledger.unit.bench(report.name), ledger.unit.live_on(report.name)
    if known is not None and known.agent != session.agent and not _may_move(ledger, known):
        _log.error("bench refused: another agent has it", bench=report.name, agent=session.agent, other=known.agent)
        return False
    epoch, fenced = report.fenced_epoch, report.fenced_epoch
    if known is None and attaching and max(report.fenced_epoch, report.active_epoch) > 0:
        # Another database has known the bench: whoever holds it by that, holds it no longer.
        epoch = max(report.fenced_epoch, report.active_epoch) + 1
    if known is not None:
        # A database older than the agent's memory: later epochs than the agent has seen, or it refuses them.
        epoch = max(known.epoch, report.fenced_epoch, report.active_epoch)
        # An agent that attaches may have lost its memory; one that is attached may be overtaken by its own answer.
        fenced = report.fenced_epoch if attaching else max(known.fenced_epoch, report.fenced_epoch)
    bench = Bench(
        name=report.name,
        agent=session.agent,
        address=session.address,
        labels=report.labels,
        healthy=report.healthy,
        health_reason=report.health_reason,
        buses=report.counted_buses,
        ecus=report.ecus,
        quarantined=report.quarantined,
        last_clean_up=report.last_clean_up,
        equipment=report.equipment,
        epoch=epoch,
        fenced_epoch=fenced,
        removed=False,
        last_seen=ledger.now,
        draining=known is not None and known.draining,
        drain_reason=known.drain_reason if known is not None else "",
        agent_drain=known.agent_drain
        if known is not None and known.agent == session.agent and not known.removed
        else ledger.unit.agent_drains().get(session.agent),
        promised_to=known.promised_to if known is not None else None,
    )
    ledger.unit.save_bench(bench)
    session.benches[report.name] = report
    part = live.on(report.name) if live is not None and live.state.held else None
    if live is not None and part is not None:
        if part.epoch <= fenced:
            _log.error("agent refuses the live lease of a bench: it ends", bench=report.name, lease=live.id)
        elif part.epoch == report.active_epoch and live.state is LeaseState.GRANTED:
            ledger.activate(live)
    ledger.bench_fenced(report.name, fenced)
    freed = live is not None and ledger.unit.live_on(report.name) is None
    return freed or known is None or _for_leases(known) != _for_leases(bench)


def standing_order(unit: Unit, name: str) -> FenceOrder:
    """What the agent of a bench has to refuse, as things stand."""
    bench, lease = unit.bench(name), unit.live_on(name)
    epoch = bench.epoch if bench is not None else 0
    part = lease.on(name) if lease is not None and lease.state.held else None
    return FenceOrder(name, epoch if part is None else part.epoch - 1, "ended")


def standing_on(unit: Unit, name: str) -> list[UnshareOrder | ExtendOrder]:
    """What the agent of a bench has to know of its lease beside the tokens: who may not act any more, and its end."""
    lease = unit.live_on(name)
    if lease is None or not lease.state.held:
        return []
    orders: list[UnshareOrder | ExtendOrder] = [
        *unshare_orders(lease, unit.shares_ever(lease.id)),
        *extend_orders(lease),
    ]
    return [order for order in orders if order.bench == name]


def remove_bench(ledger: Ledger, bench: Bench, why: str) -> None:
    """Takes a bench out of the lab, and ends its lease."""
    _log.warning("bench removed", why=why, bench=bench.name, agent=bench.agent)
    ledger.unit.save_bench(replace(bench, removed=True))
    ledger.bench_gone(bench.name)


def _for_leases(bench: Bench) -> tuple[object, ...]:
    """What decides who may lease it."""
    return bench.agent, bench.selectable_labels, bench.state(attached=True, leased=False)


def _may_move(ledger: Ledger, bench: Bench) -> bool:
    """Whether nobody can act on the bench through its former agent any more."""
    lease = ledger.unit.live_on(bench.name)
    return ledger.beyond_reach(bench) and (lease is None or lease.state.over)
