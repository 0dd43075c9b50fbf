"""Carries a plan out on an ECU: prepare, erase, transfer, check, finish; and says exactly where it stopped."""

import binascii
import enum
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from ecu_adapters import records
from ecu_adapters.flash.plan import Block, Part, Plan, blocks
from ecu_adapters.flash.settings import FlashSettings
from ecu_adapters.routines import Routine
from ecu_adapters.transport import Fault
from ecu_adapters.uds import services
from ecu_adapters.uds.names import nrc_meaning, nrc_name, service_name
from ecu_adapters.uds.tester import UdsError, UdsTester, UdsTimeout, UdsTransportError

_HEADER = 2
"""Service identifier and block counter: part of the block length that the ECU grants (ISO 14229-1, 14.2.2)."""


class Phase(enum.StrEnum):
    """Where a flashing is."""

    PREPARE = "prepare"
    ERASE = "erase"
    REQUEST = "request"
    TRANSFER = "transfer"
    EXIT = "exit"
    CHECK = "check"
    FINISH = "finish"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is."""

    phase: Phase
    done: int
    """Bytes that the ECU has acknowledged, those of earlier attempts included."""
    total: int
    address: int
    """Of the part or block in work."""
    block: int = 0
    """Its number within the part, from 1; 0 outside of transfers."""
    blocks: int = 0
    """Blocks of the part."""
    rate: float = 0.0
    """Bytes/s since the transfer began."""

    @property
    def counter(self) -> int:
        """The block's blockSequenceCounter, as it is on the wire."""
        return self.block & 0xFF


class FlashError(Exception):
    """It stopped; the message says where. Nothing of it is undone: the ECU is as the last request left it."""

    def __init__(self, reason: str, at: Progress, cause: UdsError | None = None, nrc: int | None = None) -> None:
        place = f" at 0x{at.address:X}" if at.phase not in (Phase.PREPARE, Phase.FINISH) else ""
        block = f", block {at.block} of {at.blocks} (counter 0x{at.counter:02X})" if at.block else ""
        super().__init__(f"{at.phase}{place}{block}: {reason}")
        self.at = at
        self.cause = cause
        self.nrc = nrc
        """The negative response code; None when there was no answer at all, or a positive one that makes no sense."""
        self.fault: Fault | None = None
        """How the transport failed, if it did."""
        self.frame = ""
        """The one that caused it, or the last one sent before a silence."""
        self.resume_at: int | None = None
        """Where a next attempt may go on; None when it must begin anew."""
        if isinstance(cause, UdsTransportError) and cause.cause is not None:
            self.fault, self.frame = cause.cause.kind, cause.cause.frame
        elif isinstance(cause, UdsTimeout):
            self.frame = cause.frame

    @property
    def is_silence(self) -> bool:
        """Whether the answer was lost, rather than given."""
        return isinstance(self.cause, UdsTimeout | UdsTransportError)


