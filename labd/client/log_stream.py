"""Following a run's log: server-sent events, resumed after every break of the connection."""

import json
import time
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, cast

from labd.client.errors import LabUnreachable, UnexpectedAnswer
from labd.client.types import LogLine, Run

if TYPE_CHECKING:
    from labd.client.transport import Transport

ATTEMPTS = 8
"""Connections in a row that may fail or bring nothing before `follow` gives up."""
QUIET_S = 60.0
"""How long a stream may be silent. labd sends comments more often than that; a dead connection says nothing."""
MAX_EVENT_BYTES = 1024 * 1024
"""Of one line of the stream. labd takes log lines of 64 Ki characters."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 3.0


def follow(transport: "Transport", path: str, *, after: int, until_now: bool) -> Generator[LogLine, None, Run]:
    """The lines with ``seq`` > ``after``, each once and in order; the generator returns the run.

    Ends when the run has ended and its log is complete, or, with ``until_now``, at the log's present end. Raises
    LabUnreachable after `ATTEMPTS` fruitless connections in a row, ProblemError when labd knows no such run,
    UnexpectedAnswer when a line is missing.
    """
    fruitless = 0
    while True:
        seen = after
        try:
            params: dict[str, str | int] = {"after": after} | ({"follow": "false"} if until_now else {})
            headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": str(after)} if after else {})
            with transport.stream(path, params=params, headers=headers, read_timeout_s=QUIET_S) as read_line:
                for event, data, _ in events(transport, read_line):
                    if event == "end":
                        return cast(Run, json_object(transport, data))
                    if event != "line":
                        continue
                    line = cast(LogLine, json_object(transport, data))
                    if line["seq"] <= after:
                        continue
                    if line["seq"] != after + 1:
                        raise UnexpectedAnswer(f"the log at {transport.url} jumps from line {after} to {line['seq']}")
                    after = line["seq"]
                    yield line
            reason = "it closes the log before its end"
        except LabUnreachable as error:
            reason = error.reason
        fruitless = 0 if after > seen else fruitless + 1
        if fruitless >= ATTEMPTS:
            raise LabUnreachable(transport.url, f"{reason} ({fruitless} attempts)")
        time.sleep(min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**fruitless))


def events(transport: "Transport", read_line: Callable[[int], bytes]) -> Iterator[tuple[str, str, str]]:
    """(event, data, id) of each whole event (HTML Living Standard, 9.2.6); one that is cut off is left out."""
    event, data, version = "", list[str](), ""
    while raw := read_line(MAX_EVENT_BYTES):
        if not raw.endswith(b"\n"):
            if len(raw) >= MAX_EVENT_BYTES:
                raise UnexpectedAnswer(f"{transport.url} sends a log event of more than {MAX_EVENT_BYTES} bytes")
            return
        field, _, value = raw.decode(errors="replace").rstrip("\r\n").partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            event = value
        elif field == "id":
            version = value
        elif field == "data":
            if sum(map(len, data)) > MAX_EVENT_BYTES:
                raise UnexpectedAnswer(f"{transport.url} sends a log event of more than {MAX_EVENT_BYTES} bytes")
            data.append(value)
        elif not raw.strip():
            if data:
                yield event or "message", "\n".join(data), version
            event, data = "", []


def json_object(transport: "Transport", text: str) -> dict[str, Any]:
    """The data of an event; raises UnexpectedAnswer when it is no JSON object."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UnexpectedAnswer(f"{transport.url} sends a log event that is not JSON: {text[:80]!r}") from error
    if not isinstance(value, dict):
        raise UnexpectedAnswer(f"{transport.url} sends a log event that is no object: {text[:80]!r}")
    return value
