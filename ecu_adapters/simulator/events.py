"""ResponseOnEvent (0x86): services that a simulated ECU carries out by itself when something happens."""

from collections.abc import Callable
from dataclasses import dataclass

ON_DTC_STATUS, ON_DID = 0x01, 0x03
MOST = 16
"""Events that can be set up at once."""


@dataclass(frozen=True, slots=True)
class Event:
    """One set-up: what is waited for, and the request that is then answered."""

    kind: int
    window: int
    parameter: bytes
    """A mask of status bits, or a data identifier."""
    service: bytes


class ResponseOnEvent:
    """All set-ups of an ECU. ``respond`` is given the request to answer."""

    def __init__(self, respond: Callable[[bytes], None]) -> None:
        self.events: list[Event] = []
        self.active = False
        self._respond = respond

    def add(self, event: Event) -> None:
        """Another one; the same event set up anew replaces the one before."""
        self.events = [other for other in self.events if (other.kind, other.parameter) != (event.kind, event.parameter)]
        self.events.append(event)

    def clear(self) -> None:
        """None, and nothing active."""
        self.events.clear()
        self.active = False

    def dtc_changed(self, before: int, after: int) -> None:
        """A trouble code's status changed."""
        self._fire(ON_DTC_STATUS, lambda event: bool((before ^ after) & event.parameter[0]))

    def did_changed(self, number: int) -> None:
        """A data identifier's value changed."""
        self._fire(ON_DID, lambda event: int.from_bytes(event.parameter, "big") == number)

    def _fire(self, kind: int, happened: Callable[[Event], bool]) -> None:
        if not self.active:
            return
        for event in self.events:
            if event.kind == kind and happened(event):
                self._respond(event.service)
