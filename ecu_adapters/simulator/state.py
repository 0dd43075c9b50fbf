"""What a simulated ECU remembers: session, security, data identifiers, trouble codes. No I/O, and time from a clock."""

import secrets
from collections.abc import Callable

from ecu_adapters.description import DEFAULT_SESSION, EcuDescription
from ecu_adapters.dids import Access, Did
from ecu_adapters.security_levels import Security
from ecu_adapters.simulator.clock import Clock
from ecu_adapters.simulator.memory import Memory, Range
from ecu_adapters.simulator.routine_run import RoutineRun
from ecu_adapters.simulator.transfer import Transfer


class EcuState:
    """Data identifiers, trouble codes and the security lock-out survive a reset; session and unlocking do not."""

    def __init__(
        self, ecu: EcuDescription, clock: Clock, *, random_bytes: Callable[[int], bytes] = secrets.token_bytes
    ) -> None:
        self.ecu = ecu
        self.clock = clock
        self.session = DEFAULT_SESSION
        self.unlocked: int | None = None
        """The security level that is unlocked; there is one at most (ISO 14229-1, SecurityAccess)."""
        self.dids: dict[int, Did] = {did.did: did for did in ecu.dids.values()}
        self.data: dict[int, bytes] = {did.did: did.encode(did.value) for did in ecu.dids.values()}
        """Raw values by data identifier."""
        self.dtcs: dict[int, int] = {dtc.number: dtc.status for dtc in ecu.dtcs}
        """Status by trouble code."""
        self.authenticated = False
        self.memory = Memory(ecu.memory)
        self.transfer: Transfer | None = None
        """The download or upload in work."""
        self.downloaded: Range | None = None
        """What was downloaded last, completely."""
        self.routines = {routine.id: routine for routine in ecu.routines.values()}
        self.runs: dict[int, RoutineRun] = {}
        """Routines that were started, by identifier."""
        self.supply_v: float | None = None
        """The supply voltage; None when nothing tells."""
        self._random_bytes = random_bytes
        self._seed: tuple[int, bytes] | None = None
        self._attempts: dict[int, int] = {}
        self._locked_out_until: dict[int, float] = {}

    def enter_session(self, session: int) -> None:
        """Every session change relocks security, a repetition of the active one too."""
        self.session = session
        self.unlocked = None
        self._seed = None
        self.transfer = None

    def power_up(self) -> None:
        """What every reset does: memory that needs power is gone, routines have ended."""
        self.enter_session(DEFAULT_SESSION)
        self.authenticated = False
        self.memory.forget_ram()
        self.runs.clear()
        self.downloaded = None

    def allows(self, access: Access) -> bool:
        """Whether the active session grants this access; security is another question."""
        return access.session is None or any(self.ecu.sessions[name] == self.session for name in access.session)

    def is_authenticated(self, access: Access) -> bool:
        """Whether what has this access needs no authentication, or has it."""
        return self.authenticated or not access.authentication

    def is_unlocked(self, level: int | None) -> bool:
        """Whether what needs ``level`` (None: nothing) may be done."""
        return level is None or self.unlocked == level

    def is_locked_out(self, level: int) -> bool:
        """Whether the delay after too many wrong keys is running."""
        return self.clock.now() < self._locked_out_until.get(level, float("-inf"))

    def new_seed(self, level: int) -> bytes:
        """A seed that awaits its key; all zero when the level is unlocked, and never so when it is not."""
        length = self._security(level).seed_length
        if self.unlocked == level:
            self._seed = None
            return bytes(length)
        seed = bytes(length)
        while not any(seed):
            seed = self._random_bytes(length)
        self._seed = (level, seed)
        return seed

    def awaits_key(self, level: int) -> bool:
        """Whether a seed of this level awaits its key."""
        return self._seed is not None and self._seed[0] == level

    def key_length(self, level: int) -> int:
        """Bytes of the key for the seed that awaits it."""
        return len(self._security(level).key_for(self._seed[1] if self._seed else b""))

    def try_key(self, level: int, key: bytes) -> tuple[bool, bool]:
        """Whether the key was right, and whether it was one wrong key too many. Voids the seed in any case."""
        security = self._security(level)
        seed = self._seed[1] if self._seed else b""
        self._seed = None
        if secrets.compare_digest(security.key_for(seed), key):
            self._attempts.pop(level, None)
            self.unlocked = level
            return True, False
        attempts = self._attempts.get(level, 0) + 1
        if attempts < security.attempts:
            self._attempts[level] = attempts
            return False, False
        self._attempts.pop(level, None)
        self._locked_out_until[level] = self.clock.now() + security.delay_s
        return False, True

    def _security(self, level: int) -> Security:
        return self.ecu.security[level]
