"""What a simulated ECU remembers: session, security, data, trouble codes, memory. No I/O, and time from a clock."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ecu_adapters.description import DEFAULT_SESSION, EcuDescription
from ecu_adapters.dids import Access
from ecu_adapters.simulator.clock import Clock
from ecu_adapters.simulator.data import DataIdentifiers
from ecu_adapters.simulator.dtc_engine import DtcEngine
from ecu_adapters.simulator.events import ResponseOnEvent
from ecu_adapters.simulator.files import FileStore
from ecu_adapters.simulator.memory import Memory, Range
from ecu_adapters.simulator.periodic import PAGE, PeriodicReads
from ecu_adapters.simulator.routine_run import RoutineRun
from ecu_adapters.simulator.seeds import Seeds
from ecu_adapters.simulator.transfer import Transfer

_PERIODIC_DATA = 0x6A


@dataclass(frozen=True, slots=True)
class Communication:
    """What CommunicationControl has left on."""

    receives: bool = True
    sends: bool = True


class Outlet:
    """How a server lets its state speak without being asked: replaced by the server."""

    def send(self, pdu: bytes) -> None:
        """A PDU on the ECU's response address."""

    def send_periodic(self, data: bytes) -> None:
        """A frame on the address of periodic data."""

    def respond(self, request: bytes) -> None:
        """The answer to a request that nobody has sent."""

    def communicate(self, communication: Communication) -> None:
        """CommunicationControl, or its end."""


class EcuState:
    """Data identifiers, trouble codes, flash and the lock-out survive a reset; session and unlocking do not."""

    def __init__(
        self,
        ecu: EcuDescription,
        clock: Clock,
        *,
        outlet: Outlet | None = None,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.ecu = ecu
        self.clock = clock
        self.session = DEFAULT_SESSION
        self.unlocked: int | None = None
        """The security level that is unlocked; there is one at most (ISO 14229-1, SecurityAccess)."""
        self.seeds = Seeds(ecu.security, clock, random_bytes)
        self.authenticated = False
        self.challenge: bytes | None = None
        """Of Authentication, when one awaits its proof."""
        self.memory = Memory(ecu.memory)
        self.data = DataIdentifiers(ecu, self.memory)
        self.dtcs = DtcEngine(ecu.dtcs, self.data.capture, self._dtc_changed)
        self.files = FileStore(ecu.files) if ecu.files is not None else None
        self.transfer: Transfer | None = None
        """The download or upload in work."""
        self.downloaded: Range | None = None
        """What was downloaded last, completely."""
        self.routines = {routine.id: routine for routine in ecu.routines.values()}
        self.runs: dict[int, RoutineRun] = {}
        """Routines that were started, by identifier."""
        self.communication = Communication()
        self.p2_ms, self.p2_star_ms = ecu.timing.p2_ms, ecu.timing.p2_star_ms
        """Timing in force; AccessTimingParameter changes it."""
        self.bitrate: int | None = None
        """bit/s of the link after LinkControl; None as it was."""
        self.verified_bitrate: int | None = None
        """What LinkControl has verified but not switched to."""
        self.supply_v: float | None = None
        """The supply voltage; None when nothing tells."""
        self.outlet = outlet or Outlet()
        self.periodic = PeriodicReads(clock, self._send_periodic)
        self.events = ResponseOnEvent(self.outlet.respond)
        self.data.on_change = self.events.did_changed
        self.random_bytes = random_bytes

    def enter_session(self, session: int) -> None:
        """Every session change relocks security and ends a transfer, a repetition of the active one too.

        Back in the default session, what a tester has changed for the time of its session is undone.
        """
        self.session = session
        self.unlocked = None
        self.seeds.void()
        self.transfer = None
        if session != DEFAULT_SESSION:
            return
        self.data.release_all()
        self.periodic.stop_all()
        self.events.clear()
        self.dtcs.frozen = False
        self.communicate(Communication())
        self.p2_ms, self.p2_star_ms = self.ecu.timing.p2_ms, self.ecu.timing.p2_star_ms
        self.bitrate = self.verified_bitrate = None

    def power_up(self) -> None:
        """What every reset does: what needs power is gone, routines have ended."""
        self.enter_session(DEFAULT_SESSION)
        self.authenticated = False
        self.challenge = None
        self.memory.forget_ram()
        self.data.dynamic.clear()
        self.runs.clear()
        self.downloaded = None

    def communicate(self, communication: Communication) -> None:
        """Switches the ECU's own messages."""
        if communication != self.communication:
            self.communication = communication
            self.outlet.communicate(communication)

    def dump(self) -> dict[str, Any]:
        """What outlives a loss of power, memory regions apart, in what JSON knows."""
        files = {} if self.files is None else {path: content.hex() for path, content in self.files.files.items()}
        return {"data": self.data.dump(), "dtcs": self.dtcs.dump(), "security": self.seeds.dump(), "files": files}

    def restore(self, kept: Mapping[str, Any]) -> None:
        """What `dump` gave, perhaps for an older description. Raises ValueError when it is something else."""
        try:
            self.data.restore(kept["data"])
            self.dtcs.restore(kept["dtcs"])
            self.seeds.restore(kept["security"])
            if self.files is not None:
                self.files.files = {path: bytes.fromhex(content) for path, content in kept["files"].items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"what was kept is not that of a simulated ECU: {error!r}") from error

    def allows(self, access: Access) -> bool:
        """Whether the active session grants this access; security is another question."""
        return access.session is None or any(self.ecu.sessions[name] == self.session for name in access.session)

    def is_authenticated(self, access: Access) -> bool:
        """Whether what has this access needs no authentication, or has it."""
        return self.authenticated or not access.authentication

    def is_unlocked(self, level: int | None) -> bool:
        """Whether what needs ``level`` (None: nothing) may be done."""
        return level is None or self.unlocked == level

    def reading(self, number: int) -> list[Access] | None:
        """What reading a data identifier needs; None when it cannot be read in the active session."""
        accesses = self.data.accesses(number)
        return accesses if accesses is not None and all(map(self.allows, accesses)) else None

    def new_seed(self, level: int) -> bytes:
        """A seed that awaits its key; all zero when the level is unlocked, and never so when it is not."""
        return self.seeds.new(level, unlocked=self.unlocked == level)

    def try_key(self, level: int, key: bytes) -> tuple[bool, bool]:
        """Whether the key was right, and whether it was one wrong key too many. Voids the seed in any case."""
        right, too_many = self.seeds.try_key(level, key)
        if right:
            self.unlocked = level
        return right, too_many

    def _dtc_changed(self, _number: int, before: int, after: int) -> None:
        available = self.ecu.dtc_status_availability
        self.events.dtc_changed(before & available, after & available)

    def _send_periodic(self, identifier: int) -> None:
        if PAGE + identifier not in self.data:
            self.periodic.stop(identifier)
            return
        data = bytes((identifier,)) + self.data.read(PAGE + identifier)
        if self.ecu.periodic.response_id is None:
            self.outlet.send(bytes((_PERIODIC_DATA,)) + data)
        else:
            self.outlet.send_periodic(data)
