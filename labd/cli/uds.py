"""``labctl uds``: one diagnostic request or service, its answer and what it means."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from labd.cli.completion import complete_benches, complete_ecus
from labd.cli.exits import ExitCode, Failure
from labd.cli.leasing import open_bench, using
from labd.cli.options import duration, lease_options
from labd.cli.options import (
    functional_id as parse_functional_id,
)
from labd.cli.output import duration as duration_text
from labd.cli.output import format_option, print_json, print_record
from labd.cli.session import Session, pass_session
from labd.cli.uds_functional import ask_all
from labd.cli.uds_text import explain, identifiers, plain, result_text, spaced
from labd.cli.uds_words import Named, parse_words
from labd.client import Ecu

if TYPE_CHECKING:
    from bench_agent.client import EcuClient, UdsExchange


_PHYSICAL_S = 10.0
_FUNCTIONAL_S = 1.0
_SHOWN_PENDING = 5


@dataclass(frozen=True)
class Answer:
    """What an ECU answered."""

    exchange: "UdsExchange | None"
    """None for a service that asks the ECU for nothing."""
    decoded: dict[str, Any] = field(default_factory=dict)
    """Data identifiers by name, as the agent decoded them."""
    service: str = ""
    """The service that was called by name, if one was."""
    result: Any = None


def _complete_words(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The ECU comes first; what is asked of it labd does not know."""
    first = not ctx.params.get("words") and not ctx.params.get("functional")
    return complete_ecus(ctx, parameter, incomplete) if first else []


@click.command()
@click.argument("bench_name", metavar="BENCH", shell_complete=complete_benches)
@click.argument("words", metavar="ECU REQUEST...", nargs=-1, required=True, shell_complete=_complete_words)
@click.option("--functional", is_flag=True, help="Ask all ECUs of a bus by their functional address; leave ECU out.")
@click.option("--bus", metavar="BUS", help="With --functional: the bus, where several have ECUs.")
@click.option(
    "--functional-id",
    type=parse_functional_id,
    metavar="ID",
    help="With --functional: the arbitration ID (7DF), where the ECUs of a bus have different ones.",
)
@click.option(
    "--within",
    "within_s",
    type=duration,
    metavar="TIME",
    help="How long the whole exchange may take, every response-pending (0x78) included.  "
    "[default: 10s; with --functional 1s]",
)
@lease_options
@format_option
@pass_session
def uds(
    session: Session,
    bench_name: str,
    words: tuple[str, ...],
    functional: bool,
    bus: str | None,
    functional_id: int | None,
    within_s: float | None,
    lease_id: str | None,
    timeout_s: float | None,
    holder: str,
    priority: str,
    as_json: bool,
) -> None:
    """Send a UDS request to an ECU, and print the answer.

    \b
      labctl uds bench-1 ECM 22F190                    a request in hexadecimal; also 22 F1 90
      labctl uds bench-1 ECM read VIN                  a service by name, with values from the ECU's description
      labctl uds bench-1 ECM dtcs                      the trouble codes; dtcs 0x08: the confirmed ones
      labctl uds bench-1 ECM read_memory 0x8000 16
      labctl uds bench-1 ECM routine start EraseMemory address=0x8000 size=256
      labctl uds bench-1 --functional 22F190           all ECUs of the bus at once

    Arguments beyond the first are NAME=VALUE: a number (0x for hexadecimal), text, or JSON. The services and their
    arguments are those of the Lua reference.

    Leases the bench (waiting for it if need be), asks, and releases it, whatever happens; a session or an unlocked
    ECU is therefore gone at the end. With --lease, several requests share one lease and its session.

    Ends with 0 for a positive answer, 1 for a negative one, 2 for none.
    """
    if bus is not None and not functional:
        raise click.UsageError("--bus goes with --functional; an ECU is on one bus")
    if functional_id is not None and not functional:
        raise click.UsageError("--functional-id goes with --functional")
    if not functional and len(words) < 2:
        raise click.UsageError("write ECU and REQUEST: labctl uds BENCH ECM 22F190")
    request = parse_words(words if functional else words[1:])
    ecu = None if functional else _find(session, bench_name, words[0])
    lab = session.lab
    holding = using(lab, bench_name, lease_id=lease_id, holder=holder, priority=priority, timeout_s=timeout_s)
    with holding as (lease, _), open_bench(lab, lease, bench_name) as bench:
        if ecu is None:
            ask_all(bench, bench_name, request, bus, functional_id, within_s or _FUNCTIONAL_S, as_json)
            return
        client = bench.ecu(ecu["name"])
        if isinstance(request, Named):
            answer = _call(client, request, within_s or _PHYSICAL_S)
        else:
            answer = _ask(client, ecu, request, within_s or _PHYSICAL_S)
    if as_json:
        print_json({"bench": bench_name, "ecu": ecu["name"], **_document(answer)})
    else:
        print_record(_fields(answer))
    if answer.exchange is not None and answer.exchange.negative:
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
        decoded = None
    if client.last is None:
        raise Failure(f"the agent of the bench did not say what was on the bus for {spaced(request)}", ExitCode.ERROR)
    if len(asked) == 1 or not isinstance(decoded, dict):
        decoded = {} if client.last.negative else {names[asked[0]]: decoded}
    order = [names[did] for did in asked]
    return Answer(client.last, dict(sorted(decoded.items(), key=lambda item: order.index(item[0]))))


