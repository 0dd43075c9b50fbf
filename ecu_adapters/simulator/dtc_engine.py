"""Trouble codes of a simulated ECU: status bits (ISO 14229-1, annex D), operation cycles, confirmation, aging, records.

Pure: tests report that they passed or failed, cycles begin, codes are cleared; what a snapshot holds comes from a
function. The order of bits is that of `ecu_adapters.uds.dtc.STATUS_BITS`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntFlag
from typing import Any

from ecu_adapters.dtcs import Dtc
from ecu_adapters.uds.dtc import NOT_COMPLETED

ALL_GROUPS = 0xFFFFFF
FIRST_FAILURE, LAST_FAILURE = 0x01, 0x02
"""Numbers of the snapshot records."""
MOST_COUNTED = 0xFF
"""Counters stay there: they are one byte on the wire."""
FAILED_AT, PASSED_AT = 127, -128
"""Values of the fault detection counter at which a test has failed or passed (ISO 14229-1, annex D.6)."""


class Status(IntFlag):
    """Bits of a trouble code's status."""

    TEST_FAILED = 0x01
    FAILED_THIS_CYCLE = 0x02
    PENDING = 0x04
    CONFIRMED = 0x08
    NOT_COMPLETED_SINCE_CLEAR = 0x10
    FAILED_SINCE_CLEAR = 0x20
    NOT_COMPLETED_THIS_CYCLE = 0x40
    WARNING = 0x80


Capture = Callable[[Iterable[str]], Mapping[int, bytes]]
"""The present bytes of data identifiers, given by name, by number."""
Changed = Callable[[int, int, int], None]
"""Code, status before, status after."""


@dataclass(slots=True)
class Entry:
    """What is remembered of one trouble code."""

    model: Dtc
    status: int
    occurrences: int = 0
    """Times that the test went from not failed to failed."""
    failed_cycles: int = 0
    """Operation cycles in a row with a failure; up to the confirmation threshold."""
    aging: int = 0
    """Cycles in a row that were completed without a failure, while confirmed."""
    aged: int = 0
    """Times that it was forgotten by aging."""
    detection: int = 0
    """Fault detection counter."""
    permanent: bool = False
    snapshots: dict[int, dict[int, bytes]] = field(default_factory=dict)
    """By record number; the bytes by data identifier."""

    def counters(self) -> dict[str, int]:
        """By the names that fields of an extended data record may have."""
        return {
            "occurrence_counter": self.occurrences,
            "failed_cycles": self.failed_cycles,
            "aging_counter": self.aging,
            "aged_counter": self.aged,
            "fault_detection_counter": self.detection,
        }


