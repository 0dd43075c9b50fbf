"""Whether frames are those that are waited for. Decided where frames arrive: no frame crosses the network for it."""

from collections.abc import Sequence

import can

from bench_agent.protocol import bench_pb2
from bench_agent.server import conditions, convert
from bench_agent.server.conditions import Condition, Edge
from bench_agent.server.rules import GAP_CYCLES, AtLeast, Cycle, Exactly, First, Held, Rule
from ecu_adapters.dbc import Database, SignalValue
from ecu_adapters.frame_records import can_id


class Matcher:
    """Feeds on frames until its rule is decided; remembers the last that matched message or ID."""

    def __init__(
        self,
        can_id: int,
        data: bytes | None = None,
        conditions: Sequence[Condition | Edge] = (),
        database: Database | None = None,
        rule: Rule | None = None,
    ) -> None:
        self.can_id = can_id
        """As in SocketCAN: bit 31 marks a 29-bit one."""
        self.met = False
        self.seen = 0
        self.last: can.Message | None = None
        self.signals: dict[str, SignalValue] = {}
        self.unmet: list[str] = []
        self.matched = 0
        self._data = data
        self._conditions = conditions
        self._database = database
        self._rule = rule or First()

    @property
    def wake_ns(self) -> int | None:
        """When `end` decides, if no frame does before; None: at the end of the time only."""
        return self._rule.wake_ns

    def feed(self, message: can.Message) -> bool:
        """Whether this frame decides. Own frames never do: what we sent ourselves says nothing about the ECU."""
        if not message.is_rx or can_id(message) != self.can_id:
            return False
        self.seen += 1
        self.last = message
        decoded = self._database.decode(message) if self._database is not None else None
        before, self.signals = self.signals, decoded[1] if decoded is not None else {}
        unmet = []
        if self._data is not None and bytes(message.data) != self._data:
            unmet.append(f"data = {message.data.hex().upper()}, expected {self._data.hex().upper()}")
        for condition in self._conditions:
            actual = self.signals.get(condition.signal)
            if actual is None:
                unmet.append(f"{condition.signal} is not in this frame, expected {condition}")
            elif not condition.holds(actual, before.get(condition.signal)):
                shown = actual if isinstance(actual, str) else f"{actual:g}"
                unmet.append(f"{condition.signal} = {shown}, expected {condition}")
        self.matched += not unmet
        verdict = self._rule.take(convert.timestamp_ns(message), not unmet)
        self._settle(bool(verdict), unmet)
        return verdict is not None

    def end(self, now_ns: int) -> bool:
        """The time is over, or `wake_ns` has come: whether the rule is met without a further frame."""
        self._settle(self._rule.end(now_ns), self.unmet)
        return self.met

    def _settle(self, met: bool, unmet: list[str]) -> None:
        self.met = met
        why = self._rule.why()
        self.unmet = [] if met else [*(text for text in unmet if text != why), *([why] if why else [])]


def build(request: bench_pb2.ExpectRequest, bus: str, database: Database | None) -> Matcher:
    """The matcher for a request.

    Raises ValueError, naming what is wrong, and DatabaseError for a message or signal that the database does not know.
    """
    if request.WhichOneof("what") == "frame":
        if request.conditions:
            raise ValueError("conditions go with a message of the DBC, not with a frame ID")
        data = request.frame.data if request.frame.HasField("data") else None
        return Matcher(request.frame.id, data, database=database, rule=_rule(request, None))
    if not request.message:
        raise ValueError("neither message nor frame is given")
    if database is None:
        raise ValueError(f"bus {bus} has no DBC, so message {request.message!r} is unknown; expect a frame by its ID")
    wanted = [conditions.condition(wire, request.message, database) for wire in request.conditions]
    rule = _rule(request, database.cycle_ms(request.message))
    return Matcher(database.can_id(request.message), conditions=wanted, database=database, rule=rule)


def _rule(request: bench_pb2.ExpectRequest, cycle_ms: int | None) -> Rule:
    match request.WhichOneof("rule"):
        case "hold_ms":
            if not 0 < request.hold_ms < request.timeout_ms:
                raise ValueError(f"hold_ms is {request.hold_ms}; it must be above 0 and below the timeout")
            return Held(request.hold_ms * 1_000_000, cycle_ms * GAP_CYCLES * 1_000_000 if cycle_ms else None)
        case "count":
            if not request.count:
                raise ValueError("count is 0; use exactly for none")
            return AtLeast(request.count)
        case "exactly":
            return Exactly(request.exactly)
        case "cycle":
            low, high = request.cycle.low_us, request.cycle.high_us
            if not low <= high or not high:
                raise ValueError(f"cycle is {low} .. {high} µs: no interval is within")
            if request.conditions or request.frame.HasField("data"):
                raise ValueError("a cycle time is that of all frames of a message: it takes no conditions")
            return Cycle(low * 1000, high * 1000)
    return First()
