"""``labctl uds``: one diagnostic request, its answer and what it means."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from labd.cli.completion import complete_benches, complete_ecus
from labd.cli.exits import ExitCode, Failure
from labd.cli.leasing import using
from labd.cli.options import (
    duration,
    existing_lease_option,
    holder_option,
    lease_timeout_option,
    parse_pdu,
    priority_option,
)
from labd.cli.output import duration as duration_text
from labd.cli.output import format_option, print_json, print_record
from labd.cli.session import Session, pass_session
from labd.cli.uds_text import explain, identifiers, spaced, value
from labd.client import Ecu

if TYPE_CHECKING:
    from bench_agent.client import EcuClient, UdsExchange


@dataclass(frozen=True)
class Answer:
    """What an ECU answered."""

    exchange: "UdsExchange"
    decoded: dict[str, Any] = field(default_factory=dict)
    """Data identifiers by name, as the agent decoded them."""


@click.command()
@click.argument("bench_name", metavar="BENCH", shell_complete=complete_benches)
@click.argument("ecu_name", metavar="ECU", shell_complete=complete_ecus)
@click.argument("words", metavar="REQUEST...", nargs=-1, required=True)
@click.option(
    "--within",
    "within_s",
    type=duration,
    default="10s",
    show_default=True,
    metavar="TIME",
    help="How long the whole exchange may take, every response-pending (0x78) included.",
)
@existing_lease_option
@lease_timeout_option
@holder_option
@priority_option
@format_option
@pass_session
def uds(
    session: Session,
    bench_name: str,
    ecu_name: str,
    words: tuple[str, ...],
    within_s: float,
    lease_id: str | None,
    timeout_s: float | None,
    holder: str,
    priority: int,
    as_json: bool,
) -> None:
    """Send a UDS request to an ECU, and print the answer.

    \b
      labctl uds bench-1 ECM 22F190        read the VIN
      labctl uds bench-1 ECM 22 F1 90      the same
      labctl uds bench-1 ECM 19 02 FF      read the DTCs

    Leases the bench (waiting for it if need be), asks, and releases it, whatever happens; a session or an unlocked
    ECU is therefore gone at the end. With --lease, several requests share one lease and its session.

    Ends with 0 for a positive answer, 1 for a negative one, 2 for none.
    """
    request = parse_pdu(words)
    ecu = _find(session, bench_name, ecu_name)
    lab = session.lab
    holding = using(lab, bench_name, lease_id=lease_id, holder=holder, priority=priority, timeout_s=timeout_s)
    with holding as (lease, _):
        from bench_agent.client import BenchClient

        with BenchClient(lease["address"] or "", bench_name, lease.get("token") or "") as bench:
            answer = _ask(bench.ecu(ecu_name), ecu, request, within_s)
    if as_json:
        print_json({"bench": bench_name, "ecu": ecu_name, **_document(answer)})
    else:
        print_record(_fields(answer))
    if answer.exchange.negative:
        raise click.exceptions.Exit(ExitCode.FAILED)


def _find(session: Session, bench_name: str, ecu_name: str) -> Ecu:
    """The ECU's description, looked up before the bench is leased for nothing."""
    ecus = {ecu["name"]: ecu for ecu in session.lab.bench(bench_name)["ecus"]}
    if ecu_name not in ecus:
        raise Failure(
            f"bench {bench_name} has no ECU {ecu_name!r}; it has {', '.join(ecus) or 'none'}", ExitCode.REFUSED
        )
    return ecus[ecu_name]


def _ask(client: "EcuClient", ecu: Ecu, request: bytes, within_s: float) -> Answer:
    from bench_agent.client import NegativeResponse

    names = {did["did"]: did["name"] for did in ecu["dids"]}
    asked = identifiers(request)
    if not asked or any(did not in names for did in asked):
        return Answer(client.raw(request, within_s))
    # The agent builds the very same request, and decodes the answer with the ECU's description.
    try:
        decoded = client.call("read", timeout_s=within_s, did=asked if len(asked) > 1 else asked[0])
    except NegativeResponse:
        decoded = {}
    if client.last is None:
        raise Failure(f"the agent of the bench did not say what was on the bus for {spaced(request)}", ExitCode.ERROR)
    if not isinstance(decoded, dict):
        decoded = {names[asked[0]]: decoded}
    order = [names[did] for did in asked]
    return Answer(client.last, dict(sorted(decoded.items(), key=lambda item: order.index(item[0]))))


def _fields(answer: Answer) -> dict[str, str]:
    exchange = answer.exchange
    return {
        "request": f"{spaced(exchange.request)}  ({exchange.service_name})",
        "response": spaced(exchange.response) or "none due (positive answer suppressed)",
        **_meaning(answer),
        "time": duration_text(exchange.elapsed_us / 1e6)
        if exchange.elapsed_us >= 1e6
        else f"{exchange.elapsed_us / 1e3:.1f} ms",
        "pending": ", ".join(f"{at / 1e3:.1f} ms" for at in exchange.pending_us),
    }


def _meaning(answer: Answer) -> dict[str, str]:
    if refused := answer.exchange.negative:
        service, code = f"{refused.service_name} (0x{refused.service:02X})", f"NRC 0x{refused.nrc:02X}"
        return {"refused": f"{service}: {refused.nrc_name} ({code}): {refused.meaning}"}
    if answer.decoded:
        return {name: value(one) if isinstance(one, bytes) else str(one) for name, one in answer.decoded.items()}
    said = explain(answer.exchange.response, answer.exchange.service_name)
    return {"means": said} if said else {}


def _document(answer: Answer) -> dict[str, Any]:
    exchange, refused = answer.exchange, answer.exchange.negative
    negative = refused and {
        "service": refused.service,
        "service_name": refused.service_name,
        "nrc": refused.nrc,
        "nrc_name": refused.nrc_name,
        "meaning": refused.meaning,
    }
    return {
        "request": exchange.request.hex().upper(),
        "response": exchange.response.hex().upper(),
        "positive": refused is None,
        "negative": negative,
        "decoded": {name: one.hex().upper() if isinstance(one, bytes) else one for name, one in answer.decoded.items()},
        "pending_ms": [at / 1e3 for at in exchange.pending_us],
        "elapsed_ms": exchange.elapsed_us / 1e3,
    }