def _call(client: "EcuClient", request: Named, within_s: float) -> Answer:
    """A service by name."""
    from bench_agent.client import NegativeResponse

    client.last = None
    try:
        result = client.call(request.service, timeout_s=within_s, **request.arguments)
    except NegativeResponse:
        result = None
    if client.last is None or not client.last.request:
        return Answer(None, result=result, service=request.service)
    return Answer(client.last, result=result, service=request.service)


def _fields(answer: Answer) -> dict[str, str]:
    exchange = answer.exchange
    if exchange is None:
        return {answer.service: result_text(answer.result) or "done"}
    hidden = f" + {exchange.hidden} bytes not shown" if exchange.hidden else ""
    return {
        "request": f"{spaced(exchange.request)}{hidden}  ({exchange.service_name})",
        "response": spaced(exchange.response) or "none due (positive answer suppressed)",
        **_meaning(answer),
        "time": duration_text(exchange.elapsed_us / 1e6)
        if exchange.elapsed_us >= 1e6
        else f"{exchange.elapsed_us / 1e3:.1f} ms",
        "pending": _pending(exchange),
    }


def _pending(exchange: "UdsExchange") -> str:
    """When the 0x78 came; of many, the first and the last, and how far apart they were at most."""
    times = [f"{at / 1e3:.1f} ms" for at in exchange.pending_us]
    if exchange.pending_count <= _SHOWN_PENDING:
        return ", ".join(times)
    last, gap = exchange.pending_last_us / 1e3, exchange.pending_longest_gap_us / 1e3
    return f"{exchange.pending_count} times: {times[0]} .. {last:.1f} ms, at most {gap:.1f} ms apart"


def _meaning(answer: Answer) -> dict[str, str]:
    if answer.exchange is None:
        return {}
    if refused := answer.exchange.negative:
        service, code = f"{refused.service_name} (0x{refused.service:02X})", f"NRC 0x{refused.nrc:02X}"
        return {"refused": f"{service}: {refused.nrc_name} ({code}): {refused.meaning}"}
    if answer.decoded:
        return {name: result_text(one) for name, one in answer.decoded.items()}
    if answer.result is not None:
        return {"result": result_text(answer.result)}
    said = explain(answer.exchange.response, answer.exchange.service_name)
    return {"means": said} if said else {}


def _document(answer: Answer) -> dict[str, Any]:
    exchange = answer.exchange
    if exchange is None:
        return {"service": answer.service, "result": plain(answer.result)}
    refused = exchange.negative
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
        "decoded": plain(answer.decoded),
        "pending_count": exchange.pending_count,
        "pending_ms": [at / 1e3 for at in exchange.pending_us],
        "pending_last_ms": exchange.pending_last_us / 1e3,
        "pending_longest_gap_ms": exchange.pending_longest_gap_us / 1e3,
        "elapsed_ms": exchange.elapsed_us / 1e3,
        **({"service": answer.service, "result": plain(answer.result)} if answer.service else {}),
    }
