"""In which order a UDS server refuses: tables after ISO 14229-1:2020 (clause 8.7 and those of the services).

Each row is an NRC, the condition in words, its source, and the condition as code. The first row that fails decides. A
service's own rows (in its module under ``services``) come after the general ones. The NRC 0x34 (authenticationRequired)
has no row: the simulated ECU has no Authentication service (0x29).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ecu_adapters.description import DEFAULT_SESSION
from ecu_adapters.simulator.state import EcuState
from ecu_adapters.uds.names import SUPPRESS_POSITIVE


class Refused(Exception):
    """A service found out while acting that it must refuse."""

    def __init__(self, nrc: int) -> None:
        super().__init__(f"NRC 0x{nrc:02X}")
        self.nrc = nrc


@dataclass(frozen=True, slots=True)
class SubFunction:
    """Where a sub-function may be used."""

    sessions: frozenset[int] | None = None
    """None: in every session."""
    security: int | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A request, as the rules see it."""

    state: EcuState
    services: "Mapping[int, Service]"
    pdu: bytes
    functional: bool = False

    @property
    def service(self) -> "Service | None":
        """The service, if the ECU has it."""
        return self.services.get(self.pdu[0])

    @property
    def sub(self) -> int:
        """The sub-function without the suppress bit."""
        return self.pdu[1] & ~SUPPRESS_POSITIVE

    @property
    def suppressed(self) -> bool:
        """Whether the tester wants no positive response."""
        service = self.service
        if service is None or service.subfunctions is None or len(self.pdu) < 2:
            return False
        return bool(self.pdu[1] & SUPPRESS_POSITIVE)


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of a table."""

    nrc: int
    when: str
    source: str
    fails: Callable[[Call], bool]


@dataclass(frozen=True, slots=True)
class Service:
    """One diagnostic service of the simulated ECU."""

    sid: int
    act: Callable[[Call], bytes]
    """Does what is asked, and returns the positive response after its service identifier. May raise Refused."""
    rules: tuple[Rule, ...] = ()
    subfunctions: Callable[[EcuState], Mapping[int, SubFunction]] | None = None
    """For services with a sub-function: those that the ECU has."""
    outside_default: bool = False
    """Not in the default session (ISO 14229-1, table 23)."""
    security: int | None = None
    resets: bool = False
    """Whether the ECU boots after the response."""


def _service(call: Call) -> Service:
    service = call.service
    assert service is not None, "the first rule refuses unknown services"  # noqa: S101 - holds by the tables' order
    return service


def _sub(call: Call) -> SubFunction | None:
    subfunctions = _service(call).subfunctions
    return subfunctions(call.state).get(call.sub) if subfunctions is not None else None


def _wrong_session(call: Call) -> bool:
    sub = _sub(call)
    return sub is not None and sub.sessions is not None and call.state.session not in sub.sessions


def _sub_locked(call: Call) -> bool:
    sub = _sub(call)
    return sub is not None and not call.state.is_unlocked(sub.security)


EVERY_SERVICE: tuple[Rule, ...] = (
    Rule(0x11, "the ECU does not have the service", "ISO 14229-1:2020, 8.7", lambda call: call.service is None),
    Rule(
        0x7F,
        "the service is not available in the active session",
        "ISO 14229-1:2020, 8.7",
        lambda call: _service(call).outside_default and call.state.session == DEFAULT_SESSION,
    ),
    Rule(
        0x33,
        "the service needs an unlocked security level",
        "ISO 14229-1:2020, 8.7",
        lambda call: not call.state.is_unlocked(_service(call).security),
    ),
)
"""Rows for every request."""

WITH_SUBFUNCTION: tuple[Rule, ...] = (
    Rule(0x13, "there is no sub-function", "ISO 14229-1:2020, 8.7", lambda call: len(call.pdu) < 2),
    Rule(0x12, "the ECU never has the sub-function", "ISO 14229-1:2020, 8.7", lambda call: _sub(call) is None),
    Rule(0x7E, "the sub-function is not available in the active session", "ISO 14229-1:2020, 8.7", _wrong_session),
    Rule(0x33, "the sub-function needs an unlocked security level", "ISO 14229-1:2020, 8.7", _sub_locked),
)
"""Rows for services with a sub-function, after those for every request."""

SILENT_IF_FUNCTIONAL = frozenset({0x11, 0x12, 0x31, 0x7E, 0x7F})
"""NRCs that a functional request is not answered with, unless a 0x78 was sent for it (ISO 14229-1:2020, 7.5)."""


def rows(service: Service) -> tuple[Rule, ...]:
    """All rows for a service, in order."""
    middle = WITH_SUBFUNCTION if service.subfunctions is not None else ()
    return (*EVERY_SERVICE, *middle, *service.rules)


def first_refusal(call: Call) -> int | None:
    """The NRC of the first row that fails, None when none does."""
    service = call.service
    table = EVERY_SERVICE[:1] if service is None else rows(service)
    return next((rule.nrc for rule in table if rule.fails(call)), None)


def is_silent(nrc: int, call: Call, *, pending_sent: bool) -> bool:
    """Whether a refusal is kept to oneself."""
    return call.functional and not pending_sent and nrc in SILENT_IF_FUNCTIONAL
