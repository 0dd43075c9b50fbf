"""``labctl uds BENCH --functional``: one request to all ECUs of a bus, and what each makes of it."""

from typing import TYPE_CHECKING, Any

import click

from labd.cli.exits import ExitCode
from labd.cli.output import duration, print_json, print_table
from labd.cli.uds_text import plain, result_text, spaced
from labd.cli.uds_words import Named

if TYPE_CHECKING:
    from bench_agent.client import BenchClient, FunctionalAnswer


def ask_all(
    bench: "BenchClient",
    bench_name: str,
    request: bytes | Named,
    bus: str | None,
    functional_id: int | None,
    within_s: float,
    as_json: bool,
) -> None:
    """Asks, and prints a line for each ECU. Ends with 0 if any answered positively, 1 if none did, 2 if nobody spoke.

    Raises what the client raises.
    """
    if isinstance(request, bytes):
        answers = bench.functional(request, bus, within_s, functional_id=functional_id)
    else:
        answers = bench.functional(request.service, bus, within_s, functional_id=functional_id, **request.arguments)
    if as_json:
        print_json({"bench": bench_name, "answers": {name: _document(answer) for name, answer in answers.items()}})
    else:
        rows = [(name, *_row(answer)) for name, answer in answers.items()]
        print_table(("ECU", "ANSWER", "MEANS", "TIME"), rows, empty="no ECU listens")
    heard = [answer for answer in answers.values() if answer.exchange is not None or answer.error is not None]
    if not any(answer.error is None for answer in heard):
        raise click.exceptions.Exit(ExitCode.FAILED if heard else ExitCode.ERROR)


def _row(answer: "FunctionalAnswer") -> tuple[str, str, str]:
    exchange = answer.exchange
    response = spaced(exchange.response) if exchange is not None else ""
    time = duration(exchange.elapsed_us / 1e6) if exchange is not None and exchange.elapsed_us >= 1e6 else ""
    if exchange is not None and not time:
        time = f"{exchange.elapsed_us / 1e3:.1f} ms"
    if (refused := answer.negative) is not None:
        return response, f"{refused.nrc_name} (NRC 0x{refused.nrc:02X}): {refused.meaning}", time
    if answer.error is not None:
        return response, str(answer.error), time
    if exchange is None:
        return "", "no answer", ""
    # The result of a whole PDU is the response once more.
    same = isinstance(answer.result, bytes) and answer.result == exchange.response
    return response, "" if same else " ".join(result_text(answer.result).split("\n")), time


def _document(answer: "FunctionalAnswer") -> dict[str, Any]:
    exchange, refused = answer.exchange, answer.negative
    return {
        "silent": exchange is None and answer.error is None,
        "response": exchange.response.hex().upper() if exchange is not None else "",
        "result": plain(answer.result),
        "nrc": refused.nrc if refused is not None else None,
        "nrc_name": refused.nrc_name if refused is not None else None,
        "error": str(answer.error) if answer.error is not None else None,
        "elapsed_ms": exchange.elapsed_us / 1e3 if exchange is not None else None,
    }
