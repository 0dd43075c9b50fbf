"""Following leases and runs: server-sent events with the state of what has changed, resumed after every break."""

import time
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

from labd.client.errors import LabUnreachable
from labd.client.log_stream import ATTEMPTS, QUIET_S, events, json_object

if TYPE_CHECKING:
    from labd.client.transport import Params, Transport

CUT = "cut"
"""The event with which labd cuts a stream off; its data has the ``reason``."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 3.0


def follow(transport: "Transport", path: str) -> Generator[Any, None, Any]:
    """Each version of one thing from the present one on; the generator returns the last one, once it is over.

    Raises LabUnreachable after `ATTEMPTS` fruitless connections in a row, ProblemError when labd knows no such thing.
    """
    for event, data in _again(transport, path, {}):
        if event == "end":
            return json_object(transport, data)
        if event == CUT:
            continue  # it says why the stream ends here; whoever may come back does
        yield json_object(transport, data)


def follow_all(transport: "Transport", path: str, params: "Params", listed: Callable[[], list[Any]]) -> Iterator[Any]:
    """What there is, and from then on each thing that changes, for ever; after a break what there is once more."""
    for event, data in _again(transport, path, params):
        if event == "ready":
            yield from listed()
        elif event != CUT:
            yield json_object(transport, data)


def _again(transport: "Transport", path: str, params: "Params") -> Iterator[tuple[str, str]]:
    """(event, data) over as many connections as it takes."""
    fruitless, seen = 0, ""
    while True:
        came = False
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": seen} if seen else {})
        try:
            with transport.stream(path, params=params, headers=headers, read_timeout_s=QUIET_S) as read_line:
                for event, data, version in events(transport, read_line):
                    came, seen = True, version
                    yield event, data
            reason = "it closes the stream"
        except LabUnreachable as error:
            reason = error.reason
        fruitless = 0 if came else fruitless + 1
        if fruitless >= ATTEMPTS:
            raise LabUnreachable(transport.url, f"{reason} ({fruitless} attempts)")
        time.sleep(min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**fruitless))
