"""Flashing in the module uds: an image that came with the run, written into an ECU, with progress on the way."""

import math
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scenarios import durations
from scenarios.bindings.context import Context, wait
from scenarios.sandbox import Function, ScenarioFault
from scenarios.values import from_json

if TYPE_CHECKING:
    from bench_agent.client import FlashFailed, FlashProgress, FlashResult

_HIGHEST_ADDRESS = 2**40 - 1
"""What five bytes of address can say (ISO 14229-1, addressAndLengthFormatIdentifier)."""


@dataclass(frozen=True, slots=True)
class _Flashing:
    ecu: str
    file: str
    deadline: float
    """On the monotonic clock."""
    events: "Generator[FlashProgress | FlashResult]"


class FlashBindings:
    """Functions of the module uds that flash."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._flashings: dict[int, _Flashing] = {}
        self._begun = 0

    @property
    def functions(self) -> tuple[Function, ...]:
        """What scripts call, through the module."""
        return (self.flash_begin, self.flash_next, self.flash_end)

    def flash_begin(self, ecu: int, encoded: str) -> int:
        """Prepares a flashing, which the first `flash_next` starts. Returns its number."""
        client, _ = self._context.ecus[ecu]
        options = dict(from_json(encoded) or {})
        name, address, resume = options.get("file"), options.get("address"), options.get("resume", False)
        if name is None:
            raise ValueError("file is missing; it must be the name of a file that came with the run")
        if address is not None and (
            isinstance(address, bool) or not isinstance(address, int) or not 0 <= address <= _HIGHEST_ADDRESS
        ):
            raise ValueError(f"address is {address!r}; it must be a whole number such as 0x08000000")
        if not isinstance(resume, bool):
            raise ValueError(f"resume is {resume!r}; it must be true or false")
        timeout_s = math.inf if options.get("timeout") is None else wait(options["timeout"])
        path = self._context.files.path(name)
        timeout_s = self._context.bounded(timeout_s)
        events = client.flashing(path, address=address, resume=resume, timeout_s=timeout_s)
        self._begun += 1
        self._flashings[self._begun] = _Flashing(client.name, str(name), time.monotonic() + timeout_s, events)
        return self._begun

    def flash_next(self, number: int) -> dict[str, object]:
        """Waits for the next progress, or for the result, which has ``bytes``."""
        from bench_agent.client import BenchUnavailable, FlashFailed, FlashResult

        flashing = self._flashings[number]
        with self._context.bench_faults():
            try:
                event = next(flashing.events)
            except FlashFailed as error:
                self._step(flashing, f"stopped: {error}")
                raise _fault(error) from error
            except BenchUnavailable as error:
                if time.monotonic() < flashing.deadline:
                    raise
                self._context.look_at_clock()
                self._step(flashing, "stopped at its timeout")
                raise ScenarioFault("timeout", f"{flashing.file} was not flashed within its timeout") from error
            except OSError as error:
                raise ScenarioFault("lab", f"{flashing.file} cannot be read: {error.strerror}") from error
        if isinstance(event, FlashResult):
            rate = event.bytes / event.elapsed_s if event.elapsed_s else 0.0
            self._step(flashing, f"{event.bytes} bytes in {durations.show(event.elapsed_s)}")
            return {"bytes": event.bytes, "elapsed": event.elapsed_s, "rate": rate}
        return _place(event)

    def flash_end(self, number: int) -> None:
        """Stops it, if it still goes on."""
        flashing = self._flashings.pop(number, None)
        if flashing is not None:
            flashing.events.close()

    def _step(self, flashing: _Flashing, outcome: str) -> None:
        self._context.record.step(f"{flashing.ecu} <- {flashing.file}, flashed: {outcome}")


def _place(at: "FlashProgress") -> dict[str, object]:
    return {
        "phase": at.phase,
        "done": at.done,
        "total": at.total,
        "address": at.address,
        "block": at.block or None,
        "blocks": at.blocks or None,
        "counter": at.counter if at.block else None,
        "rate": at.rate,
    }


def _fault(error: "FlashFailed") -> ScenarioFault:
    """The ECU's refusal and silence fail the test; a transport that broke is the bench's fault."""
    if error.nrc is not None:
        kind = "negative_response"
    elif error.transport:
        kind = "bench"
    else:
        kind = "timeout" if error.is_silence else "unexpected"
    return ScenarioFault(
        kind,
        str(error),
        **_place(error.at),
        nrc=error.nrc,
        nrc_name=error.nrc_name or None,
        meaning=error.meaning or None,
        transport=error.transport or None,
        frame=error.frame or None,
        lost=error.lost or None,
        lost_frame=error.lost_frame or None,
        resumable=error.resumable,
    )