class DtcEngine:
    """All trouble codes of an ECU, by their number. Unknown numbers raise KeyError."""

    def __init__(self, dtcs: Iterable[Dtc], capture: Capture, on_change: Changed | None = None) -> None:
        self.frozen = False
        """ControlDTCSetting off: reports and cycles change nothing."""
        self.on_change = on_change
        self._capture = capture
        self._order: dict[str, int | None] = dict.fromkeys(
            ("first_failed", "first_confirmed", "last_failed", "last_confirmed")
        )
        self.entries = {dtc.number: self._fresh(dtc) for dtc in dtcs}

    def status(self, number: int) -> int:
        """The status byte, without regard to what the ECU makes available."""
        return self.entries[number].status

    def statuses(self) -> dict[int, int]:
        """All of them."""
        return {number: entry.status for number, entry in self.entries.items()}

    def failed(self, number: int) -> None:
        """A test has completed, and failed."""
        entry = self.entries[number]
        if self.frozen:
            return
        before = entry.status
        first_of_cycle = not before & Status.FAILED_THIS_CYCLE
        after = before | (Status.TEST_FAILED | Status.FAILED_THIS_CYCLE | Status.PENDING | Status.FAILED_SINCE_CLEAR)
        after &= ~(Status.NOT_COMPLETED_SINCE_CLEAR | Status.NOT_COMPLETED_THIS_CYCLE)
        entry.detection = FAILED_AT
        entry.aging = 0
        if first_of_cycle:
            entry.failed_cycles = min(entry.failed_cycles + 1, entry.model.confirm_after)
        if entry.failed_cycles >= entry.model.confirm_after:
            after |= Status.CONFIRMED
            after |= Status.WARNING if entry.model.warning else 0
            entry.permanent = entry.permanent or entry.model.permanent
        if not before & Status.TEST_FAILED:
            entry.occurrences = min(entry.occurrences + 1, MOST_COUNTED)
            self._snapshot(entry)
        self._note_order(number, before, after)
        self._set(number, after)

    def passed(self, number: int) -> None:
        """A test has completed, and passed."""
        entry = self.entries[number]
        if self.frozen:
            return
        entry.detection = PASSED_AT
        self._set(
            number,
            entry.status & ~(Status.TEST_FAILED | Status.NOT_COMPLETED_SINCE_CLEAR | Status.NOT_COMPLETED_THIS_CYCLE),
        )

    def detected(self, number: int, counter: int) -> None:
        """A test that is not completed yet: its fault detection counter; 127 and -128 complete it."""
        entry = self.entries[number]
        if self.frozen:
            return
        if counter >= FAILED_AT:
            self.failed(number)
        elif counter <= PASSED_AT:
            self.passed(number)
        else:
            entry.detection = counter

    def new_cycle(self) -> None:
        """The operation cycle ends, and another one begins."""
        if self.frozen:
            return
        for number, entry in self.entries.items():
            status = entry.status
            clean = not status & (Status.FAILED_THIS_CYCLE | Status.NOT_COMPLETED_THIS_CYCLE)
            if clean:
                status &= ~Status.PENDING
                entry.failed_cycles = 0
                entry.permanent = False
                if status & Status.CONFIRMED:
                    status = self._age(entry, status)
            entry.detection = 0
            self._set(number, (status & ~Status.FAILED_THIS_CYCLE) | Status.NOT_COMPLETED_THIS_CYCLE)

    def clear(self, group: int) -> None:
        """ClearDiagnosticInformation, also while frozen. Permanent codes stay so until a cycle without failure."""
        for number, entry in self.entries.items():
            if group in (ALL_GROUPS, number):
                permanent = entry.permanent
                self.entries[number] = cleared = Entry(entry.model, entry.status, permanent=permanent)
                for name, noted in self._order.items():
                    if noted == number:
                        self._order[name] = None
                self._set(number, NOT_COMPLETED)
                cleared.status = NOT_COMPLETED

    def noted(self, which: str) -> int | None:
        """The code that was ``first_failed``, ``first_confirmed``, ``last_failed`` or ``last_confirmed``."""
        return self._order[which]

    def dump(self) -> dict[str, Any]:
        """Everything worth keeping, in what JSON knows."""
        return {
            "order": dict(self._order),
            "codes": {
                str(number): {
                    "status": entry.status,
                    "occurrences": entry.occurrences,
                    "failed_cycles": entry.failed_cycles,
                    "aging": entry.aging,
                    "aged": entry.aged,
                    "permanent": entry.permanent,
                    "snapshots": {
                        str(record): {str(did): data.hex() for did, data in snapshot.items()}
                        for record, snapshot in entry.snapshots.items()
                    },
                }
                for number, entry in self.entries.items()
            },
        }

    def restore(self, kept: Mapping[str, Any]) -> None:
        """What `dump` gave. Codes that the description does not have any more are left out."""
        for text, values in kept["codes"].items():
            entry = self.entries.get(int(text))
            if entry is None:
                continue
            for name in ("status", "occurrences", "failed_cycles", "aging", "aged", "permanent"):
                setattr(entry, name, values[name])
            entry.snapshots = {
                int(record): {int(did): bytes.fromhex(data) for did, data in snapshot.items()}
                for record, snapshot in values["snapshots"].items()
            }
        for name in self._order:
            number = kept["order"][name]
            self._order[name] = number if number in self.entries else None

    def _fresh(self, dtc: Dtc) -> Entry:
        """The entry that the description asks for: a code that failed has been counted once, with its snapshot."""
        entry = Entry(dtc, dtc.status)
        if dtc.status & Status.CONFIRMED:
            entry.failed_cycles = dtc.confirm_after
            entry.permanent = dtc.permanent
        if dtc.status & Status.FAILED_SINCE_CLEAR:
            entry.occurrences = 1
            self._snapshot(entry)
        self._note_order(dtc.number, 0, dtc.status)
        return entry

    def _snapshot(self, entry: Entry) -> None:
        if entry.model.snapshot:
            record = dict(self._capture(entry.model.snapshot))
            entry.snapshots.setdefault(FIRST_FAILURE, record)
            if len(entry.snapshots) > 1 or entry.snapshots[FIRST_FAILURE] is not record:
                entry.snapshots[LAST_FAILURE] = record

    @staticmethod
    def _age(entry: Entry, status: int) -> int:
        entry.aging = min(entry.aging + 1, MOST_COUNTED)
        if entry.aging < entry.model.age_after:
            return status
        entry.aging = 0
        entry.aged = min(entry.aged + 1, MOST_COUNTED)
        entry.snapshots.clear()
        return status & ~(Status.CONFIRMED | Status.WARNING)

    def _note_order(self, number: int, before: int, after: int) -> None:
        for bit, first, last in (
            (Status.TEST_FAILED, "first_failed", "last_failed"),
            (Status.CONFIRMED, "first_confirmed", "last_confirmed"),
        ):
            if after & bit and not before & bit:
                if self._order[first] is None:
                    self._order[first] = number
                self._order[last] = number

    def _set(self, number: int, status: int) -> None:
        entry = self.entries[number]
        before, entry.status = entry.status, int(status)
        if before != entry.status and self.on_change is not None:
            self.on_change(number, before, entry.status)
