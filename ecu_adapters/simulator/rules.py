"""In which order a UDS server refuses: tables after ISO 14229-1:2020 (clause 8.7 and those of the services).

Each row is an NRC, the condition in words, its source, and the condition as code. The first row that fails decides. A
service's own rows (in its module under ``services``) come after the general ones. NRC 0x21 (busyRepeatRequest) has no
row: a request that comes while another one is in work never gets as far as the tables.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ecu_adapters.description import DEFAULT_SESSION, EcuDescription
from ecu_adapters.dids import Access
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
    authentication: bool = False


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
        if service is None or len(self.pdu) < 2:
            return False
        has_bit = service.subfunctions is not None or service.own_subfunction
        return has_bit and bool(self.pdu[1] & SUPPRESS_POSITIVE)


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
    own_subfunction: bool = False
    """There is a sub-function, but the service's own rows judge it (RoutineControl)."""
    outside_default: bool = False
    """Not in the default session (ISO 14229-1, table 23)."""
    resets: bool = False
    """Whether the ECU boots after the response."""
    commits: bool = False
    """Whether the positive response promises that what was written outlives the ECU's process."""
    offered: Callable[[EcuDescription], bool] = lambda _ecu: True
    """Whether an ECU of this description has it, unless its ``services`` say otherwise."""
    work_s: Callable[[Call], float] | None = None
    """Seconds that the work takes by itself; the description may add to them."""


def _service(call: Call) -> Service:
    service = call.service
    assert service is not None, "the first rule refuses unknown services"  # noqa: S101 - holds by the tables' order
    return service


_ANYBODY = Access()


def _access(call: Call) -> Access:
    """What the description demands of the whole service."""
    return call.state.ecu.services.get(call.pdu[0]) or _ANYBODY


def access_rows(accesses: Callable[[Call], Iterable[Access]], what: str, source: str) -> tuple[Rule, Rule]:
    """The rows of authentication and security for what a request touches."""
    return (
        Rule(
            0x34,
            f"{what} needs authentication",
            source,
            lambda call: any(not call.state.is_authenticated(access) for access in accesses(call)),
        ),
        Rule(
            0x33,
            f"{what} needs an unlocked security level",
            source,
            lambda call: any(not call.state.is_unlocked(access.security) for access in accesses(call)),
        ),
    )


def _sub(call: Call) -> SubFunction | None:
    subfunctions = _service(call).subfunctions
    return subfunctions(call.state).get(call.sub) if subfunctions is not None else None


def _wrong_session(call: Call) -> bool:
    sub = _sub(call)
    return sub is not None and sub.sessions is not None and call.state.session not in sub.sessions


def _sub_unauthenticated(call: Call) -> bool:
    sub = _sub(call)
    return sub is not None and sub.authentication and not call.state.authenticated


def _sub_locked(call: Call) -> bool:
    sub = _sub(call)
    return sub is not None and not call.state.is_unlocked(sub.security)


EVERY_SERVICE: tuple[Rule, ...] = (
    Rule(0x11, "the ECU does not have the service", "ISO 14229-1:2020, 8.7", lambda call: call.service is None),
    Rule(
        0x7F,
        "the service is not available in the active session",
        "ISO 14229-1:2020, 8.7",
        lambda call: (
            (_service(call).outside_default and call.state.session == DEFAULT_SESSION)
            or not call.state.allows(_access(call))
        ),
    ),
    *access_rows(lambda call: (_access(call),), "the service", "ISO 14229-1:2020, 8.7"),
)
"""Rows for every request."""

WITH_SUBFUNCTION: tuple[Rule, ...] = (
    Rule(0x13, "there is no sub-function", "ISO 14229-1:2020, 8.7", lambda call: len(call.pdu) < 2),
    Rule(0x12, "the ECU never has the sub-function", "ISO 14229-1:2020, 8.7", lambda call: _sub(call) is None),
    Rule(0x7E, "the sub-function is not available in the active session", "ISO 14229-1:2020, 8.7", _wrong_session),
    Rule(0x34, "the sub-function needs authentication", "ISO 14229-1:2020, 8.7", _sub_unauthenticated),
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
