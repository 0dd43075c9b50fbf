"""Following a run's log: server-sent events, resumed after every break of the connection."""

import json
import time
from collections.abc import Generator
from typing import Any, cast

from labd.client.errors import LabUnreachable, UnexpectedAnswer
from labd.client.transport import Transport
from labd.client.types import LogLine, Run

ATTEMPTS = 8
"""Connections in a row that may fail or bring nothing before `follow` gives up."""
QUIET_S = 60.0
"""How long a stream may be silent. labd sends comments more often than that; a dead connection says nothing."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 3.0


def follow(transport: Transport, path: str, *, after: int, until_now: bool) -> Generator[LogLine, None, Run | None]:
    """The lines with ``seq`` > ``after``, each once and in order.

    Ends, returning the run, when the run has ended and its log is complete; or, with ``until_now``, at the log's
    present end, returning None if labd does not send the run. Raises LabUnreachable after `ATTEMPTS` fruitless
    connections in a row, ProblemError when labd knows no such run, UnexpectedAnswer when a line is missing.
    """
    from httpx2 import EventSource, SSEError

    fruitless = 0
    while True:
        seen = after
        try:
            params: dict[str, str | int] = {"after": after} | ({"follow": "false"} if until_now else {})
            headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": str(after)} if after else {})
            with transport.stream(path, params=params, headers=headers, read_timeout_s=QUIET_S) as response:
                try:
                    for event in EventSource(response):
                        if event.event == "end":
                            return cast(Run, _object(transport, event.data))
                        if event.event != "line":
                            continue
                        line = cast(LogLine, _object(transport, event.data))
                        if line["seq"] <= after:
                            continue
                        if line["seq"] != after + 1:
                            raise UnexpectedAnswer(
                                f"the log at {transport.url} jumps from line {after} to {line['seq']}"
                            )
                        after = line["seq"]
                        yield line
                except SSEError as error:
                    raise UnexpectedAnswer(f"{transport.url} does not answer as labd does: {error}") from error
            if until_now:
                return None
            reason = "it closes the log before its end"
        except LabUnreachable as error:
            reason = error.reason
        fruitless = 0 if after > seen else fruitless + 1
        if fruitless >= ATTEMPTS:
            raise LabUnreachable(transport.url, f"{reason} ({fruitless} attempts)")
        time.sleep(min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**fruitless))


def _object(transport: Transport, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UnexpectedAnswer(f"{transport.url} sends a log event that is not JSON: {text[:80]!r}") from error
    if not isinstance(value, dict):
        raise UnexpectedAnswer(f"{transport.url} sends a log event that is no object: {text[:80]!r}")
    return value