class Flasher:
    """One flashing of one ECU. Made and used on one asyncio loop; nobody else uses the tester meanwhile."""

    def __init__(self, tester: UdsTester, report: Callable[[Progress], None]) -> None:
        """``report`` is called before every request of consequence, and after every block."""
        self._tester = tester
        self._ecu = tester.ecu
        self._settings: FlashSettings = tester.ecu.flash
        self._report = report
        self._at = Progress(Phase.PREPARE, 0, 0, 0)
        self._began = 0.0
        self._fresh = 0

    async def run(self, plan: Plan, *, resume_at: int | None = None) -> None:
        """Writes the plan, or what of it is at ``resume_at`` and above.

        Raises FlashError; when the ECU allows it, with the address at which a next attempt may go on.
        """
        parts = plan.parts if resume_at is None else plan.after(resume_at)
        left = sum(len(part.data) for part in parts)
        self._at = Progress(Phase.PREPARE, plan.total - left, plan.total, parts[0].address)
        self._began, self._fresh = time.monotonic(), 0
        await self._prepare()
        erase = self._routine_named(self._settings.erase)
        check = self._routine_named(self._settings.check)
        if erase is not None and not _takes_place(erase) and resume_at is None:
            await self._run(Phase.ERASE, erase, parts[0].address)
        self._began = time.monotonic()
        for part in parts:
            # What was erased for the first attempt must not be erased again: a part of it is written.
            if erase is not None and _takes_place(erase) and part.address != resume_at:
                await self._run(Phase.ERASE, erase, part.address, part.data)
            await self._write(part)
            if check is not None and check.region is None:
                await self._run(Phase.CHECK, check, part.address, part.data)
        if check is not None and check.region is not None:
            region = self._ecu.memory.regions[check.region]
            await self._run(Phase.CHECK, check, region.address, plan.content(check.region, region))
        self._enter(Phase.FINISH, parts[-1].address)
        for request in self._settings.after:
            await self._ask(request)
        self._enter(Phase.DONE, parts[-1].address)

    async def _prepare(self) -> None:
        self._enter(Phase.PREPARE, self._at.address)
        settings = self._settings
        for request in settings.before:
            await self._ask(request)
        if settings.session is not None:
            await self._call("session", {"session": settings.session})
        if settings.security is not None:
            await self._call("unlock", {"level": settings.security})

    async def _write(self, part: Part) -> None:
        """One part: announced, transferred, ended."""
        payload = await self._request_download(part)
        count = -(-len(part.data) // payload)
        for block in blocks(part, payload):
            try:
                await self._transfer(block, count)
            except FlashError as error:
                if self._settings.resume and error.is_silence:
                    error.resume_at = block.address
                raise
        self._enter(Phase.EXIT, part.address)
        crc = zlib.crc32(part.data).to_bytes(4, "big") if self._ecu.memory.exit_crc else b""
        await self._ask(b"\x37" + crc)

    async def _request_download(self, part: Part) -> int:
        """Announces the part; how many bytes of it a block may carry."""
        self._enter(Phase.REQUEST, part.address)
        place = self._ecu.memory.encode(part.address, len(part.data))
        response = await self._ask(bytes((0x34, self._settings.data_format)) + place)
        width = response[1] >> 4 if len(response) > 1 else 0
        if not width or len(response) < 2 + width:
            raise FlashError(f"the ECU granted no block length: {response.hex(' ').upper()}", self._at)
        granted = min(int.from_bytes(response[2 : 2 + width], "big"), self._settings.max_block)
        if granted <= _HEADER:
            raise FlashError(f"the ECU grants blocks of {granted} bytes, which carry no data", self._at)
        return granted - _HEADER

    async def _transfer(self, block: Block, count: int) -> None:
        at, elapsed = self._at, time.monotonic() - self._began
        rate = self._fresh / elapsed if elapsed > 0 else 0.0
        self._at = Progress(Phase.TRANSFER, at.done, at.total, block.address, block.number, count, rate)
        self._report(self._at)
        request = bytes((0x36, block.counter)) + block.data
        for attempt in range(self._settings.retries + 1):
            try:
                await self._ask(request)
                break
            except FlashError as error:
                # The ECU takes a block twice without writing it twice (ISO 14229-1, 14.5.5.2).
                if not error.is_silence or attempt == self._settings.retries:
                    raise
        self._fresh += len(block.data)
        self._at = Progress(
            Phase.TRANSFER, at.done + len(block.data), at.total, block.address, block.number, count, rate
        )

    def _routine_named(self, name: str | None) -> Routine | None:
        return self._ecu.routines[name] if name is not None else None

    async def _run(self, phase: Phase, routine: Routine, address: int, data: bytes = b"") -> None:
        """Starts a routine for these bytes."""
        self._enter(phase, address)
        options = routine.start.options if routine.start is not None else []
        wanted = {part.name for part in options if not isinstance(part, records.Reserved)}
        known = {"address": address, "size": len(data), "crc": _crc(routine, data)}
        try:
            coded = records.encode(options, {name: value for name, value in known.items() if name in wanted})
        except ValueError as error:
            raise FlashError(f"routine 0x{routine.id:04X}: {error}", self._at) from error
        response = await self._ask(bytes((0x31, 0x01)) + routine.id.to_bytes(2, "big") + coded)
        status = routine.start.status if routine.start is not None else []
        if len(response) - 4 == records.length(status):
            found = records.decode(status, response[4:]).get("result")
            if found != records.decode(status, bytes(records.length(status))).get("result"):
                raise FlashError(f"routine 0x{routine.id:04X} says that it failed: result {found!r}", self._at)

    def _enter(self, phase: Phase, address: int) -> None:
        self._at = Progress(phase, self._at.done, self._at.total, address, rate=self._at.rate)
        self._report(self._at)

    async def _ask(self, request: bytes) -> bytes:
        """Sends a request that must have a positive response, or none (suppressed)."""
        try:
            exchange = await self._tester.request(request, timeout_s=self._settings.step_timeout_s)
        except UdsError as error:
            raise FlashError(str(error), self._at, error) from error
        if exchange.nrc is not None:
            raise FlashError(_refusal(request[0], exchange.nrc), self._at, None, exchange.nrc)
        return exchange.response or b""

    async def _call(self, service: str, arguments: dict[str, services.Plain]) -> None:
        try:
            await services.call(self._tester, service, arguments, timeout_s=self._settings.step_timeout_s)
        except services.NegativeResponse as error:
            raise FlashError(_refusal(error.service, error.nrc), self._at, error, error.nrc) from error
        except UdsError as error:
            raise FlashError(str(error), self._at, error) from error


def _refusal(service: int, nrc: int) -> str:
    return f"{service_name(service)} refused: {nrc_name(nrc)} (NRC 0x{nrc:02X}): {nrc_meaning(nrc)}"


def _takes_place(routine: Routine) -> bool:
    options = routine.start.options if routine.start is not None else []
    return any(getattr(part, "name", None) == "address" for part in options)


def _crc(routine: Routine, data: bytes) -> int:
    return zlib.crc32(data) if routine.crc == "crc32" else binascii.crc_hqx(data, 0xFFFF)
