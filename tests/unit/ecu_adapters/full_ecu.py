"""An ECU that has every service, for tests of their rules."""

from dataclasses import dataclass

from ecu_adapters.description import EcuDescription
from ecu_adapters.simulator.clock import VirtualClock
from ecu_adapters.simulator.data import Part
from ecu_adapters.simulator.events import Event
from ecu_adapters.simulator.memory import Range
from ecu_adapters.simulator.routine_run import RoutineRun
from ecu_adapters.simulator.state import EcuState
from ecu_adapters.simulator.transfer import MemoryTransfer

FULL = """\
name: ECM
addressing: {request_id: 0x7E0, response_id: 0x7E8, functional_id: 0x7DF}
timing: {p2_ms: 50, p2_star_ms: 5000}
isotp: {max_pdu: 1200}
session_entry: {programming: [extended]}
dids:
  VIN: {did: 0xF190, type: ascii, length: 17, value: WVWZZZ1KZ6W000001}
  Code: {did: 0xF198, type: ascii, length: 6, value: abc, write: {session: [extended], security: 1}}
  IdleSpeed: {did: 0x0200, type: uint, length: 2, min: 600, max: 1200, value: 800, write: {session: [extended]}}
  Secret: {did: 0x0300, type: hex, length: 4, value: DEADBEEF, read: {session: [extended], security: 1}}
  Vault: {did: 0x0301, type: hex, length: 1, read: {authentication: true}, write: {authentication: true}}
  Block: {did: 0x0400, type: hex, length: 600}
  Lamp: {did: 0x0500, type: uint, length: 1, max: 100, control: {session: [extended], security: 1}}
  Doors:
    did: 0x0501
    type: struct
    control: {}
    fields:
      - {name: left, type: bits, length: 4, max: 2}
      - {name: right, type: bits, length: 4, value: 1}
  Fast: {did: 0xF201, type: uint, length: 2, value: 7}
  Hidden: {did: 0xF202, type: uint, length: 1, read: {security: 1}}
dtcs:
  - {code: P0301, status: 0x2F, severity: check_immediately, snapshot: [VIN, IdleSpeed]}
  - {code: U0100, status: 0x28, severity: maintenance_only}
  - {code: P0420, status: 0x00}
dtc_status_availability: 0x2F
extended_data: {0x01: [{name: occurrence_counter, type: uint, length: 1}]}
security:
  1: {algorithm: xor, key: A5A5A5A5, attempts: 3, delay_s: 10}
  3: {algorithm: aes-cmac, key: 2B7E151628AED2A6ABF7158809CF4F3C, seed_length: 16}
memory:
  formats: [0x44, 0x22]
  max_block: 0x12
  programming_v: [9, 16]
  regions:
    boot: {address: 0x1000, size: 0x10, fill: 0, write: false}
    flash: {address: 0x2000, size: 0x100, write: {session: [programming], security: 1}}
    used: {address: 0x3000, size: 0x10, fill: 0}
    ram: {address: 0x4000, size: 0x1000, kind: ram}
    vault: {address: 0x6000, size: 0x10, kind: ram, read: {authentication: true}, write: {authentication: true}}
routines:
  erase:
    id: 0xFF00
    action: erase
    access: {session: [programming], security: 1}
    start: {options: [{name: address, type: uint, length: 2}, {name: size, type: uint, length: 2}]}
  check: {id: 0x0202, action: check, start: {options: [{name: crc, type: uint, length: 4}]}}
  self_test:
    id: 0x0300
    background: true
    duration_ms: 1000
    start: {options: [{name: depth, type: uint, length: 1, max: 3}]}
    stop: {}
    results: {}
authentication: {algorithm: xor, key: A5}
files: {content: {log.txt: "414243"}, max_total: 100}
link_bitrates: [500000, 1000000]
periodic: {most: 2}
services:
  0x83: {session: [extended], security: 3}
  0x87: {authentication: true}
"""


@dataclass(frozen=True)
class Situation:
    """What the ECU is in when the request comes."""

    session: int = 0x01
    unlocked: int | None = None
    authenticated: bool = False
    seed: int | None = None
    """Level whose seed awaits its key."""
    locked_out: bool = False
    transfer: str = ""
    """"fresh": 32 bytes announced; "begun": block 1 of 8 bytes taken; "done": all taken; "upload", "uploaded"."""
    routine: str = ""
    """Of the self test: "running" or "over"."""
    downloaded: bool = False
    challenge: bool = False
    dynamic: bool = False
    """F300 is made of the VIN, F301 of Secret."""
    periodic: bool = False
    """F201 is scheduled, and another one."""
    events: int = 0
    verified: bool = False
    supply_v: float | None = None

    def state(self, ecu: EcuDescription) -> EcuState:
        """The ECU in it."""
        state = EcuState(ecu, VirtualClock(), random_bytes=lambda length: b"\x11" * length)
        state.enter_session(self.session)
        if self.locked_out:
            for _ in range(ecu.security[1].attempts):
                state.new_seed(1)
                state.try_key(1, b"wrong")
        state.unlocked = self.unlocked
        if self.seed is not None:
            state.new_seed(self.seed)
        state.authenticated = self.authenticated
        state.challenge = bytes(16) if self.challenge else None
        state.supply_v = self.supply_v
        state.downloaded = Range(0x2000, 4) if self.downloaded else None
        if self.routine:
            state.runs[0x0300] = RoutineRun(1 if self.routine == "running" else -1, {})
        if self.transfer in ("fresh", "begun", "done"):
            state.transfer = MemoryTransfer(state.memory, Range(0x2000, 32), 0x12, incoming=True)
            for _ in range({"fresh": 0, "begun": 1, "done": 4}[self.transfer]):
                state.transfer.accept(bytes(8))
        elif self.transfer:
            state.transfer = MemoryTransfer(state.memory, Range(0x1000, 16), 0x12, incoming=False)
            if self.transfer == "uploaded":
                state.transfer.accept(b"")
        if self.dynamic:
            state.data.dynamic = {0xF300: [Part(0xF190, 1, 4)], 0xF301: [Part(0x0300, 1, 1)]}
        if self.periodic:
            state.periodic.start(0x01, 1)
            state.periodic.start(0x77, 1)
        for number in range(self.events):
            state.events.add(Event(0x03, 0x02, number.to_bytes(2, "big"), b"\x22\xf1\x90"))
        state.verified_bitrate = 500_000 if self.verified else None
        return state
